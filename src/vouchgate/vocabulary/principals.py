"""Principal and VerifiedPrincipal: who acts, and the proof that it is so.

`VerifiedPrincipal` is proof as a type: `policy.decide` takes nothing else. Only `identity.verify` and, for the control plane's own
standing cells, `identity.verify.registered` may construct it; a test walks the source tree and holds that.
"""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

CredentialKind = Literal["x509", "jwt", "both", "uid", "cookie", "declared", "registered"]


class Selector(Noun, frozen=True, kw_only=True):
    """One fact that an attestor must have established, for example `unix:uid` = `1000`."""

    type: str
    value: str


class Registration(Noun, frozen=True, kw_only=True):
    """Which facts earn which identity. An entity gets the identity; it never chooses it."""

    principal: PrincipalId
    trust_domain: TrustDomain
    selectors: tuple[Selector, ...] = ()
    groups: tuple[str, ...] = ()
    """Cedar groups, for example `callers`, and administrative roles, for example `role:responder`."""
    svid_ttl_seconds: int = 3600
    jwt_ttl_seconds: int = 300
    created_at: UnixMillis
    epoch: int = 0


class Principal(Noun, frozen=True, kw_only=True):
    """Someone or something that acts."""

    id: PrincipalId
    groups: tuple[str, ...] = ()


class VerifiedPrincipal(Noun, frozen=True, kw_only=True):
    """A principal whose credential was verified."""

    principal: Principal
    credential_kind: CredentialKind
    credential_id: str
    """SHA-256 of the certificate, `jti` of the token, or `uid:<n>`."""
    authenticated: bool
    """False only for `declared` identities in observe."""
    verified_at: UnixMillis
    not_after: UnixMillis
