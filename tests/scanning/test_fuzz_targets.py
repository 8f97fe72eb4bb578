"""The fuzz targets on their seeds and on a few mutations of them, without a fuzzer: what was once found stays mended."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import checks
import seeds

SEEDS = seeds.seeds()
MUTATIONS = 12
FOUND = [
    (path.name.partition(".")[0], path.read_bytes())
    for path in sorted((Path(checks.__file__).parent / "found").iterdir())
    if path.name.partition(".")[0] in checks.names()
]
"""Target, and what it once found."""


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        changed[place : place + chance.choice((0, 1, 1, 4))] = chance.choice(
            (b"", b"\0", b"\xff", b"\x80", chance.randbytes(2), b"\xff\xff\xff\x7f")
        )
    return bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed) + 1)))])


@pytest.mark.parametrize("name", checks.names())
def test_a_target_holds_on_seeds_and_their_mutations(name: str) -> None:
    chance = random.Random(name)
    for seed in SEEDS:
        checks.check(name, seed[:20_000]) if name == checks.WHOLE else None
    for _ in range(MUTATIONS):
        checks.check(name, mutated(chance.choice(SEEDS), chance)[:20_000])


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_what_was_found_stays_mended(name: str, content: bytes) -> None:
    checks.check(name, content)
