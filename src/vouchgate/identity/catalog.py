"""The attestors, and which registration their selectors earn.

Rules
1. The folder is the list: a file in `attestors/` with an `ATTESTOR` is in; two of one name are refused.
2. A registration is earned when every one of its selectors was established; one without selectors is never earned by attestation.
3. Where several are earned, the one with the most selectors wins; two equally specific ones are refused, because a tie would let the order
   of registrations choose an identity.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from vouchgate.identity import attestors as folder
from vouchgate.identity.attestors import Attestor
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, Selector


def collect(found: Iterable[Attestor]) -> dict[str, Attestor]:
    """Attestors by name. Raises `Conflict` on a duplicate."""
    known: dict[str, Attestor] = {}
    for attestor in found:
        if attestor.name in known:
            raise Conflict(f"two attestors are named `{attestor.name}`", remedy="rename one of them")
        known[attestor.name] = attestor
    return known


@cache
def attestors() -> dict[str, Attestor]:
    """All attestors of this build, by name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return collect(importlib.import_module(f"{folder.__name__}.{name}").ATTESTOR for name in modules)


def attest(name: str, facts: Mapping[str, Any]) -> tuple[Selector, ...]:
    """Selectors that the facts establish. Raises `InvalidInput` for an unknown attestor or field."""
    attestor = attestors().get(name)
    if attestor is None:
        raise InvalidInput(f"`{name[:80]}` is not an attestor", remedy=f"use one of {', '.join(sorted(attestors()))}")
    attestor.fields.check(facts, what=f"{name} attestation")
    return attestor.selectors(facts)


def match(selectors: Iterable[Selector], registrations: Iterable[Registration]) -> Registration | Denied:
    """The registration that the selectors earn, by the rules above."""
    established = set(selectors)
    earned = [entry for entry in registrations if entry.selectors and set(entry.selectors) <= established]
    if not earned:
        return Denied(
            code="not-registered",
            reason="no registration matches this workload",
            remedy="list it in vouchgate.toml under [[identities]], with its `uid`",
        )
    most = max(len(set(entry.selectors)) for entry in earned)
    best = [entry for entry in earned if len(set(entry.selectors)) == most]
    if len({entry.principal for entry in best}) > 1:
        return Denied(code="ambiguous", reason="two registrations match this workload equally", remedy="add a selector to one of them")
    return best[0]
