"""A trust domain's X.509 certificate authorities: a self-signed P-256 root, the issuers below it, the request to a CA above it.

Rules
1. The URI SAN is the trust domain's SPIFFE id, without a path; a CA above ours may have left it out (X509-SVID, section 2 and 4.1).
2. cA is true and critical (X509-SVID, section 4.1; RFC 5280, section 4.2.1.9). A root has pathLenConstraint 1, an issuer 0: an issuer
   signs leaves and no further CA. A root that was made with 0 signs leaves itself until it is renewed.
3. KeyUsage is keyCertSign and cRLSign, critical, nothing else (X509-SVID, section 4.3).
4. The name carries the key's id, so that two CAs of one trust domain never look alike.
5. An issuer never outlives its root, and names it by key id (RFC 5280, section 4.2.1.1).
Left to others: keeping the keys (signer), handing certificates out (bundle), what a CA above ours sends back (upstream.py).
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import UnixMillis

MAX_CA_DAYS = 3_660
"""Days a CA may live: ten years, after which its key is due in any case."""
MIN_ISSUER_SECONDS = 3_600
"""Seconds below which an issuer would be renewed more often than the leaves under it."""
MAX_ISSUER_SECONDS = 90 * 86_400
"""Seconds an issuer may live."""
BACKDATE_MS = 30_000
"""Milliseconds by which a validity begins early, so that a peer whose clock is a little behind accepts it at once."""

_USAGE = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
    key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


def instant(at: UnixMillis) -> datetime.datetime:
    """The UTC second that `at` falls into: certificates know no finer time (RFC 5280, section 4.1.2.5)."""
    return datetime.datetime.fromtimestamp(at // 1000, tz=datetime.UTC)


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def make_ca(trust_domain: str, key: ec.EllipticCurvePrivateKey, *, now: UnixMillis, days: int, path_length: int = 1) -> bytes:
    """DER of a self-signed CA certificate: a root. Raises `InvalidInput`."""
    checked_trust_domain(trust_domain)
    if not 1 <= days <= MAX_CA_DAYS or path_length not in (0, 1):
        raise InvalidInput(f"a CA of {days} days is out of bounds", remedy=f"choose 1 to {MAX_CA_DAYS} days")
    name = _name(trust_domain, key, "CA")
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    begin = instant(UnixMillis(max(0, now - BACKDATE_MS)))
    builder = _ca_builder(trust_domain, key, path_length).issuer_name(name).subject_name(name).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key), critical=False
    )  # fmt: skip
    made = builder.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=days)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def make_issuer(
    trust_domain: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    now: UnixMillis,
    seconds: int,
) -> bytes:
    """DER of an intermediate under `root`, for `key`. Raises `InvalidInput`."""
    if not MIN_ISSUER_SECONDS <= seconds <= MAX_ISSUER_SECONDS:
        raise InvalidInput(f"an issuer of {seconds} s is out of bounds", remedy=f"choose {MIN_ISSUER_SECONDS} to {MAX_ISSUER_SECONDS} s")
    if path_length_of(root) == 0:
        raise InvalidInput("the CA's path length is 0: it signs no issuer", remedy="run `vouchgate admin renew-ca`")
    begin, end = instant(UnixMillis(max(0, now - BACKDATE_MS))), instant(UnixMillis(now + seconds * 1000))
    if instant(now) >= root.not_valid_after_utc:
        raise InvalidInput("the CA has expired", remedy="end vouchgate, run `vouchgate admin renew-ca`, start it again")
    authority = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    made = (
        _ca_builder(trust_domain, key, 0)
        .issuer_name(root.subject)
        .subject_name(_name(trust_domain, key, "issuer"))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
        .not_valid_before(max(begin, root.not_valid_before_utc))
        .not_valid_after(min(end, root.not_valid_after_utc))
        .sign(root_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def make_request(trust_domain: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER of a PKCS #10 request for a CA certificate by a CA above ours (RFC 2986; RFC 5280, section 4.2.1.9: path length 0)."""
    checked_trust_domain(trust_domain)
    builder = (
        x509.CertificateSigningRequestBuilder(subject_name=_name(trust_domain, key, "CA"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def path_length_of(certificate: x509.Certificate) -> int | None:
    """The pathLenConstraint of a CA certificate; None where it has none."""
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _ca_builder(trust_domain: str, key: ec.EllipticCurvePrivateKey, path_length: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(public_key=key.public_key(), serial_number=x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False)
    )


def load_ca(der: bytes, trust_domain: str) -> x509.Certificate:
    """Read a CA certificate and hold it to the rules above. Raises `InvalidInput`."""
    remedy = "use a CA certificate of this trust domain (X509-SVID, section 4)"
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        public = certificate.public_key()
        uris = uris_of(certificate)
    except Exception as error:  # the parser has error types of several unrelated families, and all of them mean this
        raise InvalidInput(f"the CA certificate cannot be read: {type(error).__name__}", remedy=remedy) from None
    if not basic.ca or not usage.critical or not usage.value.key_cert_sign or usage.value.digital_signature:
        raise InvalidInput("the certificate is not a signing certificate", remedy=remedy)
    if uris not in ([], [f"spiffe://{trust_domain}"]):
        raise InvalidInput(f"the CA certificate does not name `{trust_domain}` alone", remedy=remedy)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise InvalidInput("the CA's key is not an elliptic-curve key", remedy="use a CA with a P-256 key")
    return certificate


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URI names of a certificate."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    return []


def _name(trust_domain: str, key: ec.EllipticCurvePrivateKey, what: str) -> x509.Name:
    # A common name holds 64 characters (RFC 5280, appendix A.1); the trust domain is in the SAN in full.
    label = f"vouchgate {what} {key_id(spki_of(key.public_key()))[:16]}"
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]), x509.NameAttribute(NameOID.COMMON_NAME, label)])
