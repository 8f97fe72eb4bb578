"""OpenID Connect, the relying party's pure half: what is asked, and what an answer must say to name a person.

Rules
1. A provider's own description counts only if its `issuer` is exactly the configured one (OIDC Discovery, section 4.3), it offers the code
   flow, and, where it lists challenge methods, S256.
2. A request carries state, nonce and an S256 challenge, each 256 random bits of its own (RFC 7636, section 4.1; RFC 9700, section 2.1.1).
3. An answer belongs to the provider that was asked: `iss` must be it wherever it is given, and must be given where the provider says that it
   gives it (RFC 9207, section 2.4).
4. An ID token is checked by OIDC Core, section 3.1.3.7: exact `iss`; `aud` is this client alone; `azp`, if there, this client; not expired;
   issued within `MAX_AGE_SECONDS`; the very nonce; `at_hash` where it is given; `auth_time` where an age was asked for.
5. A person is (iss, sub) and nothing else: never an address, never a user name. A name that is not plain, or that looks like a hashed one, is
   hashed, so that two persons never share a name.
6. Groups are those that the settings map; every other one is passed over, so a provider that adds a group gives nothing.
Left to others: signatures (foreign.py), asking (flows/login_oidc.py), who remembers state and nonce (flows/login_oidc.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from vouchgate.identity.foreign import ForeignKey, verify_token, write_token
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.base64url import b64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId, principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import UnixMillis

SKEW_SECONDS = 60
"""Seconds by which a provider's clock may differ from ours; it is another machine, often another company's."""
MAX_AGE_SECONDS = 600
"""Seconds since an ID token was issued: it comes straight from the token endpoint, so it is new."""
MAX_LIFE_SECONDS = 7 * 86_400
"""Seconds between `iat` and `exp`; a longer one is a mistake."""
ASSERTION_SECONDS = 60
"""Life of a client's proof: it is used at once."""
MAX_DOCUMENT_BYTES = 128 * 1024
"""Bytes of a provider's description and of a token endpoint's answer."""
MAX_SUB = 255
"""Characters of `sub` (OIDC Core, section 2)."""
MAX_GROUPS = 2_000
"""Groups that a token may list; the bound on its bytes is nearer."""
MAX_SHOWN = 128
"""Characters of a display name."""
_PLAIN = re.compile(r"[a-z0-9._-]{1,64}\Z")
_HASHED = re.compile(r"u-[0-9a-f]{32}\Z")
_VISIBLE = re.compile(r"[\x20-\x7e]{1,2048}\Z")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True)
class Provider:
    """A provider's own description, as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    says_issuer: bool
    """Whether it promises `iss` in its answers (RFC 9207, section 3)."""


@dataclass(frozen=True)
class Expected:
    """What an ID token must say."""

    issuer: str
    client_id: str
    nonce: str
    max_age_seconds: int = 0
    """0 where no age was asked for."""


@dataclass(frozen=True)
class Told:
    """What a valid ID token says of a person."""

    issuer: str
    sub: str
    issued_at: UnixMillis
    auth_time: UnixMillis
    """0 where it is not told."""
    claims: Mapping[str, Any]
    kid: str


@dataclass(frozen=True)
class Tokens:
    """A token endpoint's answer, as far as it is used."""

    id_token: str
    access_token: str


def read_provider(data: bytes, issuer: str) -> Provider:
    """Rule 1. Raises `InvalidInput`."""
    said = parse_object(data, limit=MAX_DOCUMENT_BYTES, what="provider's description")
    if said.get("issuer") != issuer:
        raise InvalidInput(
            f"the provider says that it is `{str(said.get('issuer'))[:160]}`", remedy=f"`{issuer}` is configured; they must be equal"
        )
    endpoints = {name: said.get(name, "") for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint")}
    for name, value in endpoints.items():
        if not isinstance(value, str) or not (value or name == "userinfo_endpoint") or (value and not _is_address(value)):
            raise InvalidInput(f"the provider's `{name}` is not an address", remedy="ask the provider's operator")
    if "code" not in _texts(said, "response_types_supported", ["code"]):
        raise InvalidInput("the provider does not offer the code flow", remedy="enable the authorization code flow there")
    if "S256" not in _texts(said, "code_challenge_methods_supported", ["S256"]):
        raise InvalidInput("the provider does not offer PKCE with S256", remedy="enable PKCE (S256) there")
    says = said.get("authorization_response_iss_parameter_supported", False) is True
    return Provider(issuer=issuer, says_issuer=says, **endpoints)


def description_url(issuer: str) -> str:
    """Where a provider describes itself (OIDC Discovery, section 4)."""
    return issuer.removesuffix("/") + "/.well-known/openid-configuration"


def challenge_of(verifier: str) -> str:
    """RFC 7636, section 4.2, S256. Raises `InvalidInput` for a verifier that is not one."""
    if not _VERIFIER.match(verifier):
        raise InvalidInput("the code verifier is malformed", remedy="use 43 to 128 unreserved characters (RFC 7636, section 4.1)")
    return b64(hashlib.sha256(verifier.encode()).digest())


def authorization_url(
    provider: Provider,
    *,
    client_id: str,
    redirect_uri: str,
    scopes: Collection[str],
    state: str,
    nonce: str,
    verifier: str,
    max_age: int = 0,
) -> str:
    """Rule 2: where the person's browser is sent."""
    asked = {
        "response_type": "code", "client_id": client_id, "redirect_uri": redirect_uri, "scope": " ".join(dict.fromkeys(("openid", *scopes))),
        "state": state, "nonce": nonce, "code_challenge": challenge_of(verifier), "code_challenge_method": "S256",
    } | ({"max_age": str(max_age)} if max_age else {})  # fmt: skip
    joint = "&" if "?" in provider.authorization_endpoint else "?"
    return provider.authorization_endpoint + joint + "&".join(f"{name}={quoted(value)}" for name, value in asked.items())


def check_issuer(provider: Provider, iss: str) -> Denied | None:
    """Rule 3."""
    if (iss or provider.says_issuer) and iss != provider.issuer:
        return _no("oidc-mix-up", "the answer comes from another provider than the one that was asked")
    return None


def read_tokens(data: bytes) -> Tokens | Denied:
    """A token endpoint's answer (OIDC Core, section 3.1.3.3)."""
    try:
        said = parse_object(data, limit=MAX_DOCUMENT_BYTES, what="token endpoint's answer")
    except InvalidInput as error:
        return _no("oidc-tokens", error.reason)
    identity, access, kind = said.get("id_token"), said.get("access_token", ""), said.get("token_type", "Bearer")
    if not isinstance(identity, str) or not identity:
        return _no("oidc-tokens", "the provider gave no ID token", "let the client be an OpenID Connect client there")
    if (
        not isinstance(access, str)
        or not isinstance(kind, str)
        or kind.lower() != "bearer"
        or (access and not _VISIBLE.match(access[:2048]))
    ):
        return _no("oidc-tokens", "the token endpoint's answer is malformed")
    return Tokens(identity, access)


def read_id_token(
    token: str, keys: Mapping[str, ForeignKey], expected: Expected, now: UnixMillis, *, algorithms: Collection[str], access_token: str = ""
) -> Told | Denied:
    """Rule 4."""
    verified = verify_token(token, keys, algorithms=algorithms, types=("jwt",), require_type=False, what="ID token")
    if isinstance(verified, Denied):
        return Denied(code=f"oidc-{verified.code}", reason=verified.reason, remedy=verified.remedy)
    claims = verified.claims
    if claims.get("iss") != expected.issuer:
        return _no("oidc-issuer", "the ID token is of another issuer")
    listed = claims.get("aud")
    if listed not in (expected.client_id, [expected.client_id]):
        return _no("oidc-audience", "the ID token is not for this client, or not for it alone")
    if claims.get("azp", expected.client_id) != expected.client_id:
        return _no("oidc-audience", "the ID token was asked for by another client")
    if not isinstance(claims.get("nonce"), str) or not expected.nonce or claims["nonce"] != expected.nonce:
        return _no("oidc-nonce", "the ID token does not answer this login")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= MAX_SUB or not sub.isascii() or not sub.isprintable():
        return _no("oidc-subject", "the ID token's subject is malformed")
    late = _times(claims, expected, now / 1000)
    if late is not None:
        return late
    if "at_hash" in claims and (not access_token or claims["at_hash"] != half_hash(access_token, verified.alg)):
        return _no("oidc-at-hash", "the access token does not belong to the ID token")
    auth_time = claims.get("auth_time", 0)
    return Told(expected.issuer, sub, UnixMillis(claims["iat"] * 1000), UnixMillis(auth_time * 1000), claims, verified.kid)


def client_assertion(key_pem: bytes, client_id: str, audience: str, *, jti: str, now: UnixMillis) -> str:
    """How a client with a key of its own proves itself (RFC 7523, section 3; OIDC Core, section 9). Raises `InvalidInput`."""
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):
        # the parser's own text may quote the file
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput(
            "the client's key is not a P-256 key in PEM", remedy="make one: `openssl ecparam -genkey -name prime256v1 -noout`"
        )
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    claims = {
        "iss": client_id, "sub": client_id, "aud": audience, "jti": jti, "iat": now // 1000, "exp": now // 1000 + ASSERTION_SECONDS,
    }  # fmt: skip
    return write_token({"alg": "ES256", "kid": key_id(spki), "typ": "JWT"}, claims, key)


def read_userinfo(data: bytes, told: Told) -> Mapping[str, Any] | Denied:
    """Claims of the userinfo endpoint, of the very person of the ID token (OIDC Core, section 5.3.2)."""
    try:
        said = parse_object(data, limit=MAX_DOCUMENT_BYTES, what="userinfo answer")
    except InvalidInput as error:
        return _no("oidc-userinfo", error.reason)
    if said.get("sub") != told.sub:
        return _no("oidc-userinfo", "the userinfo answer is about another person than the ID token")
    return said


def half_hash(value: str, alg: str) -> str:
    """`at_hash` (OIDC Core, section 3.1.3.6): the left half of the hash of the token's own algorithm."""
    bits = alg[2:] if alg[2:] in {"256", "384", "512"} else "512"
    digest = hashlib.new(f"sha{bits}", value.encode()).digest()
    return b64(digest[: len(digest) // 2])


def person_name(trust_domain: str, alias: str, issuer: str, sub: str) -> PrincipalId:
    """Rule 5."""
    plain = _PLAIN.match(sub) and sub not in {".", ".."} and not _HASHED.match(sub)
    hashed = hashlib.sha256(f"{len(issuer)}:{issuer}{sub}".encode()).hexdigest()[:32]
    return principal(trust_domain, "person", alias, sub if plain else f"u-{hashed}")


def mapped_groups(claims: Mapping[str, Any], claim: str, groups: Mapping[str, str]) -> tuple[str, ...] | Denied:
    """Rule 6. A claim that is not there means no groups; one that is no list of texts means nothing, and is refused."""
    said = claims.get(claim, [])
    listed = [said] if isinstance(said, str) else said
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS or not all(isinstance(one, str) for one in listed):
        return _no("oidc-groups", f"the claim `{claim[:64]}` is not a list of groups")
    return tuple(sorted({groups[one] for one in listed if one in groups}))


def shown_name(claims: Mapping[str, Any], claim: str) -> str:
    """For people to read alone; never part of an identity."""
    said = claims.get(claim, "")
    return "".join(one for one in said if one.isprintable())[:MAX_SHOWN] if isinstance(said, str) else ""


def quoted(text: str) -> str:
    """Percent-encoding of everything but unreserved characters (RFC 3986, section 2.3)."""
    return "".join(chr(one) if one in _UNRESERVED else f"%{one:02X}" for one in text.encode())


def _times(claims: Mapping[str, Any], expected: Expected, now: float) -> Denied | None:
    names = ("exp", "iat", *(name for name in ("nbf", "auth_time") if name in claims))
    if not all(isinstance(claims.get(name), int) and not isinstance(claims[name], bool) and 0 < claims[name] < 2**40 for name in names):
        return _no("oidc-times", "a time of the ID token is missing or is not a whole number of seconds")
    expires, issued = claims["exp"], claims["iat"]
    if now >= expires + SKEW_SECONDS:
        return _no("oidc-expired", "the ID token has expired", "log in again; if it goes on, compare the clocks")
    if issued > now + SKEW_SECONDS or claims.get("nbf", issued) > now + SKEW_SECONDS:
        return _no("oidc-not-yet", "the ID token is from the future", "compare the provider's clock with this machine's")
    if issued < now - MAX_AGE_SECONDS - SKEW_SECONDS or expires <= issued or expires - issued > MAX_LIFE_SECONDS:
        return _no("oidc-times", "the ID token is too old, or lives too long")
    if expected.max_age_seconds:
        at = claims.get("auth_time")
        if at is None or at > now + SKEW_SECONDS or now - at > expected.max_age_seconds + SKEW_SECONDS:
            return _no("oidc-auth-time", "the person did not log in at the provider recently enough", "log in there again")
    return None


def _texts(said: Mapping[str, Any], name: str, default: list[str]) -> list[Any]:
    found = said.get(name, default)
    return found if isinstance(found, list) else []


def _is_address(text: str) -> bool:
    return (
        len(text) <= 1024
        and text.startswith(("https://", "http://"))
        and bool(_VISIBLE.match(text))
        and " " not in text
        and "#" not in text
    )


def _no(code: str, reason: str, remedy: str = "log in again; if it goes on, ask the provider's operator") -> Denied:
    return Denied(code=code, reason=reason, remedy=remedy)
