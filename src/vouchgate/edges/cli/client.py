"""The command line's side of the API: the standard library's HTTP over the control plane's unix socket.

Rules
1. A problem document becomes the same typed error here that it was there.
2. A socket that is missing, refused or silent is told as what it means to a person.
3. Ages are told by the control plane's clock (`now`), not by this process's.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast
from urllib.parse import urlencode

from vouchgate.vocabulary import errors
from vouchgate.vocabulary.wire import decode, encode

TIMEOUT_SECONDS = 30.0
"""An act waits for every enforcement point's acknowledgement, at most a lease of 10 s by default."""
LONG_TIMEOUT_SECONDS = 600.0
"""Recomputing a large log, scanning a large file."""
COPY_BYTES = 1024 * 1024

T = TypeVar("T")
_TYPES = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.VouchgateError)}


class Readable(Protocol):
    """A file, or what is read as one."""

    def read(self, count: int = -1, /) -> bytes:
        """At most so many bytes; nothing at the end."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One control plane; `now` is its clock at the last answer, in milliseconds since 1970."""

    def __init__(self, path: Path, *, bearer: str = "") -> None:
        self._path, self._bearer = path, bearer
        self.now = 0

    def get(self, kind: type[T], path: str, *, timeout: float = TIMEOUT_SECONDS, **query: object) -> T:
        """Ask for a noun."""
        asked = {name: value for name, value in query.items() if value not in ("", None)}
        return decode(kind, self._ask("GET", f"{path}?{urlencode(asked)}" if asked else path, timeout=timeout)[0], what="answer")

    def post(self, kind: type[T], path: str, body: Any, *, timeout: float = TIMEOUT_SECONDS) -> T:
        """Do an act."""
        return decode(kind, self._ask("POST", path, encode(body), timeout=timeout)[0], what="answer")

    def delete(self, path: str) -> None:
        """End something."""
        self._ask("DELETE", path)

    def send_file(self, kind: type[T], path: str, file: Readable, size: int, /, **query: str) -> T:
        """Send a file as it is read."""
        asked = urlencode({name: value for name, value in query.items() if value})
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        answer, _ = self._ask("PUT", f"{path}?{asked}", file, headers=headers, timeout=LONG_TIMEOUT_SECONDS)
        return decode(kind, answer, what="answer")

    def receive_file(self, path: str, into: IO[bytes]) -> bytes:
        """Write the answer's body to `into`; gives the outcome that came beside it, as JSON."""
        connection, answer = self._send("POST", path, b"{}", {"content-type": "application/json"}, LONG_TIMEOUT_SECONDS)
        try:
            left = int(answer.getheader("content-length", "0"))
            while left and (part := answer.read(min(COPY_BYTES, left))):
                into.write(part)
                left -= len(part)
            if left:
                raise self._gone("it broke off")
            return answer.getheader("vouchgate-outcome", "{}").encode()
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from None
        finally:
            connection.close()

    def events(self, path: str) -> Iterator[bytes]:
        """The data of server-sent events, for ever."""
        connection, answer = self._send("GET", path, None, {}, TIMEOUT_SECONDS)
        try:
            for line in answer:
                if line.startswith(b"data: "):
                    yield line[len(b"data: ") :]
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from None
        finally:
            connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Readable | None = None,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> tuple[bytes, http.client.HTTPResponse]:
        sent = headers or ({"content-type": "application/json"} if body is not None else {})
        connection, answer = self._send(method, path, body, sent, timeout)
        try:
            return answer.read(), answer
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from None
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: bytes | Readable | None, headers: dict[str, str], timeout: float
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self._path, timeout)
        headers = {**headers, "authorization": f"Bearer {self._bearer}"} if self._bearer else headers
        try:
            connection.connect()
            refused: OSError | None = None
            try:
                connection.request(method, path, cast("bytes | IO[bytes] | None", body), headers)
            except (BrokenPipeError, ConnectionResetError) as error:
                refused = error
            try:
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise refused or error from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._gone(error) from None
        clock = answer.getheader("vouchgate-now", "")
        self.now = int(clock) if clock.isascii() and clock.isdigit() else 0
        if answer.status >= 400:
            text = answer.read()
            connection.close()
            raise _typed(text, answer.status)
        return connection, answer

    def _gone(self, why: object) -> errors.VouchgateError:
        if isinstance(why, FileNotFoundError | ConnectionRefusedError):
            return errors.Unavailable("the control plane is not running", remedy="start it with `vouchgate up`")
        if isinstance(why, PermissionError):
            return errors.NotPermitted(f"you may not reach `{self._path}`", remedy="run as a user that may enter the data directory")
        if isinstance(why, TimeoutError):
            return errors.Unavailable(
                "the control plane did not answer in time", remedy="see `vouchgate doctor` and the control plane's log"
            )
        return errors.Unavailable(f"the control plane broke off: {why}", remedy="see `vouchgate doctor` and the control plane's log")


def _typed(text: bytes, status: int) -> errors.VouchgateError:
    """Rule 1."""
    try:
        document = json.loads(text)
        code, reason, remedy = document["type"].rsplit("/", 1)[1], str(document["detail"]), str(document["remedy"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return errors.Unavailable(
            f"the control plane answered {status} without saying why", remedy="both must be the same version of vouchgate"
        )
    return _TYPES.get(code, errors.VouchgateError)(reason, remedy=remedy)
