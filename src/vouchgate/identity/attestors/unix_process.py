"""A process on this machine, as the kernel describes the peer of a unix socket (SO_PEERCRED, pidfd, /proc).

The collecting port must have read every fact while it held the pidfd, so that they belong to one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attestor
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.principals import Selector

_FIELDS = Fields(
    required={"uid": "integer", "gid": "integer"},
    optional={"exe_path": "text", "exe_sha256": "text", "cgroup": "text"},
    # A process number says nothing that lasts, and a command line is the process's own word.
    ignored=("pid", "argv", "started_at"),
)


def _selectors(facts: Mapping[str, Any]) -> tuple[Selector, ...]:
    if facts["uid"] < 0 or facts["gid"] < 0:
        raise InvalidInput("the process has no user", remedy="collect the facts again")
    named = {"uid": "uid", "gid": "gid", "exe_path": "path", "exe_sha256": "sha256", "cgroup": "cgroup"}
    return tuple(Selector(type=f"unix:{short}", value=str(facts[name])) for name, short in named.items() if name in facts)


ATTESTOR = Attestor(name="unix-process", version=1, fields=_FIELDS, selectors=_selectors)
