"""Administration passes the same `decide` as everything else.

Every act names its verb; the verb is an action of the policy schema, under the base policy that cannot be removed. A refusal is recorded and
raised; what was done is recorded in the transaction of the act itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from vouchgate.audit import ocsf
from vouchgate.flows.context import Context
from vouchgate.vocabulary.answers import AdministerVerb, Caller
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.records import Append

ACTIONS: dict[AdministerVerb, str] = {
    "read": "administer:status",
    "explain": "administer:why",
    "revoke": "administer:revoke",
    "unrevoke": "administer:withdraw-revocation",
    "adopt": "administer:approve-mode",
    "wrap": "administer:wrap",
    "import": "administer:import",
    "issue-identity": "administer:issue-identity",
    "register": "administer:register",
    "unregister": "administer:unregister",
    "join-token": "administer:join-token",
    "run": "administer:run",
    "waive": "waive",
    "approve": "approve",
    "vouch": "administer:vouch",
    "federate": "administer:federate",
    "secret": "administer:secret",
    "rotate-key": "administer:rotate-key",
    "kill-sessions": "administer:kill-sessions",
    "login": "administer:status",
    "bootstrap": "administer:config",
    "accept-clock": "administer:config",
    "rescan": "administer:config",
    "audit": "administer:audit",
    "policy-check": "administer:check",
    "policy-apply": "administer:author-policy",
    "policy-approve": "administer:approve-policy",
    "backup": "administer:backup",
    "place": "administer:place",
    "analyse": "administer:analyse",
}
"""Verb of the API -> action of the schema."""


def system_of(context: Context) -> str:
    """The control plane as a resource."""
    return resource(context.trust_domain, "system", "control")


def decision_for(context: Context, caller: Caller, verb: AdministerVerb, target: str = "") -> Decision:
    """Whether the caller may do it."""
    return context.facts.decide(caller.principal, ACTIONS[verb], target or system_of(context), context.clock.now())


async def authorise(context: Context, caller: Caller, verb: AdministerVerb, target: str = "") -> Decision:
    """Decide before an act. Raises `NotPermitted`, which is recorded."""
    decision = decision_for(context, caller, verb, target)
    if decision.effect == "allow":
        return decision
    entries = [Append(entry=ocsf.decision(decision), label=decision.id), act_entry(context, caller, verb, target, "denied", {})]
    await context.sequencer.submit(caller.principal.principal.id, (), entries)
    raise NotPermitted(decision.reason, remedy=decision.remedy or "ask somebody who holds the role")


def act_entry(context: Context, caller: Caller, verb: str, target: str, outcome: str, detail: Mapping[str, Any]) -> Append:
    """The log entry of an act."""
    entry = ocsf.act(
        context.trust_domain,
        uid=secrets.token_hex(16),
        who=caller.principal.principal.id,
        verb=verb,
        resource=target or system_of(context),
        outcome=outcome,
        detail={**detail, "how": caller.how, "peer": caller.peer, "solo": context.settings.solo},
        now=context.clock.now(),
    )
    return Append(entry=entry)
