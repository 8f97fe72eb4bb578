"""Members of a zip archive as far as they can be had: what the scan refuses is what disarm is for.

Rules
1. The central directory is believed for sizes and places (it is what loaders read), but every place and length is held against the bytes.
2. Of two members of one name the last counts, as in Python's reader; the other is told.
3. What is unpacked is paid for first, and ends where the directory says or is dropped.
(PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.5.3.)
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from vouchgate.scanning import zip_listing
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.tensors import Storage
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.verdict import Refuse

MAX_MEMBERS = 200_000
"""Members read: a checkpoint of 100,000 tensors has one for each."""
_LOCAL, _ENTRY = b"PK\x03\x04", b"PK\x01\x02"
_ENTRY_FIELDS = struct.Struct("<4s4B4HL2L5H2L")
_FULL = 0xFFFFFFFF
_ZIP64 = 1


@dataclass(frozen=True)
class Member:
    """One entry of the directory."""

    name: str
    method: int
    packed: int
    size: int
    offset: int


class Archive:
    """A zip's members by name."""

    def __init__(self, view: memoryview, origin: int, scope: Scope, findings: Findings) -> None:
        self._view, self._origin, self._scope, self._findings = view, origin, scope, findings
        self._shift = 0
        self.members: dict[str, Member] = {}
        for member in self._listed():
            if member.name in self.members:
                findings.drop("member", member.name, member.name, "a second member of the same name follows it")
            self.members[member.name] = member

    def content(self, name: str) -> Storage | None:
        """A member's bytes; None, and told, where they cannot be had."""
        member = self.members.get(name)
        if member is None:
            return None
        begin = self._data_of(member)
        if begin < 0 or begin + member.packed > len(self._view):
            self._findings.drop("member", name, name, "its bytes do not lie in the archive")
            return None
        packed = self._view[begin : begin + member.packed]
        if member.method == 0:
            return Storage(packed, self._origin + begin if self._origin >= 0 else -1)
        return self._unpacked(member, packed)

    def _unpacked(self, member: Member, packed: memoryview) -> Storage | None:
        try:
            if member.method != 8 or member.size > self._scope.settings.max_unpacked_member:
                raise ValueError("it is packed in a way, or to a size, that is not unpacked")
            self._scope.spend_bytes(member.name, member.size)
            data = zlib.decompressobj(-15).decompress(packed, member.size)
            if len(data) != member.size:
                raise ValueError("it is shorter than the directory says")
        except (ValueError, zlib.error, Refuse) as error:
            self._findings.drop("member", member.name, member.name, f"it cannot be unpacked: {error}")
            return None
        return Storage(memoryview(data))

    def _data_of(self, member: Member) -> int:
        for local in (member.offset + self._shift, member.offset):
            if local >= 0 and local + 30 <= len(self._view) and self._view[local : local + 4] == _LOCAL:
                name, extra = struct.unpack_from("<2H", self._view, local + 26)
                return int(local + 30 + name + extra)
        return -1

    def _listed(self) -> list[Member]:
        found = zip_listing.directory_of(self._view)
        if found is None or found == (0, 0):
            return []
        here, end = found
        stated = struct.unpack_from("<L", self._view, end + 16)[0] if bytes(self._view[end : end + 4]) == b"PK\x05\x06" else _FULL
        self._shift = here - stated if stated != _FULL else 0
        members: list[Member] = []
        while here + _ENTRY_FIELDS.size <= end and self._view[here : here + 4] == _ENTRY and len(members) < MAX_MEMBERS:
            fields = _ENTRY_FIELDS.unpack_from(self._view, here)
            name, extra, comment = fields[12], fields[13], fields[14]
            after = here + _ENTRY_FIELDS.size
            raw = bytes(self._view[after : after + name])
            sizes = _wide(bytes(self._view[after + name : after + name + extra]), fields[11], fields[10], fields[18])
            size, packed, offset = sizes
            members.append(Member(raw.decode("utf-8", "backslashreplace"), fields[6], packed, size, offset))
            here = after + name + extra + comment
        return members


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Size, packed size and offset; from the zip64 field where the directory's own are full (4.5.3)."""
    here, values = 0, [size, packed, offset]
    while here + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, here)
        if kind == _ZIP64:
            inside = here + 4
            for place in range(3):
                if values[place] == _FULL and inside + 8 <= min(here + 4 + length, len(extra)):
                    values[place] = int.from_bytes(extra[inside : inside + 8], "little")
                    inside += 8
            break
        here += 4 + length
    return values[0], values[1], values[2]
