"""A Compute Engine instance, by its identity token of format `full`.

The tests' recordings have the provider's published form and keys of their own; none was made by the provider itself.

Rules
1. The token is read by foreign_tokens.py: Google's issuer, our audience, RS256.
2. It has the claim `google.compute_engine`; a token of format `standard` names a service account, which any machine may borrow, and is refused.
3. Every claim, the nested ones too, is required, optional or ignored by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.foreign_tokens import Expected, read_token
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

ISSUER = "https://accounts.google.com"
"""The only issuer there is; the source must name it."""
_FIELDS = Fields(required={"token": "document"})
_EXPECTED = Expected(
    claims=Fields(optional={"azp": "text", "email": "text", "email_verified": "flag"}), algorithms=frozenset({"RS256"}), nested=("google",)
)
_ENGINE = Fields(
    required={"project_id": "text", "project_number": "integer", "zone": "text", "instance_id": "text", "instance_name": "text",
              "instance_creation_timestamp": "integer"},
    optional={"instance_confidentiality": "integer"},
    ignored=("license_id",),
)  # fmt: skip


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    if trust.issuer != ISSUER:
        return _no("the source does not name Google's issuer")
    token = read_token(given["token"], trust, now, _EXPECTED)
    if isinstance(token, Denied):
        return token
    google = token.claims["google"]
    engine = google.get("compute_engine")
    if set(google) != {"compute_engine"} or not isinstance(engine, dict):  # 2
        return _no("the token does not describe one Compute Engine instance")
    try:
        _ENGINE.check(engine, what="token's compute_engine")
    except InvalidInput as error:
        return _no(error.reason)
    facts = {
        "project": engine["project_id"], "project_number": engine["project_number"], "zone": engine["zone"], "instance": engine["instance_id"],
        "name": engine["instance_name"], "confidential": engine.get("instance_confidentiality"), "sa_id": token.subject,
        "sa": token.claims.get("email") if token.claims.get("email_verified") is True else None,
    }  # fmt: skip
    return Attested(selectors=selectors(prefix(trust, "gcp"), facts), replay_key=token.replay_key, expires_at=token.expires_at)


def _no(reason: str) -> Denied:
    return Denied(code="gcp-token", reason=reason, remedy="ask the metadata server for an identity with `format=full` and our audience")


ATTESTOR = Attestor(name="gcp-instance", version=1, kind="presented", fields=_FIELDS, establish=_establish)
