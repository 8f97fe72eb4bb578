"""What the signer is asked, method by method: every field named, required or optional; an unknown one is refused."""

from __future__ import annotations

from typing import Any

from vouchgate.flows.x509_state import Step
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.vouches import Method, Outcome, Subject, Tier, UnixMillis
from vouchgate.vocabulary.wire import Noun


class X509Request(Noun, frozen=True, kw_only=True):
    """`x509_svid`"""

    spki: bytes
    principal: str
    ttl_seconds: int
    dns: tuple[str, ...] = ()
    binding: Binding | None = None


class X509Requests(Noun, frozen=True, kw_only=True):
    """`x509_svids`"""

    requests: tuple[dict[str, Any], ...]


class CrlRequest(Noun, frozen=True, kw_only=True):
    """`crl`"""

    serials: tuple[str, ...] = ()
    number: int


class CaStepRequest(Noun, frozen=True, kw_only=True):
    """`ca_step`"""

    step: Step
    force: bool = False


class CaInstallRequest(Noun, frozen=True, kw_only=True):
    """`ca_install`"""

    chain: tuple[bytes, ...]
    root_fingerprint: str


class JwtRequest(Noun, frozen=True, kw_only=True):
    """`jwt_svid`"""

    principal: str
    audience: str
    more: tuple[str, ...] = ()
    """Further audiences, none of them ours."""
    ttl_seconds: int
    cnf_x5t: str = ""
    """Hexadecimal SHA-256 of the certificate that it is bound to."""
    cnf_jkt: str = ""
    """Base64url thumbprint of the key that it is bound to."""
    actors: tuple[str, ...] = ()
    scopes: tuple[str, ...] | None = None
    binding: Binding | None = None
    parents: tuple[str, ...] = ()


class SetRequest(Noun, frozen=True, kw_only=True):
    """`event_token`"""

    event: str
    issuer: str
    audience: str
    jti: str
    principal: str = ""
    sub: str = ""
    sub_issuer: str = ""
    """Provider that gave the person `sub`; empty where the principal itself is the subject."""
    credential: str = ""
    reason: str = ""
    at: UnixMillis = UnixMillis(0)
    state: str = ""


class VouchRequest(Noun, frozen=True, kw_only=True):
    """`vouch`"""

    role: str
    predicate_type: str
    predicate_version: int
    subjects: tuple[Subject, ...]
    outcome: Outcome
    not_before: UnixMillis
    expires_at: UnixMillis
    rests_on: tuple[str, ...] = ()
    tier: Tier
    method: Method
    claims: dict[str, Any] = {}


class CheckpointRequest(Noun, frozen=True, kw_only=True):
    """`checkpoint`"""

    origin: str
    size: int
    root_hash: bytes


class PolicyRequest(Noun, frozen=True, kw_only=True):
    """`policy`"""

    version: int
    policy_digest: str
    author: str
    approver: str
