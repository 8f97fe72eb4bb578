"""`vouchgate restore`: put a backup back, into an installation that does not run."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "put a backup back; refused where it is older than what witness or gateway have seen"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="the backup")
    parser.add_argument(
        "--revocations", default="", metavar="FILE", help="the revocations since the backup, where it is older than the log"
    )
    parser.add_argument("--plan", action="store_true", help="only say what would be put back")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(session: Session, options: argparse.Namespace) -> int:
    """Plan, ask, restore. Leases start empty."""
    for name in (options.path, options.revocations):
        if name and not Path(name).is_file():
            raise NotFound(f"there is no file `{name}`", remedy="name a file that `vouchgate backup` wrote")
    settings = session.settings

    revocations = Path(options.revocations) if options.revocations else None
    plan = installation().restore(settings, Path(options.path), revocations=revocations, plan=True)
    if options.plan:
        if not session.json(plan):
            session.printer.marked("note", f"would put back {plan.log_size} log entries, epoch {plan.epoch}: {plan.detail}")
        return 0
    if not options.yes:
        session.printer.marked(
            "warn", f"replaces the store in {settings.data_dir} by {plan.log_size} log entries, epoch {plan.epoch}: {plan.detail}"
        )
        if not session.confirmed("put it back?"):
            session.printer.line("nothing was changed; pass --yes to go on")
            return 1
    answer = installation().restore(settings, Path(options.path), revocations=revocations, plan=False)
    if not session.json(answer):
        session.printer.marked("good", f"put back {answer.log_size} log entries, epoch {answer.epoch}; leases start empty")
    return 0
