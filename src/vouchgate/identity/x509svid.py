"""X.509-SVIDs: issue them, and read them strictly.

A leaf (X509-SVID, sections 2 to 5)
1. has exactly one URI SAN, a principal of its trust domain, with a path; DNS SANs may stand beside it, other kinds may not;
2. has an empty subject, hence a critical SAN (RFC 5280, section 4.2.1.6);
3. has cA false, and a critical KeyUsage with digitalSignature, without keyCertSign and cRLSign;
4. has an EKU with both serverAuth and clientAuth;
5. holds a P-256 key in its one canonical encoding, lives no longer than the CA above it, and has a positive serial number of at most 20
   bytes (RFC 5280, section 4.1.2.2): it is what the certificate is revoked by, and zero has no text;
6. has a signature in its one spelling: canonical DER, no unused bits, s in the lower half. An ECDSA signature (r, s) holds as (r, n - s) too,
   so without this rule the holder of a revoked certificate could give it another SHA-256 and be unknown again.
The path to an authority of the bundle
7. has at most one issuer between; every signature on it is ECDSA over SHA-256, and key ids chain (RFC 5280, section 4.2.1.1);
8. consists of CAs alone: a name of theirs is the trust domain's without a path, they may not sign but certificates and lists, and an EKU
   of theirs has both purposes (X509-SVID, sections 4.1, 4.3 and 4.4).
Reading checks the signature, path and validity with the bundle's authorities alone, and then the eight rules again.
Left to others: whether it is revoked (the caller's revocations), and making the `VerifiedPrincipal` (verify.py).
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from vouchgate.identity.binding import EXTENSION, binding_of, write_binding
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.ca import BACKDATE_MS, instant, spki_of, uris_of
from vouchgate.identity.der import SEQUENCE
from vouchgate.identity.der import write as write_der
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId, principal_parts
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.vouches import UnixMillis

MAX_TTL_SECONDS = 24 * 3600
"""Seconds an X.509-SVID may live; revocation does not wait for it."""
MIN_TTL_SECONDS = 10
"""Seconds below which a credential would lapse before it is used."""
MAX_DNS_NAMES = 8
"""DNS SANs of one server."""
MAX_CHAIN = 5
"""Certificates a peer may present: a leaf, its issuer, and those of a CA above ours."""
MAX_CERTIFICATE_BYTES = 16_384
"""Bytes of one certificate; ours have about 600."""
MAX_SERIAL = 1 << 159
"""A serial number has 20 bytes at most and is positive (RFC 5280, section 4.1.2.2)."""
_DNS = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z")
_USAGE = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
    key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip
_HALF_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2
"""Half the order of P-256 (SEC 2, section 2.4.2)."""
_BOTH = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
_EKU = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_BIT_STRING = 0x03
"""Tag (X.680, table 1)."""
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier of ecdsa-with-SHA256, without parameters (RFC 5758, section 3.2)."""
_LEAF = x509.BasicConstraints(ca=False, path_length=None)


@dataclass(frozen=True)
class IssuedX509:
    """A new X.509-SVID."""

    chain: tuple[bytes, ...]
    """DER, leaf first, without the bundle's root."""
    serial: str
    """What the certificate is revoked by (`serial_text`)."""
    thumbprint: str
    """Lower-case hexadecimal SHA-256 of the leaf's DER."""
    not_before: UnixMillis
    not_after: UnixMillis


@dataclass(frozen=True)
class X509Facts:
    """What a chain that holds says."""

    principal: PrincipalId
    serial: str
    """What it is revoked by: inside the signed part, unlike the signature that the thumbprint covers too."""
    thumbprint: str
    not_after: UnixMillis
    binding: Binding | None = None
    """What it is bound to beside its name."""


def serial_text(number: int) -> str:
    """A serial number as Envoy writes it: whole bytes without leading zero bytes, lower-case hexadecimal."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


def thumbprint_of(der: bytes) -> str:
    """Lower-case hexadecimal SHA-256 of a certificate's DER (RFC 8705, section 3.1)."""
    return hashlib.sha256(der).hexdigest()


def serial_of(der: bytes) -> str:
    """The serial number of a certificate that `read_x509` accepted."""
    return serial_text(x509.load_der_x509_certificate(der).serial_number)


def issue_x509(
    spki: bytes,
    principal: str,
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    trust_domain: str,
    now: UnixMillis,
    ttl_seconds: int,
    dns: Sequence[str] = (),
    above: Sequence[bytes] = (),
    binding: Binding | None = None,
) -> IssuedX509:
    """Issue a leaf under `ca`; `above` is handed out after it: `ca` and what is between it and the bundle. Raises `InvalidInput`."""
    public = _public_key(spki)
    _check_request(principal, trust_domain, ttl_seconds, dns)
    begin, end = instant(UnixMillis(max(0, now - BACKDATE_MS))), instant(UnixMillis(now + ttl_seconds * 1000))
    if instant(now) >= ca.not_valid_after_utc:
        raise InvalidInput("the CA has expired", remedy="end vouchgate, run `vouchgate admin renew-ca`, start it again")
    end = min(end, ca.not_valid_after_utc)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(principal), *(x509.DNSName(name) for name in dns)]
    authority = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    serial = x509.random_serial_number()
    builder = (
        x509.CertificateBuilder(issuer_name=ca.subject, subject_name=x509.Name([]), public_key=public, serial_number=serial)
        .not_valid_before(max(begin, ca.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(_LEAF, critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(_EKU, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
    )
    if binding is not None and not binding.empty:
        builder = builder.add_extension(x509.UnrecognizedExtension(EXTENSION, write_binding(binding)), critical=False)
    leaf = builder.sign(ca_key, hashes.SHA256())
    encoded = leaf.public_bytes(serialization.Encoding.DER) if _low(leaf) else _lowered(leaf)
    return IssuedX509(
        chain=(encoded, *above),
        serial=serial_text(serial),
        thumbprint=hashlib.sha256(encoded).hexdigest(),
        not_before=_millis(leaf.not_valid_before_utc),
        not_after=_millis(end),
    )


def _check_request(principal: str, trust_domain: str, ttl_seconds: int, dns: Sequence[str]) -> None:
    if principal_parts(principal).trust_domain != trust_domain:
        raise InvalidInput(f"`{principal[:160]}` is not of trust domain `{trust_domain}`", remedy="ask the signer of that trust domain")
    if not MIN_TTL_SECONDS <= ttl_seconds <= MAX_TTL_SECONDS:
        raise InvalidInput(f"a life of {ttl_seconds} s is out of bounds", remedy=f"ask for {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS} s")
    check_dns(dns)


def check_dns(dns: Sequence[str]) -> None:
    """Host names as a certificate may hold them; a wildcard would stand for names of others. Raises `InvalidInput`."""
    if len(dns) > MAX_DNS_NAMES or not all(_DNS.match(name) for name in dns):
        raise InvalidInput("a DNS name is malformed, or there are too many", remedy=f"give at most {MAX_DNS_NAMES} lower-case host names")


def _public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    remedy = "send the DER SubjectPublicKeyInfo of a P-256 key (RFC 5480, section 2)"
    if len(spki) > 512:
        raise InvalidInput("the public key is over the bound", remedy=remedy)
    try:
        key = serialization.load_der_public_key(spki)
    except Exception:
        raise InvalidInput("the public key cannot be read", remedy=remedy) from None
    # One key has one encoding here: key ids and `cnf` compare bytes.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or spki_of(key) != spki:
        raise InvalidInput("the public key is not a P-256 key in its canonical encoding", remedy=remedy)
    return key


def read_x509(chain: Sequence[bytes], bundle: TrustBundle, now: UnixMillis) -> X509Facts | Denied:
    """Check a presented chain, leaf first, against the trust domain's own CAs."""
    if not 1 <= len(chain) <= MAX_CHAIN or any(len(der) > MAX_CERTIFICATE_BYTES for der in chain):
        return _no("x509-bounds", "the certificate chain is empty or over the bound")
    try:
        leaf, *others = (x509.load_der_x509_certificate(der) for der in chain)
        why = _leaf_fault(leaf, bundle.trust_domain) or (
            "" if _one_spelling(leaf, chain[0]) else "the certificate's signature is respelled"
        )
    except Exception:  # the parser has error types of several unrelated families, and all of them mean this
        return _no("x509-malformed", "the certificate cannot be read")
    if why:
        return _no("x509-not-an-svid", why)
    if instant(now) >= leaf.not_valid_after_utc:
        return _no("x509-expired", "the certificate has expired", "fetch a new one: `vouchgate identity issue`, or the Workload API")
    if not bundle.x509_authorities:
        return _no("x509-untrusted", "the trust bundle holds no CA")
    store = verification.Store([x509.load_der_x509_certificate(der) for der in bundle.x509_authorities])
    verifier = verification.PolicyBuilder().store(store).time(instant(now)).max_chain_depth(1).build_client_verifier()
    try:
        path = verifier.verify(leaf, others).chain
        why = _path_fault(path, bundle.trust_domain)
    except Exception:  # as above; whatever stops the path check, the path is not shown
        return _no("x509-untrusted", f"no CA of `{bundle.trust_domain}` signed the certificate, or it is not valid now")
    if why:
        return _no("x509-untrusted", why)
    thumbprint = leaf.fingerprint(hashes.SHA256()).hex()
    expires = _millis(min(one.not_valid_after_utc for one in path))
    return X509Facts(PrincipalId(uris_of(leaf)[0]), serial_text(leaf.serial_number), thumbprint, expires, binding_of(leaf))


def _path_fault(path: Sequence[x509.Certificate], trust_domain: str) -> str:
    """Rules 7 and 8 for what stands between the leaf and an authority of the bundle, that one included."""
    for below, above in itertools.pairwise(path):
        if below.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            return "a certificate of the chain is not signed with ECDSA over SHA-256"
        if not below.public_bytes(serialization.Encoding.DER).endswith(b"\x00" + below.signature):
            return "a signature of the chain is respelled"
        if _key_id(below, x509.AuthorityKeyIdentifier) != _key_id(above, x509.SubjectKeyIdentifier):
            return "a certificate of the chain names another key as its issuer's"
        if uris_of(above) not in ([], [f"spiffe://{trust_domain}"]):
            return "an issuer of the chain has a name that is not the trust domain's"
        usage = above.extensions.get_extension_for_class(x509.KeyUsage)
        if not usage.critical or usage.value.digital_signature:
            return "an issuer's key usage is not that of a CA"
        if any(isinstance(one.value, x509.ExtendedKeyUsage) and not set(one.value) >= _BOTH for one in above.extensions):
            return "an issuer of the chain may not issue for both client and server"
    return ""


def _key_id(certificate: x509.Certificate, kind: type[x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier]) -> bytes | None:
    value = certificate.extensions.get_extension_for_class(kind).value
    return value.key_identifier


def _leaf_fault(leaf: x509.Certificate, trust_domain: str) -> str:
    """Why the leaf is not an SVID of ours, or nothing. The numbers are those of the module's rules."""
    extensions = leaf.extensions
    try:
        san = extensions.get_extension_for_class(x509.SubjectAlternativeName)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return "the certificate has no subject alternative name or no key usage"
    kinds = [type(name) for name in san.value]
    if kinds.count(x509.UniformResourceIdentifier) != 1:  # 1
        return "the certificate does not have exactly one URI name"
    if set(kinds) - {x509.UniformResourceIdentifier, x509.DNSName}:
        return "the certificate has a name that is neither URI nor DNS"
    try:
        parts = principal_parts(san.value.get_values_for_type(x509.UniformResourceIdentifier)[0])
    except InvalidInput:
        return "the certificate's URI name is not a principal"
    if parts.trust_domain != trust_domain:
        return f"the certificate is not of trust domain `{trust_domain}`"
    if not leaf.subject.rdns and not san.critical:  # 2
        return "the certificate has an empty subject and a name that is not critical"
    if any(isinstance(ext.value, x509.BasicConstraints) and ext.value.ca for ext in extensions):  # 3
        return "the certificate is a CA"
    if not usage.critical or not usage.value.digital_signature or usage.value.key_cert_sign or usage.value.crl_sign:
        return "the certificate's key usage is not that of a leaf"
    for ext in extensions:  # 4
        if isinstance(ext.value, x509.ExtendedKeyUsage) and not set(ext.value) >= _BOTH:
            return "the certificate may not be used by both client and server"
    return _content_fault(leaf)


def _content_fault(leaf: x509.Certificate) -> str:
    """Rule 5, and what the certificate is bound to."""
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return "the certificate's key is not a P-256 key"
    if not 0 < leaf.serial_number < MAX_SERIAL:
        return "the certificate's serial number is not positive, or has more than 20 bytes"
    try:
        binding_of(leaf)
    except InvalidInput as error:
        return error.reason
    return ""


def _low(leaf: x509.Certificate) -> bool:
    return decode_dss_signature(leaf.signature)[1] <= _HALF_ORDER


def _lowered(leaf: x509.Certificate) -> bytes:
    """The same certificate with its signature's other spelling: half of all are in the upper half, and signing again would cost as much."""
    r, s = decode_dss_signature(leaf.signature)
    signature = write_der(_BIT_STRING, b"\x00" + encode_dss_signature(r, 2 * _HALF_ORDER + 1 - s))
    return write_der(SEQUENCE, leaf.tbs_certificate_bytes + _ECDSA_SHA256 + signature)


def _one_spelling(leaf: x509.Certificate, der: bytes) -> bool:
    canonical = encode_dss_signature(*decode_dss_signature(leaf.signature)) == leaf.signature
    return canonical and _low(leaf) and der.endswith(b"\x00" + leaf.signature)


def _millis(at: datetime.datetime) -> UnixMillis:
    return UnixMillis(int(at.timestamp()) * 1000)


def _no(code: str, reason: str, remedy: str = "present an X.509-SVID that this trust domain issued: `vouchgate identity issue`") -> Denied:
    return Denied(code=code, reason=reason, remedy=remedy)
