"""What must hold of the readers of evidence for any bytes whatever: a value, or a refusal that tells a person what is wrong and what to do.

Rule: nothing but a `VouchgateError` is raised, with a reason and a remedy; anything else passes through and is a finding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vouchgate.evidence import model_signing, pep740, slsa, vulnerabilities_osv, vulnerabilities_vex
from vouchgate.evidence.bom import locks, python, read, signed
from vouchgate.evidence.dsse import parse_envelope
from vouchgate.evidence.sigstore import certificate
from vouchgate.evidence.sigstore.bundle import read_sigstore_bundle
from vouchgate.evidence.sigstore.entries import check_body
from vouchgate.evidence.sigstore.log import read_checkpoint
from vouchgate.evidence.sigstore.root import read_trusted_root
from vouchgate.evidence.sigstore.timestamp import check_timestamp
from vouchgate.evidence.sigstore.verify import verify_any
from vouchgate.evidence.statement import read_payload, read_vouch
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))

import sigstore_world

WORLD = sigstore_world.World()
ROOT = read_trusted_root(sigstore_world.dump(WORLD.root()))
NOW = UnixMillis(sigstore_world.NOW * 1000 + 5_000)
NAME, DIGEST = "demo_model-1.0-py3-none-any.whl", Digest(value="ab" * 32, size=7)


def _bundle(content: bytes) -> None:
    bundle = read_sigstore_bundle(content)
    for said in (b"\0" * 32, bytes.fromhex(DIGEST.value)):
        try:
            check_body(bundle, said)
        except VouchgateError:
            continue
    verify_any(bundle, ROOT, NOW)


def _certificate(content: bytes) -> None:
    found = certificate.load(content)
    certificate.key_of(found)
    certificate.signer_of(found)
    certificate.check_issued(found, ROOT, NOW)


def _listing(content: bytes) -> None:
    bundle = model_signing.read_bundle(content)
    model_signing.read_listing(bundle.payload)


def _environment(content: bytes) -> None:
    """Files of an installed package, which anybody may have written."""
    for reader in (python.read_record, python.read_metadata, python.read_tags, python.read_source):
        try:
            reader(content)
        except VouchgateError:
            continue


READERS: Mapping[str, Callable[[bytes], Any]] = {
    "dsse": parse_envelope,
    "vouch": read_vouch,
    "vouch-payload": read_payload,
    "sigstore-bundle": _bundle,
    "sigstore-root": read_trusted_root,
    "sigstore-certificate": _certificate,
    "sigstore-checkpoint": lambda content: read_checkpoint(content.decode("utf-8", "replace")),
    "sigstore-timestamp": lambda content: check_timestamp(content, b"signed", ROOT.timestampers),
    "attestation": lambda content: pep740.verify(content, NAME, DIGEST, ROOT, NOW),
    "model-signature": _listing,
    "model-listing": model_signing.read_listing,
    "provenance": slsa.read_provenance,
    "bill-of-materials": read.read_bom,
    "bill-statement": signed.statement_bom,
    "lock-file": locks.read_lock,
    "installed": _environment,
    "osv": vulnerabilities_osv.read_record,
    "openvex": lambda content: vulnerabilities_vex.read_statements(content, ["model"], NOW),
}
"""Target -> reader."""


def names() -> list[str]:
    """Every target."""
    return list(READERS)


def check(name: str, content: bytes) -> None:
    """Raises for a finding."""
    try:
        READERS[name](content)
    except VouchgateError as error:
        assert error.reason, error
        assert error.remedy, error
