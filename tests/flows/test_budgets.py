"""What a caller may use of a provider on one day: counted once, ended in time, lifted at midnight or by another budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, BOB, DIGITS, NOW, TD, World, endpoint, evidence_for, make_world, registration, running, serving, zone

from vouchgate.flows import budgets as budgets_flow
from vouchgate.flows.admit_request import admit
from vouchgate.flows.budgets import DAY_MS, KIND, Budgets, Used
from vouchgate.flows.changes import EndpointPut, SettingPut, ZonePut
from vouchgate.flows.observe_traffic import Observer
from vouchgate.flows.shape import SOURCE, Shaped
from vouchgate.flows.spent import flag, spent_until
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import Conflict, Unavailable
from vouchgate.vocabulary.places import Budget, Egress
from vouchgate.vocabulary.records import SetOffset
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

MIDNIGHT = (NOW // DAY_MS + 1) * DAY_MS


def provider(requests: int = 3, size: int = 0, **more: Any) -> EndpointPut:
    egress = Egress(secret="key", budget=Budget(requests=requests, bytes=size))
    return EndpointPut(endpoint=endpoint(upstream="https:api.example.com:443", egress=egress, **more))


def made(world: World) -> Budgets:
    context = world.context
    counts = Budgets(
        TD, lambda: world.facts.endpoints, lambda: world.facts.settings, context.sequencer, context.publisher.redecide, world.clock.now
    )
    counts.start(world.store)
    return counts


class Reader:
    """The log's reader: hands lines on, once each."""

    def __init__(self, world: World) -> None:
        self.world, self.read = world, 0
        self.counts = made(world)
        self.observer = Observer(world.facts, world.context.sequencer, world.context.traffic, world.clock.now, self.counts)

    async def see(self, *lines: Shaped) -> None:
        step = SetOffset(source=SOURCE, inode=1, offset=self.read + 10, expected_offset=self.read)
        await self.observer.take(list(lines), step)
        self.read += 10

    def used(self, who: str = ALICE) -> tuple[int, int]:
        used = self.counts.used((DIGITS, who))
        return (used.requests, used.bytes) if used else (0, 0)


def line(who: str = ALICE, *, at: int = NOW, size: int = 10, final: bool = True, **changes: Any) -> Shaped:
    wanted = {
        "seq": 0, "at": UnixMillis(at), "effect": "allow", "would_be": "allow", "mode": "enforce", "principal": who, "authenticated": True,
        "action": "infer", "resource": DIGITS, "request_id": "r", "peer": "10.0.0.7:1",
    }  # fmt: skip
    return Shaped(entry=b"entry", line=DecisionLine(**(wanted | changes)), final=final, size=size)


@contextlib.asynccontextmanager
async def calling(change: EndpointPut | None = None) -> AsyncIterator[tuple[World, Reader]]:
    async with running(make_world()) as world:
        await serving(world, registration(ALICE), registration(BOB))
        await world.put(change or provider())
        await world.settled()
        assert world.granted() == {ALICE, BOB}
        yield world, Reader(world)


def run(story: Any, change: EndpointPut | None = None) -> None:
    async def go() -> None:
        async with calling(change) as (world, reader):
            await story(world, reader)

    asyncio.run(go())


def asked(world: World, who: str = ALICE) -> Any:
    request = Request(
        request_id="r",
        method="POST",
        path="/predict",
        host="h",
        endpoint=DIGITS,
        action="infer",
        zone="serve",
        san=who,
        serial="0a",
        fingerprint="ab",
    )
    return admit(request, world.replica.facts, world.clock.now(), lease_until=UnixMillis(NOW * 2))


def test_a_budget_of_requests_ends_the_caller_s_grant_and_nobody_else_s() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(line(), line(), line(BOB))
        await world.settled()
        assert world.granted() == {ALICE, BOB}
        await reader.see(line())
        await world.settled()
        assert world.granted() == {BOB}
        assert reader.used() == (3, 30)
        assert any(b"use-up-budget" in entry for entry in world.entries())

    run(story)


def test_the_pdp_refuses_with_words_what_the_map_no_longer_grants() -> None:
    async def story(world: World, reader: Reader) -> None:
        assert asked(world).allowed
        await reader.see(line(), line(), line())
        await world.settled()
        answer = asked(world)
        assert not answer.allowed
        assert answer.problem is not None
        assert "budget" in answer.problem.detail
        assert asked(world, BOB).allowed

    run(story)


def test_a_budget_of_bytes() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(line(size=99))
        await world.settled()
        assert ALICE in world.granted()
        await reader.see(line(size=1))
        await world.settled()
        assert ALICE not in world.granted()

    run(story, provider(requests=0, size=100))


def test_midnight_gives_a_new_budget() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(line(), line(), line())
        await world.settled()
        assert ALICE not in world.granted()
        await world.put(*evidence_for(issued_at=NOW + 1, expires_at=MIDNIGHT + DAY_MS))
        world.clock.at = MIDNIGHT + 1
        world.context.publisher.redecide([])
        await world.settled()
        assert asked(world).allowed
        async with asyncio.timeout(3):
            while ALICE not in world.granted():
                await asyncio.sleep(0.01)
        await reader.see(line(at=MIDNIGHT + 1))
        assert reader.used() == (1, 10)
        await reader.see(line(at=MIDNIGHT + 1), line(at=MIDNIGHT + 1))
        await world.settled()
        assert ALICE not in world.granted()

    run(story)


def test_a_line_of_yesterday_counts_to_no_other_day() -> None:
    async def story(world: World, reader: Reader) -> None:
        world.clock.at = MIDNIGHT + 5
        await reader.see(line(at=MIDNIGHT + 1), line(at=NOW), line(at=NOW), line(at=NOW))
        assert reader.used() == (1, 10)
        await world.settled()
        assert f"budget/{DIGITS}|{ALICE}" not in world.facts.settings

    run(story)


def test_yesterday_s_use_flips_nothing_today() -> None:
    async def story(world: World, reader: Reader) -> None:
        world.clock.at = MIDNIGHT + 5
        await reader.see(*[line(at=MIDNIGHT - 1)] * 5)
        assert flag((DIGITS, ALICE)) not in world.facts.settings

    run(story)


@pytest.mark.parametrize(
    "seen",
    [
        line(effect="deny"),
        line(final=False),
        line(""),
        line(resource=f"vg://{TD}/endpoint/other"),
        line(resource="nothing"),
    ],
)
def test_what_was_not_let_through_or_not_a_provider_s_is_not_counted(seen: Shaped) -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(*[seen] * 5)
        await world.settled()
        assert reader.used() == (0, 0)
        assert world.store.scan(KIND) == []
        assert world.granted() == {ALICE, BOB}

    run(story)


def test_without_a_budget_nothing_is_counted() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(*[line()] * 5)
        assert (reader.used(), world.store.scan(KIND)) == ((0, 0), [])

    run(story, provider(requests=0))


def test_a_restart_neither_forgets_nor_repeats() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(line(), line())
        again = made(world)
        assert again.used((DIGITS, ALICE)) == Used(endpoint=DIGITS, principal=ALICE, day=NOW // DAY_MS, requests=2, bytes=20)
        reader.counts = again
        reader.observer = Observer(world.facts, world.context.sequencer, world.context.traffic, world.clock.now, again)
        reader.read = 0
        with pytest.raises(Conflict):
            await reader.see(line(), line())
        assert reader.used() == (2, 20)
        reader.read = 10
        await reader.see(line())
        await world.settled()
        assert ALICE not in world.granted()

    run(story)


def test_a_death_between_count_and_word_is_made_up_for() -> None:
    async def story(world: World, reader: Reader) -> None:
        async def dead() -> None:
            return

        reader.counts.settle = dead  # type: ignore[method-assign]
        await reader.see(line(), line(), line())
        await world.settled()
        assert ALICE in world.granted()
        await made(world).settle()
        await world.settled()
        assert ALICE not in world.granted()

    run(story)


def test_a_store_that_fails_counts_nothing_and_is_tried_again() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(line())
        sequencer = world.context.sequencer
        kept = sequencer.append

        async def broken(*_: Any, **__: Any) -> int:
            raise Unavailable("the disk is full", remedy="make room")

        sequencer.append = broken  # type: ignore[method-assign]
        for _ in range(3):
            with pytest.raises(Unavailable):
                await reader.see(line(), line(BOB))
        assert (reader.used(), reader.used(BOB)) == ((1, 10), (0, 0))
        sequencer.append = kept  # type: ignore[method-assign]
        await reader.see(line(), line())
        await world.settled()
        assert ALICE not in world.granted()

    run(story)


def test_a_word_that_cannot_be_written_is_written_later() -> None:
    async def story(world: World, reader: Reader) -> None:
        sequencer = world.context.sequencer
        kept = sequencer.submit

        async def broken(*_: Any, **__: Any) -> Any:
            raise Unavailable("the disk is full", remedy="make room")

        sequencer.submit = broken  # type: ignore[method-assign]
        await reader.see(line(), line(), line())
        assert flag((DIGITS, ALICE)) not in world.facts.settings
        sequencer.submit = kept  # type: ignore[method-assign]
        await reader.see(line(BOB))
        await world.settled()
        assert world.granted() == {BOB}

    run(story)


def test_a_larger_budget_lifts_it_until_that_is_used_up_too() -> None:
    async def story(world: World, reader: Reader) -> None:
        await reader.see(line(), line(), line())
        await world.settled()
        await world.put(provider(requests=5))
        await world.settled()
        assert world.granted() == {ALICE, BOB}
        await reader.see(line())
        await world.settled()
        assert ALICE in world.granted()
        await reader.see(line())
        await world.settled()
        assert ALICE not in world.granted()

    run(story)


def test_it_is_said_once_a_day() -> None:
    async def story(world: World, reader: Reader) -> None:
        for _ in range(6):
            await reader.see(line())
        assert sum(b"use-up-budget" in entry for entry in world.entries()) == 1

    run(story)


def test_no_other_word_in_a_flag_opens_or_closes_anything() -> None:
    world = make_world()
    served = msgspec.structs.replace(provider().endpoint)
    for value in ("", "x", "-1 3/0", "9 3/0 more", f"{MIDNIGHT}", f"{MIDNIGHT} 4/0", f" {MIDNIGHT} 3/0"):
        settings = {flag((DIGITS, ALICE)): value}
        assert spent_until(settings, served, ALICE) == 0, value
    assert spent_until({flag((DIGITS, ALICE)): f"{MIDNIGHT} 3/0"}, served, ALICE) == MIDNIGHT
    assert spent_until({flag((DIGITS, ALICE)): f"{MIDNIGHT} 3/0"}, served, BOB) == 0
    assert spent_until({flag((DIGITS, ALICE)): f"{MIDNIGHT} 3/0"}, endpoint(), ALICE) == 0
    assert world.facts.settings == {}


def test_old_days_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets_flow, "MAX_COUNTS", 2)

    async def story(world: World, reader: Reader) -> None:
        await reader.see(line("spiffe://test.local/service/serve/a"), line("spiffe://test.local/service/serve/b"))
        world.clock.at = MIDNIGHT + 1
        await reader.see(line(at=MIDNIGHT + 1))
        assert reader.used("spiffe://test.local/service/serve/a") == (0, 0)
        assert reader.used() == (1, 10)

    run(story)


def test_a_provider_and_observe_exclude_each_other() -> None:
    async def story(world: World, reader: Reader) -> None:
        with pytest.raises(Conflict):
            await world.put(ZonePut(zone=zone(mode="observe", observe_until=UnixMillis(MIDNIGHT))))
        await world.put(ZonePut(zone=zone("old", mode="observe", observe_until=UnixMillis(MIDNIGHT))))
        with pytest.raises(Conflict):
            await world.put(provider(zone="old"))
        await world.put(SettingPut(key="x", value="y"))

    run(story)


def test_what_travels_from_the_tailer_and_what_is_stored_reads_back() -> None:
    sent = line(size=7)
    assert wire.decode(Shaped, wire.encode(sent), what="line") == sent
    used = Used(endpoint=DIGITS, principal=ALICE, day=3, requests=1, bytes=7)
    assert wire.decode(Used, wire.encode(used), what="budget") == used
