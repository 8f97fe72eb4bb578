"""Two policy sets, policy by policy: what was added, removed, changed. Layout and comments make no difference; a policy is known by its name.

compare(old, new) -> tuple[PolicyChange, ...]         forbids first, since their loss weighs most
"""

from __future__ import annotations

from typing import Literal

from vouchgate.policy.load import Policy, PolicySet
from vouchgate.vocabulary.answers_policy import PolicyChange


def compare(old: PolicySet, new: PolicySet) -> tuple[PolicyChange, ...]:
    """See the module's text."""
    before, after = {one.id: one for one in old.policies}, {one.id: one for one in new.policies}
    found = [_change(one, "removed") for name, one in before.items() if name not in after]
    found += [_change(one, "added") for name, one in after.items() if name not in before]
    for name in before.keys() & after.keys():
        if before[name].json != after[name].json:
            found.append(_change(after[name], "changed", before[name]))
    rank = {"removed": 0, "changed": 1, "added": 2}
    return tuple(sorted(found, key=lambda one: (one.effect != "forbid", rank.get(one.what, 3), one.id)))


def _change(policy: Policy, what: Literal["added", "removed", "changed"], before: Policy | None = None) -> PolicyChange:
    old, new = (policy, None) if what == "removed" else (before, policy)
    return PolicyChange(
        id=policy.id,
        what=what,
        effect="forbid" if policy.effect == "forbid" else "permit",
        old=old.text.strip() if old else "",
        new=new.text.strip() if new else "",
    )
