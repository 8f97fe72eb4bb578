"""Whose signatures and provenance count: the settings' [[signers]] and [[builders]], with the files that they name, held against a bundle.

1. Every file is handed in by whoever read it; one that is missing or malformed makes that signer fail, never pass.
2. A signer is tried with what belongs to its kind alone: a bundle with a bare key never counts for a certificate, nor the other way.
3. What is signed is either a list of the model's files (OpenSSF Model Signing), or, for an artifact that is one file, its SHA-256 (Sigstore).
4. Provenance is an in-toto statement in a Sigstore bundle, or in a DSSE envelope with one signature of the builder's key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from vouchgate.evidence.dsse import PAYLOAD_TYPE, holds
from vouchgate.evidence.model_signing import Bundle, check_signature
from vouchgate.evidence.sigstore.bundle import Message, Payload, SigstoreBundle, read_sigstore_bundle
from vouchgate.evidence.sigstore.root import read_trusted_root
from vouchgate.evidence.sigstore.verify import Expected, Signed, verify
from vouchgate.evidence.slsa import MAX_STATEMENT_BYTES, Provenance, check_covers, check_provenance, read_provenance
from vouchgate.evidence.strict_documents import member, only, parse, unb64
from vouchgate.flows.sign_artifact import Checked, by_certificate, by_key, signed_through, verify_model
from vouchgate.flows.walk import Place
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, InvalidSettings, Unverified
from vouchgate.vocabulary.settings_signers import BuilderSettings, SignerSettings
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

Files = Mapping[str, bytes]
"""Path -> content of the files that the settings name."""
_REMEDY = "correct the signer's settings, and reload them"


class Differs(Unverified):
    """The signature holds, and is over something else."""


class Certified(Noun, frozen=True, kw_only=True):
    """What was found to hold, as the vouch states it."""

    name: str
    """Signer's or builder's in the settings."""
    kind: str
    identity: str
    """Of the certificate, or `key` and the key's SHA-256."""
    issuer: str = ""
    signed_at: int = 0
    root: str = ""
    """SHA-256 of the trusted root that it rests on."""
    log: str = ""
    log_index: int = 0
    authors: tuple[str, ...] = ()
    days: int
    provenance: dict[str, str] = {}
    """Of a builder: builder_id, build_type, source, commit, invocation."""


@dataclass
class _Seen:
    """What a check found, beside its sentence."""

    identity: str = ""
    signed: Signed | None = None
    root: str = ""
    fields: dict[str, str] = field(default_factory=dict)


def certify(signer: SignerSettings, files: Files, bundle: bytes, place: Place, digest: Digest, now: UnixMillis) -> Certified:
    """Whether this signer signed exactly what lies there. Raises `Unverified`, `InvalidInput`, `InvalidSettings`."""
    seen = _Seen()
    message = _message(signer, files, bundle, digest, now, seen) if signer.kind == "sigstore" else False
    if not message:
        found = verify_model(place, bundle, _checked(signer, files, now, seen))
        if not found.holds:
            raise Differs(f"it is not what was signed: {found.differences[0]}"[:500], remedy="sign what is kept, or import what was signed")
        if found.digest != digest.text:
            raise Differs("what is kept is no longer what its digest says", remedy="import the artifact again")
    return _certified(signer.name, signer.kind, signer.days, seen, _own(signer.kind, seen) + signer.same_as)


def certify_build(builder: BuilderSettings, files: Files, bundle: bytes, contents: Mapping[str, str], now: UnixMillis) -> Certified:
    """Whether this builder made exactly these files (path -> SHA-256). Raises `Unverified`, `InvalidInput`, `InvalidSettings`."""
    seen = _Seen()
    said = read_provenance(_attested(builder, files, bundle, now, seen))
    certified = dict(seen.signed.signer.claims) if seen.signed else {}
    check_provenance(said, builder=builder.builder, sources=builder.sources, build_types=builder.build_types, certified=certified)
    check_covers(said, contents)
    seen.fields = _told(said)
    return _certified(builder.name, builder.kind, builder.days, seen, _own(builder.kind, seen))


def _own(kind: str, seen: _Seen) -> tuple[str, ...]:
    """The key itself, by the id that a reviewer's would have."""
    return (seen.identity.removeprefix("key "),) if kind == "key" else ()


def _certified(name: str, kind: str, days: int, seen: _Seen, authors: tuple[str, ...]) -> Certified:
    signed = seen.signed
    return Certified(
        name=name,
        kind=kind,
        identity=signed.signer.identity if signed else seen.identity,
        issuer=signed.signer.issuer if signed else "",
        signed_at=signed.at if signed else 0,
        root=seen.root,
        log=signed.log if signed else "",
        log_index=signed.index if signed else 0,
        authors=authors,
        days=days,
        provenance=seen.fields,
    )


def _message(signer: SignerSettings, files: Files, bundle: bytes, digest: Digest, now: UnixMillis, seen: _Seen) -> bool:
    """Rule 3: a Sigstore bundle over a file; whether it is one."""
    read = read_sigstore_bundle(bundle)
    if not isinstance(read.content, Message):
        return False
    if digest.kind != "file":
        raise Unverified(
            "the bundle signs one file, and the artifact is a folder", remedy="sign the folder: `vouchgate sign`, or model_signing"
        )
    seen.signed = _through(signer, files, read, now, seen, bytes.fromhex(digest.value))
    return True


def _checked(signer: SignerSettings, files: Files, now: UnixMillis, seen: _Seen) -> Checked:
    """Rule 2."""
    if signer.kind == "key":
        key = _public_key(_file(files, signer.key_file))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSettings(f"the key of signer `{signer.name}` is not of an elliptic curve", remedy=_REMEDY)
        seen.identity = f"key {_fingerprint(key)}"
        return by_key(key)
    if signer.kind == "certificate":
        seen.identity = signer.subject
        return by_certificate(_certificates(_file(files, signer.roots_file)), now, signer.subject)

    def check(bundle: Bundle) -> str:
        root = read_trusted_root(_file(files, signer.trusted_root))
        seen.signed = signed_through(bundle, root, Expected(signer.identity, signer.issuer), now)
        seen.root = root.digest
        return seen.signed.signer.identity

    return check


def _through(
    one: SignerSettings | BuilderSettings, files: Files, read: SigstoreBundle, now: UnixMillis, seen: _Seen, digest: bytes = b""
) -> Signed:
    root = read_trusted_root(_file(files, one.trusted_root))
    seen.root = root.digest
    return verify(read, root, Expected(one.identity, one.issuer), now, digest=digest)


def _attested(builder: BuilderSettings, files: Files, bundle: bytes, now: UnixMillis, seen: _Seen) -> bytes:
    """Rule 4: the signed statement."""
    if builder.kind == "key":
        return _enveloped(builder, files, bundle, seen)
    read = read_sigstore_bundle(bundle)
    if not isinstance(read.content, Payload) or read.content.kind != PAYLOAD_TYPE:
        raise InvalidInput("the bundle does not sign an in-toto statement", remedy="ask the builder for SLSA provenance v1")
    seen.signed = _through(builder, files, read, now, seen)
    return read.content.payload


def _enveloped(builder: BuilderSettings, files: Files, data: bytes, seen: _Seen) -> bytes:
    what = "envelope"
    whole = parse(data, limit=2 * MAX_STATEMENT_BYTES, what=what)
    only(whole, {"payload", "payloadType", "signatures"}, what)
    signatures = member(whole, "signatures", list, what)
    if member(whole, "payloadType", str, what) != PAYLOAD_TYPE or len(signatures) != 1:
        raise InvalidInput(
            "the envelope does not hold one in-toto payload with exactly one signature", remedy="ask the builder for it again"
        )
    only(signatures[0] if isinstance(signatures[0], dict) else {"": 0}, {"sig", "keyid"}, what)
    payload, signature = unb64(member(whole, "payload", str, what), what), unb64(member(signatures[0], "sig", str, what), what)
    key = _public_key(_file(files, builder.key_file))
    if isinstance(key, ec.EllipticCurvePublicKey):
        check_signature(Bundle(payload, signature), key)
    elif not isinstance(key, ed25519.Ed25519PublicKey) or not holds(PAYLOAD_TYPE, payload, signature, _spki(key)):
        raise Unverified("the builder's signature does not hold", remedy="name the public key of the builder, or ask for it again")
    seen.identity = f"key {_fingerprint(key)}"
    return payload


def _told(said: Provenance) -> dict[str, str]:
    told = {"builder_id": said.builder, "build_type": said.build_type, "source": said.source, "commit": said.commit}
    return told | ({"invocation": said.invocation} if said.invocation and said.invocation.isprintable() else {})


def _file(files: Files, path: str) -> bytes:
    """Rule 1."""
    if path not in files:
        raise InvalidSettings(f"`{path[:200]}` was not read when the settings were", remedy=_REMEDY)
    return files[path]


def _public_key(data: bytes) -> object:
    try:
        return load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidSettings("a signer's key file holds no public key", remedy=_REMEDY) from None


def _certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except (ValueError, x509.InvalidVersion):
        raise InvalidSettings("a signer's roots file holds no certificates", remedy=_REMEDY) from None


def _spki(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    return hashlib.sha256(_spki(key)).hexdigest()
