"""Tries of doors: what a kind of defective identity is, what is said at a door, and the rows that come of both.

1. A door is anything that answers: a route, an act, a socket's method, a file. A kind is tried at every door that it is a defect for.
2. A try is refused for the right reason (`expects`), refused for another one, or let in. The last two fail the kind's row.
3. A rate of 0 of n is shown with its bound: one-sided, 95%, exact (Clopper and Pearson).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from benchmarks.rows import Row

ISSUE = (
    "none", "expired", "wrong domain", "wrong audience", "replayed", "stolen", "confusable name", "self-signed", "federated impostor",
    "exchanged beyond scope", "revoked", "other run's token",
)  # fmt: skip
"""The kinds that the goal names; each kind of a surface says which it is one of."""


@dataclass(frozen=True)
class Said:
    """What a door said."""

    told: str
    """In one word or two: status and problem type, error code, gRPC status."""
    let_in: bool = False


Door = TypeVar("Door")


@dataclass(frozen=True)
class Kind(Generic[Door]):
    """One way of not being who may."""

    of: str
    """Which of `ISSUE`."""
    ask: Callable[[Door], Said]
    expects: frozenset[str]
    """The refusals that are the right ones."""
    only: Callable[[Door], bool] = lambda door: True
    """Doors at which this is a defect at all."""


@dataclass
class Outcome:
    """What came of one kind over all doors."""

    of: str
    tried: int = 0
    accepted: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Tried, refused everywhere, each time for the right reason."""
        return self.tried > 0 and not self.accepted and not self.wrong


@dataclass
class Surface(Generic[Door]):
    """One kind of doors with all that was tried at them."""

    name: str
    doors: Sequence[Door]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    """Doors that met a kind."""
    controls: dict[str, Said] = field(default_factory=dict)
    """What who may was told, by door; a door that is not here has no control."""
    notes: list[str] = field(default_factory=list)

    def attempt(self, kinds: Mapping[str, Kind[Door]], *, once: bool = False) -> None:
        """Every kind at every door, or with `once` at the first that it is for."""
        for name, kind in kinds.items():
            outcome = self.outcomes.setdefault(name, Outcome(kind.of))
            for door in [door for door in self.doors if kind.only(door)][: 1 if once else None]:
                self.reached.add(str(door))
                note(outcome, str(door), kind.ask(door), kind.expects)

    @property
    def tried(self) -> int:
        """All tries."""
        return sum(one.tried for one in self.outcomes.values())

    @property
    def accepted(self) -> int:
        """Tries that were let in."""
        return sum(len(one.accepted) for one in self.outcomes.values())

    @property
    def wrong(self) -> int:
        """Tries that were refused for another reason than the right one."""
        return sum(len(one.wrong) for one in self.outcomes.values())

    @property
    def kinds(self) -> set[str]:
        """Those of `ISSUE` that were tried."""
        return {one.of for one in self.outcomes.values() if one.tried}

    def rows(self) -> list[Row]:
        """Controls and coverage, then one row for each kind that the goal names."""
        names = [str(door) for door in self.doors]
        shut = [f"{name}: {self.controls[name].told if name in self.controls else 'none'}" for name in names if not self._passes(name)]
        missed = [name for name in names if name not in self.reached]
        covered = [*self.notes, *([f"not tried: {listed(missed)}"] if missed else [])]
        made = [
            Row(
                name=f"access/{self.name}: positive controls", value=_share(len(names) - len(shut), len(names)), unit=f"of {len(names)} doors",
                goal="= 1", met=bool(names) and not shut, n=len(names), note=f"who may was not let in: {listed(shut)}" if shut else "",
            ),
            Row(
                name=f"access/{self.name}: doors covered", value=_share(len(names) - len(missed), len(names)), unit=f"of {len(names)} doors",
                goal="= 1", met=bool(names) and not missed, n=len(names), note="; ".join(covered),
            ),
        ]  # fmt: skip
        return [*made, *(self._row(of) for of in ISSUE if of in self.kinds)]

    def _passes(self, name: str) -> bool:
        return name in self.controls and self.controls[name].let_in

    def _row(self, of: str) -> Row:
        parts = {name: one for name, one in self.outcomes.items() if one.of == of}
        whole = Outcome(of, sum(one.tried for one in parts.values()))
        for name, one in parts.items():
            whole.accepted += [f"{name} at {where}" for where in one.accepted]
            whole.wrong += [f"{name} at {where}" for where in one.wrong]
            whole.wrong += [] if one.tried else [f"{name} was never tried"]
            whole.answers += one.answers
        return outcome_row(f"access/{self.name}: {of}", whole, f"{len(parts)} {'variant' if len(parts) == 1 else 'variants'}: ")

    def details(self) -> list[Row]:
        """One row for each variant."""
        return [outcome_row(f"access/{self.name}: {name} ({one.of})", one, "") for name, one in self.outcomes.items()]


def outcome_row(name: str, one: Outcome, before: str) -> Row:
    """What came of a kind."""
    answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(one.answers.items()))
    bad = [f"let in: {listed(one.accepted)}"] if one.accepted else []
    bad += [f"wrong reason: {listed(one.wrong)}"] if one.wrong else []
    return Row(
        name=name, value=len(one.accepted), unit=f"of {one.tried} let in", goal="= 0", met=one.clean, n=one.tried,
        interval=bound(len(one.accepted), one.tried), note="; ".join([before + answers, *bad]),
    )  # fmt: skip


def note(outcome: Outcome, door: str, said: Said, expects: frozenset[str]) -> None:
    """Rule 2 for one try."""
    outcome.tried += 1
    outcome.answers[said.told] += 1
    if said.let_in:
        outcome.accepted.append(f"{door}: {said.told}")
    elif said.told not in expects:
        outcome.wrong.append(f"{door}: {said.told}")


def bound(hits: int, tries: int) -> tuple[float, float] | None:
    """Rule 3; nothing where something was let in, which no interval makes better."""
    return (0.0, 1 - 0.05 ** (1 / tries)) if tries and not hits else None


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first few, and how many more."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def told(*words: str) -> frozenset[str]:
    """The right refusals."""
    return frozenset(words)
