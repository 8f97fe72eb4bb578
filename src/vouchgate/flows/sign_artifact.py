"""A model is signed, or held to its signature: who listed these bytes, and whether they are all there and nothing else.

Signing: measure every file (hidden ones too), list, sign. Only the signature's own file and what the signer names is left out, and that is written down.
Verifying: 1. read the bundle; 2. find that its signature holds under what the verifier named; 3. read the list; 4. measure every file; 5. compare.
A file that is there and not listed fails, whatever the bundle says it ignored; the verifier alone may leave files out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate.evidence.merkle import content_digest
from vouchgate.evidence.model_signing import (
    Bundle,
    Listed,
    check_signature,
    differences,
    read_bundle,
    read_listing,
    sign_listing,
    verify_key,
    write_listing,
)
from vouchgate.evidence.signing_certificates import check_may_sign, key_of, signer_of
from vouchgate.evidence.sigstore.bundle import Payload, read_sigstore_bundle
from vouchgate.evidence.sigstore.root import TrustedRoot
from vouchgate.evidence.sigstore.verify import Expected, Signed
from vouchgate.evidence.sigstore.verify import verify as verify_sigstore
from vouchgate.flows.measure import Measuring, measure
from vouchgate.flows.walk import Place, left_out
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

Checked = Callable[[Bundle], str]
"""Raises `Unverified` unless the bundle's signature holds; gives who signed."""


class SignedModel(Noun, frozen=True, kw_only=True):
    """What was signed."""

    path: str
    digest: str
    files: int
    size: int
    left_out: tuple[str, ...]


class VerifiedModel(Noun, frozen=True, kw_only=True):
    """What verifying a model found."""

    path: str
    digest: str
    """Of what lies there, without what was left out."""
    signer: str
    holds: bool
    files: int
    differences: tuple[str, ...]
    left_out: tuple[str, ...]
    """By the verifier."""
    ignored_by_signer: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Members of the predicate that v1.0 does not know."""


@dataclass(frozen=True)
class Signing:
    """With what to sign."""

    key: ec.EllipticCurvePrivateKey
    certificates: tuple[x509.Certificate, ...] = ()
    """The signer's own, then those above it; empty to sign with the bare key."""
    without: frozenset[str] = field(default_factory=frozenset)


def sign_model(place: Place, with_: Signing) -> tuple[bytes, SignedModel]:
    """The bundle, and what it covers. Raises `InvalidInput`, `NotFound`, `Unavailable`."""
    if with_.certificates:
        own = with_.certificates[0]
        check_may_sign(own)
        if own.public_key() != with_.key.public_key():
            raise InvalidInput("the certificate is not of the key that signs", remedy="name the key's own certificate first")
    found = measure(place, Measuring(without=with_.without, tensors=False))
    chain = tuple(one.public_bytes(Encoding.DER) for one in with_.certificates)
    payload = write_listing(Path(place.path).absolute().name, found, with_.without)
    digest = content_digest(found)
    told = SignedModel(path=place.path, digest=digest.text, files=len(found.files), size=digest.size, left_out=tuple(sorted(with_.without)))
    return sign_listing(payload, with_.key, chain), told


def verify_model(place: Place, bundle: bytes, checked: Checked, without: frozenset[str] = frozenset()) -> VerifiedModel:
    """All steps. Raises `Unverified` where the signature does not hold, and `InvalidInput` for what is no signature of a model."""
    parsed = read_bundle(bundle)  # 1
    signer = checked(parsed)  # 2
    listed = read_listing(parsed.payload)  # 3
    how = Measuring(without=without, tensors=False)
    if listed.shard_bytes:
        how = Measuring(without=without, tensors=False, chunk_bytes=listed.shard_bytes)
    found = measure(place, how)  # 4
    wrong = differences(_without(listed, without), found)  # 5
    return VerifiedModel(
        path=place.path,
        digest=content_digest(found).text,
        signer=signer,
        holds=not wrong,
        files=len(found.files),
        differences=wrong,
        left_out=tuple(sorted(without)),
        ignored_by_signer=listed.ignored,
        notes=listed.notes,
    )


def by_key(key: ec.EllipticCurvePublicKey) -> Checked:
    """By a public key."""

    def check(bundle: Bundle) -> str:
        verify_key(bundle, key)
        return "the named key"

    return check


def by_certificate(roots: tuple[x509.Certificate, ...], at: UnixMillis, subject: str = "") -> Checked:
    """By a certificate below one of the roots; `subject` is the only one that counts (RFC 4514 text), empty for any."""

    def check(bundle: Bundle) -> str:
        if bundle.sigstore:
            raise Unverified(
                "the bundle is signed through Sigstore", remedy="verify it with --trusted-root FILE --identity NAME --issuer URL"
            )
        if not bundle.certificates:
            raise Unverified("the bundle has no certificate chain", remedy="verify it with the public key of who signed it")
        own = signer_of(bundle.certificates, roots, at)
        check_signature(bundle, key_of(own))
        name = own.subject.rfc4514_string()
        if subject and name != subject:
            raise Unverified(f"the model was signed by `{name[:200]}`, not by `{subject[:200]}`", remedy="ask who was meant to sign it")
        return name or "a certificate without a subject"

    return check


def by_sigstore(root: TrustedRoot, expected: Expected, now: UnixMillis) -> Checked:
    """By who signed through Sigstore, under a pinned root."""

    def check(bundle: Bundle) -> str:
        signed = signed_through(bundle, root, expected, now)
        return f"{signed.signer.identity} of {signed.signer.issuer}"

    return check


def signed_through(bundle: Bundle, root: TrustedRoot, expected: Expected, now: UnixMillis) -> Signed:
    """The same, with all that was found. Raises `Unverified`, `InvalidInput`."""
    if not bundle.sigstore:
        raise Unverified("the bundle is not signed through Sigstore", remedy="verify it with --key, or with --certificate")
    read = read_sigstore_bundle(bundle.raw)
    signed = verify_sigstore(read, root, expected, now)
    if not isinstance(read.content, Payload) or read.content.payload != bundle.payload:
        raise Unverified("the bundle reads as two different ones", remedy="ask the signer for the bundle again")
    return signed


def _without(listed: Listed, without: frozenset[str]) -> Listed:
    """What the verifier left out is missed by nobody."""
    return replace(listed, digests={path: found for path, found in listed.digests.items() if not left_out(path, without)})
