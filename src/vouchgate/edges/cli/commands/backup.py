"""`vouchgate backup`: a consistent backup of store and log, without private keys."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vouchgate.edges.cli.printing import short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_upkeep import BackupOutcome
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.wire import decode

SUMMARY = "write a consistent backup of store and log; private keys are not in it"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="the file to write; must not exist")


def run(session: Session, options: argparse.Namespace) -> int:
    """The file is private, whole or not there, and on disk when this returns."""
    path = Path(options.path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(f"`{path}` is there already", remedy="name another file") from None
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be written: {error.strerror}", remedy="name a file in a folder you may write to") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            told = session.client.receive_file("/api/v1/backup", file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    answer = decode(BackupOutcome, told, what="answer")
    if not session.json(answer):
        session.printer.marked("good", f"wrote {path}: {answer.size} bytes, {answer.log_size} log entries, epoch {answer.epoch}")
        session.printer.field("digest", short_digest(answer.digest))
    return 0
