"""Zone, Placement, Endpoint: where things are."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.decisions import Mode
from vouchgate.vocabulary.names import ResourceId, TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

DEFAULT_LEASE_SECONDS = 10
"""How long an enforcement point goes on without the control plane; the default trades availability for safety."""
MAX_LEASE_SECONDS = 15 * 60
"""Ceiling of a zone's lease; beyond it a withdrawn model would answer too long."""
DEFAULT_MAX_STREAM_SECONDS = 120
"""A request admitted before a revocation ends within this."""


class Zone(Noun, frozen=True, kw_only=True):
    """A stage of the AI lifecycle with its own mode and lease."""

    name: str
    trust_domain: TrustDomain
    mode: Mode = "enforce"
    observe_until: UnixMillis = UnixMillis(0)
    """When observe turns into enforce by itself; 0 in enforce."""
    lease_seconds: int = DEFAULT_LEASE_SECONDS


class Placement(Noun, frozen=True, kw_only=True):
    """An artifact is in a zone; an attribute, never part of its name."""

    artifact: ResourceId
    zone: str


class Route(Noun, frozen=True, kw_only=True):
    """One listed method + path template of an endpoint; what is not listed does not exist."""

    method: str
    path: str
    """Exact path, or a template with `{name}` segments, each `[A-Za-z0-9._-]{1,64}`."""
    action: str
    """Action that a caller must be granted, for example `infer`."""
    streams: bool = False
    """Responses may be server-sent events; logged at start and end."""


class Endpoint(Noun, frozen=True, kw_only=True):
    """Something that answers, behind the gateway."""

    id: ResourceId
    trust_domain: TrustDomain
    zone: str
    upstream: str
    """`unix:/path/to.sock` or `tcp:127.0.0.1:9000`."""
    host: str = "*"
    """Host name under which it is reached, or `*` for every host the gateway lists."""
    prefix: str = ""
    """Path prefix under which its routes are reached, stripped before the upstream sees them; empty for none."""
    routes: tuple[Route, ...]
    bearer: bool = False
    """Whether a JWT-SVID alone identifies a caller here."""
    model_in_body: bool = False
    """Whether the JSON member `model` of the body names the resource (OpenAI-compatible APIs)."""
    models: dict[str, str] = {}
    """Model name as the API says it -> endpoint resource id it stands for; only with `model_in_body`."""
    wrapped: bool = False
    """An unmodified legacy server: any method and path, plain listener in observe."""
    max_stream_seconds: int = DEFAULT_MAX_STREAM_SECONDS
    model_digest: str = ""
    """Digest text that the newest `serves` vouch names; empty while none holds."""
    digest_tier: Literal["verified", "rederived", "cooperative", "declared", "inferred", ""] = ""
