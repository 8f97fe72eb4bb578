"""Sigstore's `trusted_root.json` (protobuf-specs, sigstore_trustroot.proto): whose certificates, logs and timestamps count, as the verifier pinned them.

Rules
1. The document comes from the verifier, never from what is verified. Nothing is fetched, and nothing is added from the system.
2. A log's id, its key and the time for which it counts belong together; two logs of one id are refused.
3. A key of a kind that is not known is left out: what it signed is then of an unknown log, and is refused.
4. An authority's certificates stand from the lowest to the root. Its window and theirs both hold.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from vouchgate.evidence.strict_documents import member, only, parse, unb64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis

MEDIA_TYPES = frozenset(
    {
        "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "application/vnd.dev.sigstore.trustedroot.v0.2+json",
    }
)
MAX_ROOT_BYTES = 4 * 1024 * 1024
"""Bytes of the document; the public one has about 8 KiB."""
MAX_PARTS = 256
"""Logs or authorities of one kind; the public one has four."""
MAX_CHAIN = 8
"""Certificates of one authority."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z")
_REMEDY = "name the trusted_root.json of the Sigstore instance that you mean, as its operator published it"
_EC: dict[str, hashes.HashAlgorithm] = {
    "PKIX_ECDSA_P256_SHA_256": hashes.SHA256(),
    "PKIX_ECDSA_P384_SHA_384": hashes.SHA384(),
    "PKIX_ECDSA_P521_SHA_512": hashes.SHA512(),
}
_RSA = frozenset({"PKCS1_RSA_PKCS1V5", "PKIX_RSA_PKCS1V15_2048_SHA256", "PKIX_RSA_PKCS1V15_3072_SHA256", "PKIX_RSA_PKCS1V15_4096_SHA256"})
Holds = Callable[[bytes, bytes], bool]
"""Whether a signature over data is this key's."""


@dataclass(frozen=True)
class Window:
    """From `start`, up to and with `end`, where there is one."""

    start: UnixMillis
    end: UnixMillis | None = None

    def holds(self, at: UnixMillis) -> bool:
        """Whether a time lies in it."""
        return self.start <= at and (self.end is None or at <= self.end)


@dataclass(frozen=True)
class Log:
    """A transparency log: of certificates, or of signatures."""

    id: bytes
    holds: Holds
    window: Window
    address: str


@dataclass(frozen=True)
class Authority:
    """Who issues signers' certificates, or timestamps."""

    certificates: tuple[x509.Certificate, ...]
    """From the lowest to the root; of a timestamp authority, its own first."""
    window: Window


@dataclass(frozen=True)
class TrustedRoot:
    """The pinned root."""

    digest: str
    """SHA-256 of the document, so that what rests on it can be found."""
    issuers: tuple[Authority, ...]
    certificate_logs: Mapping[bytes, Log]
    signature_logs: Mapping[bytes, Log]
    timestampers: tuple[Authority, ...]


def read_trusted_root(data: bytes) -> TrustedRoot:
    """The document. Raises `InvalidInput`."""
    what = "trusted root"
    whole = parse(data, limit=MAX_ROOT_BYTES, what=what)
    only(whole, {"mediaType", "tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"}, what)
    if member(whole, "mediaType", str, what) not in MEDIA_TYPES:
        raise InvalidInput(f"`{whole['mediaType'][:80]}` is not a Sigstore trusted root that is known", remedy=_REMEDY)
    root = TrustedRoot(
        digest=hashlib.sha256(data).hexdigest(),
        issuers=tuple(_authority(one) for one in _many(whole, "certificateAuthorities")),
        certificate_logs=_logs(_many(whole, "ctlogs")),
        signature_logs=_logs(_many(whole, "tlogs")),
        timestampers=tuple(_authority(one) for one in _many(whole, "timestampAuthorities")),
    )
    if not (root.issuers and root.signature_logs):
        raise InvalidInput("the trusted root names no certificate authority, or no log", remedy=_REMEDY)
    return root


def _many(whole: dict[str, Any], name: str) -> list[Any]:
    found = whole.get(name) or []
    if not isinstance(found, list) or len(found) > MAX_PARTS:
        raise InvalidInput(f"the trusted root's `{name}` is no list, or has more than {MAX_PARTS} members", remedy=_REMEDY)
    return found


def _logs(wires: list[Any]) -> dict[bytes, Log]:
    """Rules 2 and 3."""
    found: dict[bytes, Log] = {}
    seen = set()
    for wire in wires:
        what = "trusted root's log"
        key, identity = member(wire, "publicKey", dict, what), member(wire, "logId", dict, what)
        only(wire, {"baseUrl", "hashAlgorithm", "publicKey", "logId", "checkpointKeyId", "operator"}, what)
        number = unb64(member(identity, "keyId", str, what), what)
        if number in seen or wire.get("hashAlgorithm") != "SHA2_256":
            raise InvalidInput("the trusted root has two logs of one id, or one that does not hash with SHA-256", remedy=_REMEDY)
        seen.add(number)
        holds = _key(unb64(member(key, "rawBytes", str, what), what), member(key, "keyDetails", str, what))
        if holds:
            found[number] = Log(number, holds, _window(key.get("validFor")), str(wire.get("baseUrl", ""))[:200])
    return found


def _key(raw: bytes, details: str) -> Holds | None:
    if details not in _EC and details not in _RSA and details != "PKIX_ED25519":
        return None
    try:
        key = load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput("the trusted root has a key that cannot be read", remedy=_REMEDY) from None
    if isinstance(key, ec.EllipticCurvePublicKey) and details in _EC:
        return _checked(lambda signature, data: key.verify(signature, data, ec.ECDSA(_EC[details])))
    if isinstance(key, ed25519.Ed25519PublicKey) and details == "PKIX_ED25519":
        return _checked(key.verify)
    if isinstance(key, rsa.RSAPublicKey) and details in _RSA and key.key_size >= 2048:
        return _checked(lambda signature, data: key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256()))
    raise InvalidInput("the trusted root has a key of another kind than it says", remedy=_REMEDY)


def _checked(verify: Callable[[bytes, bytes], None]) -> Holds:
    def holds(signature: bytes, data: bytes) -> bool:
        try:
            verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return holds


def _authority(wire: Any) -> Authority:
    """Rule 4."""
    what = "trusted root's authority"
    chain = member(wire, "certChain", dict, what)
    only(wire, {"subject", "uri", "certChain", "validFor", "operator"}, what)
    wires = member(chain, "certificates", list, what)
    if not 1 <= len(wires) <= MAX_CHAIN:
        raise InvalidInput(f"an authority of the trusted root has no certificate, or more than {MAX_CHAIN}", remedy=_REMEDY)
    try:
        found = tuple(x509.load_der_x509_certificate(unb64(member(one, "rawBytes", str, what), what)) for one in wires)
    except (ValueError, x509.InvalidVersion):
        raise InvalidInput("the trusted root has a certificate that cannot be read", remedy=_REMEDY) from None
    return Authority(found, _window(wire.get("validFor")))


def _window(wire: Any) -> Window:
    what = "trusted root's time"
    start = _time(member(wire, "start", str, what))
    return Window(start, _time(member(wire, "end", str, what)) if wire.get("end") is not None else None)


def _time(text: str) -> UnixMillis:
    try:
        if not _TIME.match(text):
            raise ValueError(text)
        at = datetime.datetime.fromisoformat(text[:19] + "+00:00")
    except ValueError:
        raise InvalidInput(f"`{text[:40]}` in the trusted root is not a time", remedy=_REMEDY) from None
    fraction = text[20:-1] if text[19] == "." else ""
    return UnixMillis(int(at.timestamp()) * 1000 + int(fraction[:3].ljust(3, "0")))
