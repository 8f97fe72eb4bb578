"""A zip is read only where every reader reads it alike: one thing broken per case, and what real writers write."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from archive_making import Part, described, local_header, rule_of, scope_of, zip_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.scanning.verdict import Refuse
from vouchgate.scanning.zips import Zip, open_zip

A, B = b"a.txt", b"folder/b.bin"
LOTS = b"some text, again and again. " * 200


def opened(content: bytes, **bounds: Any) -> Zip:
    return open_zip(memoryview(content), scope_of(**bounds), "zip")


def contents(content: bytes, **bounds: Any) -> dict[str, bytes]:
    scope = scope_of(**bounds)
    archive = open_zip(memoryview(content), scope, "zip")
    return {entry.name: bytes(archive.content(entry, scope)) for entry in archive.files}


def rule(content: bytes, **bounds: Any) -> str:
    return rule_of(lambda: contents(content, **bounds)).removeprefix("zip:")


class Pipe(io.RawIOBase):
    """A file that cannot seek, so that sizes come behind the data."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("seeks", [True, False])
def test_what_python_writes(method: int, seeks: bool) -> None:
    file: Any = io.BytesIO() if seeks else Pipe()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.txt", LOTS)
        archive.writestr("folder/é.txt", b"x")
        archive.writestr("empty", b"")
        archive.mkdir("bare")
        with archive.open("wide", "w", force_zip64=True) as member:
            member.write(b"123")
    found = contents(file.getvalue() if seeks else bytes(file.content))
    assert found == {"a.txt": LOTS, "folder/é.txt": b"x", "empty": b"", "wide": b"123"}


def test_what_numpy_writes() -> None:
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **{"layer/kernel:0": np.zeros(50), "b": np.ones(3)})  # type: ignore[arg-type]
        assert contents(file.getvalue()).keys() == {"layer/kernel:0.npy", "b.npy"}


def test_the_structure_is_told() -> None:
    archive = opened(zip_of(Part(A), Part(b"folder/", b"", attributes=0o40755 << 16), Part(B, LOTS, 8)))
    assert [(entry.name, entry.is_folder, entry.size) for entry in archive.entries] == [
        ("a.txt", False, 8), ("folder/", True, 0), ("folder/b.bin", False, len(LOTS)),
    ]  # fmt: skip
    assert [entry.name for entry in archive.files] == ["a.txt", "folder/b.bin"]
    assert archive.covered == len(archive.view)
    assert archive.get("a.txt") is archive.entries[0]
    assert archive.get("A.TXT") is None


WIDE = struct.pack("<2HQQ", 1, 16, len(LOTS), len(LOTS))
UNKNOWN = {"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}
GOOD = [
    ("nothing", zip_of()),
    ("a stored member", zip_of(Part(A))),
    ("a deflated member", zip_of(Part(A, LOTS, 8))),
    ("a folder, deflated", zip_of(Part(b"d/", b"", 8), Part(b"d/a"))),
    ("levels of deflate", zip_of(Part(A, LOTS, 8, flags=6))),
    ("members in another order than the directory", zip_of(Part(A), Part(B))),
    ("sizes behind the data", zip_of(described(Part(A, LOTS, 8)))),
    ("the same without a signature", zip_of(described(Part(A, LOTS, 8), signed=False))),
    ("the same with wide sizes", zip_of(described(Part(A, LOTS, 8), width=8))),
    ("sizes behind stored data, as torch writes", zip_of(described(Part(A, LOTS, extra=b"FB\x06\0ZZZZZZ")), wide={})),
    ("wide sizes in front", zip_of(Part(A, LOTS, extra=WIDE, local=UNKNOWN))),
    ("a wide end record that says the same", zip_of(Part(A), wide={})),
    ("a wide end record alone", zip_of(Part(A), wide={}, here=0xFFFF, count=0xFFFF, length=0xFFFFFFFF, begin=0xFFFFFFFF)),
    ("times and owners", zip_of(Part(A, extra=b"UT\5\0\3abcdux\x0b\0\1\4\0\0\0\0\4\0\0\0\0", central_extra=b"UT\5\0\3abcd"))),
    ("a plain comment", zip_of(Part(A, comment=b"made by hand"), text=b"a commit's name\r\n")),
    ("a name in UTF-8 that says so", zip_of(Part("é.txt".encode(), flags=1 << 11))),
    ("a name in UTF-8 that does not", zip_of(Part("é.txt".encode()))),
    ("a second name that is the first", zip_of(Part(A, extra=struct.pack("<2HBL", 0x7075, 5 + len(A), 1, zlib.crc32(A)) + A))),
    ("zeros for alignment", zip_of(Part(A, extra=b"\0\0\0"))),
]  # fmt: skip


@pytest.mark.parametrize(("what", "content"), GOOD, ids=[what for what, _ in GOOD])
def test_allowed(what: str, content: bytes) -> None:
    assert rule(content) == "", what


def moved(offset: int) -> bytes:
    """A second entry that points to the first one's header."""
    return zip_of(Part(A), Part(b"c.txt", central={"offset": offset}))


INNER = zip_of(Part(B, b"inner"))
BAD = [
    ("no end record", zip_of(Part(A))[:-1], "no-end"),
    ("bytes in front", zip_of(Part(A), prefix=b"MZ junk"), "prefix"),
    ("bytes in front that the end record leaves out", b"#!/bin/sh\n" + zip_of(Part(A)), "directory"),
    ("bytes behind", zip_of(Part(A), tail=b"\0"), "comment"),
    ("a second archive behind", zip_of(Part(A)) + INNER, "directory"),
    ("a comment that is an archive", zip_of(Part(A), text=INNER), "directory"),
    ("a comment with an end record in it", zip_of(Part(A), text=b"PK\5\6" + bytes(18)), "directory"),
    ("a comment of bytes", zip_of(Part(A), text=b"\x80\x04."), "comment"),
    ("a comment longer than it says", zip_of(Part(A), text=b"text", comment=3), "comment"),
    ("an entry's comment of bytes", zip_of(Part(A, comment=b"\x80\x04.")), "comment"),
    ("something between directory and end", zip_of(Part(A), between=b"junk"), "directory"),
    ("a gap between members", zip_of(Part(A, behind=b"hidden"), Part(B)), "gap"),
    ("a gap before the directory", zip_of(Part(A, behind=b"hidden")), "gap"),
    ("a whole member that the directory leaves out", zip_of(Part(A, behind=local_header(Part(B)) + b"content\n"), Part(b"c")), "gap"),
    ("an overlap", moved(0), "disagreement"),
    ("one member twice", zip_of(Part(A), Part(A, b"other")), "duplicate-name"),
    ("names that differ by case", zip_of(Part(A), Part(b"A.TXT")), "duplicate-name"),
    ("names that differ by Unicode form", zip_of(Part("é".encode(), flags=2048), Part("e\u0301".encode(), flags=2048)), "duplicate-name"),
    ("names that differ by a dot at the end", zip_of(Part(b"d/a"), Part(b"d/a.")), "duplicate-name"),
    ("a file that is a folder", zip_of(Part(b"d"), Part(b"d/a")), "duplicate-name"),
    ("a folder that is a file", zip_of(Part(b"d/a"), Part(b"d")), "duplicate-name"),
    ("a folder twice", zip_of(Part(b"d/", b""), Part(b"d/", b"")), "duplicate-name"),
    ("another name in front", zip_of(Part(A, local={"name": b"b.txt"})), "disagreement"),
    ("another flag in front", zip_of(Part(A, local={"flags": 1})), "disagreement"),
    ("another reserved flag in front", zip_of(Part(A, local={"flags": 0x20})), "disagreement"),
    ("another method in front", zip_of(Part(A, local={"method": 8})), "disagreement"),
    ("another checksum in front", zip_of(Part(A, local={"crc": 1})), "disagreement"),
    ("another size in front", zip_of(Part(A, local={"size": 3})), "disagreement"),
    ("no size in front, and no descriptor", zip_of(Part(A, local={"crc": 0, "packed": 0, "size": 0})), "disagreement"),
    ("full sizes in front, and no wide ones", zip_of(Part(A, local=UNKNOWN)), "disagreement"),
    ("other wide sizes in front", zip_of(Part(A, LOTS, extra=struct.pack("<2HQQ", 1, 16, 9, 9), local=UNKNOWN)), "disagreement"),
    ("a descriptor that says otherwise", zip_of(described(Part(A)), Part(B)).replace(b"PK\7\x08", b"PK\7\x09"), "gap"),
    ("a descriptor without its flag", zip_of(Part(A, descriptor=b"PK\7\x08" + bytes(12))), "gap"),
    ("its flag without a descriptor", zip_of(Part(A, flags=8)), "gap"),
    ("a wrong checksum", zip_of(Part(A, local={"crc": 5}, central={"crc": 5})), "crc"),
    ("no checksum at all", zip_of(Part(A, local={"crc": 0}, central={"crc": 0})), "crc"),
    ("a wrong checksum of a packed member", zip_of(Part(A, LOTS, 8, local={"crc": 5}, central={"crc": 5})), "crc"),
    ("encrypted", zip_of(Part(A, flags=1)), "flags"),
    ("strongly encrypted", zip_of(Part(A, flags=1 << 6)), "flags"),
    ("a patch", zip_of(Part(A, flags=1 << 5)), "flags"),
    ("a masked header", zip_of(Part(A, flags=1 << 13)), "flags"),
    ("an unknown method", zip_of(Part(A, method=99)), "method"),
    ("an old method", zip_of(Part(A, method=1)), "method"),
    ("a version that no reader has", zip_of(Part(A, local={"needs": 200}, central={"needs": 200})), "version"),
    ("two sizes of a stored member", zip_of(Part(A, local={"size": 4}, central={"size": 4})), "size"),
    ("less than is packed", zip_of(Part(A, LOTS, 8, local={"size": 4}, central={"size": 4})), "size"),
    ("more than is packed", zip_of(Part(A, LOTS, 8, local={"size": 9_999}, central={"size": 9_999})), "size"),
    ("bytes behind the packed stream", zip_of(Part(A, LOTS, 8, packed=Part(A, LOTS, 8).body() + b"hidden")), "size"),
    ("a damaged stream", zip_of(Part(A, LOTS, 8, packed=b"\xff" * 40)), "damaged"),
    ("a stream that does not end", zip_of(Part(A, LOTS, 8, packed=Part(A, LOTS, 8).body()[:-3])), "size"),
    ("a folder with bytes", zip_of(Part(b"d/")), "size"),
    ("a folder with packed bytes", zip_of(Part(b"d/", b"", 8, packed=b"\3\0hidden")), "size"),
    ("a folder with a checksum", zip_of(Part(b"d/", b"", local={"crc": 1}, central={"crc": 1})), "size"),
    ("a symbolic link", zip_of(Part(A, b"/etc/passwd", attributes=0o120777 << 16)), "special-file"),
    ("a device", zip_of(Part(A, attributes=0o060644 << 16)), "special-file"),
    ("a folder named as a file", zip_of(Part(A, attributes=0o40755 << 16)), "special-file"),
    ("a file named as a folder", zip_of(Part(b"d/", b"", attributes=0o100644 << 16)), "special-file"),
    ("out of the folder", zip_of(Part(b"../a")), "name"),
    ("out of the folder from within", zip_of(Part(b"d/../../a")), "name"),
    ("absolute", zip_of(Part(b"/etc/a")), "name"),
    ("a drive", zip_of(Part(b"C:/a")), "name"),
    ("a backslash", zip_of(Part(b"..\\a")), "name"),
    ("a NUL", zip_of(Part(b"a.txt\0.pkl")), "name"),
    ("a line end", zip_of(Part(b"a\nb")), "name"),
    ("an empty part", zip_of(Part(b"d//a")), "name"),
    ("a dot", zip_of(Part(b"./a")), "name"),
    ("letters that turn", zip_of(Part("a\u202etxt.exe".encode(), flags=2048)), "name"),
    ("no name", zip_of(Part(b"")), "name"),
    ("no UTF-8", zip_of(Part(b"\xff", flags=2048)), "name"),
    ("too many folders", zip_of(Part(b"d/" * 80 + b"a")), "name"),
    ("a name without end", zip_of(Part(b"d" * 5_000)), "name"),
    ("another second name", zip_of(Part(A, extra=struct.pack("<2HBL", 0x7075, 10, 1, zlib.crc32(A)) + b"b.txt")), "extra"),
    ("another second name in the directory", zip_of(Part(A, central_extra=struct.pack("<2HBL", 0x7075, 10, 1, zlib.crc32(A)) + b"b.txt")), "extra"),
    ("an extra field that runs over", zip_of(Part(A, extra=b"UT\x09\0abc")), "extra"),
    ("an extra field of no known kind", zip_of(Part(A, extra=b"zz\4\0abcd")), "extra"),
    ("padding that is no padding", zip_of(Part(A, extra=b"FB\6\0os.sys")), "extra"),
    ("times that hide more", zip_of(Part(A, extra=b"UT\x80\0" + bytes(128))), "extra"),
    ("encryption by an extra field", zip_of(Part(A, extra=b"\x01\x99\7\0" + bytes(7))), "extra"),
    ("a wide field twice", zip_of(Part(A, LOTS, extra=WIDE * 2, local=UNKNOWN)), "extra"),
    ("a wide field that nothing asks for", zip_of(Part(A, central_extra=struct.pack("<2HQ", 1, 8, 0))), "zip64"),
    ("a wide field that lacks a value", zip_of(Part(A, central_extra=struct.pack("<2HQ", 1, 8, 8), central=UNKNOWN)), "zip64"),
    ("an offset behind everything", zip_of(Part(A, central={"offset": 10_000})), "local-header"),
    ("a local header cut by the directory", zip_of(Part(A, b"PK\3\4 and no more", central={"offset": 35})), "local-header"),
    ("data that runs into the directory", zip_of(Part(A, local={"packed": 99, "size": 99}, central={"packed": 99, "size": 99})), "overlap"),
    ("fewer entries than there are", zip_of(Part(A), Part(B), here=1, count=1), "directory"),
    ("more entries than there are", zip_of(Part(A), here=2, count=2), "directory"),
    ("another disk", zip_of(Part(A), disk=1), "split"),
    ("entries on another disk", zip_of(Part(A), here=0), "split"),
    ("an entry on another disk", zip_of(Part(A, central={"disk": 1})), "split"),
    ("a directory elsewhere", zip_of(Part(A), begin=3), "directory"),
    ("two end records that differ", zip_of(Part(A), wide={"count": 2}), "zip64"),
    ("a wide end record elsewhere", zip_of(Part(A), wide={"record": 3}), "zip64"),
    ("a wide end record of odd size", zip_of(Part(A), wide={"size": 50}), "zip64"),
    ("a wide end record of several disks", zip_of(Part(A), wide={"disks": 2}), "zip64"),
    ("a wide end record with another directory", zip_of(Part(A), wide={"begin": 1}, begin=0xFFFFFFFF), "directory"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "content", "expected"), BAD, ids=[what for what, _, _ in BAD])
def test_refused(what: str, content: bytes, expected: str) -> None:
    assert rule(content) == expected, what


def test_overlapping_members_of_one_name_each() -> None:
    """Quines and overlapping bombs: two entries of the directory over the same bytes."""
    one = zip_of(Part(b"a", b"x" * 40))
    inner = local_header(Part(b"b", b"y" * 10)) + b"y" * 10
    whole = zip_of(Part(b"a", inner + b"z" * 5), Part(b"b", b"y" * 10, central={"offset": 31}))
    assert rule(one) == ""
    assert rule(whole) in ("gap", "overlap")


def test_bombs_cost_nothing() -> None:
    claims = {"size": 50 * 1024**3 % 2**32}
    huge = zip_of(Part(A, LOTS, 8, local=claims, central=claims))
    assert rule(huge) == "bomb"
    lie = {"size": 900 * 1024**2}
    assert rule(zip_of(Part(A, LOTS, 8, local=lie, central=lie))) == "bomb"
    some = zip_of(*(Part(b"%d" % place, bytes(10_000), 8) for place in range(5)))
    assert rule(some, max_unpacked_bytes=60_000) == ""
    assert rule_of(lambda: contents(some, max_unpacked_bytes=40_000)) == "scan:bomb"
    assert rule(some, max_unpacked_member=9_999) == "bomb"
    assert rule(some, max_members=4) == "too-many-members"


def test_without_depth_stored_members_are_not_checksummed() -> None:
    content = zip_of(Part(A, local={"crc": 5}, central={"crc": 5}))
    assert contents(content, deep=False) == {"a.txt": b"content\n"}
    assert rule(zip_of(Part(A, LOTS, 8, local={"crc": 5}, central={"crc": 5})), deep=False) == "crc"


def test_stored_members_are_slices() -> None:
    content = memoryview(zip_of(Part(A, LOTS)))
    scope = scope_of()
    archive = open_zip(content, scope, "zip")
    assert archive.content(archive.entries[0], scope).obj is content.obj
    assert scope.budget.unpacked_bytes == scope.settings.max_unpacked_bytes


WHOLE = zip_of(described(Part(A, LOTS, 8)), Part(B, extra=b"FB\3\0ZZZ"), Part(b"d/", b""), wide={}, text=b"text")
MEANINGLESS = 4 + 2 + 2
"""Bytes of a header that no reader acts on: times, and who made it."""


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_changes_nothing(place: int, mask: int) -> None:
    broken = bytearray(WHOLE)
    broken[place] ^= mask
    try:
        found = contents(bytes(broken))
    except Refuse:
        return
    assert list(found.values()) == [LOTS, b"content\n"]
    with zipfile.ZipFile(io.BytesIO(broken)) as archive:
        assert {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")} == found


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_any_bytes_are_read_or_refused(junk: bytes, begin: int, end: int) -> None:
    for content in (WHOLE[:begin] + junk + WHOLE[end:], junk + WHOLE[-40:], junk):
        rule(content)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{4,6}){0,2}", fullmatch=True), st.binary(max_size=200), max_size=6),
    st.sampled_from([0, 8]),
)
def test_what_is_written_is_read(members: dict[str, bytes], method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    found = rule(file.getvalue())
    if not found:
        assert contents(file.getvalue()) == members
    else:
        assert found == "duplicate-name"
