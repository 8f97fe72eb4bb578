"""The predicates that this build knows.

Rules
1. The folder is the list: a file in `predicates/` with a `PREDICATE` is in; two of one name are refused.
2. A vouch of an unknown predicate or version, with claims that its schema does not take, or from a role that may not sign it, is refused
   both when it is signed and when it is read.
3. So is one that lives longer than its predicate lets it.
"""

from __future__ import annotations

from functools import cache

from vouchgate.evidence import predicates as folder
from vouchgate.evidence.predicates import Predicate
from vouchgate.evidence.waivers import WAIVER, check_waiver
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.plugins import by_name, modules
from vouchgate.vocabulary.vouches import Vouch

HOUR_MS = 3_600_000
DAY_HOURS = 24


@cache
def predicates() -> dict[str, Predicate]:
    """All predicates of this build, by name."""
    return by_name("predicate", (module.PREDICATE for module in modules(folder)))


def check_fits(vouch: Vouch) -> None:
    """Raise `InvalidInput` unless the vouch is one that its predicate allows its role to make."""
    predicate = predicates().get(vouch.predicate_type)
    if predicate is None or predicate.version != vouch.predicate_version:
        raise InvalidInput(
            f"`{vouch.predicate_type}` version {vouch.predicate_version} is not a known predicate",
            remedy=f"use one of {', '.join(sorted(predicates()))}",
        )
    if vouch.issuer_role not in predicate.roles:
        raise InvalidInput(
            f"the role `{vouch.issuer_role[:80]}` may not sign `{predicate.name}`",
            remedy=f"let {' or '.join(sorted(predicate.roles))} sign it",
        )
    if predicate.needs_digest and any(subject.digest is None for subject in vouch.subjects):
        raise InvalidInput(f"a `{predicate.name}` vouch is about content, a subject has no digest", remedy="give each subject its digest")
    predicate.claims.check(vouch.claims, what=f"`{predicate.name}` vouch")
    if predicate.max_hours and vouch.expires_at - vouch.not_before > predicate.max_hours * HOUR_MS:
        most = f"{predicate.max_hours // 24} days" if predicate.max_hours > DAY_HOURS else f"{predicate.max_hours} hours"
        raise InvalidInput(f"the `{predicate.name}` vouch lives longer than {most}", remedy="choose an earlier expiry")
    if predicate.name == WAIVER:
        check_waiver(vouch, predicates())
