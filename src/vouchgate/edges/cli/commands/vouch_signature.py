"""`vouchgate vouch signature`: let a signature on a model count as evidence about an artifact that is kept."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import duration, short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import content
from vouchgate.vocabulary.answers_approvals import VouchTaken

SUMMARY = "let a signature on a model count for an artifact that is kept"
DETAIL = """The control plane reads every byte that it keeps of the artifact, holds it against what was signed, and the signature against [[signers]] of
its settings; then it vouches for who signed, and a policy may ask for that: `resource.vouches.contains("signature")`.
`vouchgate vouch signature sha256:... --bundle model.sig`"""
PATH = "/api/v1/vouches/signature"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("digest", help="of an artifact that was imported: sha256:... or sha256-tree:...")
    parser.add_argument("--bundle", required=True, metavar="FILE", help="the signature: OpenSSF Model Signing, or Sigstore's over one file")
    parser.add_argument("--by", default="", metavar="NAME", help="the one signer of the settings whose it is meant to be")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it does not count."""
    return show_taken(session, hand_in_bundle(session, PATH, options.digest, options.bundle, options.by))


def hand_in_bundle(session: Session, path: str, digest: str, bundle: str, by: str = "") -> VouchTaken:
    """A bundle's file to the control plane. Raises `Usage`."""
    return session.client.post(VouchTaken, path, {"digest": digest, "bundle": content(bundle), "by": by})


def show_taken(session: Session, answer: VouchTaken) -> int:
    """What became of it; exit code 1 where it does not count."""
    if session.json(answer):
        return 0 if answer.taken else 1
    show = session.printer
    if not answer.taken:
        show.marked("bad", answer.reason)
        show.field("fix", answer.remedy)
        return 1
    known = ", which was known before" if answer.why == "known" else ""
    show.marked("good", f"it holds: made the {answer.predicate} vouch {short_digest(answer.id)}{known}")
    show.field("about", *answer.subjects)
    show.field("ends in", duration(answer.expires_at - session.client.now))
    show.points(answer.points, session.client.now)
    return 0
