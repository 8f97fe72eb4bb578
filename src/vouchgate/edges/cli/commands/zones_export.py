"""`vouchgate zones export`: the zones as documents of an enforcement point that is not ours."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

from vouchgate.edges.cli import exporting
from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import harmless
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import ExportOutcome
from vouchgate.vocabulary.errors import Unavailable

SUMMARY = "zones as documents for Envoy, Kubernetes, Istio"
DETAIL = """Write the zones as documents of an enforcement point that is not ours: Envoy sidecars, Kubernetes NetworkPolicy, Istio
AuthorizationPolicy. What the documents cannot hold is said. With --diff nothing is written; it shows what would change against a folder."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--to", required=True, choices=("envoy", "kubernetes", "istio"), help="for whom")
    parser.add_argument("-o", "--output", default="", metavar="DIR", help="folder to write into; it is made")
    parser.add_argument("--diff", default="", metavar="DIR", help="show what differs from this folder, write nothing; exit 1 where it does")
    exporting.where(parser)


def run(session: Session, options: argparse.Namespace) -> int:
    """Write, or compare."""
    if bool(options.output) == bool(options.diff):
        raise Usage("say where to write, or what to compare with", remedy="pass -o DIR or --diff DIR")
    made = exporting.ask(session, options, options.to)
    if options.diff:
        return _compare(session, made, Path(options.diff))
    folder = Path(options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.documents.items():
            (folder / _plain(name)).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"`{folder}` cannot be written: {error.strerror}", remedy="name another folder") from None
    if session.json(made):
        return 0
    session.printer.marked("good", f"{len(made.documents)} documents in {folder}")
    for name in made.documents:
        session.printer.field("wrote", name)
    _left_out(session, made)
    return 0


def _compare(session: Session, made: ExportOutcome, folder: Path) -> int:
    differences: list[str] = []
    there = {path.name: path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.json"))} if folder.is_dir() else {}
    for name in sorted({*there, *made.documents}):
        old, new = there.get(name, ""), made.documents.get(name, "")
        differences += difflib.unified_diff(old.splitlines(), new.splitlines(), f"{folder}/{name}", f"meant/{name}", lineterm="", n=2)
    if session.as_json:
        session.json({"differs": bool(differences), "diff": differences, "left_out": list(made.left_out)})
    else:
        for line in differences:
            session.printer.line(harmless(line))
        if not differences:
            session.printer.marked("good", f"{folder} is as meant")
        _left_out(session, made)
    return 1 if differences else 0


def _left_out(session: Session, made: ExportOutcome) -> None:
    for text in made.left_out:
        session.printer.marked("warn", text)


def _plain(name: str) -> str:
    """A document's name is a file's name here, whatever the control plane says."""
    if "/" in name or name.startswith("."):
        raise Unavailable(f"`{name[:80]}` is no name of a file", remedy="is that socket vouchgate's?")
    return name
