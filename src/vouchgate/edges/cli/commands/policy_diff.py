"""`vouchgate policy diff`: two policies, by their policies and by what they would have answered."""

from __future__ import annotations

import argparse
import difflib

import msgspec

from vouchgate.edges.cli.commands.policy_check import read_policies
from vouchgate.edges.cli.commands.policy_replay import show as show_replay
from vouchgate.edges.cli.printing import MARKS, harmless
from vouchgate.edges.cli.recorded_files import material
from vouchgate.edges.cli.session import Session
from vouchgate.policy.catalog import load
from vouchgate.policy.difference import compare
from vouchgate.policy.load import PolicySet, Source
from vouchgate.policy.replay import Replay
from vouchgate.vocabulary.answers import PolicyVersion
from vouchgate.vocabulary.answers_policy import PolicyDifference, PolicyHistory

SUMMARY = "how two policies differ, and what that would have meant"
DETAIL = """compare two policies: version numbers (`vouchgate policy history`), `current`, or Cedar files. With --log or --since, what the
difference would have meant for recorded requests is shown too"""
WHAT = {"added": "note", "removed": "bad", "changed": "warn"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("old", help="a version, `current`, or a Cedar file")
    parser.add_argument("new", help="likewise")
    parser.add_argument("--log", default="", metavar="FILE", help="recorded decisions that `vouchgate policy export-log` wrote")
    parser.add_argument("--since", default="", metavar="TIME", help="recorded decisions of the last 12h, 7d, 4w")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where they differ."""
    texts = [text_of(session, name) for name in (options.old, options.new)]
    old, new = (load([Source(name, text)]) for name, text in zip((options.old, options.new), texts, strict=True))
    answer = PolicyDifference(
        old=options.old, new=options.new, old_digest=old.digest, new_digest=new.digest, changes=compare(old, new)
    )  # fmt: skip
    now = 0
    if options.log or options.since:
        given = material(session, options.log, options.since)
        replay = Replay(given.world, *(given.compiled([("policy.cedar", text)]) for text in texts), not_recorded=given.not_recorded)
        for batch in given.batches():
            replay.take(batch)
        seconds, now = given.progress.end(), given.snapshot.made_at
        behaviour = msgspec.structs.replace(replay.outcome(), cut_off=given.cut_off, left_out=given.left_out, seconds=round(seconds, 3))
        answer = msgspec.structs.replace(answer, behaviour=behaviour)
    if not session.json(answer):
        _show(session, answer, now, old, new)
    return 1 if answer.changes else 0


def text_of(session: Session, name: str) -> str:
    """A version's text, the one in force, or a file's."""
    if name == "current":
        return session.client.get(PolicyVersion, "/api/v1/policy").text
    if name.isascii() and name.isdigit():
        return session.client.get(PolicyHistory, "/api/v1/policy/history", version=int(name)).versions[0].text
    return read_policies([name])


def _show(session: Session, answer: PolicyDifference, now: int, old: PolicySet, new: PolicySet) -> None:
    printer = session.printer
    if not answer.changes:
        printer.marked("good", "both say the same, policy by policy")
    for one in answer.changes:
        printer.marked(WHAT[one.what], f"{one.what} {one.effect} `{one.id}`")
        lines = (
            list(difflib.unified_diff(one.old.splitlines(), one.new.splitlines(), lineterm="", n=2))[2:] if one.what == "changed" else []
        )
        for line in lines:
            mark = {"-": "bad", "+": "good"}.get(line[:1], "note")
            printer.line("    " + (printer.paint(harmless(line), mark) if mark in MARKS else harmless(line)))
    if answer.behaviour:
        show_replay(session, answer.behaviour, now)
