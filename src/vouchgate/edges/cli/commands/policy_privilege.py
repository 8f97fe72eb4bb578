"""`vouchgate policy privilege`: what callers may do beside what they did."""

from __future__ import annotations

import argparse

import msgspec

from vouchgate.edges.cli.printing import ago, short_name
from vouchgate.edges.cli.recorded_files import material
from vouchgate.edges.cli.session import Session
from vouchgate.policy.privilege import table
from vouchgate.policy.usage import Usage
from vouchgate.vocabulary.answers_policy import CallerPrivilege, PrivilegeTable
from vouchgate.vocabulary.errors import InvalidInput, NotFound

SUMMARY = "what callers may do beside what they did"
SHOWN = 50
"""Rows; `--json` prints all."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("principal", nargs="?", default="", help="one caller; a short name will do")
    parser.add_argument("--log", default="", metavar="FILE", help="recorded decisions that `vouchgate policy export-log` wrote")
    parser.add_argument("--since", default="30d", metavar="TIME", help="how far back: 12h, 7d, 4w (default: 30d)")


def run(session: Session, options: argparse.Namespace) -> int:
    """The largest excess first."""
    given = material(session, options.log, options.since)
    usage = Usage()
    for batch in given.batches():
        usage.take(batch)
    given.progress.end()
    known = [uid.id for uid in given.world.entities if uid.type == "Principal"]
    who = _whole_name(options.principal, known)
    answer = table(usage, given.world, given.in_force, given.snapshot.asks, principal=who)
    answer = msgspec.structs.replace(answer, cut_off=given.cut_off)
    if not session.json(answer):
        _show(session, answer, given.snapshot.made_at)
    return 0


def _whole_name(text: str, known: list[str]) -> str:
    if not text or "://" in text:
        return text
    found = [name for name in known if name.rpartition("/")[2] == text]
    if len(found) > 1:
        raise InvalidInput(f"`{text[:80]}` names {len(found)} callers", remedy="give the whole name")
    if not found:
        raise NotFound(f"there is no caller `{text[:80]}`", remedy="list them: `vouchgate identity list`")
    return found[0]


def _show(session: Session, answer: PrivilegeTable, now: int) -> None:
    printer, total = session.printer, answer.total
    median = f", median {total.median:.2f} granted for each used" if total.callers else ""
    printer.line(
        printer.paint(f"{total.granted:,} cells granted, {total.used:,} used", "bold")
        + f" by {len(answer.callers):,} callers in {answer.requests:,} requests{median}"
    )
    if answer.dormant:
        printer.marked("warn", f"{answer.dormant:,} callers with grants used none")
    rows = [
        (short_name(one.principal), str(one.granted), str(one.on_request), str(one.used), str(one.excess), ago(one.last_at, now))
        for one in answer.callers[:SHOWN]
    ]
    printer.table(("caller", "granted", "on request", "used", "unused", "last seen"), rows)
    if len(answer.callers) > SHOWN:
        printer.line(f"  and {len(answer.callers) - SHOWN:,} more: --json shows all")
    if len(answer.callers) == 1:
        _unused(session, answer.callers[0], now)
    if answer.unused_policies:
        printer.field("unused", f"permits under which nothing was done: {', '.join(answer.unused_policies)}")
    if answer.cut_off:
        printer.marked("warn", "this rests on a part of the records only")


def _unused(session: Session, one: CallerPrivilege, now: int) -> None:
    rows = [
        (
            grant.action,
            short_name(grant.resource),
            ago(grant.last_at, now) if grant.last_at else "not in this time",
            ", ".join(grant.policies),
        )
        for grant in one.unused
    ]
    session.printer.table(("act", "thing", "last used", "given by"), rows)
    if one.used_beyond:
        session.printer.marked("note", f"{one.used_beyond} cells were used that are not granted any more")
