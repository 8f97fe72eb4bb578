"""`vouchgate knowledge diff`: what one version lets in that another does not, what may act first."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.scanning.knowledge.base import Base, read
from vouchgate.scanning.knowledge.compare import Change, changes
from vouchgate.scanning.knowledge.shipped import shipped_base
from vouchgate.vocabulary.wire import Noun

SUMMARY = "what another version of the knowledge base lets in, new callables first"
DETAIL = """compare two versions: `shipped`, or a folder with manifest.json and its parts, as in another checkout or installed package. Both must be
signed by a key that this build knows"""
SHIPPED = "shipped"
MAX_SHOWN = 200
"""Lines shown of each kind; all of them are in --json."""
_WORDS = {
    "callable": ("bad", "may be called now"),
    "constructible": ("warn", "may be constructed now"),
    "inert": ("note", "may be held now"),
    "less": ("good", "may do less now"),
}


class Difference(Noun, frozen=True, kw_only=True):
    """The answer."""

    old: int
    new: int
    changes: tuple[Change, ...]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("old", help="`shipped`, or a folder")
    parser.add_argument("new", help="likewise")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where they differ."""
    old, new = opened(options.old), opened(options.new)
    answer = Difference(old=old.version, new=new.version, changes=tuple(changes(old.entries(), new.entries())))
    if not session.json(answer):
        _show(session, answer)
    return 1 if answer.changes else 0


def opened(name: str) -> Base:
    """The knowledge base of that name, verified. Raises `Unverified`, `Usage`."""
    if name == SHIPPED:
        return shipped_base()
    folder = Path(name)
    if not folder.is_dir():
        raise Usage(f"`{name}` is no folder", remedy="name the folder with manifest.json, or `shipped`")
    return read({path.name: path.read_bytes() for path in folder.glob("*.json")})


def _show(session: Session, answer: Difference) -> None:
    out = session.printer
    out.line(f"version {answer.old} -> {answer.new}: {len(answer.changes)} names differ")
    for what, (mark, words) in _WORDS.items():
        found = [change for change in answer.changes if change.what == what]
        if not found:
            continue
        out.line(f"{len(found)} {words}")
        for change in found[:MAX_SHOWN]:
            entry = change.after or change.before
            rule = f"  {entry.arguments or entry.state}  {entry.reviewer}" if entry else ""
            out.marked(mark, f"{change.name}{rule}", indent=2)
        if len(found) > MAX_SHOWN:
            out.line(f"  and {len(found) - MAX_SHOWN} more: --json has all of them")
