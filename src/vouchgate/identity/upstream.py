"""A CA above ours: hold what it sent back to everything that our certificates need, before the first leaf is signed under it.

The chain as given: our CA's certificate, those between, the root last; in this order, each signed by the next.
Rules
1. The root is self-signed and has the fingerprint that a person gave on the command line; nothing in the file says whom to trust.
2. The first certificate is for our key, a CA (X509-SVID, section 4.1), with keyCertSign and cRLSign, and names our trust domain or nobody.
3. Each link: issuer and subject names chain, key ids chain, the signature holds (RFC 5280, section 6.1.3), no SHA-1, RSA from 2048 bits.
4. Path lengths leave room for what is below; all are valid now, ours for `MIN_LEFT_SECONDS` more; no unknown critical extension.
5. Name constraints are evaluated for our SPIFFE ids (RFC 5280, section 4.2.1.10: the host part of a URI): one that forbids them is refused
   here and not at the first handshake; an EKU must leave both TLS purposes.
6. What is trusted afterwards is our CA's certificate alone, never the root: another CA below the same root can sign our names, and counts
   for nothing. What stands between goes along with each leaf, for readers who trust the root.
Left to others: asking, and taking the result into use (flows/x509_authority.py).
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from vouchgate.identity.ca import instant, load_ca, path_length_of
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

MAX_UPSTREAM = 5
"""Certificates of the chain: ours, three between, the root."""
MAX_CERTIFICATE_BYTES = 16_384
"""Bytes of one certificate."""
MIN_LEFT_SECONDS = 24 * 3600
"""Seconds that our CA's certificate must still live: the longest life of a leaf."""
SHORT_DAYS = 30
"""Days below which a warning says that the certificate will soon have to be asked for again."""
_KNOWN = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName, x509.NameConstraints,
    x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier, x509.CertificatePolicies, x509.PolicyConstraints, x509.InhibitAnyPolicy,
)  # fmt: skip
_TLS = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_REMEDY = "send the request of `vouchgate admin ca-request` to the CA again, and install what it returns"


@dataclass(frozen=True)
class Upstream:
    """A chain that holds."""

    chain: tuple[bytes, ...]
    """DER: ours and those between, without the root."""
    warnings: tuple[str, ...]
    """What a person should know; nothing that keeps it from working here."""


def read_pem_chain(pem: bytes) -> tuple[bytes, ...]:
    """The certificates of a PEM file, in order. Raises `InvalidInput`."""
    if len(pem) > MAX_UPSTREAM * 2 * MAX_CERTIFICATE_BYTES:
        raise InvalidInput("the file is over the bound", remedy=f"give {MAX_UPSTREAM} certificates at most")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise InvalidInput("the file does not hold PEM certificates", remedy="give our certificate, those between, and the root") from None
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


def check_upstream(chain: Sequence[bytes], *, spki: bytes, trust_domain: str, root_fingerprint: str, now: UnixMillis) -> Upstream:
    """Rules 1 to 5. Raises `InvalidInput` for what cannot be used, `Unverified` for what does not chain."""
    if not 2 <= len(chain) <= MAX_UPSTREAM or any(len(one) > MAX_CERTIFICATE_BYTES for one in chain):
        raise InvalidInput(
            f"the chain has {len(chain)} certificates", remedy="give our certificate, those between and the root, in this order"
        )
    load_ca(chain[0], trust_domain)
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        _check_root(certificates[-1], root_fingerprint)
        _check_ours(certificates[0], spki)
        for one in certificates:
            _check_one(one, now)
        for below, above in itertools.pairwise(certificates):
            _check_link(below, above)
        _check_lengths(certificates)
        for one in certificates:
            _check_names(one, trust_domain)
    except (InvalidInput, Unverified):
        raise
    except Exception as error:  # the parser has error types of several unrelated families, and all of them mean this
        raise InvalidInput(f"a certificate of the chain cannot be read: {type(error).__name__}", remedy=_REMEDY) from None
    return Upstream(tuple(chain[:-1]), _warnings(certificates, now))


def _check_root(root: x509.Certificate, fingerprint: str) -> None:
    wanted = fingerprint.replace(":", "").replace(" ", "").lower()
    if len(wanted) != 64 or root.fingerprint(hashes.SHA256()).hex() != wanted:
        raise Unverified(
            "the last certificate of the chain is not the root whose fingerprint was given",
            remedy="compare the root's SHA-256 fingerprint with what its owner publishes, and put the root last",
        )
    if root.subject != root.issuer:
        raise Unverified("the last certificate of the chain is not self-signed", remedy="put the root last")
    _signed(root, root)


def _check_ours(ours: x509.Certificate, spki: bytes) -> None:
    held = ours.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if held != spki:
        raise Unverified("the first certificate of the chain is for another key than the one of the request", remedy=_REMEDY)
    usage = ours.extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.crl_sign:
        raise InvalidInput("our CA's certificate may not sign revocation lists", remedy="let the CA grant keyCertSign and cRLSign")


def _check_one(one: x509.Certificate, now: UnixMillis) -> None:
    name = one.subject.rfc4514_string()[:80]
    basic = one.extensions.get_extension_for_class(x509.BasicConstraints)
    if not basic.value.ca or not basic.critical:
        raise InvalidInput(f"`{name}` is not a CA, or does not say so critically", remedy=_REMEDY)
    unknown = [ext.oid.dotted_string for ext in one.extensions if ext.critical and not isinstance(ext.value, _KNOWN)]
    if unknown:
        raise InvalidInput(f"`{name}` has a critical extension that nobody here knows: {unknown[0][:40]}", remedy=_REMEDY)
    usages = [ext.value for ext in one.extensions if isinstance(ext.value, x509.KeyUsage)]
    if any(not usage.key_cert_sign for usage in usages):
        raise InvalidInput(f"`{name}` may not sign certificates", remedy=_REMEDY)
    if any(isinstance(ext.value, x509.ExtendedKeyUsage) and not _leaves_tls(ext.value) for ext in one.extensions):
        raise InvalidInput(f"`{name}` has an EKU that does not leave both TLS purposes", remedy="let the CA leave the EKU out")
    if not one.not_valid_before_utc <= instant(now) < one.not_valid_after_utc:
        raise InvalidInput(f"`{name}` is not valid now", remedy=_REMEDY)
    key = one.public_key()
    strong = isinstance(key, ec.EllipticCurvePublicKey) or (isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048)
    if not strong or not isinstance(one.signature_hash_algorithm, _HASHES):
        raise InvalidInput(f"`{name}` has a weak key or signature", remedy="use a CA with RSA from 2048 bits or ECDSA, and SHA-256")


def _leaves_tls(usage: x509.ExtendedKeyUsage) -> bool:
    return ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in set(usage) or set(usage) >= _TLS


def _check_link(below: x509.Certificate, above: x509.Certificate) -> None:
    if below.issuer != above.subject:
        raise Unverified(
            f"`{below.subject.rfc4514_string()[:80]}` was not issued by the certificate after it",
            remedy="put our certificate first, then each one's issuer",
        )
    named = [ext.value.key_identifier for ext in below.extensions if isinstance(ext.value, x509.AuthorityKeyIdentifier)]
    held = [ext.value.key_identifier for ext in above.extensions if isinstance(ext.value, x509.SubjectKeyIdentifier)]
    if named and held and named[0] is not None and named != held:
        raise Unverified("a certificate of the chain names another key as its issuer's", remedy=_REMEDY)
    _signed(below, above)


def _signed(below: x509.Certificate, above: x509.Certificate) -> None:
    try:
        below.verify_directly_issued_by(above)
    except Exception:  # a wrong signature, another key type, an algorithm nobody knows
        raise Unverified(f"the signature of `{below.subject.rfc4514_string()[:80]}` does not hold", remedy=_REMEDY) from None


def _check_lengths(certificates: Sequence[x509.Certificate]) -> None:
    """RFC 5280, section 4.2.1.9: CAs that may follow below, the leaf not counted."""
    for below, one in enumerate(certificates):
        length = path_length_of(one)
        if length is not None and length < below:
            raise InvalidInput(
                f"`{one.subject.rfc4514_string()[:80]}` allows {length} CAs below it, and there are {below}",
                remedy="ask a CA that may have one more below it",
            )


def _check_names(one: x509.Certificate, trust_domain: str) -> None:
    for extension in one.extensions:
        if isinstance(extension.value, x509.NameConstraints):
            permitted = [
                name.value for name in extension.value.permitted_subtrees or () if isinstance(name, x509.UniformResourceIdentifier)
            ]
            excluded = [name.value for name in extension.value.excluded_subtrees or () if isinstance(name, x509.UniformResourceIdentifier)]
            if any(_within(trust_domain, name) for name in excluded) or (
                permitted and not any(_within(trust_domain, name) for name in permitted)
            ):
                raise InvalidInput(
                    f"a name constraint of `{one.subject.rfc4514_string()[:80]}` forbids `spiffe://{trust_domain}/...`",
                    remedy=f"let the CA permit URI names with the host `{trust_domain}`",
                )


def _within(host: str, constraint: str) -> bool:
    """RFC 5280, section 4.2.1.10: a host stands for itself, one that begins with a period for the hosts below it."""
    wanted = constraint.lower()
    return host.endswith(wanted) and host != wanted if wanted.startswith(".") else host == wanted


def _warnings(certificates: Sequence[x509.Certificate], now: UnixMillis) -> tuple[str, ...]:
    ours = certificates[0]
    left = ours.not_valid_after_utc - instant(now)
    if left < datetime.timedelta(seconds=MIN_LEFT_SECONDS):
        raise InvalidInput("our CA's certificate expires within a day", remedy="ask for one that lives a year")
    said = []
    if left < datetime.timedelta(days=SHORT_DAYS):
        said.append(f"the CA's certificate lives {left.days} more days: ask for the next one before")
    if any(one.not_valid_after_utc < ours.not_valid_after_utc for one in certificates[1:]):
        said.append("a certificate above ours expires first: readers who trust the root will refuse our leaves from then on")
    if path_length_of(ours) != 0:
        said.append("the CA gave a longer path than was asked for (path length 0)")
    for one in certificates:
        for extension in one.extensions:
            if isinstance(extension.value, x509.NameConstraints) and any(
                not isinstance(name, x509.UniformResourceIdentifier)
                for name in (*(extension.value.permitted_subtrees or ()), *(extension.value.excluded_subtrees or ()))
            ):
                said.append("a name constraint above ours holds for DNS or other names too: leaves with such names may be refused by it")
    return tuple(dict.fromkeys(said))
