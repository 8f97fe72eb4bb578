"""The fuzz targets of evidence on their seeds and on mutations of them, without a fuzzer: what was once found stays mended."""

from __future__ import annotations

import base64
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import document_seeds
import documents

MUTATIONS = 150
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1e400,
    "",
    "\ud800",
    "\0",
    "é",
    [],
    {},
    [None],
    {"a": None},
    [[[]]],
    "A" * 5_000,
    "2026-01-01T00:00:00Z",
)
FOUND = [
    (path.name.partition(".")[0], path.read_bytes())
    for path in sorted((Path(documents.__file__).parent / "found").iterdir())
    if path.name.partition(".")[0] in documents.names()
]


def _changed_bytes(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        changed[place : place + chance.choice((0, 1, 1, 4))] = chance.choice(
            (b"", b"\0", b"\xff", b"\x80", chance.randbytes(2), b'"', b"{", b"9" * 30)
        )
    return bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed) + 1)))])


def _changed_tree(tree: Any, chance: random.Random) -> Any:
    """One place of a JSON document, at any depth and inside of base64, becomes something else or goes."""
    if isinstance(tree, dict) and tree and chance.random() < 0.85:
        key = chance.choice(list(tree))
        if chance.random() < 0.1:
            return {name: value for name, value in tree.items() if name != key}
        return tree | {key: _changed_tree(tree[key], chance)}
    if isinstance(tree, list) and tree and chance.random() < 0.85:
        place = chance.randrange(len(tree))
        return [*tree[:place], _changed_tree(tree[place], chance), *tree[place + 1 :]]
    if isinstance(tree, str) and chance.random() < 0.6:
        try:
            inside = base64.b64decode(tree, validate=True)
        except ValueError:
            return chance.choice(ODD)
        again = changed(inside, chance) if inside else b"\0"
        return base64.b64encode(again).decode()
    return chance.choice(ODD)


def changed(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.6:
        try:
            return json.dumps(_changed_tree(json.loads(content), chance)).encode()
        except ValueError:
            pass
    return _changed_bytes(content, chance)


@pytest.mark.parametrize("name", documents.names())
def test_a_target_holds_on_seeds_and_their_mutations(name: str) -> None:
    chance = random.Random(name)
    seeds = document_seeds.seeds(name)
    for seed in seeds:
        documents.check(name, seed)
    for _ in range(MUTATIONS):
        documents.check(name, changed(chance.choice(seeds), chance))


HONEST = sorted(set(documents.names()) - {"bill-statement"})  # one that holds takes a model's own document, which test_mlbom.py makes


@pytest.mark.parametrize("name", HONEST)
def test_a_seed_is_honest(name: str) -> None:
    """What every mutation starts from is read to its end."""
    for seed in document_seeds.seeds(name)[:1]:
        documents.READERS[name](seed)


@pytest.mark.parametrize(("name", "content"), FOUND, ids=[name for name, _ in FOUND])
def test_what_was_once_found_is_mended(name: str, content: bytes) -> None:
    documents.check(name, content)
