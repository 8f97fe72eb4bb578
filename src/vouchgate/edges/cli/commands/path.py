"""`vouchgate path`: where admitted content lies on this machine, for whoever loads it. Asks nobody: the store's folder answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import NotFound
from vouchgate.vocabulary.stored import readable_path
from vouchgate.vocabulary.wire import Noun

SUMMARY = "where admitted content lies on this machine, by its digest"
DETAIL = """where admitted content lies on this machine, by its digest: a file, or a folder with the files under their own names.
Only who may read the store finds anything: `[artifacts] readers` in vouchgate.toml. That it lies there does not say that it may still be
loaded: the load guard asks that for every load."""


class Found(Noun, frozen=True, kw_only=True):
    """What is printed with --json."""

    digest: str
    path: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("digest", help="sha256:... of a file, sha256-tree:... of a folder")


def run(session: Session, options: argparse.Namespace) -> int:
    """The path alone on a line, for `$(vouchgate path ...)`. Raises `NotFound`."""
    digest = parse_digest(options.digest)
    path = readable_path(session.artifacts, digest)
    _check(path, session.artifacts, digest.text)
    if not session.json(Found(digest=digest.text, path=str(path))):
        session.printer.line(str(path))
    return 0


def _check(path: Path, store: Path, digest: str) -> None:
    try:
        path.stat()
    except PermissionError:
        raise NotFound(
            f"this user may not read the store `{store}`", remedy="name a group of this user, or everybody, as `[artifacts] readers`"
        ) from None
    except OSError:
        raise NotFound(f"`{digest}` is not in the store", remedy="take it in: `vouchgate import PATH`") from None
