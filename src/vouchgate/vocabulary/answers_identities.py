"""What is asked and answered about identities: issuing and registering them, runs, tokens for somebody, partners, logins.

The rules of answers.py hold here too.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vouchgate.vocabulary.answers import NEVER, PointOutcome
from vouchgate.vocabulary.names import PrincipalId
from vouchgate.vocabulary.principals import Selector
from vouchgate.vocabulary.runs import MAX_RUN_INPUTS, MAX_RUN_SECONDS, Run
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class IdentityRequest(Noun, frozen=True, kw_only=True):
    """Ask for a credential. A private key never travels: the caller made it and sends the public half."""

    kind: str
    zone: str
    name: str
    groups: tuple[str, ...] | None = None
    """None: those of the registration; otherwise the registration is created or changed."""
    form: Literal["x509", "jwt"]
    audience: str = ""
    """JWT only: the id of the endpoint, exactly."""
    ttl_seconds: int = 0
    """0: the registration's own."""
    spki: bytes = b""
    """X.509: DER SubjectPublicKeyInfo of a P-256 key. JWT: optional, binds the token to a certificate with that key."""
    run: str = ""
    """Id of the run that the credential is bound to, and with which it dies."""


class RunRequest(Noun, frozen=True, kw_only=True):
    """Begin a run: who runs, what it does, and what it may read. The inputs cannot be changed afterwards."""

    principal: str
    """A job's or step's whole or short name."""
    stage: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    purpose: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?\Z")] = ""
    """What it is begun for; policies read it on each of the run's requests."""
    inputs: Annotated[tuple[str, ...], Meta(max_length=MAX_RUN_INPUTS)] = ()
    """Digests of admitted artifacts."""
    seconds: Annotated[int, Meta(ge=10, le=MAX_RUN_SECONDS)] = 3600


class RunOutcome(Noun, frozen=True, kw_only=True):
    """A run that began or ended; after an end, at which points its credentials are struck."""

    run: Run
    credentials: int = 0
    """Live credentials that ended with it."""
    points: tuple[PointOutcome, ...] = ()


class ExchangeRequest(Noun, frozen=True, kw_only=True):
    """Token exchange over this machine's socket: the caller is who acts."""

    form: dict[str, str]
    """The parameters of RFC 8693, section 2.1."""
    proof: Annotated[str, Meta(max_length=4096)] = ""
    """A DPoP proof for the token service's address, by the key that the token is to be bound to."""


class ExchangeOutcome(Noun, frozen=True, kw_only=True):
    """The token, or why there is none."""

    access_token: str = ""
    token_type: str = ""
    expires_in: int = 0
    scope: str = ""
    error: str = ""
    reason: str = ""
    remedy: str = ""


class TokenServiceState(Noun, frozen=True, kw_only=True):
    """Where the token service is."""

    url: str
    audience: str
    """What a token that is to be exchanged is made for."""


class RegistrationRequest(Noun, frozen=True, kw_only=True):
    """Say which facts earn an identity; one that exists is replaced."""

    kind: str
    zone: str
    name: str
    selectors: tuple[Selector, ...] = ()
    """All of them must be established; none: only an administrator issues for it."""
    groups: tuple[str, ...] = ()
    svid_seconds: int = 0
    """0: by kind, five minutes for agents and an hour for others."""
    jwt_seconds: int = 0
    dns: tuple[str, ...] = ()
    endpoint: str = ""
    """Id or name of the endpoint that this model server answers for."""
    federates_with: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    """Networks that count as usual at once, for example `10.1.0.0/16`."""
    hours: str = ""
    """Hours (UTC) that count as usual at once, for example `8-18`."""
    expires_at: UnixMillis = NEVER


class JoinTokenRequest(Noun, frozen=True, kw_only=True):
    """A token with which one workload earns a registration once."""

    principal: str
    ttl_seconds: Annotated[int, Meta(ge=10, le=86_400)] = 600


class JoinToken(Noun, frozen=True, kw_only=True):
    """Shown once; the control plane keeps a hash."""

    token: str
    principal: PrincipalId
    expires_at: UnixMillis


class PartnerState(Noun, frozen=True, kw_only=True):
    """A foreign trust domain and the bundle that verifies its callers."""

    name: str
    trust_domain: str
    profile: Literal["https_web", "https_spiffe", "file"]
    state: Literal["trusted", "refused"]
    """`refused`: no bundle of it is recorded, so none of its callers passes."""
    sequence: int
    fetched_at: UnixMillis
    next_at: UnixMillis
    callers: int
    """Its callers that are registered here."""
    problem: str = ""
    stale_at: UnixMillis = UnixMillis(0)
    """When its callers are refused unless its bundle can be fetched again; 0 while nothing is wrong."""


class IssuedIdentity(Noun, frozen=True, kw_only=True):
    """A credential, and the bundle that verifies the other side."""

    principal: PrincipalId
    form: Literal["x509", "jwt"]
    certificates: str = ""
    """PEM, leaf first."""
    bundle: str = ""
    """PEM of the trust domain's CAs."""
    token: str = ""
    credential_id: str
    not_after: UnixMillis
    groups: tuple[str, ...] = ()


class CodeIssued(Noun, frozen=True, kw_only=True):
    """A one-time code for the console."""

    code: str
    url: str
    expires_at: UnixMillis


class LoginProvider(Noun, frozen=True, kw_only=True):
    """An identity provider that people log in with."""

    name: str
    title: str


class LoginBegun(Noun, frozen=True, kw_only=True):
    """A login that waits for the person's browser to come back."""

    url: str
    """Where the browser goes."""
    state: str
    binding: str
    """What only the browser or command line that began the login keeps."""
    expires_at: UnixMillis


class LoggedIn(Noun, frozen=True, kw_only=True):
    """Who a session stands for."""

    principal: PrincipalId
    groups: tuple[str, ...] = ()
    how: Literal["uid", "cookie", "session"]
    shown: str = ""
    """Their name, for people to read."""
    csrf: str = ""
    token: str = ""
    """The session's token, once, where the command line logged in."""
    ends_at: UnixMillis = NEVER
