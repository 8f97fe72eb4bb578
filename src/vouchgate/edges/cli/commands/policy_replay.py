"""`vouchgate policy replay`: who gains and who loses under another policy, over what was really asked."""

from __future__ import annotations

import argparse

import msgspec

from vouchgate.edges.cli.commands.policy_check import read_policies
from vouchgate.edges.cli.printing import ago, short_name
from vouchgate.edges.cli.recorded_files import material
from vouchgate.edges.cli.session import Session
from vouchgate.policy.replay import Replay
from vouchgate.vocabulary.answers_policy import CellChange, ReplayOutcome

SUMMARY = "who gains and who loses under another policy, over recorded decisions"
DETAIL = (
    """decide recorded requests under the policy in force and under the given files, and show the difference; nothing is put in force"""
)
SHOWN = 40
"""Rows of one table; `--json` prints all."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="+", help="Cedar files of the new policy")
    parser.add_argument("--log", default="", metavar="FILE", help="recorded decisions that `vouchgate policy export-log` wrote")
    parser.add_argument("--since", default="7d", metavar="TIME", help="how far back: 12h, 7d, 4w (default: 7d)")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where somebody gains or loses."""
    text = read_policies(options.path)
    given = material(session, options.log, options.since)
    new = given.compiled([("policy.cedar", text)])
    replay = Replay(given.world, given.in_force, new, not_recorded=given.not_recorded)
    for batch in given.batches():
        replay.take(batch)
    seconds = round(given.progress.end(), 3)
    answer = msgspec.structs.replace(replay.outcome(), cut_off=given.cut_off, left_out=given.left_out, seconds=seconds)
    if not session.json(answer):
        show(session, answer, given.snapshot.made_at)
    return 1 if answer.gained or answer.lost or answer.bound else 0


def show(session: Session, answer: ReplayOutcome, now: int) -> None:
    """The outcome for people; losses first, because they break something."""
    printer = session.printer
    rate = f", {answer.records / answer.seconds:,.0f} a second" if answer.seconds >= 0.1 else ""
    printer.line(printer.paint(f"{answer.records:,} recorded decisions", "bold") + f"{rate}: {answer.same:,} stay as they are")
    if answer.cut_off:
        printer.marked("warn", "this is not all: the file has no end, or a bound was reached")
    _table(session, "bad", f"{answer.lost:,} would be denied that are allowed", answer.losses, now)
    _table(session, "warn", f"{answer.gained:,} would be allowed that are denied", answer.gains, now)
    _table(session, "note", f"{answer.bound:,} stay allowed with other obligations", answer.bounds, now)
    _table(session, "note", f"{answer.opened:,} depend on facts that were not recorded", answer.opens, now)
    if answer.drifted:
        printer.marked("note", f"{answer.drifted:,} are answered otherwise today than then, whatever the policy: facts have changed since")
        rows = [
            (short_name(one.principal), one.action, short_name(one.resource), f"{one.recorded}, today {one.today}", str(one.count), one.why)
            for one in answer.drifts[:SHOWN]
        ]
        printer.table(("caller", "act", "thing", "then", "calls", "why"), rows)
    for count, words in (
        (answer.unknown_names, "are about names that are not known any more: denied by both"),
        (answer.observed, "were let through because their zone observed"),
        (answer.unlisted, "changed in cells beyond what is listed"),
    ):
        if count:
            printer.marked("note", f"{count:,} {words}")
    for why, count in sorted(answer.left_out.items()):
        printer.marked("note", f"{count:,} were decided by no policy and are left out: {why}")


def _table(session: Session, mark: str, title: str, rows: tuple[CellChange, ...], now: int) -> None:
    if not rows:
        return
    printer = session.printer
    printer.marked(mark, title)
    cells = [
        (
            short_name(one.principal),
            one.action,
            short_name(one.resource),
            f"{one.count:,}",
            ago(one.last_at, now),
            one.because,
            one.example[:16],
        )
        for one in rows[:SHOWN]
    ]
    printer.table(("caller", "act", "thing", "calls", "last", "because", "example"), cells)
    if len(rows) > SHOWN:
        printer.line(f"  and {len(rows) - SHOWN:,} more: --json shows all")
