"""A process on this machine, as the kernel describes the peer of a unix socket (SO_PEERCRED, pidfd, /proc).

Rules
1. The collecting port read every fact while the process lived, so that they belong to one process (ports/attest.py).
2. A process whose users differ (a set-user-id program) speaks for two users; it is refused.
3. `unix:path` and `unix:sha256` narrow a user, they never stand alone (catalog.py, rule 4). Of a script, they are its interpreter's.
4. Supplementary groups are facts too (`unix:supplementary_gid`): the kernel gave them to the process at login.
5. Of a process in a container (a process namespace of its own, or a group named like a container's), the numbers of user and group are the image's choice, though the kernel has them: they and the program's hash
   become `container:uid`, `container:gid`, `container:sha256`, which narrow a container's own selectors and earn nothing alone. So an image
   that says `USER 1000` does not take the identity of this machine's user 1000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, selectors
from vouchgate.identity.cgroup_paths import is_path
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(
    optional={
        "uid": "integer", "gid": "integer", "real_uid": "integer", "real_gid": "integer", "groups": "texts", "exe_path": "text",
        "exe_sha256": "text", "cgroup": "text", "contained": "flag", "unread": "text",
    },
    # A process number says nothing that lasts, and a command line is the process's own word.
    ignored=("pid", "argv", "started_at", "cgroups", "exe_unread"),
)  # fmt: skip


def _establish(facts: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    if "unread" in facts:
        return Denied(code="process-unread", reason=facts["unread"], remedy="attest again")
    if facts.get("uid", -1) < 0 or facts.get("gid", -1) < 0:
        raise InvalidInput("the process has no user or no group", remedy="collect the facts again")
    if facts.get("real_uid", facts["uid"]) != facts["uid"] or facts.get("real_gid", facts["gid"]) != facts["gid"]:  # 2
        return Denied(code="two-users", reason="the process runs with the rights of two users", remedy="start it as the user it works for")
    named = {"uid": facts["uid"], "gid": facts["gid"], "supplementary_gid": facts.get("groups"), "sha256": facts.get("exe_sha256")}
    if facts.get("contained"):  # 5
        return Attested(selectors=selectors("container", named))
    group = facts["cgroup"] if is_path(facts.get("cgroup", "")) else None
    return Attested(selectors=selectors("unix", {**named, "path": facts.get("exe_path"), "cgroup": group}))


ATTESTOR = Attestor(name="unix-process", version=2, kind="collected", fields=_FIELDS, establish=_establish)
