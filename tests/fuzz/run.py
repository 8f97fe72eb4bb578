"""Every fuzz target for a while, two at a time: `python tests/fuzz/run.py [SECONDS [NAME ...]]`; exit 1 if one has a finding."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import checks
import documents

SECONDS = 60
AT_ONCE = 2
TARGET = Path(__file__).with_name("target.py")


def run(name: str, seconds: int) -> bool:
    """Whether the target ended without a finding; its last lines are printed."""
    ended = subprocess.run([sys.executable, str(TARGET), name, f"-max_total_time={seconds}"], capture_output=True, text=True, check=False)
    told = [
        line
        for line in ended.stderr.splitlines()
        if "Error" in line or "ERROR" in line or "number_of_executed_units" in line or "Test unit" in line
    ]
    print(f"{name}: {'nothing found' if ended.returncode == 0 else 'FOUND'}; {' | '.join(told[-4:])}", flush=True)
    return ended.returncode == 0


def main(arguments: list[str]) -> int:
    seconds = int(arguments[0]) if arguments else SECONDS
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return 0 if all(list(pool.map(lambda name: run(name, seconds), arguments[1:] or [*checks.names(), *documents.names()]))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
