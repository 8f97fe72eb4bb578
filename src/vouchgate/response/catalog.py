"""The actions, and the one way to plan one.

Rules
1. The folder is the list: a file in `actions/` with an `ACTION` is in; two of one name are refused.
2. A plan is passed on only if it is about the finding and the trust domain it was asked for, does something, and carries the key by which
   it is done once. One that is not is a mistake of the action and is raised.
"""

from __future__ import annotations

from functools import cache

from vouchgate.response import actions as folder
from vouchgate.response.actions import Action
from vouchgate.response.effects import Declined, Effect, Situation, idempotency_key
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.events import Finding
from vouchgate.vocabulary.plugins import by_name, chosen, modules


@cache
def actions() -> dict[str, Action]:
    """All actions of this build, by name."""
    return by_name("action", (module.ACTION for module in modules(folder)))


def action(name: str) -> Action:
    """One action. Raises `NotFound`."""
    return chosen("action", actions(), name)


def plan(name: str, finding: Finding, situation: Situation) -> Effect | Declined:
    """What the action would do about the finding. Raises `NotFound`."""
    chosen = action(name)
    answer = chosen.plan(finding, situation)
    if isinstance(answer, Effect):
        check_effect(chosen, answer, finding, situation)
    return answer


def check_effect(chosen: Action, effect: Effect, finding: Finding, situation: Situation) -> None:
    """Rule 2. Raises `InvalidInput`."""
    key = idempotency_key(chosen.name, chosen.version, situation.trust_domain, finding.subject, finding.id)
    wrong = ""
    if (effect.action, effect.action_version) != (chosen.name, chosen.version):
        wrong = "is of another action"
    elif (effect.trust_domain, effect.subject, effect.because) != (situation.trust_domain, finding.subject, finding.id):
        wrong = "is about something else"
    elif effect.idempotency_key != key:
        wrong = "has another idempotency key"
    elif not effect.do or effect.not_after <= situation.now:
        wrong = "does nothing, or has already lapsed"
    elif not effect.undo and not effect.approvals:
        wrong = "cannot be undone and asks nobody"
    if wrong:
        raise InvalidInput(f"a plan of `{chosen.name}` {wrong}", remedy=f"correct the action `{chosen.name}`")
