"""Tokens that somebody else signed: read one strictly, against keys that were recorded before (RFC 7515, RFC 7519, RFC 8725).

A token
1. is a compact JWS of three canonical base64url parts within `MAX_TOKEN_BYTES`;
2. has a header of `alg`, `kid` and perhaps `typ`, `x5t`, `x5t#S256`, nothing else: it names no key, no URL, no critical extension;
3. has an algorithm of the provider's list, all of them asymmetric, and the one that the key is for; the key comes from the recorded set by
   its `kid`, which one key alone has, and is an RSA key of 2048 to 8192 bits or a curve key that fits the algorithm;
4. has one issuer and one audience, both exactly ours to expect: a token that others accept too could be theirs to replay;
5. has whole seconds as `exp`, `iat`, `nbf`, has not expired, was not issued in the future, and lives at most `MAX_LIFE_SECONDS`;
6. has no claim but those that are required, optional or ignored by name.
Its replay key is its `jti`, or else the hash of the signed part: an ECDSA signature has two spellings, so the signature is left out.
Left to others: fetching the keys, and refusing a second use.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vouchgate.identity.attested import Trust
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.errors import InvalidInput, Unsupported
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

MAX_TOKEN_BYTES = 16_384
"""Characters of a token; a GitLab token of somebody in many groups has about 6,000."""
MAX_KEYS_BYTES = 256 * 1024
"""Bytes of a key set (vocabulary/sources.py)."""
MAX_KEYS = 64
"""Keys of a set; providers publish two to ten."""
MAX_LIFE_SECONDS = 24 * 3600
"""Seconds a foreign token may live: its replay key is kept as long. A GitLab token lives as long as its job may."""
SKEW_SECONDS = 60
"""Seconds by which `iat` and `nbf` may lie in the future: the issuer's clock is not ours. `exp` gets none."""
RSA_BITS = range(2048, 8193)
"""Bits of an RSA key: fewer are too weak (RFC 7518, section 3.3), more only cost time."""
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"})
"""Those of RFC 7518 that a public key verifies."""
_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_STANDARD = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti"})
_PART = re.compile(r"[A-Za-z0-9_-]+\Z")
_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


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
    types: Collection[str] = ("JWT",)
    """Values of `typ` that may stand in the header; it may also be absent."""


@dataclass(frozen=True)
class ForeignToken:
    """A token that holds."""

    claims: dict[str, Any]
    subject: str
    replay_key: str
    expires_at: UnixMillis


def read_token(token: str, trust: Trust, now: UnixMillis, expected: Expected) -> ForeignToken | Denied:
    """Check a token; the numbers are those of the module's rules. Raises `InvalidInput` where the recorded keys are broken."""
    parts = _parts(token)  # 1
    if parts is None:
        return _no("token-malformed", "the token is not three canonical base64url parts within the bound")
    try:
        header = parse_object(parts[0], limit=MAX_TOKEN_BYTES, what="token header")
        claims = parse_object(parts[1], limit=MAX_TOKEN_BYTES, what="token")
    except InvalidInput as error:
        return _no("token-malformed", error.reason)
    why = _header_fault(header, expected)
    if why is not None:
        return why
    key = _key(trust.keys, header["kid"], header["alg"], expected.use)  # 3
    if isinstance(key, Denied):
        return key
    if not _signed(token, key, header["alg"]):
        return _no("token-signature", "the token's signature does not hold")
    return _claims(claims, token.rpartition(".")[0], trust, now, expected)


def _header_fault(header: dict[str, Any], expected: Expected) -> Denied | None:
    if not {"alg", "kid"} <= set(header) <= _HEADER or not all(isinstance(value, str) for value in header.values()):  # 2
        return _no("token-header", "the token's header lacks `alg` or `kid`, or has a parameter that is not read")
    if header["alg"] not in expected.algorithms & ALGORITHMS:
        return _no("token-algorithm", "the token's algorithm is not one that this provider signs with")
    if "typ" in header and header["typ"].upper() not in {kind.upper() for kind in expected.types}:
        return _no("token-header", "the token is of another type")
    return None


def _claims(claims: dict[str, Any], signed: str, trust: Trust, now: UnixMillis, expected: Expected) -> ForeignToken | Denied:
    if not expected.any_issuer and (not trust.issuer or claims.get("iss") != trust.issuer):  # 4
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
    late = _time_fault(claims, now, expected)  # 5
    if late is not None:
        return late
    try:
        own = {name: value for name, value in claims.items() if name not in _STANDARD and name not in expected.nested}
        expected.claims.check(own, what="token")  # 6
    except InvalidInput as error:
        return _no("token-claims", error.reason)
    if not all(isinstance(claims.get(name), dict) for name in expected.nested):
        return _no("token-claims", f"the token lacks one of {', '.join(expected.nested)}")
    once = hashlib.sha256(f"jti:{jti}".encode() if jti else f"jws:{signed}".encode()).hexdigest()
    return ForeignToken(claims, subject, f"{trust.name}:{once}", UnixMillis(claims["exp"] * 1000))


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


def _key(keys: bytes, kid: str, algorithm: str, use: str) -> Mapping[str, Any] | Denied:
    document = parse_object(keys, limit=MAX_KEYS_BYTES, what="key set")
    found = document.get("keys")
    if not isinstance(found, list) or len(found) > MAX_KEYS or not all(isinstance(key, dict) for key in found):
        raise InvalidInput("the key set has no bounded list of keys", remedy="fetch the source again")
    named = [key for key in found if key.get("kid") == kid]
    if len(named) != 1:
        return _no("token-unknown-key", "not one recorded key has the token's key id", "wait until the provider's keys are fetched again")
    key: dict[str, Any] = named[0]
    family = {"R": "RSA", "P": "RSA", "E": "EC"}[algorithm[0]]
    if key.get("kty") != family or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != use or _SECRET & set(key):
        return _no("token-algorithm", "the recorded key is not one that the token's algorithm signs with")
    return key


def _signed(token: str, key: Mapping[str, Any], algorithm: str) -> bool:
    try:
        from joserfc import jwk, jws
        from joserfc.errors import JoseError
    except ImportError:
        raise Unsupported("tokens of other issuers cannot be read here", remedy="pip install 'vouchgate[identity]'") from None
    try:
        taken = {name: key[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in key}
        public = jwk.import_key(taken)
        if isinstance(public, jwk.RSAKey) and public.public_key.key_size not in RSA_BITS:
            return False
        jws.deserialize_compact(token, public, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError, KeyError):
        return False
    return True


def _parts(token: str) -> tuple[bytes, bytes] | None:
    texts = token.split(".", 3)
    if len(token) > MAX_TOKEN_BYTES or len(texts) != 3:
        return None
    raws = [_unb64(text) for text in texts]
    if raws[0] is None or raws[1] is None or raws[2] is None:
        return None
    return raws[0], raws[1]


def _unb64(text: str) -> bytes | None:
    if not _PART.match(text) or len(text) % 4 == 1:
        return None
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text else None


def _no(code: str, reason: str, remedy: str = "present a fresh token of the provider that vouchgate.toml names") -> Denied:
    return Denied(code=code, reason=reason, remedy=remedy)
