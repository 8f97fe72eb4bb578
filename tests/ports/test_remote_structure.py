"""What a structure scan fetches: the same verdict as of the whole file, from a small part of it, and never a clean one."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import save

from vouchgate.ports.http import Answer
from vouchgate.ports.remote_ranges import RANGE_BYTES, RemoteObject
from vouchgate.ports.remote_structure import HEAD_BYTES, TAIL_BYTES, parts_of
from vouchgate.scanning.scan import scan

MIB = 1024 * 1024


class Held:
    """A server that answers with ranges of these bytes."""

    def __init__(self, content: bytes) -> None:
        self.content, self.asked = content, list[tuple[int, int]]()

    async def ask(self, method: str, url: str, headers: Mapping[str, str], max_bytes: int) -> Answer:
        assert (method, url) == ("GET", "https://x/y")
        begin, _, last = headers["range"].removeprefix("bytes=").partition("-")
        span = int(begin), int(last) + 1
        assert span[1] - span[0] <= min(max_bytes, RANGE_BYTES)
        self.asked.append(span)
        told = {"content-range": f"bytes {span[0]}-{span[1] - 1}/{len(self.content)}"}
        return Answer(206, told, self.content[slice(*span)])

    def parts(self) -> tuple[bytes, int]:
        descriptor, missing = parts_of(RemoteObject("https://x/y", len(self.content), "", self.ask, lambda count, size: None))
        try:
            return os.pread(descriptor, len(self.content) + 1, 0), missing
        finally:
            os.close(descriptor)


def torch_zip(
    *, storages: int = 3, size: int = MIB, compression: int = zipfile.ZIP_STORED, extra: bytes = b"", folder: str = "model"
) -> bytes:
    """What `torch.save` writes for tensors: a pickle of references, and storages beside it."""
    pickled = b"\x80\x02}("
    for number in range(storages):
        key = str(number).encode()
        pickled += b"X" + struct.pack("<I", len(key)) + key
        pickled += b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nByteStorage\n"
        pickled += b"X" + struct.pack("<I", len(key)) + key + b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", size) + b"tQK\x00J"
        pickled += struct.pack("<i", size) + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    members = {"data.pkl": pickled + b"u.", "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{number}": bytes((number + 1,)) * size for number in range(storages)}
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", compression) as archive:
        for name, content in members.items():
            one = zipfile.ZipInfo(f"{folder}/{name}")
            one.compress_type, one.extra = compression, extra
            archive.writestr(one, content)
    return held.getvalue()


def streamed() -> bytes:
    """An archive whose writer could not go back: sizes stand behind each member."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    held, source = Pipe(), zipfile.ZipFile(io.BytesIO(torch_zip()))
    with zipfile.ZipFile(held, "w") as archive:
        for one in source.namelist():
            archive.writestr(one, source.read(one))
    return held.getvalue()


def wide(content: bytes) -> bytes:
    """The same archive as one over 4 GiB would end: with Zip64 records."""
    end = len(content) - 22
    count, length, begin = struct.unpack_from("<HLL", content, end + 10)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, begin)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    return content[:end] + record + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


SMALL_PART = {
    "safetensors": save({"w": np.ones(4 * MIB, np.uint8), "v": np.ones(7, np.int64)}),
    "safetensors with a long header": save({f"layer.{number}.weight": np.ones(400, np.uint8) for number in range(6_000)}),
    "a torch zip": torch_zip(),
    "a torch zip with padded headers": torch_zip(extra=struct.pack("<2H", 0x4246, 3_000) + b"Z" * 3_000),
    "a torch zip that was streamed": streamed(),
    "a torch zip with Zip64 records": wide(torch_zip()),
}
HIDDEN = (b"\1" * (MIB - 8 - 72) + b"\x89HDF\r\n\x1a\n").ljust(2 * MIB, b"\1")
"""With a superblock at 1 MiB of the file, once a header of 72 bytes stands in front."""
SAME = SMALL_PART | {
    "a torch zip that is packed": torch_zip(compression=zipfile.ZIP_DEFLATED),
    "a torch zip of small storages": torch_zip(size=5),
    "a torch zip with a bad pickle": torch_zip().replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_vX"),
    "a torch zip with a storage too few": torch_zip().replace(b"model/data/1", b"model/data/9"),
    "a zip with numbers that nobody refers to": torch_zip(folder="m").replace(b"m/data.pkl", b"m/date.pkl"),
    "a zip with something in front": b"#!/bin/sh\n" * 20_000 + torch_zip(),
    "a zip with something behind": torch_zip() + b"\0" * 100_000,
    "a zip cut off": torch_zip()[:-30],
    "a safetensors with something behind": save({"w": np.ones(MIB, np.uint8)}) + b"PK\5\6" + b"\0" * 18,
    "a safetensors of a mad length": b"\xff" * 8 + b"{" + b"\0" * MIB,
    "a safetensors with an HDF5 file inside": save({"w": np.frombuffer(HIDDEN, np.uint8)}),
    "a pickle": b"cos\nsystem\n(S'true'\ntR." + b"\0" * MIB,
    "an array": b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '|u1', 'fortran_order': False, 'shape': (1048576,), }".ljust(117)
    + b"\n"
    + b"\1" * MIB,
    "nothing": b"",
    "one byte": b"{",
    "a head": b"{}" + b" " * (HEAD_BYTES - 2),
}


@pytest.mark.parametrize("name", SAME)
def test_the_structure_says_the_same_from_the_parts_as_from_the_whole(name: str) -> None:
    content = SAME[name]
    held, _ = Held(content).parts()
    assert len(held) == len(content)
    whole, parts = scan(content, deep=False), scan(held, deep=False)
    assert (parts.outcome, parts.format, parts.reasons) == (whole.outcome, whole.format, whole.reasons)
    assert parts.outcome != "clean"


@pytest.mark.parametrize("name", SMALL_PART)
def test_of_a_large_file_a_small_part_is_fetched_and_the_rest_is_told(name: str) -> None:
    server = Held(SMALL_PART[name])
    held, missing = server.parts()
    fetched = sum(end - begin for begin, end in server.asked)
    assert missing == len(held) - fetched
    assert missing > len(held) / 3
    assert fetched < HEAD_BYTES + TAIL_BYTES + 800_000
    kept = bytearray(len(held))
    for begin, end in server.asked:
        kept[begin:end] = server.content[begin:end]
    assert held == kept


def test_nothing_is_fetched_twice() -> None:
    for content in SAME.values():
        server = Held(content)
        server.parts()
        seen = sorted(server.asked)
        assert all(one[1] <= other[0] for one, other in pairwise(seen))
