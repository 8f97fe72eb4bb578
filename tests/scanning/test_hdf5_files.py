"""HDF5 as h5py writes it, with old and new indexes, and what breaks it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from vouchgate.scanning.hdf5 import Dataset, open_hdf5
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Refuse

SAMPLES = Path(__file__).parent / "samples"
NAMES = ("arrays-earliest.h5", "arrays-latest.h5")
NUMBERS = struct.pack("<120f", *range(120))
EXPECTED = {
    "paged": NUMBERS * 20, "filled": struct.pack("<f", 1.5) * 120,
    **dict.fromkeys(("whole", "again", "single", "fixed", "filtered", "tree", "tree_filtered"), NUMBERS),
}  # fmt: skip


class Purse:
    """Pays for everything."""

    def spend_bytes(self, name: str, count: int) -> None:
        assert name
        assert count >= 0


PURSE: Any = Purse()


def datasets(name: str) -> dict[str, Dataset]:
    return {one.path.rpartition("/")[2]: one for one in open_hdf5(memoryview((SAMPLES / name).read_bytes()), "t").datasets}


@pytest.mark.parametrize("name", NAMES)
def test_every_index_leads_to_the_same_numbers(name: str) -> None:
    raw = (SAMPLES / name).read_bytes()
    assert (scan(raw).format, scan(raw).outcome) == ("keras-h5", "clean")
    file = open_hdf5(memoryview(raw), "t")
    found = {one.path.rpartition("/")[2]: bytes(file.content(one, PURSE)) for one in file.datasets}
    assert len(found) == 8
    assert found == {key: EXPECTED[key] for key in found}
    assert file.soft_links == 1


def test_the_newer_file_has_the_newer_indexes() -> None:
    assert {name: one.layout.index for name, one in datasets(NAMES[1]).items() if one.layout.kind == 2} == {
        "single": 1, "fixed": 3, "filtered": 3, "paged": 3, "tree": 5, "tree_filtered": 5, "filled": 3,
    }  # fmt: skip


def test_a_link_to_another_file_is_refused() -> None:
    assert [one.rule for one in scan((SAMPLES / "arrays-elsewhere.h5").read_bytes()).reasons] == ["keras-h5:external-link"]


@pytest.mark.parametrize("name", NAMES)
def test_a_corrupt_chunk_is_refused_when_it_is_read(name: str) -> None:
    raw = bytearray((SAMPLES / name).read_bytes())
    dataset = datasets(name)["single"]
    raw[dataset.chunks[0].address] ^= 0xFF
    file = open_hdf5(memoryview(raw), "t")
    with pytest.raises(Refuse) as refused:
        file.content(next(one for one in file.datasets if one.path.endswith("single")), PURSE)
    assert refused.value.reason.rule == "hdf5:chunk"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", range(1, 16))
def test_no_part_of_a_file_is_clean(name: str, part: int) -> None:
    raw = (SAMPLES / name).read_bytes()
    assert scan(raw[: len(raw) * part // 16]).outcome == "refused"
    assert scan(raw + b"\0" * part).outcome == "refused"


@pytest.mark.parametrize("signature", [b"FAHD", b"FADB", b"BTHD", b"OHDR", b"TREE", b"SNOD", b"HEAP"])
@pytest.mark.parametrize("byte", [0, 4, 5])
def test_a_block_that_is_not_what_it_says(signature: bytes, byte: int) -> None:
    for name in NAMES:
        raw = bytearray((SAMPLES / name).read_bytes())
        place = raw.find(signature)
        if place >= 0 and not (signature in (b"SNOD", b"HEAP") and byte == 5) and not (signature == b"OHDR" and byte == 5):
            raw[place + byte] ^= 0x55
            assert scan(bytes(raw)).outcome == "refused", (name, signature)
