"""Evidence handed in to the control plane, and what it said: shared by the commands that hand in."""

from __future__ import annotations

from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration, short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import content
from vouchgate.vocabulary.answers_approvals import VouchTaken

MAX_BYTES = 262_144
"""Bytes of one envelope that the control plane takes."""
MAX_SHOWN = 20
"""Subjects shown; `--json` has all."""


def hand_in_envelope(session: Session, file: str) -> VouchTaken:
    """A signed vouch. Raises `Usage`."""
    return session.client.post(VouchTaken, "/api/v1/vouches", {"envelope": read_envelope(file)})


def hand_in_bundle(session: Session, path: str, digest: str, bundle: str, by: str = "") -> VouchTaken:
    """A bundle's file about kept content. Raises `Usage`."""
    return session.client.post(VouchTaken, path, {"digest": digest, "bundle": content(bundle), "by": by})


def show_taken(session: Session, answer: VouchTaken, done: str) -> int:
    """What became of it, in words that begin with `done`; exit code 1 where it does not count."""
    if session.json(answer):
        return 0 if answer.taken else 1
    show = session.printer
    if not answer.taken:
        show.marked("bad", answer.reason)
        show.field("fix", answer.remedy)
        return 1
    known = ", which was known before" if answer.why == "known" else ""
    show.marked("good", f"{done} the {answer.predicate} vouch {short_digest(answer.id)}{known}")
    show.field("about", *answer.subjects[:MAX_SHOWN])
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
