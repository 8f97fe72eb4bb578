"""Usual hours and networks: what teaches, what never does, what a restart keeps, and how little a hundred thousand callers cost."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, BOB, DIGITS, NOW, TD, World, make_world, registration, running, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.flows import habits, start
from vouchgate.flows.admit_request import admit
from vouchgate.flows.changes import HabitPut, RegistrationPut, RegistrationRemoved, RiskSet
from vouchgate.flows.facts import Facts, compile_sources
from vouchgate.flows.habits import DAY_MS, DAYS, HOUR_MS, MIN_DAYS, Habits, Seen, closed, habit_of, seen_on, usual_facts
from vouchgate.flows.observe_traffic import Observer
from vouchgate.flows.shape import SOURCE, Shaped
from vouchgate.storage.opening import open_memory
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.decisions import Decision, Risk
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.habits import Habit, check_networks, hours_of, is_within, network_of
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.records import SetOffset
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

FIRST = NOW // DAY_MS * DAY_MS
AGENT = principal(TD, "agent", "serve", "agent")


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in every case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


def line(day: int, hour: int = 9, peer: str = "10.1.2.3:4711", who: str = ALICE, **changes: Any) -> DecisionLine:
    made = {
        "seq": 0, "at": FIRST + day * DAY_MS + hour * HOUR_MS, "effect": "allow", "would_be": "allow", "mode": "enforce", "principal": who,
        "authenticated": True, "action": "infer", "resource": DIGITS, "peer": peer,
    }  # fmt: skip
    return DecisionLine(**(made | changes))


class House:
    """A control plane whose log lines come from the test."""

    def __init__(self, world: World) -> None:
        self.world, self.offset = world, 0
        context = world.context
        self.habits = Habits(world.facts, context.sequencer, world.clock.now)
        self.observer = Observer(world.facts, context.sequencer, context.traffic, world.clock.now, None, self.habits)

    async def take(self, *lines: DecisionLine, observed: bool = False) -> None:
        shaped = [Shaped(entry=b"e", line=one, observed=observed) for one in lines]
        before, self.offset = self.offset, self.offset + len(lines)
        await self.observer.take(shaped, SetOffset(source=SOURCE, inode=1, offset=self.offset, expected_offset=before))

    def habit(self, who: str = ALICE) -> Habit | None:
        return self.world.facts.habits.get(who)


def story(tell: Any, store: Any = None) -> None:
    async def go() -> None:
        async with running(make_world(store=store), publishing=False) as world:
            await world.put(RegistrationPut(registration=registration()), RegistrationPut(registration=registration(BOB)))
            await world.put(RegistrationPut(registration=registration(AGENT, ("agents",))))
            await tell(House(world))

    asyncio.run(go())


async def days(house: House, count: int, first: int = 0, **changes: Any) -> None:
    for day in range(first, first + count):
        await house.take(line(day, **changes))


def test_what_was_done_on_three_days_before_today_is_usual() -> None:
    async def tell(house: House) -> None:
        await days(house, MIN_DAYS)
        assert house.habit() is None
        await house.take(line(MIN_DAYS, hour=23, peer="192.0.2.9:1"))
        habit = house.habit()
        assert habit is not None
        assert habit.networks == ("10.1.2.0/24",)
        assert [hour for hour in range(24) if habit.hours >> hour & 1] == [8, 9, 10]

    story(tell)


def test_today_teaches_nothing_today() -> None:
    async def tell(house: House) -> None:
        await days(house, MIN_DAYS + 1)
        for hour in range(24):
            await house.take(line(MIN_DAYS, hour=hour, peer=f"203.0.{hour}.1:1"))
        habit = house.habit()
        assert habit is not None
        assert habit.networks == ("10.1.2.0/24",)
        assert habit.hours.bit_count() == 3

    story(tell)


@pytest.mark.parametrize(
    "changes",
    [
        {"effect": "deny", "would_be": "deny"},
        {"would_be": "deny", "mode": "observe"},
        {"authenticated": False},
        {"who": principal(TD, "service", "serve", "stranger")},
        {"who": ""},
    ],
)
def test_what_teaches_nothing(changes: dict[str, Any]) -> None:
    async def tell(house: House) -> None:
        await days(house, 10, **changes)
        assert house.world.facts.habits == {}
        assert house.habits.callers == 0

    story(tell)


def test_a_stolen_token_that_is_refused_every_night_is_never_usual() -> None:
    async def tell(house: House) -> None:
        await days(house, MIN_DAYS + 1)
        for day in range(MIN_DAYS + 1, MIN_DAYS + 30):
            await house.take(line(day), line(day, hour=3, peer="203.0.113.5:1", effect="deny", would_be="deny"))
        habit = house.habit()
        assert habit is not None
        assert "203.0.113.0/24" not in habit.networks
        assert not habit.hours >> 3 & 1

    story(tell)


@pytest.mark.parametrize("subject", [ALICE, DIGITS])
def test_while_something_is_known_against_the_caller_nothing_is_learned(subject: str) -> None:
    async def tell(house: House) -> None:
        await house.world.put(RiskSet(subject=subject, risk=Risk(value=habits.MAX_RISK + 1, reasons=("r",))))
        await days(house, 10)
        assert house.habit() is None
        await house.world.put(RiskSet(subject=subject, risk=Risk(value=habits.MAX_RISK)))
        await days(house, MIN_DAYS + 1, first=10)
        assert house.habit() is not None

    story(tell)


def test_of_a_delegated_call_the_actor_learns() -> None:
    async def tell(house: House) -> None:
        made = Decision(
            id="d1", trust_domain=TD, effect="allow", would_be="allow", principal=ALICE, actors=(AGENT,), action="infer", resource=DIGITS,
            policy_digest="", policy_version=1, evidence_epoch=1, not_after=UnixMillis(NOW), evaluated_at=UnixMillis(NOW),
        )  # fmt: skip
        house.observer.remember(made)
        await days(house, MIN_DAYS + 1, decision_id="d1")
        assert house.habit() is None
        assert house.habit(AGENT) is not None

    story(tell)


def test_the_worker_is_told_once_a_day_and_knows_after_a_load() -> None:
    async def tell(house: House) -> None:
        world = house.world
        for day in range(12):
            await house.take(*(line(day, hour=hour) for hour in (9, 10, 9, 11)))
        told = [entry for entry in world.entries() if b"learn-habits" in entry]
        assert 1 <= len(told) <= 12
        again = Facts(TD, world.facts._fingerprint)
        start.replay(world.store, again, world.clock.now())
        assert again.habits == world.facts.habits != {}

    story(tell)


def test_a_restart_keeps_what_was_seen() -> None:
    async def tell(house: House) -> None:
        await days(house, MIN_DAYS)
        other = House(house.world)
        other.habits.start(house.world.store)
        other.offset = house.offset
        await other.take(line(MIN_DAYS))
        assert other.habit() is not None

    story(tell)


def test_a_restart_before_the_worker_was_told_tells_it() -> None:
    async def tell(house: House) -> None:
        async def away() -> None:
            return None

        house.habits.settle = away  # type: ignore[method-assign]
        await days(house, MIN_DAYS + 1)
        assert house.habit() is None
        other = House(house.world)
        other.habits.start(house.world.store)
        await other.habits.settle()
        assert other.habit() is not None

    story(tell)


def test_a_batch_that_is_not_committed_was_not_seen() -> None:
    async def tell(house: House) -> None:
        await days(house, MIN_DAYS)
        house.offset += 7
        with pytest.raises(Conflict):
            await house.take(line(MIN_DAYS), line(MIN_DAYS, who=BOB))
        assert house.habits.callers == 1
        assert house.habits._seen[ALICE].day == FIRST // DAY_MS + MIN_DAYS - 1

    story(tell)


def test_habits_go_with_the_registration() -> None:
    async def tell(house: House) -> None:
        await days(house, MIN_DAYS + 1)
        sequenced = await house.world.put(RegistrationRemoved(principal=ALICE))
        house.habits.tell(sequenced)
        assert house.habit() is None
        await house.world.put(RegistrationPut(registration=registration()))
        await house.habits.settle()
        assert house.world.store.get("habit", ALICE) is None
        assert house.world.store.get(habits.KIND, ALICE) is None
        await house.take(line(MIN_DAYS + 2))
        assert house.habit() is None

    story(tell)


def test_a_log_line_of_the_past_changes_nothing() -> None:
    async def tell(house: House) -> None:
        await days(house, 2, first=5)
        await house.take(line(0), line(1), line(2), line(3))
        await house.take(line(7))
        assert house.habit() is None

    story(tell)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(habits, "MAX_CALLERS", 1)

    async def tell(house: House) -> None:
        await house.take(line(0), line(0, who=BOB))
        assert house.habits.callers == 1
        assert house.world.store.get(habits.KIND, ALICE) is None

    story(tell)


def test_a_caller_with_everything_is_small() -> None:
    full = Seen(principal=ALICE, day=1)
    for day in range(DAYS + 2):
        for hour in range(24):
            full = seen_on(full, day, hour, f"10.{day}.{hour % 8}.0/24")
    size = sum(sys.getsizeof(part) for part in (full, full.hours, full.networks, *full.networks, *(name for name, _ in full.networks)))
    assert size < 3_000
    assert len(full.networks) <= habits.MAX_NETWORKS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 23), st.integers(0, 12)), max_size=80))
def test_what_is_usual_was_seen_on_enough_days(calls: list[tuple[int, int, int]]) -> None:
    calls = sorted(calls)
    seen = Seen(principal=ALICE, day=0)
    for day, hour, network in calls:
        seen = seen_on(seen, day, hour, f"10.0.{network}.0/24")
    habit = habit_of(seen)
    past = [(day, hour, network) for day, hour, network in calls if day < seen.day]
    if habit is None:
        assert len({day for day, _, _ in past}) < MIN_DAYS
        return
    for hour in range(24):
        if habit.hours >> hour & 1:
            near = {day for day, other, _ in past if (other - hour) % 24 in (0, 1, 23)}
            assert len(near) >= MIN_DAYS
    for name in habit.networks:
        assert len({day for day, _, network in past if f"10.0.{network}.0/24" == name}) >= MIN_DAYS


def test_what_is_old_is_forgotten_by_days_with_calls_alone() -> None:
    seen = Seen(principal=ALICE, day=0)
    for day in range(MIN_DAYS):
        seen = seen_on(seen, day, 9, "10.0.0.0/24")
    holiday = closed(seen, 500)
    assert habit_of(holiday) == habit_of(closed(seen, MIN_DAYS))
    for day in range(500, 500 + DAYS + 1):
        holiday = seen_on(holiday, day, 20, "10.9.9.0/24")
    found = habit_of(holiday)
    assert found is not None
    assert found.networks == ("10.9.9.0/24",)
    assert not found.hours >> 9 & 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
        ("localhost", ""),
        ("10.1.2", ""),
        ("10.1.2.3/8", ""),
        ("010.1.2.3", ""),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("text", ["8", "8-8", "0-24", "24-1", "8-25", "-1-3", "08-18", "8-18 ", "8-18\n", "٨-18"])
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        hours_of(text)


def test_hours_and_networks_that_are_declared() -> None:
    assert hours_of("") == 0
    assert [hour for hour in range(24) if hours_of("22-2") >> hour & 1] == [0, 1, 22, 23]
    assert hours_of("8-24").bit_count() == 16
    assert check_networks(("10.0.0.0/8", "10.0.0.0/8")) == ("10.0.0.0/8",)
    for bad in (("10.0.0.1/8",), ("x",), ("10.0.0.0/33",), tuple(f"10.{number}.0.0/16" for number in range(17))):
        with pytest.raises(InvalidInput):
            check_networks(bad)
    assert is_within("::ffff:10.1.1.1", ("10.0.0.0/8",))
    assert not is_within("2001:db8::1", ("0.0.0.0/0",))


def test_with_nothing_known_the_facts_are_absent_and_declared_ones_count_at_once() -> None:
    assert usual_facts(None, registration(), 9, "10.1.2.3") == {}
    declared = registration(networks=("10.0.0.0/8",), hours="8-18")
    assert usual_facts(None, declared, 9, "10.1.2.3") == {"usual_hour": True, "usual_network": True}
    assert usual_facts(None, declared, 3, "192.0.2.1") == {"usual_hour": False, "usual_network": False}
    habit = Habit(principal=ALICE, hours=1 << 3, networks=("192.0.2.0/24",))
    assert usual_facts(habit, declared, 3, "192.0.2.1") == {"usual_hour": True, "usual_network": True}
    assert usual_facts(habit, None, 4, "10.1.2.3") == {"usual_hour": False, "usual_network": False}
    assert usual_facts(habit, None, 3, "") == {"usual_hour": True}


USUAL = (
    (
        "usual.cedar",
        '@id("usual") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint)\n'
        "when { context has usual_network && context.usual_network && context has usual_hour && context.usual_hour && context has weekday };",
    ),
)


def test_a_policy_is_told_of_each_request_and_no_header_says_otherwise() -> None:
    async def go() -> None:
        async with running(make_world(), policies=USUAL) as world:
            await serving(world)
            hour = NOW // HOUR_MS % 24

            def ask(peer: str, **changes: Any) -> bool:
                request = Request(
                    request_id="r", method="POST", path="/predict?usual_network=true", host="h", endpoint=DIGITS, action="infer",
                    zone="serve", san=ALICE, serial="0c0ffee0", fingerprint="ab" * 32, peer=peer, user_agent="usual_hour: true",
                )  # fmt: skip
                made = admit(msgspec.structs.replace(request, **changes), world.facts, UnixMillis(NOW), lease_until=UnixMillis(NOW + 9_999))
                return made.allowed

            assert not ask("10.1.2.3:1")
            await world.put(HabitPut(habit=Habit(principal=ALICE, hours=1 << hour, networks=("10.1.2.0/24",))))
            assert ask("10.1.2.3:1")
            assert not ask("10.1.3.3:1")
            await world.put(HabitPut(habit=Habit(principal=ALICE, hours=1 << (hour + 5) % 24, networks=("10.1.2.0/24",))))
            assert not ask("10.1.2.3:1")
            assert not world.granted()

    asyncio.run(go())


def test_nothing_of_a_stranger_is_kept() -> None:
    store = open_memory(TD)

    async def tell(house: House) -> None:
        await house.world.put(HabitPut(habit=Habit(principal=principal(TD, "service", "serve", "x"), hours=1)))
        assert house.world.facts.habits == {}

    story(tell, store)


def test_the_policies_of_the_page_hold() -> None:
    page = (Path(__file__).parents[2] / "docs" / "context.md").read_text("utf-8")
    blocks = re.findall(r"```cedar\n(.*?)```", page, re.DOTALL)
    assert blocks
    compile_sources([("context.cedar", "\n".join(blocks))], version=1)
