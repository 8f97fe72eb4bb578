"""A tar is read only where every reader reads it alike: one thing broken per case, and what real writers write."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from archive_making import Block, pax, pax_record, rule_of, scope_of, tar_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.scanning.tars import Tar, is_tar, listed, open_tar
from vouchgate.scanning.verdict import Refuse

A, B = b"a.txt", b"folder/b.bin"
LONG = b"folder/" + b"n" * 150
GNU = b"ustar  \x00"


def opened(content: bytes, **bounds: Any) -> Tar:
    return open_tar(memoryview(content), scope_of(**bounds), "tar")


def contents(content: bytes, **bounds: Any) -> dict[str, bytes]:
    archive = opened(content, **bounds)
    assert archive.covered == len(content)
    return {member.name: bytes(archive.content(member)) for member in archive.files}


def rule(content: bytes, **bounds: Any) -> str:
    return rule_of(lambda: contents(content, **bounds)).removeprefix("tar:")


def by_python(form: int, **members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000.25  # type: ignore[assignment]
            archive.addfile(info, io.BytesIO(data))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return file.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(form: int) -> None:
    members = {"a.txt": b"x" * 700, "d/é.bin": b"", "d/" + "p" * 90 + "/" + "n" * 90: b"y"}
    assert contents(by_python(form, **members)) == members
    if form != tarfile.USTAR_FORMAT:
        longer = {"q" * 300: b"z"}
        assert contents(by_python(form, **longer)) == longer


GOOD: list[tuple[str, bytes, dict[str, bytes]]] = [
    ("an empty archive", bytes(10_240), {}),
    ("one file", tar_of(Block(A)), {"a.txt": b"content\n"}),
    ("an old header", tar_of(Block(A, magic=bytes(8), kind=b"\0", says={"owner": b"", "group": b""})), {"a.txt": b"content\n"}),
    ("a GNU header", tar_of(Block(A, magic=GNU)), {"a.txt": b"content\n"}),
    ("a size in binary", tar_of(Block(A, magic=GNU, says={"size": b"\x80" + bytes(10) + b"\x08"})), {"a.txt": b"content\n"}),
    ("a folder of old", tar_of(Block(b"d/", b"", kind=b"\0"), Block(b"d/x")), {"d/x": b"content\n"}),
    ("a prefix", tar_of(Block(A, says={"prefix": b"some/where"})), {"some/where/a.txt": b"content\n"}),
    ("a dot in front", tar_of(Block(b"./", b"", kind=b"5"), Block(b"./a.txt")), {"a.txt": b"content\n"}),
    ("a GNU long name", tar_of(Block(b"././@LongLink", LONG + b"\0", b"L", GNU), Block(LONG[:100], magic=GNU)), {LONG.decode(): b"content\n"}),
    ("a pax long name", tar_of(pax((b"path", LONG)), Block(LONG[:100])), {LONG.decode(): b"content\n"}),
    ("pax times and owners", tar_of(pax((b"mtime", b"1.5"), (b"uname", b"me"), (b"uid", b"9999999999")), Block(A)), {"a.txt": b"content\n"}),
    ("a pax size that is the same", tar_of(pax((b"size", b"8")), Block(A)), {"a.txt": b"content\n"}),
    ("a global comment", tar_of(pax((b"comment", b"0123abcd"), kind=b"g"), Block(A)), {"a.txt": b"content\n"}),
    ("what macOS notes", tar_of(pax((b"LIBARCHIVE.xattr.com.apple.provenance", b"AQAA\n")), Block(A)), {"a.txt": b"content\n"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "content", "expected"), GOOD, ids=[what for what, _, _ in GOOD])
def test_allowed(what: str, content: bytes, expected: dict[str, bytes]) -> None:
    assert contents(content) == expected, what


SMUGGLED = Block(b"hidden.pkl").written()
BAD: list[tuple[str, bytes, str]] = [
    ("cut in a header", tar_of(Block(A))[:600], "truncated"),
    ("no end", tar_of(Block(A), end=b""), "truncated"),
    ("half an end", tar_of(Block(A), end=bytes(512)), "truncated"),
    ("an end of no whole blocks", tar_of(Block(A), end=bytes(1_100)), "truncated"),
    ("a size beyond the end", tar_of(Block(A, says={"size": b"00000070000\0"})), "truncated"),
    ("bytes behind the end", tar_of(Block(A), end=bytes(1024) + b"x" + bytes(511)), "trailing-bytes"),
    ("a second archive behind", tar_of(Block(A)) + tar_of(Block(B)), "trailing-bytes"),
    ("a member behind one block of zeros", tar_of(Block(A), end=bytes(512) + SMUGGLED + bytes(1024)), "trailing-bytes"),
    ("padding that is none", tar_of(Block(A, padding=b"x" * 504)), "padding"),
    ("a wrong checksum", tar_of(Block(A, says={"sum": b"0000001\0"})), "checksum"),
    ("an old checksum", tar_of(Block("é".encode(), sum_of="signed")), "checksum"),
    ("another magic", tar_of(Block(A, magic=b"ustar\x0001")), "header"),
    ("bytes behind the name", tar_of(Block(b"a.txt\0../../x")), "header"),
    ("bytes behind the owner", tar_of(Block(A, says={"owner": b"me\0payload"})), "header"),
    ("bytes behind the prefix", tar_of(Block(A, says={"prefix": b"d\0e"})), "header"),
    ("bytes at the end of a header", tar_of(Block(A, says={"rest": b"payload"})), "header"),
    ("a prefix in an old header", tar_of(Block(A, magic=bytes(8), says={"prefix": b"../.."})), "header"),
    ("sparse parts in a GNU header", tar_of(Block(A, magic=GNU, says={"prefix": b"0" * 24 + b"x" * 40})), "header"),
    ("a size that is no number", tar_of(Block(A, says={"size": b"12 34"})), "header"),
    ("a size with something behind", tar_of(Block(A, says={"size": b"00000000010\0"[:8] + b"\0abc"})), "header"),
    ("a negative size", tar_of(Block(A, says={"size": b"\xff" * 12})), "header"),
    ("a mode that is no number", tar_of(Block(A, says={"mode": b"rwxrwxrw"})), "header"),
    ("a symbolic link", tar_of(Block(A, b"", b"2", says={"link": b"/etc/passwd"})), "special-file"),
    ("a hard link", tar_of(Block(A, b"", b"1", says={"link": b"a"})), "special-file"),
    ("a character device", tar_of(Block(A, b"", b"3")), "special-file"),
    ("a block device", tar_of(Block(A, b"", b"4")), "special-file"),
    ("a pipe", tar_of(Block(A, b"", b"6")), "special-file"),
    ("a sparse file", tar_of(Block(A, b"", b"S", GNU)), "special-file"),
    ("a continued file", tar_of(Block(A, b"", b"M", GNU)), "special-file"),
    ("a long link", tar_of(Block(A, b"/etc/passwd\0", b"K", GNU), Block(A)), "special-file"),
    ("a dump of a folder", tar_of(Block(A, b"", b"D", GNU)), "special-file"),
    ("a vendor's type", tar_of(Block(A, b"", b"Z")), "special-file"),
    ("a file with a link's target", tar_of(Block(A, says={"link": b"/etc/passwd"})), "special-file"),
    ("a folder with bytes", tar_of(Block(b"d", kind=b"5")), "special-file"),
    ("a folder by its name, with bytes", tar_of(Block(b"d/")), "special-file"),
    ("absolute", tar_of(Block(b"/etc/x")), "name"),
    ("out of the folder", tar_of(Block(b"../x")), "name"),
    ("out of the folder by a dot in front", tar_of(Block(b"./../x")), "name"),
    ("two dots in front", tar_of(Block(b"././x")), "name"),
    ("a dot inside", tar_of(Block(b"d/./x")), "name"),
    ("a backslash", tar_of(Block(b"d\\x")), "name"),
    ("a drive", tar_of(Block(b"C:x")), "name"),
    ("no UTF-8", tar_of(Block(b"\xff\xfe")), "name"),
    ("no name", tar_of(Block(b"")), "name"),
    ("a control character", tar_of(Block(b"a\x1b[2Jb")), "name"),
    ("out of the folder by a long name", tar_of(Block(b"L", b"../" * 50 + b"x\0", b"L", GNU), Block(A, magic=GNU)), "name"),
    ("out of the folder by pax", tar_of(pax((b"path", b"../x")), Block(A)), "name"),
    ("out of the folder by the prefix", tar_of(Block(A, says={"prefix": b"d/.."})), "name"),
    ("one name twice", tar_of(Block(A), Block(A, b"other")), "duplicate-name"),
    ("one name twice, with a dot in front", tar_of(Block(A), Block(b"./a.txt")), "duplicate-name"),
    ("names that differ by case", tar_of(Block(A), Block(b"A.TXT")), "duplicate-name"),
    ("a file that is a folder", tar_of(Block(b"d"), Block(b"d/x")), "duplicate-name"),
    ("a pax size that differs", tar_of(pax((b"size", b"512")), Block(A, b"x" * 8), Block(B)), "size"),
    ("a pax size of nothing over a member", tar_of(pax((b"size", b"0")), Block(A, SMUGGLED + bytes(512))), "size"),
    ("a pax size that is no number", tar_of(pax((b"size", b"-1")), Block(A)), "pax"),
    ("a link's target by pax", tar_of(pax((b"linkpath", b"/etc/passwd")), Block(A)), "pax"),
    ("a sparse file by pax", tar_of(pax((b"GNU.sparse.major", b"1")), Block(A)), "pax"),
    ("another character set by pax", tar_of(pax((b"hdrcharset", b"BINARY")), Block(A)), "pax"),
    ("capabilities by pax", tar_of(pax((b"SCHILY.xattr.security.capability", b"\1")), Block(A)), "pax"),
    ("a name for all members", tar_of(pax((b"path", b"x"), kind=b"g"), Block(A)), "pax"),
    ("a size for all members", tar_of(pax((b"size", b"8"), kind=b"g"), Block(A)), "pax"),
    ("one pax key twice", tar_of(pax((b"path", b"x"), (b"path", b"y")), Block(A)), "pax"),
    ("a pax record without an end", tar_of(pax(raw=b"9 path=x."), Block(A)), "pax"),
    ("a pax record without a length", tar_of(pax(raw=b"path=x\n"), Block(A)), "pax"),
    ("a pax record of no length", tar_of(pax(raw=b"0 path=x\n"), Block(A)), "pax"),
    ("a pax record longer than its header", tar_of(pax(raw=b"99 path=x\n"), Block(A)), "pax"),
    ("a pax record with a sign", tar_of(pax(raw=b"+9 path=x\n"), Block(A)), "pax"),
    ("a pax name with a NUL", tar_of(pax((b"path", b"a\0b")), Block(A)), "long-name"),
    ("two long names", tar_of(pax((b"path", b"x")), Block(b"L", b"y\0", b"L", GNU), Block(A)), "long-name"),
    ("two pax headers that name", tar_of(pax((b"path", b"x")), pax((b"path", b"y")), Block(A)), "long-name"),
    ("a long name without an end", tar_of(Block(b"L", b"y", b"L", GNU), Block(A)), "long-name"),
    ("a long name with a NUL", tar_of(Block(b"L", b"y\0z\0", b"L", GNU), Block(A)), "long-name"),
    ("a long name of nothing", tar_of(Block(A), pax((b"path", b"x"))), "truncated"),
    ("a pax header without end", tar_of(pax((b"comment", b"x" * 2 * 1024**2)), Block(A)), "header-size"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "content", "expected"), BAD, ids=[what for what, _, _ in BAD])
def test_refused(what: str, content: bytes, expected: str) -> None:
    assert rule(content) == expected, what


def test_a_size_that_no_header_can_hold() -> None:
    """A pax size from 8 GiB on may differ from the member's own field; here there are no such bytes."""
    assert rule(tar_of(pax((b"size", b"9999999999")), Block(A, b""))) == "truncated"


def test_bounds() -> None:
    many = tar_of(*(Block(b"%d" % place, b"") for place in range(10)))
    assert rule(many, max_members=5) == ""
    assert rule(many, max_members=4) == "too-many-members"
    assert rule(tar_of(Block(b"n" * 90)), max_name_bytes=80) == "name"


def test_recognising() -> None:
    content = tar_of(Block(b"./a.txt"), Block(B))
    assert is_tar(memoryview(content))
    assert [name for name, _ in listed(memoryview(content), 10)] == ["a.txt", "folder/b.bin"]
    assert [name for name, _ in listed(memoryview(content), 1)] == ["a.txt"]
    assert [bytes(data) for _, data in listed(memoryview(content), 1)] == [b"content\n"]
    assert not is_tar(memoryview(bytes(1024)))
    assert not is_tar(memoryview(content[:511]))
    assert not is_tar(memoryview(b"x" * 1024))


WHOLE = tar_of(pax((b"path", LONG), (b"mtime", b"1.5")), Block(LONG[:100]), Block(b"d", b"", b"5"), Block(A, says={"prefix": b"p"}))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_in_the_data(place: int, mask: int) -> None:
    """Every header is under its checksum, and what is no header is data, a record's value, or zeros."""
    broken = bytearray(WHOLE)
    broken[place] ^= mask
    try:
        found = contents(bytes(broken))
    except Refuse:
        return
    assert len(found) == 2
    with tarfile.open(fileobj=io.BytesIO(broken)) as archive:
        assert {member.name: archive.extractfile(member).read() for member in archive if member.isfile()} == found  # type: ignore[union-attr]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=700), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_any_bytes_are_read_or_refused(junk: bytes, begin: int, end: int) -> None:
    for content in (WHOLE[:begin] + junk + WHOLE[end:], junk, junk + bytes(1024)):
        rule(content)
        listed(memoryview(content), 100)


@given(st.binary(max_size=120).filter(lambda value: b"\0" not in value))
def test_records_are_read_as_written(value: bytes) -> None:
    assert rule(tar_of(pax((b"comment", value)), Block(A))) == ""
    assert pax_record(b"comment", value).startswith(b"%d " % len(pax_record(b"comment", value)))
