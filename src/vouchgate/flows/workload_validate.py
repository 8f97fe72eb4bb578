"""Read a JWT-SVID for a workload that was shown it (SPIFFE Workload API, section 6.2.3).

It holds only if it would hold at the gateway: our own reader, our own keys, no standing revocation of its subject, its actors, or itself.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from vouchgate.flows.context import Context
from vouchgate.identity.jwtsvid import read_jwt
from vouchgate.vocabulary.outcomes import Denied


def validate(context: Context, token: str, audience: str) -> dict[str, Any] | Denied:
    """`{spiffe_id, claims}` of a token that holds for the audience."""
    if context.facts.bundle is None:
        return Denied(code="no-bundle", reason="there is no trust bundle yet", remedy="ask again in a second")
    said = read_jwt(token, context.facts.bundle, audience, context.clock.now(), several=True)
    if isinstance(said, Denied):
        return said
    names = (said.principal, *getattr(said, "actors", ()))
    if any(context.facts.revocation_of(name, said.jti) for name in names):
        return Denied(code="revoked", reason="the token, or who it speaks for, is revoked", remedy="ask for a new token")
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {"spiffe_id": said.principal, "claims": claims}
