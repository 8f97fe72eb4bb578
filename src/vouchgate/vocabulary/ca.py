"""The X.509 authority as it is told to a person: roots, who signs now, and what waits for somebody."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

CaStep = Literal["prepare", "activate", "retire", "abandon", "issuer"]
"""`issuer`: a new issuer under the active root, before it is due; the others move a root (flows/x509_authority.py)."""


class CaRoot(Noun, frozen=True, kw_only=True):
    """One root."""

    number: int
    status: Literal["requested", "prepared", "active", "retiring"]
    since: UnixMillis
    upstream: bool
    """Whether a CA above ours signs it."""
    key_id: str
    fingerprint: str
    """Lower-case hexadecimal SHA-256 of the certificate; empty while it is only requested."""
    not_after: UnixMillis


class CaIssuer(Noun, frozen=True, kw_only=True):
    """What signs leaves now."""

    number: int
    """0 where the root signs them itself."""
    root: int
    begins: UnixMillis
    ends: UnixMillis


class CaStatus(Noun, frozen=True, kw_only=True):
    """The authority."""

    roots: tuple[CaRoot, ...]
    issuer: CaIssuer
    notice: str = ""
    """What a person should do some day; empty where everything is in order."""
    warnings: tuple[str, ...] = ()
    """What is known about a chain that was just installed, and does not keep it from working here."""
    sequence: int = 0
    """`spiffe_sequence` of the published bundle."""


class CaStepRequest(Noun, frozen=True, kw_only=True):
    """Move a root, or rotate the issuer."""

    step: CaStep
    force: bool = False
    """Do not wait for readers of the bundle, or for the old root's last leaf."""
    reason: str


class CaRequested(Noun, frozen=True, kw_only=True):
    """A request for a CA above ours."""

    pem: str
    """PKCS #10."""


class CaInstallRequest(Noun, frozen=True, kw_only=True):
    """What that CA returned."""

    pem: str
    """Our certificate, those between, the root; in this order."""
    root_fingerprint: str
    """Hexadecimal SHA-256 of the root's DER, from its owner and not from the file."""
    reason: str
