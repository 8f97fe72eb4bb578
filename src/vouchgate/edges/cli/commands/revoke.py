"""`vouchgate revoke`: withdraw an identity, artifact, key or vouch, and all that rests on it."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import short_digest, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import Approved, RevokeOutcome, RevokeRequest

SUMMARY = "withdraw an identity, artifact, key or vouch, and all that rests on it"
KINDS = ("credential", "principal", "registration", "key", "digest", "vouch", "run", "policy")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "target", nargs="?", default="", help="a principal, digest, vouch, key or credential; a short name where it is unique"
    )
    parser.add_argument("--kind", choices=KINDS, default="", help="what the target is (default: told from its form)")
    parser.add_argument("--reason", default="", help="why, for the log; needed")
    parser.add_argument("--self", dest="cascade", action="store_const", const="self", default="downstream", help="leave what rests on it")
    parser.add_argument("--plan", action="store_true", help="only show what would fall")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--undo", default="", metavar="ID", help="undo a revocation, as another person than who made it")


def run(session: Session, options: argparse.Namespace) -> int:
    """Show the plan, ask, withdraw; say at which point it is enforced."""
    if bool(options.target) == bool(options.undo):
        raise Usage("name one target, or one revocation to undo", remedy="`vouchgate revoke alice --reason ...`")
    if not options.reason and not options.plan:
        raise Usage("a revocation needs a reason", remedy="add --reason, or --plan to look first")
    if options.undo:
        return _undo(session, options)
    if not options.plan and not options.yes and not options.json:
        _show(session, _ask(session, options, plan=True))
        if not session.confirmed("withdraw it?"):
            session.printer.line("nothing was changed; pass --yes to go on")
            return 1
    answer = _ask(session, options, plan=options.plan)
    if not session.json(answer):
        _show(session, answer)
    return 0


def _ask(session: Session, options: argparse.Namespace, *, plan: bool) -> RevokeOutcome:
    asked = RevokeRequest(kind=options.kind, target=options.target, reason=options.reason or "plan", cascade=options.cascade, plan=plan)
    return session.client.post(RevokeOutcome, "/api/v1/revoke", asked)


def _show(session: Session, answer: RevokeOutcome) -> None:
    show, now = session.printer, session.client.now
    would = "would be withdrawn" if answer.planned else "is withdrawn"
    show.marked("warn" if answer.planned else "good", f"{answer.target_kind} {answer.target} {would}")
    show.field("falls", f"{len(answer.vouches)} vouches, {answer.grants} grants")
    show.field("", *(f"vouch {vouch.predicate} of {short_name(vouch.subject)} ({short_digest(vouch.id)})" for vouch in answer.vouches[:20]))
    show.field("refused", *(f"{endpoint} for everyone" for endpoint in answer.endpoints), *answer.callers[:20])
    show.points(answer.points, now)
    show.command("undo", answer.undo)


def _undo(session: Session, options: argparse.Namespace) -> int:
    answer = session.client.post(Approved, "/api/v1/unrevoke", {"id": options.undo, "reason": options.reason})
    if not session.json(answer):
        session.printer.marked("good" if answer.done else "warn", answer.detail)
        session.printer.points(answer.points, session.client.now)
    return 0 if answer.done else 1
