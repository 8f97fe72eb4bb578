"""Lines of the access log: in the log once, counted, explained; in observe beside what enforcing would have said."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, DIGITS, HOUR, NOW, TD, World, make_world, registration, running, serving, zone

from vouchgate.audit import ocsf
from vouchgate.flows import observe_traffic, traffic
from vouchgate.flows.changes import RegistrationPut, SettingPut, ZonePut
from vouchgate.flows.observe_traffic import Observer
from vouchgate.flows.report import line_of
from vouchgate.flows.shape import SOURCE, Shaped, shape
from vouchgate.flows.traffic import Traffic
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import Conflict, LimitExceeded
from vouchgate.vocabulary.events import Event
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.principals import FOREIGN_ID, Selector
from vouchgate.vocabulary.records import SetOffset
from vouchgate.vocabulary.vouches import UnixMillis


def line(number: int = 1, **changes: Any) -> DecisionLine:
    wanted = {
        "seq": 0, "at": UnixMillis(NOW + number), "effect": "allow", "would_be": "allow", "mode": "enforce", "principal": ALICE,
        "authenticated": True, "action": "infer", "resource": DIGITS, "request_id": f"req-{number}", "peer": "10.0.0.7:1",
    }  # fmt: skip
    return DecisionLine(**(wanted | changes))


def shaped(number: int = 1, *, observed: bool = False, final: bool = True, **changes: Any) -> Shaped:
    return Shaped(entry=f"entry-{number}".encode(), line=line(number, **changes), observed=observed, final=final)


def step(start: int, end: int, inode: int = 1) -> SetOffset:
    return SetOffset(source=SOURCE, inode=inode, offset=end, expected_offset=start)


@contextlib.asynccontextmanager
async def observing() -> AsyncIterator[tuple[World, Observer]]:
    async with running(make_world(), publishing=False) as world:
        await world.put(RegistrationPut(registration=registration()))
        yield world, Observer(world.facts, world.context.sequencer, world.context.traffic, world.clock.now)


def test_a_batch_is_taken_once_and_refused_when_it_does_not_continue() -> None:
    async def go() -> None:
        async with observing() as (world, observer):
            await observer.take([shaped(1), shaped(2)], step(0, 20))
            with pytest.raises(Conflict):
                await observer.take([shaped(1), shaped(2)], step(0, 20))
            with pytest.raises(Conflict):
                await observer.take([shaped(3)], step(30, 40))
            await observer.take([shaped(3)], step(20, 40))
            assert [one for one in world.entries() if one.startswith(b"entry")] == [b"entry-1", b"entry-2", b"entry-3"]
            assert world.context.traffic.total.allowed == 3
            assert observer.end_lines == 3

    asyncio.run(go())


def test_a_line_knows_its_place_in_the_log_whatever_is_written_beside_it() -> None:
    async def go() -> None:
        async with observing() as (world, observer):
            for number in range(0, 40, 2):
                beside = [asyncio.create_task(world.put(SettingPut(key=f"k{one}", value="v"), who=f"w{one}")) for one in range(5)]
                await observer.take([shaped(number), shaped(number + 1)], step(number, number + 2))
                await asyncio.gather(*beside)
            for one in world.context.traffic.recent:
                assert world.store.entries(one.seq, 1) == [f"entry-{one.request_id[4:]}".encode()]

    asyncio.run(go())


def test_a_streams_start_is_logged_and_not_counted() -> None:
    async def go() -> None:
        async with observing() as (world, observer):
            await observer.take([shaped(1, final=False), shaped(2)], step(0, 20))
            assert len([one for one in world.entries() if one.startswith(b"entry")]) == 2
            assert world.context.traffic.total.allowed == 1

    asyncio.run(go())


def test_in_observe_what_enforcing_would_have_said_is_recorded_once_for_each_cell_and_epoch() -> None:
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            await world.put(
                ZonePut(zone=zone(mode="observe", observe_until=NOW + HOUR)), RegistrationPut(registration=registration(groups=()))
            )
            observer = Observer(world.facts, world.context.sequencer, world.context.traffic, world.clock.now)
            before = world.store.size()
            await observer.take([shaped(number, observed=True) for number in range(5)], step(0, 50))
            assert world.store.size() == before + 6
            recent = list(world.context.traffic.recent)
            assert {(one.effect, one.would_be, one.mode) for one in recent} == {("allow", "deny", "observe")}
            assert all(one.reason and one.remedy for one in recent)
            (decision_id,) = {one.decision_id for one in recent}
            (index,) = world.store.find_entries(decision_id)
            assert json.loads(world.store.entries(index, 1)[0])["unmapped"]["vouchgate"]["would_be"] == "deny"
            await observer.take([shaped(9, observed=True)], step(50, 60))
            assert world.store.size() == before + 7
            assert world.context.traffic.total.would_deny == 6

    asyncio.run(go())


def test_a_decision_of_a_batch_that_failed_is_recorded_with_the_next_one() -> None:
    async def go() -> None:
        async with running(make_world(), publishing=False) as world:
            await world.put(RegistrationPut(registration=registration(groups=())))
            observer = Observer(world.facts, world.context.sequencer, world.context.traffic, world.clock.now)
            with pytest.raises(Conflict):
                await observer.take([shaped(1, observed=True)], step(99, 100))
            await observer.take([shaped(1, observed=True)], step(0, 10))
            (one,) = world.context.traffic.recent
            assert world.store.find_entries(one.decision_id), "why asks for it by this id"

    asyncio.run(go())


@pytest.mark.parametrize("peer", ["10.0.0.7:1", "[2001:db8::1]:443", "", "@", "x" * 200, "10.0.0.7"])
def test_who_proves_nothing_is_named_by_where_it_calls_from(peer: str) -> None:
    async def go() -> None:
        async with observing() as (world, observer):
            await observer.take([shaped(1, observed=True, principal="", authenticated=False, peer=peer)], step(0, 10))
            (one,) = world.context.traffic.recent
            assert one.principal == "" or one.principal.startswith("spiffe://test.local/declared/")

    asyncio.run(go())


def test_a_claimed_name_that_was_not_proved_is_not_taken_for_the_caller() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            observer = Observer(world.facts, world.context.sequencer, world.context.traffic, world.clock.now)
            await observer.take([shaped(1, observed=True, authenticated=False)], step(0, 10))
            (one,) = world.context.traffic.recent
            assert one.principal != ALICE
            assert one.would_be == "deny"

    asyncio.run(go())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe_traffic, "REMEMBERED", 10)

    async def go() -> None:
        async with observing() as (_, observer):
            for number in range(50):
                await observer.take(
                    [shaped(number, observed=True, principal="", authenticated=False, peer=f"10.0.0.{number}:1")], step(number, number + 1)
                )
            assert len(observer._decisions) <= 10
            assert len(observer._would) <= 10

    asyncio.run(go())


# --- counters -----------------------------------------------------------------------------------------------------------------------


def test_counters_are_bounded_and_forget_the_least_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MAX_COUNTED", 100)
    seen = Traffic()
    for number in range(1000):
        seen.add(line(number, principal=f"p{number}", resource=f"r{number}"))
        seen.add(line(number, principal="steady"))
    assert len(seen.callers) == len(seen.endpoints) == len(seen.cells) == 100
    assert seen.callers["steady"].allowed == 1000
    assert len(seen.recent) == traffic.RECENT
    assert seen.total.allowed == 2000


def test_would_be_denied_counts_as_allowed_and_told_apart() -> None:
    seen = Traffic()
    seen.add(line(1, would_be="deny", reason="r", remedy="m"))
    seen.add(line(2, effect="deny", would_be="deny", reason="r2"))
    seen.add(line(3))
    count = seen.callers[ALICE]
    assert (count.allowed, count.denied, count.would_deny, count.reason) == (2, 1, 1, "r2")


def test_a_slow_watcher_loses_the_oldest_and_watchers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MAX_BEHIND", 5)
    monkeypatch.setattr(traffic, "MAX_WATCHERS", 3)

    async def go() -> None:
        seen = Traffic()
        watchers = [seen.watch() for _ in range(3)]
        firsts = [asyncio.create_task(anext(one)) for one in watchers]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await anext(seen.watch())
        for number in range(20):
            seen.add(line(number))
        await asyncio.gather(*firsts)
        left = [(await anext(watchers[0])).request_id for _ in range(4)]
        assert left[-1] == "req-19"
        for one in watchers:
            await one.aclose()  # type: ignore[attr-defined]
        late = asyncio.create_task(anext(seen.watch()))
        await asyncio.sleep(0)
        seen.add(line(99))
        assert (await late).request_id == "req-99"

    asyncio.run(go())


FOREIGN, ALIAS = "spiffe://partner.example/ns/prod/sa/Shop", principal(TD, "service", "federated-partner", "shop")


def of_partner(number: int, who: str = FOREIGN, **changes: Any) -> Shaped:
    event = Event(
        source="gateway", source_epoch=1, source_seq=number, occurred_at=UnixMillis(NOW), observed_at=UnixMillis(NOW), principal=who,
        authenticated=True, action="infer", resource=DIGITS, enforced_by="gateway", outcome="allowed", request_id=f"req-{number}",
        detail={"method": "POST", "path": "/x", "status": 200},
    )  # fmt: skip
    return shape(msgspec.structs.replace(event, **changes), TD)


def test_a_partners_caller_is_counted_shown_and_logged_under_our_name_for_it() -> None:
    async def go() -> None:
        async with observing() as (world, observer):
            stands_for = (Selector(type=FOREIGN_ID, value=FOREIGN),)
            await world.put(RegistrationPut(registration=registration(ALIAS, selectors=stands_for)))
            await observer.take([of_partner(1), of_partner(2, FOREIGN + "2"), of_partner(3, authenticated=False)], step(0, 20))
            named, *others = world.context.traffic.recent
            assert (named.principal, named.federated) == (ALIAS, FOREIGN)
            assert [(one.principal, one.federated) for one in others] == [(FOREIGN + "2", ""), (FOREIGN, "")]
            assert world.context.traffic.callers[ALIAS].allowed == 1
            entry = world.store.entries(named.seq, 1)[0]
            assert ocsf.summary(entry).who == ALIAS and FOREIGN in ocsf.summary(entry).message
            assert ocsf.detail_of(entry)["principal"] == FOREIGN
            again = line_of(entry, named.seq)
            assert again is not None and (again.principal, again.federated) == (ALIAS, FOREIGN), "read from the log it is the same"

    asyncio.run(go())


def test_a_budget_counts_what_a_partners_caller_used() -> None:
    async def go() -> None:
        async with observing() as (world, observer):
            await world.put(RegistrationPut(registration=registration(ALIAS, selectors=(Selector(type=FOREIGN_ID, value=FOREIGN),))))
            counted: list[str] = []

            class Counting:
                def count(self, shaped: Any) -> list[Any]:
                    counted.extend(one.line.principal for one in shaped)
                    return []

                async def settle(self) -> None:
                    return

            observer._budgets = Counting()
            await observer.take([of_partner(1)], step(0, 20))
            assert counted == [ALIAS]

    asyncio.run(go())
