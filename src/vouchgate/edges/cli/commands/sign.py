"""`vouchgate sign`: sign a model with a key or certificate (OpenSSF Model Signing). Works without a control plane."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.edges.cli.signing_files import certificates, inside, private_key

SUMMARY = "sign a model with a key or certificate (OpenSSF Model Signing)"
DETAIL = """Lists every file with its SHA-256, hidden ones and .git too, and signs the list. Other tools for OpenSSF Model Signing verify it.
`vouchgate sign model --key key.pem`, or `vouchgate sign model --key key.pem --certificate own-and-issuers.pem`"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", help="a model: a file or a folder")
    parser.add_argument("--key", required=True, metavar="FILE", help="the private key (P-256, P-384 or P-521, PEM, not encrypted)")
    parser.add_argument("--certificate", metavar="FILE", help="the key's certificate, then those above it (PEM)")
    parser.add_argument("-o", "--out", metavar="FILE", help="where the bundle goes (default: PATH.sig, beside the model)")
    parser.add_argument("--leave-out", action="append", default=[], metavar="NAME", help="a file or folder inside that is not signed")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 0 where it was signed."""
    from vouchgate import wiring
    from vouchgate.flows.sign_artifact import Signing, sign_model

    out = Path(options.out or str(options.path).rstrip("/") + ".sig")
    without = frozenset(one.strip("/") for one in options.leave_out) | inside(out, Path(options.path))
    how = Signing(private_key(options.key), certificates(options.certificate) if options.certificate else (), without)
    with closing(wiring.local_place(options.path)) as place:
        bundle, told = sign_model(place, how)
    out.write_bytes(bundle)
    if not session.json(told):
        session.printer.marked("good", f"signed {told.files} files, {told.size} bytes, as {told.digest}")
        session.printer.field("bundle", str(out))
        session.printer.field("left out", ", ".join(told.left_out))
    return 0
