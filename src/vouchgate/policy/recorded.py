"""Recorded decisions as data: a file of lines that a policy can be tried out on, on another machine and years later.

    write_header(header) / write_records(records) / write_end(end) -> bytes         what such a file is made of, in this order
    RecordedLog(chunks, trust_domain="")                                            reads one, whatever happened to it
        .header                                                                     the first line
        .batches() -> Iterator[list[Recorded]]                                      everything between, some thousand records at a time
        .end                                                                        the last line; None where the file is cut off

Rules
1. The first line is the header, the last the end; between them a record a line. A file without its end was cut off: what is whole in it is
   read, and whoever reads it says that it is not all.
2. Another format, a newer version of ours or another trust domain is refused before the first record is read.
3. A line that is none, in the middle, is damage and is refused with its number; it is never skipped.
4. A fact that is not in a record was absent, unless the header names it among `not_recorded`: then it is unknown, and whatever depends on it is
   told as open, never guessed; unless the record says that it is whole. `hour` and `weekday` are those of `time`.
5. Lines are bounded; the file is not: it is read as a stream.

Left to others: where records come from (flows/replay.py), what they mean under a policy (`replay`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from vouchgate.policy.extensions import Ip
from vouchgate.policy.facts import peer_address
from vouchgate.vocabulary.errors import InvalidInput, Unsupported
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

FORMAT = "vouchgate/recorded-decisions"
VERSION = 1
"""Of the format; a record with a member that this version does not know belongs to a newer one."""
MAX_LINE_BYTES = 64 * 1024
"""Bytes of one line; a path has at most 8 KiB, a name 2 KiB."""
NOT_RECORDED = ("usual_hour", "usual_network", "purpose", "target", "run", "stage", "declared", "depth", "actor", "on_behalf_of")
"""Facts that the access log does not hold."""
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


class Header(Noun, frozen=True, kw_only=True):
    """Where the records come from."""

    format: str = FORMAT
    version: int = VERSION
    trust_domain: str
    policy_version: int = 0
    """In force when the file was written; a record names the policies that decided it."""
    policy_digest: str = ""
    first_index: int = 0
    """Log entries that were read: from this one,"""
    end_index: int = 0
    """to before this one."""
    made_at: UnixMillis = UnixMillis(0)
    not_recorded: tuple[str, ...] = NOT_RECORDED
    """Facts that are unknown where a record does not hold them."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One request that was decided."""

    time: int
    """Milliseconds since 1970."""
    principal: str
    action: str
    resource: str
    effect: Literal["allow", "deny"] = "allow"
    """What was answered."""
    observed: bool = False
    """Let through because the zone observed, whatever policy said."""
    by: tuple[str, ...] = ()
    """Policies that determined it."""
    decision: str = ""
    """Its decision, or the grant under which the gateway let it pass; `why` explains it."""
    actors: tuple[str, ...] = ()
    risk: int = 0
    authenticated: bool = True
    credential: str = "x509"
    source_ip: str | None = None
    method: str | None = None
    path: str | None = None
    usual_hour: bool | None = None
    usual_network: bool | None = None
    purpose: str | None = None
    target: str | None = None
    run: str | None = None
    stage: str | None = None
    declared: bool | None = None
    depth: int | None = None
    actor: str | None = None
    on_behalf_of: str | None = None
    whole: bool = False
    """All facts of the request are here: one that is not was absent, whatever the header says."""
    hour: int | None = None
    """Only where it is not that of `time`."""
    weekday: int | None = None
    """Likewise; 1 (Monday) to 7."""


class End(Noun, frozen=True, kw_only=True):
    """The last line: what should have been before it."""

    end: Literal[True] = True
    records: int
    left_out: dict[str, int] = {}
    """Requests that no policy decided, by why: `anonymous`, `revoked`, `gateway` ..."""


_header = msgspec.json.Decoder(Header)
_record = msgspec.json.Decoder(Recorded)
_end = msgspec.json.Decoder(End)
_encoder = msgspec.json.Encoder()
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def hour_of(time: int) -> int:
    """0 to 23, UTC."""
    return time // HOUR_MS % 24


def weekday_of(time: int) -> int:
    """1 (Monday) to 7, UTC; 1970 began on a Thursday."""
    return (time // DAY_MS + 3) % 7 + 1


def address_of(text: str) -> Ip | None:
    """The peer as policies see it; None where it is no address."""
    try:
        return peer_address(text)
    except InvalidInput:
        return None


def write_header(header: Header) -> bytes:
    """The first line."""
    return _encoder.encode(header) + b"\n"


def write_records(records: Sequence[Recorded]) -> bytes:
    """Lines."""
    return _encoder.encode_lines(records)


def write_end(end: End) -> bytes:
    """The last line."""
    return _encoder.encode(end) + b"\n"


def read_header(line: bytes, trust_domain: str = "") -> Header:
    """Rule 2. Raises `InvalidInput`, `Unsupported`."""
    try:
        said = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        named, version = msgspec.json.decode(said["format"], type=str), msgspec.json.decode(said["version"], type=int)
    except (*_BROKEN, KeyError):
        named, version = "", 0
    if named != FORMAT:
        raise InvalidInput("the file holds no recorded decisions", remedy="write one: `vouchgate policy export-log FILE`")
    if version != VERSION:
        raise Unsupported(
            f"the decisions are recorded in version {version} of the format, this is version {VERSION}",
            remedy="replay them with the vouchgate that wrote them, or export them again with this one",
        )
    try:
        header = _header.decode(line)
    except _BROKEN as error:
        raise InvalidInput(f"the header of the recorded decisions cannot be read: {error}", remedy="export them again") from None
    if trust_domain and header.trust_domain != trust_domain:
        raise InvalidInput(
            f"the decisions are of trust domain `{header.trust_domain[:120]}`, the entities of `{trust_domain}`",
            remedy="replay them on the entities that were exported beside them",
        )
    return header


class RecordedLog:
    """One file, read once. `chunks` are its bytes in order, in pieces of any size."""

    def __init__(self, chunks: Iterable[bytes], trust_domain: str = "") -> None:
        self._chunks = iter(chunks)
        self._rest = b""
        self._line = 1
        self.end: End | None = None
        self.records = 0
        first = self._first_line()
        self.header = read_header(first, trust_domain)
        self.not_recorded = frozenset(self.header.not_recorded)

    @property
    def cut_off(self) -> bool:
        """Whether the end is missing (rule 1); known once all batches are read."""
        return self.end is None

    def _first_line(self) -> bytes:
        gathered = b""
        while b"\n" not in gathered and len(gathered) <= MAX_LINE_BYTES:
            piece = next(self._chunks, b"")
            if not piece:
                break
            gathered += piece
        line, _, self._rest = gathered.partition(b"\n")
        return line[: MAX_LINE_BYTES + 1]

    def batches(self) -> Iterator[list[Recorded]]:
        """The records. Raises `InvalidInput` for damage (rule 3)."""
        for piece in self._chunks:
            whole, newline, rest = (self._rest + piece).rpartition(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise InvalidInput(f"a line of the recorded decisions is over {MAX_LINE_BYTES} bytes", remedy="export them again")
            self._rest = rest
            if newline:
                yield from self._batch(whole)
        whole, newline, rest = self._rest.rpartition(b"\n")
        self._rest = b""
        if newline:
            yield from self._batch(whole)
        if rest and self.end is None:
            yield from self._last(rest)
        if self.end is not None and self.end.records != self.records:
            raise InvalidInput(
                f"the file says it holds {self.end.records} recorded decisions, and holds {self.records}", remedy="export them again"
            )

    def _batch(self, whole: bytes) -> Iterator[list[Recorded]]:
        if self.end is not None:
            raise InvalidInput(f"line {self._line + 1} stands behind the end of the recorded decisions", remedy="export them again")
        try:
            found = _record.decode_lines(whole)
        except _BROKEN:
            found = self._line_by_line(whole)
        else:
            self._line += len(found)
        self.records += len(found)
        if found:
            yield found

    def _line_by_line(self, whole: bytes) -> list[Recorded]:
        """The batch in which the end, or damage, stands."""
        found = []
        for line in whole.split(b"\n"):
            self._line += 1
            if self.end is not None and line:
                raise InvalidInput(f"line {self._line} stands behind the end of the recorded decisions", remedy="export them again")
            if not line:
                continue
            if line.startswith(b'{"end":'):
                self.end = self._decoded_end(line)
                continue
            try:
                found.append(_record.decode(line))
            except _BROKEN as error:
                raise InvalidInput(f"line {self._line} of the recorded decisions is damaged: {error}", remedy="export them again") from None
        return found

    def _decoded_end(self, line: bytes) -> End:
        try:
            return _end.decode(line)
        except _BROKEN as error:
            raise InvalidInput(f"the end of the recorded decisions is damaged: {error}", remedy="export them again") from None

    def _last(self, rest: bytes) -> Iterator[list[Recorded]]:
        """A last line without its line feed: whole, or cut off in the middle."""
        try:
            if rest.startswith(b'{"end":'):
                self.end = _end.decode(rest)
                return
            one = _record.decode(rest)
        except _BROKEN:
            return
        self.records += 1
        yield [one]
