"""A workload that has a certificate of somebody else's CA: SPIRE, Istio, Vault, AD CS or a corporate CA as a source of identity.

Rules
1. The path ends at a CA of the source (foreign_certificates.py); the caller signed this server's nonce with the leaf's key (possession.py).
2. A source that stands for a foreign trust domain (`issuer`) vouches for that domain's SPIFFE ids alone, and only such a source makes the
   selector `x509pop:spiffe`. No source vouches for a name of ours. Its CAs may be recorded as a SPIFFE bundle (`keys`).
3. Every CA of the path is a selector (`x509pop:ca`), so a registration may ask for one intermediate.
The nonce is the replay key: a second attempt needs a second signature. The foreign CA's revocations are not read; its certificates must be
short-lived, or the registration must be revoked here.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.foreign_bundle import read_foreign_bundle
from vouchgate.identity.foreign_certificates import names, spiffe_id, verify_path
from vouchgate.identity.possession import challenge, proves
from vouchgate.vocabulary.fields import Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_FIELDS = Fields(required={"certificates": "document", "signature": "document"})
NONCE_LIFE_MS = 600_000
"""Milliseconds a used nonce is kept; the caller's flow forgets unused ones sooner."""


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    try:
        chain = [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(given["certificates"].encode("ascii"))]
        signature = base64.b64decode(given["signature"].encode("ascii"), validate=True)
    except (ValueError, binascii.Error, x509.InvalidVersion):
        return _no("x509-malformed", "the certificates are not PEM, or the signature is not base64")
    path = verify_path(chain, _authorities(trust), now)
    if isinstance(path, Denied):
        return path
    try:
        proven = proves(path.leaf.public_key(), challenge(trust.trust_domain, nonce, chain[0]), signature)
    except (ValueError, UnsupportedAlgorithm):
        return _no("x509-malformed", "the certificate's key cannot be read")
    if not proven:
        return _no("x509-no-possession", "the signature over the nonce was not made with the certificate's key")
    spiffe = spiffe_id(path.leaf, trust.trust_domain, trust.issuer)
    if isinstance(spiffe, Denied):
        return spiffe
    found = selectors(prefix(trust, "x509pop"), {**names(path.leaf), "spiffe": spiffe or None, "ca": path.authorities})
    return Attested(selectors=found, replay_key=nonce, expires_at=UnixMillis(now + NONCE_LIFE_MS))


def _authorities(trust: Trust) -> tuple[bytes, ...]:
    if trust.authorities or not trust.keys:
        return trust.authorities
    return read_foreign_bundle(trust.keys, trust.issuer, ours=trust.trust_domain).authorities


def _no(code: str, reason: str) -> Denied:
    return Denied(code=code, reason=reason, remedy="sign the server's nonce with the certificate's key (identity/possession.py)")


ATTESTOR = Attestor(name="x509-pop", version=1, kind="presented", nonce="text", fields=_FIELDS, establish=_establish)
