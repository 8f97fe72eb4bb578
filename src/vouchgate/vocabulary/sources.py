"""TrustSource: keys of somebody outside, as they were recorded. What such a key may vouch for stands in vouchgate.toml, never in the source."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

SourceKind = Literal["oidc", "spiffe", "x509"]
"""`oidc`: a provider's JWK Set; `spiffe`: a foreign trust domain's bundle; `x509`: CA certificates, DER, one after the other."""
MAX_SOURCE_BYTES = 256 * 1024
"""Bytes of one source's keys; a provider's JWK Set has about 4 KiB."""


class TrustSource(Noun, frozen=True, kw_only=True):
    """Recorded keys; a newer record with a higher `sequence` replaces them, and bundles of two sources are never merged."""

    name: str
    """Its name in vouchgate.toml."""
    kind: SourceKind
    issuer: str
    """Issuer URL, foreign trust domain, or a certificate authority's name."""
    keys: bytes
    sequence: int
    fetched_at: UnixMillis
