"""The clock over any sequence of steps of the machine's own clocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vouchgate.ports.clock import MAX_LEAD_MS, Clock
from vouchgate.vocabulary.vouches import UnixMillis

START = 1_790_000_000_000


class Machine:
    """Wall time and steady time that the test moves."""

    def __init__(self, at: int = START) -> None:
        self.wall_ms, self.steady_ms = at, 500

    def wall(self) -> int:
        return self.wall_ms * 1_000_000

    def steady(self) -> int:
        return self.steady_ms * 1_000_000

    def clock(self, floor: int = 0) -> Clock:
        return Clock(UnixMillis(floor), wall=self.wall, monotonic=self.steady)

    def pass_time(self, milliseconds: int) -> None:
        self.wall_ms += milliseconds
        self.steady_ms += milliseconds


def test_time_passes() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock.now() == START
    machine.pass_time(1234)
    assert (clock.now(), clock.trouble) == (START + 1234, "")


def test_a_jump_ahead_freezes_and_is_not_followed() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_ms += 3_600_000
    machine.pass_time(10)
    assert clock.now() == START + 10
    assert "3600000 ms" in clock.trouble
    machine.pass_time(10)
    assert clock.now() == START + 20


def test_a_jump_ahead_counts_once_a_person_accepts_it() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_ms += 3_600_000
    clock.now()
    clock.accept()
    assert clock.trouble == ""
    assert clock.now() == START + 3_600_000


def test_a_step_back_is_slept_through() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(5_000)
    clock.now()
    machine.wall_ms -= 60_000
    machine.pass_time(100)
    assert clock.now() == START + 5_100
    assert "-60000 ms" in clock.trouble


def test_a_small_step_either_way_is_no_trouble_and_never_goes_back() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_ms += MAX_LEAD_MS
    assert (clock.now(), clock.trouble) == (START + MAX_LEAD_MS, "")
    machine.wall_ms -= MAX_LEAD_MS
    assert (clock.now(), clock.trouble) == (START + MAX_LEAD_MS, "")


def test_an_accepted_step_back_stands_still_until_it_is_caught_up() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall_ms += 3_600_000
    clock.accept()
    assert clock.now() == START + 3_600_000
    machine.wall_ms -= 3_600_000
    clock.accept()
    assert clock.now() == START + 3_600_000
    assert clock.trouble == ""
    machine.pass_time(3_600_000 - MAX_LEAD_MS)
    assert (clock.now(), clock.trouble) == (START + 3_600_000, "")
    machine.wall_ms += 7_200_000
    clock.now()
    assert clock.trouble, "what was accepted was that step, not the next one"
    machine.wall_ms -= 7_200_000
    machine.pass_time(MAX_LEAD_MS + 7)
    assert clock.now() == START + 3_600_007


def test_a_start_behind_the_log_is_trouble_until_it_is_reached() -> None:
    machine = Machine()
    clock = machine.clock(START + 60_000)
    assert "60000 ms behind" in clock.trouble
    clock.raise_floor(UnixMillis(START + 61_000))
    clock.accept()
    assert clock.trouble == ""
    clock.raise_floor(UnixMillis(START + 62_000))
    clock.now()
    assert clock.trouble, "a floor that rose since was not accepted"
    clock = machine.clock(START + 60_000)
    assert clock.now() == START + 60_000
    machine.pass_time(59_000)
    assert (clock.now(), clock.trouble) == (START + 60_000, "")
    machine.pass_time(2_000)
    assert clock.now() == START + 61_000


def test_a_start_a_moment_behind_the_log_is_no_trouble() -> None:
    clock = Machine().clock(START + MAX_LEAD_MS)
    assert (clock.trouble, clock.now()) == ("", START + MAX_LEAD_MS)


def test_a_raised_floor_counts_at_once() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.raise_floor(UnixMillis(START + 50))
    clock.raise_floor(UnixMillis(START + 20))
    assert clock.now() == START + 50


def test_the_machines_own_clocks_are_the_default() -> None:
    clock = Clock()
    first = clock.now()
    assert first > START - 10**12
    assert clock.now() >= first
    assert clock.trouble == ""


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 10_000)),
        st.tuples(st.just("step"), st.integers(-(10**7), 10**7)),
        st.tuples(st.just("nudge"), st.integers(-MAX_LEAD_MS, MAX_LEAD_MS)),
        st.tuples(st.just("floor"), st.integers(-(10**6), 10**6)),
        st.tuples(st.just("accept"), st.just(0)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(-(10**6), 10**6))
def test_it_never_goes_back_and_never_leads_the_steady_clock(steps: list[tuple[str, int]], floor: int) -> None:
    machine = Machine()
    clock = machine.clock(START + floor)
    last, highest_floor, anchor = clock.now(), START + floor, (machine.wall_ms, machine.steady_ms)
    used = last
    for what, amount in steps:
        if what == "pass":
            machine.pass_time(amount)
        elif what in {"step", "nudge"}:
            machine.wall_ms += amount
        elif what == "floor":
            clock.raise_floor(UnixMillis(START + amount))
            highest_floor = max(highest_floor, START + amount)
        elif what == "accept":
            clock.accept()
            anchor, used = (machine.wall_ms, machine.steady_ms), max(last, highest_floor)
        now = clock.now()
        steady = anchor[0] + machine.steady_ms - anchor[1]
        assert now >= last
        assert now >= highest_floor
        assert now <= max(steady + MAX_LEAD_MS, used, highest_floor)
        if not clock.trouble and what != "accept" and now > used:
            assert abs(now - machine.wall_ms) <= 2 * MAX_LEAD_MS, "a wrong time is never given without trouble"
        last = now
