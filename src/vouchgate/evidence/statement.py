"""Vouch <-> in-toto Statement v1 <-> DSSE envelope.

Rules
1. `predicateType` is `https://vouchgate.dev/predicate/<name>/v<version>`; times are RFC 3339 in UTC with milliseconds.
2. A subject's digest is its content's (`sha256`, or one of our structure digests); where a vouch is about a name alone, it is the digest of
   the name, because in-toto requires one (Statement v1, "subject").
3. The payload has one spelling: reading writes it again and compares, so duplicates, other encodings and hidden members are refused.
4. `vouch.id` is the SHA-256 of the PAE: of type and payload, not of the signatures.
Left to others: whether the signer may say this (verify.py), and whether the claims fit the predicate (catalog.py).
"""

from __future__ import annotations

import datetime
import hashlib
import re
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.dsse import PAYLOAD_TYPE, Envelope, pae, parse_envelope, sign, write_envelope
from vouchgate.vocabulary.digests import Digest, DigestKind
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import principal_parts, resource_parts
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.vouches import Method, Outcome, SignedVouch, Subject, Tier, UnixMillis, Vouch
from vouchgate.vocabulary.wire import Noun, decode, encode

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_BASE = "https://vouchgate.dev/predicate/"
MAX_SUBJECTS = 1_024
"""Subjects of one vouch: the files of a large sharded model."""
MAX_RESTS_ON = 1_024
"""Vouches that one vouch rests on."""
MAX_CLAIMS_BYTES = 262_144
"""Bytes of the encoded claims."""
MAX_TIME = UnixMillis(253_402_300_799_999)
"""Last millisecond of the year 9999, the last that RFC 3339 can write."""
_DIGEST_NAMES: dict[str, DigestKind] = {
    "sha256": "file",
    "vouchgateTreeV1": "tree",
    "vouchgateManifestV1": "manifest",
    "vouchgateCompositeV1": "composite",
}
_DIGEST_KINDS = {kind: name for name, kind in _DIGEST_NAMES.items()}
_NAME_DIGEST = "vouchgateNameV1"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_TYPE = re.compile(re.escape(PREDICATE_BASE) + r"([a-z][a-z0-9-]{0,39})/v([1-9][0-9]{0,3})\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_REMEDY = "send the statement as vouchgate writes it"


class _Descriptor(Noun, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str]
    annotations: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class _Issuer(Noun, frozen=True, kw_only=True):
    key: str
    role: str


class _Method(Noun, frozen=True, kw_only=True):
    tool: str
    version: str
    knowledgeVersion: str
    settingsDigest: str


class _Predicate(Noun, frozen=True, kw_only=True):
    trustDomain: str
    outcome: Outcome
    issuer: _Issuer
    issuedAt: str
    notBefore: str
    expiresAt: str
    restsOn: list[str]
    tier: Tier
    method: _Method
    claims: dict[str, Any]


class _Statement(Noun, frozen=True, kw_only=True):
    type: str = msgspec.field(name="_type")
    subject: list[_Descriptor]
    predicateType: str
    predicate: _Predicate


def sign_vouch(vouch: Vouch, key: Ed25519PrivateKey) -> SignedVouch:
    """Sign; `id` of the result is computed, and `issuer_key` must be the key's own id. Raises `InvalidInput`."""
    payload = write_payload(vouch)
    signature = sign(PAYLOAD_TYPE, payload, key)
    if signature.key_id != vouch.issuer_key:
        raise InvalidInput("the vouch names another key as its issuer", remedy="sign it with the issuer's key")
    return SignedVouch(vouch=read_payload(payload), envelope=write_envelope(Envelope(PAYLOAD_TYPE, payload, (signature,))))


def read_vouch(envelope: bytes) -> SignedVouch:
    """Read an envelope without believing it. Raises `InvalidInput`."""
    return SignedVouch(vouch=read_payload(parse_envelope(envelope).payload), envelope=envelope)


def write_payload(vouch: Vouch) -> bytes:
    """The vouch as an in-toto statement, without its id. Raises `InvalidInput`."""
    check(vouch)
    method = vouch.method
    statement = _Statement(
        type=STATEMENT_TYPE,
        subject=[_descriptor(subject) for subject in vouch.subjects],
        predicateType=f"{PREDICATE_BASE}{vouch.predicate_type}/v{vouch.predicate_version}",
        predicate=_Predicate(
            trustDomain=vouch.trust_domain,
            outcome=vouch.outcome,
            issuer=_Issuer(key=vouch.issuer_key, role=vouch.issuer_role),
            issuedAt=write_time(vouch.issued_at),
            notBefore=write_time(vouch.not_before),
            expiresAt=write_time(vouch.expires_at),
            restsOn=list(vouch.rests_on),
            tier=vouch.tier,
            method=_Method(
                tool=method.tool, version=method.version, knowledgeVersion=method.knowledge_version, settingsDigest=method.settings_digest
            ),
            claims=vouch.claims,
        ),
    )
    return encode(statement)


def read_payload(payload: bytes) -> Vouch:
    """A statement as a vouch, with its id. Raises `InvalidInput`."""
    statement = decode(_Statement, payload, what="statement")
    if statement.type != STATEMENT_TYPE:
        raise InvalidInput(f"`{statement.type[:80]}` is not an in-toto Statement v1", remedy=_REMEDY)
    kind = _TYPE.match(statement.predicateType)
    if not kind:
        raise InvalidInput(f"`{statement.predicateType[:120]}` is not a predicate of vouchgate", remedy=_REMEDY)
    said = statement.predicate
    vouch = Vouch(
        id=hashlib.sha256(pae(PAYLOAD_TYPE, payload)).hexdigest(),
        trust_domain=checked_trust_domain(said.trustDomain),
        predicate_type=kind[1],
        predicate_version=int(kind[2]),
        subjects=tuple(_subject(one) for one in statement.subject),
        outcome=said.outcome,
        issuer_key=said.issuer.key,
        issuer_role=said.issuer.role,
        issued_at=read_time(said.issuedAt),
        not_before=read_time(said.notBefore),
        expires_at=read_time(said.expiresAt),
        rests_on=tuple(said.restsOn),
        tier=said.tier,
        method=Method(
            tool=said.method.tool,
            version=said.method.version,
            knowledge_version=said.method.knowledgeVersion,
            settings_digest=said.method.settingsDigest,
        ),
        claims=said.claims,
    )
    if write_payload(vouch) != payload:
        raise InvalidInput("the statement is not in its canonical form", remedy=_REMEDY)
    return vouch


def check(vouch: Vouch) -> None:
    """Bounds and names that hold for every predicate. Raises `InvalidInput`."""
    if not 1 <= len(vouch.subjects) <= MAX_SUBJECTS or len(vouch.rests_on) > MAX_RESTS_ON:
        raise InvalidInput("the vouch has no subject, or too many subjects or supports", remedy="split it")
    for subject in vouch.subjects:
        named = principal_parts(subject.name) if subject.name.startswith("spiffe://") else resource_parts(subject.name)
        if named.trust_domain != vouch.trust_domain:
            raise InvalidInput(f"`{subject.name}` is not of trust domain `{vouch.trust_domain}`", remedy="vouch for your own names")
        if subject.name.startswith("vg://") and ":" in subject.name.rpartition("/")[2] and not _same_content(subject):
            raise InvalidInput(f"`{subject.name}` does not name its own digest", remedy="name the artifact by the digest vouched for")
    for text in (vouch.issuer_key, *vouch.rests_on):
        if not _HEX.match(text):
            raise InvalidInput(f"`{text[:80]}` is not an id", remedy="ids are 64 lower-case hexadecimal digits")
    if len(set(vouch.rests_on)) != len(vouch.rests_on):
        raise InvalidInput("the vouch rests on the same vouch twice", remedy="name it once")
    if not 0 <= vouch.not_before < vouch.expires_at <= MAX_TIME or not 0 <= vouch.issued_at < vouch.expires_at:
        raise InvalidInput("the vouch's times are not in order", remedy="it begins before it expires, and is issued before it expires")
    if len(encode(vouch.claims)) > MAX_CLAIMS_BYTES:
        raise InvalidInput(f"the claims are over the bound of {MAX_CLAIMS_BYTES} bytes", remedy="state less, and name a digest")


def write_time(at: UnixMillis) -> str:
    """RFC 3339 in UTC with milliseconds. Raises `InvalidInput` beyond the year 9999."""
    if not 0 <= at <= MAX_TIME:
        raise InvalidInput(f"{at} is not a time between 1970 and 9999", remedy="give milliseconds since 1970")
    whole = _EPOCH + datetime.timedelta(milliseconds=at)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at % 1000:03d}Z" if whole.year >= 1970 else ""


def read_time(text: str) -> UnixMillis:
    """Milliseconds since 1970. Raises `InvalidInput`."""
    try:
        if not _TIME.match(text):
            raise ValueError(text)
        whole = datetime.datetime.fromisoformat(text[:19] + "+00:00")
    except ValueError:
        raise InvalidInput(f"`{text[:40]}` is not a time", remedy="write 2026-01-31T12:00:00.000Z") from None
    return UnixMillis((whole - _EPOCH) // datetime.timedelta(seconds=1) * 1000 + int(text[20:23]))


def _descriptor(subject: Subject) -> _Descriptor:
    if subject.digest is None:
        return _Descriptor(name=subject.name, digest={_NAME_DIGEST: _name_digest(subject.name)})
    digest = {_DIGEST_KINDS[subject.digest.kind]: subject.digest.value}
    if not _HEX.match(subject.digest.value) or subject.digest.size < 0:
        raise InvalidInput("the subject's digest is malformed", remedy="use a digest that `parse_digest` accepts")
    if not subject.digest.size:
        return _Descriptor(name=subject.name, digest=digest)
    return _Descriptor(name=subject.name, digest=digest, annotations={"size": subject.digest.size})


def _subject(wire: _Descriptor) -> Subject:
    if len(wire.digest) != 1:
        raise InvalidInput("a subject does not have exactly one digest", remedy=_REMEDY)
    ((name, value),) = wire.digest.items()
    if name == _NAME_DIGEST and value == _name_digest(wire.name):
        return Subject(name=wire.name)
    kind = _DIGEST_NAMES.get(name)
    if kind is None or not _HEX.match(value):
        raise InvalidInput(f"`{name[:40]}` is not a digest of this kind of subject", remedy=_REMEDY)
    notes = {} if wire.annotations is msgspec.UNSET else wire.annotations
    if set(notes) - {"size"}:
        raise InvalidInput("a subject has unknown annotations", remedy=_REMEDY)
    return Subject(name=wire.name, digest=Digest(value=value, kind=kind, size=notes.get("size", 0)))


def _name_digest(name: str) -> str:
    return hashlib.sha256(b"vouchgate/name/v1\x00" + name.encode()).hexdigest()


def _same_content(subject: Subject) -> bool:
    return subject.digest is not None and subject.name.endswith(f"/artifact/{subject.digest.text}")
