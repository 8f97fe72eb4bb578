"""Certificates and chains against X509-SVID (sections 2 to 5) and RFC 5280.

Rules
1. First the bytes (one spelling of DER, version, serial, algorithms, extensions once each), by a reader of our own: a lenient parser hides
   exactly the faults that this looks for. Then the meaning, with `cryptography`.
2. A certificate counts as one that signs if it says cA or keyCertSign; as a leaf otherwise.
3. In a chain each certificate is held to the one after it, as RFC 5280, section 6.1, walks the path, but from the leaf up.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from vouchgate.identity import der
from vouchgate.identity.ca import instant, uris_of
from vouchgate.identity.conformance import Checked, Finding, note, violation
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis

MAX_BYTES = 16_384
"""Bytes of one certificate."""
MAX_CHAIN = 16
"""Certificates of a chain."""
MAX_SERIAL_BYTES = 20
"""RFC 5280, section 4.1.2.2."""
SPIFFE_ID = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*)\Z")
"""SPIFFE-ID, sections 2.1 and 2.2; 2,048 bytes at most (section 2.3)."""
MAX_ID = 2_048
_HANDLED = (
    x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName, x509.NameConstraints,
    x509.CertificatePolicies, x509.PolicyConstraints, x509.InhibitAnyPolicy, x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier,
)  # fmt: skip
_BOTH = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


def check_certificate(data: bytes) -> Checked:
    """One certificate, DER."""
    try:
        found = list(_bytes(data))
        certificate = x509.load_der_x509_certificate(data)
        extensions = {type(one.value): one for one in certificate.extensions}
        certificate.public_key()
        _ = (certificate.signature_hash_algorithm, certificate.subject, certificate.issuer)  # parsed when asked for, and may be unreadable
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except InvalidInput as error:
        return Checked(kind="unknown", findings=(violation("RFC 5280 4.1", error.reason),))
    except Exception as error:  # the parser has several families of errors, and all of them mean this
        unread = violation("RFC 5280 4.1", f"the certificate cannot be read any further: {type(error).__name__}")
        return Checked(kind="unknown", findings=(*found, unread) if not found else tuple(found))
    found += _everyone(certificate)
    signs = _signs(extensions)
    found += _signing(certificate, extensions) if signs else _leaf(certificate, extensions)
    subject = next(iter(uris_of(certificate)), "")
    return Checked(kind="signing certificate" if signs else "leaf", subject=subject[:MAX_ID], findings=tuple(found))


def check_chain(chain: Sequence[bytes], now: UnixMillis) -> Checked:
    """Certificates in the order of a handshake: the leaf, then each one's issuer (RFC 8446, section 4.4.2)."""
    if not 1 <= len(chain) <= MAX_CHAIN:
        return Checked(kind="chain", findings=(violation("RFC 8446 4.4.2", f"a chain of {len(chain)} certificates is out of bounds"),))
    each = [check_certificate(one) for one in chain]
    found = [_at(number, finding) for number, checked in enumerate(each) for finding in checked.findings]
    if each[0].kind == "signing certificate":
        found.append(violation("X509-SVID 5.2", "the first certificate is a CA, which authenticates nobody"))
    if all(checked.kind != "unknown" for checked in each):
        certificates = [x509.load_der_x509_certificate(one) for one in chain]
        found += [_at(number, one) for number, one in _path(certificates, now)]
    return Checked(kind="chain", subject=each[0].subject, findings=tuple(found))


def _at(number: int, finding: Finding) -> Finding:
    return Finding(clause=finding.clause, level=finding.level, text=f"certificate {number + 1}: {finding.text}")


def _bytes(data: bytes) -> Iterator[Finding]:
    """What the bytes say themselves."""
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"the certificate has more than {MAX_BYTES} bytes", remedy="give a certificate")
    parts = list(_elements(der.only(data, der.SEQUENCE)))
    if len(parts) != 3:
        raise InvalidInput("this is not a certificate", remedy="give a certificate")
    try:
        der.check(data)
    except InvalidInput as error:
        yield violation("RFC 5280 4.1", error.reason)
    fields = list(_elements(der.only(parts[0], der.SEQUENCE)))
    if not fields or fields[0] != bytes.fromhex("a003020102"):
        yield violation("RFC 5280 4.1.2.1", "the version is not 3")
    if fields and fields[0][0] == 0xA0:
        fields = fields[1:]
    if len(fields) < 6:
        raise InvalidInput("the certificate lacks a field", remedy="give a whole certificate")
    yield from _serial(der.read(fields[0])[1])
    if fields[1] != parts[1]:
        yield violation("RFC 5280 4.1.1.2", "the signature algorithm inside differs from the one outside")
    if der.only(parts[2], 0x03)[:1] != b"\x00":
        yield violation("RFC 5280 4.1.1.3", "the signature has unused bits")
    for field in fields[6:]:
        if field[0] == 0xA3:
            yield from _extension_ids(der.only(der.only(field, 0xA3), der.SEQUENCE))


def _elements(content: bytes) -> Iterator[bytes]:
    """The encodings, one after the other. Raises `InvalidInput`."""
    while content:
        _, _, rest = der.read(content)
        yield content[: len(content) - len(rest)]
        content = rest


def _serial(content: bytes) -> Iterator[Finding]:
    number = int.from_bytes(content, "big", signed=True)
    if number <= 0:
        yield violation("RFC 5280 4.1.2.2", "the serial number is not positive")
    elif len(content) > MAX_SERIAL_BYTES:
        yield violation("RFC 5280 4.1.2.2", "the serial number has more than 20 bytes")


def _extension_ids(content: bytes) -> Iterator[Finding]:
    ids = [der.read(inner)[1] for _, inner in der.values(content)]
    if len(set(ids)) != len(ids):
        yield violation("RFC 5280 4.2", "an extension occurs twice")


def _everyone(certificate: x509.Certificate) -> Iterator[Finding]:
    if certificate.not_valid_before_utc > certificate.not_valid_after_utc:
        yield violation("RFC 5280 4.1.2.5", "the certificate ends before it begins")
    if not certificate.issuer.rdns:
        yield violation("RFC 5280 4.1.2.4", "the issuer has no name")
    for one in certificate.extensions:
        if one.critical and not isinstance(one.value, _HANDLED):
            yield violation("RFC 5280 4.2", f"the critical extension {one.oid.dotted_string[:60]} is known to nobody")
        if one.critical and isinstance(one.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            yield violation("RFC 5280 4.2.1.1", "a key identifier is marked critical")
    yield from _strength(certificate)


def _strength(certificate: x509.Certificate) -> Iterator[Finding]:
    key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    if isinstance(algorithm, hashes.SHA1 | hashes.MD5):
        yield violation("SP 800-131A 9", f"the signature rests on {algorithm.name}")
    weak = (
        (isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048)
        or (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 256)
        or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    )
    if weak:
        yield violation("SP 800-57 5.6.1", "the public key is too weak, or of a kind that nobody uses")


Extensions = dict[type[x509.ExtensionType], x509.Extension[x509.ExtensionType]]


def _signs(extensions: Extensions) -> bool:
    basic, usage = extensions.get(x509.BasicConstraints), extensions.get(x509.KeyUsage)
    says_ca = basic is not None and isinstance(basic.value, x509.BasicConstraints) and basic.value.ca
    return says_ca or (usage is not None and isinstance(usage.value, x509.KeyUsage) and usage.value.key_cert_sign)


def _ids(certificate: x509.Certificate, *, leaf: bool) -> Iterator[Finding]:
    uris = uris_of(certificate)
    if len(uris) > 1:
        yield violation("X509-SVID 2", "there is more than one URI name")
    elif not uris and leaf:
        yield violation("X509-SVID 2", "there is no URI name")
    elif not uris:
        yield note("X509-SVID 3.2", "the signing certificate has no SPIFFE id")
    for uri in uris:
        match = SPIFFE_ID.match(uri)
        if not match or len(uri.encode()) > MAX_ID:
            yield violation("SPIFFE-ID 2", "a URI name is not a SPIFFE id")
        elif leaf and not match.group(2):
            yield violation("X509-SVID 3.1", "the leaf's SPIFFE id has no path")
        elif not leaf and match.group(2):
            yield violation("X509-SVID 3.2", "the signing certificate's SPIFFE id has a path")


def _usage(extensions: Extensions) -> tuple[x509.KeyUsage | None, list[Finding]]:
    held = extensions.get(x509.KeyUsage)
    if held is None or not isinstance(held.value, x509.KeyUsage):
        return None, [violation("X509-SVID 4.3", "there is no key usage")]
    return held.value, [] if held.critical else [violation("X509-SVID 4.3", "the key usage is not critical")]


def _leaf(certificate: x509.Certificate, extensions: Extensions) -> Iterator[Finding]:
    yield from _ids(certificate, leaf=True)
    names = extensions.get(x509.SubjectAlternativeName)
    if names is not None and not certificate.subject.rdns and not names.critical:
        yield violation("X509-SVID 3.1", "the subject is empty and the alternative name is not critical")
    usage, found = _usage(extensions)
    yield from found
    if usage is not None and not usage.digital_signature:
        yield violation("X509-SVID 4.3", "a leaf must have digitalSignature")
    if usage is not None and usage.crl_sign:
        yield violation("X509-SVID 4.3", "a leaf must not have cRLSign")
    purposes = extensions.get(x509.ExtendedKeyUsage)
    if purposes is None:
        yield note("X509-SVID 4.4", "there is no extended key usage")
    elif isinstance(purposes.value, x509.ExtendedKeyUsage) and not set(purposes.value) >= _BOTH:
        yield violation("X509-SVID 4.4", "the extended key usage lacks serverAuth or clientAuth")
    if x509.NameConstraints in extensions:
        yield violation("RFC 5280 4.2.1.10", "a leaf has name constraints")
    yield from _authority(certificate, extensions)


def _signing(certificate: x509.Certificate, extensions: Extensions) -> Iterator[Finding]:
    yield from _ids(certificate, leaf=False)
    basic = extensions.get(x509.BasicConstraints)
    if basic is None or not isinstance(basic.value, x509.BasicConstraints) or not basic.value.ca:
        yield violation("X509-SVID 4.1", "keyCertSign is set and cA is not")
    elif not basic.critical:
        yield violation("RFC 5280 4.2.1.9", "the basic constraints of a CA are not critical")
    usage, found = _usage(extensions)
    yield from found
    if usage is not None and not usage.key_cert_sign:
        yield violation("X509-SVID 4.3", "a signing certificate must have keyCertSign")
    if usage is not None and usage.digital_signature:
        yield note("X509-SVID A", "a signing certificate has digitalSignature, which is for leaves")
    if not certificate.subject.rdns:
        yield violation("RFC 5280 4.1.2.6", "a CA has no subject")
    if x509.SubjectKeyIdentifier not in extensions:
        yield violation("RFC 5280 4.2.1.2", "a CA has no subject key identifier")
    constraints = extensions.get(x509.NameConstraints)
    if constraints is not None and not constraints.critical:
        yield violation("RFC 5280 4.2.1.10", "name constraints are not critical")
    if certificate.subject != certificate.issuer:
        yield from _authority(certificate, extensions)


def _authority(certificate: x509.Certificate, extensions: Extensions) -> Iterator[Finding]:
    held = extensions.get(x509.AuthorityKeyIdentifier)
    if held is None or not isinstance(held.value, x509.AuthorityKeyIdentifier) or held.value.key_identifier is None:
        yield violation("RFC 5280 4.2.1.1", "there is no authority key identifier")


def _path(certificates: Sequence[x509.Certificate], now: UnixMillis) -> Iterator[tuple[int, Finding]]:
    for number, one in enumerate(certificates):
        if not one.not_valid_before_utc <= instant(now) <= one.not_valid_after_utc:
            yield number, violation("RFC 5280 6.1.3", "it is not valid at this time")
    for number, (below, above) in enumerate(itertools.pairwise(certificates)):
        if below.issuer != above.subject:
            yield (
                number,
                note("RFC 8446 4.4.2", "the certificate after it is not its issuer's: nobody checked its signature, nor what follows"),
            )
            return
        try:
            below.verify_directly_issued_by(above)
        except Exception:  # a wrong signature, another kind of key, an unknown algorithm
            yield number, violation("RFC 5280 6.1.3", "its issuer's key did not sign it")
        yield from ((number, one) for one in _identifiers(below, above))
        yield from ((number + 1, one) for one in _issuer(above, number, certificates))


def _identifiers(below: x509.Certificate, above: x509.Certificate) -> Iterator[Finding]:
    named = [one.value.key_identifier for one in below.extensions if isinstance(one.value, x509.AuthorityKeyIdentifier)]
    held = [one.value.key_identifier for one in above.extensions if isinstance(one.value, x509.SubjectKeyIdentifier)]
    if named and held and named != held:
        yield violation("RFC 5280 4.2.1.1", "it names another key as its issuer's")


def _issuer(above: x509.Certificate, below_it: int, certificates: Sequence[x509.Certificate]) -> Iterator[Finding]:
    values = {type(one.value): one.value for one in above.extensions}
    basic, usage = values.get(x509.BasicConstraints), values.get(x509.KeyUsage)
    if not isinstance(basic, x509.BasicConstraints) or not basic.ca:
        yield violation("RFC 5280 6.1.4", "it issued a certificate and is no CA")
    elif basic.path_length is not None and _counted(certificates[1 : below_it + 1]) > basic.path_length:
        yield violation("RFC 5280 4.2.1.9", "more CAs stand below it than its path length allows")
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        yield violation("RFC 5280 6.1.4", "it issued a certificate without keyCertSign")
    constraints = values.get(x509.NameConstraints)
    if isinstance(constraints, x509.NameConstraints):
        for one in certificates[: below_it + 1]:
            if any(not _permitted(uri, constraints) for uri in uris_of(one)):
                yield violation("RFC 5280 4.2.1.10", "its name constraints forbid a SPIFFE id below it")


def _counted(between: Sequence[x509.Certificate]) -> int:
    """Self-issued certificates do not count (RFC 5280, section 4.2.1.9)."""
    return sum(1 for one in between if one.subject != one.issuer)


def _permitted(uri: str, constraints: x509.NameConstraints) -> bool:
    host = uri.partition("://")[2].partition("/")[0]

    def within(name: x509.GeneralName) -> bool:
        wanted = str(name.value).lower()
        return host.endswith(wanted) if wanted.startswith(".") else host == wanted

    permitted = [name for name in constraints.permitted_subtrees or () if isinstance(name, x509.UniformResourceIdentifier)]
    excluded = [name for name in constraints.excluded_subtrees or () if isinstance(name, x509.UniformResourceIdentifier)]
    return not any(within(name) for name in excluded) and (not permitted or any(within(name) for name in permitted))
