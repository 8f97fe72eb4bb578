"""`vouchgate verify`: hold a model to its signature, byte for byte (OpenSSF Model Signing). Works without a control plane."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import certificates, content, inside, public_key
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "hold a model to its signature, byte for byte"
DETAIL = """Every file has to be in the signed list, hidden ones and .git too, whatever the signature says it ignored; `--leave-out` is the verifier's own
choice. A signature says who listed these bytes, not that they are safe: `vouchgate scan` looks into them.
`vouchgate verify model --key key.pub`, or `vouchgate verify model --certificate roots.pem --subject CN=builder`, or, signed through Sigstore,
`vouchgate verify model --trusted-root trusted_root.json --identity NAME --issuer URL`. Nothing is fetched: pin the root that the operator published."""
SHOWN = 40
"""Differences listed on a terminal; all of them come with --json."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="a model: a file or a folder")
    parser.add_argument("--signature", metavar="FILE", help="the bundle (default: PATH.sig, beside the model)")
    by = parser.add_mutually_exclusive_group(required=True)
    by.add_argument("--key", metavar="FILE", help="the signer's public key (PEM)")
    by.add_argument("--certificate", metavar="FILE", help="roots below which the signer's certificate must lie (PEM)")
    by.add_argument("--trusted-root", metavar="FILE", help="trusted_root.json of the Sigstore instance that it was signed through")
    parser.add_argument(
        "--identity",
        default="",
        metavar="NAME",
        help="with --trusted-root: the mail address or URI that signed; one that ends in @* takes a workflow at any ref",
    )
    parser.add_argument("--issuer", default="", metavar="URL", help="with --trusted-root: the OpenID Connect provider of that identity")
    parser.add_argument(
        "--subject", default="", metavar="NAME", help="with --certificate: the only subject that counts, such as CN=builder"
    )
    parser.add_argument(
        "--at", default="", metavar="TIME", help="with --certificate: when you know that it was signed (2026-01-31T12:00:00.000Z)"
    )
    parser.add_argument("--leave-out", action="append", default=[], metavar="NAME", help="a file or folder inside that you do without")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 0 where every byte is as signed, else 1."""
    from vouchgate import wiring
    from vouchgate.evidence.statement import read_time
    from vouchgate.flows.sign_artifact import verify_model

    if not options.certificate and (options.subject or options.at):
        raise Usage("--subject and --at are of certificates", remedy="leave them out, or name --certificate")
    if bool(options.trusted_root) != bool(options.identity and options.issuer) or bool(options.identity) != bool(options.issuer):
        raise Usage("--trusted-root, --identity and --issuer go together", remedy="name all three, or none of them")
    signature = Path(options.signature or str(options.path).rstrip("/") + ".sig")
    at = read_time(options.at) if options.at else wiring.clock().now()
    checked = _checked(options, at)
    without = frozenset(one.strip("/") for one in options.leave_out) | inside(signature, Path(options.path))
    with closing(wiring.local_place(options.path)) as place:
        found = verify_model(place, content(signature), checked, without)
    if session.json(found):
        return 0 if found.holds else 1
    if found.holds:
        session.printer.marked("good", f"all {found.files} files are as {found.signer} signed them")
        session.printer.field("digest", found.digest)
    for one in found.differences[:SHOWN]:
        session.printer.marked("bad", one)
    if len(found.differences) > SHOWN:
        session.printer.line(f"  and {len(found.differences) - SHOWN} more; --json lists all of them")
    session.printer.field("left out", ", ".join(found.left_out))
    session.printer.field("the signer ignored", ", ".join(found.ignored_by_signer))
    session.printer.field("not understood", ", ".join(found.notes))
    return 0 if found.holds else 1


def _checked(options: argparse.Namespace, at: int) -> Callable[[Any], str]:
    """Who has to have signed, by what was named."""
    from vouchgate.flows.sign_artifact import by_certificate, by_key, by_sigstore

    if options.key:
        return by_key(public_key(options.key))
    if options.certificate:
        return by_certificate(certificates(options.certificate), UnixMillis(at), options.subject)
    from vouchgate.evidence.sigstore.root import read_trusted_root
    from vouchgate.evidence.sigstore.verify import Expected

    return by_sigstore(read_trusted_root(content(options.trusted_root)), Expected(options.identity, options.issuer), UnixMillis(at))
