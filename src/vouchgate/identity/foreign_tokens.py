"""Tokens of workloads that somebody else signed: what they must say, beside holding (RFC 7519; RFC 8725).

A token
1. holds under one key of the recorded set (foreign.py: algorithm, header, key, signature), with an algorithm of the provider's list;
2. has one issuer and one audience, both exactly ours to expect: a token that others accept too could be theirs to replay;
3. has whole seconds as `exp`, `iat`, `nbf`, has not expired, was not issued in the future, and lives at most `MAX_LIFE_SECONDS`;
4. has no claim but those that are required, optional or ignored by name.
Its replay key is its `jti`, or else the hash of the signed part: an ECDSA signature has two spellings, so the signature is left out.
Left to others: fetching the keys, and refusing a second use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from vouchgate.identity.attested import Trust
from vouchgate.identity.foreign import read_keys, verify_token
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

MAX_LIFE_SECONDS = 24 * 3600
"""Seconds a foreign token may live: its replay key is kept as long. A GitLab token lives as long as its job may."""
SKEW_SECONDS = 60
"""Seconds by which `iat` and `nbf` may lie in the future: the issuer's clock is not ours. `exp` gets none."""
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"})
"""Those of RFC 7518 that a public key verifies; workloads' providers use no others."""
_STANDARD = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti"})


@dataclass(frozen=True)
class Expected:
    """What a provider's tokens look like."""

    claims: Fields
    """Its claims beside `iss sub aud exp iat nbf jti`, which are read here."""
    algorithms: frozenset[str] = ALGORITHMS
    nested: tuple[str, ...] = ()
    """Required claims that are objects, which the attestor reads itself."""
    needs_jti: bool = False
    needs_iat: bool = True
    any_issuer: bool = False
    """True where the keys alone say who signed, as with a SPIFFE bundle."""
    use: str = "sig"
    """What a key must be for where it says (RFC 7517, section 4.2); a SPIFFE bundle's `jwt-svid` must be said."""
    types: tuple[str, ...] = ("jwt",)
    """Values of `typ`, in lower case, that may stand in the header; it may also be absent."""


@dataclass(frozen=True)
class ForeignToken:
    """A token that holds."""

    claims: dict[str, Any]
    subject: str
    replay_key: str
    expires_at: UnixMillis


def read_token(token: str, trust: Trust, now: UnixMillis, expected: Expected) -> ForeignToken | Denied:
    """Check a token; the numbers are those of the module's rules. Raises `InvalidInput` where the recorded keys are broken."""
    keys = read_keys(trust.keys, use=expected.use)
    held = verify_token(  # 1
        token, keys, algorithms=expected.algorithms & ALGORITHMS, types=expected.types, require_type=False, what="token"
    )
    if isinstance(held, Denied):
        return _no(f"token-{held.code}", held.reason)
    return _claims(held.claims, token.rpartition(".")[0], trust, now, expected)


def _claims(claims: dict[str, Any], signed: str, trust: Trust, now: UnixMillis, expected: Expected) -> ForeignToken | Denied:
    if not expected.any_issuer and (not trust.issuer or claims.get("iss") != trust.issuer):  # 2
        return _no("token-issuer", "the token is not of the issuer that this source names")
    audience = claims.get("aud")
    said = audience[0] if isinstance(audience, list) and len(audience) == 1 else audience
    if not trust.audience or not isinstance(said, str) or said != trust.audience:
        return _no("token-audience", "the token is not for us alone", f"ask for a token with the one audience `{trust.audience}`")
    subject, jti = claims.get("sub"), claims.get("jti", "" if not expected.needs_jti else None)
    if (
        not isinstance(subject, str)
        or not 1 <= len(subject) <= 1024
        or not isinstance(jti, str)
        or len(jti) > 512
        or (expected.needs_jti and not jti)
    ):
        return _no("token-claims", "the token's `sub` or `jti` is absent or malformed")
    late = _time_fault(claims, now, expected)  # 3
    if late is not None:
        return late
    try:
        own = {name: value for name, value in claims.items() if name not in _STANDARD and name not in expected.nested}
        expected.claims.check(own, what="token")  # 4
    except InvalidInput as error:
        return _no("token-claims", error.reason)
    if not all(isinstance(claims.get(name), dict) for name in expected.nested):
        return _no("token-claims", f"the token lacks one of {', '.join(expected.nested)}")
    once = hashlib.sha256(f"jti:{jti}".encode() if jti else f"jws:{signed}".encode()).hexdigest()
    return ForeignToken(claims, subject, f"{trust.issuer}:{once}", UnixMillis(claims["exp"] * 1000))


def _time_fault(claims: dict[str, Any], now: UnixMillis, expected: Expected) -> Denied | None:
    if "exp" not in claims or (expected.needs_iat and "iat" not in claims):
        return _no("token-claims", "the token lacks `exp` or `iat`")
    times = [claims[name] for name in ("exp", "iat", "nbf") if name in claims]
    if not all(isinstance(at, int) and not isinstance(at, bool) and 0 <= at < 2**40 for at in times):
        return _no("token-claims", "a time of the token is not a whole number of seconds")
    seconds = now / 1000
    issued = claims.get("iat", seconds)
    if seconds >= claims["exp"]:
        return _no("token-expired", "the token has expired", "ask the provider for a new token")
    if issued > seconds + SKEW_SECONDS or claims.get("nbf", 0) > seconds + SKEW_SECONDS:
        return _no("token-not-yet", "the token is not valid yet", "set the clocks right")
    if not 0 < claims["exp"] - issued <= MAX_LIFE_SECONDS:
        return _no("token-life", f"the token lives longer than {MAX_LIFE_SECONDS} s")
    return None


def _no(code: str, reason: str, remedy: str = "present a fresh token of the provider that vouchgate.toml names") -> Denied:
    return Denied(code=code, reason=reason, remedy=remedy)
