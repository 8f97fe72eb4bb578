"""JWT-SVIDs: issue them, and read them strictly (JWT-SVID, sections 2 to 4; RFC 8725).

A token
1. is a compact JWS of exactly three parts, each canonical base64url, within `MAX_TOKEN_BYTES`;
2. has a header of exactly `alg`, `kid`, `typ`; so nothing in the token names a key, a URL, a critical extension or a nested token;
3. has `alg` ES256 and `typ` JWT; the verifying key comes from the bundle by `kid`, and is a P-256 key whatever the header says;
4. has claims of exactly `sub aud exp iat jti iss`, optionally `nbf`, and beyond them those of actors.py; `aud` is one string, equal to the
   audience asked for; a token with claims beyond the plain ones has one spelling (sorted members, no space), so that nothing rereads it;
   a token for several audiences (JWT-SVID, section 3.2) is plain, and is for none of ours: only `several` reads it, for others;
5. names a principal of the bundle's trust domain as `sub`, and that trust domain as `iss`;
6. lives at most `MAX_LIFE_SECONDS`, was not issued in the future beyond `SKEW_SECONDS`, and has not expired (no skew there).
Left to others: whether it is revoked or replayed, and making the `VerifiedPrincipal` (verify.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from vouchgate.identity.actors import CLAIMS, Beyond, read_beyond, write_beyond
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.base64url import b64, unb64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId, principal_parts
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import encode

MAX_LIFE_SECONDS = 300
"""Seconds a token may live (contracts, "Gateway rules"): a stolen one is short-lived even before it is revoked."""
SKEW_SECONDS = 1
"""Seconds by which `iat` and `nbf` may lie in the future: issuer and verifier share one machine or a synchronised clock."""
MAX_TOKEN_BYTES = 4_096
"""Characters of a token; ours have about 550."""
MAX_AUDIENCE = 512
"""Characters of an audience: the longest resource id."""
MAX_AUDIENCES = 8
"""Audiences of one token; each of them could show it to the others."""
OURS = "vg://"
"""How the audiences of our own points begin; a token for one of them is for it alone (RFC 8725, section 3.9)."""
_REQUIRED = frozenset({"sub", "aud", "exp", "iat", "jti", "iss"})
_OPTIONAL = frozenset({"nbf"}) | CLAIMS
_JTI = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


@dataclass(frozen=True)
class IssuedJwt:
    """A new JWT-SVID."""

    token: str
    jti: str
    expires_at: UnixMillis


@dataclass(frozen=True)
class JwtFacts:
    """What a token that holds says."""

    principal: PrincipalId
    jti: str
    not_after: UnixMillis
    cnf_x5t: str
    """Hexadecimal SHA-256 of the certificate it is bound to (RFC 8705, section 3.1), or nothing."""
    beyond: Beyond = Beyond()
    """What it says beyond the plain claims."""


def issue_jwt(
    principal: str,
    audience: str,
    *,
    key: ec.EllipticCurvePrivateKey,
    kid: str,
    trust_domain: str,
    now: UnixMillis,
    ttl_seconds: int,
    jti: str,
    cnf_x5t: str = "",
    beyond: Beyond = Beyond(),
    more: Sequence[str] = (),
) -> IssuedJwt:
    """Issue a token; `cnf_x5t` (hexadecimal) binds it to a certificate, `beyond` says the rest, `more` are further audiences. Raises
    `InvalidInput`."""
    if principal_parts(principal).trust_domain != trust_domain:
        raise InvalidInput(f"`{principal[:160]}` is not of trust domain `{trust_domain}`", remedy="ask the signer of that trust domain")
    if not 1 <= ttl_seconds <= MAX_LIFE_SECONDS:
        raise InvalidInput(f"a life of {ttl_seconds} s is out of bounds", remedy=f"ask for 1 to {MAX_LIFE_SECONDS} s")
    audiences = (audience, *more)
    if not all(1 <= len(one) <= MAX_AUDIENCE and one.isascii() and one.isprintable() for one in audiences) or not _JTI.match(jti):
        raise InvalidInput("the audience or the token id is malformed", remedy="the audience is exactly the endpoint's id")
    if more and (len(set(audiences)) > MAX_AUDIENCES or cnf_x5t or beyond != Beyond() or any(one.startswith(OURS) for one in audiences)):
        raise InvalidInput(
            "a token for several audiences is plain, and for none of ours", remedy=f"ask for one audience, or for {MAX_AUDIENCES} elsewhere"
        )
    issued = now // 1000
    claims: dict[str, Any] = {
        "aud": sorted(set(audiences)) if more else audience, "exp": issued + ttl_seconds, "iat": issued, "iss": f"spiffe://{trust_domain}", "jti": jti, "sub": principal,
    }  # fmt: skip
    if cnf_x5t:
        if not re.match(r"[0-9a-f]{64}\Z", cnf_x5t):
            raise InvalidInput("the thumbprint is not 64 hexadecimal digits", remedy="send the SHA-256 of the certificate's DER")
        beyond = replace(beyond, cnf_x5t=b64(bytes.fromhex(cnf_x5t)))
    claims |= write_beyond(beyond, subject=principal, trust_domain=trust_domain)
    signed = f"{b64(encode({'alg': 'ES256', 'kid': kid, 'typ': 'JWT'}))}.{b64(encode(claims))}"
    if len(signed) + 87 > MAX_TOKEN_BYTES:
        raise InvalidInput("the token would be over the bound", remedy="name fewer scopes, or go through fewer hands")
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return IssuedJwt(f"{signed}.{b64(signature)}", jti, UnixMillis((issued + ttl_seconds) * 1000))


def read_jwt(token: str, bundle: TrustBundle, audience: str, now: UnixMillis, *, several: bool = False) -> JwtFacts | Denied:
    """Check a token for `audience` against the trust domain's own keys; with `several`, which is never ours, it may be for others too. The
    numbers are those of the module's rules."""
    parts = parts_of(token, MAX_TOKEN_BYTES)  # 1
    if parts is None:
        return _no("jwt-malformed", "the token is not three canonical base64url parts within the bound")
    head, body, signature = parts
    try:
        header = parse_object(head, limit=MAX_TOKEN_BYTES, what="token header")
        claims = parse_object(body, limit=MAX_TOKEN_BYTES, what="token")
    except InvalidInput as error:
        return _no("jwt-malformed", error.reason)
    if set(header) != {"alg", "kid", "typ"}:  # 2
        return _no("jwt-header", "the token's header does not have exactly `alg`, `kid` and `typ`")
    if header["alg"] != "ES256" or header["typ"] != "JWT":  # 3
        return _no("jwt-algorithm", "the token is not an ES256 JWT")
    spki = bundle.jwt_authorities.get(header["kid"]) if isinstance(header["kid"], str) else None
    if spki is None:
        return _no("jwt-unknown-key", f"no key of `{bundle.trust_domain}` has the token's key id")
    if not signed_by(spki, token.rpartition(".")[0].encode(), signature):
        return _no("jwt-signature", "the token's signature does not hold")
    if CLAIMS & set(claims) and encode(claims) != body:  # 4
        return _no("jwt-claims", "the token has claims beyond the plain ones and is not in its one spelling")
    if several and isinstance(claims.get("aud"), list) and _among(audience, claims):
        claims = {**claims, "aud": audience}
    return _claims(claims, bundle.trust_domain, audience, now)


def _among(audience: str, claims: dict[str, Any]) -> bool:
    listed = claims["aud"]
    plain = not CLAIMS & set(claims) and 1 < len(listed) <= MAX_AUDIENCES and all(isinstance(one, str) for one in listed)
    return plain and audience in listed and not any(one.startswith(OURS) for one in listed)


def _claims(claims: dict[str, Any], trust_domain: str, audience: str, now: UnixMillis) -> JwtFacts | Denied:
    if not _REQUIRED <= set(claims) <= _REQUIRED | _OPTIONAL:  # 4
        return _no("jwt-claims", "the token lacks a claim or has an unknown one")
    if not isinstance(claims["aud"], str) or claims["aud"] != audience:
        return _no("jwt-audience", "the token is not for this audience", f"ask for a token with the audience `{audience}`")
    if not all(isinstance(claims[name], str) for name in ("sub", "jti", "iss")) or not _JTI.match(claims["jti"]):
        return _no("jwt-claims", "a claim of the token is malformed")
    try:
        parts = principal_parts(claims["sub"])  # 5
    except InvalidInput:
        return _no("jwt-subject", "the token's subject is not a principal")
    if parts.trust_domain != trust_domain or claims["iss"] != f"spiffe://{trust_domain}":
        return _no("jwt-subject", f"the token's subject or issuer is not of trust domain `{trust_domain}`")
    late = _time_fault(claims, now / 1000)  # 6
    if late is not None:
        return late
    beyond = read_beyond(claims, subject=claims["sub"], trust_domain=trust_domain)
    if beyond is None:
        return _no("jwt-claims", "what the token says beyond the plain claims breaks their rules")
    bound = (unb64(beyond.cnf_x5t) or b"").hex() if beyond.cnf_x5t else ""
    return JwtFacts(PrincipalId(claims["sub"]), claims["jti"], UnixMillis(claims["exp"] * 1000), bound, beyond)


def _time_fault(claims: dict[str, Any], now: float) -> Denied | None:
    times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
    if not all(isinstance(at, int) and not isinstance(at, bool) and 0 <= at < 2**40 for at in times):
        return _no("jwt-claims", "a time of the token is not a whole number of seconds")
    expires, issued, begins = times
    if now >= expires:
        return _no("jwt-expired", "the token has expired", "ask for a new token; it lives five minutes at most")
    if issued > now + SKEW_SECONDS or begins > now + SKEW_SECONDS:
        return _no("jwt-not-yet", "the token is not valid yet", "set the issuer's clock right")
    if not 0 < expires - issued <= MAX_LIFE_SECONDS:
        return _no("jwt-life", f"the token lives longer than {MAX_LIFE_SECONDS} s")
    return None


def signed_by(spki: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an ES256 signature (RFC 7518, section 3.4) over the message holds under a P-256 key."""
    key = serialization.load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1) or len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def parts_of(token: str, bound: int) -> tuple[bytes, bytes, bytes] | None:
    """A compact JWS (RFC 7515, section 7.1) of three canonical parts and at most `bound` characters, or None."""
    if len(token) > bound:
        return None
    texts = token.split(".")
    raws = [unb64(text) for text in texts] if len(texts) == 3 else []
    if len(raws) != 3 or any(raw is None for raw in raws):
        return None
    return raws[0], raws[1], raws[2]  # type: ignore[return-value]


def _no(code: str, reason: str, remedy: str = "present a JWT-SVID that this trust domain issued: `vouchgate identity issue`") -> Denied:
    return Denied(code=code, reason=reason, remedy=remedy)
