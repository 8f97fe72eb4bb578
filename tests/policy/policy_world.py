"""A small World with one endpoint, and generators of policies, worlds and requests for the policy tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from vouchgate.policy import catalog
from vouchgate.policy.compile import CompiledPolicies, Request, compile_policies
from vouchgate.policy.facts import put_artifact, put_endpoint, put_principal
from vouchgate.policy.load import Source, read
from vouchgate.policy.values import Uid, to_value
from vouchgate.policy.world import Entity, Evidence, Held, World
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import CredentialKind, Principal, VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

NOW = UnixMillis(1_000)
LATE = UnixMillis(1_000_000)
DIGEST = "sha256:" + "ab" * 32
ENDPOINT = "vg://test.local/endpoint/digits"
ARTIFACT = f"vg://test.local/artifact/{DIGEST}"
CALLER = "spiffe://test.local/service/serve/app"
STRANGER = "spiffe://test.local/service/serve/stranger"
BATCH = "spiffe://test.local/job/train/nightly"
ONSITE = "spiffe://test.local/service/serve/onsite"
RESPONDER = "spiffe://test.local/person/office/responder"


def spine() -> CompiledPolicies:
    """The packs a newcomer gets."""
    return compile_policies(catalog.load([catalog.pack("ai_lifecycle")]), version=1)


def compiled(*texts: str) -> CompiledPolicies:
    """Loaded and compiled policies beside the base policy."""
    return compile_policies(catalog.load([Source("test.cedar", "\n".join(texts))]), version=1)


def raw(text: str, schema: str = "") -> CompiledPolicies:
    """Compiled without validation, as the corpus is."""
    return compile_policies(read([Source("raw.cedar", text)], schema))


def verified(name: str = CALLER, kind: CredentialKind = "x509", *, authenticated: bool = True, not_after: int = LATE) -> VerifiedPrincipal:
    """A caller whose credential was verified; only the identity room may do this outside tests."""
    return VerifiedPrincipal(
        principal=Principal(id=PrincipalId(name)),
        credential_kind=kind,
        credential_id="c" * 64,
        authenticated=authenticated,
        verified_at=UnixMillis(0),
        not_after=UnixMillis(not_after),
    )


def held(predicate: str, *, tier: Any = "verified", not_after: int = 500_000, vouch_id: str = "") -> Held:
    return Held(predicate, vouch_id or f"vouch-{predicate}", tier, UnixMillis(not_after))


def endpoint(*, model: str = DIGEST, zone: str = "serve") -> Endpoint:
    return Endpoint(
        id=resource_id(ENDPOINT), trust_domain=TrustDomain("test.local"), zone=zone, upstream="unix:/x", routes=(), model_digest=model
    )


def good_world(**lacking: str) -> World:
    """Everything `callers-may-infer` asks for, but for what `lacking` names with the reason."""
    world = World()
    for name, groups in (
        (CALLER, ("callers",)),
        (STRANGER, ()),
        (BATCH, ("batch-callers",)),
        (ONSITE, ("onsite-callers",)),
        (RESPONDER, ("role:responder",)),
    ):
        put_principal(world, Principal(id=PrincipalId(name), groups=groups))
    serves = () if "serves" in lacking else (held("serves", not_after=400_000),)
    put_endpoint(world, endpoint(), Evidence(serves, {name: why for name, why in lacking.items() if name == "serves"}))
    model = tuple(held(predicate) for predicate in ("scan", "structure") if predicate not in lacking)
    put_artifact(world, ARTIFACT, Evidence(model, {name: why for name, why in lacking.items() if name != "serves"}), ["serve"])
    return world


# -- random, mostly ill-typed policies over a tiny vocabulary: every operator, every kind of error

ATTRIBUTES = ("a", "b", "risk")
GROUPS = tuple(Uid("Group", name) for name in ("g1", "g2", "g3"))
PEOPLE = tuple(Uid("User", name) for name in ("u1", "u2"))
THINGS = tuple(Uid("Thing", name) for name in ("t1", "t2"))
ACTIONS = tuple(Uid("Action", name) for name in ("read", "write"))
_ATOMS = (
    "true", "false", "0", "1", "5", "9223372036854775807", "-9223372036854775808", '""', '"x"', '"xyx"',
    "principal", "resource", "action", "context", "context.a", "context.b", "context.risk", "principal.a", "principal.b", "resource.a",
    'Group::"g1"', 'User::"u1"', 'User::"nobody"', "[]", "[1, true]", '["x", "xyx"]', '[Group::"g1", Group::"g2"]', "{}", '{"a": 1}',
    'ip("10.0.0.1")', 'ip("10.0.0.0/8")', 'decimal("1.5")', 'datetime("2024-01-01")', 'duration("1h")', 'duration("9223372036854775807ms")',
)  # fmt: skip
_BINARY = ("{} && {}", "{} || {}", "{} == {}", "{} != {}", "{} < {}", "{} <= {}", "{} > {}", "{} >= {}", "{} + {}", "{} - {}", "{} * {}",
           "{} in {}")  # fmt: skip
_CALLS = (
    "contains",
    "containsAll",
    "containsAny",
    "isInRange",
    "lessThan",
    "greaterThanOrEqual",
    "offset",
    "durationSince",
    "hasTag",
    "getTag",
)
_UNARY = ("!({})", "-({})", "({}).isEmpty()", "({}).isIpv4()", "({}).isLoopback()", "({}).isMulticast()", "({}).toDate()", "({}).toTime()",
          "({}).toSeconds()", "({}) has a", "({}) has a.b", "({}).a", '({}) like "x*"', '({}) like "*y*x"', "({}) is User",
          '({}) is User in Group::"g2"', "[{}]", '{{"a": {}}}')  # fmt: skip


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda form, x, y: form.format(f"({x})", f"({y})"), st.sampled_from(_BINARY), inner, inner),
        st.builds(lambda call, x, y: f"({x}).{call}({y})", st.sampled_from(_CALLS), inner, inner),
        st.builds(lambda form, x: form.format(x), st.sampled_from(_UNARY), inner),
        st.builds(lambda c, x, y: f"(if {c} then {x} else {y})", inner, inner, inner),
    )


EXPRESSIONS = st.recursive(st.sampled_from(_ATOMS), _grow, max_leaves=8)
_BOOLEANS = st.one_of(
    st.sampled_from(("true", "context has a", "context has b", "principal has a", "context.risk < 5")),
    EXPRESSIONS,
    st.sampled_from(
        ("context.a", "context has a", "context.risk < 5", "context has b && context.b", 'principal in Group::"g1"', "true", "false")
    ),
    st.sampled_from(
        ("context has a && context.a == 1", "context has risk", "context.b == true", 'context.a like "x*"', "context.b in principal")
    ),
)
CONDITIONS = st.recursive(
    _BOOLEANS,
    lambda inner: st.builds(
        lambda form, x, y: form.format(x, y), st.sampled_from(("({}) && ({})", "({}) || ({})", "!({}) && ({})")), inner, inner
    ),
    max_leaves=5,
)
_PRINCIPALS = (
    *("principal",) * 8,
    'principal == User::"u1"',
    'principal in Group::"g1"',
    "principal is User",
    'principal is User in Group::"g3"',
)
_ACTIONS = (*("action",) * 5, 'action == Action::"read"', 'action in [Action::"read", Action::"write"]')
_RESOURCES = (*("resource",) * 8, 'resource == Thing::"t1"', 'resource in Group::"g2"', "resource is Thing")


@st.composite
def policy_texts(draw: st.DrawFn) -> str:
    """One to four policies, unvalidated."""
    texts = []
    for _ in range(draw(st.integers(1, 4))):
        effect = draw(st.sampled_from(("permit", "permit", "forbid")))
        scope = ", ".join(draw(st.sampled_from(side)) for side in (_PRINCIPALS, _ACTIONS, _RESOURCES))
        clauses = "".join(
            f" {draw(st.sampled_from(('when', 'when', 'unless')))} {{ {draw(CONDITIONS)} }}" for _ in range(draw(st.integers(0, 2)))
        )
        texts.append(f"{effect} ({scope}){clauses};")
    return "\n".join(texts)


_PLAIN = st.one_of(
    st.booleans(),
    st.integers(-2, 9),
    st.sampled_from(("", "x", "xyx")),
    st.sampled_from((*GROUPS, *PEOPLE)),
    st.lists(st.one_of(st.booleans(), st.integers(0, 1), st.just("x")), max_size=3),
    st.dictionaries(st.sampled_from(("a", "b")), st.integers(0, 1), max_size=2),
)
FACTS = st.dictionaries(st.sampled_from(ATTRIBUTES), _PLAIN.map(to_value), max_size=3)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Users and things in nested groups, some of which have no entity."""
    world = World()
    for uid in (*GROUPS, *PEOPLE, *THINGS):
        if draw(st.integers(0, 5)):
            above = [group for group in GROUPS if uid.type != "Group" or group.id > uid.id]
            parents = frozenset(draw(st.lists(st.sampled_from(above), max_size=2))) if above else frozenset()
            world.put(Entity(uid, draw(FACTS), parents, tags=draw(FACTS)))
    return world


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request over the tiny vocabulary."""
    return Request(draw(st.sampled_from(PEOPLE)), draw(st.sampled_from(ACTIONS)), draw(st.sampled_from(THINGS)), draw(FACTS))
