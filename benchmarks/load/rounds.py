"""Interleaved rounds and what may be said of them.

Rules
1. Every round calls every variant, in an order shuffled anew, so that a slow minute of the machine hurts all of them alike.
2. A round's figure is the median of its calls after `warm` uncounted ones; a ratio is taken within a round; the value is the median over
   rounds, the interval a 95% percentile bootstrap over rounds (2,000 resamples, seeded).
3. A call that is not a 200 counts as a failure and is never timed; a round with a failure is left out, and the rows say how many.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec

from benchmarks.load.client import BadAnswer, Connection, Target
from benchmarks.rows import median_interval


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its 95% interval and the number of rounds."""

    value: float
    low: float
    high: float
    n: int


class Table(msgspec.Struct, kw_only=True):
    """Median nanoseconds per round of every variant; None where the round failed."""

    rounds: list[dict[str, float | None]] = []
    calls: dict[str, int] = {}
    """Counted and uncounted calls that were answered 200, for the comparison with the audit log."""
    failures: dict[str, int] = {}

    def column(self, name: str) -> list[float]:
        """Per-round medians in microseconds."""
        return [value / 1e3 for row in self.rounds if (value := row.get(name)) is not None]

    def paired(self, name: str, base: str) -> list[tuple[float, float]]:
        """Both medians of the rounds in which both succeeded, in microseconds."""
        pairs = [(row.get(name), row.get(base)) for row in self.rounds]
        return [(a / 1e3, b / 1e3) for a, b in pairs if a is not None and b is not None]


def estimate(values: Sequence[float], of: Callable[[Sequence[float]], float] = statistics.median, seed: int = 1) -> Estimate:
    """`of` over the values with its bootstrap interval. Raises ValueError on no values."""
    if not values:
        raise ValueError("no round succeeded, so there is nothing to say")
    low, high = median_interval(values, seed, of)
    return Estimate(value=of(values), low=low, high=high, n=len(values))


def ratio(table: Table, name: str, base: str) -> Estimate:
    """Median over rounds of the ratio within a round."""
    return estimate([a / b for a, b in table.paired(name, base)])


def added(table: Table, name: str, base: str) -> Estimate:
    """Median over rounds of the microseconds added within a round."""
    return estimate([a - b for a, b in table.paired(name, base)])


def interleave(
    targets: Mapping[str, Target],
    *,
    rounds: int,
    calls: int,
    warm: int = 5,
    seed: int = 1,
    around: Callable[[str, bool], None] | None = None,
) -> Table:
    """Run the rounds. `around(name, begins)` is called before and after each variant's counted calls, for CPU accounting."""
    chance = random.Random(seed)
    table = Table(calls=dict.fromkeys(targets, 0), failures=dict.fromkeys(targets, 0))
    connections = {name: Connection(target) for name, target in targets.items()}
    for _ in range(rounds):
        order = list(targets)
        chance.shuffle(order)
        row: dict[str, float | None] = {}
        for name in order:
            try:
                row[name] = _measure(connections[name], name, table, calls, warm, around)
            except (OSError, BadAnswer):
                table.failures[name] += 1
                row[name] = None
                connections[name].close()
                connections[name] = Connection(targets[name])
        table.rounds.append(row)
    for connection in connections.values():
        connection.close()
    return table


def _measure(
    connection: Connection, name: str, table: Table, calls: int, warm: int, around: Callable[[str, bool], None] | None
) -> float | None:
    times, failed = [], 0
    for number in range(-warm, calls):
        if number == 0 and around:
            around(name, True)
        took, answer = connection.call()
        if answer.status != 200:
            failed += 1
            continue
        table.calls[name] += 1
        if number >= 0:
            times.append(took)
    if around:
        around(name, False)
    table.failures[name] += failed
    return statistics.median(times) if times and not failed else None
