"""The end of the whole tree: asked for, while it hangs, while it starts, and when the supervisor is killed. Nothing of it is left behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from installation import Installation

LEASE = 2


def read(path: Path) -> bytes:
    """A file of /proc, whose process may just have ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("isolate", ["auto", "off"])
def test_ctrl_c_ends_everything_within_five_seconds_and_a_second_start_knows_what_was(isolate: str) -> None:
    house = Installation(isolate=isolate, lease=LEASE)
    try:
        house.start()
        alice, gone = house.caller("alice"), house.caller("gone")
        house.until(lambda: house.infer(alice).status == 200, 10)
        house.revoke(gone.principal, "principal")
        size = house.status().log_size
        assert house.stop(signal.SIGINT) < 5
        assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(house.folder).encode() in read(path)]
        house.start()
        house.until(lambda: house.infer(alice).status == 200, 10, "the grants did not come back")
        assert house.infer(gone).status == 403
        assert house.status().log_size > size
        assert house.audited().ok
        assert "gap" not in {entry.kind for entry in house.entries()}
        assert house.stop(signal.SIGTERM) < 5
    finally:
        house.close()


def test_ctrl_c_while_processes_hang_and_while_it_starts_leaves_nothing_behind() -> None:
    house = Installation(lease=LEASE)
    try:
        house.start()
        for name in ("tailer", "digits", "pdp", "witness"):
            house.send(name, signal.SIGSTOP)
        assert house.stop(signal.SIGINT) < 8
        for pause in (0.3, 0.6, 1.2):
            house.start(ready=False)
            time.sleep(pause)
            assert house.stop(signal.SIGINT) < 5
        house.start()
        alice = house.caller("alice")
        house.until(lambda: house.infer(alice).status == 200, 10)
    finally:
        house.close()


def test_a_killed_supervisor_takes_its_tree_along_and_the_next_start_says_so() -> None:
    house = Installation(lease=LEASE)
    try:
        house.start()
        alice = house.caller("alice")
        house.until(lambda: house.infer(alice).status == 200, 10)
        house.stop(signal.SIGKILL)
        house.start()
        house.until(lambda: house.infer(alice).status == 200, 10)
        house.until(lambda: any(entry.kind == "gap" for entry in house.entries()), 5)
        assert house.audited().ok
    finally:
        house.close()
