"""What a model server's certificate is bound to: the model and the lineage of the evidence that holds for its endpoint now.

1. The binding is that of the endpoint's newest holding `serves` vouch: the digest that was seen, and the root over every vouch it rests on.
2. A bound certificate names its binding as its parent. When evidence falls or the model changes, that parent is revoked, and with it every
   certificate that says what is no longer true, wherever it is; one record, which a restart reads back.
3. Evidence that holds again gets a new parent: a revocation stands for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vouchgate.flows.facts import Facts
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.vouches import UnixMillis

PREFIX = "binding-"
"""Begins the id of a binding: neither a serial number nor a token's id does."""
MAX_RETURNS = 1_000
"""How often the same evidence may fall and hold again in one installation's life before nothing is bound to it."""


@dataclass(frozen=True)
class Bound:
    """A binding with its id among the credentials."""

    id: str
    binding: Binding


def bound_of(facts: Facts, endpoint_id: str, now: UnixMillis) -> Bound | None:
    """Rules 1 and 3; None where no evidence holds."""
    holding = [one for one in facts.lineage.holding(endpoint_id, now) if one.predicate == "serves" and one.outcome == "pass"]
    if not holding or any(one.outcome == "fail" for one in facts.lineage.holding(endpoint_id, now)):
        return None
    newest = max((facts.lineage.vouches[one.vouch_id] for one in holding), key=lambda vouch: (vouch.issued_at, vouch.id))
    digest = next((subject.digest.text for subject in newest.subjects if subject.name == endpoint_id and subject.digest), "")
    if not digest:
        return None
    binding = Binding(model_digest=digest, lineage_root=lineage_root(facts, newest.rests_on))
    identity = _id_of(facts, endpoint_id, binding)
    return Bound(identity, binding) if identity else None


def lineage_root(facts: Facts, rests_on: Iterable[str]) -> str:
    """SHA-256 over the sorted ids of all vouches that these rest on, themselves included, joined by newlines."""
    found: set[str] = set()
    pending = list(rests_on)
    while pending:
        one = pending.pop()
        if one not in found and one in facts.lineage.vouches:
            found.add(one)
            pending += facts.lineage.vouches[one].rests_on
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def _id_of(facts: Facts, endpoint_id: str, binding: Binding) -> str:
    for times in range(MAX_RETURNS):
        text = "\n".join((endpoint_id, binding.model_digest, binding.lineage_root, str(times)))
        identity = PREFIX + endpoint_key(endpoint_id) + "-" + hashlib.sha256(text.encode()).hexdigest()[:24]
        if facts.revocation_of("", identity) is None:
            return identity
    return ""


def endpoint_key(endpoint_id: str) -> str:
    """Twelve digits that stand for the endpoint in its bindings' ids."""
    return hashlib.sha256(endpoint_id.encode()).hexdigest()[:12]


def fallen(facts: Facts, endpoint_ids: Collection[str], now: UnixMillis) -> list[str]:
    """Ids of bindings of these endpoints that live certificates have and that no longer hold."""
    keys = {endpoint_key(one): one for one in endpoint_ids}
    lost: list[str] = []
    for parent in facts.credentials.parents():
        endpoint_id = keys.get(parent.removeprefix(PREFIX).partition("-")[0]) if parent.startswith(PREFIX) else None
        if endpoint_id is None or facts.revocation_of("", parent) is not None:
            continue
        holds = bound_of(facts, endpoint_id, now)
        if holds is None or holds.id != parent:
            lost.append(parent)
    return lost
