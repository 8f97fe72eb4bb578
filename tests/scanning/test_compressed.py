"""Compressed streams: whole, of one kind, paid for before they are unpacked."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
import pytest
import zstandard
from archive_making import Inside, rule_of, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.scanning import compressions
from vouchgate.scanning.compressions import packer_of, unpack
from vouchgate.scanning.formats import compressed
from vouchgate.scanning.scan import scan
from vouchgate.scanning.sight import Sight

TEXT = b"plain words, and some more of them\n" * 60

NOISE = b"".join(hashlib.sha256(b"%d" % place).digest() for place in range(4_000))
"""Does not pack: more than what is looked at to recognise a stream."""


def gz(data: bytes, flags: int = 0, fields: bytes = b"") -> bytes:
    """A gzip member with these header fields."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(4) + b"\0\xff" + fields + body + struct.pack("<2L", zlib.crc32(data), len(data))


def zstd(data: bytes, **more: Any) -> bytes:
    return zstandard.ZstdCompressor(**more).compress(data)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lz4.frame.compress,
    "zstd": zstd,
}
SEVERAL = ("gzip", "bzip2", "xz", "lz4", "zstd")


def unpacked(content: bytes, **bounds: Any) -> bytes:
    return bytes(unpack(memoryview(content), packer_of(content[:65_536]), scope_of(**bounds), "compressed"))


def rule(content: bytes, **bounds: Any) -> str:
    return rule_of(lambda: unpacked(content, **bounds)).removeprefix("compressed:")


@pytest.mark.parametrize("packer", PACK)
@pytest.mark.parametrize("data", [TEXT, bytes(3_000_000), bytes(range(256)) * 5_000], ids=["text", "zeros", "bytes"])
def test_what_the_libraries_write(packer: str, data: bytes) -> None:
    content = PACK[packer](data)
    assert packer_of(content[:65_536]) == packer
    assert unpacked(content) == data


@pytest.mark.parametrize("packer", SEVERAL)
def test_several_frames_are_one_stream(packer: str) -> None:
    assert unpacked(b"".join(PACK[packer](part) for part in (TEXT, b"", b"more"))) == TEXT + b"more"


@pytest.mark.parametrize("packer", PACK)
def test_bytes_behind_are_refused(packer: str) -> None:
    for junk in (b"\0", b"junk behind the stream", bytes(512), PACK[packer](TEXT)[:4]):
        assert rule(PACK[packer](TEXT) + junk) in ("trailing-bytes", "truncated", "damaged", "header"), junk
    if packer not in SEVERAL:
        assert rule(PACK[packer](TEXT) * 2) == "trailing-bytes"


@pytest.mark.parametrize("packer", PACK)
def test_a_stream_that_does_not_end_is_refused(packer: str) -> None:
    content = PACK[packer](TEXT)
    for end in (len(content) - 1, len(content) // 2):
        assert rule(content[:end]) in ("truncated", "damaged"), end


@pytest.mark.parametrize("packer", ["gzip", "zlib", "bzip2", "xz"])
def test_checksums_inside_are_held(packer: str) -> None:
    content = bytearray(PACK[packer](NOISE))
    content[-6 if packer != "zlib" else -2] ^= 1
    assert rule(bytes(content)) in ("damaged", "truncated", "trailing-bytes")


GZIP_GOOD = [
    gz(TEXT),
    gz(TEXT, 8, b"name.txt\0"),
    gz(TEXT, 16, b"a comment\0"),
    gz(TEXT, 4, b"\x06\0BC\2\0\x1b\0"),
    gz(TEXT, 24, b"n\0c\0"),
]
GZIP_BAD = [
    ("header", gz(TEXT, 0xE0)),
    ("header", gz(TEXT, 4, b"\x07\0payload")),
    ("header", gz(TEXT, 8, b"\x80\x04cos\nsystem\0")),
    ("header", gz(TEXT, 16, b"c" * 5_000 + b"\0")),
    ("header", b"\x1f\x8b\x07" + gz(TEXT)[3:]),
    ("header", gz(TEXT) + gz(b"x", 8, b"\x1b[2J\0")),
]


def test_gzip_headers() -> None:
    assert [unpacked(content) for content in GZIP_GOOD] == [TEXT] * len(GZIP_GOOD)
    assert [rule(content) for _, content in GZIP_BAD] == [expected for expected, _ in GZIP_BAD]


def test_zstandard_frames() -> None:
    assert unpacked(zstd(TEXT, write_content_size=False, write_checksum=True)) == TEXT
    assert unpacked(zstd(b"")) == b""
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<L", 4) + b"hide"
    assert rule(zstd(TEXT) + skippable) == "trailing-bytes"
    assert packer_of(skippable + zstd(TEXT)) == ""
    broken = bytearray(zstd(TEXT))
    broken[4] |= 1  # a dictionary's id
    assert rule(bytes(broken)) in ("header", "truncated")
    broken = bytearray(zstd(TEXT, write_checksum=True))
    broken[-1] ^= 1
    assert rule(bytes(broken)) == "damaged"


def test_a_window_over_the_bound_is_refused() -> None:
    frame = bytearray(zstd(TEXT * 10, write_content_size=False))
    frame[5] = 0xFF  # the window's descriptor: 3.75 TiB
    assert rule(bytes(frame)) == "damaged"


def test_bombs_are_paid_for_before_they_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(20 * 1024**2))
    assert rule(bomb) == ""
    assert rule_of(lambda: unpacked(bomb, max_unpacked_bytes=10 * 1024**2)) == "scan:bomb"
    assert rule(bomb, max_unpacked_member=10 * 1024**2) == "bomb"
    with monkeypatch.context() as patch:
        patch.setattr(compressions, "RATIO_FLOOR", 1024**2)
        assert rule(bz2.compress(bytes(4 * 1024**2))) == "bomb"
    for packer in ("xz", "zstd", "lz4", "bzip2"):
        assert rule(PACK[packer](bytes(4 * 1024**2)), max_unpacked_member=2 * 1024**2) == "bomb", packer


def test_many_small_frames_are_read_in_their_own_size() -> None:
    content = gzip.compress(b"x") * 30_000
    assert unpacked(content) == b"x" * 30_000
    assert rule(gzip.compress(b"") * 100_001) == "too-many-frames"


def test_nothing_is_claimed_that_is_no_stream() -> None:
    for content in (
        b"",
        b"x\x9c",
        b"h\x81garbage",
        b"BZhello",
        b"]\0\0",
        b"(S'text'\np0\n.",
        b"plain words",
        b"\x1f\x8c",
        b"x\x9c" + b"\xff" * 50,
    ):
        assert packer_of(content) == "", content
    assert compressed.recognise(Sight(memoryview(b"plain"))).strength == "no"


def test_what_is_inside_is_scanned() -> None:
    inside = Inside()
    content = gzip.compress(TEXT)
    reading = compressed.read(Sight(memoryview(content)), scope_of(inside))
    assert inside == [("unpacked", TEXT)]
    assert reading.covered == len(content)
    assert reading.facts == {"packer": "gzip", "unpacked": len(TEXT)}


@pytest.mark.parametrize("packer", PACK)
def test_a_payload_inside_is_refused_and_text_is_clean(packer: str) -> None:
    assert scan(PACK[packer](TEXT)).outcome == "clean"
    verdict = scan(PACK[packer](b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."))
    assert (verdict.outcome, verdict.format, verdict.reasons[0].member) == ("refused", "compressed", "unpacked")


def test_too_deep_and_empty() -> None:
    content = TEXT
    for _ in range(10):
        content = gzip.compress(content)
    assert [reason.rule for reason in scan(content).reasons] == ["scan:too-deep"]
    assert scan(gzip.compress(b"")).outcome == "clean"


def test_without_the_library_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, packer in (("zstandard", "zstd"), ("lz4.frame", "lz4")):
        monkeypatch.setitem(sys.modules, name, None)
        verdict = scan(PACK[packer](TEXT))
        assert (verdict.outcome, verdict.reasons[0].rule) == ("incomplete", "compressed:no-library")
        assert "vouchgate[scan]" in verdict.reasons[0].remedy


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(PACK)), st.integers(0, 200), st.integers(1, 255), st.binary(max_size=20))
def test_any_bytes_are_unpacked_or_refused(packer: str, place: int, mask: int, junk: bytes) -> None:
    content = bytearray(PACK[packer](TEXT))
    content[place % len(content)] ^= mask
    for changed in (bytes(content), bytes(content) + junk, bytes(content[: place % len(content)]) + junk):
        if packer_of(changed[:65_536]):
            rule(changed)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(PACK)), st.binary(max_size=2_000))
def test_what_is_packed_is_unpacked(packer: str, data: bytes) -> None:
    content = PACK[packer](data)
    found = packer_of(content)
    assert found == packer or (packer in ("zlib", "lzma") and not data)
    if found:
        assert unpacked(content) == data


def test_streams_written_piece_by_piece() -> None:
    file = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as writer:
        for _ in range(50):
            writer.write(TEXT)
            writer.flush()
    assert unpacked(file.getvalue()) == TEXT * 50
    packer = zlib.compressobj(wbits=31)
    assert unpacked(packer.compress(TEXT) + packer.flush(zlib.Z_FULL_FLUSH) + packer.compress(TEXT) + packer.flush()) == TEXT * 2
