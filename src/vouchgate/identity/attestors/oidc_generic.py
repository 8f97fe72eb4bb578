"""A workload of any provider that issues OpenID Connect tokens: the source in vouchgate.toml says which claims count.

Rules
1. The token is read by foreign_tokens.py; any of its algorithms, `jti` or not.
2. Claims are those of the source, by name: required, optional or ignored; an unlisted one fails. A required or optional claim is a string, a
   whole number, true or false, or a list of strings, and becomes `oidc:<source>:<claim>`; `sub` always does.
3. The selectors carry the source's name, so no two providers' claims mix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, selectors
from vouchgate.identity.foreign_tokens import Expected, read_token
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(required={"token": "document"})
_TYPES = ("jwt", "at+jwt")


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    listed = (*trust.required, *trust.optional, *trust.ignored)
    if not trust.name:
        return _no("the source has no name")
    # Which claims there are is checked here, because their kinds are not known beforehand.
    token = read_token(given["token"], trust, now, Expected(claims=Fields(ignored=listed), types=_TYPES))
    if isinstance(token, Denied):
        return token
    missing = [name for name in trust.required if name not in token.claims]
    if missing:
        return _no(f"the token lacks `{missing[0]}`")
    facts = {name: token.claims[name] for name in (*trust.required, *trust.optional) if name in token.claims}
    odd = [name for name, value in facts.items() if not _plain(value)]
    if odd:
        return _no(f"the token's `{odd[0]}` is neither text, number, flag nor a list of texts")
    found = selectors(f"oidc:{trust.name}", {**facts, "sub": token.subject})
    return Attested(selectors=found, replay_key=token.replay_key, expires_at=token.expires_at)


def _plain(value: Any) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _no(reason: str) -> Denied:
    return Denied(code="token-claims", reason=reason, remedy="list the provider's claims in the source's settings")


ATTESTOR = Attestor(name="oidc", version=1, kind="presented", fields=_FIELDS, establish=_establish)
