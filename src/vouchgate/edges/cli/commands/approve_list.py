"""`vouchgate approve list`: requests that wait for a person, and those that were answered lately."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration, harmless, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_approvals import ApprovalState

SUMMARY = "requests that wait for a person, and those that were answered lately"
MARK = {"pending": "warn", "approved": "good", "used": "note", "refused": "bad", "expired": "note"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--all", action="store_true", help="those that ended lately too")


def run(session: Session, options: argparse.Namespace) -> int:
    """One line a request; exit code 1 where one waits for whoever asks."""
    found = session.client.get(tuple[ApprovalState, ...], "/api/v1/approvals")
    shown = tuple(one for one in found if options.all or one.state in ("pending", "approved"))
    if session.json(shown):
        return 0
    for one in shown:
        session.printer.marked(MARK[one.state], f"{one.id}  {title(one)}  {when(one, session.client.now)}")
    if not shown:
        session.printer.line("nothing waits for a person")
    elif any(one.mine for one in shown):
        session.printer.command("look at one", f"vouchgate approve show {next(one.id for one in shown if one.mine)}")
    return 1 if any(one.mine for one in shown) else 0


def title(one: ApprovalState) -> str:
    """Who asks for what."""
    through = f" through {', '.join(short_name(name) for name in one.actors)}" if one.actors else ""
    tool = f" ({one.tool})" if one.tool else ""
    return harmless(f"{short_name(one.principal)}{through}: {one.action} on {short_name(one.resource)}{tool}")


def when(one: ApprovalState, now: int) -> str:
    """How it stands."""
    if one.state in ("pending", "approved"):
        return f"{one.state}, {duration(one.expires_at - now)} left"
    return f"{one.state} by {short_name(one.ended_by)}" if one.ended_by else one.state


def show(session: Session, one: ApprovalState) -> None:
    """The whole of it, so that nobody agrees to what they have not seen."""
    say = session.printer
    say.marked(MARK[one.state], f"{title(one)}: {when(one, session.client.now)}")
    say.field("id", one.id)
    say.field("who", one.principal)
    for name in one.actors:
        say.field("through", name)
    say.field("on", one.resource)
    say.field("groups", ", ".join(one.groups))
    if one.approvers:
        say.field("agreed", ", ".join(one.approvers))
    say.field("request", harmless(f"{one.method} {one.path}") if one.shown else f"{one.method} (only whoever may approve it sees the rest)")
    if one.shown:
        say.field("body", harmless(one.body) or "(none)")
    say.field("digest", one.digest)
    say.field("why", harmless(one.reason))
