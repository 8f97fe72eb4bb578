"""The kernel's word on where a process runs: `/proc/<pid>/cgroup`, read strictly (cgroups(7)).

Rules
1. A line is `hierarchy:controllers:path`. Every path begins at the root of the collector's own view, so only root, and whoever root lets
   (systemd, a container runtime, slurmstepd), makes the groups that the patterns here begin with. A user may make groups too, but below
   `/user.slice/...`, and a container below its own: so a pattern always holds the whole path, from its first to its last character.
2. A path with `..` (outside of the collector's view), with an empty segment, blanks or control characters, or of a group that was deleted
   is no path.
3. Where version 1 hierarchies are mounted beside version 2, all that name something must name the same; `/` names nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied

MAX_LINES = 64
"""Hierarchies of a process; the kernel has about 14 controllers."""
MAX_PATH = 4_096
"""Characters of a cgroup's path (PATH_MAX)."""
_LINE = re.compile(r"([0-9]{1,5}):([A-Za-z0-9_=,.-]*):(/.*)\Z")
_SEGMENT = re.compile(r"[\x21-\x2e\x30-\x7e]{1,255}\Z")
_STEP_V1 = re.compile(r"/slurm(?:_[A-Za-z0-9._-]{1,64})?/uid_(?P<uid>0|[1-9][0-9]{0,9})/job_(?P<job>[1-9][0-9]{0,9})"
                      r"/step_(?P<step>0|[1-9][0-9]{0,9}|batch|extern|interactive)(?:/task_(?P<task>0|[1-9][0-9]{0,9}))?\Z")  # fmt: skip
_STEP_V2 = re.compile(r"/system\.slice/(?:[A-Za-z0-9._-]{1,64}_)?slurmstepd\.scope/job_(?P<job>[1-9][0-9]{0,9})"
                      r"/step_(?P<step>0|[1-9][0-9]{0,9}|batch|extern|interactive)/user/task_(?P<task>0|[1-9][0-9]{0,9}|special)\Z")  # fmt: skip

_CONTAINED = re.compile(r"/(?:docker|kubepods|kubepods\.slice|libpod_parent|kubelet|kubelet\.slice|garden|lxc|podruntime)/"
                        r"|/lxc\.payload|(?:docker|libpod|cri-containerd|crio|nerdctl|containerd)[-:][0-9a-z:-]*[0-9a-f]{64}")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """One line."""

    hierarchy: int
    """0 is cgroup version 2."""
    controllers: str
    path: str


@dataclass(frozen=True)
class Step:
    """A Slurm job step, as slurmstepd's cgroup names it."""

    job: int
    step: str
    """A number, `batch`, `extern` or `interactive`."""
    task: str
    """The task's number in the step, or nothing where the cgroup does not say."""
    uid: int | None
    """The user in the path (version 1 alone)."""


def read_groups(lines: Sequence[str]) -> tuple[Group, ...]:
    """Take the lines apart. Raises `InvalidInput` where they are not what the kernel writes."""
    if not 1 <= len(lines) <= MAX_LINES:
        raise InvalidInput("the process has no bounded list of cgroups", remedy="collect the facts again")
    groups: list[Group] = []
    for line in lines:
        found = _LINE.match(line)
        if not found or len(found[3]) > MAX_PATH:
            raise InvalidInput("a cgroup line is not `hierarchy:controllers:path`", remedy="collect the facts again")
        groups.append(Group(int(found[1]), found[2], found[3]))
    return tuple(groups)


def named_paths(lines: Sequence[str]) -> tuple[str, ...] | Denied:
    """The different paths that the process is in, without `/`; `Denied` where one is no path (rule 2)."""
    paths = {group.path for group in read_groups(lines)} - {"/"}
    if not all(is_path(path) for path in paths):
        return Denied(
            code="cgroup-unreadable", reason="a cgroup of the process is deleted or outside of this machine's view",
            remedy="run the collector on the host, and the workload in a cgroup that its manager made",
        )  # fmt: skip
    return tuple(sorted(paths))


def is_path(path: str) -> bool:
    """Whether every segment can be believed (rule 2)."""
    segments = path.split("/")[1:]
    return path.startswith("/") and all(_SEGMENT.match(one) and one not in (".", "..") for one in segments)


def looks_contained(lines: Sequence[str]) -> bool:
    """Whether any group is named as runtimes name their containers, nested, rootless or made up: enough to take something away from the
    process, never to give it anything."""
    return any(_CONTAINED.search(group.path) for group in read_groups(lines))


def slurm_step(lines: Sequence[str]) -> Step | Denied | None:
    """The Slurm step that the process is in, None where it is in none; `Denied` where its groups disagree (rule 3)."""
    paths = named_paths(lines)
    if isinstance(paths, Denied):
        return paths
    found = [_STEP_V1.match(path) or _STEP_V2.match(path) for path in paths]
    steps = {(one["job"], one["step"]) for one in found if one}
    if not steps:
        return None
    tasks = {one["task"] for one in found if one and one["task"] is not None}
    uids = {one["uid"] for one in found if one and "uid" in one.re.groupindex}
    # On version 1, hierarchies that Slurm does not use keep slurmd's own place; another job's, or a group that a user made, would be here.
    strange = [path for path, one in zip(paths, found, strict=True) if not one and "slurm" in path and not path.endswith("/slurmd.service")]
    if len(steps) > 1 or len(tasks) > 1 or len(uids) > 1 or strange:
        return Denied(code="slurm-mixed", reason="the process is in groups of more than one Slurm step", remedy="start it with `srun`")
    job, step = steps.pop()
    return Step(int(job), step, tasks.pop() if tasks else "", int(uids.pop()) if uids else None)
