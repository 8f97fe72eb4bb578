"""Facts that are imagined: the world of a file of decision vectors, in which things hold because the file says so.

Rules
1. It is for trying policies out. Nothing here is signed, and nothing of an installation reads it.
2. Everything but the evidence is the product's own: entities, crossings, deciding, revoking, and what the PDP does with a request.
3. A name that the file does not define is an error; a typing mistake would else pass for a denial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from vouchgate.flows.changes import AssetPut, EndpointPut, PolicyActivated, RegistrationPut, Revoked, RiskSet, ZonePut
from vouchgate.flows.facts import Facts, sources_digest
from vouchgate.flows.sequence import Sequenced
from vouchgate.policy import facts as world_facts
from vouchgate.policy.world import Evidence, Held
from vouchgate.vocabulary.decision_vectors import VectorAsset, VectorEndpoint, VectorFile
from vouchgate.vocabulary.decisions import Risk
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.mcp import MCP, tool_id
from vouchgate.vocabulary.names import PrincipalId, ResourceId, TrustDomain, principal_id, resource, resource_id
from vouchgate.vocabulary.places import Asset, Endpoint, Route, Zone
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.vouches import TIERS, Revocation, UnixMillis, Vouch

LASTS_MS = 30 * 86_400_000
"""Milliseconds for which what is imagined to hold holds."""
WHY = ("absent", "expired", "failed", "revoked", "unverified")


class Imagined(Facts):
    """See the module's text."""

    def __init__(self, trust_domain: str, now: UnixMillis) -> None:
        super().__init__(trust_domain, "")
        self._imagined: dict[str, Evidence] = {}
        self._serving: dict[str, str] = {}
        """Endpoint -> digest text that it serves."""
        self._at = now

    def imagine(self, name: str, vouches: Iterable[str], lacking: Mapping[str, str] | None = None) -> None:
        """What is vouched for of a name. Raises `InvalidInput`."""
        held = tuple(self._held(name, text) for text in vouches)
        for predicate, why in (lacking or {}).items():
            if why not in WHY:
                raise InvalidInput(f"`{predicate[:64]}` of `{name[:120]}` is `{why[:32]}`", remedy=f"say one of {', '.join(WHY)}")
        self._imagined[name] = Evidence(held, dict(lacking or {}))

    def serve(self, endpoint_id: str, digest: str) -> None:
        """What an endpoint is seen to serve."""
        self._serving[endpoint_id] = digest

    def _held(self, name: str, text: str) -> Held:
        predicate, _, tier = text.partition("@")
        if not predicate or (tier and tier not in TIERS):
            raise InvalidInput(f"`{text[:64]}` is no vouch", remedy=f"write `scan`, or `scan@TIER` with one of {', '.join(TIERS)}")
        seed = f"{name}\0{text}".encode()
        return Held(predicate, hashlib.sha256(seed).hexdigest(), tier or "verified", UnixMillis(self._at + LASTS_MS))

    def evidence(self, name: str, now: UnixMillis) -> Evidence:
        """What the file says; a revoked thing has nothing."""
        found = self._imagined.get(name, Evidence())
        content = name.rpartition("/")[2]
        if self._standing.get(("digest", content)):
            return Evidence((), {held.predicate: "revoked" for held in found.held} | dict(found.lacking))
        return found

    def about(self, name: str) -> list[Vouch]:
        """No vouch of the file is a document."""
        return []

    def _asset_evidence(self, asset: Asset, now: UnixMillis) -> Evidence:
        own = self.evidence(asset.id, now)
        if not asset.digest:
            return own
        content = self.evidence(resource(self.trust_domain, "artifact", asset.digest), now)
        return Evidence(tuple(dict.fromkeys((*own.held, *content.held))), {**content.lacking, **own.lacking})

    def _renew_endpoint(self, endpoint_id: str, now: UnixMillis) -> None:
        endpoint, digest = self.endpoints.get(endpoint_id), self._serving.get(endpoint_id, "")
        if endpoint is None:
            return
        self.endpoints[endpoint_id] = endpoint = msgspec.structs.replace(endpoint, model_digest=digest)
        if digest:
            artifact = resource(self.trust_domain, "artifact", digest)
            world_facts.put_artifact(self.world, artifact, self.evidence(artifact, now))
        world_facts.put_endpoint(self.world, endpoint, self.evidence(endpoint_id, now))
        for tool in endpoint.tools.values():
            world_facts.put_tool(self.world, tool, endpoint, self.evidence(tool, now))


def imagine(vectors: VectorFile, sources: Sequence[tuple[str, str]], upstream: str, now: UnixMillis) -> Imagined:
    """The facts of a file; every endpoint answers at `upstream`. Raises `InvalidInput`, `InvalidPolicy`."""
    td = TrustDomain(vectors.trust_domain)
    facts = Imagined(td, now)
    changes: list[Any] = [ZonePut(zone=Zone(name=name, trust_domain=td)) for name in sorted(_zones(vectors))]
    changes += _evidence(facts, vectors)
    changes += [EndpointPut(endpoint=_endpoint(vectors, name, one, upstream)) for name, one in vectors.endpoints.items()]
    for name, one in vectors.principals.items():
        who = full_who(vectors, name)
        facts.imagine(who, one.vouches)
        put = Registration(principal=PrincipalId(who), trust_domain=td, groups=one.groups, created_at=now)
        changes += [RegistrationPut(registration=put), RiskSet(subject=who, risk=Risk(value=one.risk))]
    changes += [Revoked(revocation=_revocation(vectors, name, now)) for name in vectors.revoked]
    for change in changes:
        facts.apply(Sequenced(epoch=0, log_index=-1, change=change), now)
    facts.crossings = vectors.crossings
    facts.policy = PolicyActivated(
        version=1, sources=tuple(sources), digest=sources_digest(sources), envelope=b"", author="", approver="", applied_at=now
    )
    facts._compile()
    return facts


def _zones(vectors: VectorFile) -> set[str]:
    named = {one.zone for one in vectors.endpoints.values()} | {zone for one in vectors.assets.values() for zone in one.zones}
    named |= {name.split("/")[1] for name in vectors.principals if name.count("/") == 2}
    return named | {zone for one in vectors.crossings for zone in (one.source, one.target) if zone != "*"}


def _evidence(facts: Imagined, vectors: VectorFile) -> list[AssetPut]:
    """What the file says of things, before they are placed."""
    placed = []
    for name, one in vectors.assets.items():
        asset = _asset(vectors, name, one)
        facts.imagine(asset.id, one.vouches, one.lacking)
        placed.append(AssetPut(asset=asset))
    for name, server in vectors.endpoints.items():
        endpoint_id = full_what(vectors, f"endpoint/{name}")
        facts.imagine(endpoint_id, server.vouches, server.lacking)
        for tool, vouches in server.tools.items():
            facts.imagine(str(tool_id(endpoint_id, tool)), vouches)
        if server.serves:
            facts.serve(endpoint_id, _content(vectors, server.serves))
    return placed


def _asset(vectors: VectorFile, name: str, one: VectorAsset) -> Asset:
    return Asset(
        id=ResourceId(full_what(vectors, name)),
        zones=one.zones,
        digest=_content(vectors, one.content) if one.content else "",
        base=_content(vectors, one.base) if one.base else "",
        labels=one.labels,
        purposes=one.purposes,
    )


def _content(vectors: VectorFile, name: str) -> str:
    if name not in vectors.assets or not name.startswith("artifact/"):
        raise InvalidInput(f"`{name[:120]}` is no artifact of this file", remedy='define it: [assets."artifact/..."]')
    return full_what(vectors, name).rpartition("/")[2]


def _endpoint(vectors: VectorFile, name: str, one: VectorEndpoint, upstream: str) -> Endpoint:
    endpoint_id = ResourceId(full_what(vectors, f"endpoint/{name}"))
    given = [_route(text) for text in one.routes] or [Route(method="POST", path=f"/{action}", action=action) for action in one.actions]
    return Endpoint(
        id=endpoint_id,
        trust_domain=TrustDomain(vectors.trust_domain),
        zone=one.zone,
        upstream=upstream,
        prefix=f"/{name}",
        routes=(Route(method="POST", path="/mcp", action=MCP),) if one.tools else tuple(given),
        mcp=bool(one.tools),
        tools={tool: str(tool_id(endpoint_id, tool)) for tool in one.tools},
        labels=one.labels,
        purposes=one.purposes,
        approvals=one.approvals,
    )


def _route(text: str) -> Route:
    parts = text.split()
    if len(parts) != 3:
        raise InvalidInput(f"`{text[:120]}` is no route", remedy="write `METHOD /path action`")
    return Route(method=parts[0], path=parts[1], action=parts[2])


def _revocation(vectors: VectorFile, name: str, now: UnixMillis) -> Revocation:
    who = name in vectors.principals
    target = full_who(vectors, name) if who else full_what(vectors, name).rpartition("/")[2]
    if not who and not target.startswith("sha256:"):
        raise InvalidInput(f"`{name[:120]}` cannot be revoked here", remedy="name a caller or an artifact of this file")
    return Revocation(
        id=hashlib.sha256(name.encode()).hexdigest()[:16],
        trust_domain=TrustDomain(vectors.trust_domain),
        target_kind="principal" if who else "digest",
        target=target,
        reason="the vectors say so",
        requested_by="vectors",
        made_at=now,
    )


def full_who(vectors: VectorFile, name: str) -> str:
    """`spiffe://...` of a short name. Raises `InvalidInput`."""
    return principal_id(name if name.startswith("spiffe://") else f"spiffe://{vectors.trust_domain}/{name}")


def full_what(vectors: VectorFile, name: str) -> str:
    """`vg://...` of a short name; an artifact without a digest gets one of its own. Raises `InvalidInput`."""
    if name.startswith("vg://"):
        return resource_id(name)
    kind, _, rest = name.partition("/")
    if kind == "artifact" and not rest.startswith("sha256:"):
        rest = "sha256:" + hashlib.sha256(f"{vectors.trust_domain}/{rest}".encode()).hexdigest()
    return resource_id(f"vg://{vectors.trust_domain}/{kind}/{rest}")
