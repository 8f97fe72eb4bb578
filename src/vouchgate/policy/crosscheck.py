"""Live decisions re-checked against cedarpy, the oracle: a compiled engine that ever disagrees must not go on deciding.

    sampled(decision_id, one_in) -> bool                        which decisions are re-checked; the same for every process
    crosscheck(compiled, request, world) -> Mismatch | None      None: both agree; otherwise the flow denies and raises the alarm

Only decisions over known facts can be compared; `unknown` plays no part here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cedarpy

from vouchgate.policy.compile import CompiledPolicies, Request, ask_cedar, evaluate
from vouchgate.policy.world import World

DEFAULT_ONE_IN = 1_000
"""One decision in so many; at 10,000 a second ten checks of about 0.3 ms each."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The two engines disagree."""

    request: Request
    policy_digest: str
    compiled: tuple[str, tuple[str, ...], tuple[str, ...]]
    """Effect, determining policies, erring policies."""
    cedar: tuple[str, tuple[str, ...], tuple[str, ...]]

    @property
    def reason(self) -> str:
        """For the log entry."""
        return f"the compiled policies answer {self.compiled} where cedar answers {self.cedar}"


def sampled(decision_id: str, one_in: int = DEFAULT_ONE_IN) -> bool:
    """Whether this decision is re-checked. A decision id is hexadecimal."""
    return one_in > 0 and int(decision_id[:8], 16) % one_in == 0


def crosscheck(policies: CompiledPolicies, request: Request, world: World) -> Mismatch | None:
    """Ask both engines."""
    ours = evaluate(policies, request, world)
    compiled = (ours.cedar_effect, tuple(sorted(ours.determining)), tuple(sorted(ours.errors)))
    answer = ask_cedar(policies.cedar_handle, request, world, policies.source.schema, policies.named)
    names = {f"policy{number}": policy.id for number, policy in enumerate(policies.policies)}
    erring = {name for raw, name in names.items() if any(f"`{raw}`" in text for text in answer.diagnostics.errors)}
    decided = "allow" if answer.decision == cedarpy.Decision.Allow else "deny"
    reasons = tuple(sorted(names.get(raw, raw) for raw in answer.diagnostics.reasons))
    cedar = (decided, reasons, tuple(sorted(erring)))
    if answer.decision == cedarpy.Decision.NoDecision or compiled != cedar:
        return Mismatch(request, policies.digest, compiled, cedar)
    return None
