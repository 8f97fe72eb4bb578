"""`vouchgate admin ca-openbao`: request, signature and installation in one, where the CA above ours is OpenBao's or Vault's PKI engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.cli.commands.admin_ca import show
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.ca import CaInstallRequest, CaRequested, CaStatus
from vouchgate.vocabulary.errors import InvalidInput

SUMMARY = "have OpenBao or Vault sign our CA; it signs leaves once it is activated"
YEAR_HOURS = 8_760


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("url", help="address of the server, for example https://vault.example:8200")
    parser.add_argument("--mount", default="pki", help="mount of the PKI engine that signs (default: pki)")
    parser.add_argument("--namespace", default="", help="namespace of the mount")
    parser.add_argument("--token-file", required=True, help="file with a token that may update MOUNT/root/sign-intermediate")
    parser.add_argument("--root-fingerprint", required=True, metavar="SHA256", help="of the root's DER, as its owner publishes it")
    parser.add_argument("--server-ca", default="", metavar="FILE", help="PEM authorities for the server's own certificate")
    parser.add_argument("--hours", type=int, default=YEAR_HOURS, help="life to ask for (default: a year)")
    parser.add_argument("--reason", required=True, help="why, for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """The token goes from the file to the server and nowhere else."""
    try:
        token = Path(options.token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise InvalidInput(f"`{options.token_file}` cannot be read", remedy="name a file that holds one token") from None
    request = session.client.post(CaRequested, "/api/v1/ca/request", {})
    chain = wiring.sign_with_openbao(
        options.url,
        mount=options.mount,
        namespace=options.namespace,
        token=token,
        csr_pem=request.pem,
        hours=options.hours,
        server_ca=options.server_ca,
    )
    body = CaInstallRequest(pem=chain, root_fingerprint=options.root_fingerprint, reason=options.reason)
    show(session, session.client.post(CaStatus, "/api/v1/ca/install", body))
    if not session.as_json:
        session.printer.field("then", "vouchgate admin ca-rotate activate --reason TEXT")
    return 0
