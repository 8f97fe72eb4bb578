"""Certificate revocation lists: for whoever reads X.509 and does not hear the control plane (RFC 5280, section 5).

Rules
1. One list an issuer, signed by that issuer's own key: it is no indirect list, so a reader looks at the list of the leaf's issuer.
2. It has a number that rises (section 5.2.3), the issuer's key id (5.2.1), and a next update that is near: a reader that is cut off from
   fresh lists learns soon that it knows nothing.
3. Serial numbers are given once each; reasons are left out (5.3.1: absent rather than `unspecified`).
Left to others: which serials are revoked, and which issuers still have live leaves.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.identity.ca import instant
from vouchgate.identity.x509svid import MAX_SERIAL
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded
from vouchgate.vocabulary.vouches import UnixMillis

MAX_SERIALS = 10_000
"""Entries of one list: 40 bytes each, so that a list stays below 400 KB in every answer of the Workload API."""
MAX_NUMBER = 2**63 - 1
"""A list's number has 20 bytes at most (section 5.2.3); ours is an epoch."""
NEXT_UPDATE_SECONDS = 3_600
"""Seconds until the next list is due."""

_SERIAL = re.compile(r"(?!00)(?:[0-9a-f]{2}){1,20}\Z")


def serial_number(text: str) -> int:
    """A serial in whole bytes of lower-case hexadecimal, as `x509svid.serial_text` writes it. Raises `InvalidInput`."""
    number = int(text, 16) if _SERIAL.match(text) else 0
    if not 0 < number < MAX_SERIAL:
        raise InvalidInput(
            f"`{text[:60]}` is not a serial number", remedy="write it in lower-case hexadecimal, as `identity list` shows it"
        )
    return number


def make_crl(serials: Sequence[str], *, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, number: int, now: UnixMillis) -> bytes:
    """DER of the issuer's list. Raises `InvalidInput`, `LimitExceeded`."""
    if len(serials) > MAX_SERIALS:
        raise LimitExceeded(f"{len(serials)} revoked certificates are over the bound of {MAX_SERIALS}", remedy="let old ones expire")
    if not 0 < number <= MAX_NUMBER:
        raise InvalidInput(f"`{number}` is not a list's number", remedy="count up from 1")
    at = instant(now)
    authority = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    entry = x509.RevokedCertificateBuilder().revocation_date(at)
    listed = [entry.serial_number(serial).build() for serial in sorted({serial_number(text) for text in serials})]
    # all at once: a builder that is given one after the other copies its list each time
    builder = (
        x509.CertificateRevocationListBuilder(issuer_name=issuer.subject, revoked_certificates=listed)
        .last_update(at)
        .next_update(at + datetime.timedelta(seconds=NEXT_UPDATE_SECONDS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
