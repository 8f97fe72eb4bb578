"""Random policies of the product's schema, and random worlds and requests over the same few names: what a proof must never contradict."""

from __future__ import annotations

import random
from typing import Any

from vouchgate.policy import catalog
from vouchgate.policy.compile import CompiledPolicies, Request, compile_policies
from vouchgate.policy.extensions import Ip
from vouchgate.policy.facts import put_artifact, put_asset, put_endpoint, put_group, put_principal, put_run, put_system, put_tool, put_zone
from vouchgate.policy.load import Source, read
from vouchgate.policy.values import Uid
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.names import PrincipalId, ResourceId, TrustDomain, principal_id, resource_id
from vouchgate.vocabulary.places import Asset, Egress, Endpoint
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.vouches import TIERS, UnixMillis

SCHEMA = catalog.schema_text()
TD = "prove.local"
LATE = UnixMillis(2**40)
DIGESTS = tuple(f"sha256:{pair * 32}" for pair in ("ab", "cd"))
GROUPS, ZONES = ("callers", "staff", "admins"), ("serve", "train", "prepare")
PEOPLE = tuple(f"spiffe://{TD}/{kind}/{zone}/{name}" for kind, zone, name in (
    ("service", "serve", "app"), ("job", "train", "fit"), ("person", "prepare", "ann"), ("agent", "serve", "bot")))  # fmt: skip
ENDPOINTS = tuple(f"vg://{TD}/endpoint/{name}" for name in ("digits", "chat"))
TOOL = f"vg://{TD}/tool/search"
DATASET = f"vg://{TD}/dataset/wards"
ACTIONS = ("infer", "chat", "export", "train", "deploy", "call-tool", "release-key", "administer:status", "use", "move")

_HEADS = (
    ("principal",) * 4
    + ('principal in Group::"callers"', 'principal in Group::"staff"', 'principal in Zone::"serve"', f'principal == Principal::"{PEOPLE[0]}"',
       'principal is Principal in Group::"admins"'),
    ("action",) * 2
    + ('action == Action::"infer"', 'action in [Action::"infer", Action::"chat"]', 'action in Action::"use"', 'action in Action::"move"',
       'action == Action::"export"', 'action == Action::"call-tool"'),
    ("resource",) * 3
    + ("resource is Endpoint", 'resource is Endpoint in Zone::"serve"', 'resource in Zone::"train"', f'resource == Endpoint::"{ENDPOINTS[0]}"',
       f'resource in Endpoint::"{ENDPOINTS[1]}"', "resource is Dataset", "resource is Tool"),
)  # fmt: skip
ATOMS = (
    "context.risk < 60", "context.risk >= 80", "context.authenticated", "context.delegated", 'context.credential == "declared"', 'context.credential == "x509"',
    "context has hour && context.hour >= 22", "context has hour && context.hour < 6", "context has source_ip && context.source_ip.isLoopback()",
    'context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8"))', 'context has source_ip && context.source_ip == ip("10.0.0.1")',
    'context has purpose && resource.purposes.contains(context.purpose)', 'context has purpose && context.purpose == "care"',
    'resource.vouches.contains("scan")', 'resource.vouches.containsAll(["scan", "structure@rederived"])', 'resource.vouches.containsAny(["scan@verified", "import"])',
    'resource has model && resource.model.vouches.contains("scan")', "resource has model", "resource.wrapped", "resource.outside",
    'resource.labels.contains("personal")', 'resource.labels.isEmpty()', 'resource.labels == resource.purposes', 'resource.purposes.containsAll(resource.labels)',
    'resource.labels.containsAny(resource.purposes)', 'resource.labels == ["personal"]', 'principal.vouches.contains("posture@verified")',
    'principal.kind == "person"', 'principal.zone == "serve"', 'principal.zone == principal.name', 'principal in Group::"callers"', 'principal in [Group::"staff", Group::"admins"]',
    'resource in Zone::"serve"', 'resource is Endpoint', 'resource is Tool && resource.endpoint.wrapped', 'resource is Tool && resource.endpoint in Zone::"train"',
    f'resource == Endpoint::"{ENDPOINTS[0]}"', f'Endpoint::"{ENDPOINTS[1]}".wrapped', 'action == Action::"infer"', 'action in Action::"use"',
    'if resource has model then context.risk < 30 else context.delegated', 'if context.delegated then resource.wrapped else resource.outside',
    'resource has content && resource.content.vouches.contains("scan")', 'context has depth && context.depth <= 2', 'context has depth && context.depth + 1 <= 2',
    'context.hour < 9', 'resource.model.vouches.contains("scan")', 'context has run && context.run == "r"', "[principal].contains(resource)", "resource in principal",
    'principal in resource', '["callers", "x"].contains(principal.zone)', "true", "false", "principal == resource",
)  # fmt: skip
PATTERNS = (
    'context has path && context.path like "/v1/*"', 'context has path && context.path like "*.json"', 'principal.name like "a*"', 'principal.zone like "*e*"',
    'context has path && context.path == "/v1/x"',
)  # fmt: skip


def condition(chance: random.Random, depth: int = 2, atoms: tuple[str, ...] = ATOMS) -> str:
    """A Boolean expression; not every one is valid for every resource, so some err."""
    if depth == 0 or chance.random() < 0.35:
        return chance.choice(atoms)
    form = chance.choice(("({}) && ({})", "({}) && ({})", "({}) || ({})", "!({}) && ({})"))
    return form.format(condition(chance, depth - 1, atoms), condition(chance, depth - 1, atoms))


def policy_texts(chance: random.Random, *, most: int = 4, atoms: tuple[str, ...] = ATOMS) -> str:
    """Some policies; the first permits."""
    texts = []
    for number in range(chance.randint(1, most)):
        effect = "permit" if number == 0 else chance.choice(("permit", "forbid", "forbid"))
        bound = f'@oblige("budget={chance.choice((5, 10))}/minute") ' if effect == "forbid" and chance.random() < 0.3 else ""
        head = ", ".join(chance.choice(side) for side in _HEADS)
        clause = f"{chance.choice(('when', 'when', 'unless'))} {{ {condition(chance, atoms=atoms)} }}" if chance.random() < 0.8 else ""
        texts.append(f'@id("p{number}") {bound}{effect} ({head}) {clause};')
    return "\n".join(texts)


def compiled(text: str) -> CompiledPolicies:
    """Unvalidated: what is ill-typed errs, and the proof has to know it."""
    return compile_policies(read([Source("random.cedar", text)], SCHEMA))


def _evidence(chance: random.Random, *predicates: str) -> Evidence:
    return Evidence(tuple(Held(one, f"v-{one}", chance.choice(TIERS), LATE) for one in predicates if chance.random() < 0.5))


def _some(chance: random.Random, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if chance.random() < 0.4)


def world(chance: random.Random) -> World:
    """Made as vouchgate makes worlds: by `facts.put_*` alone."""
    made = World()
    put_system(made, f"vg://{TD}/system/control", Evidence())
    for zone in ZONES:
        put_zone(made, zone)
    put_group(made, "admins", ["staff"] if chance.random() < 0.5 else [])
    for name in PEOPLE:
        put_principal(made, Principal(id=principal_id(name), groups=_some(chance, GROUPS)), _evidence(chance, "posture"))
    for digest in DIGESTS:
        put_artifact(made, f"vg://{TD}/artifact/{digest}", _evidence(chance, "scan", "structure", "import"), _some(chance, ZONES))
    for name in ENDPOINTS:
        endpoint = Endpoint(
            id=resource_id(name), trust_domain=TrustDomain(TD), zone=chance.choice(ZONES), upstream="unix:/x", routes=(), wrapped=chance.random() < 0.3,
            egress=Egress() if chance.random() < 0.3 else None, labels=_some(chance, ("personal", "care")), purposes=_some(chance, ("care", "personal")),
            model_digest=chance.choice((*DIGESTS, "")),
        )  # fmt: skip
        put_endpoint(made, endpoint, _evidence(chance, "serves", "scan"))
        if name == ENDPOINTS[0]:
            put_tool(made, TOOL, endpoint, _evidence(chance, "scan"))
    asset = Asset(
        id=ResourceId(DATASET), zones=_some(chance, ZONES), digest=chance.choice((*DIGESTS, "")), labels=_some(chance, ("personal", "care")),
        purposes=_some(chance, ("care", "personal")),
    )  # fmt: skip
    put_asset(made, asset, _evidence(chance, "scan", "import"))
    run = Run(
        id="run-0123456789abcdef", trust_domain=TrustDomain(TD), principal=PrincipalId(PEOPLE[1]), zone="train", stage="train", started_at=UnixMillis(0), not_after=LATE,
    )  # fmt: skip
    put_run(made, run)
    return made


def context(chance: random.Random) -> dict[str, Any]:
    """Facts of a request, optional ones by chance."""
    found: dict[str, Any] = {
        "risk": chance.choice((0, 29, 30, 59, 60, 79, 80, 100)),
        "authenticated": chance.random() < 0.8,
        "credential": chance.choice(("x509", "jwt", "declared")),
        "delegated": chance.random() < 0.3,
    }
    more = {
        "hour": chance.choice((0, 5, 6, 12, 22, 23)), "purpose": chance.choice(("care", "ads")), "depth": chance.choice((1, 2, 3)), "run": chance.choice(("r", "s")),
        "source_ip": chance.choice((Ip(4, 0x7F000001, 32), Ip(4, 0x0A000001, 32), Ip(4, 0x08080808, 32), Ip(6, 1, 128))),
        "path": chance.choice(("/v1/x", "/v1/a.json", "/v2", "a.json")),
    }  # fmt: skip
    return found | {name: value for name, value in more.items() if chance.random() < 0.5}


def request(chance: random.Random, made: World) -> Request:
    """Anybody asks for anything."""
    things = [uid for uid in made.entities if uid.type not in ("Principal", "Group")]
    return Request(Uid("Principal", chance.choice(PEOPLE)), Uid("Action", chance.choice(ACTIONS)), chance.choice(things), context(chance))
