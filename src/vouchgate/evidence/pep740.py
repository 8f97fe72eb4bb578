"""Attestations of packages (PEP 740; attestations.docs.pypi.org): who published a file, verified offline under a pinned Sigstore root.

Rules
1. An attestation is version 1, holds one certificate, one entry of a log and one signed statement. Unknown members are refused.
2. The statement has one subject: the file's own name and SHA-256. A name that is spelt otherwise counts only where both parse to the same release.
3. Two predicates are known: published by a trusted publisher, and built with SLSA provenance. Another says nothing here.
4. It says who published, not that this is who should have: the caller holds the publisher against what it knows of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vouchgate.evidence.dsse import PAYLOAD_TYPE
from vouchgate.evidence.sigstore.bundle import MAX_CERTIFICATE_BYTES, Payload, SigstoreBundle, read_entry
from vouchgate.evidence.sigstore.root import TrustedRoot
from vouchgate.evidence.sigstore.verify import verify_any
from vouchgate.evidence.statement import STATEMENT_TYPE
from vouchgate.evidence.strict_documents import member, only, parse, unb64
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

MAX_ATTESTATION_BYTES = 2 * 1024 * 1024
"""Bytes of one; those of the public index have about 12 KiB."""
PUBLISHED = "https://docs.pypi.org/attestations/publish/v1"
BUILT = "https://slsa.dev/provenance/v1"
_REMEDY = "ask the index for the attestation again"


@dataclass(frozen=True)
class Publisher:
    """Who signed for a file."""

    identity: str
    """The certificate's: a workflow with its ref, or a service account."""
    issuer: str
    """Who vouched for that identity."""
    predicate: str
    """`PUBLISHED` or `BUILT`."""
    signed_at: UnixMillis
    repository: str = ""
    """URI of the source, where the issuer is of a forge."""
    ref: str = ""
    commit: str = ""
    claims: Mapping[str, str] = field(default_factory=dict)
    """What else the certificate says of the build, by name (sigstore/certificate.py)."""
    log: str = ""
    index: int = 0
    """The entry in the log."""


def verify(attestation: bytes, filename: str, digest: Digest, root: TrustedRoot, now: UnixMillis) -> Publisher:
    """Rules 1 to 4 for a file of this name and digest. Raises `Unverified` where it does not hold, `InvalidInput` for what is no attestation."""
    bundle = _read(attestation)
    signed = verify_any(bundle, root, now)
    assert isinstance(bundle.content, Payload)
    predicate = _about(bundle.content.payload, filename, digest)
    claims = dict(signed.signer.claims)
    return Publisher(
        identity=signed.signer.identity,
        issuer=signed.signer.issuer,
        predicate=predicate,
        signed_at=signed.at,
        repository=claims.pop("repository", ""),
        ref=claims.pop("ref", ""),
        commit=claims.pop("commit", ""),
        claims=claims,
        log=signed.log,
        index=signed.index,
    )


def _read(attestation: bytes) -> SigstoreBundle:
    """Rule 1."""
    what = "attestation"
    whole = parse(attestation, limit=MAX_ATTESTATION_BYTES, what=what)
    only(whole, {"version", "verification_material", "envelope"}, what)
    material, envelope = member(whole, "verification_material", dict, what), member(whole, "envelope", dict, what)
    only(material, {"certificate", "transparency_entries"}, what)
    only(envelope, {"statement", "signature"}, what)
    entries = member(material, "transparency_entries", list, what)
    certificate = unb64(member(material, "certificate", str, what), what)
    if member(whole, "version", int, what) != 1 or len(entries) != 1 or len(certificate) > MAX_CERTIFICATE_BYTES:
        raise InvalidInput("the attestation is not of version 1 with one entry of a log", remedy=_REMEDY)
    return SigstoreBundle(
        certificate=certificate,
        content=Payload(PAYLOAD_TYPE, unb64(member(envelope, "statement", str, what), what)),
        signature=unb64(member(envelope, "signature", str, what), what),
        entry=read_entry(entries[0]),
    )


def _about(payload: bytes, filename: str, digest: Digest) -> str:
    """Rules 2 and 3: the predicate's type."""
    what = "attested statement"
    statement = parse(payload, limit=MAX_ATTESTATION_BYTES, what=what)
    only(statement, {"_type", "subject", "predicateType", "predicate"}, what)
    if member(statement, "_type", str, what) != STATEMENT_TYPE:
        raise InvalidInput("what was signed is not an in-toto Statement v1", remedy=_REMEDY)
    kind: str = member(statement, "predicateType", str, what)
    subjects = member(statement, "subject", list, what)
    if kind not in (PUBLISHED, BUILT):
        raise Unverified(f"`{kind[:100]}` says nothing of who published a file", remedy="ask for a publish attestation")
    if kind == PUBLISHED and statement.get("predicate") not in (None, {}):
        raise InvalidInput("a publish attestation has no predicate", remedy=_REMEDY)
    if len(subjects) != 1:
        raise InvalidInput(f"the statement has {len(subjects)} subjects, not one", remedy=_REMEDY)
    found: dict[str, Any] = member(subjects[0], "digest", dict, what)
    if digest.kind != "file" or found.get("sha256") != digest.value:
        raise Unverified("the attestation is of another file", remedy="ask for the attestation of this file")
    name = member(subjects[0], "name", str, what)
    if name != filename and not _same_release(name, filename):
        raise Unverified(f"the attestation is of `{name[:200]}`, not of `{filename[:200]}`", remedy="name the file as it was published")
    return kind


def _same_release(one: str, other: str) -> bool:
    """Rule 2, with the names' own grammar; without the library for it only the same spelling counts."""
    try:
        from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
    except ImportError:
        return False
    if one.endswith(".whl") != other.endswith(".whl"):
        return False
    try:
        if one.endswith(".whl"):
            return parse_wheel_filename(one) == parse_wheel_filename(other)
        return parse_sdist_filename(one) == parse_sdist_filename(other)
    except (InvalidSdistFilename, InvalidWheelFilename):
        return False
