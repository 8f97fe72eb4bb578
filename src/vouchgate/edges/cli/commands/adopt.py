"""`vouchgate adopt`: see what enforcing a zone would refuse, and move it between observe and enforce."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import ago, duration, harmless, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import AdoptOutcome, AdoptRequest
from vouchgate.vocabulary.answers_zones import AdoptRanking

SUMMARY = "see what enforcing a zone would refuse, and move it between observe and enforce"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("zone", nargs="?", default="", help="the zone; without one, which zone to enforce next")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--plan", dest="to", action="store_const", const="plan", help="only show what would change (default)")
    mode.add_argument("--enforce", dest="to", action="store_const", const="enforce", help="refuse what policy refuses")
    mode.add_argument(
        "--observe", dest="to", action="store_const", const="observe", help="decide and record, refuse nothing; ends by itself"
    )
    parser.add_argument("--reason", default="", help="why, for the log")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(to="plan")


def run(session: Session, options: argparse.Namespace) -> int:
    """Plan first; with --enforce show the plan and ask."""
    if not options.zone:
        return _next(session, options)
    if options.to == "enforce" and not options.yes and not options.json:
        plan = _ask(session, options, "plan")
        if plan.would_refuse:
            _show(session, plan)
            if not session.confirmed(f"enforce {options.zone}?"):
                session.printer.line("nothing was changed; pass --yes to go on")
                return 1
    answer = _ask(session, options, options.to)
    if not session.json(answer):
        _show(session, answer)
    return 1 if answer.waits_for or (answer.planned and answer.would_refuse) else 0


def _next(session: Session, options: argparse.Namespace) -> int:
    if options.to != "plan":
        raise Usage("no zone is named", remedy="name it before the option; `vouchgate adopt` alone ranks them")
    ranking = session.client.get(AdoptRanking, "/api/v1/adopt/next")
    if session.json(ranking):
        return 0
    show = session.printer
    rows = [
        (one.zone, one.mode, f"{one.score:g}", str(one.value), str(one.exposure), str(one.breaks), str(one.calls)) for one in ranking.zones
    ]  # fmt: skip
    show.table(("zone", "mode", "score", "value", "exposure", "breaks", "calls"), rows, indent=0)
    for one in ranking.zones:
        show.line(f"  {harmless(one.zone)}: {harmless(one.why)}" + (f"; {harmless(one.after)}" if one.after else ""))
    first = next((one for one in ranking.zones if one.command), None)
    if first is not None:
        show.command("next", first.command)
    return 0


def _lines(session: Session, answer: AdoptOutcome) -> None:
    """For each call what lets it go on; the Cedar lines can be copied into a policy file as they are."""
    show = session.printer
    for line in answer.lines:
        mark = "good" if line.proved else "warn"
        said = "passes with" if line.cedar and line.proved else "passes by now" if line.proved else line.why
        show.marked(mark, f"{short_name(line.principal)} {line.action} {short_name(line.resource)}, {line.count} calls: {said}", indent=2)
        for command in line.commands:
            show.line(f"    first: {harmless(command)}")
        for text in line.cedar.splitlines():
            show.line(f"    {harmless(text)}")


def _ask(session: Session, options: argparse.Namespace, to: str) -> AdoptOutcome:
    return session.client.post(AdoptOutcome, "/api/v1/adopt", AdoptRequest(zone=options.zone, to=to, reason=options.reason))  # type: ignore[arg-type]


def _show(session: Session, answer: AdoptOutcome) -> None:
    show, now = session.printer, session.client.now
    if answer.waits_for:
        show.marked("warn", f"{answer.zone} stays in {answer.was}: waits for {answer.waits_for}")
    elif answer.planned:
        total = sum(cell.count for cell in answer.would_refuse)
        mark = "warn" if answer.would_refuse else "good"
        show.marked(mark, f"enforcing {answer.zone} (now in {answer.was}) would have refused {total} of {answer.calls_seen} calls")
    else:
        show.marked("good", f"{answer.zone} is in {answer.now}" + (f", was in {answer.was}" if answer.was != answer.now else " as before"))
    if answer.observe_until:
        show.field("until", f"observe ends in {duration(answer.observe_until - now)}")
    if answer.planned:
        rows = [
            (short_name(cell.principal) + ("" if cell.authenticated else " (declared)"), cell.action, short_name(cell.resource), str(cell.count),
             ago(cell.last_at, now), cell.reason)
            for cell in answer.would_refuse
        ]  # fmt: skip
        show.table(("caller", "action", "endpoint", "calls", "last", "why"), rows)
        _lines(session, answer)
    show.field("after", answer.after)
    if answer.waivers:
        show.field("waived", f"{answer.waivers} waiver{'s stand' if answer.waivers > 1 else ' stands'}: see `vouchgate waive list`")
    show.points(answer.points, now)
