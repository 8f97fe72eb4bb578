"""A workload that was given a join token: a random secret that counts once and ends (join_tokens.py).

Rules
1. Only the SHA-256 of a token is kept. 256 random bits need no salt and no slow hash, and comparing hashes tells nothing of the secret.
2. It counts until its end and once: its replay key is its hash.
3. `join:token` is that hash; who makes a token registers it, so a token stands for exactly what its maker chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.join_tokens import find
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(required={"token": "text"})


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    kept = find(given["token"], trust.join_tokens)
    if kept is None or now >= kept.expires_at:
        return Denied(code="join-token-unknown", reason="the join token is unknown, used or expired", remedy="ask for a new join token")
    found = selectors(prefix(trust, "join"), {"token": kept.sha256})
    return Attested(selectors=found, replay_key=kept.sha256, expires_at=kept.expires_at)


ATTESTOR = Attestor(name="join-token", version=1, kind="presented", fields=_FIELDS, establish=_establish)
