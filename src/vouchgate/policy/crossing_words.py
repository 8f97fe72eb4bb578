"""Crossings told to a person: which zone, which act, which other zone; what is missing, or the line to declare.

tell_crossing(evaluation, facts, world) -> (reason, remedy, vouches) | None      None: not crossings alone forbid it
"""

from __future__ import annotations

from vouchgate.policy.compile import CompiledPolicy, Evaluation
from vouchgate.policy.leaves import Leaf, flip
from vouchgate.policy.operators import Facts
from vouchgate.policy.unknowns import TRUE
from vouchgate.policy.values import Uid
from vouchgate.policy.world import World
from vouchgate.vocabulary.crossing_words import ENTERING, LEAVING, POLICIES


def tell_crossing(evaluation: Evaluation, facts: Facts, world: World) -> tuple[str, str, tuple[Leaf, ...]] | None:
    """The reason, the remedy, and the vouches of a declared crossing that do not hold."""
    forbids = [one for one, mask in zip(evaluation.in_scope, evaluation.masks, strict=True) if one.forbids and mask & TRUE]
    if evaluation.effect != "deny" or not forbids or not all(one.id.startswith(POLICIES) for one in forbids):
        return None
    zone, action = str(world.attributes.get(facts.principal, {}).get("zone", "")), facts.action.id
    if any(one.id == f"{POLICIES}elsewhere" for one in forbids):
        return f"zone `{zone}` is not declared, so it reaches nothing", f"declare it in vouchgate.toml: [zones.{zone}]", ()
    lies = _zones(facts.resource, world)
    moving = next((one for one in forbids if one.id.startswith(f"{POLICIES}move-")), None)
    entering = action in ENTERING and facts.resource.type == "Artifact"
    target = _target(facts, world)
    if not lies and not entering:
        return "it lies in no zone, so nobody reaches it", "place it: `vouchgate assets put`", ()
    if action in (*ENTERING, *LEAVING) and not target and (entering or moving):
        return f"it is not said into which zone `{action}` takes it", "name a declared zone", ()
    source = min(lies) if moving and len(forbids) == 1 else zone
    into = target if entering or (moving and len(forbids) == 1) else min(lies)
    lacking = _lacking(forbids, facts)
    if lacking:
        names = " and ".join(f"`{leaf.name}`" for leaf in lacking)
        return f"the crossing from zone `{source}` to `{into}` asks for a fresh {names} vouch", "", lacking
    kind = "key" if facts.resource.type == "System" else facts.resource.type.lower()
    line = f'[[crossings]] from = "{source}", to = "{into}", actions = ["{action}"], kinds = ["{kind}"]'
    return f"zone `{source}` may not `{action}` in zone `{into}`: no crossing is declared", f"declare one in vouchgate.toml: {line}", ()


def _zones(resource: Uid, world: World) -> list[str]:
    return sorted(uid.id for uid in world.up.get(resource, ()) if uid.type == "Zone")


def _target(facts: Facts, world: World) -> str:
    """A zone that we know; other text is not repeated."""
    target = facts.context.get("target")
    return target if isinstance(target, str) and Uid("Zone", target) in world else ""


def _lacking(forbids: list[CompiledPolicy], facts: Facts) -> tuple[Leaf, ...]:
    """The vouches that alone would turn every one of these over."""
    found: tuple[Leaf, ...] = ()
    for one in forbids:
        changes = flip(one.tree, False, facts) if one.tree is not None else None
        if not changes or any(leaf.kind not in ("vouch", "model") for leaf in changes):
            return ()
        found += changes
    return tuple(dict.fromkeys(found))
