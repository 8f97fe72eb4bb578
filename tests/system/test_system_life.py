"""Dying, stopping and coming back: what is acknowledged stays, what was granted lapses, and nothing of the tree is left behind.

The long campaign with hundreds of kills is `make eval-faults`; here each process is killed once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from installation import CORE, SERVERS, Caller, Installation, mine

LEASE = 2


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with Installation(lease=LEASE) as running:
        yield running


@pytest.fixture(scope="module")
def gone(house: Installation) -> Caller:
    """A caller that was let in and was revoked: never again, whatever dies."""
    made = house.caller("gone")
    house.until(lambda: house.infer(made).status == 200, 10)
    assert house.revoke(made.principal, "principal").revocation is not None
    return made


def back(house: Installation, alice: Caller, gone: Caller, seconds: float = 30) -> float:
    """Until an allowed call is answered and everything is ready; meanwhile nobody else is let in."""

    def well() -> bool:
        assert house.infer(gone).status != 200
        assert house.infer(None).status != 200
        return house.infer(alice).status == 200 and house.ready()

    return house.until(well, seconds, "no way back")


@pytest.mark.parametrize("name", [*CORE, *SERVERS])
def test_a_killed_process_comes_back_and_nothing_acknowledged_is_lost(house: Installation, alice: Caller, gone: Caller, name: str) -> None:
    before = house.status().log_size
    pid = house.send(name, signal.SIGKILL)
    back(house, alice, gone)
    house.until(lambda: house.processes().get(name, pid) != pid, 10, "it was not started again")
    assert house.status().log_size >= before
    assert house.audited().ok


@pytest.mark.parametrize("name", [*CORE, *SERVERS])
def test_a_stopped_process_lets_nobody_in_and_goes_on(house: Installation, alice: Caller, gone: Caller, name: str) -> None:
    house.send(name, signal.SIGSTOP)
    try:
        until = time.monotonic() + LEASE / 2
        while time.monotonic() < until:
            assert house.infer(gone, timeout=0.5).status != 200
            assert house.infer(None, timeout=0.5).status != 200
    finally:
        house.send(name, signal.SIGCONT)
    back(house, alice, gone)


def test_a_killed_gateway_is_an_entry(house: Installation, alice: Caller, gone: Caller) -> None:
    before = house.status().log_size
    house.send("gateway", signal.SIGKILL)
    back(house, alice, gone)
    house.until(
        lambda: any(entry.kind == "gap" and "-9" in str(mine(entry).get("reason")) for entry in house.entries(before)), 5, "no gap is told"
    )


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_without_a_control_plane_grants_live_at_most_their_lease_then_503_with_a_reason(
    house: Installation, alice: Caller, gone: Caller, how: signal.Signals
) -> None:
    back(house, alice, gone)
    house.send("supervisor", signal.SIGSTOP)
    try:
        began = time.monotonic()
        house.send("control", how)
        last = began
        answer = house.infer(alice)
        while time.monotonic() - began < 2 * LEASE + 1:
            answer = house.infer(alice)
            last = time.monotonic() if answer.status == 200 else last
            assert house.infer(gone).status != 200
        assert last - began <= LEASE + 0.3, f"still allowed after {last - began:.2f} s"
        assert answer.status == 503
        assert answer.problem["detail"] and answer.problem["remedy"], answer
        assert house.infer(None).status in (401, 503)
    finally:
        if how is signal.SIGSTOP:
            house.send("control", signal.SIGCONT)
        house.send("supervisor", signal.SIGCONT)
    back(house, alice, gone)


def test_every_line_of_the_gateway_is_in_the_audit_log_once(house: Installation, alice: Caller) -> None:
    from vouchgate.edges.envoy.log_fields import read_fields

    for _ in range(20):
        house.infer(alice)
    rows = [read_fields(line) for path in house.layout.gateway_logs.glob("access.log*") for line in path.read_bytes().splitlines()]
    written = sorted((row["id"], row["kind"] == "DownstreamEnd") for row in rows)

    def logged() -> bool:
        entries = [entry for entry in house.entries() if entry.kind in ("request-end", "request-start")]
        return sorted((mine(entry)["request_id"], entry.kind == "request-end") for entry in entries) == written

    house.until(logged, 10, "the audit log and the gateway's differ", pause=0.2)
    assert len(written) > 100


# --- ending -----------------------------------------------------------------------------------------------------------------------
