"""`vouchgate import`: take a model in, a file or a folder that is one model. It is sent to the control plane, which hashes, scans, decides and vouches."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.client import Readable
from vouchgate.edges.cli.handing_in import hand_in_envelope
from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.printing import short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import content
from vouchgate.vocabulary.answers import ImportOutcome
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "take a model in: scan, decide, vouch"
ARTIFACTS = "/api/v1/artifacts"
MAX_BUNDLE_BYTES = 720_000
"""Bytes of a signature or of provenance that the control plane takes; a model of about 4,000 files."""
SEVERITY_MARK = {"critical": "bad", "high": "bad", "medium": "warn", "low": "note"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="the file, or the folder that is one model")
    parser.add_argument("--zone", default="serve", help="the zone it is placed in (default: serve)")
    parser.add_argument(
        "--declare", action="append", default=[], metavar="PREDICATE=VALUE", help="a statement that you make; becomes a declared vouch"
    )

    parser.add_argument(
        "--signature",
        default="",
        metavar="FILE",
        help="a signer's bundle for it (OpenSSF Model Signing, or Sigstore's); held against it first",
    )
    parser.add_argument("--provenance", default="", metavar="FILE", help="a builder's SLSA provenance for it, likewise")
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
    answer = hand_in_envelope(session, file)
    if not answer.taken and not session.json(answer):
        session.printer.marked("bad", f"{file} is not taken in: {answer.reason}")
        session.printer.field("fix", answer.remedy)
    return answer.taken


def _send_file(session: Session, path: Path, options: argparse.Namespace) -> ImportOutcome:
    with path.open("rb") as file:
        return _send(session, options, file, os.fstat(file.fileno()).st_size, name=path.name)


def _send_folder(session: Session, path: Path, options: argparse.Namespace) -> ImportOutcome:
    with installation().folder(str(path)) as folder:
        return _send(session, options, folder, folder.size, kind="tree", name=path.resolve().name or "folder")


def _send(session: Session, options: argparse.Namespace, file: Readable, size: int, **more: str) -> ImportOutcome:
    """The bundles, and the artifact behind them."""
    signature, provenance = _bundle(options.signature), _bundle(options.provenance)
    counted = {"signature_bytes": len(signature), "provenance_bytes": len(provenance)}
    more |= {name: str(count) for name, count in counted.items() if count}
    ahead = signature + provenance
    return session.client.send_file(
        ImportOutcome,
        ARTIFACTS,
        _Behind(ahead, file) if ahead else file,
        len(ahead) + size,
        zone=options.zone,
        declare=",".join(options.declare),
        **more,
    )


def _bundle(path: str) -> bytes:
    found = content(path) if path else b""
    if len(found) > MAX_BUNDLE_BYTES or (path and not found):
        raise Usage(f"`{path}` has {len(found)} bytes, and a bundle has 1 to {MAX_BUNDLE_BYTES}", remedy="name the bundle's file")
    return found


class _Behind:
    """Some bytes, then a file."""

    def __init__(self, ahead: bytes, file: Readable) -> None:
        self._ahead, self._file = ahead, file

    def read(self, count: int = -1, /) -> bytes:
        """As a file does; never more than `count` where that is given."""
        if not self._ahead:
            return self._file.read(count)
        given = self._ahead if count < 0 else self._ahead[:count]
        self._ahead = self._ahead[len(given) :]
        return given


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
