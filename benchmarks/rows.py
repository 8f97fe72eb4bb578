"""Rows of figures: printed for people, kept as JSON lines in build/figures/NAME.jsonl with the machine they were measured on.

    name | value | unit | goal | met | n | interval

`met` is None where a row has no goal. For a null or a sabotage, `met` says that it was found out. `exit_code` is 1 where any goal is missed.
"""

from __future__ import annotations

import math
import os
import platform
import random
import sqlite3
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec

FIGURES = Path(__file__).resolve().parents[1] / "build" / "figures"
VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
"""Filesystems that forget; nothing on them is durable."""
RESAMPLES = 2_000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure."""

    name: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None
    n: int = 0
    """What was counted: rounds, calls, entries."""
    interval: tuple[float, float] | None = None
    """95%."""
    note: str = ""
    """Numerator and denominator, exclusions and why."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where a figure was measured."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    sqlite: str
    filesystem: str
    """Of build/, where benchmarks keep their data."""


@cache
def machine() -> Machine:
    """This machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=models[0] if models else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        filesystem=filesystem(FIGURES),
    )


def filesystem(path: Path) -> str:
    """Type of the filesystem that holds `path`, or its nearest parent that exists."""
    while not path.exists():
        path = path.parent
    place = str(path.resolve())
    found, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, this, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if (place == mount or place.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(found):
            found, kind = mount, this
    return kind


def median_interval(
    values: Sequence[float], seed: int = 1, of: Callable[[Sequence[float]], float] = statistics.median
) -> tuple[float, float]:
    """95% percentile bootstrap of `of` over the values."""
    chance = random.Random(seed)
    drawn = sorted(of(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return drawn[int(RESAMPLES * 0.025)], drawn[int(RESAMPLES * 0.975)]


def share_interval(found: int, of: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927, without continuity correction)."""
    if not of:
        return 0.0, 1.0
    z, share = 1.959964, found / of
    middle, width = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - width) / (1 + z * z / of)), min(1.0, (middle + width) / (1 + z * z / of))


def line(row: Row) -> str:
    """A row as people read it."""
    met = {None: "-", True: "yes", False: "NO"}[row.met]
    interval = "-" if row.interval is None else f"{row.interval[0]:,.4g}..{row.interval[1]:,.4g}"
    text = f"{row.name} | {row.value:,.4g} | {row.unit} | {row.goal or '-'} | {met} | {row.n:,} | {interval}"
    return f"{text} | {row.note}" if row.note else text


def emit(name: str, rows: Sequence[Row], *, folder: Path = FIGURES) -> None:
    """Print the rows and replace build/figures/NAME.jsonl with them."""
    if len({row.name for row in rows}) != len(rows):
        raise ValueError("two rows have one name")
    folder.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    common = {"benchmark": name, "measured_at": at, "machine": msgspec.to_builtins(machine())}
    sys.stdout.write("name | value | unit | goal | met | n | interval\n")
    lines = []
    for row in rows:
        sys.stdout.write(line(row) + "\n")
        lines.append(msgspec.json.encode(msgspec.to_builtins(row) | common))
    part = folder / f"{name}.jsonl.part"
    part.write_bytes(b"\n".join(lines) + b"\n")
    part.replace(folder / f"{name}.jsonl")


def exit_code(rows: Sequence[Row]) -> int:
    """1 where any goal is missed."""
    return int(any(row.met is False for row in rows))
