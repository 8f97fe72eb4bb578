"""The policy world as it is derived from the facts: entities with their zones, attributes and what is vouched for of them.

Rules
1. An entity is made again from the facts, never changed in place; what stands for another (a name for content) is made again with it.
2. A name that nothing was placed under holds what is vouched for of it, and nothing else.
3. What is known of a name, and which waivers stand in for what is missing, stands in facts_waivers.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vouchgate.evidence import lineage as lineages
from vouchgate.flows.facts_waivers import Known, evidence_of, known
from vouchgate.policy import facts as world_facts
from vouchgate.policy.decide import REFUSED_EVIDENCE
from vouchgate.policy.world import Evidence, World
from vouchgate.vocabulary.names import ResourceId, resource
from vouchgate.vocabulary.places import Asset, Endpoint
from vouchgate.vocabulary.principals import Principal, Registration
from vouchgate.vocabulary.vouches import UnixMillis, Vouch

ASSETS = frozenset({"artifact", "dataset", "model", "adapter", "key"})
"""Kinds of things that are placed in zones."""
LAPSING = frozenset({"Endpoint", "Tool", "Artifact", "Dataset", "Model", "Adapter", "Key", "Principal"})
"""Entities that are made again when a vouch of theirs lapses."""


class Derived:
    """See the module's text. `Facts` fills what is named here."""

    trust_domain: str
    world: World
    lineage: lineages.Lineage
    endpoints: dict[str, Endpoint]
    assets: dict[str, Asset]
    registrations: dict[str, Registration]
    _stands_for: dict[str, set[str]]

    def endpoints_with(self, tool: str) -> list[Endpoint]:
        """The endpoints that offer a tool, by its resource id."""
        return [one for one in self.endpoints.values() if tool in one.tools.values()]

    def evidence(self, name: str, now: UnixMillis) -> Evidence:
        """What holds for a thing or a caller by its name, waivers included, and why the rest does not."""
        return evidence_of((known(self.lineage, name, now),))

    def known_of(self, name: str, now: UnixMillis) -> list[Known]:
        """What is known of a name, and behind it of the content that it was placed for."""
        asset = self.assets.get(name)
        names = [name, resource(self.trust_domain, "artifact", asset.digest)] if asset is not None and asset.digest else [name]
        return [known(self.lineage, one, now) for one in names]

    def standing_for(self, content: str) -> set[str]:
        """Names that stand for an artifact."""
        return self._stands_for.get(content, set())

    def about(self, name: str) -> list[Vouch]:
        """Every vouch with this subject, fallen and expired ones included."""
        return self.lineage.about(name)

    def _renew_subjects(self, names: Iterable[str], now: UnixMillis) -> None:
        for name in names:
            if name.startswith("spiffe://"):
                self._renew_principal(name, now)
                continue
            kind = name.removeprefix("vg://").split("/")[1]
            if kind == "endpoint":
                self._renew_endpoint(name, now)
            elif kind in ASSETS:
                self._renew_asset(name, now)
            elif kind == "tool":
                for endpoint in self.endpoints_with(name):
                    world_facts.put_tool(self.world, name, endpoint, self.evidence(name, now))

    def _renew_principal(self, name: str, now: UnixMillis) -> None:
        registration = self.registrations.get(name)
        if registration is not None:
            world_facts.put_principal(
                self.world, Principal(id=registration.principal, groups=registration.groups), self.evidence(name, now)
            )

    def _place(self, asset: Asset) -> None:
        old = self.assets.get(asset.id)
        if old is not None and old.digest:
            self._stands_for[resource(self.trust_domain, "artifact", old.digest)].discard(asset.id)
        if asset.digest:
            self._stands_for.setdefault(resource(self.trust_domain, "artifact", asset.digest), set()).add(asset.id)
        self.assets[asset.id] = asset

    def _renew_asset(self, name: str, now: UnixMillis) -> None:
        """Where it was placed, with what is vouched for of its name and of its content; whatever stands for this content is made again too."""
        asset = self.assets.get(name, Asset(id=ResourceId(name)))
        world_facts.put_asset(self.world, asset, self._asset_evidence(asset, now))
        for other in self._stands_for.get(name, ()):
            world_facts.put_asset(self.world, self.assets[other], self._asset_evidence(self.assets[other], now))

    def _asset_evidence(self, asset: Asset, now: UnixMillis) -> Evidence:
        names = (asset.id, resource(self.trust_domain, "artifact", asset.digest)) if asset.digest else (asset.id,)
        return evidence_of([known(self.lineage, name, now) for name in names])

    def _renew_endpoint(self, endpoint_id: str, now: UnixMillis) -> None:
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return
        evidence = self.evidence(endpoint_id, now)
        digest, tier = "", ""
        serving = [one for one in evidence.held if one.predicate == "serves"]
        if serving:
            newest = max((self.lineage.vouches[one.vouch_id] for one in serving), key=lambda vouch: vouch.issued_at)
            digests = [subject.digest.text for subject in newest.subjects if subject.name == endpoint_id and subject.digest]
            digest, tier = (digests[0], newest.tier) if digests else ("", "")
        endpoint = msgspec.structs.replace(endpoint, model_digest=digest, digest_tier=tier)
        self.endpoints[endpoint_id] = endpoint
        if digest:
            artifact = resource(self.trust_domain, "artifact", digest)
            if world_facts.resource_uid(artifact) not in self.world:
                world_facts.put_artifact(self.world, artifact, self.evidence(artifact, now))
        world_facts.put_endpoint(self.world, endpoint, evidence)
        for tool in endpoint.tools.values():
            world_facts.put_tool(self.world, tool, endpoint, self.evidence(tool, now))

    def has_refused_evidence(self, endpoint_id: str, now: UnixMillis) -> bool:
        """Whether evidence on the endpoint, or on a model, asset or tool behind it, was revoked or failed: observe never lets such pass."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return False
        served = [self.endpoints[name] for name in endpoint.models.values() if name in self.endpoints]
        names = {str(one.id) for one in (endpoint, *served)}
        names |= {resource(self.trust_domain, "artifact", one.model_digest) for one in (endpoint, *served) if one.model_digest}
        names |= set(endpoint.tools.values())
        found = [self.evidence(name, now) for name in names]
        found += [self._asset_evidence(self.assets[endpoint.asset], now)] if endpoint.asset in self.assets else []
        return any(not REFUSED_EVIDENCE.isdisjoint(one.lacking.values()) for one in found)
