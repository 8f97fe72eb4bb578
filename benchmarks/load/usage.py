"""What processes use: processor time and resident memory, by role.

Processor time is the kernel's per-process clock (clock_getcpuclockid(3), nanoseconds, all threads, ended ones too), not the 10 ms
ticks of /proc/<pid>/stat, which would hide a call. Memory is RSS and PSS: PSS counts a page shared by n processes as 1/n, so that a
tree's PSS may be added up and its RSS may not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes resident, and bytes as shared out."""

    rss: int
    pss: int


def cpu_ns(pid: int) -> int:
    """Processor time of a process so far; 0 where it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED), linux/posix-timers.h
    except OSError:
        return 0


def memory(pid: int) -> Memory:
    """RSS and PSS of a process; zeros where it is gone or hidden."""
    found = {"Rss": 0, "Pss": 0}
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return Memory(rss=0, pss=0)
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return Memory(rss=found["Rss"], pss=found["Pss"])


def tree(root: int) -> dict[int, str]:
    """The pids below and including `root`, each with its command line."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, todo = {}, [root]
    while todo:
        pid = todo.pop()
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        todo += children.get(pid, [])
    return found


class CpuMeter:
    """Processor time by role while a variant is being called."""

    def __init__(self, roles: Mapping[str, Iterable[int]]) -> None:
        self._roles = {role: tuple(pids) for role, pids in roles.items()}
        self._began: dict[str, int] = {}
        self.spent: dict[str, dict[str, int]] = {}
        """Variant -> role -> nanoseconds."""

    def around(self, variant: str, begins: bool) -> None:
        """To be handed to `rounds.interleave`."""
        now = {role: sum(map(cpu_ns, pids)) for role, pids in self._roles.items()}
        if begins:
            self._began = now
            return
        spent = self.spent.setdefault(variant, dict.fromkeys(self._roles, 0))
        for role, value in now.items():
            spent[role] += value - self._began[role]
