"""Words: an evaluation told to a person in one sentence, with what is missing and the cheapest remedy.

Rules: lower-case, no full stop, names in backticks; a resource by the last segment of its name; never text that a caller sent as a fact.
"""

from __future__ import annotations

from dataclasses import dataclass

from vouchgate.policy.crossing_words import tell_crossing
from vouchgate.policy.grounds import Grounds
from vouchgate.policy.leaves import Leaf
from vouchgate.policy.obligations import Lifted
from vouchgate.policy.operators import Facts
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.decisions import Missing

IMPORT_REMEDY = "run `vouchgate import PATH`"
REMEDIES: dict[str, str] = {
    "scan": IMPORT_REMEDY,
    "structure": IMPORT_REMEDY,
    "import": IMPORT_REMEDY,
    "serves": "serve the model from files that vouchgate can read, or start the server under it, then run `vouchgate status`",
}
"""How a person gets a vouch of this predicate; others are named."""
_BY_WHY = {
    "revoked": "replace what was revoked, or have another person withdraw the revocation",
    "failed": "replace what failed the check; `vouchgate why` names the findings",
    "unverified": "have it signed again by a key that the trust root delegates",
}


SHORT_DIGEST = len("sha256:") + 12
"""Characters of an artifact's name that a sentence shows; the whole one stands in `missing`."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a person reads."""

    reason: str
    remedy: str = ""
    missing: tuple[Missing, ...] = ()


def short(uid: Uid | None) -> str:
    """The last segment of a resource's name, the whole of a principal's."""
    if uid is None:
        return "the unknown model"
    if uid.type == "Principal":
        return uid.id
    name = uid.id.rsplit("/", 1)[-1]
    return name[:SHORT_DIGEST] if uid.type == "Artifact" else name


def tell(lifted: Lifted, found: Grounds, facts: Facts, world: World) -> Told:
    """The sentence, the remedy, what is missing."""
    evaluation = lifted.evaluation
    who, act, what = f"caller `{short(facts.principal)}`", facts.action.id, f"`{short(facts.resource)}`"
    if evaluation.effect == "allow":
        permits = tuple(one for one in evaluation.determining if one not in lifted.met)
        return Told(f"{who} may {act} on {what}: permitted by {_list(permits)}{_resting(found)}{_but(lifted)}")
    if evaluation.effect == "residual":
        asked = ", ".join(sorted(evaluation.unknowns))
        return Told(f"whether {who} may {act} on {what} depends on the request ({asked}): {_list(evaluation.residual)}")
    missing = tuple(_missing(leaf, facts, world) for leaf in found.plan.changes if leaf.kind in ("vouch", "model")) if found.plan else ()
    remedy = _remedy(found, missing)
    if evaluation.errors:
        return Told(
            f"policy {_list(evaluation.errors)} could not be evaluated, so nothing is permitted",
            "run `vouchgate policy check` and correct the policy or the facts it reads",
            missing,
        )
    if lifted.short_of:
        asked = ", ".join(f"`{one.kind}={one.value}`" for one in lifted.short_of)
        text = f"{who} may {act} on {what} only with {asked} ({_list(evaluation.determining)}), which is not carried out here"
        return Told(text, "ask through the gateway, which carries obligations out", missing)
    crossing = tell_crossing(evaluation, facts, world)
    if crossing is not None:
        reason, fix, vouches = crossing
        lacks = tuple(_missing(leaf, facts, world) for leaf in vouches)
        steps = fix or "; ".join(dict.fromkeys(one.remedy for one in lacks))
        return Told(f"{who} may not {act} on {what}: {reason}", steps, lacks)
    if evaluation.determining:
        return Told(f"{who} may not {act} on {what}: forbidden by {_list(evaluation.determining)}{_because(found)}", remedy, missing)
    if found.plan is None:
        return Told(f"no policy permits {who} to {act} on {what}", "ask a policy author for a policy that permits it", missing)
    return Told(_lack(found, missing, facts, (who, act, what)), remedy, missing)


def _list(ids: tuple[str, ...]) -> str:
    return ", ".join(f"`{one}`" for one in ids)


def _but(lifted: Lifted) -> str:
    asked = ", ".join(f"`{one.kind}={one.value}`" for one in lifted.obligations)
    return f"; allowed, but {_list(lifted.met)} asks for {asked}" if asked else ""


def _resting(found: Grounds) -> str:
    names = tuple(dict.fromkeys(leaf.name for leaf in found.leaves if leaf.kind == "vouch"))
    waived = {held.waives for held in found.used if held.waives}
    return f", resting on {', '.join(f'{one} (waived)' if one in waived else one for one in names)}" if names else ""


def _because(found: Grounds) -> str:
    for leaf in found.plan.changes if found.plan else ():
        if leaf.kind == "risk":
            return f", because the risk is not below {leaf.name}"
        if leaf.kind == "caller":
            return ", because who calls is not proved"
        if leaf.kind == "vouch":
            return f", because a fresh `{leaf.name}` vouch is missing"
    return ""


def _lack(found: Grounds, missing: tuple[Missing, ...], facts: Facts, told: tuple[str, str, str]) -> str:
    """Why no permit applies, by the first change that would be needed."""
    who, act, what = told
    changes = found.plan.changes if found.plan else ()
    kinds = {leaf.kind: leaf for leaf in reversed(changes)}
    if "group" in kinds and not missing:
        return f"{who} is in no group that may {act} on {what}"
    if missing:
        lacks = f"{_subject(missing[0], facts, what)} {_how(missing)}"
        return f"{lacks}, and {who} is not in group `{kinds['group'].name}`" if "group" in kinds else lacks
    if "risk" in kinds:
        return f"the risk of {who} is not below {kinds['risk'].name}"
    if "fact" in kinds:
        return f"this request does not meet what the policy asks of its {kinds['fact'].name}"
    if "zone" in kinds:
        return f"{what} is not in zone `{kinds['zone'].name}`"
    return f"no policy permits {who} to {act} on {what}"


def _subject(missing: Missing, facts: Facts, what: str) -> str:
    if facts.resource.type == "Endpoint" and missing.subject != facts.resource.id:
        return f"the model behind {what}"
    return what


def _how(missing: tuple[Missing, ...]) -> str:
    first = missing[0]
    same = [one for one in missing if one.subject == first.subject and one.why == first.why]
    names = " and ".join(f"`{one.predicate}`" for one in same)
    if first.why == "tier":
        return f"has no vouch as strong as {names}"
    if first.why == "absent":
        return f"lacks a fresh {names} vouch"
    state = {"expired": "expired", "failed": "failed", "revoked": "revoked", "unverified": "unverified"}[first.why]
    return f"lacks a fresh {names} vouch ({state})"


def _missing(leaf: Leaf, facts: Facts, world: World) -> Missing:
    if leaf.kind == "model":
        subject = (leaf.subject or facts.resource).id
        return Missing(predicate="serves", subject=subject, why=_why("serves", leaf.subject, world), remedy=REMEDIES["serves"])
    predicate = leaf.name.partition("@")[0]
    why = _why(leaf.name, leaf.subject, world)
    remedy = _BY_WHY.get(why) or REMEDIES.get(predicate, f"have a `{predicate}` vouch made")
    return Missing(predicate=leaf.name, subject=(leaf.subject or facts.resource).id, why=why, remedy=remedy)


def _why(text: str, subject: Uid | None, world: World) -> str:
    predicate = text.partition("@")[0]
    entity = world.entities.get(subject) if subject else None
    if entity is None or entity.evidence is None:
        return "absent"
    if any(held.predicate == predicate for held in entity.evidence.held):
        return "tier"
    why = entity.evidence.lacking.get(predicate, "absent")
    return why if why in ("absent", "expired", "failed", "revoked", "unverified") else "absent"


def _remedy(found: Grounds, missing: tuple[Missing, ...]) -> str:
    if found.plan is None:
        return "ask a policy author for a policy that permits it"
    steps = [one.remedy for one in missing]
    bounds = [int(leaf.name) for leaf in found.plan.changes if leaf.kind == "risk"]
    if bounds:
        steps.append(f"clear the findings that hold the risk at {min(bounds)} or above")
    for leaf in found.plan.changes:
        if leaf.kind == "group":
            steps.append(f"ask a registrar to add the caller to group `{leaf.name}`")
        elif leaf.kind == "zone":
            steps.append(f"have it placed in zone `{leaf.name}`")
        elif leaf.kind == "fact":
            steps.append(f"call with another {leaf.name.replace('_', ' ')}: see policy `{found.plan.permit}`")
        elif leaf.kind == "caller":
            steps.append("call with an X.509-SVID or JWT-SVID; `vouchgate identity issue` makes one")
        elif leaf.kind in ("attribute", "other"):
            steps.append(f"see what policy `{found.plan.permit}` asks for")
    return "; ".join(dict.fromkeys(steps))
