"""Manifests: one spelling, all of the content, and every flipped bit found."""

import hashlib
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vouchgate.evidence.merkle import (
    FileEntry,
    Manifest,
    Part,
    chunk_ranges,
    compare,
    content_digest,
    manifest_digest,
    merkle_root,
    read_manifest,
    write_manifest,
)
from vouchgate.evidence.tensor_ranges import header_bytes, tensor_ranges
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import InvalidInput

CHUNK = 4


def entry(path, data, cuts=()):
    edges = [0, *cuts, len(data)]
    parts = tuple(
        Part(
            name=f"t{begin}" if cuts else "",
            begin=begin,
            end=end,
            chunks=tuple(hashlib.sha256(data[a:b]).hexdigest() for a, b in chunk_ranges(begin, end, CHUNK)),
        )
        for begin, end in itertools.pairwise(edges)
    )
    return FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest(), parts=parts)


def manifest(**files):
    return Manifest(chunk_bytes=CHUNK, files=tuple(entry(path, data) for path, data in sorted(files.items())))


def test_the_roots_are_those_of_rfc_6962():
    """Recursive definition of section 2.1, written down apart from the implementation."""

    def mth(leaves):
        if not leaves:
            return hashlib.sha256(b"").digest()
        if len(leaves) == 1:
            return hashlib.sha256(b"\0" + leaves[0]).digest()
        k = 1
        while k * 2 < len(leaves):
            k *= 2
        return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()

    for count in range(40):
        leaves = [bytes([one]) for one in range(count)]
        assert merkle_root(leaves) == mth(leaves)


@given(st.binary(max_size=40), st.integers(min_value=0))
def test_any_flipped_bit_is_found_and_placed(data, at):
    before = manifest(a=data, b=b"12345")
    assert read_manifest(write_manifest(before)) == before
    if not data:
        return
    bit = at % (len(data) * 8)
    wrong = bytearray(data)
    wrong[bit // 8] ^= 1 << bit % 8
    after = manifest(a=bytes(wrong), b=b"12345")
    (change,) = compare(before, after)
    assert change.path == "a" and change.begin <= bit // 8 < change.end
    assert manifest_digest(before) != manifest_digest(after) and content_digest(before) != content_digest(after)


def test_files_that_come_go_or_are_renamed_are_told():
    before, after = manifest(a=b"1", b=b"2"), manifest(a=b"1", c=b"2")
    assert [(one.kind, one.path) for one in compare(before, after)] == [("removed", "b"), ("added", "c")]
    assert manifest_digest(before) != manifest_digest(after)


def test_the_same_bytes_parted_otherwise_are_another_manifest():
    one, two = (Manifest(chunk_bytes=CHUNK, files=(entry("", b"12345678", cuts),)) for cuts in ((3,), (4,)))
    assert manifest_digest(one) != manifest_digest(two)
    assert content_digest(one).text == file_digest(b"12345678").text
    with pytest.raises(InvalidInput, match="different sizes"):
        compare(one, replace(two, chunk_bytes=8))


GOOD = manifest(a=b"1234567", b=b"x")
A, B = GOOD.files
PART = A.parts[0]


def with_parts(*parts):
    return replace(GOOD, files=(replace(A, parts=parts), B))


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, type="other"),
        replace(GOOD, files=()),
        replace(GOOD, chunk_bytes=0),
        replace(GOOD, chunk_bytes=1 << 40),
        replace(GOOD, files=(B, A)),
        replace(GOOD, files=(A, A)),
        replace(GOOD, files=(replace(A, path="../a"), B)),
        replace(GOOD, files=(replace(A, path="/a"), B)),
        replace(GOOD, files=(replace(A, path=""), B)),
        replace(GOOD, files=(replace(A, path="a//a"), B)),
        replace(GOOD, files=(replace(A, path="a\0"), B)),
        replace(GOOD, files=(replace(A, sha256="00"), B)),
        replace(GOOD, files=(replace(A, size=8), B)),
        with_parts(),
        with_parts(replace(PART, begin=1)),
        with_parts(replace(PART, end=6)),
        with_parts(replace(PART, chunks=PART.chunks[:1])),
        with_parts(replace(PART, chunks=("zz", PART.chunks[1]))),
        with_parts(PART, replace(PART, begin=7, end=7, chunks=())),
    ],
)
def test_what_is_no_manifest_is_refused(bad):
    with pytest.raises(InvalidInput):
        write_manifest(bad)
    with pytest.raises(InvalidInput):
        read_manifest(msgspec.json.encode(bad))


def test_another_spelling_is_refused():
    data = write_manifest(GOOD)
    for other in (
        data.replace(b",", b", ", 1),
        data[:-1] + b',"type":"x"}',
        data + b"\n",
        b"{}",
        b"[" * 5000,
        data.replace(b"{", b'{"x":1,', 1),
    ):
        with pytest.raises(InvalidInput):
            read_manifest(other)


def header(entries, pad=0):
    body = msgspec.json.encode(entries) + b" " * pad
    return len(body).to_bytes(8, "little") + body


def tensor(begin, end):
    return {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}


def test_tensors_are_parts_only_where_they_tile_the_file():
    head = header({"__metadata__": {"a": "b"}, "y": tensor(4, 6), "x": tensor(0, 4), "z": tensor(6, 6)})
    assert header_bytes(head[:9], len(head) + 6) == len(head)
    names = [(name, end - begin) for name, begin, end in tensor_ranges(head, len(head) + 6)]
    assert names == [("", len(head)), ("x", 4), ("y", 2), ("z", 0)]
    assert tensor_ranges(head, len(head) + 7) == ()
    gaps = ({"x": tensor(1, 4)}, {"x": tensor(0, 4), "y": tensor(3, 6)}, {"x": 1}, {"": tensor(0, 6)}, {"x": tensor(6, 0)})
    assert all(tensor_ranges(header(one), len(header(one)) + 6) == () for one in gaps)
    assert header_bytes(b"\xff" * 8 + b"{", 1000) == header_bytes(b"\0" * 8 + b"{", 9) == header_bytes(b"", 0) == 0
    assert tensor_ranges(b"\0" * 8 + b'{"a":' * 5000, 99) == ()
