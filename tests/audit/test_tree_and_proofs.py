"""The tree grows the same whatever the batches; proofs hold for every pair and nothing else."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog, numbered

from vouchgate.audit import proofs, tiles, tree
from vouchgate.audit.hashing import EMPTY_ROOT, leaf_hash, node_hash
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, StoreDamaged

BORDERS = [0, 1, 2, 3, 5, 8, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537]


def merkle(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, by its own recursion."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(merkle(leaves[:split]), merkle(leaves[split:]))


def test_known_roots() -> None:
    """Roots of the test vectors of RFC 6962's reference implementation (certificate-transparency `merkletree`)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    log = MemoryLog()
    assert tree.root(log.state) == EMPTY_ROOT
    for value, root in zip(inputs, roots, strict=True):
        log.add([bytes.fromhex(value)])
        assert tree.root(log.state).hex() == root


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=12))
def test_batches_do_not_matter(batches: list[int]) -> None:
    log, once = MemoryLog(), MemoryLog(numbered(sum(batches)))
    for count in batches:
        log.add(numbered(sum(batches))[log.size() : log.size() + count])
    assert (log.state, log.tiles) == (once.state, once.tiles)
    assert tree.root(log.state) == merkle([leaf_hash(row) for row in log.rows])
    assert tree.state_at(log.size(), log.tile) == log.state


@pytest.mark.parametrize("size", BORDERS)
def test_roots_and_widths_at_the_borders(size: int) -> None:
    log = MemoryLog(numbered(size))
    assert tree.root_at(size, log.tile) == merkle([leaf_hash(row) for row in log.rows])
    assert all(len(hashes) // 32 == tiles.tile_width(level, index, size) for (level, index), hashes in log.tiles.items())
    older = size * 2 // 3
    assert tree.root_at(older, log.tile) == merkle([leaf_hash(row) for row in log.rows[:older]])


@pytest.mark.parametrize("size", range(1, 40))
def test_every_proof_of_a_small_tree_holds(size: int) -> None:
    log = MemoryLog(numbered(size))
    root = tree.root(log.state)
    for index in range(size):
        path = proofs.inclusion_proof(index, size, log.tile)
        assert proofs.verify_inclusion(leaf_hash(log.rows[index]), index, size, path, root)
    for old in range(size + 1):
        path = proofs.consistency_proof(old, size, log.tile)
        assert proofs.verify_consistency(old, size, path, tree.root_at(old, log.tile), root)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_wrong_proofs_do_not_hold(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 600))
    log = MemoryLog(numbered(size))
    root = tree.root(log.state)
    index = data.draw(st.integers(0, size - 1))
    path = proofs.inclusion_proof(index, size, log.tile)
    leaf = leaf_hash(log.rows[index])
    other = data.draw(st.integers(0, size - 1).filter(lambda at: at != index))
    assert not proofs.verify_inclusion(leaf, other, size, path, root)
    assert not proofs.verify_inclusion(leaf_hash(log.rows[other]), index, size, path, root)
    at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
    flipped = path[at][: bit // 8] + bytes([path[at][bit // 8] ^ (1 << bit % 8)]) + path[at][bit // 8 + 1 :]
    assert not proofs.verify_inclusion(leaf, index, size, [*path[:at], flipped, *path[at + 1 :]], root)
    assert not proofs.verify_inclusion(leaf, index, size, path[:-1], root)
    assert not proofs.verify_inclusion(leaf, index, size, [*path, root], root)
    old = data.draw(st.integers(1, size - 1))
    grown = proofs.consistency_proof(old, size, log.tile)
    old_root = tree.root_at(old, log.tile)
    assert not proofs.verify_consistency(old, size, grown, root, root)
    assert not proofs.verify_consistency(old, size, grown[:-1], old_root, root)
    assert not proofs.verify_consistency(old, size, [*grown, root], old_root, root)
    assert not proofs.verify_consistency(old, size, [], old_root, root)
    rewritten = MemoryLog([*log.rows[: old - 1], b"forged", *log.rows[old:]])
    forged = proofs.consistency_proof(old, size, rewritten.tile)
    assert not proofs.verify_consistency(old, size, forged, old_root, tree.root(rewritten.state))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-2, 70), st.integers(-2, 70), st.lists(st.binary(max_size=33), max_size=70), st.binary(max_size=33), st.binary(max_size=33)
)
def test_any_values_give_an_answer(old: int, new: int, path: list[bytes], first: bytes, second: bytes) -> None:
    assert not proofs.verify_inclusion(first, old, new, path, second)
    holds = proofs.verify_consistency(old, new, path, first, second)
    assert not holds or (old == new and first == second)


def test_large_trees_by_sample() -> None:
    log = MemoryLog(numbered(70_000))
    root = tree.root(log.state)
    pick = random.Random(7)
    for _ in range(40):
        index, old = pick.randrange(70_000), pick.randrange(1, 70_000)
        assert proofs.verify_inclusion(leaf_hash(log.rows[index]), index, 70_000, proofs.inclusion_proof(index, 70_000, log.tile), root)
        path = proofs.consistency_proof(old, 70_000, log.tile)
        assert proofs.verify_consistency(old, 70_000, path, tree.root_at(old, log.tile), root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (9, 5)])
def test_an_index_outside_the_log_is_refused(index: int, size: int) -> None:
    with pytest.raises(InvalidInput):
        proofs.inclusion_proof(index, size, MemoryLog(numbered(5)).tile)


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_a_shrinking_log_has_no_consistency_proof(old: int, new: int) -> None:
    with pytest.raises(InvalidInput):
        proofs.consistency_proof(old, new, MemoryLog(numbered(6)).tile)


def test_missing_tiles_are_named() -> None:
    log = MemoryLog(numbered(300))
    del log.tiles[0, 1]
    with pytest.raises(StoreDamaged, match=r"tile/0/001\.p/44"):
        tree.root_at(300, log.tile)


@pytest.mark.parametrize(
    ("index", "width", "expected"),
    [(0, 256, "000"), (999, 256, "999"), (1000, 256, "x001/000"), (1_234_067, 256, "x001/x234/067"), (1_234_067, 12, "x001/x234/067.p/12")],
)
def test_tile_paths_are_those_of_the_specification(index: int, width: int, expected: str) -> None:
    assert tiles.tile_path(3, index, width) == f"tile/3/{expected}"
    assert tiles.bundle_path(index, width) == f"tile/entries/{expected}"


def test_the_specifications_example_of_70000_entries() -> None:
    log = MemoryLog(numbered(70_000))
    widths = [(level, len(hashes) // 32) for (level, _), hashes in log.tiles.items()]
    assert widths.count((0, 256)) == 273
    assert [width for level, width in widths if level == 0 and width < 256] == [112]
    assert sorted(width for level, width in widths if level == 1) == [17, 256]
    assert [width for level, width in widths if level == 2] == [1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=30))
def test_bundles_read_back(entries: list[bytes]) -> None:
    bundle = tiles.write_bundle(entries)
    assert tiles.read_bundle(bundle) == entries
    if bundle:
        with pytest.raises(StoreDamaged):
            tiles.read_bundle(bundle[:-1])
        with pytest.raises(StoreDamaged):
            tiles.read_bundle(bundle + b"\x01")


def test_entries_are_bounded() -> None:
    tiles.check_entry(b"x" * 65_535)
    with pytest.raises(LimitExceeded):
        tiles.check_entry(b"x" * 65_536)
    with pytest.raises(InvalidInput):
        tiles.check_entry(b"")
