"""The tailer beside a control plane in memory: every line once, whatever is rotated, cut, killed or away."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vouchgate.edges.envoy.log_fields import line_of
from vouchgate.edges.processes import tailer as process
from vouchgate.edges.processes.tailer import Tailer
from vouchgate.flows.sequence import Sequencer
from vouchgate.storage.opening import open_memory
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.records import Append, SetOffset
from vouchgate.vocabulary.vouches import UnixMillis

TD = "test.local"
NOW = 1_790_000_000_000


def line(number: int, at: int = NOW) -> bytes:
    row = {"id": f"req-{number}", "kind": "DownstreamEnd", "start": str(at / 1000), "status": "200"}
    row |= {"endpoint": f"vg://{TD}/endpoint/digits", "action": "infer", "method": "POST", "path": "/predict"}
    return line_of(row) + b"\n"


class Control:
    """Takes lines in as the control plane does: offset and entries in one commit."""

    def __init__(self) -> None:
        self.store = open_memory(TD)
        self.sequencer = Sequencer(self.store, check=lambda _: None, apply=lambda _: None, tell=lambda _: None)
        self.away = 0
        self.lose_answer = 0
        self.behind: list[int] = []

    async def call(self, method: str, /, **params: Any) -> Any:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unavailable("the control plane does not answer", remedy="wait")
        if method == "offset":
            at = self.store.offset("gateway")
            return {"inode": at.inode, "offset": at.offset} if at else {"inode": 0, "offset": 0}
        if method == "tail_alive":
            self.behind.append(params["behind_ms"])
            return {}
        lines = [wire.decode(process.Shaped, one, what="line") for one in params["lines"]]
        step = SetOffset(
            source="gateway", inode=params["inode"], offset=params["end"], expected_offset=params["offset"], expected_inode=params["before"]
        )
        await self.sequencer.append("gateway", [Append(entry=one.entry, label=one.line.request_id) for one in lines], steps=(step,))
        if self.lose_answer:
            self.lose_answer -= 1
            raise Unavailable("the answer was lost", remedy="wait")
        return {}

    def requests(self) -> list[str]:
        said = (json.loads(one)["unmapped"]["vouchgate"] for one in self.store.entries(0, 10_000))
        return [one.get("request_id") or f"gap {one['source']}" for one in said]


class Bench:
    """A tailer on a folder of its own, and the gateway's hand on the files."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.layout.gateway_logs.mkdir(parents=True)
        self.control = Control()
        self.stop = asyncio.Event()

    def tailer(self) -> Tailer:
        made = Tailer.__new__(Tailer)
        made.log = SimpleNamespace(info=lambda *_: None, warning=lambda *_: None)  # type: ignore[assignment]
        made.layout, made.trust_domain, made.control = self.layout, TD, self.control  # type: ignore[assignment]
        made.now = lambda: UnixMillis(NOW + 1000)
        made._file, made._inode, made._told = None, 0, 0.0
        return made

    def write(self, *parts: bytes) -> None:
        with self.layout.access_log.open("ab") as log:
            log.write(b"".join(parts))

    def rotate(self) -> None:
        self.layout.access_log.rename(self.layout.access_log.with_suffix(".log.1"))

    async def until(self, count: int) -> list[str]:
        end = asyncio.get_running_loop().time() + 5
        while len(self.control.requests()) < count:
            assert asyncio.get_running_loop().time() < end, self.control.requests()
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        return self.control.requests()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GATHER_SECONDS", 0.005)
    monkeypatch.setattr(process, "ALIVE_SECONDS", 0.0)


def story(tmp_path: Path, tell: Any) -> None:
    async def go() -> None:
        bench = Bench(tmp_path)
        sequencing = asyncio.create_task(bench.control.sequencer.run())
        tailing = asyncio.create_task(bench.tailer().run(bench.stop))
        try:
            await asyncio.wait_for(tell(bench), 20)
            assert not tailing.done(), tailing
        finally:
            sequencing.cancel()
            tailing.cancel()
            bench.control.store.close()

    asyncio.run(go())


def wanted(*numbers: int) -> list[str]:
    return [f"req-{number}" for number in numbers]


def test_lines_are_read_as_they_come_and_a_partial_one_waits_for_its_end(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.write(line(1), line(2)[:40])
        assert await bench.until(1) == wanted(1)
        bench.write(line(2)[40:], line(3))
        assert await bench.until(3) == wanted(1, 2, 3)

    story(tmp_path, tell)


def test_there_is_no_file_yet(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        await asyncio.sleep(0.05)
        assert bench.control.behind
        bench.write(line(1))
        assert await bench.until(1) == wanted(1)

    story(tmp_path, tell)


def test_an_unreadable_line_is_an_entry_and_stops_nothing(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.write(line(1), b"\xff garbage\n", b'{"id": "foreign"}\n', line(2))
        seen = await bench.until(4)
        assert [one for one in seen if one.startswith("req")] == wanted(1, 2)
        assert len([one for one in seen if one.startswith("gap gateway log at byte")]) == 2

    story(tmp_path, tell)


def test_a_line_over_the_bound_is_given_up_and_stops_nothing(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.write(line(1), b"x" * 600_000 + b"\n", line(2))
        seen = await bench.until(3)
        assert [one for one in seen if one.startswith("req")] == wanted(1, 2)

    story(tmp_path, tell)


def test_a_rotated_file_is_read_to_its_end_first_and_its_cut_off_last_line_is_an_entry(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.write(line(1))
        await bench.until(1)
        bench.write(line(2), line(3)[:30])
        bench.rotate()
        bench.write(line(4))
        seen = await bench.until(4)
        assert [seen[0], seen[1], seen[3]] == wanted(1, 2, 4)
        assert seen[2].startswith("gap")

    story(tmp_path, tell)


def test_lines_written_to_the_old_file_while_the_new_one_appears_are_read(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        for number in range(0, 80, 4):
            with bench.layout.access_log.open("ab") as old:
                old.write(line(number))
                old.flush()
                await asyncio.sleep(0)
                bench.rotate()
                await asyncio.sleep(0.001 * (number % 3))
                old.write(line(number + 1) + line(number + 2))
            bench.write(line(number + 3))
            await bench.until(number + 4)
        assert sorted(bench.control.requests(), key=lambda one: int(one[4:])) == wanted(*range(80))

    story(tmp_path, tell)


def test_a_file_that_was_cut_is_an_entry_and_read_from_its_start(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        bench.write(*(line(number) for number in range(5)))
        await bench.until(5)
        with bench.layout.access_log.open("r+b") as log:
            log.truncate(0)
        bench.write(line(5))
        seen = await bench.until(7)
        assert seen[5].startswith("gap gateway log at byte")
        assert seen[6] == "req-5"

    story(tmp_path, tell)


def test_a_control_plane_that_is_away_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        for number in range(40):
            bench.control.away = number % 3 == 0
            bench.control.lose_answer = number % 4 == 1
            bench.write(line(number))
            await asyncio.sleep(0.004 if number % 5 else 0.02)
        bench.control.away = bench.control.lose_answer = 0
        assert await bench.until(40) == wanted(*range(40))

    story(tmp_path, tell)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_tailer_killed_at_any_moment_loses_and_repeats_nothing(seed: int, tmp_path: Path) -> None:
    async def go() -> None:
        bench = Bench(tmp_path)
        sequencing = asyncio.create_task(bench.control.sequencer.run())
        for number in range(60):
            bench.write(line(number)) if number % 7 else bench.write(line(number)[:50])
            if number % 7 == 0:
                bench.write(line(number)[50:])
            if number == 30:
                bench.rotate()
                bench.layout.access_log.touch()
            tailing = asyncio.create_task(bench.tailer().run(bench.stop))
            for _ in range((number * 7 + seed) % 23):
                await asyncio.sleep(0)
            if number % 9 == 0:
                await asyncio.sleep(0.004)
            tailing.cancel()
            await asyncio.gather(tailing, return_exceptions=True)
        tailing = asyncio.create_task(bench.tailer().run(bench.stop))
        assert await bench.until(60) == wanted(*range(60))
        tailing.cancel()
        sequencing.cancel()
        bench.control.store.close()

    asyncio.run(go())


def test_two_tailers_at_once_store_every_line_once(tmp_path: Path) -> None:
    async def tell(bench: Bench) -> None:
        second = asyncio.create_task(bench.tailer().run(bench.stop))
        for number in range(100):
            bench.write(line(number))
            await asyncio.sleep(0.001)
        assert await bench.until(100) == wanted(*range(100))
        second.cancel()

    story(tmp_path, tell)


def test_while_lines_wait_it_says_how_far_behind_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BATCH_BYTES", 4 * len(line(1)))

    async def tell(bench: Bench) -> None:
        bench.write(*(line(number, at=NOW - 60_000 + number * 1000) for number in range(40)))
        await bench.until(40)
        assert max(bench.control.behind) > 50_000
        assert bench.control.behind[-1] == 0

    story(tmp_path, tell)
