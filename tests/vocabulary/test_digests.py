"""Digests: one text for one content, and no structure passes for a file."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.vocabulary.digests import Digest, file_digest, parse_digest, structure_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput

HEX = "0123456789abcdef" * 4
KINDS = ("tree", "manifest", "composite")


@given(st.sampled_from(("file", *KINDS)), st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**53))
def test_read_and_written_is_the_same(kind: str, value: str, size: int) -> None:
    made = Digest(value=value, kind=kind, size=size)  # type: ignore[arg-type]
    assert parse_digest(made.text, size=size) == made


@given(st.binary(max_size=200))
def test_a_files_digest_is_the_plain_hash(data: bytes) -> None:
    assert file_digest(data).text == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert file_digest(data).size == len(data)


@given(st.binary(max_size=200))
def test_no_kind_passes_for_another(data: bytes) -> None:
    made = [file_digest(data), *(structure_digest(kind, data) for kind in KINDS)]  # type: ignore[arg-type]
    assert len({one.value for one in made}) == len({one.text for one in made}) == 4


@pytest.mark.parametrize(
    "text",
    [
        "", "sha256:", HEX, f"sha256:{HEX}\n", f" sha256:{HEX}", f"sha256:{HEX.upper()}", f"SHA256:{HEX}", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0",
        f"sha256-file:{HEX}", f"sha256-:{HEX}", f"sha256-Tree:{HEX}", f"sha512:{HEX}", f"sha256:{HEX[:-1]}g", f"sha256:{HEX[:-1]}\u0661",
        f"sha256:0x{HEX[2:]}", f"md5:{HEX[:32]}", f"sha256:{HEX},sha256:{HEX}",
    ],
)  # fmt: skip
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_digest(text)


def test_a_file_is_not_hashed_as_a_structure() -> None:
    with pytest.raises(InvalidInput):
        structure_digest("file", b"")


TREES = st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=8), max_size=6)


@given(TREES, TREES, st.randoms())
def test_two_trees_have_one_name_only_if_they_are_the_same(
    one: dict[bytes, bytes], other: dict[bytes, bytes], chance: random.Random
) -> None:
    def named(tree: dict[bytes, bytes]) -> Digest:
        files = [(path, file_digest(content)) for path, content in tree.items()]
        chance.shuffle(files)
        return tree_digest(files)

    assert (named(one) == named(other)) == (one == other)
    assert named(one).size == sum(map(len, one.values()))
    assert named(one).text.startswith("sha256-tree:")


def test_a_tree_names_each_file_once_and_only_files() -> None:
    with pytest.raises(InvalidInput):
        tree_digest([(b"a", file_digest(b"x")), (b"a", file_digest(b"x"))])
    with pytest.raises(InvalidInput):
        tree_digest([(b"a", tree_digest([]))])
