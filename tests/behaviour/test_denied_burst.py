"""The detector of bursts of refusals: its promise about false alarms, what it finds, and what it must not be led to."""

from __future__ import annotations

import random
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.behaviour.catalog import assess, check_finding, detector, detectors
from vouchgate.behaviour.detectors import denied_burst as burst
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.events import Event
from vouchgate.vocabulary.wire import decode, encode

ATLAS = Path(__file__).parents[2].parent / "shared/data/mitre-atlas-5.6.0.yaml"
THIEF = "spiffe://test.local/service/prod/shop"
DAY0 = 20_000 * burst.DAY_MS
NOON = DAY0 + burst.DAY_MS // 2


def denied(number: int, at: int, **changes) -> Event:
    base = Event(
        source="gateway", source_epoch=1, source_seq=number, occurred_at=at, observed_at=at + 100, principal=THIEF, authenticated=True,
        action="infer", resource=f"vg://test.local/endpoint/e{number}", enforced_by="gateway", outcome="denied", peer="10.0.0.7:4711",
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def sweep(count: int, at: int = NOON, **changes) -> list[Event]:
    return [denied(number, at + number * 100, **changes) for number in range(count)]


def run(*batches) -> tuple[burst.State, list]:
    state, found = burst.start(), []
    for batch in batches:
        state, more = burst.step(state, batch)
        found += more
    return state, found


def test_a_quick_sweep_is_found_once_with_its_basis():
    _, found = run(sweep(40))
    (one,) = found
    assert one.subject == THIEF and one.authenticated_basis and one.severity == "high" and one.technique == "AML.T0012"
    assert one.e_or_p_value >= 1 / burst.ALARM_BOUND and one.statistic == 8
    assert one.events == ("gateway/1/5", "gateway/1/6", "gateway/1/7")
    assert one.expires_at == DAY0 + 2 * burst.DAY_MS and one.clears_when
    assert decode(type(one), encode(one)) == one


def test_a_slow_sweep_is_found_too():
    batches = [[denied(w * 10 + n, NOON + w * burst.WINDOW_MS + n) for n in range(4)] for w in range(12)]
    _, found = run(*batches)
    assert len(found) == 1 and found[0].statistic <= 24


@pytest.mark.parametrize("at", [DAY0, NOON, DAY0 + burst.DAY_MS - burst.WINDOW_MS])
def test_calm_before_does_not_outweigh_a_burst(at):
    assert len(run(sweep(9, at))[1]) == 1


@pytest.mark.parametrize(
    "batch",
    [
        [],
        sweep(7),
        [denied(n, NOON + n, resource="vg://test.local/endpoint/same") for n in range(5000)],
        sweep(40, outcome="allowed"),
        sweep(40, outcome="failed"),
        sweep(40, phase="start"),
        sweep(40, principal="", peer=""),
        [denied(n, NOON + n * burst.WINDOW_MS) for n in range(100)],
        [denied(n, NOON + n, principal=f"{THIEF}{n}") for n in range(200)],
    ],
    ids=["nothing", "too few", "one call retried", "allowed", "failed", "starts", "nobody", "one a window", "each another caller"],
)  # fmt: skip
def test_what_is_no_burst(batch):
    assert run(batch)[1] == []


@pytest.mark.parametrize(("principal", "peer", "authenticated"), [("", "", False), ("", "10.0.0.7:1", True), ("", "", True)])
def test_an_event_of_nobody_is_not_weighed(principal, peer, authenticated):
    state, found = run(sweep(40, principal=principal, peer=peer, authenticated=authenticated))
    assert (found, state) == ([], burst.start())


def test_two_new_cells_a_window_are_found_within_two_hours():
    events = [denied(w * 2 + n, DAY0 + w * burst.WINDOW_MS + n) for w in range(burst.WINDOWS) for n in range(2)]
    (one,) = run(events)[1]
    assert one.statistic <= 2 * 24


def test_reading_a_batch_twice_adds_nothing():
    once, found = run(sweep(7))
    again, more = burst.step(once, sweep(7))
    assert again.verified == once.verified and (found, more) == ([], ())


def test_the_state_handed_in_is_not_changed():
    state, _ = run(sweep(5))
    before = dict(state.verified)
    burst.step(state, sweep(40))
    assert state.verified == before


def test_splitting_a_batch_changes_nothing():
    events = sweep(30)
    whole = run(events)
    assert whole == run(*[[event] for event in events]) == run(events[:3], events[3:])


def test_the_unverified_are_counted_by_address_and_not_against_a_verified_name():
    _, found = run(sweep(40, principal="", authenticated=False))
    assert [(one.subject, one.authenticated_basis, one.severity, one.technique) for one in found] == [
        ("peer:10.0.0.7", False, "medium", "AML.T0006")
    ]
    framed = run(sweep(7), sweep(40, authenticated=False))[1]
    assert [one.authenticated_basis for one in framed] == [False]
    both = run(sweep(40), sweep(40, authenticated=False))[1]
    assert len({one.id for one in both}) == 2


def test_a_flood_of_unverified_names_does_not_push_out_a_verified_one(monkeypatch):
    monkeypatch.setattr(burst, "MAX_SUBJECTS", 10)
    flood = [denied(n, NOON, principal=f"name-{n}", authenticated=False) for n in range(50)]
    state, found = run(sweep(7), flood, [denied(7, NOON + 9)])
    assert len(found) == 1 and found[0].subject == THIEF
    assert len(state.unverified) == 10 and state.forgotten == 40


def test_late_events_are_counted_not_weighed():
    state, found = run(sweep(7), sweep(40, NOON - burst.WINDOW_MS))
    assert found == [] and state.late == 40


def test_a_clock_far_ahead_does_not_silence_what_follows():
    wild = denied(99, NOON + 400 * burst.DAY_MS, observed_at=NOON)
    state, found = run([wild], sweep(9))
    assert state.late == 0 and len(found) == 1


def test_the_cells_of_a_window_are_bounded():
    state, _ = run(sweep(5000))
    assert len(state.verified[THIEF].cells) == burst.MAX_CELLS


def test_a_value_that_has_long_alarmed_stays_a_number():
    state, found = run(*[sweep(60, DAY0 + w * burst.WINDOW_MS) for w in range(burst.WINDOWS)])
    assert len(found) == 1 and 0 < state.verified[THIEF].value < float("inf")


def test_a_new_day_begins_anew_and_may_alarm_again():
    _, found = run(sweep(40), sweep(40, NOON + burst.DAY_MS))
    assert len(found) == 2 and found[0].id != found[1].id


def benign_days(mean: float, days: int) -> int:
    """Alarms among principal-days whose windows hold Poisson(mean) new refused cells."""
    draw = random.Random(20261123)
    alarms = 0
    for _ in range(days):
        events, number = [], 0
        for window in range(burst.WINDOWS):
            left = 1.0
            while (left := left * draw.random()) > 2.718281828**-mean:
                events.append(denied(number, DAY0 + window * burst.WINDOW_MS))
                number += 1
        alarms += len(burst.step(burst.start(), events)[1])
    return alarms


def test_the_promised_rate_of_false_alarms_holds_and_breaks_where_its_assumption_does(monkeypatch):
    monkeypatch.setattr(burst, "ALARM_BOUND", 0.05)
    # 200 days at 5%: more than 20 has probability below 0.002 if the bound holds.
    assert benign_days(burst.BENIGN, 200) <= 20
    assert benign_days(6 * burst.BENIGN, 20) == 20


def test_the_expected_value_of_a_benign_day_is_one():
    """Rule 2 checked exactly: E[value] stays 1 when each window's factor has mean 1."""
    running = 0.0
    for window in range(burst.WINDOWS):
        running = burst._passed(running, 1) / burst._PRICE
        assert burst.Track(day=0, window=window, running=running).value == pytest.approx(1)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 1e6))
def test_passing_windows_at_once_or_one_by_one_is_the_same(first, second, running):
    assert burst._passed(burst._passed(running, first), second) == pytest.approx(burst._passed(running, first + second))


@settings(max_examples=200)
@given(st.lists(st.builds(
    denied, st.integers(0, 30), st.integers(NOON - 10**7, NOON + 10**7), principal=st.sampled_from(["", THIEF, "\ud800"]),
    authenticated=st.booleans(), outcome=st.sampled_from(["denied", "allowed", ""]), peer=st.text(max_size=8), resource=st.sampled_from(["", "r", "\udfff"]),
), max_size=60))  # fmt: skip
def test_any_events_give_valid_findings_and_one_more_refusal_never_lowers_the_value(events):
    state, found = burst.step(burst.start(), events)
    for one in found:
        check_finding(burst.DETECTOR, one)
    for sort in (state.verified, state.unverified):
        assert all(track.value >= 0 for track in sort.values())


def test_the_techniques_are_in_atlas():
    if not ATLAS.exists():
        pytest.skip(f"{ATLAS.name} is not here")
    known = set(re.findall(r"^ *-? *id: (AML\.T[0-9.]+)$", ATLAS.read_text("utf-8"), re.MULTILINE))
    assert len(known) > 100
    for one in detectors().values():
        assert one.techniques <= known


def test_the_catalog_runs_every_detector_and_keeps_their_states():
    states, found = assess({}, sweep(7))
    assert found == ()
    states, found = assess(states, [denied(7, NOON + 5000)])
    assert [one.detector for one in found] == ["denied-burst"] and set(states) == set(detectors())


def test_the_catalog_refuses_unknown_names():
    with pytest.raises(NotFound) as caught:
        detector("denied-burts")
    assert "denied-burst" in caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"events": ("a", "b", "c", "d")}, {"technique": "AML.T9999"}, {"technique": ""}, {"clears_when": ""}, {"detector": "other"},
        {"detector_version": "2"}, {"unit": "query"}, {"budget_id": "denied-burst/principal-day/1"}, {"subject": ""}, {"id": ""},
    ],
)  # fmt: skip
def test_a_finding_that_its_detector_did_not_declare_is_refused(change):
    (good,) = run(sweep(40))[1]
    check_finding(burst.DETECTOR, good)
    with pytest.raises(InvalidInput):
        check_finding(burst.DETECTOR, msgspec.structs.replace(good, **change))
