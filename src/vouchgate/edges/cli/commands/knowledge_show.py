"""`vouchgate knowledge show`: what the knowledge base says of a name, from which wheel, and who let it in."""

from __future__ import annotations

import argparse
import difflib

from vouchgate.edges.cli.printing import short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.scanning.knowledge.base import Base
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.shipped import shipped_base
from vouchgate.vocabulary.errors import NotFound
from vouchgate.vocabulary.wire import Noun

SUMMARY = "what is known of a class or function: for which use, from which wheel, let in by whom"


class Shown(Noun, frozen=True, kw_only=True):
    """The answer."""

    version: int
    digest: str
    entry: Entry


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("name", help="module and qualified name, as in sklearn.linear_model._logistic.LogisticRegression")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where nothing is known of it."""
    base = shipped_base()
    entry = lookup(base, options.name)
    if entry is None:
        near = _near(base, options.name)
        raise NotFound(
            f"`{options.name[:200]}` is not in the knowledge base",
            remedy=f"did you mean `{near}`?"
            if near
            else "what is not known is refused: save weights only, or see `vouchgate knowledge allow --help`",
        )
    answer = Shown(version=base.version, digest=base.digest, entry=entry)
    if not session.json(answer):
        show(session, entry)
    return 0


def lookup(base: Base, whole: str) -> Entry | None:
    """The entry of a name whose module is not told apart from its class; a class inside a class has a dot of its own."""
    parts = whole.split(".")
    found = (base.find(".".join(parts[:at]), ".".join(parts[at:])) for at in range(len(parts) - 1, 0, -1))
    return next((entry for entry in found if entry is not None), None)


def show(session: Session, entry: Entry) -> None:
    """One entry, for a person."""
    out = session.printer
    out.marked("warn" if "callable" in entry.uses else "good", f"{entry.module}.{entry.name}")
    out.field("may be", *entry.uses)
    if entry.arguments:
        out.field("arguments", entry.arguments)
    if entry.state:
        out.field("state", entry.state)
    versions = " to ".join(dict.fromkeys(filter(None, entry.versions)))
    out.field("library", f"{entry.library} {versions}".strip())
    if entry.wheel:
        out.field("wheel", short_digest(f"sha256:{entry.wheel}"))
    out.field("let in by", "the rules alone" if entry.reviewer == "generated" else entry.reviewer)
    out.field("since", f"version {entry.since}")
    if entry.why:
        out.field("why", entry.why)


def _near(base: Base, whole: str) -> str:
    last = whole.rpartition(".")[2]
    same = [f"{entry.module}.{entry.name}" for entry in base.entries() if entry.name.rpartition(".")[2] == last]
    return (difflib.get_close_matches(whole, same, 1, 0.0) or [""])[0]
