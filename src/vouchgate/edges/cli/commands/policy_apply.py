"""`vouchgate policy apply`: put a policy file in force; a second person approves."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.commands.policy_check import read_policies
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import PolicyReport, PolicyVersion
from vouchgate.vocabulary.answers_policy import PolicyHistory

SUMMARY = "put a policy file in force; a second person approves"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="*", help="Cedar files; applied together")
    parser.add_argument(
        "--version", type=int, default=0, metavar="N", help="the text of version N instead of files; it becomes a new version"
    )
    parser.add_argument("--reason", required=True, help="why, for the log")
    parser.add_argument("--plan", action="store_true", help="only check and say what would change")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(session: Session, options: argparse.Namespace) -> int:
    """Check, show the changes, ask, apply."""
    text = _text(session, options)
    report = session.client.post(PolicyReport, "/api/v1/policy/check", {"text": text})
    show = session.printer
    if not report.ok or options.plan:
        if not session.json(report):
            show.marked("good" if report.ok else "bad", f"{report.policies} policies, {len(report.findings)} remarks")
            for finding in report.findings:
                show.marked("bad" if finding.severity == "error" else "warn", f"line {finding.line}: {finding.text}", indent=2)
            for change in report.changes:
                show.marked("note", change, indent=2)
        return 0 if report.ok else 1
    if not options.yes and not options.json:
        for change in report.changes or ("nothing changes in what the policies are called",):
            show.marked("note", change, indent=2)
        if not session.confirmed("put it in force?"):
            show.line("nothing was changed; pass --yes to go on")
            return 1
    answer = session.client.post(PolicyVersion, "/api/v1/policy/apply", {"text": text, "reason": options.reason})
    if not session.json(answer):
        told = f"waits for {answer.waits_for}" if answer.waits_for else "is in force"
        show.marked("warn" if answer.waits_for else "good", f"policy version {answer.version} {told}")
        show.points(answer.points, session.client.now)
    return 1 if answer.waits_for else 0


def _text(session: Session, options: argparse.Namespace) -> str:
    if bool(options.path) == bool(options.version):
        raise Usage("say what to apply", remedy="name Cedar files, or an old version with --version N")
    if options.version:
        return session.client.get(PolicyHistory, "/api/v1/policy/history", version=options.version).versions[0].text
    return read_policies(options.path)
