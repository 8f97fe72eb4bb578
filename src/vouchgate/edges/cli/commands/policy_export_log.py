"""`vouchgate policy export-log`: recorded decisions and the entities that they are about, as files to replay elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.recorded_files import BESIDE, Live, export, milliseconds
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.wire import Noun

SUMMARY = "write recorded decisions to a file"
DETAIL = f"""write recorded decisions as JSON lines to FILE, and the entities and the policy that they are about to FILE{BESIDE}; `vouchgate policy
replay`, `suggest`, `privilege` and `diff` read them with --log FILE, without a control plane"""


class Exported(Noun, frozen=True, kw_only=True):
    """What was written."""

    path: str
    records: int
    bytes: int
    left_out: dict[str, int]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("file", help="where to write")
    parser.add_argument("--since", default="30d", metavar="TIME", help="how far back: 12h, 7d, 4w (default: 30d)")


def run(session: Session, options: argparse.Namespace) -> int:
    """Names are personal data: the files are the user's alone (0600)."""
    live = Live(session, milliseconds(options.since))
    records, size = export(live, Path(options.file))
    live.progress.end()
    answer = Exported(path=options.file, records=records, bytes=size, left_out=live.left_out)
    if not session.json(answer):
        session.printer.marked("good", f"{records:,} recorded decisions, {size / 1e6:.1f} MB with their entities")
        for why, count in sorted(live.left_out.items()):
            session.printer.field("left out", f"{count:,} that no policy decided: {why}")
    return 0
