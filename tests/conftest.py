"""What every test shares: names of parametrised cases that are the same in every worker, and the order of files."""

from __future__ import annotations

import signal
import threading

import pytest

LONG = 40
"""Characters of a value that may stand in a test's name; longer ones are keys and digests, made anew in each process."""

# Where the tests are a shell's background job, interrupts are ignored, and every process that they start would ignore them too.
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(config: object, val: object, argname: str) -> str | None:
    """The argument's name in place of a long value; pytest numbers what is not unique."""
    return argname if isinstance(val, bytes | str) and len(val) > LONG else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole process tree first: its few tests are long, and a worker that begins one last lets the others wait."""
    items.sort(key=lambda item: 0 if "system" in item.path.parts or item.path.name.startswith(("test_signer", "test_key_acts")) else 1)
