"""`vouchgate identity check`: which clause of its standard a certificate, token or trust bundle violates."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.cli.session import Session
from vouchgate.identity.conformance import Checked, violation
from vouchgate.identity.conformance_jose import MAX_BUNDLE, check_bundle, check_token
from vouchgate.identity.conformance_x509 import check_certificate, check_chain
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

SUMMARY = "hold certificates, tokens and bundles to X509-SVID, JWT-SVID, SPIFFE bundle, RFC 5280 and RFC 8725"
DETAIL = "files of any issuer: PEM or DER certificates (several in a PEM: a chain, leaf first), a JWT-SVID, a SPIFFE bundle (JSON)"


class FileChecked(Noun, frozen=True, kw_only=True):
    """One file."""

    file: str
    conforms: bool
    checked: Checked


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("file", nargs="+", help="certificate, chain, token or bundle")
    parser.add_argument("--bundle", metavar="FILE", help="a SPIFFE bundle: the signatures of tokens are checked with its keys")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where a MUST is broken; no control plane is asked."""
    now = wiring.clock().now()
    bundle = _read(options.bundle) if options.bundle else None
    answers = []
    for name in options.file:
        checked = check_file(_read(name), now, bundle)
        answers.append(FileChecked(file=name, conforms=checked.conforms, checked=checked))
    if not session.json(answers):
        for answer in answers:
            _show(session, answer)
    return 0 if all(answer.conforms for answer in answers) else 1


def check_file(data: bytes, now: UnixMillis, bundle: bytes | None) -> Checked:
    """By what the bytes begin with."""
    text = data.lstrip()
    if text.startswith(b"{"):
        return check_bundle(data)
    if text.startswith(b"-----BEGIN"):
        chain = _pem(text)
        return check_certificate(chain[0]) if len(chain) == 1 else check_chain(chain, now)
    if data[:1] == b"\x30":
        return check_certificate(data)
    if text.count(b".") == 2 and text.isascii():
        return check_token(text.decode("ascii").strip(), now, bundle)
    return Checked(kind="unknown", findings=(violation("-", "this is neither certificate nor token nor bundle"),))


def _pem(text: bytes) -> list[bytes]:
    """The certificates of a PEM file as they are: nothing is parsed and written again (RFC 7468, section 5)."""
    found = wiring.pem_certificates(text)
    if not found:
        raise InvalidInput("the PEM file holds no certificate", remedy="name a file with `BEGIN CERTIFICATE`")
    return found


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise InvalidInput(f"`{name}` cannot be read: {error.strerror}", remedy="name a file") from None
    if len(data) > MAX_BUNDLE:
        raise InvalidInput(f"`{name}` is over the bound of {MAX_BUNDLE} bytes", remedy="name a certificate, token or bundle")
    return data


def _show(session: Session, answer: FileChecked) -> None:
    printer, checked = session.printer, answer.checked
    verdict = "conforms" if answer.conforms else "does not conform"
    printer.marked("good" if answer.conforms else "bad", f"{answer.file}: {checked.kind} {verdict} {_shown(checked.subject)}".rstrip())
    for finding in checked.findings:
        printer.marked("bad" if finding.level == "violation" else "note", f"{finding.clause}: {finding.text}", indent=2)


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
