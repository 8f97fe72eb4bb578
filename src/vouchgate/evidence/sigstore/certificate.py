"""Whether a certificate was issued by a pinned Sigstore authority, and whom it names (RFC 5280; RFC 6962; fulcio's oid-info.md).

1. The chain to one of the pinned authorities holds at the time of signing, and that authority counted then. It is for code signing.
2. It has one embedded signed certificate timestamp, and a pinned certificate log that counted then made it (RFC 6962, section 3.2).
3. It names one identity, and the issuer of the token that it was given for. What else it says of a build is read by name; the rest is passed over.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.certificate_transparency import LogEntryType, SignedCertificateTimestamp, Version
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store, VerificationError

from vouchgate.evidence import der_values as der
from vouchgate.evidence.sigstore.root import Authority, TrustedRoot
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

MAX_DEPTH = 4
"""Certificates between the signer's and the root."""
MAX_TEXT = 2048
"""Characters of an identity or a claim."""
_OID = "1.3.6.1.4.1.57264.1."
_ISSUER_OLD, _ISSUER = f"{_OID}1", f"{_OID}8"
_CLAIMS = {
    f"{_OID}9": "build_signer",
    f"{_OID}10": "build_signer_digest",
    f"{_OID}11": "runner",
    f"{_OID}12": "repository",
    f"{_OID}13": "commit",
    f"{_OID}14": "ref",
    f"{_OID}16": "owner",
    f"{_OID}18": "workflow",
    f"{_OID}19": "workflow_digest",
    f"{_OID}20": "trigger",
    f"{_OID}21": "invocation",
}
"""What a build's token said (oid-info.md); each is a DER UTF8String."""
_REMEDY = "ask the signer for a bundle of the Sigstore instance whose trusted root you pinned"


@dataclass(frozen=True)
class Signer:
    """Whom a certificate names."""

    identity: str
    """A mail address or a URI."""
    issuer: str
    """Who vouched for that identity: an OpenID Connect provider."""
    claims: Mapping[str, str] = field(default_factory=dict)
    """Of a build: repository, ref, commit, workflow ..."""


def load(der_bytes: bytes) -> x509.Certificate:
    """Raises `InvalidInput`."""
    try:
        return x509.load_der_x509_certificate(der_bytes)
    except (ValueError, x509.InvalidVersion):
        raise InvalidInput("the bundle's certificate cannot be read", remedy=_REMEDY) from None


def check_issued(leaf: x509.Certificate, root: TrustedRoot, at: UnixMillis) -> None:
    """Steps 1 and 2. Raises `Unverified`."""
    faults = []
    for authority in root.issuers:
        if not authority.window.holds(at):
            faults.append("the authority did not count then")
            continue
        try:
            above = chain_of(leaf, authority, at, _signer())
        except Unverified as error:
            faults.append(error.reason)
            continue
        _check_logged(leaf, above, root)
        return
    raise Unverified(f"the signer's certificate does not hold at the time of signing: {faults[-1]}", remedy=_REMEDY)


def chain_of(leaf: x509.Certificate, authority: Authority, at: UnixMillis, policy: ExtensionPolicy) -> x509.Certificate:
    """The certificate that issued the leaf, where the chain to this authority holds. Raises `Unverified`."""
    *between, root = authority.certificates
    try:
        verifier = (
            PolicyBuilder()
            .store(Store([root]))
            .time(datetime.datetime.fromtimestamp(at / 1000, tz=datetime.UTC))
            .max_chain_depth(MAX_DEPTH)
            .extension_policies(ca_policy=_authority(), ee_policy=policy)
            .build_client_verifier()
        )
        return verifier.verify(leaf, [one for one in between if one != leaf]).chain[1]
    except (VerificationError, ValueError, OverflowError, x509.UnsupportedGeneralNameType) as error:
        raise Unverified(str(error)[:300], remedy=_REMEDY) from None


def key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Raises `Unverified`."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Unverified("the signer's key cannot be read", remedy="sign with P-256, P-384 or P-521") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise Unverified("the signer's key is of a kind that is not known", remedy="sign with P-256, P-384 or P-521")
    return key


def signer_of(certificate: x509.Certificate) -> Signer:
    """Step 3. Raises `Unverified`."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        raw = {
            one.oid.dotted_string: one.value.value for one in certificate.extensions if isinstance(one.value, x509.UnrecognizedExtension)
        }
    except (ValueError, x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, x509.DuplicateExtension):
        raise Unverified("the signer's certificate names nobody that can be read", remedy=_REMEDY) from None
    plain = [one.value for one in names if isinstance(one, x509.RFC822Name | x509.UniformResourceIdentifier)]
    if len(names) != 1 or len(plain) != 1 or not 1 <= len(plain[0]) <= MAX_TEXT:
        raise Unverified("the signer's certificate does not name one mail address or URI", remedy=_REMEDY)
    claims = {name: _text(raw[oid]) for oid, name in _CLAIMS.items() if oid in raw}
    return Signer(plain[0], _issuer(raw), claims)


def _issuer(raw: Mapping[str, bytes]) -> str:
    """The newer extension is DER, the older the bare text; where both stand they say the same."""
    try:
        found = {raw[_ISSUER_OLD].decode("utf-8")} if _ISSUER_OLD in raw else set()
    except ValueError:
        found = {""}
    if _ISSUER in raw:
        found.add(_text(raw[_ISSUER]))
    if len(found) != 1 or "" in found:
        raise Unverified("the signer's certificate does not say who vouched for the identity", remedy=_REMEDY)
    return found.pop()[:MAX_TEXT]


def _text(raw: bytes) -> str:
    try:
        text = der.one(raw, der.UTF8).content.decode("utf-8")
    except (InvalidInput, ValueError):
        raise Unverified("the signer's certificate has a claim that cannot be read", remedy=_REMEDY) from None
    if len(text) > MAX_TEXT or not text.isprintable():
        raise Unverified("the signer's certificate has a claim that is too long or cannot be shown", remedy=_REMEDY)
    return text


def _check_logged(leaf: x509.Certificate, issuer: x509.Certificate, root: TrustedRoot) -> None:
    """Step 2."""
    try:
        stamps = list(leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value)
    except (ValueError, x509.ExtensionNotFound):
        stamps = []
    if len(stamps) != 1:
        raise Unverified(f"the signer's certificate has {len(stamps)} timestamps of a certificate log, not one", remedy=_REMEDY)
    stamp = stamps[0]
    log = root.certificate_logs.get(stamp.log_id)
    at = UnixMillis(_millis(stamp))
    if log is None or not log.window.holds(at):
        raise Unverified(
            "the signer's certificate is in a certificate log that the trusted root does not know for that time", remedy=_REMEDY
        )
    if (
        stamp.version is not Version.v1
        or stamp.entry_type is not LogEntryType.PRE_CERTIFICATE
        or not isinstance(stamp.signature_hash_algorithm, hashes.SHA256)
        or not log.holds(stamp.signature, _logged(leaf, issuer, stamp))
    ):
        raise Unverified("the certificate log did not take in the signer's certificate: its timestamp does not hold", remedy=_REMEDY)


def _logged(leaf: x509.Certificate, issuer: x509.Certificate, stamp: SignedCertificateTimestamp) -> bytes:
    """RFC 6962, section 3.2: what a log signs over a precertificate."""
    key = hashlib.sha256(issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    body, extensions = leaf.tbs_precertificate_bytes, stamp.extension_bytes
    return (
        b"\x00\x00"
        + _millis(stamp).to_bytes(8, "big")
        + b"\x00\x01"
        + key
        + len(body).to_bytes(3, "big")
        + body
        + len(extensions).to_bytes(2, "big")
        + extensions
    )


def _millis(stamp: SignedCertificateTimestamp) -> int:
    since = stamp.timestamp.replace(tzinfo=datetime.UTC) - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return since // datetime.timedelta(milliseconds=1)


def _authority() -> ExtensionPolicy:
    return ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)


def _signer() -> ExtensionPolicy:
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
        .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _signs_code)
    )


def _signs(_: Policy, __: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature:
        raise ValueError("its key usage lacks digitalSignature")


def _signs_code(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise ValueError("it is for other purposes than code signing")
