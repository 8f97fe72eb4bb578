"""Zone, Endpoint: where things are, and what can be asked of them."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.decisions import Mode
from vouchgate.vocabulary.mcp import CALL_TOOL, MCP, METHODS
from vouchgate.vocabulary.names import ResourceId, TrustDomain
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

MAX_APPROVAL_BODY = 16 * 1024
"""Bytes of a body that a person is asked to approve: more than anybody reads."""
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


class Asset(Noun, frozen=True, kw_only=True):
    """A dataset, model, adapter, key or artifact, and where it was placed."""

    id: ResourceId
    """`vg://td/<dataset | model | adapter | key | artifact>/<name or digest>`."""
    zones: tuple[str, ...] = ()
    """Where it lies; a thing that lies nowhere passes no crossing."""
    digest: str = ""
    """Digest text of the content that the name stands for; empty for an artifact, whose name is its digest, and where it is not known."""
    base: str = ""
    """Digest text of the model that an adapter belongs to."""
    labels: tuple[str, ...] = ()
    """What it holds, for policies: `personal`, `secret` ..."""
    purposes: tuple[str, ...] = ()
    """What it may be used for."""


class Crossing(Noun, frozen=True, kw_only=True):
    """What may pass from one zone to another: whoever acts in `source` may do `actions` on things of these kinds in `target`."""

    source: str
    target: str
    actions: tuple[str, ...]
    kinds: tuple[str, ...] = ("endpoint",)
    """Of `endpoint`, `tool`, `dataset`, `model`, `adapter`, `artifact`, `key`."""
    vouches: tuple[str, ...] = ()
    """What must hold of the thing that passes, for example `scan` or `serves@rederived`."""
    why: str = ""


class Route(Noun, frozen=True, kw_only=True):
    """One listed method + path template of an endpoint; what is not listed does not exist."""

    method: str
    path: str
    """Exact path, or a template with `{name}` segments, each `[A-Za-z0-9._-]{1,64}`."""
    action: str
    """Action that a caller must be granted, for example `infer`."""
    streams: bool = False
    """Responses may be server-sent events; logged at start and end."""


class Budget(Noun, frozen=True, kw_only=True):
    """What one caller may use of a destination on one day (UTC); 0 is no bound."""

    requests: int = 0
    bytes: int = 0
    """Bytes of bodies, both ways."""


class Egress(Noun, frozen=True, kw_only=True):
    """A provider outside, reached through the egress listener alone; its key is put in on the way, and no caller ever holds it."""

    secret: str = ""
    """Name of the entry of [[secrets]]; empty for a destination that takes none."""
    header: str = "authorization"
    """Header that carries it; whatever the caller sends there is removed."""
    prefix: str = "Bearer "
    """Before the secret in that header."""
    query: bool = False
    """Whether a call may have a query; some providers take a key there, by which a caller could call as somebody else."""
    ca_file: str = ""
    """PEM file of the authorities that may vouch for the provider; empty for the system's."""
    budget: Budget = Budget()


class Endpoint(Noun, frozen=True, kw_only=True):
    """Something that answers, behind the gateway."""

    id: ResourceId
    trust_domain: TrustDomain
    zone: str
    upstream: str
    """`unix:/path/to.sock` or `tcp:127.0.0.1:9000`; of a provider `https:api.example.com:443`."""
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
    asset: str = ""
    """Resource id of the dataset, model or adapter that is read and written through it: that is then what is asked for, under the asset's own
    zones, labels and vouches. Empty: the endpoint itself."""
    mcp: bool = False
    """Whether it is an MCP server: the JSON-RPC message in the body names the action, and the tool (vocabulary/mcp.py)."""
    tools: dict[str, str] = {}
    """Tool as the server calls it -> its resource id; another one is refused."""
    methods: dict[str, str] = {}
    """MCP method -> action, beside `METHODS`."""
    resource_uri: str = ""
    """Its canonical URI (RFC 8707, section 2); empty for https, the gateway's authority and the path."""
    egress: Egress | None = None
    """Set for a provider outside; its `upstream` is then `https:host:port`."""
    labels: tuple[str, ...] = ()
    """Labels of the data that it may be sent, for policies."""
    purposes: tuple[str, ...] = ()
    """What it may be used for, for policies."""
    approvals: bool = False
    """Whether whole bodies go to the decision point, so that a person can agree to one; a larger one than `MAX_APPROVAL_BODY` is refused."""
    wrapped: bool = False
    """An unmodified legacy server: any method and path, plain listener in observe."""
    max_stream_seconds: int = DEFAULT_MAX_STREAM_SECONDS
    model_digest: str = ""
    """Digest text that the newest `serves` vouch names; empty while none holds."""
    digest_tier: Literal["verified", "rederived", "cooperative", "declared", "inferred", ""] = ""


def resource_of(endpoint: Endpoint, *, model: str = "", tool: str = "") -> str:
    """What a request that names this model or tool asks for; empty where the endpoint offers no such thing."""
    if tool:
        return endpoint.tools.get(tool, "")
    return endpoint.models.get(model, "") if endpoint.model_in_body else endpoint.asset or str(endpoint.id)


def asks(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Every (action, resource) that one of its requests can ask for."""
    listed = {route.action for route in endpoint.routes} - {MCP}
    if endpoint.mcp:
        listed |= set((METHODS | endpoint.methods).values()) - {CALL_TOOL}
        tools = {(CALL_TOOL, name) for name in endpoint.tools.values()}
        return sorted(tools | {(action, str(endpoint.id)) for action in listed})
    named = sorted(set(endpoint.models.values())) if endpoint.model_in_body else [endpoint.asset or str(endpoint.id)]
    return [(action, name) for action in sorted(listed) for name in named]


def canonical_uri(endpoint: Endpoint, authority: str) -> str:
    """Under which clients know it (RFC 8707, section 2); `authority` is the gateway's, as `host` or `host:port`."""
    host = authority if endpoint.host == "*" else endpoint.host + authority[len(authority.partition(":")[0]) :]
    paths = [route.path for route in endpoint.routes if route.action == MCP]
    return endpoint.resource_uri or f"https://{host}{endpoint.prefix}{paths[0] if paths else ''}"
