"""DPoP proofs: that whoever sends a token holds the key that it is bound to (RFC 9449), read strictly.

A proof (RFC 9449, section 4.3; the numbers are cited in the body)
1. is one compact JWS of three canonical parts, within `MAX_PROOF_BYTES`; several proofs joined by commas are none;
2. has a header of exactly `typ`, `alg`, `jwk`: `dpop+jwt`, ES256, and the public half of a P-256 key alone, in its one spelling;
3. is signed by that key;
4. has claims of exactly `jti htm htu iat`, `ath` where it goes with a token, and `nonce` where one was asked for;
5. names this request's method, and its address without query and fragment;
6. was made at most `MAX_AGE_SECONDS` ago and `SKEW_SECONDS` ahead, and after this memory of proofs began;
7. carries the hash of the token beside it;
8. was not seen before: `Seen` remembers the key's thumbprint and `jti`, so a respelled signature makes no second proof.
One algorithm, because every other makes a second spelling of a key. A memory that is full refuses: to forget would be to accept twice.
Left to others: whether the token is bound to this key (verify.py), and which addresses are ours.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.identity.ca import spki_of
from vouchgate.identity.jwtsvid import parts_of, signed_by
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.base64url import b64, unb64
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

MAX_PROOF_BYTES = 2_048
"""Characters of a proof; one has about 550."""
MAX_AGE_SECONDS = 60
"""Seconds for which a proof can be used (RFC 9449, section 11.1), and for which it is remembered."""
SKEW_SECONDS = 5
"""Seconds by which a client's clock may be ahead. After a start so long a proof cannot be told from one that was used before it."""
MAX_SEEN = 100_000
"""Proofs remembered at once, about 15 MiB; more within a minute are refused."""
MAX_SEEN_OF_KEY = 10_000
"""Proofs of one key among them, so that one busy client does not use the memory up for all."""
MAX_URL = 2_048
_JTI = re.compile(r"[\x21-\x7e]{8,128}\Z")
_URL = re.compile(r"(https?)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?\Z")
_DEFAULT_PORT = {"https": 443, "http": 80}
_CLAIMS = frozenset({"jti", "htm", "htu", "iat"})


@dataclass(frozen=True)
class Proof:
    """What a proof that holds says."""

    jkt: str
    """Base64url SHA-256 thumbprint of the key (RFC 7638)."""
    jti: str
    issued_at: int
    """Seconds."""


def read_proof(
    proof: str, *, method: str, urls: Collection[str], now: UnixMillis, began: UnixMillis, token: str = "", nonce: str = ""
) -> Proof | Denied:
    """Check a proof for a request: `urls` are this request's addresses as `normal_url` writes them, `began` is when `Seen` began."""
    try:
        parts = parts_of(proof, MAX_PROOF_BYTES)  # 1
        if parts is None:
            return _no("the proof is not three canonical base64url parts within the bound")
        header = parse_object(parts[0], limit=MAX_PROOF_BYTES, what="proof's header")
        claims = parse_object(parts[1], limit=MAX_PROOF_BYTES, what="proof")
    except InvalidInput as error:
        return _no(error.reason)
    if set(header) != {"typ", "alg", "jwk"} or header["typ"] != "dpop+jwt" or header["alg"] != "ES256":  # 2
        return _no("the proof's header is not exactly `typ` dpop+jwt, `alg` ES256 and `jwk`")
    spki = _public(header["jwk"])
    if spki is None:
        return _no("the proof's `jwk` is not the public half of a P-256 key alone")
    if not signed_by(spki, proof.rpartition(".")[0].encode(), parts[2]):  # 3
        return _no("the proof's signature does not hold")
    jkt = thumbprint(header["jwk"])
    fault = _fault(claims, method=method, urls=urls, now=now, began=began, token=token, nonce=nonce)
    return _no(fault) if fault else Proof(jkt, claims["jti"], claims["iat"])


def _fault(
    claims: dict[str, Any], *, method: str, urls: Collection[str], now: UnixMillis, began: UnixMillis, token: str, nonce: str
) -> str:
    """Checks 4 to 7."""
    wanted = _CLAIMS | ({"ath"} if token else set()) | ({"nonce"} if nonce else set())
    if set(claims) != wanted:
        return f"the proof does not have exactly the claims {', '.join(f'`{name}`' for name in sorted(wanted))}"
    if not all(isinstance(claims[name], str) for name in wanted - {"iat"}) or not _JTI.match(claims["jti"]):
        return "a claim of the proof is malformed"
    if claims["htm"] != method:  # 5
        return "the proof is for another method"
    if normal_url(claims["htu"]) not in urls:
        return "the proof is for another address"
    made = claims["iat"]
    if not isinstance(made, int) or isinstance(made, bool) or not 0 <= made < 2**40:
        return "the proof's time is not a whole number of seconds"
    if now / 1000 - made > MAX_AGE_SECONDS:  # 6
        return f"the proof was made more than {MAX_AGE_SECONDS} s ago"
    if made - now / 1000 > SKEW_SECONDS:
        return f"the proof was made more than {SKEW_SECONDS} s ahead"
    if made * 1000 <= began + SKEW_SECONDS * 1000:
        return f"the proof may have been used before this service started; from {SKEW_SECONDS + 1} s after a start on, new ones count"
    if token and claims["ath"] != b64(hashlib.sha256(token.encode()).digest()):  # 7
        return "the proof is for another token"
    return "the proof does not carry the nonce that was asked for" if nonce and claims["nonce"] != nonce else ""


class Seen:
    """Check 8: proofs that were used, as long as they could be used again. Belongs to one thread."""

    def __init__(self, began: UnixMillis) -> None:
        self.began = began
        # a plain dict looks past every entry that left its front: forgetting a full one would take seconds
        self._until: OrderedDict[bytes, tuple[int, str]] = OrderedDict()
        self._of_key: Counter[str] = Counter()

    def take(self, proof: Proof, now: UnixMillis) -> Denied | None:
        """Use a proof up; None where it was new."""
        self._forget(now)
        name = hashlib.sha256(f"{proof.jkt} {proof.jti}".encode()).digest()
        if name in self._until:
            return _no("the proof was used before", code="dpop-replayed")
        if len(self._until) >= MAX_SEEN or self._of_key[proof.jkt] >= MAX_SEEN_OF_KEY:
            return _no("more proofs than can be remembered were used within a minute", code="dpop-full")
        self._until[name] = ((proof.issued_at + MAX_AGE_SECONDS + 1) * 1000, proof.jkt)
        self._of_key[proof.jkt] += 1
        return None

    def _forget(self, now: UnixMillis) -> None:
        """What lapsed, oldest first: what lies behind one that has not lapsed waits for it, at most `SKEW_SECONDS` longer."""
        while self._until:
            name = next(iter(self._until))
            until, key = self._until[name]
            if until > now:
                return
            del self._until[name]
            self._of_key[key] -= 1
            if not self._of_key[key]:
                del self._of_key[key]


def normal_url(text: str) -> str:
    """An address by RFC 3986, sections 6.2.2 and 6.2.3: scheme and host in lower case, no default port, `/` for no path; nothing for what
    has a query, a fragment, a user, or anything that has two readings."""
    if len(text) > MAX_URL:
        return ""
    scheme, colon, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    match = _URL.match(f"{scheme.lower()}{colon}{authority.lower()}{slash}{path}")
    if match is None or (match[3] is not None and (int(match[3]) > 65535 or match[3] != str(int(match[3])))):
        return ""
    port = f":{match[3]}" if match[3] and int(match[3]) != _DEFAULT_PORT[match[1]] else ""
    return f"{match[1]}://{match[2]}{port}{match[4] or '/'}"


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638, section 3, of a P-256 key that was checked."""
    return b64(hashlib.sha256(f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'.encode()).digest())


def _public(jwk: Any) -> bytes | None:
    """DER SubjectPublicKeyInfo; None for anything but exactly the four members of a point of P-256 (RFC 7518, section 6.2.1)."""
    if not isinstance(jwk, dict) or set(jwk) != {"kty", "crv", "x", "y"} or jwk["kty"] != "EC" or jwk["crv"] != "P-256":
        return None
    if not isinstance(jwk["x"], str) or not isinstance(jwk["y"], str):
        return None
    x, y = unb64(jwk["x"]), unb64(jwk["y"])
    if x is None or y is None or len(x) != 32 or len(y) != 32:
        return None
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return spki_of(numbers.public_key())
    except ValueError:
        return None


def _no(reason: str, *, code: str = "dpop-invalid") -> Denied:
    return Denied(code=code, reason=reason, remedy="make a new proof for each request with the token's key (RFC 9449, section 4.2)")
