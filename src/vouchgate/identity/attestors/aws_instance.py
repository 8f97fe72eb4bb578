"""An EC2 instance, by its instance identity document and the RSA-2048 signature over it.

The tests' recordings have the provider's published form and keys of their own; none was made by the provider itself.

Rules
1. The signature (`/dynamic/instance-identity/rsa2048`) is CMS with RSA and SHA-256 or better, by a certificate that AWS publishes for the
   region and that the source lists (signed_documents.py). The older `pkcs7` (DSA) and `signature` answers are not read.
2. The document is what was signed. Where it is handed over beside the signature too, it must be the same, byte for byte.
3. A document has no end and no nonce: any process of the instance, or whoever tricks one into fetching it, can show it. So it counts once for
   a start of the instance, and only for `max_age_seconds` (default `MAX_AGE_SECONDS`) after `pendingTime`.
4. Every field of the document is required, optional or ignored by name; null is absent.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping
from typing import Any

from cryptography import x509

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.ca import instant
from vouchgate.identity.signed_documents import holds, read_signed
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(required={"rsa2048": "document"}, optional={"document": "document"})
_DOCUMENT = Fields(
    required={"accountId": "text", "region": "text", "instanceId": "text", "imageId": "text", "instanceType": "text",
              "availabilityZone": "text", "pendingTime": "text"},
    # Addresses change, and products are a matter of billing.
    ignored=("privateIp", "version", "architecture", "kernelId", "ramdiskId", "billingProducts", "marketplaceProductCodes",
             "devpayProductCodes"),
)  # fmt: skip
MAX_AGE_SECONDS = 900
"""Seconds after its start in which an instance attests itself: booting and installing fit in, a document found in an old log does not."""
SKEW_MS = 60_000
"""Milliseconds by which a start may lie in the future."""
MAX_DOCUMENT = 16_384
"""Bytes of a document; a real one has about 500."""


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    content = _signed(given, trust, now)
    if isinstance(content, Denied):
        return content
    try:
        said = {
            name: value for name, value in parse_object(content, limit=MAX_DOCUMENT, what="identity document").items() if value is not None
        }
        _DOCUMENT.check(said, what="identity document")
        started = _millis(said["pendingTime"])
    except InvalidInput as error:
        return _no("aws-document", error.reason)
    until = started + (trust.max_age_seconds or MAX_AGE_SECONDS) * 1000
    if not started - SKEW_MS <= now < until:  # 3
        return _no("aws-age", "the instance was not started a moment ago")
    found = selectors(prefix(trust, "aws"), {
        "account": said["accountId"], "region": said["region"], "instance": said["instanceId"], "image": said["imageId"],
        "type": said["instanceType"], "zone": said["availabilityZone"],
    })  # fmt: skip
    once = f"{said['accountId']}:{said['region']}:{said['instanceId']}:{started}"
    return Attested(selectors=found, replay_key=once, expires_at=UnixMillis(until))


def _signed(given: Mapping[str, Any], trust: Trust, now: UnixMillis) -> bytes | Denied:
    """Rules 1 and 2."""
    try:
        parsed = read_signed(base64.b64decode("".join(given["rsa2048"].split()), validate=True))
    except (ValueError, binascii.Error, InvalidInput):
        return _no("aws-signature", "the signature is not one signed document in base64")
    beside = given["document"].encode() if "document" in given else None
    content = parsed.content if parsed.content is not None else beside
    if content is None or (beside is not None and beside != content):
        return _no("aws-signature", "there is no document, or it is not the one that was signed")
    signers = [one for one in map(_certificate, trust.authorities) if one.not_valid_before_utc <= instant(now) < one.not_valid_after_utc]
    if holds(parsed, content, signers) is None:
        return _no("aws-signature", "no recorded AWS certificate made the signature")
    return content


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        raise InvalidInput("a recorded AWS certificate cannot be read", remedy="record the certificate of the region again") from None


def _millis(text: str) -> int:
    try:
        return int(datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC).timestamp()) * 1000
    except ValueError:
        raise InvalidInput("`pendingTime` is not a time", remedy="send the document unchanged") from None


def _no(code: str, reason: str) -> Denied:
    return Denied(code=code, reason=reason, remedy="send `/latest/dynamic/instance-identity/rsa2048` right after the instance was started")


ATTESTOR = Attestor(name="aws-instance", version=1, kind="presented", fields=_FIELDS, establish=_establish)
