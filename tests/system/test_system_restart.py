"""The control plane is killed while calls go on: nobody who is granted notices, and what was revoked just before is enforced before any grant
is renewed."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from installation import Caller, Installation

from vouchgate.vocabulary.answers_decisions import EndpointState
from vouchgate.vocabulary.errors import VouchgateError

LEASE, CALLERS = 10, 3
"""The lease that installations have by default."""


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with Installation(lease=LEASE) as running:
        yield running


@pytest.fixture(scope="module")
def callers(house: Installation) -> list[Caller]:
    made = [house.caller(f"steady-{number}") for number in range(CALLERS)]
    for one in made:
        house.until(lambda one=one: house.infer(one).status == 200, 10, "a caller was not let in")  # type: ignore[misc]
    house.until(house.ready, 10)
    return made


class Load(threading.Thread):
    """One caller without a pause: what it was answered, and when it was last let in."""

    def __init__(self, house: Installation, caller: Caller) -> None:
        super().__init__(daemon=True)
        self.house, self.caller = house, caller
        self.seen: Counter[tuple[int, str]] = Counter()
        self.let_in = 0.0
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            began = time.monotonic()
            answer = self.house.infer(self.caller, timeout=5.0)
            self.seen[answer.status, str(answer.problem.get("type", ""))] += 1
            if answer.status == 200:
                self.let_in = began

    def stop(self) -> Counter[tuple[int, str]]:
        self.ended.set()
        self.join(10)
        return self.seen


def kill(house: Installation, *, decided_after: float = 0.0) -> None:
    """Kill the control plane; the PDP worker decides nothing until so many seconds after the new one is there."""
    if decided_after:
        house.send("pdp", signal.SIGSTOP)
    try:
        pid = house.send("control", signal.SIGKILL)
        house.until(lambda: house.processes().get("control", pid) != pid, 20, "the control plane was not started again")
        house.until(house.layout.api_socket.exists, 20)
        house.until(lambda: answers(house), 20, "the control plane does not answer")
        time.sleep(decided_after)
    finally:
        if decided_after:
            house.send("pdp", signal.SIGCONT)
    house.until(house.ready, 30, "the control plane did not get ready")


def answers(house: Installation) -> bool:
    try:
        house.status()
    except VouchgateError:
        return False
    return True


@pytest.mark.parametrize("decided_after", [0.0, 0.0, 1.5])
def test_no_granted_call_is_refused_when_the_control_plane_is_killed(
    house: Installation, callers: list[Caller], decided_after: float
) -> None:
    loads = [Load(house, one) for one in callers]
    kill(house, decided_after=decided_after)
    # past the release of what was withheld
    time.sleep(0.5)
    seen = [load.stop() for load in loads]
    assert [{key: count for key, count in one.items() if key[0] != 200} for one in seen] == [{}] * CALLERS
    assert all(one[200, ""] > 10 for one in seen)


@pytest.mark.parametrize("kind", ["principal", "digest"])
def test_what_was_revoked_just_before_the_kill_is_enforced_before_any_grant_is_renewed(
    house: Installation, callers: list[Caller], kind: str
) -> None:
    gone = house.caller("gone")
    house.until(lambda: house.infer(gone).status == 200, 10)
    digits = next(
        one.endpoint for one in house.client.get(tuple[EndpointState, ...], "/api/v1/endpoints") if one.endpoint.id.endswith("/digits")
    )
    # what the control plane sends now lies unread, and ends with its connection at the latest
    house.send("gateway", signal.SIGSTOP)
    try:
        made = house.revoke(gone.principal if kind == "principal" else digits.model_digest, kind).revocation
        assert made is not None
        pid = house.send("control", signal.SIGKILL)
        house.until(lambda: house.processes().get("control", pid) != pid, 20)
        house.until(lambda: answers(house), 20)
    finally:
        house.send("gateway", signal.SIGCONT)
    house.until(lambda: house.infer(gone).status == 403, 3.0, "what was revoked still counts")
    house.until(house.ready, 30)
    assert house.infer(gone).status == 403
    assert {house.infer(one).status for one in callers} == ({200} if kind == "principal" else {403})
    house.undo(made.id)
    house.until(lambda: all(house.infer(one).status == 200 for one in callers), 10)
