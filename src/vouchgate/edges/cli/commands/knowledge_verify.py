"""`vouchgate knowledge verify`: whether the knowledge base is signed, whole, and not older than one seen here before."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.commands.knowledge_diff import SHIPPED, opened
from vouchgate.edges.cli.session import Session
from vouchgate.scanning.knowledge.compare import check_not_older
from vouchgate.vocabulary.wire import Noun

SUMMARY = "whether the knowledge base is signed, whole, and no older than before"
DETAIL = """with --seen FILE the highest version is remembered in that file, and a lower one is refused from then on"""


class Verified(Noun, frozen=True, kw_only=True):
    """The answer."""

    version: int
    digest: str
    generator: str
    signer: str
    entries: int
    wheels: int
    seen: int
    """Highest version that was seen before; 0 where that is not remembered."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("which", nargs="?", default=SHIPPED, help="a folder (default: the one that ships)")
    parser.add_argument("--seen", default="", metavar="FILE", help="where the highest version is remembered")


def run(session: Session, options: argparse.Namespace) -> int:
    """Raises `Unverified`: exit code 1."""
    base = opened(options.which)
    seen = _seen(Path(options.seen)) if options.seen else 0
    check_not_older(base.version, seen)
    if options.seen and base.version > seen:
        Path(options.seen).write_text(f"{base.version}\n", encoding="ascii")
    answer = Verified(
        version=base.version,
        digest=base.digest,
        generator=base.manifest.generator,
        signer=base.signer,
        entries=sum(1 for _ in base.entries()),
        wheels=len(base.manifest.wheels),
        seen=seen,
    )
    if not session.json(answer):
        session.printer.marked("good", f"version {answer.version} is signed and whole: {answer.entries} names from {answer.wheels} wheels")
        session.printer.field("digest", answer.digest)
        session.printer.field("signed by", answer.signer)
        session.printer.field("made by", f"generator {answer.generator}")
    return 0


def _seen(path: Path) -> int:
    if not path.exists():
        return 0
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if not (text.isascii() and text.isdecimal()):
        raise Usage(f"`{path}` holds no version", remedy="find out who wrote to it; take it away to begin anew")
    return int(text)
