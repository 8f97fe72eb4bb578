"""Library: all pinned versions of a distribution judged, and what holds of a name in all of them.

Rules
1. Each version is judged with the newest of every other distribution beside it.
2. A name is let in for the uses that hold in every version that has it; a version that speaks against it wins.
3. A rule for its states that one version gives it holds for all.
4. What was judged is kept by everything it depends on (wheel, rules, judge, the wheels beside it), so that building again takes seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from knowledge.judge import Judged, judge
from knowledge.places import CACHE, RULES
from knowledge.resolve import universe
from knowledge.rules import load
from knowledge.summary import Wheel as Read
from knowledge.wheels import meaning, read
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.parts import Wheel

WORKERS = 2
"""Processes that judge at once."""
GENERATED = "generated"
"""The reviewer of what the rules alone let in."""
_JUDGES = ("summary.py", "source.py", "picking.py", "wheels.py", "resolve.py", "rules.py", "graph.py", "judge.py", "library.py")
_newest: dict[str, Read] = {}


def newest(wheels: Iterable[Wheel]) -> dict[str, Wheel]:
    """The last pinned wheel of each distribution."""
    return {wheel.distribution: wheel for wheel in wheels}


def judged_entries(wheels: Sequence[Wheel]) -> list[Entry]:
    """What the rules let in of all of them."""
    support = set(load().document["judge"]["support"])
    beside = newest(wheels)
    mine = [wheel for wheel in wheels if wheel.distribution not in support]
    digest = _digest(list(beside.values()))
    todo = [wheel for wheel in mine if not _kept(wheel, digest).exists()]
    if todo:
        with ProcessPoolExecutor(WORKERS, initializer=_begin, initargs=(list(beside.values()),)) as pool:
            list(pool.map(_judge, todo, [digest] * len(todo)))
    return [
        entry for name in beside if name not in support for entry in _together([one for one in mine if one.distribution == name], digest)
    ]


def verdicts(wheel: Wheel, wheels: Sequence[Wheel]) -> list[Judged]:
    """What was judged of one wheel, what is not let in and why included."""
    digest = _digest(list(newest(wheels).values()))
    if not _kept(wheel, digest).exists():
        _begin(list(newest(wheels).values()))
        _judge(wheel, digest)
    return msgspec.msgpack.decode(_kept(wheel, digest).read_bytes(), type=list[Judged])


def _begin(beside: list[Wheel]) -> None:
    left_out = load().left_out
    for wheel in beside:
        _newest[wheel.distribution] = read(wheel, left_out)


def _judge(wheel: Wheel, digest: str) -> None:
    rules = load()
    mine = read(wheel, rules.left_out)
    others = [found for name, found in _newest.items() if name != wheel.distribution]
    found = list(judge(mine, universe([mine, *others], rules.left_out), rules))
    path = _kept(wheel, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.msgpack.encode(found))
    part.rename(path)


def _together(wheels: Sequence[Wheel], digest: str) -> list[Entry]:
    uses: dict[tuple[str, str], set[str]] = {}
    seen: dict[tuple[str, str], list[Wheel]] = {}
    states: dict[tuple[str, str], str] = {}
    for wheel in wheels:
        for one in msgspec.msgpack.decode(_kept(wheel, digest).read_bytes(), type=list[Judged]):
            key = (one.module, one.name)
            uses[key] = uses.get(key, set(one.uses)) & set(one.uses)
            seen.setdefault(key, []).append(wheel)
            states[key] = one.state or states.get(key, "")
    return [
        Entry(
            module=module,
            name=name,
            uses=tuple(use for use in ("inert", "constructible") if use in found),  # type: ignore[misc]
            state=states[module, name] if "constructible" in found else "",
            library=wheels[0].distribution,
            versions=(seen[module, name][0].version, seen[module, name][-1].version),
            wheel=seen[module, name][-1].sha256,
            reviewer=GENERATED,
        )
        for (module, name), found in sorted(uses.items())
        if found
    ]


def _kept(wheel: Wheel, digest: str) -> Path:
    return CACHE / "judged" / f"{wheel.sha256[:24]}-{digest}.msgpack"


def _digest(beside: list[Wheel]) -> str:
    digest = hashlib.sha256(RULES.read_bytes())
    for name in _JUDGES:
        digest.update(meaning(Path(__file__).parent / name))
    for wheel in beside:
        digest.update(wheel.sha256.encode())
    return digest.hexdigest()[:16]
