"""Join tokens: made from random bytes, shown once, kept as a hash.

Left to others: the random bytes, keeping the record, and removing it once it is used (attestors/join_token.py says which).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from vouchgate.identity.attested import JoinToken
from vouchgate.vocabulary.base64url import b64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis

RANDOM_BYTES = 32
"""Random bytes of a token: 256 bits cannot be tried."""
MAX_LIFE_SECONDS = 24 * 3600
"""Seconds a token may wait: it travels in provisioning systems, whose logs are read by many."""
_FORM = re.compile(r"vgj_[A-Za-z0-9_-]{43}\Z")


def make_join_token(random: bytes, now: UnixMillis, life_seconds: int) -> tuple[str, JoinToken]:
    """The token for its bearer, and the record to keep. Raises `InvalidInput`."""
    if len(random) != RANDOM_BYTES or not 1 <= life_seconds <= MAX_LIFE_SECONDS:
        raise InvalidInput("a join token needs 32 random bytes and a life of at most a day", remedy=f"give it 1 to {MAX_LIFE_SECONDS} s")
    # The prefix lets secret scanners find a token that was committed.
    token = "vgj_" + b64(random)
    return token, JoinToken(sha256=_hash(token), expires_at=UnixMillis(now + life_seconds * 1000))


def find(token: str, kept: Iterable[JoinToken]) -> JoinToken | None:
    """The record of a token, or None."""
    if not _FORM.match(token):
        return None
    hashed = _hash(token)
    return next((one for one in kept if hmac.compare_digest(one.sha256, hashed)), None)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
