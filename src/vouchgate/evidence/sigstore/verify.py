"""Whether a Sigstore bundle holds under a pinned root, and who signed it; offline, with nothing fetched and nothing believed that the bundle brings.

Steps; the first that fails refuses
1. Since when the signature was there: the log's promise, and every timestamp that the bundle has. One of them at least; each of them holds.
2. The signer's certificate holds at each of these times, and a certificate log took it in (certificate.py).
3. The entry is in the log that it names, that log counted then, and the entry is of this signature, signer and content (log.py,
   entries.py).
4. The signature is the certificate's key's.
5. The signer is whom the verifier asked for: identity and issuer, always both. Who has no expectation uses `verify_any`, and has to look at the answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from vouchgate.evidence.dsse import pae
from vouchgate.evidence.sigstore.bundle import Payload, SigstoreBundle
from vouchgate.evidence.sigstore.certificate import Signer, check_issued, key_of, load, signer_of
from vouchgate.evidence.sigstore.entries import check_body
from vouchgate.evidence.sigstore.log import check_entry
from vouchgate.evidence.sigstore.root import TrustedRoot
from vouchgate.evidence.sigstore.timestamp import check_timestamp
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

SKEW_MS = 120_000
"""Milliseconds by which a signature's time may lie ahead of ours."""
DIGEST_BYTES = 32
ANY_REF = "@*"
"""At the end of an expected identity: a workflow, named by a URI, at whatever ref it ran. Of a mail address it says nothing: its host would be open."""
_REFS = "refs/"
_CURVES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}


@dataclass(frozen=True)
class Expected:
    """Whom the verifier takes a signature from."""

    identity: str
    """The certificate's mail address or URI, exactly; one that ends in `@*` leaves the ref of a workflow open."""
    issuer: str
    """The OpenID Connect provider, exactly."""

    def takes(self, signer: Signer) -> bool:
        """Step 5."""
        if not self.identity or not self.issuer or signer.issuer != self.issuer:
            return False
        if self.identity.endswith(ANY_REF):
            name, _, ref = signer.identity.partition("@")
            return name == self.identity.removesuffix(ANY_REF) and "://" in name and ref.startswith(_REFS)
        return signer.identity == self.identity


@dataclass(frozen=True)
class Signed:
    """What was found to hold."""

    signer: Signer
    at: UnixMillis
    """The earliest time at which somebody other than the signer saw the signature."""
    log: str
    """Address of the log."""
    index: int
    """Of the entry in it."""


def verify(bundle: SigstoreBundle, root: TrustedRoot, expected: Expected, now: UnixMillis, *, digest: bytes = b"") -> Signed:
    """All steps; `digest` is the SHA-256 of the signed file, for a bundle over a file. Raises `Unverified`, `InvalidInput`."""
    signed = verify_any(bundle, root, now, digest=digest)
    if not expected.takes(signed.signer):  # 5
        raise Unverified(
            f"it was signed by `{signed.signer.identity[:200]}` of `{signed.signer.issuer[:200]}`, not by `{expected.identity[:200]}` of "
            f"`{expected.issuer[:200]}`",
            remedy="ask who was meant to sign it; name that identity and its issuer",
        )
    return signed


def verify_any(bundle: SigstoreBundle, root: TrustedRoot, now: UnixMillis, *, digest: bytes = b"") -> Signed:
    """Steps 1 to 4: it holds, whoever signed it. Raises `Unverified`, `InvalidInput`."""
    leaf = load(bundle.certificate)
    log, promised = check_entry(bundle.entry, root.signature_logs)
    times = [] if promised is None else [promised]
    times += [check_timestamp(one, bundle.signature, root.timestampers) for one in bundle.timestamps]  # 1
    if not times:
        raise Unverified(
            "nobody says when it was signed: no promise of the log, no timestamp", remedy="sign again with a timestamp authority"
        )
    for at in times:
        if at > now + SKEW_MS:
            raise Unverified("it was signed in the future", remedy="set this machine's clock right")
        check_issued(leaf, root, at)  # 2
        if not log.window.holds(at):  # 3
            raise Unverified("the log did not count at the time of signing", remedy="pin a newer trusted root, or treat it as forged")
    signer = signer_of(leaf)
    check_body(bundle, _digest(bundle, digest))  # 3
    _check_signature(bundle, leaf, digest)  # 4
    return Signed(signer, min(times), log.address, bundle.entry.index)


def _digest(bundle: SigstoreBundle, digest: bytes) -> bytes:
    """The signed file's; a payload has none. Raises `InvalidInput`, `Unverified`."""
    if isinstance(bundle.content, Payload):
        if digest:
            raise InvalidInput("the bundle signs a statement, not the file itself", remedy="verify what the statement says of the file")
        return b""
    if len(digest) != DIGEST_BYTES:
        raise InvalidInput("the bundle signs a file, and no file was named", remedy="name the file")
    if bundle.content.digest not in (b"", digest):
        raise Unverified("the bundle is of another file", remedy="name the file that was signed")
    return digest


def _check_signature(bundle: SigstoreBundle, leaf: x509.Certificate, digest: bytes) -> None:
    """Step 4. Over a file it is SHA-256 whatever the curve, since the file's digest is all that is at hand; over a payload the hash of the curve,
    or SHA-256, as clients before the algorithm registry wrote it."""
    key = key_of(leaf)
    if isinstance(bundle.content, Payload):
        said = pae(bundle.content.kind, bundle.content.payload)
        tries = {algorithm.name: algorithm for algorithm in (_CURVES[key.curve.name], hashes.SHA256())}
        held = any(_holds(key, bundle.signature, _hashed(algorithm, said), algorithm) for algorithm in tries.values())
    else:
        held = _holds(key, bundle.signature, digest, hashes.SHA256())
    if not held:
        raise Unverified("the signature does not hold", remedy="ask for the bundle again; if it stays so, treat it as forged")


def _holds(key: ec.EllipticCurvePublicKey, signature: bytes, digest: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        key.verify(signature, digest, ec.ECDSA(Prehashed(algorithm)))
    except InvalidSignature:
        return False
    return True


def _hashed(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    return hashlib.new(algorithm.name, data).digest()
