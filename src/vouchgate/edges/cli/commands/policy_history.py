"""`vouchgate policy history`: every signed version of the policy, and what waits for a second person."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import ago, duration, harmless, short_digest, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_policy import PolicyHistory

SUMMARY = "every signed version of the policy: who wrote it, who agreed, when"
MARK = {"holds": "good", "key-not-current": "warn", "broken": "bad"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the text of version N")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where a signature does not hold."""
    answer = session.client.get(PolicyHistory, "/api/v1/policy/history", version=options.show or "")
    broken = any(one.signature == "broken" for one in answer.versions)
    if session.json(answer):
        return int(broken)
    if options.show:
        one = answer.versions[0]
        session.printer.line(f"// version {one.version}, {short_digest(one.digest)}, signature: {one.signature}")
        for line in one.text.splitlines():
            session.printer.line(harmless(line.expandtabs(4)))
        return int(broken)
    _show(session, answer)
    return int(broken)


def _show(session: Session, answer: PolicyHistory) -> None:
    printer, now = session.printer, session.client.now
    if answer.proposal:
        waiting = answer.proposal
        printer.marked(
            "warn",
            f"a text of {short_name(waiting.author)} (sha256 {waiting.sha256[:12]}…) waits for a second person, {duration(waiting.until - now)} left",
        )
        printer.command("agree", "vouchgate policy apply FILE --reason TEXT")
    for one in answer.versions:
        approved = f", approved by {short_name(one.approver)}" if one.approver != one.author else ", by one person alone"
        force = "in force, " if one.in_force else ""
        printer.marked(
            MARK[one.signature],
            f"version {one.version}  {short_digest(one.digest)}  {force}{ago(one.applied_at, now)}, by {short_name(one.author)}{approved}, "
            f"{one.policies} policies",
        )
        if one.detail:
            printer.field("", one.detail)
