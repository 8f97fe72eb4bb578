"""Sigstore bundles, media types 0.1 to 0.3 (protobuf-specs, sigstore_bundle.proto), and what they consist of; read, and not believed.

Rules
1. One certificate of who signed, one entry of a log, one signature: over a DSSE payload or over a digest. A bundle with a bare key, or with several
   of these, is refused. Of the chain of versions 0.1 and 0.2 only the first certificate counts: those above it come from the pinned root.
2. An entry has its inclusion proof with a checkpoint, also where 0.1 lets it go without.
3. Unknown members are refused; what protobuf's JSON writes as `null` is absent. Base64 is canonical; numbers are decimal, in text or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vouchgate.evidence.strict_documents import member, only, parse, unb64
from vouchgate.vocabulary.errors import InvalidInput

MEDIA_TYPE_03 = "application/vnd.dev.sigstore.bundle.v0.3+json"
_CHAINED = frozenset({"application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2"})
_SINGLE = frozenset({"application/vnd.dev.sigstore.bundle+json;version=0.3", MEDIA_TYPE_03})
MAX_BUNDLE_BYTES = 512 * 1024 * 1024
"""Bytes of a bundle: a model of 1,000,000 files with long names."""
MAX_CERTIFICATE_BYTES = 65_536
MAX_CERTIFICATES = 8
MAX_BODY_BYTES = 1_048_576
"""Bytes of a log entry: its digests, a signature and a certificate."""
MAX_CHECKPOINT_BYTES = 65_536
MAX_HASHES = 64
"""Hashes of an inclusion proof: a log of 2^64 entries."""
MAX_TIMESTAMPS = 8
MAX_TIMESTAMP_BYTES = 65_536
_LARGEST = 2**63 - 1
_REMEDY = "ask the signer for the bundle as Sigstore's client wrote it"


@dataclass(frozen=True)
class Proof:
    """That an entry is in a log (RFC 6962, section 2.1.1)."""

    index: int
    root: bytes
    size: int
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True)
class Entry:
    """What a log says that it holds."""

    index: int
    """In all of the log's shards."""
    log_id: bytes
    kind: str
    """Kind and version, for example `dsse 0.0.1`."""
    body: bytes
    proof: Proof
    integrated_at: int = 0
    """Seconds since 1970; counts only under the promise."""
    promise: bytes = b""
    """Signed entry timestamp."""


@dataclass(frozen=True)
class Payload:
    """A DSSE envelope."""

    kind: str
    payload: bytes


@dataclass(frozen=True)
class Message:
    """A signature over a file."""

    digest: bytes
    """SHA-256 as the bundle says it; empty where it says nothing."""


@dataclass(frozen=True)
class SigstoreBundle:
    """A bundle that nobody has believed yet."""

    certificate: bytes
    """DER."""
    content: Payload | Message
    signature: bytes
    entry: Entry
    timestamps: tuple[bytes, ...] = ()
    """RFC 3161 responses."""


def read_sigstore_bundle(data: bytes) -> SigstoreBundle:
    """Rules 1 to 3. Raises `InvalidInput`."""
    what = "bundle"
    whole = parse(data, limit=MAX_BUNDLE_BYTES, what=what)
    only(whole, {"mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature"}, what)
    material = member(whole, "verificationMaterial", dict, what)
    only(material, {"certificate", "x509CertificateChain", "publicKey", "tlogEntries", "timestampVerificationData"}, what)
    certificate = _certificate(member(whole, "mediaType", str, what), material)
    entries = member(material, "tlogEntries", list, what)
    if len(entries) != 1:
        raise InvalidInput(f"the bundle has {len(entries)} entries of a log, not one", remedy=_REMEDY)
    content, signature = _content(whole)
    return SigstoreBundle(
        certificate=certificate,
        content=content,
        signature=signature,
        entry=read_entry(entries[0]),
        timestamps=_timestamps(material),
    )


def read_entry(wire: Any) -> Entry:
    """One entry (sigstore_rekor.proto, TransparencyLogEntry). Raises `InvalidInput`."""
    what = "log entry"
    identity, kind = member(wire, "logId", dict, what), member(wire, "kindVersion", dict, what)
    only(
        wire,
        {"logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody"},
        what,
    )
    promise = _maybe(wire, "inclusionPromise", what)
    body = _bounded(member(wire, "canonicalizedBody", str, what), MAX_BODY_BYTES, what)
    return Entry(
        index=_number(wire.get("logIndex", 0), what),
        log_id=unb64(member(identity, "keyId", str, what), what),
        kind=f"{member(kind, 'kind', str, what)} {member(kind, 'version', str, what)}"[:80],
        body=body,
        proof=_proof(member(wire, "inclusionProof", dict, what)),
        integrated_at=_number(wire.get("integratedTime") or 0, what),
        promise=unb64(member(promise, "signedEntryTimestamp", str, what), what) if promise else b"",
    )


def _proof(wire: dict[str, Any]) -> Proof:
    what = "inclusion proof"
    only(wire, {"logIndex", "rootHash", "treeSize", "hashes", "checkpoint"}, what)
    hashes = wire.get("hashes") or []
    checkpoint = member(member(wire, "checkpoint", dict, what), "envelope", str, what)
    if not isinstance(hashes, list) or len(hashes) > MAX_HASHES or len(checkpoint) > MAX_CHECKPOINT_BYTES:
        raise InvalidInput("the inclusion proof is too long", remedy=_REMEDY)
    if not all(isinstance(one, str) for one in hashes):
        raise InvalidInput("the inclusion proof's hashes are no texts", remedy=_REMEDY)
    return Proof(
        index=_number(wire.get("logIndex", 0), what),
        root=unb64(member(wire, "rootHash", str, what), what),
        size=_number(wire.get("treeSize", 0), what),
        hashes=tuple(unb64(one, what) for one in hashes),
        checkpoint=checkpoint,
    )


def _certificate(media_type: str, material: dict[str, Any]) -> bytes:
    """Rule 1."""
    what = "bundle"
    single, chain = _maybe(material, "certificate", what), _maybe(material, "x509CertificateChain", what)
    if _maybe(material, "publicKey", what):
        raise InvalidInput("the bundle is signed with a bare key: nothing in it says who that is", remedy="verify it with that public key")
    if bool(single) == bool(chain) or media_type not in (_SINGLE if single else _CHAINED):
        raise InvalidInput(f"the bundle is `{media_type[:80]}`, whose certificate stands elsewhere", remedy=_REMEDY)
    if single:
        only(single, {"rawBytes"}, what)
        return _bounded(member(single, "rawBytes", str, what), MAX_CERTIFICATE_BYTES, what)
    certificates = member(chain, "certificates", list, what)
    if not 1 <= len(certificates) <= MAX_CERTIFICATES:
        raise InvalidInput(f"the bundle has no certificate, or more than {MAX_CERTIFICATES}", remedy=_REMEDY)
    pool = [_bounded(member(one, "rawBytes", str, what), MAX_CERTIFICATE_BYTES, what) for one in certificates]
    return pool[0]


def _content(whole: dict[str, Any]) -> tuple[Payload | Message, bytes]:
    what = "bundle"
    envelope, message = _maybe(whole, "dsseEnvelope", what), _maybe(whole, "messageSignature", what)
    if bool(envelope) == bool(message):
        raise InvalidInput("the bundle does not hold one signature, over a payload or over a file", remedy=_REMEDY)
    if envelope:
        only(envelope, {"payload", "payloadType", "signatures"}, what)
        signatures = member(envelope, "signatures", list, what)
        if len(signatures) != 1:
            raise InvalidInput(f"the bundle's payload has {len(signatures)} signatures, not one", remedy=_REMEDY)
        signature = unb64(member(signatures[0], "sig", str, what), what)
        only(signatures[0], {"sig", "keyid"}, what)
        return Payload(member(envelope, "payloadType", str, what), unb64(member(envelope, "payload", str, what), what)), signature
    only(message, {"messageDigest", "signature"}, what)
    stated = _maybe(message, "messageDigest", what)
    if stated and member(stated, "algorithm", str, what) != "SHA2_256":
        raise InvalidInput("the file was not hashed with SHA-256", remedy=_REMEDY)
    digest = unb64(member(stated, "digest", str, what), what) if stated else b""
    return Message(digest), unb64(member(message, "signature", str, what), what)


def _timestamps(material: dict[str, Any]) -> tuple[bytes, ...]:
    what = "timestamp"
    found = _maybe(material, "timestampVerificationData", what)
    only(found, {"rfc3161Timestamps"}, what)
    wires = found.get("rfc3161Timestamps") or []
    if not isinstance(wires, list) or len(wires) > MAX_TIMESTAMPS:
        raise InvalidInput(f"the bundle has more than {MAX_TIMESTAMPS} timestamps", remedy=_REMEDY)
    raw = tuple(_bounded(member(one, "signedTimestamp", str, what), MAX_TIMESTAMP_BYTES, what) for one in wires)
    if len(set(raw)) != len(raw):
        raise InvalidInput("the bundle has the same timestamp twice", remedy=_REMEDY)
    return raw


def _maybe(value: Any, name: str, what: str) -> dict[str, Any]:
    """An object, or an empty one where it is absent."""
    found = value.get(name)
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(f"the {what}'s `{name}` is no object", remedy=_REMEDY)
    return found or {}


def _bounded(text: str, limit: int, what: str) -> bytes:
    raw = unb64(text, what)
    if not 1 <= len(raw) <= limit:
        raise InvalidInput(f"a part of the {what} has {len(raw)} bytes, the bound is {limit}", remedy=_REMEDY)
    return raw


def _number(value: Any, what: str) -> int:
    """Rule 3: 0 to 2^63 - 1."""
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and (text == "0" or text[0] != "0") and int(text) <= _LARGEST):
        raise InvalidInput(f"the {what} has a number that is none", remedy=_REMEDY)
    return int(text)
