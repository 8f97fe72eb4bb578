"""One checksum, whoever works it out."""

from __future__ import annotations

import random
import sys
import zlib

import pytest

from vouchgate.scanning import checksums
from vouchgate.scanning.checksums import PIECE_BYTES, crc32

RANDOM = random.Random(7)
CONTENT = RANDOM.randbytes(2 * PIECE_BYTES + 77)


@pytest.fixture(params=["installed", "zlib alone"])
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    checksums._fastest.cache_clear()
    if request.param == "zlib alone":
        monkeypatch.setitem(sys.modules, "isal", None)
        assert checksums._fastest() is zlib.crc32
    else:
        pytest.importorskip("isal")
        assert checksums._fastest() is not zlib.crc32
    request.addfinalizer(checksums._fastest.cache_clear)
    return str(request.param)


@pytest.mark.usefixtures("which")
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 255, 4_097, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, len(CONTENT)])
def test_it_is_the_checksum_of_all_of_it(size: int) -> None:
    for begin in (0, 1, 7, 64):
        part = memoryview(CONTENT)[begin : begin + size]
        assert crc32(part) == zlib.crc32(part)


@pytest.mark.usefixtures("which")
def test_each_flipped_byte_is_seen() -> None:
    content = bytearray(CONTENT[: 2 * PIECE_BYTES])
    right = crc32(memoryview(content))
    for at in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, len(content) - 1, *(RANDOM.randrange(len(content)) for _ in range(20))):
        content[at] ^= 1
        assert crc32(memoryview(content)) != right
        content[at] ^= 1
