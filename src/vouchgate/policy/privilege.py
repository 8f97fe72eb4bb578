"""`privilege`: what each caller may do beside what it did.

    table(usage, world, policies, asks, principal="") -> PrivilegeTable
    Grants(policies, world).of(principal, action, resource) -> (effect, permits)         decided ahead of any request

Rules
1. A cell is granted where a request could be allowed: certainly, or depending on facts of the single request (`on_request`). Risk is taken as 0 and the
   credential as a certificate: what a caller may do when nothing speaks against it.
2. What is looked at is everything that can be asked of endpoints and of placed things, and whatever was used.
3. Callers that no policy can tell apart are decided once (`classes`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from vouchgate.policy.classes import UNKNOWN, Classes
from vouchgate.policy.compile import CompiledPolicies, Request, evaluate
from vouchgate.policy.facts import REQUEST_FACTS
from vouchgate.policy.obligations import EVERY, lift
from vouchgate.policy.replay import uid_of_resource
from vouchgate.policy.unknowns import TRUE
from vouchgate.policy.usage import Usage
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import CallerPrivilege, Privilege, PrivilegeTable, UnusedGrant
from vouchgate.vocabulary.errors import LimitExceeded, NotFound
from vouchgate.vocabulary.vouches import UnixMillis

MAX_CELLS = 20_000_000
"""Cells (callers x pairs) that are counted; a few seconds for each million, since classes are decided once."""
MAX_UNUSED = 200
"""Unused grants that are listed of one caller; all are counted."""
_CONTEXT = {"risk": 0, "authenticated": True, "credential": "x509", "delegated": False}
_NO = ("deny", ())


class Grants:
    """Cells decided ahead of any request, each class once."""

    def __init__(self, policies: CompiledPolicies, world: World) -> None:
        self._policies, self._world = policies, world
        self._classes = Classes(world, policies)
        self._known: dict[tuple[int, str, int], tuple[str, tuple[str, ...]]] = {}

    def of(self, principal: str, action: str, resource: str) -> tuple[str, tuple[str, ...]]:
        """(`allow`, `residual` or `deny`; the permits that give it)."""
        who, thing = Uid("Principal", principal), uid_of_resource(resource)
        marks = (self._classes.of_principal(who), action, self._classes.of_resource(thing))
        if UNKNOWN in (marks[0], marks[2]):
            return _NO
        found = self._known.get(marks)
        if found is None:
            found = self._known[marks] = self._decide(who, Uid("Action", action), thing)
        return found

    def _decide(self, who: Uid, action: Uid, thing: Uid) -> tuple[str, tuple[str, ...]]:
        if action not in self._policies.actions:
            return _NO
        said = lift(evaluate(self._policies, Request(who, action, thing, _CONTEXT), self._world, REQUEST_FACTS), EVERY).evaluation
        if said.effect == "deny":
            return _NO
        pairs = zip(said.in_scope, said.masks, strict=True)
        return said.effect, tuple(policy.id for policy, mask in pairs if not policy.forbids and mask & TRUE)


def privilege_of(grants: Grants, callers: Sequence[str], pairs: Sequence[tuple[str, str]], usage: Usage) -> Privilege:
    """Granted beside used cells of callers that used any."""
    _bounded(callers, pairs)
    used: dict[str, set[tuple[str, str]]] = {}
    for principal, action, resource in usage.cells:
        used.setdefault(principal, set()).add((action, resource))
    ratios, granted_all, used_all = [], 0, 0
    wanted = set(pairs)
    for caller in callers:
        own = used.get(caller, set()) & wanted
        granted = sum(grants.of(caller, action, resource)[0] != "deny" for action, resource in pairs)
        granted_all, used_all = granted_all + granted, used_all + len(own)
        if own:
            ratios.append(granted / len(own))
    return Privilege(callers=len(ratios), granted=granted_all, used=used_all, median=round(statistics.median(ratios), 4) if ratios else 0.0)


def _bounded(callers: Sequence[str], pairs: Sequence[tuple[str, str]]) -> None:
    if len(callers) * len(pairs) > MAX_CELLS:
        raise LimitExceeded(f"there are more than {MAX_CELLS:,} cells to count", remedy="ask for one caller, or one zone")


def table(
    usage: Usage, world: World, policies: CompiledPolicies, asks: Iterable[tuple[str, str]], *, principal: str = "", since: int = 0
) -> PrivilegeTable:
    """All callers, or one; what was last used before `since` (milliseconds) counts as unused, and is told with when. Raises `NotFound`, `LimitExceeded`."""
    known = sorted(uid.id for uid in world.entities if uid.type == "Principal")
    if principal and principal not in known:
        raise NotFound(f"`{principal[:160]}` is not registered", remedy="list them: `vouchgate identity list`")
    callers = [principal] if principal else known
    pairs = list(dict.fromkeys((*asks, *((action, resource) for _, action, resource in sorted(usage.cells)))))
    _bounded(callers, pairs)
    grants = Grants(policies, world)
    used_policies: set[str] = set()
    rows = [_caller(grants, caller, pairs, usage, used_policies, since) for caller in callers]
    asked = set(callers)
    for (caller, action, resource), use in usage.cells.items():
        if caller in asked and grants.of(caller, action, resource)[0] != "deny":
            used_policies |= use.by
    permits = [one.id for one in policies.permits if not one.id.startswith("base-") and one.id not in used_policies]
    rows.sort(key=lambda row: (-row.excess, row.principal))
    return PrivilegeTable(
        callers=tuple(rows),
        known=len(known),
        dormant=sum(row.granted > 0 and not row.used and not row.used_beyond for row in rows),
        total=privilege_of(grants, callers, pairs, usage),
        begins_at=UnixMillis(usage.first),
        ends_at=UnixMillis(usage.last),
        requests=usage.requests,
        unused_policies=() if principal else tuple(permits),
        cells=len(pairs),
    )


def _caller(
    grants: Grants, caller: str, pairs: Sequence[tuple[str, str]], usage: Usage, used_policies: set[str], since: int
) -> CallerPrivilege:
    granted = on_request = used = beyond = last = 0
    unused: list[UnusedGrant] = []
    for action, resource in pairs:
        effect, permits = grants.of(caller, action, resource)
        use = usage.cells.get((caller, action, resource))
        last = max(last, use.last if use else 0)
        if effect == "deny":
            beyond += use is not None
            continue
        granted += 1
        on_request += effect == "residual"
        if use is not None and use.last >= since:
            used += 1
            used_policies.update(permits)
        elif len(unused) < MAX_UNUSED:
            unused.append(
                UnusedGrant(
                    action=action,
                    resource=resource,
                    policies=permits,
                    on_request=effect == "residual",
                    last_at=UnixMillis(use.last if use else 0),
                )
            )
    return CallerPrivilege(
        principal=caller,
        granted=granted,
        on_request=on_request,
        used=used,
        used_beyond=beyond,
        unused=tuple(unused),
        last_at=UnixMillis(last),
    )
