"""`vouchgate vouch add`: hand in a vouch that a delegated producer signed."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration, short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_approvals import VouchTaken

SUMMARY = "hand in a vouch that a producer with a delegated key signed"
MAX_BYTES = 262_144
"""Bytes of one envelope that the control plane takes."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("file", help="the DSSE envelope")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it is refused."""
    answer = session.client.post(VouchTaken, "/api/v1/vouches", {"envelope": read_envelope(options.file)})
    if session.json(answer):
        return 0 if answer.taken else 1
    show = session.printer
    if not answer.taken:
        show.marked("bad", answer.reason)
        show.field("fix", answer.remedy)
        return 1
    known = ", which was known before" if answer.why == "known" else ""
    show.marked("good", f"took in the {answer.predicate} vouch {short_digest(answer.id)}{known}")
    show.field("about", *answer.subjects[:20])
    show.field("ends in", duration(answer.expires_at - session.client.now))
    show.points(answer.points, session.client.now)
    return 0


def read_envelope(path: str) -> bytes:
    """A file's whole content, within the bound. Raises `Usage`."""
    try:
        with Path(path).open("rb") as file:
            envelope = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Usage(f"`{path}` cannot be read: {error.strerror}", remedy="name the envelope's file") from None
    if len(envelope) > MAX_BYTES:
        raise Usage(f"`{path}` is over the bound of {MAX_BYTES} bytes", remedy="split the vouch by its subjects")
    return envelope
