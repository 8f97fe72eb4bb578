"""Whether content may be loaded: asked of the control plane, or of signed vouches that lie beside the file.

Rules
1. What is asked about is a digest of bytes that are already held (guard_opening.py), never a name.
2. Anything but an allow is a refusal: no control plane, no answer in time, an answer that cannot be read.
3. An allow is held for as long as the answer says, a second at most; a refusal is never held.
4. Without a control plane the vouches stand beside the file in `<name>.vouches`, one DSSE envelope a line, and every one that is asked for must
   verify under a TrustRoot whose root keys have the pinned fingerprint. Revocations are not known there: what expires late is withdrawn late.
5. Who listened at the socket when it was first asked for (SO_PEERCRED: the uid that called listen(2)) is who decides for this process's life: its
   notes stand for hashes (guard_store.py), and another uid's answer counts for nothing.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from vouchgate.evidence.manifests import manifest_of
from vouchgate.evidence.trustroot import verify_trust_root
from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.vocabulary.answers_loads import LoadOutcome, LoadRequest, ServingOutcome, ServingRequest
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.outcomes import Refused
from vouchgate.vocabulary.trust import SignedTrustRoot, TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis, VerifiedVouch, Vouch
from vouchgate.vocabulary.wire import Noun, decode, encode

ANSWER_SECONDS = 10.0
"""For one answer; the decision itself takes milliseconds, its record one commit."""
MAX_ANSWER_BYTES = 1024 * 1024
MAX_BESIDE_BYTES = 4 * 1024 * 1024
"""Of the vouches beside a file; one takes about 1.5 kB."""
MAX_ENVELOPES = 256
MAX_HELD = 4_096
"""Allows that are held."""
NEEDED = ("scan", "structure", "import")
"""Vouches that content must have where no policy says which."""

T = TypeVar("T")


class LoadRefused(NotPermitted):
    """Content was not loaded; the text says why and what to do."""

    code = "load-refused"

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


class Judge(Protocol):
    """Says whether content may be loaded."""

    def admit(self, digest: Digest, name: str, library: str) -> str:
        """The digest of the manifest that was vouched for with it, or nothing; raises `LoadRefused`."""


class ControlPlane:
    """Rules 2 and 3, over the control plane's socket; the kernel says there who asks."""

    def __init__(self, path: Path, *, purpose: str = "", endpoint: str = "") -> None:
        self._path, self._purpose, self.endpoint = path, purpose, endpoint
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._user: int | None = None

    def admit(self, digest: Digest, name: str, library: str) -> str:
        """Ask, unless an allow is still held."""
        with self._lock:
            until, manifest = self._held.get(digest.text, (0, ""))
            if until > time.monotonic_ns():
                return manifest
        asked = time.monotonic_ns()
        request = LoadRequest(digest=digest.text, library=library, purpose=self._purpose, endpoint=self.endpoint)
        try:
            said = self._post(LoadOutcome, "/api/v1/loads", request)
        except VouchgateError as error:
            raise LoadRefused(f"{_what(name, digest)} is not loaded: {error.reason}", remedy=error.remedy) from None
        if said.allowed is not True or said.digest != digest.text:
            raise _refusal(said, name, digest)
        with self._lock:
            # counted from the question: a slow answer is held for less
            self._held[digest.text] = asked + said.hold_ms * 1_000_000, said.manifest
            self._held.move_to_end(digest.text)
            while len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
        return said.manifest

    def user(self) -> int:
        """The uid that listens at the socket, by the kernel's word (rule 5); -1 where nobody does now."""
        if self._user is None:
            connection = _Connection(self._path)
            try:
                connection.connect()
                self._user = connection.user
            except OSError:
                return -1
            finally:
                connection.close()
        return self._user

    def serving(self, digest: Digest) -> ServingOutcome:
        """Say that this process answers for the endpoint from this content. Raises typed errors."""
        return self._post(ServingOutcome, "/api/v1/serving", ServingRequest(digest=digest.text, endpoint=self.endpoint))

    def forked(self) -> None:
        """In a child: a lock of the parent's may be held for ever."""
        self._lock = threading.Lock()

    def _post(self, kind: type[T], path: str, body: Noun) -> T:
        connection = _Connection(self._path)
        try:
            connection.connect()
            if self._user not in (None, connection.user):
                raise Unavailable(
                    f"uid {connection.user} answers at `{self._path}`, it was {self._user} before",
                    remedy="start this process again if that is right",
                )
            connection.request("POST", path, encode(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            data = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the control plane does not answer at `{self._path}` ({error})", remedy="start it: `vouchgate up`") from None
        finally:
            connection.close()
        if len(data) > MAX_ANSWER_BYTES:
            raise Unavailable("the control plane's answer is too long", remedy="both must be the same version of vouchgate")
        if answer.status != 200:
            raise _problem(data, answer.status)
        return decode(kind, data, what="answer")


class Beside:
    """Rule 4. `now` is the time; `root` the signed TrustRoot's file."""

    def __init__(self, root: Path, fingerprint: str, now: Callable[[], UnixMillis], *, needed: Sequence[str] = NEEDED) -> None:
        self._root, self._fingerprint, self._now, self._needed = root, fingerprint, now, tuple(needed)

    def admit(self, digest: Digest, name: str, library: str) -> str:
        """Read and verify; nothing is held, a file may be replaced by newer vouches."""
        try:
            lacking, about = self._lacking(digest, Path(f"{name}.vouches"))
        except VouchgateError as error:
            raise LoadRefused(f"{_what(name, digest)} is not loaded: {error.reason}", remedy=error.remedy) from None
        if lacking:
            raise LoadRefused(
                f"{_what(name, digest)} is not loaded: missing {', '.join(f'`{one}` ({why})' for one, why in lacking.items())}",
                remedy=f"import it, and put its vouches into `{Path(name).name}.vouches`",
            )
        return manifest_of(about)

    def _lacking(self, digest: Digest, path: Path) -> tuple[dict[str, str], list[Vouch]]:
        """What is needed and not there -> why; and the vouches about it that verify."""
        now = self._now()
        trust_root = verify_trust_root(decode(SignedTrustRoot, _small(self._root), what="TrustRoot"), self._fingerprint, now)
        found, why = _verified([line for line in _small(path).splitlines() if line.strip()], trust_root, now)
        about = [one.vouch for one in found if any(part.digest and part.digest.text == digest.text for part in one.vouch.subjects)]
        return {one: why.get(one, "absent") for one in self._needed if not _holds(one, about)}, about


def _verified(lines: Sequence[bytes], trust_root: TrustRoot, now: UnixMillis) -> tuple[list[VerifiedVouch], dict[str, str]]:
    """Those that verify, what they rest on before them; and by predicate why another one does not."""
    if len(lines) > MAX_ENVELOPES:
        raise InvalidInput(f"more than {MAX_ENVELOPES} vouches lie beside the file", remedy="leave those that are about other content out")
    found: dict[str, VerifiedVouch] = {}
    known: dict[str, Vouch] = {}
    waiting, why = list(lines), dict[str, str]()
    while waiting:
        left = []
        for line in waiting:
            made = verify(line, trust_root, now, known=known, revoked=nothing_revoked)
            if isinstance(made, Refused):
                left.append(line)
                why[_predicate(line)] = made.reason
            else:
                found[made.vouch.id], known[made.vouch.id] = made, made.vouch
        if len(left) == len(waiting):
            break
        waiting = left
    return list(found.values()), why


def _predicate(line: bytes) -> str:
    """What an envelope that does not verify says it is, for the reason alone."""
    from vouchgate.evidence.statement import read_vouch

    try:
        return read_vouch(line).vouch.predicate_type
    except InvalidInput:
        return ""


def _holds(predicate: str, about: Sequence[Vouch]) -> bool:
    """Whether there is a pass, and no word against it that is as new."""
    mine = [one for one in about if one.predicate_type == predicate]
    newest = max((one.issued_at for one in mine), default=0)
    return bool(mine) and all(one.outcome == "pass" for one in mine if one.issued_at == newest)


def _small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BESIDE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(
            f"`{path}` cannot be read: {error.strerror}", remedy="put the signed vouches there, or start the control plane"
        ) from None
    if len(data) > MAX_BESIDE_BYTES:
        raise InvalidInput(f"`{path}` has more than {MAX_BESIDE_BYTES} bytes", remedy="leave out what is about other content")
    return data


def _what(name: str, digest: Digest) -> str:
    return f"`{name[:200]}` ({digest.text[:23]}...)"


def _refusal(said: LoadOutcome, name: str, digest: Digest) -> LoadRefused:
    missing = ", ".join(f"`{one.predicate}` ({one.why})" for one in said.missing)
    told = f"{said.reason}{f'; missing {missing}' if missing else ''}"
    remedy = said.missing[0].remedy if said.missing and not said.remedy else said.remedy
    return LoadRefused(f"{_what(name, digest)} is not loaded: {told}", remedy=remedy or "run `vouchgate why` with this digest")


def _problem(data: bytes, status: int) -> VouchgateError:
    """A problem document (RFC 9457) as an error."""
    try:
        said = msgspec.json.decode(data)
        return NotPermitted(str(said["detail"]), remedy=str(said["remedy"]))
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the control plane answered {status}", remedy="see `vouchgate doctor`")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path, self.user = path, -1

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
        self.user = struct.unpack("3i", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
