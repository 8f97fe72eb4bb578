"""The supervisor's rules with children that a test ends by hand."""

from __future__ import annotations

import errno
from itertools import pairwise

from vouchgate.flows.supervise import FIRST_PAUSE, LONGEST_PAUSE, STEADY, Supervisor, Unit
from vouchgate.vocabulary.processes import Spec


class Child:
    pid = 7

    def __init__(self, name: str, ended: list[str]) -> None:
        self.name, self.status, self._ended = name, None, ended

    def ended(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self._ended.append(self.name)

    def wait(self, seconds: float = 0) -> int:
        return 0


def unit(name: str = "one", rank: int = 0) -> Unit:
    return Unit(lambda: Spec(name=name, argv=("/bin/true",)), rank=rank)


def test_a_unit_that_cannot_be_started_is_tried_again_with_a_growing_pause() -> None:
    tried: list[float] = []
    made, now = unit(), [0.0]

    def start(_: Spec) -> Child:
        tried.append(now[0])
        raise OSError(errno.ENOSPC, "no space")

    while now[0] < 30:
        happened = made.tend(start, now[0])
        assert happened in ("", "not started")
        now[0] += FIRST_PAUSE / 2
    pauses = [round(later - earlier, 3) for earlier, later in pairwise(tried)]
    assert 8 < len(tried) < 20
    assert pauses[0] <= 2 * FIRST_PAUSE and LONGEST_PAUSE <= pauses[-1] <= LONGEST_PAUSE + FIRST_PAUSE
    assert made.last_exit == errno.ENOSPC and made.child is None
    assert made.tend(lambda _: Child("one", []), now[0] + LONGEST_PAUSE) == "started"


def test_a_unit_that_ends_is_started_again_and_falls_back_after_a_steady_life() -> None:
    made, children = unit(), []

    def start(_: Spec) -> Child:
        children.append(Child("one", []))
        return children[-1]

    assert made.tend(start, 0) == "started"
    children[-1].status = 3
    assert made.tend(start, 1) == "ended"
    assert made.tend(start, 1 + FIRST_PAUSE / 2) == ""
    assert made.tend(start, 1 + FIRST_PAUSE) == "started"
    assert made.tend(start, 2 + FIRST_PAUSE + STEADY) == ""
    children[-1].status = -9
    assert made.tend(start, 20) == "ended"
    assert made.tend(start, 20 + FIRST_PAUSE) == "started"
    assert made.restarts == 2


def test_one_unit_that_cannot_be_started_does_not_stop_the_others() -> None:
    told: list[tuple[str, str, int]] = []

    def start(spec: Spec) -> Child:
        if spec.name == "broken":
            raise FileNotFoundError(errno.ENOENT, "no such program")
        return Child(spec.name, [])

    supervisor = Supervisor(start, lambda *words: told.append(words))
    supervisor.add("broken", unit("broken"))
    supervisor.add("fine", unit("fine"))
    assert told == [("broken", "not started", errno.ENOENT), ("fine", "started", 7)]


def test_the_highest_rank_ends_first_and_each_end_is_noted() -> None:
    ended: list[str] = []
    supervisor = Supervisor(lambda spec: Child(spec.name, ended), lambda *_: None)
    for name, rank in {"signer": 0, "control": 2, "gateway": 6}.items():
        supervisor.add(name, unit(name, rank))
    supervisor.stop()
    assert ended == ["gateway", "control", "signer"]
    assert [one.last_exit for one in supervisor.units.values()] == [0, 0, 0]
