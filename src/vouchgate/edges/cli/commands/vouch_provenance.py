"""`vouchgate vouch provenance`: let a builder's provenance count as evidence about an artifact that is kept."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.handing_in import hand_in_bundle, show_taken
from vouchgate.edges.cli.session import Session

SUMMARY = "let a builder's SLSA provenance count for an artifact that is kept"
DETAIL = """SLSA provenance v1, signed through Sigstore or with a key of [[builders]]. The builder, its signer and the source have to be those of the
settings, and every file of the artifact has to be a subject; then a policy may ask for it: `resource.vouches.contains("provenance")`.
`vouchgate vouch provenance sha256:... --bundle provenance.sigstore.json`"""
PATH = "/api/v1/vouches/provenance"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("digest", help="of an artifact that was imported: sha256:... or sha256-tree:...")
    parser.add_argument("--bundle", required=True, metavar="FILE", help="the signed provenance: a Sigstore bundle, or a DSSE envelope")
    parser.add_argument("--by", default="", metavar="NAME", help="the one builder of the settings whose it is meant to be")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it does not count."""
    return show_taken(session, hand_in_bundle(session, PATH, options.digest, options.bundle, options.by), "it holds: made")
