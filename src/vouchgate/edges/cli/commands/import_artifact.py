"""`vouchgate import`: take a model in, a file or a folder that is one model. It is sent to the control plane, which hashes, scans, decides and vouches."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vouchgate.edges.cli.commands.vouch_add import read_envelope
from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.printing import short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import ImportOutcome
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "take a model in: scan, decide, vouch"
ARTIFACTS = "/api/v1/artifacts"
SEVERITY_MARK = {"critical": "bad", "high": "bad", "medium": "warn", "low": "note"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="the file, or the folder that is one model")
    parser.add_argument("--zone", default="serve", help="the zone it is placed in (default: serve)")
    parser.add_argument(
        "--declare", action="append", default=[], metavar="PREDICATE=VALUE", help="a statement that you make; becomes a declared vouch"
    )

    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FILE",
        help="an allowance for it (`vouchgate knowledge allow`); it is handed in first",
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it is not admitted, or an allowance is refused; then nothing is sent."""
    path = Path(options.path)
    if not all(hand_in(session, file) for file in options.allow):
        return 1
    try:
        answer = _send_folder(session, path, options) if path.is_dir() else _send_file(session, path, options)
    except (FileNotFoundError, PermissionError) as error:
        raise NotFound(f"`{path}` cannot be read: {error.strerror}", remedy="name a model file that you may read") from None
    if not session.json(answer):
        show_outcome(session, answer, path.name, ("is admitted", "is refused"), now=session.client.now)
    return 0 if answer.admitted else 1


def hand_in(session: Session, file: str) -> bool:
    """A vouch that the import is to rest on; whether it was taken in."""
    answer = session.client.post(VouchTaken, "/api/v1/vouches", {"envelope": read_envelope(file)})
    if not answer.taken:
        session.printer.marked("bad", f"{file} is not taken in: {answer.reason}")
        session.printer.field("fix", answer.remedy)
    return answer.taken


def _send_file(session: Session, path: Path, options: argparse.Namespace) -> ImportOutcome:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return session.client.send_file(
            ImportOutcome, ARTIFACTS, file, size, name=path.name, zone=options.zone, declare=",".join(options.declare)
        )


def _send_folder(session: Session, path: Path, options: argparse.Namespace) -> ImportOutcome:
    with installation().folder(str(path)) as folder:
        name = path.resolve().name or "folder"
        return session.client.send_file(
            ImportOutcome, ARTIFACTS, folder, folder.size, kind="tree", name=name, zone=options.zone, declare=",".join(options.declare)
        )


def show_outcome(session: Session, answer: ImportOutcome, name: str, verdicts: tuple[str, str], *, now: int) -> None:
    """Verdict in the words of `verdicts` (yes, no), findings, vouches, fix."""
    show = session.printer
    show.marked("good" if answer.admitted else "bad", f"{name} {verdicts[0] if answer.admitted else verdicts[1]}: {answer.reason}")
    show.field(
        "folder" if answer.digest.startswith("sha256-tree:") else "file",
        f"{short_digest(answer.digest)}, {answer.size} bytes, {answer.format}",
    )
    if answer.admitted and answer.zone:
        show.field("as", answer.resource, f"in zone {answer.zone}")
    for finding in answer.findings:
        show.marked(SEVERITY_MARK[finding.severity], f"{finding.severity} {finding.rule} at {finding.where}: {finding.text}", indent=2)
    show.vouches(answer.vouches, now)
    show.field("fix", answer.remedy)
