"""Keys and signatures of others: a JWK Set read strictly, and a compact JWS checked against exactly one of its keys.

Rules
1. A set in which two keys share a key id, or that holds a symmetric or private key, counts for nothing: whoever wrote it is confused or lies.
   Keys for encryption and keys of a kind that is not used here are passed over.
2. RSA keys have 2,048 to 8,192 bits (RFC 7518, section 3.3), curves are P-256, P-384, P-521 and Ed25519.
3. The algorithm is one of those that the settings list, never `none`, never symmetric, and fits the key and the key's own `alg`
   (RFC 8725, sections 3.1 and 3.2).
4. The header names its key by `kid` and carries no key, no URL, no critical extension; `typ` is what the caller expects (RFC 8725, section 3.11).
5. Every part is canonical base64url, every JSON object is read strictly, and everything is bounded before it is read.
Left to others: what the claims must say (oidc.py, sets.py), where the keys come from (flows/sources.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.base64url import b64, unb64
from vouchgate.vocabulary.errors import InvalidInput, Unsupported
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.wire import encode

MAX_KEYS = 64
"""Keys of one set; a large provider publishes under ten."""
MAX_SET_BYTES = 256 * 1024
"""Bytes of a JWK Set."""
MAX_TOKEN_BYTES = 32 * 1024
"""Characters of a token; one that lists two hundred groups has some 12 KiB."""
MAX_KID = 256
"""Characters of a key id."""
ALGORITHMS: Mapping[str, tuple[str, str]] = {
    "RS256": ("RSA", ""), "RS384": ("RSA", ""), "RS512": ("RSA", ""), "PS256": ("RSA", ""), "PS384": ("RSA", ""), "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519"),
}  # fmt: skip
"""Algorithm -> kind of key and its curve (RFC 7518, section 3.1; RFC 8037, section 3.1; RFC 9864, section 2.2)."""
_FORBIDDEN_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc", "cty")
_MEMBERS = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",)}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True)
class ForeignKey:
    """One public key of a set."""

    kid: str
    kind: str
    curve: str
    alg: str
    """The only algorithm it is for, or nothing."""
    members: Mapping[str, str]
    """The public members alone."""


@dataclass(frozen=True)
class Verified:
    """A token whose signature holds; what it says is not checked yet."""

    claims: dict[str, Any]
    kid: str
    alg: str


def read_keys(data: bytes, *, use: str = "sig") -> dict[str, ForeignKey]:
    """Key id -> key, of those that are for `use`; in a SPIFFE bundle that is `jwt-svid`, and is said. Raises `InvalidInput` (rules 1, 2)."""
    document = parse_object(data, limit=MAX_SET_BYTES, what="JWK Set")
    listed = document.get("keys")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_KEYS or not all(isinstance(one, dict) for one in listed):
        raise _bad_set(f"it does not list 1 to {MAX_KEYS} keys")
    found: dict[str, ForeignKey] = {}
    seen: set[str] = set()
    for one in listed:
        if one.get("kty") == "oct" or not _PRIVATE.isdisjoint(one):
            raise _bad_set("it holds a symmetric or a private key")
        kid = one.get("kid")
        if isinstance(kid, str):
            if kid in seen:
                raise _bad_set(f"two keys have the id `{kid[:80]}`")
            seen.add(kid)
        key = _key(one, use)
        if key is not None:
            found[key.kid] = key
    if not found:
        raise _bad_set("it holds no key for signatures that can be used here")
    return found


def write_keys(keys: Mapping[str, ForeignKey]) -> bytes:
    """The set as it is recorded: what counts, in one spelling, so that a change of keys is a change of bytes."""
    listed = [
        {"kid": key.kid, "kty": key.kind, "use": "sig", **({"crv": key.curve} if key.curve else {}), **({"alg": key.alg} if key.alg else {}), **key.members}
        for _, key in sorted(keys.items())
    ]  # fmt: skip
    return encode({"keys": listed})


def verify_token(
    token: str, keys: Mapping[str, ForeignKey], *, algorithms: Collection[str], types: Collection[str], require_type: bool, what: str
) -> Verified | Denied:
    """Rules 3 to 5. `types` are the values of `typ` that are taken, in lower case; without `require_type` it may be absent."""
    parts = _parts(token)
    if parts is None:
        return _no("malformed", f"the {what} is not three canonical base64url parts within {MAX_TOKEN_BYTES} characters")
    try:
        header = parse_object(parts[0], limit=MAX_TOKEN_BYTES, what=f"{what}'s header")
        claims = parse_object(parts[1], limit=MAX_TOKEN_BYTES, what=what)
    except InvalidInput as error:
        return _no("malformed", error.reason)
    fault = _header_fault(header, types, require_type=require_type, what=what)
    if fault is not None:
        return fault
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in algorithms or alg not in ALGORITHMS:
        return _no(
            "algorithm", f"the {what} is signed with an algorithm that is not listed", "list the provider's algorithm in vouchgate.toml"
        )
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID:
        return _no("no-key-id", f"the {what} does not name its key")
    key = keys.get(kid)
    if key is None:
        return _no("unknown-key", f"the {what} names a key that its issuer does not publish", "try again; if it goes on, ask the issuer")
    if (key.kind, key.curve) != ALGORITHMS[alg] or key.alg not in {"", alg}:
        return _no("algorithm", f"the {what}'s algorithm does not fit its key")
    if not _holds(token, key, alg):
        return _no("signature", f"the {what}'s signature does not hold")
    return Verified(claims, kid, alg)


def named_key(token: str) -> str:
    """The key id that a token names, unverified; to know whether fetching keys again could help. Empty where it names none."""
    parts = _parts(token)
    try:
        kid = parse_object(parts[0], limit=MAX_TOKEN_BYTES, what="header").get("kid") if parts else ""
    except InvalidInput:
        return ""
    return kid if isinstance(kid, str) and len(kid) <= MAX_KID else ""


def write_token(header: Mapping[str, Any], claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """A compact JWS for others to read: ES256 (RFC 7518, section 3.4)."""
    signed = f"{b64(encode(dict(header)))}.{b64(encode(dict(claims)))}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _key(one: Mapping[str, Any], use: str) -> ForeignKey | None:
    """A key that can be used here, or None."""
    kid, kind, curve, alg = one.get("kid"), one.get("kty"), one.get("crv", ""), one.get("alg", "")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID or kind not in _MEMBERS or one.get("use", "sig") != use:
        return None
    operations = one.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(alg, str) or (alg and alg not in ALGORITHMS):
        return None
    curve = "" if kind == "RSA" else curve
    if (kind, curve) not in ALGORITHMS.values():
        return None
    members = {name: one.get(name) for name in _MEMBERS[kind]}
    raws = {name: unb64(value) if isinstance(value, str) else None for name, value in members.items()}
    if any(raw is None for raw in raws.values()):
        raise _bad_set(f"the key `{kid[:80]}` is malformed")
    if kind == "RSA" and not 2_048 <= int.from_bytes(raws["n"] or b"").bit_length() <= 8_192:
        raise _bad_set(f"the RSA key `{kid[:80]}` does not have 2,048 to 8,192 bits")
    return ForeignKey(kid, kind, curve, alg, {name: str(value) for name, value in members.items()})


def _header_fault(header: Mapping[str, Any], types: Collection[str], *, require_type: bool, what: str) -> Denied | None:
    carried = [name for name in _FORBIDDEN_HEADERS if name in header]
    if carried:
        return _no("header", f"the {what}'s header carries `{carried[0]}`")
    kind = header.get("typ", "" if not require_type else None)
    if not isinstance(kind, str) or (kind and kind.lower().removeprefix("application/") not in types) or (require_type and not kind):
        return _no("type", f"the {what} is of another type")
    return None


def _holds(token: str, key: ForeignKey, alg: str) -> bool:
    try:
        from joserfc import jws
        from joserfc.errors import JoseError
        from joserfc.jwk import import_key
    except ImportError:
        raise Unsupported("reading tokens of others needs joserfc", remedy="pip install 'vouchgate[identity]'") from None
    try:
        public = import_key({"kty": key.kind, **({"crv": key.curve} if key.curve else {}), **key.members})
        jws.deserialize_compact(token, public, algorithms=[alg], registry=jws.JWSRegistry(algorithms=[alg], strict_check_header=False))
    except (JoseError, ValueError, TypeError):
        return False
    return True


def _parts(token: str) -> tuple[bytes, bytes, bytes] | None:
    if len(token) > MAX_TOKEN_BYTES:
        return None
    raws = [unb64(text) for text in token.split(".", 4)]
    if len(raws) != 3 or any(raw is None for raw in raws):
        return None
    return raws[0], raws[1], raws[2]  # type: ignore[return-value]


def _bad_set(why: str) -> InvalidInput:
    return InvalidInput(f"the JWK Set is not used: {why}", remedy="ask its publisher to correct it")


def _no(code: str, reason: str, remedy: str = "log in again; if it goes on, ask the issuer's operator") -> Denied:
    return Denied(code=code, reason=reason, remedy=remedy)
