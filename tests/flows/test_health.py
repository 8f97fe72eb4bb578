"""Reconciling the gateway's counters with the lines that arrived: a gap is told once, and a restart of anything is no gap."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

from vouchgate.flows.health import Health
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import UnixMillis


class Log:
    """Collects entries in the place of the sequencer."""

    def __init__(self) -> None:
        self.gaps: list[dict[str, object]] = []

    async def submit(self, _: str, __: object, entries: list[Append]) -> None:
        self.gaps += [json.loads(one.entry)["unmapped"]["vouchgate"] for one in entries]


class Bench:
    """A `Health` whose lines and counters are set by hand."""

    def __init__(self, lines: int = 0) -> None:
        self.log, self.observer = Log(), SimpleNamespace(end_lines=lines)
        clock = SimpleNamespace(now=lambda: UnixMillis(5_000_000), trouble="")
        context = SimpleNamespace(clock=clock, trust_domain="test.local", sequencer=self.log, started_at=UnixMillis(1))
        self.health = Health(context, self.observer, free=lambda: 0)  # type: ignore[arg-type]

    def look(self, completed: int, lines: int = 0) -> list[object]:
        self.observer.end_lines += lines
        asyncio.run(self.health.reconcile(completed))
        return [gap["missing"] for gap in self.log.gaps]


def test_lines_that_arrive_are_no_gap() -> None:
    bench = Bench()
    assert [bench.look(0), bench.look(100, 90), bench.look(200, 100), bench.look(300, 110), bench.look(300)] == [[]] * 5


def test_a_missing_line_is_a_gap_told_once_at_the_second_look() -> None:
    bench = Bench()
    bench.look(0)
    assert bench.look(100, 97) == []
    assert bench.look(100) == [3]
    assert bench.look(200, 100) == [3]
    assert bench.look(200) == [3]


def test_a_control_plane_that_starts_beside_a_gateway_that_ran_finds_no_gap() -> None:
    bench = Bench()
    assert [bench.look(5_000), bench.look(5_100, 100), bench.look(5_200, 100)] == [[]] * 3
    assert [bench.look(5_300, 90), bench.look(5_300)][-1] == [10]


def test_a_gateway_that_starts_again_is_no_gap_by_its_counters() -> None:
    bench = Bench()
    bench.look(0)
    bench.look(1_000, 1_000)
    assert [bench.look(400, 400), bench.look(500, 100), bench.look(500)] == [[]] * 3
    assert [bench.look(600, 95), bench.look(600)][-1] == [5]


def test_a_gateway_that_was_killed_is_a_gap_by_itself() -> None:
    bench = Bench()
    bench.look(0)
    bench.look(1_000, 1_000)
    asyncio.run(bench.health.gateway_ended(4_999_800, "it ended with -9"))
    assert [gap["reason"] for gap in bench.log.gaps] == ["it ended with -9"]
    assert [bench.look(2_000, 2_000), bench.look(2_000)] == [[0]] * 2
