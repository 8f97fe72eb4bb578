"""A trust domain's X.509 certificate authority: one self-signed P-256 certificate.

Rules
1. The URI SAN is the trust domain's SPIFFE id, without a path (X509-SVID, section 3.2: a signing certificate may have one).
2. cA is true and critical, pathLenConstraint 0: it signs leaves and no further CA (RFC 5280, section 4.2.1.9).
3. KeyUsage is keyCertSign and cRLSign, critical, nothing else (X509-SVID, section 4.3).
4. The name carries the key's id, so that two CAs of one trust domain never look alike.
Left to others: keeping the key (signer), handing the certificate out (bundle).
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
BACKDATE_MS = 30_000
"""Milliseconds by which a validity begins early, so that a peer whose clock is a little behind accepts it at once."""


def instant(at: UnixMillis) -> datetime.datetime:
    """The UTC second that `at` falls into: certificates know no finer time (RFC 5280, section 4.1.2.5)."""
    return datetime.datetime.fromtimestamp(at // 1000, tz=datetime.UTC)


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def make_ca(trust_domain: str, key: ec.EllipticCurvePrivateKey, *, now: UnixMillis, days: int) -> bytes:
    """DER of a self-signed CA certificate. Raises `InvalidInput`."""
    checked_trust_domain(trust_domain)
    if not 1 <= days <= MAX_CA_DAYS:
        raise InvalidInput(f"a CA of {days} days is out of bounds", remedy=f"choose 1 to {MAX_CA_DAYS} days")
    name = _name(trust_domain, key)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    begin = instant(UnixMillis(max(0, now - BACKDATE_MS)))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(subject_key, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def load_ca(der: bytes, trust_domain: str) -> x509.Certificate:
    """Read a CA certificate and hold it to the rules above. Raises `InvalidInput`."""
    remedy = "use a CA certificate of this trust domain (X509-SVID, section 4)"
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        public = certificate.public_key()
        uris = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    except Exception as error:  # the parser has error types of several unrelated families, and all of them mean this
        raise InvalidInput(f"the CA certificate cannot be read: {type(error).__name__}", remedy=remedy) from None
    if not basic.ca or not usage.critical or not usage.value.key_cert_sign or usage.value.digital_signature:
        raise InvalidInput("the certificate is not a signing certificate", remedy=remedy)
    if uris != [f"spiffe://{trust_domain}"]:
        raise InvalidInput(f"the CA certificate does not name `{trust_domain}` alone", remedy=remedy)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise InvalidInput("the CA's key is not an elliptic-curve key", remedy="use a CA with a P-256 key")
    return certificate


def _name(trust_domain: str, key: ec.EllipticCurvePrivateKey) -> x509.Name:
    # A common name holds 64 characters (RFC 5280, appendix A.1); the trust domain is in the SAN in full.
    label = f"vouchgate CA {key_id(spki_of(key.public_key()))[:16]}"
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]), x509.NameAttribute(NameOID.COMMON_NAME, label)])
