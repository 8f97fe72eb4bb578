"""Which zone to enforce next: value x exposure / (calls that would break + 1), each with its numbers; and what came of those enforced.

1. Value: what lies and answers in the zone. Each endpoint 1, each placed thing 1; labelled ones (personal, secret ...) count LABELLED, and so
   does an endpoint that takes data out of the house.
2. Exposure: pairs of caller and endpoint that go through now; in observe everybody who is registered or was seen reaches every endpoint.
3. What would break: calls seen that enforcing would have refused.
4. When a zone is enforced, the predicted share is kept as a setting; since then every refusal in the zone counts against it. Traffic is counted
   since the start of the control plane; a prediction from before is compared with what was seen since.
"""

from __future__ import annotations

from vouchgate.flows.context import Context
from vouchgate.flows.would_refuse import would_refuse
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_zones import AdoptRank, AdoptRanking
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

LABELLED = 3
"""How much more a labelled thing counts: enough to come before two plain ones, not before a zone full of them."""
PREFIX = "adopted/"
"""Of the setting that keeps a zone's prediction."""


class Adopted(Noun, frozen=True, kw_only=True):
    """What was predicted when a zone was enforced."""

    at: UnixMillis
    calls: int
    """Calls seen in observe."""
    breaks: int
    """Of these, refused by the plan."""
    denied_before: int = 0
    """Refusals that were counted in the zone by then, and calls; what came since is the difference."""
    calls_before: int = 0
    started_at: UnixMillis = UnixMillis(0)
    """Start of the control plane that counted: after another start counts begin at 0."""

    @property
    def share(self) -> float:
        """Predicted share of false denials, were every call seen a rightful one."""
        return self.breaks / self.calls if self.calls else 0.0


def ranked(context: Context) -> AdoptRanking:
    """Rules 1 to 4."""
    now = context.clock.now()
    found = [_rank(context, name, now) for name in context.facts.zones]
    return AdoptRanking(zones=tuple(sorted(found, key=lambda one: (one.mode == "enforce", -one.score, one.zone))))


def _rank(context: Context, name: str, now: UnixMillis) -> AdoptRank:
    facts = context.facts
    mode = facts.mode_of(name, now)
    endpoints = [one for one in facts.endpoints.values() if one.zone == name and one.routes]
    assets = [one for one in facts.assets.values() if name in one.zones]
    value = sum(LABELLED if one.labels or one.egress is not None else 1 for one in endpoints)
    value += sum(LABELLED if one.labels else 1 for one in assets)
    exposure = _exposure(context, {str(one.id) for one in endpoints}, observed=mode == "observe")
    refused, calls = would_refuse(context, name)
    breaks = sum(one.count for one in refused)
    score = round(value * exposure / (breaks + 1), 2)
    labelled = sum(bool(one.labels) for one in endpoints) + sum(bool(one.labels) for one in assets)
    why = (
        f"{len(endpoints)} endpoints and {len(assets)} things ({labelled} labelled) worth {value}, {exposure} pairs of caller and endpoint go through; "
        f"enforcing would have refused {breaks} of {calls} calls"
    )
    return AdoptRank(
        zone=name,
        mode=mode,
        score=score,
        value=value,
        exposure=exposure,
        breaks=breaks,
        calls=calls,
        why=why,
        command="" if mode == "enforce" else f"vouchgate adopt {name} --plan",
        after=after(context, name),
    )


def _exposure(context: Context, endpoints: set[str], *, observed: bool) -> int:
    """Rule 2."""
    strangers = {who for (who, _, name), count in context.traffic.cells.items() if name in endpoints and not count.authenticated}
    if observed:
        return (len(context.facts.registrations) + len(strangers)) * len(endpoints)
    said = [alike for name in endpoints for alike in context.publisher.alike(name)]
    return sum(count for decisions, count in said if any(one.would_be == "allow" for one in decisions))


# --- rule 4 -----------------------------------------------------------------------------------------------------------------------


def kept(context: Context, zone: str) -> Adopted | None:
    """What was predicted, if it was enforced from observe."""
    text = context.facts.settings.get(f"{PREFIX}{zone}", "")
    try:
        return wire.decode(Adopted, text.encode(), what="prediction") if text else None
    except InvalidInput:
        return None


def prediction(context: Context, zone: str) -> str:
    """The setting to be kept when it is enforced now."""
    refused, calls = would_refuse(context, zone)
    denied, seen = counted(context, zone)
    made = Adopted(
        at=context.clock.now(),
        calls=calls,
        breaks=sum(one.count for one in refused),
        denied_before=denied,
        calls_before=seen,
        started_at=context.started_at,
    )
    return wire.encode(made).decode()


def counted(context: Context, zone: str) -> tuple[int, int]:
    """(refusals, calls) of a zone since the start of the control plane."""
    names = {str(one.id) for one in context.facts.endpoints.values() if one.zone == zone}
    some = [count for name, count in context.traffic.endpoints.items() if name in names]
    return sum(one.denied for one in some), sum(one.denied + one.allowed for one in some)


def after(context: Context, zone: str) -> str:
    """Prediction beside what happened, in words; empty where nothing was predicted."""
    told = kept(context, zone)
    if told is None:
        return ""
    denied, calls = counted(context, zone)
    if told.started_at == context.started_at:
        denied, calls = denied - told.denied_before, calls - told.calls_before
    share = denied / calls if calls > 0 else 0.0
    since = "" if told.started_at == context.started_at else " (counted since the last start)"
    return (
        f"predicted {told.breaks} of {told.calls} calls refused ({100 * told.share:.1f}%); since then {max(0, denied)} of {max(0, calls)} "
        f"({100 * share:.1f}%){since}"
    )
