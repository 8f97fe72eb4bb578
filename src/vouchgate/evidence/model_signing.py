"""OpenSSF Model Signing v1: a signed list of a model's files with their digests, in a Sigstore bundle (model-transparency, "Model Signing Format").

Rules
1. A bundle is of media type v0.3, holds one DSSE envelope with exactly one signature, and one kind of proof of who signed: a key's hint, a certificate
   chain, or a Sigstore certificate. Members that are not known are refused.
2. The payload is an in-toto Statement v1 with predicate `https://model_signing/signature/v1.0` and one subject, whose SHA-256 is over the resources'
   digests as they stand. Further members of the predicate are no part of v1.0: they are ignored and told.
3. Digests are SHA-256. A resource's name stays inside the model, stands once, and shards of a file follow each other from its first byte.
4. What a bundle says it ignored is no permission: every file of the model is in the list, or it is told as not covered. Symbolic links are not followed.
5. The signature is ECDSA over the DSSE pre-authentication encoding, with the digest that belongs to the curve; nothing else is tried.
Left to others: certificates (signing_certificates.py), reading files (flows/measure.py).
A signature is evidence of who listed these bytes. It is no verdict on what they do.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vouchgate.evidence.dsse import PAYLOAD_TYPE, pae
from vouchgate.evidence.merkle import MAX_CHUNK_BYTES, Manifest, is_relative
from vouchgate.evidence.statement import STATEMENT_TYPE
from vouchgate.evidence.strict_documents import member, only, parse, unb64
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.wire import encode

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_BUNDLE_BYTES = 512 * 1024 * 1024
"""Bytes of a bundle: 1,000,000 files with long names."""
MAX_CERTIFICATES = 8
"""Certificates of one chain."""
MIN_SHARD_BYTES = 4096
"""Bytes of a shard; smaller ones would cost more digests than content."""
ALONE = "."
"""The resource name of a model that is one file."""
_CURVES: dict[str, hashes.HashAlgorithm] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_SHARD = re.compile(r"(.+):(0|[1-9][0-9]{0,17}):([1-9][0-9]{0,17})\Z", re.DOTALL)
_REMEDY = "ask the signer for a signature by OpenSSF Model Signing v1.0 with SHA-256"


@dataclass(frozen=True)
class Bundle:
    """A bundle that nobody has believed yet."""

    payload: bytes
    signature: bytes
    hint: str = ""
    """SHA-256 of the signer's PEM public key."""
    certificates: tuple[bytes, ...] = ()
    """DER, the signer's first."""
    sigstore: bool = False
    """Its one certificate is Sigstore's, and counts only with the log's proof (sigstore/verify.py)."""
    raw: bytes = b""
    """The whole bundle, where it is Sigstore's."""


@dataclass(frozen=True)
class Listed:
    """What was signed: files or shards with their digests."""

    name: str
    """The model's name; says nothing."""
    root: str
    """SHA-256 over the digests."""
    shard_bytes: int
    """0 where whole files were hashed."""
    digests: dict[str, tuple[str, ...]]
    """Path (empty for a model of one file) -> SHA-256 of each shard, or of the whole file."""
    sizes: dict[str, int]
    """Path -> end of the last shard."""
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What else the predicate says, by name."""


def write_listing(name: str, manifest: Manifest, ignored: Iterable[str] = ()) -> bytes:
    """The statement over a measured model. Resources stand in the order of their paths' steps, as the reference implementation sorts them."""
    files = sorted(manifest.files, key=lambda one: one.path.split("/"))
    resources = [{"name": one.path or ALONE, "algorithm": "sha256", "digest": one.sha256} for one in files]
    serialization: dict[str, Any] = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    left = sorted(ignored)
    root = hashlib.sha256(b"".join(bytes.fromhex(one.sha256) for one in files)).hexdigest()
    return encode(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": root}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {"serialization": serialization | ({"ignore_paths": left} if left else {}), "resources": resources},
        }
    )


def sign_listing(payload: bytes, key: ec.EllipticCurvePrivateKey, certificates: tuple[bytes, ...] = ()) -> bytes:
    """The bundle. `certificates` (DER) are the signer's own and those above it; without any, verifiers need the public key."""
    digest = _digest_of(key.public_key())
    signature = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(digest))
    chain = {"x509CertificateChain": {"certificates": [{"rawBytes": _b64(one)} for one in certificates]}}
    material = chain if certificates else {"publicKey": {"hint": hint_of(key.public_key())}}
    envelope = {"payload": _b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": _b64(signature), "keyid": ""}]}
    return encode({"mediaType": MEDIA_TYPE, "verificationMaterial": material | {"tlogEntries": []}, "dsseEnvelope": envelope})


def read_bundle(data: bytes) -> Bundle:
    """Rule 1. Raises `InvalidInput`."""
    what = "bundle"
    whole = parse(data, limit=MAX_BUNDLE_BYTES, what=what)
    only(whole, {"mediaType", "verificationMaterial", "dsseEnvelope"}, what)
    if member(whole, "mediaType", str, what) != MEDIA_TYPE:
        raise InvalidInput(f"the bundle is `{whole['mediaType'][:80]}`, not {MEDIA_TYPE}", remedy=_REMEDY)
    envelope = member(whole, "dsseEnvelope", dict, what)
    only(envelope, {"payload", "payloadType", "signatures"}, what)
    signatures = member(envelope, "signatures", list, what)
    if member(envelope, "payloadType", str, what) != PAYLOAD_TYPE or len(signatures) != 1:
        raise InvalidInput("the bundle does not hold one in-toto payload with exactly one signature", remedy=_REMEDY)
    payload = unb64(member(envelope, "payload", str, what), what)
    signature = unb64(member(signatures[0], "sig", str, what), what)
    only(signatures[0], {"sig", "keyid"}, what)
    return _with_material(payload, signature, member(whole, "verificationMaterial", dict, what), data)


def verify_key(bundle: Bundle, key: ec.EllipticCurvePublicKey) -> None:
    """Rule 5. Raises `Unverified`."""
    if bundle.certificates:
        raise Unverified("the bundle was signed with a certificate, not with a bare key", remedy="verify it with --certificate ROOTS")
    if bundle.hint and bundle.hint != hint_of(key):
        raise Unverified("the bundle was signed with another key", remedy="name the public key of who signed it")
    check_signature(bundle, key)


def check_signature(bundle: Bundle, key: ec.EllipticCurvePublicKey) -> None:
    """Rule 5. Raises `Unverified`."""
    try:
        key.verify(bundle.signature, pae(PAYLOAD_TYPE, bundle.payload), ec.ECDSA(_digest_of(key)))
    except InvalidSignature:
        raise Unverified(
            "the signature does not hold", remedy="name the public key of who signed it, or ask for the bundle again"
        ) from None


def read_listing(payload: bytes) -> Listed:
    """Rules 2 and 3; to be called when the signature was found to hold. Raises `InvalidInput`."""
    what = "signed statement"
    statement = parse(payload, limit=MAX_BUNDLE_BYTES, what=what)
    only(statement, {"_type", "subject", "predicateType", "predicate"}, what)
    kinds = (member(statement, "_type", str, what), member(statement, "predicateType", str, what))
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise InvalidInput(f"the signature is over `{kinds[1][:100]}`, not over {PREDICATE_TYPE}", remedy=_REMEDY)
    subjects, predicate = member(statement, "subject", list, what), member(statement, "predicate", dict, what)
    if len(subjects) != 1:
        raise InvalidInput("the statement does not have one subject", remedy=_REMEDY)
    digests = member(subjects[0], "digest", dict, what)
    resources = member(predicate, "resources", list, what)
    shard_bytes, ignored = _serialization(member(predicate, "serialization", dict, what))
    if not resources:
        raise InvalidInput("the statement lists no files", remedy=_REMEDY)
    rows = [_resource(one, shard_bytes) for one in resources]
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, _, _, digest in rows)).hexdigest()
    if digests != {"sha256": root}:
        raise InvalidInput("the subject's digest is not that of the listed files", remedy=_REMEDY)
    grouped, sizes = _grouped(rows, shard_bytes)
    notes = tuple(sorted(str(name)[:80] for name in predicate.keys() - {"resources", "serialization"}))
    return Listed(member(subjects[0], "name", str, what)[:200], root, shard_bytes, grouped, sizes, ignored, notes)


def differences(listed: Listed, measured: Manifest) -> tuple[str, ...]:
    """How the model differs from what was signed, in sentences; nothing where every byte is as signed (rule 4)."""
    found = []
    here = {file.path: file for file in measured.files}
    for path in sorted(here.keys() | listed.digests.keys(), key=str.encode):
        shown = path or ALONE
        if path not in listed.digests:
            why = "the signer's tool was told to ignore it" if _matches(path, listed.ignored) else "it was added"
            found.append(f"`{shown}` is not covered by the signature: {why}")
        elif path not in here:
            found.append(f"`{shown}` was signed and is missing")
        elif _digests(here[path].sha256, [chunk for part in here[path].parts for chunk in part.chunks], listed) != listed.digests[path]:
            found.append(f"`{shown}` is not what was signed")
    return tuple(found)


def hint_of(key: ec.EllipticCurvePublicKey) -> str:
    """How a bundle names its signer's key."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _digests(whole: str, chunks: list[str], listed: Listed) -> tuple[str, ...]:
    return tuple(chunks) if listed.shard_bytes else (whole,)


def _matches(path: str, ignored: tuple[str, ...]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in ignored)


def _with_material(payload: bytes, signature: bytes, material: dict[str, Any], raw: bytes) -> Bundle:
    what = "bundle's verification material"
    only(material, {"publicKey", "x509CertificateChain", "certificate", "tlogEntries", "timestampVerificationData"}, what)
    if len(material.keys() & {"publicKey", "x509CertificateChain", "certificate"}) != 1:
        raise InvalidInput("the bundle does not say in one way who signed it", remedy=_REMEDY)
    if "publicKey" in material:
        key = member(material, "publicKey", dict, what)
        only(key, {"hint", "rawBytes", "keyDetails"}, what)
        hint = key.get("hint") or ""
        if not isinstance(hint, str):
            raise InvalidInput("the bundle's key hint is no text", remedy=_REMEDY)
        return Bundle(payload, signature, hint=hint)
    if "certificate" in material:
        return Bundle(payload, signature, certificates=(_der(material["certificate"]),), sigstore=True, raw=raw)
    chain = member(member(material, "x509CertificateChain", dict, what), "certificates", list, what)
    if not 1 <= len(chain) <= MAX_CERTIFICATES:
        raise InvalidInput(f"the bundle has no certificate, or more than {MAX_CERTIFICATES}", remedy=_REMEDY)
    return Bundle(payload, signature, certificates=tuple(_der(one) for one in chain))


def _der(wire: Any) -> bytes:
    return unb64(member(wire, "rawBytes", str, "certificate"), "certificate")


def _serialization(wire: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    what = "statement's serialization"
    only(wire, {"method", "hash_type", "allow_symlinks", "ignore_paths", "shard_size"}, what)
    method, links = member(wire, "method", str, what), member(wire, "allow_symlinks", bool, what)
    ignored = wire.get("ignore_paths", [])
    if not isinstance(ignored, list) or not all(isinstance(one, str) for one in ignored):
        raise InvalidInput("the statement's ignored paths are no list of texts", remedy=_REMEDY)
    if links:
        raise InvalidInput("the signer followed symbolic links, which lead out of what was signed", remedy="sign a copy without links")
    size = wire.get("shard_size", 0)
    shards = (
        isinstance(size, int | float) and not isinstance(size, bool) and size == int(size) and MIN_SHARD_BYTES <= size <= MAX_CHUNK_BYTES
    )
    if method not in ("files", "shards") or (method == "shards") != ("shard_size" in wire) or (method == "shards" and not shards):
        raise InvalidInput("the statement's files were hashed in a way that is not known", remedy=_REMEDY)
    shard_bytes = int(size) if method == "shards" else 0
    if member(wire, "hash_type", str, what) != "sha256":
        raise InvalidInput(f"the files were hashed with `{wire['hash_type'][:40]}`, not with SHA-256", remedy=_REMEDY)
    return shard_bytes, tuple(one[:200] for one in ignored[:100])


def _algorithm(shard_bytes: int) -> str:
    return f"sha256-sharded-{shard_bytes}" if shard_bytes else "sha256"


def _resource(wire: Any, shard_bytes: int) -> tuple[str, int, int, str]:
    what = "listed file"
    name, digest = member(wire, "name", str, what), member(wire, "digest", str, what)
    only(wire, {"name", "digest", "algorithm"}, what)
    if member(wire, "algorithm", str, what) != _algorithm(shard_bytes) or not _HEX.match(digest):
        raise InvalidInput(f"`{name[:200]}` is not hashed with SHA-256", remedy=_REMEDY)
    begin = end = 0
    if shard_bytes:
        match = _SHARD.match(name)
        if not match:
            raise InvalidInput(f"`{name[:200]}` is no shard", remedy=_REMEDY)
        name, begin, end = match[1], int(match[2]), int(match[3])
    if name != ALONE and not is_relative(name):
        raise InvalidInput(f"`{name[:200]!a}` is not a path inside the model", remedy=_REMEDY)
    return ("" if name == ALONE else name), begin, end, digest


def _grouped(rows: list[tuple[str, int, int, str]], shard_bytes: int) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Rule 3: each name once, and a file's shards in order without a gap, all but the last of full length."""
    digests: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for path, begin, end, digest in rows:
        here = sizes.get(path, 0)
        whole = not shard_bytes and path in digests
        if whole or (shard_bytes and (begin != here or here % shard_bytes or not begin < end <= begin + shard_bytes)):
            raise InvalidInput(f"`{path[:200]}` is listed twice, or its shards do not follow each other", remedy=_REMEDY)
        digests.setdefault(path, []).append(digest)
        sizes[path] = end
    if "" in digests and len(digests) > 1:
        raise InvalidInput("the statement is of one file and of others", remedy=_REMEDY)
    return {path: tuple(found) for path, found in digests.items()}, sizes


def _digest_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    found = _CURVES.get(key.curve.name)
    if found is None:
        raise InvalidInput(f"keys of the curve `{key.curve.name}` sign no models", remedy="use P-256, P-384 or P-521")
    return found


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
