"""Certificates that somebody else issued: the path to a recorded CA, and who its leaf is (RFC 5280, section 6).

A chain
1. has at most `MAX_CHAIN` certificates within `MAX_CERTIFICATE_BYTES`, leaf first;
2. ends at one of the recorded CAs; what the caller sends beside the leaf only helps to find the path, it is never trusted;
3. is checked by `cryptography`'s path validation at the time given: signatures, validity, path length, name constraints, key and signature
   algorithms of the web's profile. A corporate CA's leaf may lack a subject alternative name, so that one is not asked for;
4. has a leaf that is no CA, may sign (KeyUsage digitalSignature, where there is one) and may be used by a client (EKU, where there is one);
5. names nothing of our own trust domain, and a SPIFFE id of the one foreign trust domain that the source stands for, or none.
Left to others: proof that the caller has the key (possession.py), and the foreign CA's own revocations: they are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vouchgate.identity.ca import instant
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

MAX_CHAIN = 6
"""Certificates that a caller may present; corporate paths have two or three."""
MAX_CERTIFICATE_BYTES = 16_384
"""Bytes of one certificate; AD CS writes about 2,000."""
MAX_DEPTH = 4
"""Intermediate CAs on a path."""
_NAMED = {
    NameOID.COMMON_NAME: "cn", NameOID.ORGANIZATION_NAME: "o", NameOID.ORGANIZATIONAL_UNIT_NAME: "ou", NameOID.COUNTRY_NAME: "c",
    NameOID.LOCALITY_NAME: "l", NameOID.STATE_OR_PROVINCE_NAME: "st", NameOID.DOMAIN_COMPONENT: "dc", NameOID.SERIAL_NUMBER: "serial",
    NameOID.USER_ID: "uid",
}  # fmt: skip


@dataclass(frozen=True)
class Path:
    """A path that holds."""

    leaf: x509.Certificate
    authorities: tuple[str, ...]
    """Lower-case hexadecimal SHA-256 of each CA above the leaf, the recorded one last."""


def verify_path(chain: Sequence[bytes], authorities: Sequence[bytes], now: UnixMillis) -> Path | Denied:
    """Rules 1 to 4. Raises `InvalidInput` where the recorded CAs cannot be read."""
    try:
        store = verification.Store([x509.load_der_x509_certificate(der) for der in authorities])
    except (ValueError, TypeError):
        raise InvalidInput("the recorded CA certificates cannot be read, or there are none", remedy="name them in vouchgate.toml") from None
    if not 1 <= len(chain) <= MAX_CHAIN or any(len(der) > MAX_CERTIFICATE_BYTES for der in chain):  # 1
        return _no("x509-bounds", "the certificate chain is empty or over the bound")
    try:
        leaf, *sent = (x509.load_der_x509_certificate(der) for der in chain)
        why = _leaf_fault(leaf)
    except Exception:  # the parser has error types of several unrelated families, and all of them mean this
        return _no("x509-malformed", "the certificate cannot be read")
    if why:
        return _no("x509-not-a-client", why)
    try:
        verified = _verifier(store, now).verify(leaf, sent)
    except Exception:  # whatever stops the path check, the path is not shown
        return _no("x509-untrusted", "no recorded CA signed the certificate, or it is not valid now")
    return Path(leaf, tuple(one.fingerprint(hashes.SHA256()).hex() for one in verified.chain[1:]))


def _verifier(store: verification.Store, now: UnixMillis) -> verification.ClientVerifier:
    policy, any_way = verification.ExtensionPolicy, verification.Criticality.AGNOSTIC
    leaf = (
        policy.webpki_defaults_ee()
        .may_be_present(x509.SubjectAlternativeName, any_way, None)
        .may_be_present(x509.ExtendedKeyUsage, any_way, None)
        .may_be_present(x509.AuthorityKeyIdentifier, any_way, None)
    )
    above = policy.webpki_defaults_ca().may_be_present(x509.AuthorityKeyIdentifier, any_way, None)
    builder = verification.PolicyBuilder().store(store).time(instant(now)).max_chain_depth(MAX_DEPTH)
    return builder.extension_policies(ca_policy=above, ee_policy=leaf).build_client_verifier()


def _leaf_fault(leaf: x509.Certificate) -> str:
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            return "the certificate is a CA"
        if isinstance(value, x509.KeyUsage) and (not value.digital_signature or value.key_cert_sign):
            return "the certificate's key may not sign, or may sign certificates"
        if isinstance(value, x509.ExtendedKeyUsage) and not {
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        } & set(value):
            return "the certificate may not be used by a client"
    return ""


def names(leaf: x509.Certificate) -> dict[str, list[str]]:
    """Subject (`subject:cn`, ...) and alternative names (`san:dns`, `san:uri`, ...) of a certificate; unprintable ones are left out."""
    found: dict[str, list[str]] = {}
    for attribute in leaf.subject:
        if attribute.oid in _NAMED and isinstance(attribute.value, str):
            found.setdefault(f"subject:{_NAMED[attribute.oid]}", []).append(attribute.value)
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = x509.SubjectAlternativeName([])
    kinds: dict[type, str] = {x509.DNSName: "dns", x509.UniformResourceIdentifier: "uri", x509.RFC822Name: "email", x509.IPAddress: "ip"}
    for name in alternative:
        if type(name) in kinds:
            found.setdefault(f"san:{kinds[type(name)]}", []).append(str(name.value))
    return {kind: [text for text in texts if text.isprintable()] for kind, texts in found.items()}


def spiffe_id(leaf: x509.Certificate, ours: str, theirs: str) -> str | Denied:
    """Rule 5: its SPIFFE id, empty where it has none or the source stands for no trust domain."""
    ids = [uri for uri in names(leaf).get("san:uri", []) if uri.lower().startswith("spiffe:")]
    for uri in ids:
        if trust_domain_of(uri) == ours or not ours:
            return _no("foreign-names-us", "a foreign CA issued the certificate, and it names our own trust domain")
    if not theirs:
        return ""
    if len(ids) != 1 or trust_domain_of(ids[0]) != theirs or theirs == ours:
        return _no("x509-other-domain", "the certificate is not of the trust domain that this source stands for")
    return ids[0]


def trust_domain_of(uri: str) -> str:
    """The trust domain of a SPIFFE id (SPIFFE-ID, section 2), lower-case so that no spelling of ours passes; empty where it is no such id."""
    scheme, _, rest = uri.partition("://")
    authority = rest.partition("/")[0]
    return authority.lower() if scheme.lower() == "spiffe" else ""


def _no(code: str, reason: str) -> Denied:
    return Denied(code=code, reason=reason, remedy="present a certificate of a CA that vouchgate.toml names as a source")
