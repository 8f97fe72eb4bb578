"""A foreign trust domain's bundle, as its bundle endpoint gives it (SPIFFE Trust Domain and Bundle, section 4; Federation, section 5).

Rules
1. Read as the standard says, not as our own bundles are: RSA keys and roots without a SPIFFE id are somebody's real life. What violates a
   clause (conformance_jose.py) refuses the whole bundle.
2. An authority that names a trust domain names this one; none names ours. A bundle is never merged with another.
3. Kept in one spelling: authorities by their bytes, token keys by their id, so that a change of keys is a change of bytes.
Left to others: fetching it (flows/federate.py), and what its certificates and tokens may do here (registrations).
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate.identity.conformance_jose import check_bundle
from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.wire import Noun, encode

MAX_BUNDLE_BYTES = 256 * 1024
"""Bytes of a bundle; one with ten authorities has about 15 KiB."""
DEFAULT_REFRESH_SECONDS = 300
"""Where a bundle has no hint (SPIFFE Trust Domain and Bundle, section 4.1.2: five minutes)."""
_USED = {"x509-svid": ("use", "kty", "crv", "x", "y", "n", "e", "x5c"), "jwt-svid": ("use", "kid", "kty", "crv", "x", "y", "n", "e", "alg")}


class ForeignBundle(Noun, frozen=True, kw_only=True):
    """What verifies the credentials of a trust domain that is not ours."""

    trust_domain: TrustDomain
    authorities: tuple[bytes, ...]
    """CA certificates, DER, sorted."""
    keys: bytes
    """The whole bundle as a JWK Set in one spelling, authorities and token keys, without sequence and hint."""
    sequence: int
    """0 where the bundle has none."""
    refresh_seconds: int

    @property
    def token_keys(self) -> bytes:
        """The token keys alone, as a JWK Set."""
        return encode({"keys": [key for key in msgspec.json.decode(self.keys)["keys"] if key["use"] == "jwt-svid"]})

    @property
    def pem(self) -> str:
        """The authorities."""
        return "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in self.authorities)


def read_foreign_bundle(data: bytes, trust_domain: str, *, ours: str) -> ForeignBundle:
    """Read what was fetched for `trust_domain`. Raises `InvalidInput` with the clause that is violated."""
    if checked_trust_domain(trust_domain) == ours:
        raise InvalidInput("our own trust domain is nobody's partner", remedy="name the partner's trust domain in [[federation]]")
    checked = check_bundle(data)
    violated = [one for one in checked.findings if one.level == "violation"]
    if violated:
        raise InvalidInput(
            f"the bundle of `{trust_domain}` violates {violated[0].clause}: {violated[0].text}",
            remedy="ask its operator; the old one stays",
        )
    document = parse_object(data, limit=MAX_BUNDLE_BYTES, what="bundle")
    listed = [{name: key[name] for name in _USED[key["use"]] if name in key} for key in document["keys"] if key.get("use") in _USED]
    listed = [key for key in listed if key.get("kty") in {"EC", "RSA"}]
    authorities = sorted(base64.b64decode(key["x5c"][0]) for key in listed if key["use"] == "x509-svid")
    for der in authorities:
        _names_it(x509.load_der_x509_certificate(der), trust_domain)
    return ForeignBundle(
        trust_domain=TrustDomain(trust_domain),
        authorities=tuple(authorities),
        keys=encode({"keys": sorted(listed, key=_order)}),
        sequence=document.get("spiffe_sequence", 0),
        refresh_seconds=document.get("spiffe_refresh_hint", DEFAULT_REFRESH_SECONDS),
    )


def _order(key: dict[str, Any]) -> tuple[str, str]:
    return key["use"], key["kid"] if key["use"] == "jwt-svid" else key["x5c"][0]


def _names_it(authority: x509.Certificate, trust_domain: str) -> None:
    """Rule 2."""
    try:
        names = authority.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.lower().startswith("spiffe:") and uri != f"spiffe://{trust_domain}":
            raise InvalidInput(
                f"an authority in the bundle of `{trust_domain}` names `{uri[:160]}`", remedy="ask its operator; the old one stays"
            )
