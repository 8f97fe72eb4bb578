"""Tokens against JWT-SVID (sections 2 to 5) and RFC 8725, bundles against SPIFFE Trust Domain and Bundle (section 4).

Rules
1. JSON has one reading: a member that occurs twice is a violation, and nothing is read after it.
2. A token's signature is checked where a bundle is given; without one the finding says that nobody checked it.
3. An element of a bundle with an unknown key type or use is to be ignored (sections 4.2.1 and 4.2.2), so it is a note.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from vouchgate.identity.conformance import Checked, Finding, note, violation
from vouchgate.identity.conformance_x509 import MAX_ID, SPIFFE_ID, check_certificate
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.base64url import unb64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.vouches import UnixMillis

MAX_TOKEN = 65_536
"""Characters of a token."""
MAX_BUNDLE = 4 * 1024 * 1024
"""Bytes of a bundle."""
MAX_KEYS = 1_024
"""Keys of a bundle."""
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
"""JWT-SVID, section 2.1."""
CURVES: dict[str, tuple[type[ec.EllipticCurve], int]] = {
    "P-256": (ec.SECP256R1, 32),
    "P-384": (ec.SECP384R1, 48),
    "P-521": (ec.SECP521R1, 66),
}
_HASH: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
Key = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class _Unread(Exception):
    """The document cannot be read any further."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__()
        self.findings = findings


def check_token(token: str, now: UnixMillis, bundle: bytes | None = None) -> Checked:
    """A JWT-SVID; with a bundle its signature too."""
    try:
        header, claims, signature = _parts(token)
    except _Unread as unread:
        return Checked(kind="token", findings=unread.findings)
    found = [*_header(header), *_claims(claims, now / 1000)]
    if bundle is None:
        found.append(note("JWT-SVID 4", "nobody checked the signature: give the bundle"))
    else:
        found += _signature(token, header, signature, bundle)
    subject = claims.get("sub")
    return Checked(kind="token", subject=subject[:MAX_ID] if isinstance(subject, str) else "", findings=tuple(found))


def check_bundle(data: bytes) -> Checked:
    """A SPIFFE bundle."""
    try:
        document = parse_object(data, limit=MAX_BUNDLE, what="bundle")
    except InvalidInput as error:
        return Checked(kind="bundle", findings=(violation("RFC 7517 5", error.reason),))
    found = [*_numbers(document)]
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        return Checked(kind="bundle", findings=(*found, violation("Bundle 4.1.3", "there is no bounded array `keys`")))
    seen: set[str] = set()
    for number, key in enumerate(keys):
        found += [Finding(clause=one.clause, level=one.level, text=f"key {number + 1}: {one.text}") for one in _key(key, seen)]
    return Checked(kind="bundle", findings=tuple(found))


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    texts = token.split(".")
    if len(token) > MAX_TOKEN or len(texts) != 3:
        raise _Unread(violation("JWT-SVID 5.1", "this is not a compact JWS of three parts"))
    raws = [_unb64(text) for text in texts]
    if any(raw is None for raw in raws):
        raise _Unread(violation("RFC 7515 2", "a part is not base64url in its one spelling"))
    try:
        head = parse_object(raws[0] or b"", limit=MAX_TOKEN, what="header")
    except InvalidInput as error:
        raise _Unread(violation("RFC 7515 4", error.reason)) from None
    try:
        return head, parse_object(raws[1] or b"", limit=MAX_TOKEN, what="set of claims"), raws[2] or b""
    except InvalidInput as error:
        raise _Unread(violation("RFC 7519 4", error.reason)) from None


def _header(header: dict[str, Any]) -> Iterator[Finding]:
    if header.get("alg") not in ALGORITHMS:
        yield violation("JWT-SVID 2.1", "`alg` is not one of the nine that are allowed")
    if "kid" in header and not isinstance(header["kid"], str):
        yield violation("JWT-SVID 2.2", "`kid` is not text")
    if "typ" in header and header["typ"] not in ("JWT", "JOSE"):
        yield violation("JWT-SVID 2.3", "`typ` is neither JWT nor JOSE")
    if set(header) - {"alg", "kid", "typ"}:
        yield violation("JWT-SVID 2", f"the header has a member that is not allowed: {sorted(set(header) - {'alg', 'kid', 'typ'})[0][:40]}")


def _claims(claims: dict[str, Any], now: float) -> Iterator[Finding]:
    subject = claims.get("sub")
    match = SPIFFE_ID.match(subject) if isinstance(subject, str) and len(subject.encode()) <= MAX_ID else None
    if match is None or not match.group(2):
        yield violation("JWT-SVID 3.1", "`sub` is not a workload's SPIFFE id")
    audience = claims.get("aud")
    several = audience if isinstance(audience, list) else [audience]
    if not several or not all(isinstance(one, str) and one for one in several):
        yield violation("JWT-SVID 3.2", "`aud` is missing, empty, or not text")
    elif len(several) > 1:
        yield note("JWT-SVID 6.2", "there is more than one audience: each can replay the token to the others")
    yield from _times(claims, now)


def _times(claims: dict[str, Any], now: float) -> Iterator[Finding]:
    if not _is_time(claims.get("exp")):
        yield violation("JWT-SVID 3.3", "`exp` is missing or not a time")
    elif now >= claims["exp"]:
        yield violation("RFC 7519 4.1.4", "the token has expired")
    for name, clause in (("nbf", "RFC 7519 4.1.5"), ("iat", "RFC 7519 4.1.6")):
        if name in claims and not _is_time(claims[name]):
            yield violation(clause, f"`{name}` is not a time")
        elif name in claims and claims[name] > now + 60:
            yield violation(clause, f"`{name}` lies in the future")


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _signature(token: str, header: dict[str, Any], signature: bytes, bundle: bytes) -> Iterator[Finding]:
    try:
        document = parse_object(bundle, limit=MAX_BUNDLE, what="bundle")
    except InvalidInput as error:
        yield violation("RFC 7517 5", error.reason)
        return
    listed = document.get("keys")
    keys = [key for key in listed if isinstance(key, dict) and key.get("use") == "jwt-svid"] if isinstance(listed, list) else []
    wanted = [key for key in keys if "kid" not in header or key.get("kid") == header["kid"]]
    if not wanted:
        yield violation("JWT-SVID 4", "the bundle has no key with the token's `kid`")
    elif not any(_holds(key, str(header.get("alg")), token.rpartition(".")[0].encode(), signature) for key in wanted[:MAX_KEYS]):
        yield violation("JWT-SVID 4", "the signature does not hold")


def _holds(jwk: dict[str, Any], algorithm: str, message: bytes, signature: bytes) -> bool:
    """RFC 8725, section 3.1: the key's own type decides, and the header must agree with it."""
    key = _public(jwk)
    if algorithm not in ALGORITHMS or key is None:
        return False
    digest = _HASH[algorithm[2:]]()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            size = (key.key_size + 7) // 8
            if algorithm != {256: "ES256", 384: "ES384", 521: "ES512"}.get(key.key_size) or len(signature) != 2 * size:
                return False
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(digest))
        elif algorithm.startswith("RS"):
            key.verify(signature, message, padding.PKCS1v15(), digest)
        elif algorithm.startswith("PS"):
            key.verify(signature, message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True


def _numbers(document: dict[str, Any]) -> Iterator[Finding]:
    for name, clause in (("spiffe_sequence", "Bundle 4.1.1"), ("spiffe_refresh_hint", "Bundle 4.1.2")):
        value = document.get(name)
        if name not in document:
            yield note(clause, f"there is no `{name}`")
        elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
            yield violation(clause, f"`{name}` is not a whole number")


def _key(key: Any, seen: set[str]) -> Iterator[Finding]:
    if not isinstance(key, dict) or not isinstance(key.get("kty"), str):
        yield violation("Bundle 4.2.1", "it has no `kty`")
        return
    if not isinstance(key.get("use"), str):
        yield violation("Bundle 4.2.2", "it has no `use`")
        return
    if key["use"] not in ("x509-svid", "jwt-svid"):
        yield note("Bundle 4.2.2", "its `use` is unknown: it is ignored")
        return
    if key["kty"] not in ("EC", "RSA"):
        yield note("Bundle 4.2.1", "its `kty` is unknown: it is ignored")
        return
    if set(key) & _PRIVATE:
        yield violation("RFC 7517 9.2", "it holds a private key: replace that key")
    held = _public(key)
    if held is None:
        yield violation("RFC 7518 6", "its parameters are not a public key that is strong enough")
    yield from _x509_key(key, held) if key["use"] == "x509-svid" else _jwt_key(key, seen)


def _jwt_key(key: dict[str, Any], seen: set[str]) -> Iterator[Finding]:
    kid = key.get("kid")
    if not isinstance(kid, str) or not kid:
        yield violation("JWT-SVID 6.1", "a key for tokens has no `kid`")
    elif kid in seen:
        yield violation("RFC 7517 4.5", "its `kid` is another key's too")
    else:
        seen.add(kid)


def _x509_key(key: dict[str, Any], held: Key | None) -> Iterator[Finding]:
    if "kid" in key:
        yield violation("X509-SVID 6.1", "a key for certificates has a `kid`")
    chain = key.get("x5c")
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        yield violation("X509-SVID 6.1", "`x5c` does not hold exactly one certificate")
        return
    try:
        data = base64.b64decode(chain[0], validate=True)
    except (binascii.Error, ValueError):
        yield violation("RFC 7517 4.7", "`x5c` is not base64")
        return
    checked = check_certificate(data)
    yield from checked.findings
    if checked.kind == "leaf":
        yield violation("X509-SVID 6.1", "its certificate is not a CA's")
    if checked.kind != "unknown":
        certificate = x509.load_der_x509_certificate(data)
        if certificate.public_key() != held:
            yield violation("RFC 7517 4.7", "its certificate is for another key")
        if certificate.subject != certificate.issuer:
            yield note("X509-SVID 6.1", "its certificate is not self-signed: readers need partial chains (X509_V_FLAG_PARTIAL_CHAIN)")


def _public(key: dict[str, Any]) -> Key | None:
    try:
        if key.get("kty") == "EC":
            curve, size = CURVES[key["crv"]]
            x, y = (_unb64(key[name]) for name in ("x", "y"))
            if x is None or y is None or len(x) != size or len(y) != size:
                return None
            return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve()).public_key()
        n, e = (_unb64(key[name]) for name in ("n", "e"))
        if n is None or e is None or len(n) < 256:
            return None
        made = serialization.load_der_public_key(
            rsa.RSAPublicNumbers(int.from_bytes(e, "big"), int.from_bytes(n, "big"))
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    except (KeyError, TypeError, ValueError):
        return None
    return made if isinstance(made, rsa.RSAPublicKey) else None


def _unb64(text: Any) -> bytes | None:
    """Canonical base64url without padding (RFC 7515, section 2)."""
    return b"" if text == "" else unb64(text) if isinstance(text, str) else None
