"""Principal and VerifiedPrincipal: who acts, and the proof that it is so.

`VerifiedPrincipal` is proof as a type: `policy.decide` takes nothing else. Only `identity.verify` and, for the control plane's own
standing cells, `identity.verify.registered` may construct it; a test walks the source tree and holds that.
"""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

CredentialKind = Literal["x509", "jwt", "both", "uid", "cookie", "session", "declared", "registered"]
RegistrationSource = Literal["settings", "api", "attested", "login"]
"""`settings`: vouchgate.toml; `api`: an administrator; `attested`: made for a workload that proved itself; `login`: a person's identity provider."""
DEFAULT_SVID_SECONDS = {"agent": 300}
"""Life of certificates by kind of principal; an agent acts on what it reads, so what it holds is worth little for long."""
SERVER_SVID_SECONDS = 3600
"""Life of every other kind's certificates."""
FOREIGN_ID = "federated:spiffe_id"
"""Selector of a registration that stands for one caller of a partner: its SPIFFE id there."""
ALIAS_ZONE = "federated-"
"""How the zone of every principal begins that stands for a partner's caller; `federated-<partner>`."""


def svid_seconds(kind: str) -> int:
    """Default life of a certificate for a kind of principal, in seconds; renewed at half of it."""
    return DEFAULT_SVID_SECONDS.get(kind, SERVER_SVID_SECONDS)


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
    dns: tuple[str, ...] = ()
    """DNS names of its certificates, for servers that are reached by host name."""
    endpoint: str = ""
    """The endpoint that this model server answers for: its identity then carries what the endpoint serves (`Binding`)."""
    federates_with: tuple[str, ...] = ()
    """Foreign trust domains whose bundles this workload is given."""
    source: RegistrationSource = "api"
    created_at: UnixMillis
    expires_at: UnixMillis = UnixMillis(0)
    """When it ends by itself; 0 never."""
    networks: tuple[str, ...] = ()
    """Networks from which it calls, where somebody declared them: usual without being learned."""
    hours: str = ""
    """Hours (UTC) within which it calls, `8-18`, where somebody declared them."""
    epoch: int = 0


class Binding(Noun, frozen=True, kw_only=True):
    """What a credential is bound to beside its principal; empty fields bind nothing."""

    model_digest: str = ""
    """Digest text of the model that the server answers with, from the holding `serves` vouch."""
    lineage_root: str = ""
    """Lower-case hexadecimal SHA-256 over the ids of every vouch that `serves` rests on."""
    run: str = ""
    zone: str = ""
    stage: str = ""
    inputs: str = ""
    """Lower-case hexadecimal SHA-256 over the run's declared input digests, sorted, joined by newlines."""

    @property
    def empty(self) -> bool:
        """Whether it binds nothing."""
        return self == Binding()


class Principal(Noun, frozen=True, kw_only=True):
    """Someone or something that acts."""

    id: PrincipalId
    groups: tuple[str, ...] = ()


class VerifiedPrincipal(Noun, frozen=True, kw_only=True):
    """A principal whose credential was verified."""

    principal: Principal
    credential_kind: CredentialKind
    credential_id: str
    """Serial number of the certificate, `jti` of the token, or `uid:<n>`."""
    authenticated: bool
    """False only for `declared` identities in observe."""
    actors: tuple[PrincipalId, ...] = ()
    """Who acts on the principal's behalf, the one that acts now first (RFC 8693, section 4.1); empty where it acts itself."""
    scopes: tuple[str, ...] | None = None
    """What the credential is good for at most; None where it is not narrowed."""
    binding: Binding | None = None
    parents: tuple[str, ...] = ()
    """Ids of the credentials that this one was made from or was shown with: revoking one strikes it too."""
    verified_at: UnixMillis
    not_after: UnixMillis
