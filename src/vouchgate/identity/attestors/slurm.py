"""A process of a Slurm job step: slurmstepd's cgroup, joined with what slurmrestd says of that job.

The tests' recordings have slurmrestd's published form; none was made by a cluster.

Rules
1. Job, step and task come from the cgroup, which slurmstepd made as root; what the job is comes from the controller (`job_*`,
   ports/slurm.py). Neither is the process's own word: no `SLURM_*` variable is read.
2. The controller must know the job, have it RUNNING and nothing else (a completing or requeued job is not), on this node, for the user that
   the process runs as.
3. A requeued job is a new incarnation: `slurm:restart` rises. A process that began before the job did is left over from an earlier one.
4. A job's name and comment are its user's words, and are not read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, selectors
from vouchgate.identity.cgroup_paths import slurm_step
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(
    required={"uid": "integer", "cgroups": "texts", "started_at": "integer"},
    optional={
        "node": "text", "slurm_unread": "text", "real_uid": "integer", "job_id": "integer", "job_state": "texts", "job_uid": "integer", "job_user": "text", "job_account": "text",
        "job_partition": "text", "job_qos": "text", "job_cluster": "text", "job_nodes": "document", "job_restarts": "integer",
        "job_started_at": "integer", "job_array": "integer", "job_array_task": "integer", "job_het": "integer", "job_het_offset": "integer",
    },
    ignored=("pid", "gid", "real_gid", "groups", "exe_path", "exe_sha256", "exe_unread", "cgroup", "contained", "argv"),
)  # fmt: skip
_NEEDED = ("node", "job_id", "job_state", "job_uid", "job_nodes", "job_restarts", "job_started_at", "job_account", "job_partition")
MAX_NODES = 65_536
"""Nodes of one job that are looked through; the largest machines have about 40,000."""
MAX_DIMENSIONS = 4
"""Ranges in one name; machines with several dimensions use two or three."""
SKEW_MS = 30_000
"""Milliseconds by which a node's clock may be behind the controller's."""
_ITEM = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*\])+\Z")
_PIECE = re.compile(r"\[([^\]]*)\]|([^\[]+)")


def _establish(facts: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    step = slurm_step(facts["cgroups"])
    if isinstance(step, Denied):
        return step
    if step is None:
        return Attested(selectors=())
    if "slurm_unread" in facts:
        return _no("slurm-unavailable", facts["slurm_unread"])
    if any(name not in facts for name in _NEEDED) or facts["job_id"] != step.job:
        return _no("slurm-unknown-job", f"slurmrestd does not know job {step.job}")
    if list(facts["job_state"]) != ["RUNNING"]:  # 2
        return _no("slurm-not-running", f"job {step.job} is not running")
    if not facts["uid"] == facts.get("real_uid", facts["uid"]) == facts["job_uid"] or step.uid not in (None, facts["uid"]):
        return _no("slurm-other-user", f"the process does not run as the user of job {step.job}")
    if not _holds(facts["job_nodes"], facts["node"]):
        return _no("slurm-other-node", f"job {step.job} does not run on this node")
    if facts["started_at"] + SKEW_MS < facts["job_started_at"]:  # 3
        return _no("slurm-earlier-run", f"the process is older than this run of job {step.job}")
    return Attested(selectors=selectors("slurm", {**_of_job(facts), "step": step.step, "rank": step.task or None}))


def _of_job(facts: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "job": "job_id", "uid": "job_uid", "user": "job_user", "account": "job_account", "partition": "job_partition", "qos": "job_qos",
        "cluster": "job_cluster", "restart": "job_restarts", "array_job": "job_array", "array_task": "job_array_task", "het_job": "job_het",
        "het_offset": "job_het_offset", "node": "node",
    }  # fmt: skip
    return {short: facts.get(name) for short, name in names.items()}


def _holds(nodes: str, wanted: str) -> bool:
    """Whether a host list such as `gpu[01-03,7],login1` names this node; one that cannot be read names none."""
    items = re.split(r",(?![^\[]*\])", nodes)
    if not wanted or not all(_ITEM.match(item) and item.count("[") <= MAX_DIMENSIONS for item in items):
        return False
    names = itertools.chain.from_iterable(_names(item) for item in items)
    return any(name == wanted for name in itertools.islice(names, MAX_NODES))


def _names(item: str) -> Iterator[str]:
    pieces = [list(_numbers(ranges)) if ranges else [text] for ranges, text in _PIECE.findall(item)]
    return ("".join(parts) for parts in itertools.product(*pieces))


def _numbers(ranges: str) -> Iterator[str]:
    for one in ranges.split(","):
        first, _, last = one.partition("-")
        numbers = range(int(first), min(int(last or first), int(first) + MAX_NODES) + 1)
        yield from (f"{number:0{len(first)}d}" for number in numbers)


def _no(code: str, reason: str) -> Denied:
    return Denied(code=code, reason=reason, remedy="start the workload with `sbatch` or `srun`, and look with `scontrol show job`")


ATTESTOR = Attestor(name="slurm", version=1, kind="collected", fields=_FIELDS, establish=_establish)
