"""A workload of a foreign trust domain, by its JWT-SVID under that domain's own bundle (JWT-SVID, sections 2 to 4).

Rules
1. The key comes from the bundle of the one trust domain that the source stands for (`issuer`), among its keys of use `jwt-svid`; the
   domain is never ours, and bundles are never merged.
2. `sub` is a SPIFFE id of that domain, with a path, in the characters that SPIFFE-ID, section 2 allows.
3. `aud`, `exp` and `sub` are required, `iat`, `iss`, `jti` and `nbf` may be there; any other claim fails. `iss` says nothing here: the bundle does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.foreign_tokens import Expected, read_token
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(required={"token": "document"})
_EXPECTED = Expected(claims=Fields(), any_issuer=True, needs_iat=False, types=("jwt", "jose"), use="jwt-svid")
_ID = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]{1,255})(?P<path>(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+)\Z")
MAX_ID = 2_048
"""Bytes of a SPIFFE id (SPIFFE-ID, section 2.3)."""


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    if not trust.issuer or trust.issuer == trust.trust_domain or not trust.trust_domain:
        return _no("the source stands for no foreign trust domain")
    token = read_token(given["token"], trust, now, _EXPECTED)
    if isinstance(token, Denied):
        return token
    named = _ID.match(token.subject) if len(token.subject) <= MAX_ID else None
    if not named or named["domain"] != trust.issuer:
        return _no("the token's subject is not of the trust domain that this source stands for")
    found = selectors(prefix(trust, "spiffe"), {"id": token.subject, "trust_domain": trust.issuer})
    return Attested(selectors=found, replay_key=token.replay_key, expires_at=token.expires_at)


def _no(reason: str) -> Denied:
    return Denied(code="jwt-svid-foreign", reason=reason, remedy="present a JWT-SVID of the trust domain that vouchgate.toml names")


ATTESTOR = Attestor(name="spiffe-jwt", version=1, kind="presented", fields=_FIELDS, establish=_establish)
