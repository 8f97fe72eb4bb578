"""What will be refused because time passes: decided on a copy of the facts, put forward."""

from __future__ import annotations

import asyncio

import pytest
from flows_world import ALICE, BOB, DAY, DIGITS, HOUR, NOW, about, endpoint, make_world, registration, running, served, vouched, zone

from vouchgate.flows import forecast as ahead
from vouchgate.flows.changes import EndpointPut, RegistrationPut, ZonePut
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.answers_identities import PartnerState
from vouchgate.vocabulary.answers_zones import Forecast
from vouchgate.vocabulary.vouches import UnixMillis

YEAR = 300 * DAY


def look(*changes, partners=(), calls=(), at=NOW) -> Forecast:
    async def go() -> Forecast:
        async with running(make_world(), publishing=False) as world:
            await world.put(*changes)
            for who in calls:
                line = DecisionLine(
                    seq=0, at=NOW, effect="allow", would_be="allow", mode="enforce", principal=who, authenticated=True, action="infer", resource=DIGITS
                )  # fmt: skip
                world.context.traffic.add(line)
            world.clock.at = at
            before = (world.facts.epoch, dict(world.facts.registrations), world.facts.world is not None)
            made = await ahead.forecast(world.context, partners)
            assert before == (world.facts.epoch, dict(world.facts.registrations), True), "the facts themselves stay where they are"
            return made

    return asyncio.run(go())


def world(**lives: int) -> list:
    """One endpoint, alice and bob; each vouch lives as long as said."""
    said = {"scan": YEAR, "structure": YEAR, "serves": YEAR} | lives
    return [
        ZonePut(zone=zone()),
        EndpointPut(endpoint=endpoint()),
        vouched("scan", [about()], expires_at=NOW + said["scan"]),
        vouched("structure", [about()], expires_at=NOW + said["structure"]),
        vouched("serves", [served()], expires_at=NOW + said["serves"]),
        RegistrationPut(registration=registration()),
        RegistrationPut(registration=registration(BOB)),
    ]


def lapsing(made: Forecast) -> list:
    return [one for one in made.lapses if not one.renews_itself]


def test_where_nothing_ends_nothing_is_refused():
    made = look(*world())
    assert (made.allowed, made.refused, lapsing(made), made.cut_off) == (2, {"24h": 0, "7d": 0, "30d": 0}, [], "")


@pytest.mark.parametrize(("life", "within"), [(HOUR, "24h"), (DAY, "24h"), (DAY + 1, "7d"), (3 * DAY, "7d"), (29 * DAY, "30d")])
def test_a_vouch_that_lapses_turns_the_cells_that_need_it(life, within):
    made = look(*world(scan=life), calls=[BOB, BOB, ALICE])
    (one,) = lapsing(made)
    assert (one.kind, one.title, one.at, one.within, one.refused, one.calls) == ("vouch", "scan lapses", NOW + life, within, 2, 3)
    assert one.callers == (BOB, ALICE), "who calls most comes first"
    assert one.command.startswith("vouchgate import")
    assert made.refused == {name: 2 if life <= span else 0 for name, span in ahead.HORIZONS.items()}


def test_a_vouch_beyond_the_horizon_is_not_told():
    assert lapsing(look(*world(scan=31 * DAY))) == []


def test_a_vouch_that_another_one_outlives_refuses_nobody():
    made = look(*world(scan=HOUR), vouched("scan", [about()], expires_at=NOW + YEAR, issued_at=NOW - 1, not_before=NOW - 1))
    assert lapsing(made) == [] and made.refused["30d"] == 0


def test_the_first_of_two_ends_is_blamed_and_the_second_refuses_nobody_more():
    made = look(*world(scan=HOUR, structure=2 * HOUR))
    assert [(one.title, one.refused) for one in lapsing(made)] == [("scan lapses", 2)]


def test_what_the_supervisor_renews_is_told_apart_and_refuses_nobody():
    made = look(*world(serves=15 * 60_000))
    assert made.refused["30d"] == 0 and lapsing(made) == []
    (one,) = [one for one in made.lapses if one.kind == "serves"]
    assert one.renews_itself and one.refused == 2 and one.callers == (ALICE, BOB)
    assert "identity" in {one.kind for one in made.lapses if one.renews_itself}


def test_a_serves_vouch_that_nobody_renews_is_no_exception():
    made = look(*world(serves=5 * HOUR))
    assert [(one.kind, one.title) for one in lapsing(made)] == [("vouch", "serves lapses")] and made.refused["24h"] == 2


def test_a_registration_that_ends_takes_its_own_cells_alone():
    made = look(*world(), RegistrationPut(registration=registration(BOB, expires_at=NOW + 2 * DAY)))
    (one,) = lapsing(made)
    assert (one.kind, one.subject, one.refused, one.callers, one.within) == ("registration", BOB, 1, (BOB,), "7d")
    assert "identity register service serve bob" in one.command


def test_observe_that_ends_refuses_who_was_only_observed():
    stranger = registration(BOB, groups=())
    observed = zone(mode="observe", observe_until=UnixMillis(NOW + 5 * DAY))
    made = look(*world(), RegistrationPut(registration=stranger), ZonePut(zone=observed))
    (one,) = lapsing(made)
    assert (one.kind, one.subject, one.refused, one.callers, one.command) == ("observe", "serve", 1, (BOB,), "vouchgate adopt serve --plan")


def test_what_no_cell_shows_is_listed_beside():
    partner = PartnerState(
        name="partner", trust_domain="partner.example", profile="https_web", state="trusted", sequence=1, fetched_at=NOW, next_at=NOW, callers=3,
        problem="its endpoint is away", stale_at=UnixMillis(NOW + HOUR),
    )  # fmt: skip
    (one,) = lapsing(look(*world(), partners=[partner]))
    assert (one.kind, one.within, one.command) == ("partner", "24h", "vouchgate federation list --refresh partner")


def test_the_ca_and_the_trust_root_are_told_before_they_end():
    made = look(*world(scan=900 * DAY), at=NOW + 290 * DAY)
    assert {"ca"} <= {one.kind for one in lapsing(made)}
    assert all(one.command for one in lapsing(made))


def test_a_bound_cuts_off_and_says_so(monkeypatch):
    monkeypatch.setattr(ahead, "MAX_DECISIONS", 2)
    made = look(*world(scan=HOUR), calls=[BOB])
    assert "stopped after 1" in made.cut_off and made.allowed == 1
    assert [(one.callers, one.refused) for one in lapsing(made)] == [((BOB,), 1)], "who calls is still looked at"


def test_many_ends_are_taken_together_and_none_is_lost():
    moments = [UnixMillis(number) for number in range(1, 5_001)]
    some = ahead._coarser(moments)
    assert len(some) <= ahead.MAX_MOMENTS and some[-1] == 5_000 and some == sorted(set(some))
    assert ahead._coarser([]) == [] and ahead._coarser(moments[:3]) == moments[:3]


def test_a_vouch_already_gone_is_not_told_again():
    made = look(*world(scan=HOUR), at=NOW + 2 * HOUR)
    assert (made.allowed, lapsing(made)) == (0, [])


def test_the_copy_decides_as_the_facts_do():
    """At the time itself, a forecast from nothing that renews itself equals what is decided then."""

    async def go() -> None:
        async with running(make_world(), publishing=False) as there:
            await there.put(*world(scan=DAY, serves=YEAR))
            made = await ahead.forecast(there.context, ())
            there.clock.at = NOW + DAY + 1
            there.facts.advance(there.clock.now())
            decided = [one for cell in there.facts.all_cells() for one in there.facts.standing(cell, there.clock.now())]
            assert made.refused["7d"] == sum(one.effect == "deny" for one in decided) == made.allowed

    asyncio.run(go())
