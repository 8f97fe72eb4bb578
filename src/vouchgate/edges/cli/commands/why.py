"""`vouchgate why`: who, what, verdict, because of which policies and evidence, on which path, and the cheapest fix."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import MARKS, TIER_MEANS, harmless, short_digest, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_decisions import Explanation

SUMMARY = "explain a decision: who, what, because of which evidence, how to fix it"
DETAIL = """explain a recorded decision (its id, a grant, request id or log index), or decide one now:
`vouchgate why 4711`, `vouchgate why alice digits`, `vouchgate why alice infer digits`"""
STEP_MARK = {"passed": "good", "stopped": "bad", "not-reached": "note", "observed": "warn"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("question", nargs="*", metavar="WHAT", help="a decision, or CALLER [ACTION] ENDPOINT")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 for a deny, and for an allow in observe that enforcing would refuse."""
    words = options.question
    if not 1 <= len(words) <= 3:
        raise Usage("say what to explain", remedy="`vouchgate why 4711` or `vouchgate why alice infer digits`")
    if len(words) == 1:
        query = {"decision": words[0]}
    else:
        query = {"principal": words[0], "action": words[1] if len(words) == 3 else "infer", "resource": words[-1]}
    answer = session.client.get(Explanation, "/api/v1/why", **query)
    if not session.json(answer):
        _show(session, answer)
    return 0 if answer.decision.would_be == "allow" else 1


def _show(session: Session, answer: Explanation) -> None:
    show, now, decision = session.printer, session.client.now, answer.decision
    refused = decision.effect == "deny"
    verdict = "denied" if refused else "allowed" if decision.would_be == "allow" else "allowed in observe, enforcing would deny"
    mark = "bad" if refused else "good" if decision.would_be == "allow" else "warn"
    asked = f"{short_name(decision.principal) or 'nobody'} → {decision.action} → {short_name(decision.resource)}"
    show.line(show.paint(f"{MARKS[mark][1]} {verdict}", mark) + "   " + show.paint(harmless(asked), "bold"))
    show.line()
    groups = f"in {', '.join(answer.groups)}" if answer.groups else "in no group"
    show.field("who", decision.principal or "a caller without identity", "; ".join(part for part in (groups, answer.credential) if part))
    if decision.actors:
        show.field("acting", *(f"{actor}" for actor in decision.actors))
    tier = f" ({answer.digest_tier}: {TIER_MEANS[answer.digest_tier]})" if answer.digest_tier else ""
    model = f"model {short_digest(answer.model_digest)}{tier}" if answer.model_digest else "no model is known behind it"
    show.field("what", f"{decision.action} on {decision.resource}", model)
    risk = f"risk {decision.risk.value}: {', '.join(decision.risk.reasons)}" if decision.risk.value else ""
    residual = "asked again on each request: it depends on the request's own facts" if decision.residual else ""
    policies = (f"{policy.effect} {policy.id}{_source(policy.source)}: {policy.summary}".rstrip(": ") for policy in answer.policies)
    show.field("because", decision.reason, *policies, *(f"policy error: {error}" for error in decision.errors), risk, residual)
    show.vouches(answer.vouches, now)
    width = max((len(step.where) for step in answer.path), default=0)
    for number, step in enumerate(answer.path):
        mark = STEP_MARK[step.result]
        label = show.paint(("path" if number == 0 else "").ljust(9), "note")
        show.line(f"  {label}{show.paint(MARKS[mark][1], mark)} {harmless(step.where).ljust(width)}  {harmless(step.what)}")
    show.field("rests on", *answer.minimal)
    show.field("ends if" if decision.would_be == "allow" or decision.residual else "needs", *answer.flips)
    for number, fix in enumerate(answer.fixes):
        show.field("fix" if number == 0 else "or", fix.text)
        show.command("", fix.command)
    place = f"log entry {answer.log_index}" if answer.log_index >= 0 else "decided now, not recorded as a call"
    show.field("record", f"decision {decision.id[:16]}, policy version {decision.policy_version}, epoch {decision.evidence_epoch}, {place}")


def _source(source: str) -> str:
    return f" ({source})" if source else ""
