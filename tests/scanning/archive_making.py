"""Makes zip and tar archives byte by byte, so that each test can break exactly one thing."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from vouchgate.scanning.knowledge.entries import Knowledge, Nothing
from vouchgate.scanning.scope import Budget, Scope
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import Reading, Refuse


@dataclass
class Part:
    """A zip member; `local` and `central` say what its two headers claim instead of the truth."""

    name: bytes
    data: bytes = b"content\n"
    method: int = 0
    flags: int = 0
    packed: bytes | None = None
    extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    attributes: int = 0
    descriptor: bytes = b""
    before: bytes = b""
    behind: bytes = b""
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """Its bytes as they lie in the archive."""
        if self.packed is not None:
            return self.packed
        if self.method != 8:
            return self.data
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.data) + packer.flush()

    def facts(self, claims: dict[str, Any]) -> dict[str, Any]:
        """What a header says."""
        truth = {
            "name": self.name, "flags": self.flags, "method": self.method, "crc": zlib.crc32(self.data), "packed": len(self.body()),
            "size": len(self.data), "needs": 20,
        }  # fmt: skip
        return truth | claims


def local_header(part: Part) -> bytes:
    """APPNOTE 4.3.7."""
    says = part.facts(part.local)
    return (
        struct.pack(
            "<4s5H3L2H", b"PK\3\4", says["needs"], says["flags"], says["method"], 0, 33, says["crc"], says["packed"], says["size"],
            len(says["name"]), len(part.extra),
        ) + says["name"] + part.extra
    )  # fmt: skip


def central_header(part: Part, offset: int) -> bytes:
    """APPNOTE 4.3.12."""
    says = part.facts(part.central)
    return (
        struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20 | 3 << 8, says["needs"], says["flags"], says["method"], 0, 33, says["crc"], says["packed"], says["size"],
            len(says["name"]), len(part.central_extra), len(part.comment), says.get("disk", 0), 0, part.attributes, says.get("offset", offset),
        ) + says["name"] + part.central_extra + part.comment
    )  # fmt: skip


def end_record(count: int, length: int, begin: int, comment: bytes = b"", /, **says: int) -> bytes:
    """APPNOTE 4.3.16."""
    return (
        struct.pack(
            "<4s4H2LH", b"PK\5\6", says.get("disk", 0), says.get("first", 0), says.get("here", count), says.get("count", count),
            says.get("length", length), says.get("begin", begin), says.get("comment", len(comment)),
        ) + comment
    )  # fmt: skip


def end64(count: int, length: int, begin: int, at: int, /, **says: int) -> bytes:
    """APPNOTE 4.3.14 and 4.3.15: the Zip64 end record, which stands at `at`, and its locator."""
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", says.get("size", 44), 45, 45, 0, 0, says.get("count", count), says.get("count", count),
        says.get("length", length), says.get("begin", begin),
    )  # fmt: skip
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, says.get("record", at), says.get("disks", 1))


def zip_of(
    *parts: Part, prefix: bytes = b"", between: bytes = b"", wide: dict[str, int] | None = None, tail: bytes = b"", **end: Any
) -> bytes:
    """The archive; `wide` adds a Zip64 end record that claims this."""
    content, directory = bytearray(prefix), bytearray()
    for part in parts:
        content += part.before
        directory += central_header(part, len(content))
        content += local_header(part) + part.body() + part.descriptor + part.behind
    begin = len(content)
    content += directory + between
    if wide is not None:
        content += end64(len(parts), len(directory), begin, len(content), **wide)
    comment = end.pop("text", b"")
    return bytes(content) + end_record(len(parts), len(directory), begin, comment, **end) + tail


def described(part: Part, *, signed: bool = True, width: int = 4) -> Part:
    """The same member with its checksum and sizes behind its data (flag bit 3)."""
    part.flags |= 8
    part.local |= {"crc": 0, "packed": 0, "size": 0}
    sizes = len(part.body()).to_bytes(width, "little") + len(part.data).to_bytes(width, "little")
    part.descriptor = (b"PK\7\x08" if signed else b"") + zlib.crc32(part.data).to_bytes(4, "little") + sizes
    return part


@dataclass
class Block:
    """A tar member; `says` overrides fields of its header."""

    name: bytes
    data: bytes = b"content\n"
    kind: bytes = b"0"
    magic: bytes = b"ustar\x0000"
    says: dict[str, bytes] = field(default_factory=dict)
    sum_of: str = "unsigned"
    padding: bytes | None = None

    def written(self) -> bytes:
        """Header, data, padding."""
        fields = {
            "name": (self.name, 100), "mode": (b"0000644\0", 8), "uid": (b"0001750\0", 8), "gid": (b"0001750\0", 8),
            "size": (b"%011o\0" % len(self.data), 12), "mtime": (b"%011o\0" % 1_700_000_000, 12), "sum": (b" " * 8, 8), "type": (self.kind, 1),
            "link": (b"", 100), "magic": (self.magic, 8), "owner": (b"root", 32), "group": (b"root", 32), "major": (b"0000000\0", 8),
            "minor": (b"0000000\0", 8), "prefix": (b"", 155), "rest": (b"", 12),
        }  # fmt: skip
        header = b"".join(self.says.get(key, value).ljust(width, b"\0") for key, (value, width) in fields.items())
        assert len(header) == 512
        if "sum" not in self.says:
            total = sum(header) if self.sum_of == "unsigned" else sum(byte - 256 * (byte > 127) for byte in header)
            header = header[:148] + b"%06o\0 " % total + header[156:]
        padding = bytes(-len(self.data) % 512) if self.padding is None else self.padding
        return header + self.data + padding


def tar_of(*blocks: Block, end: bytes = bytes(1024)) -> bytes:
    """The archive."""
    return b"".join(block.written() for block in blocks) + end


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x", raw: bytes | None = None) -> Block:
    """A pax header with these records."""
    return Block(b"PaxHeader", b"".join(pax_record(*record) for record in records) if raw is None else raw, kind)


def pax_record(key: bytes, value: bytes) -> bytes:
    """`length key=value newline`."""
    size = len(key) + len(value) + 3
    total = size + len(str(size))
    if len(str(total)) != len(str(size)):
        total += 1
    return b"%d %s=%s\n" % (total, key, value)


class Inside(list[tuple[str, bytes]]):
    """Members that a reader handed on, in place of scanning them."""


def scope_of(inside: Inside | None = None, *, deep: bool = True, knowledge: Knowledge | None = None, **bounds: int) -> Scope:
    """A scope whose members are only noted."""
    settings = ScanSettings(**bounds)

    def note(name: str, view: memoryview, outer: Scope, only: Any) -> tuple[str, Reading]:
        del outer, only
        if inside is not None:
            inside.append((name, bytes(view)))
        return "text", Reading(covered=len(view))

    return Scope(
        settings=settings, knowledge=knowledge or Nothing(), read_inner=note, plugins=(), deep=deep,
        budget=Budget(unpacked_bytes=settings.max_unpacked_bytes, members=settings.max_members),
    )  # fmt: skip


def rule_of(act: Any) -> str:
    """The rule by which it is refused; empty if it is not."""
    try:
        act()
    except Refuse as refuse:
        assert refuse.reason.where
        assert refuse.reason.remedy
        return refuse.reason.rule
    return ""
