"""A process in a container, by its cgroup: Docker, Podman, nerdctl, and Kubernetes with containerd, CRI-O or Docker.

Rules
1. The whole path must be one that the runtime itself makes as root (cgroup_paths.py, rule 1). A path that goes on below the container's
   group is a nested container or a group that the container made for itself; one below `/user.slice` is a rootless container, whose path
   its user chooses. Neither establishes anything: what they say is the workload's own word.
2. Nothing is taken from the process: no environment variable, no file inside the container, no label.
3. A pod's identity stands in two places of a systemd path, and both must agree on its quality of service.
What it does not know: the image. Its digest is the runtime's to say, and `unix:sha256` tells the program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, selectors
from vouchgate.identity.cgroup_paths import named_paths
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(
    required={"cgroups": "texts"},
    # The rest of what the collector reads is for other attestors.
    ignored=(
        "pid", "uid", "gid", "real_uid", "real_gid", "groups", "exe_path", "exe_sha256", "exe_unread", "cgroup", "started_at",
        "contained", "argv",
    ),
)  # fmt: skip
_ID = r"(?P<id>[0-9a-f]{64})"
_POD = r"(?P<pod>[0-9a-f]{32}|[0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12})"
"""A pod's UID, or the hash of a static pod's manifest."""
_QOS = r"(?:burstable|besteffort)"
_SLICES = rf"/kubepods\.slice/(?:kubepods-(?P<outer>{_QOS})\.slice/)?kubepods(?:-(?P<inner>{_QOS}))?-pod{_POD}\.slice"
_PATTERNS = tuple(
    re.compile(text + r"\Z")
    for text in (
        rf"/docker/{_ID}(?P<docker>)",
        rf"/system\.slice/(?P<runtime>docker|nerdctl)-{_ID}\.scope",
        rf"/machine\.slice/(?:machine-libpod_pod_[0-9a-f]{{64}}\.slice/)?(?P<runtime>libpod)-{_ID}\.scope(?:/container)?",
        rf"/libpod_parent/(?:[0-9a-f]{{64}}/)?(?P<runtime>libpod)-{_ID}",
        rf"{_SLICES}/(?P<runtime>cri-containerd|docker)-{_ID}\.scope",
        rf"{_SLICES}/(?P<runtime>crio)-{_ID}\.scope(?:/container)?",
        rf"/kubepods/(?:{_QOS}/)?pod{_POD}/(?:(?P<runtime>crio)-)?{_ID}",
        rf"/system\.slice/containerd\.service/kubepods(?:-{_QOS})?-pod{_POD}\.slice:(?P<runtime>cri-containerd):{_ID}",
    )
)
_RUNTIMES = {"libpod": "podman", "cri-containerd": "containerd", "crio": "cri-o"}


def _establish(facts: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    paths = named_paths(facts["cgroups"])
    if isinstance(paths, Denied):
        return paths
    found = {_container(path) for path in paths}
    said = next((one for one in found if one is not None), None)
    if said is None:
        return Attested(selectors=())
    if len(found) > 1:
        return Denied(
            code="container-mixed", reason="the groups of the process do not name one container",
            remedy="start the workload by the machine's own runtime, not inside another container",
        )  # fmt: skip
    container_id, pod, runtime = said
    return Attested(selectors=selectors("container", {"id": container_id, "pod": pod or None, "runtime": runtime or None}))


def _container(path: str) -> tuple[str, str, str] | None:
    for pattern in _PATTERNS:
        match = pattern.match(path)
        if match:
            groups = match.groupdict()
            if groups.get("outer") != groups.get("inner"):  # 3
                return None
            runtime = groups.get("runtime") or ("docker" if "docker" in groups else "")
            return groups["id"], (groups.get("pod") or "").replace("_", "-"), _RUNTIMES.get(runtime, runtime)
    return None


ATTESTOR = Attestor(name="container", version=1, kind="collected", fields=_FIELDS, establish=_establish)
