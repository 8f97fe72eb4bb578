"""The command line's side of a login: where the session's token is kept, and how the browser's way back is caught.

Rules
1. The token lies in the user's own folder (the password database's, not an environment's), in a folder 0700 and a file 0600 of this uid; a file
   that anybody else could read or has placed there is refused, never used and never corrected.
2. While a session is kept, commands act as the person; one that has ended is told, since silently acting as the unix user would be somebody else.
3. The listener is on 127.0.0.1 alone, takes only `GET /callback` under its own Host and with the state of this login (RFC 8252, sections 7.3 and
   8.3), answers everything else with 400, and ends after the first that fits, after `WAIT_SECONDS`, or after `MAX_TRIES`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import pwd
import secrets
import socket
import stat
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from vouchgate.vocabulary.answers_identities import LoggedIn
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, Unavailable
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, decode, encode

WAIT_SECONDS = 300.0
"""For a person at their provider."""
HEAD_SECONDS = 2.0
"""For one request's head: a browser on this machine sends it at once."""
MAX_HEAD_BYTES = 16 * 1024
MAX_TRIES = 200
"""Requests that are looked at; a browser sends two (one for the icon)."""
MAX_KEPT_BYTES = 16 * 1024
FIELDS = ("state", "code", "iss", "error")
"""What is read of the provider's answer; everything else is passed over (RFC 6749, section 4.1.2)."""
_PAGE = "<!doctype html><title>vouchgate</title><p>{}</p>"


class Kept(Noun, frozen=True, kw_only=True):
    """A session as it lies in the file."""

    token: str
    principal: str
    ends_at: UnixMillis


def folder() -> Path:
    """Rule 1."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local" / "state" / "vouchgate"


def keep(api: Path, made: LoggedIn) -> Path:
    """Keep a session for one control plane."""
    where = _file(api)
    where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = where.parent.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise NotPermitted(f"`{where.parent}` is not a 0700 folder of yours", remedy=f"chmod 700 {where.parent}")
    new = where.with_name(f".{where.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(encode(Kept(token=made.token, principal=made.principal, ends_at=made.ends_at)))
    new.replace(where)
    return where


def kept(api: Path) -> Kept | None:
    """The session kept for a control plane, or None. Raises `NotPermitted`."""
    where = _file(api)
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotPermitted(f"`{where}` cannot be used: {error.strerror}", remedy="run `vouchgate logout`") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077 or facts.st_nlink != 1:
            raise NotPermitted(f"`{where}` could be read or was written by others", remedy="run `vouchgate logout`, and log in again")
        return decode(Kept, os.read(descriptor, MAX_KEPT_BYTES), what="kept session")
    except InvalidInput:
        raise NotPermitted(f"`{where}` does not hold a session", remedy="run `vouchgate logout`, and log in again") from None
    finally:
        os.close(descriptor)


def forget(api: Path) -> bool:
    """Remove what is kept; whether there was something."""
    try:
        _file(api).unlink()
    except FileNotFoundError:
        return False
    return True


class Listener:
    """Rule 3."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.bind(("127.0.0.1", 0))
        self._host = f"127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def address(self) -> str:
        """Where the provider sends the browser back to."""
        return f"http://{self._host}/callback"

    def wait(self, state: str, *, seconds: float = WAIT_SECONDS) -> dict[str, str]:
        """The provider's answer to this login. Raises `Unavailable`."""
        self._socket.listen(16)
        end = time.monotonic() + seconds
        for _ in range(MAX_TRIES):
            left = end - time.monotonic()
            if left <= 0:
                break
            self._socket.settimeout(left)
            try:
                connection, _peer = self._socket.accept()
            except TimeoutError:
                break
            with connection, contextlib.suppress(OSError):
                found = self._read(connection, state)
                connection.sendall(_response(found is not None))
                if found is not None:
                    return found
        raise Unavailable("nobody came back from the provider", remedy="run `vouchgate login` again, or with `--paste`")

    def close(self) -> None:
        """Stop."""
        self._socket.close()

    def _read(self, connection: socket.socket, state: str) -> dict[str, str] | None:
        end, head = time.monotonic() + HEAD_SECONDS, b""
        while b"\r\n\r\n" not in head:
            connection.settimeout(max(0.01, end - time.monotonic()))
            part = connection.recv(4096)
            head += part
            if not part or len(head) > MAX_HEAD_BYTES or time.monotonic() > end:
                return None
        lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        hosts = [line.partition(":")[2].strip() for line in lines[1:] if line.lower().startswith("host:")]
        if len(words) != 3 or words[0] != "GET" or urlsplit(words[1]).path != "/callback" or hosts != [self._host]:
            return None
        return read_answer(words[1], state)


def read_answer(url: str, state: str) -> dict[str, str] | None:
    """What a redirect to us carries, if it belongs to this login."""
    try:
        pairs = parse_qsl(urlsplit(url.strip()).query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return None
    named = [(name, value) for name, value in pairs if name in FIELDS]
    found = dict(named)
    right = len(found) == len(named) and hmac.compare_digest(found.get("state", "").encode(), state.encode())
    return found if right else None


def _response(good: bool) -> bytes:
    text = _PAGE.format("You are logged in; this page can be closed." if good else "This is not the answer that is waited for.")
    head = (
        f"HTTP/1.1 {'200 OK' if good else '400 Bad Request'}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {len(text)}\r\n"
        "connection: close\r\ncache-control: no-store\r\nreferrer-policy: no-referrer\r\n"
        "content-security-policy: default-src 'none'; frame-ancestors 'none'\r\nx-content-type-options: nosniff\r\n\r\n"
    )
    return (head + text).encode()


def _file(api: Path) -> Path:
    name = hashlib.sha256(str(api.absolute()).encode()).hexdigest()[:16]
    return folder() / f"session-{name}.json"
