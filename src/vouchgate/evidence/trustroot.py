"""The TrustRoot: made, signed n of m by offline root keys, verified before anything else is believed.

A signed TrustRoot is accepted only if
1. its payload is the canonical encoding of a TrustRoot, and its fingerprint of root keys and threshold is the pinned one;
2. at least `threshold` distinct root keys signed it; a signature that does not hold is an error, not a miss;
3. it is valid now, and its version is not below the one already accepted (the same version must have the same bytes);
4. every key id is the hash of its key, no key serves two purposes, and no delegation goes to a root key, to an unknown key, to a predicate
   that its role may not sign, or beyond the TrustRoot's own expiry.
Changing the root keys (`verify_successor`) takes the old threshold and the new one, like TUF (section 5.3.4).
The fingerprint names root keys and threshold, not the document, so a person compares it once and renewals keep it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from vouchgate.evidence.catalog import predicates
from vouchgate.evidence.dsse import holds, sign
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.trust import Delegation, PublicKey, SignedTrustRoot, TrustRoot, key_id
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import decode, encode

PAYLOAD_TYPE = "application/vnd.vouchgate.trust-root+json"
MAX_ROOT_KEYS = 16
"""Root keys; more persons than can be gathered."""
MAX_KEYS = 256
"""Keys of all purposes."""
MAX_DELEGATIONS = 1_024
"""Delegations; a few per key."""
_PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
_ZONE = re.compile(r"(?:\*|[a-z0-9._-]{1,64})\Z")
_REMEDY = "fetch the TrustRoot again from whoever holds the root keys, and compare the fingerprint"


def fingerprint(trust_root: TrustRoot) -> str:
    """SHA-256 over threshold and root key ids, as 16 groups of four hexadecimal digits: what a person compares."""
    ids = sorted(key.key_id for key in _root_keys(trust_root))
    text = "\n".join(["vouchgate/root/v1", trust_root.trust_domain, str(trust_root.threshold), *ids])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return " ".join(digest[at : at + 4] for at in range(0, 64, 4))


def make_trust_root(
    trust_domain: str,
    *,
    keys: Sequence[PublicKey],
    delegations: Sequence[Delegation],
    threshold: int,
    version: int,
    issued_at: UnixMillis,
    expires_at: UnixMillis,
) -> TrustRoot:
    """A checked TrustRoot. Raises `InvalidInput`."""
    trust_root = TrustRoot(
        trust_domain=checked_trust_domain(trust_domain),
        version=version,
        issued_at=issued_at,
        expires_at=expires_at,
        threshold=threshold,
        keys=tuple(sorted(keys, key=lambda key: (key.purpose, key.key_id))),
        delegations=tuple(delegations),
    )
    fault = _fault(trust_root)
    if fault:
        raise InvalidInput(fault, remedy="correct the keys or the delegations")
    return trust_root


def sign_trust_root(trust_root: TrustRoot, root_keys: Sequence[Ed25519PrivateKey]) -> SignedTrustRoot:
    """Sign with the root keys that are at hand; whether they are enough is the verifier's question."""
    payload = encode(trust_root)
    made = [sign(PAYLOAD_TYPE, payload, key) for key in root_keys]
    return SignedTrustRoot(payload=payload, signatures={one.key_id: one.signature for one in made})


def add_signature(signed: SignedTrustRoot, root_key: Ed25519PrivateKey) -> SignedTrustRoot:
    """Another root key's signature beside those that are there."""
    one = sign(PAYLOAD_TYPE, signed.payload, root_key)
    return SignedTrustRoot(payload=signed.payload, signatures={**signed.signatures, one.key_id: one.signature})


def verify_trust_root(signed: SignedTrustRoot, pinned: str, now: UnixMillis, *, current: SignedTrustRoot | None = None) -> TrustRoot:
    """The TrustRoot, by the rules above; `pinned` is the fingerprint, `current` the one accepted before. Raises `Unverified`."""
    trust_root = _read(signed)
    if fingerprint(trust_root).replace(" ", "") != pinned.replace(" ", "").lower():  # 1
        raise Unverified("the TrustRoot names other root keys than the pinned fingerprint", remedy=_REMEDY)
    _check_signed(signed, trust_root)  # 2
    _check_time(trust_root, now)  # 3
    if current is not None:
        _check_newer(signed, trust_root, current)
    return trust_root


def verify_successor(signed: SignedTrustRoot, current: SignedTrustRoot, now: UnixMillis) -> TrustRoot:
    """A TrustRoot with other root keys, signed by enough of the old ones and enough of the new ones. Raises `Unverified`."""
    trust_root, before = _read(signed), _read(current)
    _check_signed(signed, trust_root, others=before)
    _check_signed(signed, before, others=trust_root)
    _check_time(trust_root, now)
    if trust_root.version != before.version + 1 or trust_root.trust_domain != before.trust_domain:
        raise Unverified("the TrustRoot is not the next version of the one in force", remedy=_REMEDY)
    return trust_root


def _read(signed: SignedTrustRoot) -> TrustRoot:
    try:
        trust_root = decode(TrustRoot, signed.payload, what="TrustRoot")
    except InvalidInput as error:
        raise Unverified(error.reason, remedy=_REMEDY) from None
    if encode(trust_root) != signed.payload:
        raise Unverified("the TrustRoot is not in its canonical form", remedy=_REMEDY)
    fault = _fault(trust_root)  # 4
    if fault:
        raise Unverified(fault, remedy=_REMEDY)
    return trust_root


def _check_signed(signed: SignedTrustRoot, by: TrustRoot, *, others: TrustRoot | None = None) -> None:
    spkis = {key.key_id: key.spki for key in _root_keys(by)}
    known = set(spkis) | {key.key_id for key in (_root_keys(others) if others else ())}
    for identity, signature in signed.signatures.items():
        if identity not in known:
            raise Unverified(f"`{identity[:64]}` signed the TrustRoot and is not a root key", remedy=_REMEDY)
        if identity in spkis and not holds(PAYLOAD_TYPE, signed.payload, signature, spkis[identity]):
            raise Unverified(f"the signature of root key `{identity[:16]}` does not hold", remedy=_REMEDY)
    count = len(set(signed.signatures) & set(spkis))
    if count < by.threshold:
        raise Unverified(f"{count} of the root keys signed, {by.threshold} are needed", remedy="collect more signatures of root keys")


def _check_time(trust_root: TrustRoot, now: UnixMillis) -> None:
    if now >= trust_root.expires_at:
        raise Unverified("the TrustRoot has expired", remedy="sign the next: `vouchgate admin renew-trust --root-key FILE`")
    if trust_root.issued_at > now + 60_000:
        raise Unverified("the TrustRoot was issued in the future", remedy="set the clock right")


def _check_newer(signed: SignedTrustRoot, trust_root: TrustRoot, current: SignedTrustRoot) -> None:
    before = _read(current)
    if trust_root.trust_domain != before.trust_domain or trust_root.version < before.version:
        raise Unverified(f"version {trust_root.version} of the TrustRoot is older than {before.version}", remedy=_REMEDY)
    if trust_root.version == before.version and signed.payload != current.payload:
        raise Unverified(
            f"there are two TrustRoots of version {trust_root.version}", remedy="ask the holders of the root keys which is theirs"
        )


def _root_keys(trust_root: TrustRoot) -> tuple[PublicKey, ...]:
    return tuple(key for key in trust_root.keys if key.purpose == "root")


def _fault(trust_root: TrustRoot) -> str:
    """Why the document contradicts itself, or nothing."""
    keys = {key.key_id: key for key in trust_root.keys}
    roots = _root_keys(trust_root)
    if len(keys) != len(trust_root.keys) or len(keys) > MAX_KEYS:
        return "a key occurs twice in the TrustRoot, or there are too many"
    try:
        checked_trust_domain(trust_root.trust_domain)
    except InvalidInput as error:
        return error.reason
    if not 1 <= trust_root.threshold <= len(roots) <= MAX_ROOT_KEYS:
        return f"a threshold of {trust_root.threshold} does not fit {len(roots)} root keys"
    if trust_root.version < 1 or not 0 <= trust_root.issued_at < trust_root.expires_at:
        return "the TrustRoot's version or times are not in order"
    for key in trust_root.keys:
        if key.key_id != key_id(key.spki) or not _PURPOSE.match(key.purpose):
            return f"`{key.key_id[:64]}` is not the id of its key, or its purpose is malformed"
    if not all(_is_ed25519(key.spki) for key in roots):
        return "a root key is not an Ed25519 key in its canonical encoding"
    if len(trust_root.delegations) > MAX_DELEGATIONS:
        return "the TrustRoot has too many delegations"
    return next((fault for one in trust_root.delegations if (fault := _delegation_fault(one, keys, trust_root.expires_at))), "")


def _delegation_fault(one: Delegation, keys: dict[str, PublicKey], latest: UnixMillis) -> str:
    key = keys.get(one.key_id)
    if key is None or key.purpose != one.role or one.role == "root":
        return f"a delegation of role `{one.role[:40]}` goes to no key of that purpose"
    if one.expires_at > latest:
        return f"a delegation of role `{one.role[:40]}` outlives the TrustRoot"
    if not one.zones or not all(_ZONE.match(zone) for zone in one.zones):
        return f"a delegation of role `{one.role[:40]}` names no zones, or a malformed one"
    if not _is_ed25519(key.spki):
        return f"the key of role `{one.role[:40]}` is not an Ed25519 key in its canonical encoding"
    for name in one.predicates:
        known = predicates().get(name)
        if known is None or one.role not in known.roles:
            return f"the role `{one.role[:40]}` may not sign `{name[:40]}`"
    return ""


def _is_ed25519(spki: bytes) -> bool:
    """Also that the encoding is the one: a second spelling of a key would count as a second key."""
    try:
        key = load_der_public_key(spki)
    except Exception:
        return False
    return isinstance(key, Ed25519PublicKey) and key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki
