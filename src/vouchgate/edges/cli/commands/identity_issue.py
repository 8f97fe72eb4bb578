"""`vouchgate identity issue`: a certificate for a key made here, or a token. The private key never leaves this machine's caller."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity

SUMMARY = "issue a certificate (X.509-SVID) for a key made here, or a token (JWT-SVID)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("kind", help="service, person, job, agent, notebook, server or step")
    parser.add_argument("zone", help="its zone")
    parser.add_argument("name", help="its name")
    parser.add_argument(
        "--group", action="append", default=None, metavar="GROUP", help="a group that policies name; changes the registration"
    )
    parser.add_argument("--jwt", action="store_true", help="a token instead of a certificate")
    parser.add_argument("--audience", default="", metavar="ENDPOINT", help="with --jwt: the endpoint's id, vg://...")
    parser.add_argument("--ttl", type=int, default=0, metavar="SECONDS", help="life (default: the registration's)")
    parser.add_argument("--run", default="", metavar="RUN", help="bind it to a run of this identity; it dies with the run")
    parser.add_argument("-o", "--out", default="", metavar="FOLDER", help="folder for svid.pem, key.pem, bundle.pem (default: the name)")


def run(session: Session, options: argparse.Namespace) -> int:
    """A token goes to standard output alone, so that it can be put into a variable."""
    if options.jwt != bool(options.audience):
        raise Usage("a token needs an audience, a certificate has none", remedy="pass both --jwt and --audience, or neither")
    from vouchgate.edges.cli.keys import P256Key, write_private, write_public

    key = None if options.jwt else P256Key()
    asked = IdentityRequest(
        kind=options.kind,
        zone=options.zone,
        name=options.name,
        groups=None if options.group is None else tuple(options.group),
        form="jwt" if options.jwt else "x509",
        audience=options.audience,
        ttl_seconds=options.ttl,
        spki=key.spki() if key else b"",
        run=options.run,
    )
    answer = session.client.post(IssuedIdentity, "/api/v1/identities", asked)
    if key is None:
        if not session.json(answer):
            session.printer.line(answer.token)
        return 0
    folder = Path(options.out or options.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "key.pem", key.pem())
    write_public(folder / "svid.pem", answer.certificates)
    write_public(folder / "bundle.pem", answer.bundle)
    if session.json(answer):
        return 0
    show = session.printer
    show.marked("good", f"{answer.principal}, for {duration(answer.not_after - session.client.now)}")
    show.field("files", *(str(folder / name) for name in ("svid.pem", "key.pem", "bundle.pem")))
    show.field("groups", ", ".join(answer.groups))
    return 0
