"""A file of decision vectors: a small world, the policies that hold in it, and what they must answer. Written in TOML by people.

Names are short: `service/serve/alice` is a caller of the file's trust domain, `endpoint/digits` or `dataset/set-1` a thing of it, and an
`artifact/...` that is not named by its digest stands for content of its own.
"""

from __future__ import annotations

from typing import Any, Literal

from vouchgate.vocabulary.places import Crossing
from vouchgate.vocabulary.wire import Noun

Verdict = Literal["allow", "deny", "ask"]
"""`ask`: nothing can be decided ahead of the request; the request's own facts decide it."""
VectorStatus = Literal["agrees", "differs", "not-a-request"]
"""`not-a-request`: through the gateway, a case that no request to it can bring about."""


class VectorPrincipal(Noun, frozen=True, kw_only=True):
    """A registered caller."""

    groups: tuple[str, ...] = ()
    vouches: tuple[str, ...] = ()
    """`posture`, `scan@rederived` ...: what holds; without a tier it is `verified`."""
    risk: int = 0


class VectorEndpoint(Noun, frozen=True, kw_only=True):
    """Something behind the gateway."""

    zone: str
    actions: tuple[str, ...] = ()
    """What can be asked of it, each by `POST /ACTION`; empty where `routes` say it, or for an MCP server."""
    routes: tuple[str, ...] = ()
    """`METHOD /path action`, as in the settings."""
    serves: str = ""
    """The artifact behind it, for example `artifact/classifier`."""
    vouches: tuple[str, ...] = ()
    tools: dict[str, tuple[str, ...]] = {}
    """Of an MCP server: tool -> what is vouched for of it."""
    labels: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    approvals: bool = False
    """Whether its bodies go to the decision point, as an approval takes it."""
    lacking: dict[str, str] = {}
    """Predicate -> why it does not hold: `absent`, `expired`, `failed`, `revoked`."""
    risk: int = 0


class VectorAsset(Noun, frozen=True, kw_only=True):
    """A dataset, model, adapter, artifact or key."""

    zones: tuple[str, ...] = ()
    content: str = ""
    """The artifact that the name stands for; its vouches hold for the name too."""
    base: str = ""
    vouches: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    lacking: dict[str, str] = {}


class VectorCase(Noun, frozen=True, kw_only=True):
    """One question and its answer."""

    name: str = ""
    who: str
    action: str
    what: str
    context: dict[str, Any] = {}
    """The request's own facts; a fact that is left out is absent."""
    expect: Verdict
    because: tuple[str, ...] = ()
    """Policies that decide, all of them; nothing where that is not stated."""
    obligations: tuple[str, ...] = ()
    """`kind=value`, all of them."""
    missing: tuple[str, ...] = ()
    """Predicates that the denial names as missing, all of them."""


class VectorFile(Noun, frozen=True, kw_only=True):
    """One file."""

    trust_domain: str = "example.local"
    policies: tuple[str, ...]
    """`pack:NAME`, or a Cedar file beside this one."""
    principals: dict[str, VectorPrincipal] = {}
    endpoints: dict[str, VectorEndpoint] = {}
    assets: dict[str, VectorAsset] = {}
    crossings: tuple[Crossing, ...] = ()
    revoked: tuple[str, ...] = ()
    """Callers, things and artifacts that are revoked."""
    cases: tuple[VectorCase, ...]


class VectorOutcome(Noun, frozen=True, kw_only=True):
    """One case as it came out."""

    name: str
    status: VectorStatus
    verdict: Verdict
    expected: Verdict
    told: tuple[str, ...] = ()
    """What differs, or why no request can bring it about."""


class VectorReport(Noun, frozen=True, kw_only=True):
    """One file as it came out, in one of the two ways."""

    file: str
    through: Literal["in-process", "gateway"]
    agreed: int
    total: int
    not_requests: int = 0
    """Of `total`: cases that are not asked through the gateway, since no request can bring them about."""
    outcomes: tuple[VectorOutcome, ...]
