"""Break-glass: the offline root lets one unix user administer for one hour, whatever policy and roles say. It is loud, and used once.

A statement is accepted only if
1. it is the canonical encoding of a `BreakGlass`, of this trust domain;
2. at least `threshold` distinct root keys of the TrustRoot signed it, and no signature on it fails;
3. it was signed at most `MAX_AGE_MS` ago and not in the future.
Left to others: that it is used once and by that user (flows/login.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.dsse import Envelope, holds, parse_envelope, sign, write_envelope
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.trust import TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun, decode, encode

PAYLOAD_TYPE = "application/vnd.vouchgate.break-glass+json"
MAX_AGE_MS = 10 * 60_000
"""Milliseconds between signing and use: time to carry a file from the offline machine, no time to keep one in a drawer."""
SKEW_MS = 2_000
"""Milliseconds that the offline machine's clock may lead."""
LIFE_MS = 3_600_000
"""Milliseconds for which it opens (contracts, "Administration")."""
_NONCE = re.compile(r"[0-9a-f]{32}\Z")
_REMEDY = "sign a new one with the root keys: `vouchgate admin break-glass --root-key FILE`"


class BreakGlass(Noun, frozen=True, kw_only=True):
    """What the root keys sign."""

    trust_domain: str
    uid: int
    """The unix user who may administer."""
    reason: str
    nonce: str
    """32 hexadecimal digits; used once."""
    signed_at: UnixMillis


def sign_break_glass(statement: BreakGlass, root_keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """DSSE envelope. Raises `InvalidInput`."""
    if not _NONCE.match(statement.nonce) or not statement.reason.strip() or statement.uid < 0 or len(statement.reason) > 500:
        raise InvalidInput("the statement is incomplete", remedy="give a unix user, a reason of at most 500 characters and a fresh nonce")
    payload = encode(statement)
    return write_envelope(Envelope(PAYLOAD_TYPE, payload, tuple(sign(PAYLOAD_TYPE, payload, key) for key in root_keys)))


def verify_break_glass(envelope: bytes, trust_root: TrustRoot, now: UnixMillis) -> BreakGlass:
    """The statement, by the rules above. Raises `Unverified`."""
    try:
        parsed = parse_envelope(envelope, payload_type=PAYLOAD_TYPE)
        statement = decode(BreakGlass, parsed.payload, what="break-glass statement")
    except InvalidInput as error:
        raise Unverified(error.reason, remedy=_REMEDY) from None
    if encode(statement) != parsed.payload or not _NONCE.match(statement.nonce) or statement.trust_domain != trust_root.trust_domain:  # 1
        raise Unverified("the statement is malformed, or of another trust domain", remedy=_REMEDY)
    roots = {key.key_id: key.spki for key in trust_root.keys if key.purpose == "root"}
    good = [
        one.key_id
        for one in parsed.signatures
        if one.key_id in roots and holds(PAYLOAD_TYPE, parsed.payload, one.signature, roots[one.key_id])
    ]
    if len(good) != len(parsed.signatures) or len(set(good)) < trust_root.threshold:  # 2
        raise Unverified("the statement is not signed by enough root keys, or by others too", remedy=_REMEDY)
    if not statement.signed_at - SKEW_MS <= now <= statement.signed_at + MAX_AGE_MS:  # 3
        raise Unverified("the statement is not fresh", remedy=_REMEDY)
    return statement
