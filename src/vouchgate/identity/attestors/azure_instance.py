"""An Azure virtual machine, by its attested document.

The tests' recordings have the provider's published form and keys of their own; none was made by the provider itself.
The document was chosen over the managed identity's token, because it holds our nonce and names the machine; that token is an ordinary
OIDC token, and is read by the attestor `oidc`.

Rules
1. The document (`/metadata/attested/document?nonce=...`) is CMS, signed by a certificate for `metadata.azure.com` or a name below it (`host`
   for other clouds) under a recorded CA (foreign_certificates.py, signed_documents.py). The document holds the leaf alone, so the issuing CAs are recorded.
2. It holds the nonce of this attempt, and counts between `createdOn` and `expiresOn`.
3. Every field is required, optional or ignored by name.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.foreign_certificates import names, verify_path
from vouchgate.identity.signed_documents import SignedDocument, holds, read_signed
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

HOST = "metadata.azure.com"
"""The public cloud's name."""
_FIELDS = Fields(required={"signature": "document", "encoding": "text"})
_DOCUMENT = Fields(
    required={"nonce": "text", "vmId": "text", "subscriptionId": "text"},
    optional={"sku": "text"},
    ignored=("licenseType", "plan", "timeStamp"),
)
_PLAN = Fields(optional={"name": "text", "product": "text", "publisher": "text"})
_STAMP = Fields(required={"createdOn": "text", "expiresOn": "text"})
MAX_DOCUMENT = 16_384
"""Bytes of a document; a real one has about 400."""
SKEW_MS = 60_000
"""Milliseconds by which `createdOn` may lie in the future."""


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    try:
        parsed = read_signed(base64.b64decode("".join(given["signature"].split()), validate=True))
    except (ValueError, binascii.Error, InvalidInput):
        return _no("azure-signature", "the signature is not one signed document in base64")
    if given["encoding"] != "pkcs7" or parsed.content is None:
        return _no("azure-signature", "the document is not of encoding `pkcs7`, or is not in its signature")
    why = _signer_fault(parsed, parsed.content, trust, now)
    if why is not None:
        return why
    try:
        said, begins, ends = _document(parsed.content)
    except InvalidInput as error:
        return _no("azure-document", error.reason)
    if said["nonce"] != nonce or not begins - SKEW_MS <= now < ends:  # 2
        return _no("azure-stale", "the document was made for another attempt, or is not valid now")
    plan = {f"plan_{name}": value or None for name, value in said.get("plan", {}).items()}
    facts = {"subscription": said["subscriptionId"], "vm": said["vmId"], "sku": said.get("sku"), **plan}
    return Attested(selectors=selectors(prefix(trust, "azure"), facts), replay_key=f"{said['vmId']}:{nonce}", expires_at=UnixMillis(ends))


def _signer_fault(parsed: SignedDocument, content: bytes, trust: Trust, now: UnixMillis) -> Denied | None:
    """Rule 1. The signer's certificate comes with the document, and counts because of its path and its name."""
    for der in parsed.embedded:
        path = verify_path([der, *parsed.embedded[:4]], trust.authorities, now)
        if isinstance(path, Denied) or holds(parsed, content, [path.leaf]) is None:
            continue
        host = trust.host or HOST
        if any(name == host or name.endswith(f".{host}") for name in names(path.leaf).get("san:dns", [])):
            return None
        return _no("azure-signature", f"the signer's certificate is not for `{host}`")
    return _no("azure-signature", "no certificate under a recorded CA made the signature")


def _document(content: bytes) -> tuple[dict[str, Any], int, int]:
    said = parse_object(content, limit=MAX_DOCUMENT, what="attested document")
    _DOCUMENT.check(said, what="attested document")
    stamp, plan = said.get("timeStamp"), said.get("plan", {})
    if not isinstance(stamp, dict) or not isinstance(plan, dict):
        raise InvalidInput("the attested document has no `timeStamp`", remedy="send the document unchanged")
    _STAMP.check(stamp, what="attested document's timeStamp")
    _PLAN.check(plan, what="attested document's plan")
    return said, _millis(stamp["createdOn"]), _millis(stamp["expiresOn"])


def _millis(text: str) -> int:
    try:
        return int(datetime.datetime.strptime(text, "%m/%d/%y %H:%M:%S %z").timestamp()) * 1000
    except ValueError:
        raise InvalidInput("a time of the attested document cannot be read", remedy="send the document unchanged") from None


def _no(code: str, reason: str) -> Denied:
    return Denied(code=code, reason=reason, remedy="ask the metadata service for an attested document with the server's nonce")


ATTESTOR = Attestor(name="azure-instance", version=1, kind="presented", nonce="digits", fields=_FIELDS, establish=_establish)
