"""`vouchgate knowledge list`: the libraries that the knowledge base was read from, or the names of one."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.session import Session
from vouchgate.scanning.knowledge.base import Base
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.parts import entries_of
from vouchgate.scanning.knowledge.shipped import shipped_base
from vouchgate.vocabulary.errors import NotFound
from vouchgate.vocabulary.wire import Noun

SUMMARY = "the libraries that are known, or every name of one of them"
USES = ("callable", "constructible", "inert")


class Library(Noun, frozen=True, kw_only=True):
    """One library."""

    name: str
    versions: tuple[str, ...]
    callable: int
    constructible: int
    inert: int
    reviewed: int
    """Entries that a person let in; the rest the rules alone."""


class Libraries(Noun, frozen=True, kw_only=True):
    """The answer without `--library`."""

    version: int
    digest: str
    signer: str
    libraries: tuple[Library, ...]


class Names(Noun, frozen=True, kw_only=True):
    """The answer with it."""

    version: int
    digest: str
    entries: tuple[Entry, ...]


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--library", default="", help="every name of this one")
    parser.add_argument("--use", choices=USES, default="", help="only what may be used so")


def run(session: Session, options: argparse.Namespace) -> int:
    """Always 0."""
    base = shipped_base()
    if options.library or options.use:
        return _names(session, base, options.library, options.use)
    answer = Libraries(
        version=base.version, digest=base.digest, signer=base.signer, libraries=tuple(_library(base, at) for at in range(len(base.parts)))
    )
    if not session.json(answer):
        session.printer.line(f"version {base.version}, signed by {base.signer[:16]}")
        rows = [
            (
                one.name,
                " ".join(one.versions[:1] + one.versions[1:][-1:]),
                str(one.callable),
                str(one.constructible),
                str(one.inert),
                str(one.reviewed),
            )
            for one in answer.libraries
        ]
        session.printer.table(("library", "versions", "callable", "constructible", "inert", "reviewed"), rows)
    return 0


def _library(base: Base, at: int) -> Library:
    part = base.parts[at]
    entries = entries_of(part)
    counts = {use: sum(use in entry.uses for entry in entries) for use in USES}
    return Library(name=part.library, versions=part.versions, reviewed=sum(entry.reviewer != "generated" for entry in entries), **counts)


def _names(session: Session, base: Base, library: str, use: str) -> int:
    if library and library not in {part.library for part in base.parts}:
        raise NotFound(f"`{library[:80]}` is not a library of the knowledge base", remedy="see `vouchgate knowledge list`")
    found = tuple(entry for entry in base.entries() if library in ("", entry.library) and (not use or use in entry.uses))
    answer = Names(version=base.version, digest=base.digest, entries=found)
    if not session.json(answer):
        rows = [(f"{entry.module}.{entry.name}", " ".join(entry.uses), entry.arguments or entry.state, entry.reviewer) for entry in found]
        session.printer.table(("name", "may be", "rule", "let in by"), rows)
    return 0
