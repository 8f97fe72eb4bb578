"""`vouchgate vouch signature`: let a signature on a model count as evidence about an artifact that is kept."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.handing_in import hand_in_bundle, show_taken
from vouchgate.edges.cli.session import Session

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
    return show_taken(session, hand_in_bundle(session, PATH, options.digest, options.bundle, options.by), "it holds: made")
