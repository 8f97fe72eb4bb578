"""`vouchgate waive`: go without one piece of evidence about one subject for a time, agreed by two persons."""

from __future__ import annotations

import argparse
import datetime
import re

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration, short_digest, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_approvals import Waiver, WaiveRequest
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "go without one piece of evidence about one subject for a time, agreed by two persons"
DETAIL = """ask: `vouchgate waive scan --for sha256:... --until 2026-12-31 --why "..."`; the second person: `vouchgate waive approve ID`;
`vouchgate waive list`; `vouchgate waive withdraw ID`; end one that stands: `vouchgate revoke VOUCH`"""
VERBS = ("list", "approve", "withdraw")
MARK = {"waits": "warn", "in-force": "warn", "not-needed": "note", "held-back": "bad", "ended": "note", "revoked": "note"}
MEANS = {
    "waits": "waits for a second person",
    "in-force": "in force",
    "not-needed": "stands; the evidence is there",
    "held-back": "without effect: something failed or was revoked",
    "ended": "ended",
    "revoked": "revoked",
}
_SPAN = re.compile(r"([1-9][0-9]{0,3})([dh])\Z")
_UNIT = {"d": 86_400_000, "h": 3_600_000}
DAY_MS = 86_400_000


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("what", metavar="CONTROL", help="what to go without (`scan`, `serves@rederived`), or list, approve, withdraw")
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="a request, to approve or withdraw")
    parser.add_argument("--for", dest="subject", default="", metavar="DIGEST|NAME", help="the one subject")
    parser.add_argument("--until", default="", metavar="DATE", help="its last day (YYYY-MM-DD, UTC), or 12h, 30d from now; 90 days at most")
    parser.add_argument("--why", default="", metavar="TEXT", help="why, for the second person and the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Ask, list, agree, withdraw. Exit code 1 where what stands is without effect."""
    if options.what == "list":
        return _list(session)
    if options.what in VERBS:
        if not options.id:
            raise Usage(f"say which request to {options.what}", remedy="list them: `vouchgate waive list`")
        path = "/api/v1/waivers/agree" if options.what == "approve" else "/api/v1/waivers/withdraw"
        return _show(session, session.client.post(Waiver, path, {"id": options.id}))
    if options.id or not (options.subject and options.until and options.why):
        raise Usage(
            "a waiver needs --for, --until and --why", remedy='`vouchgate waive scan --for sha256:... --until 2026-12-31 --why "..."`'
        )
    until_of(options.until, 0)
    # the control plane's clock counts, and any answer tells it
    session.client.get(tuple[Waiver, ...], "/api/v1/waivers")
    until = until_of(options.until, session.client.now)
    asked = WaiveRequest(control=options.what, subject=options.subject, until=until, why=options.why)
    return _show(session, session.client.post(Waiver, "/api/v1/waivers", asked))


def until_of(text: str, now: int) -> UnixMillis:
    """The end of that day in UTC, or so long from `now`. Raises `Usage`."""
    span = _SPAN.match(text)
    if span:
        return UnixMillis(now + int(span[1]) * _UNIT[span[2]])
    try:
        if not re.match(r"\d{4}-\d{2}-\d{2}\Z", text, re.ASCII):
            raise ValueError(text)
        day = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise Usage(f"`{text[:40]}` is not a date", remedy="write YYYY-MM-DD, or 12h, or 30d") from None
    return UnixMillis(int(day.timestamp()) * 1000 + DAY_MS - 1)


def _list(session: Session) -> int:
    found = session.client.get(tuple[Waiver, ...], "/api/v1/waivers")
    if session.json(found):
        return 0
    if not found:
        session.printer.line("no waiver stands, and nobody asks for one")
    for one in found:
        _line(session, one)
    return 1 if any(one.state == "held-back" for one in found) else 0


def _line(session: Session, one: Waiver) -> None:
    show, now = session.printer, session.client.now
    show.marked(MARK[one.state], f"{one.control} of {short_name(one.subject)}: {MEANS[one.state]}")
    show.field("id", one.id if one.state == "waits" else short_digest(one.id))
    show.field("subject", one.subject)
    ends = f"{datetime.datetime.fromtimestamp(one.until / 1000, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    show.field("until", f"{ends}, in {duration(one.until - now)}" if one.until > now else ends)
    show.field("why", one.why)
    agreed = "one person asked and agreed (solo)" if one.solo else f"agreed by {one.approver}" if one.approver else ""
    show.field("asked by", f"{one.requester}{'; ' + agreed if agreed else ''}")
    if one.renewals:
        show.field("renewed", f"{one.renewals} times before")


def _show(session: Session, answer: Waiver) -> int:
    if session.json(answer):
        return 0
    _line(session, answer)
    if answer.state == "waits":
        session.printer.command("agree", f"vouchgate waive approve {answer.id}")
    elif answer.approver:
        session.printer.points(answer.points, session.client.now)
        session.printer.command("end it", f"vouchgate revoke {answer.id} --kind vouch --reason ...")
    return 1 if answer.state == "held-back" else 0
