"""GatewayView: what the control plane wants its gateways to enforce, rendered, cached and pushed as it changes; and the lease loop.

Rules
1. Feed values, in any order and as often as you like; only what renders differently is pushed. Revocations go first and alone (ads.py).
2. A map's TTL is min(the zone's lease, the earliest `not_after` in it, the end of observe); the earliest of these times wakes the loop,
   which leaves the grant out `LAPSE_MARGIN_SECONDS` before it lapses.
3. Every lease/3 of the shortest lease, the lease gets a new end and the maps and revocations a heartbeat, while the loop runs, is not paused, and the node has
   acknowledged the newest revocations.
4. Revocations are two resources, both needed (revocations.py): what is new is small, so that one more costs the same however many stand.
   Over `MAX_REVOCATIONS` nothing is renewed, and nobody is called up to date, until fewer stand.
5. After a start, maps, routes and listeners may be withheld from gateways that have some, as one: they belong together (slots).
6. A slot belongs to one endpoint while it lives; a freed slot is used again last. The listener changes only when slots double.

    view = GatewayView(settings, server, clock=clock.now)
    view.set_endpoints([...]); view.set_zones([...]); view.set_identity(jwks=..., bundle=pem, svid=(chain_pem, key_pem))
    view.set_revocations([...], epoch=7)                 # pushes at once
    view.set_grants("vg://td/endpoint/digits", [...])    # pushes at once
    await view.wait_enforced(timeout=1.0)                # {"gateway-1": True}: newest revocations acknowledged
    view.set_secret("provider-key", b"...")              # the newest version, put in on the way to the providers that need it
    view.set_federated_bundles({"partner.example": pem}); view.set_federated_names({"spiffe://partner.example/x": "spiffe://td/service/..."})
    task = asyncio.create_task(view.run())               # the lease loop
    view.pause(); view.resume(); view.status()

Which grants hold, and when, is the caller's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from vouchgate.edges.envoy.ads import GATE, AdsServer, Resource
from vouchgate.edges.envoy.clusters import cluster
from vouchgate.edges.envoy.listener import listeners
from vouchgate.edges.envoy.maps import (
    LEASE,
    MAP_PREFIX,
    MAX_REVOCATIONS,
    OLDER,
    REVOCATIONS,
    VISIBLE_KINDS,
    allow_map,
    lease,
    map_name,
    revocation_map,
)
from vouchgate.edges.envoy.messages import (
    CLUSTER_TYPE,
    EXTENSION_TYPE,
    LISTENER_TYPE,
    ROUTE_TYPE,
    SECRET_TYPE,
    Message,
    extension,
    packed,
)
from vouchgate.edges.envoy.outside import Outside
from vouchgate.edges.envoy.revocations import Split, outlived
from vouchgate.edges.envoy.routes import route_tables
from vouchgate.edges.envoy.secrets import bundle_secret, partner_secret, svid_secret
from vouchgate.edges.envoy.settings import BUNDLE_SECRET, MAX_SLOTS, PARTNER_SECRET, SVID_SECRET, GatewaySettings, slot_count
from vouchgate.edges.envoy.tokens import JWT, token_filter
from vouchgate.vocabulary.decisions import Grant
from vouchgate.vocabulary.errors import Conflict, LimitExceeded
from vouchgate.vocabulary.places import DEFAULT_LEASE_SECONDS, Endpoint, Zone
from vouchgate.vocabulary.vouches import Revocation, UnixMillis
from vouchgate.vocabulary.wire import Noun

LAPSE_MARGIN_SECONDS = 0.2
"""A grant is left out so long before its end (and its caller asked about), so that the map's TTL strikes nobody else."""
MIN_TTL_SECONDS = 0.05
"""Shortest TTL sent."""
IDLE_SECONDS = 60.0
RENEWALS_PER_LEASE = 3
"""Two renewals may be lost before a lease runs out."""


class PointStatus(Noun, frozen=True, kw_only=True):
    """One enforcement point, as the control plane sees it."""

    node_id: str
    epoch: int
    """Newest revocation epoch that it acknowledged; -1 for none."""
    current: bool
    """Whether that is the newest there is; only then are its leases renewed."""
    last_ack_seconds: float
    """Age of its last acknowledgement; -1 before the first."""
    maps_behind: int
    """Maps of which it has not acknowledged the newest version."""
    rejected: dict[str, str]
    """Resource -> Envoy's words."""


class GatewayStatus(Noun, frozen=True, kw_only=True):
    """All enforcement points."""

    epoch: int
    paused: str
    """Why leases are not renewed; empty while they are."""
    points: tuple[PointStatus, ...]
    overflow: dict[str, int]
    """Endpoint -> grants beyond a map's bound, which are asked for."""


class GatewayView:
    """See the module's text. Belongs to the event loop of its `AdsServer`."""

    def __init__(self, settings: GatewaySettings, server: AdsServer, *, clock: Callable[[], UnixMillis], issuer: str = "") -> None:
        self._settings, self._server, self._clock = settings, server, clock
        self._issuer = issuer or f"spiffe://{settings.trust_domain}"
        self._endpoints: dict[str, Endpoint] = {}
        self._zones: dict[str, Zone] = {}
        self._grants: dict[str, tuple[Grant, ...]] = {}
        self._refused: frozenset[str] = frozenset()
        self._slots: dict[str, int] = {}
        self._freed: list[int] = []
        self._width = 0
        self._outside = Outside(settings.trust_domain)
        self._federated = self._egress = False
        self._jwks = ""
        self._epoch = -1
        self._split = Split()
        self._over = ""
        self._map_lapses: dict[str, UnixMillis] = {}
        self._overflow: dict[str, int] = {}
        self._paused = ""
        self._wake = asyncio.Event()
        self._due = 0.0
        self._planned = UnixMillis(2**62)

    # -- what to enforce

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """All endpoints there are; one that is no longer named is withdrawn. Raises `LimitExceeded`, `InvalidInput`."""
        wanted: dict[str, Endpoint] = {endpoint.id: endpoint for endpoint in endpoints}
        if len(wanted) > MAX_SLOTS:
            raise LimitExceeded(f"{len(wanted)} endpoints are over the bound of {MAX_SLOTS}", remedy="run a second gateway")
        slots, freed = self._assign(wanted)
        tables = self._tables(wanted, slots)
        clusters = {name: cluster(endpoint, system_ca=self._settings.system_ca) for name, endpoint in wanted.items()}
        gone = [name for name in self._endpoints if name not in wanted]
        vacated = [map_name(self._slots[name]) for name in gone]
        self._endpoints, self._slots, self._freed = wanted, slots, freed
        self._set(CLUSTER_TYPE, {name: made for name, made in clusters.items() if self._outside.has_secret(wanted[name])})
        self._server.set_resources(SECRET_TYPE, self._outside.fresh_secrets(wanted))
        self._push_tokens()
        self._server.remove(EXTENSION_TYPE, vacated)
        self._push_lease()
        self._push_maps(wanted)
        self._set(ROUTE_TYPE, tables)
        self._widen(slot_count(len(wanted)))
        if not self._egress and any(endpoint.egress is not None for endpoint in wanted.values()):
            self._egress = True
            self._push_listeners()
        self._server.remove(CLUSTER_TYPE, gone)

    def set_zones(self, zones: Iterable[Zone]) -> None:
        """All zones there are."""
        self._zones = {zone.name: zone for zone in zones}
        if self._endpoints:
            self._set(ROUTE_TYPE, self._tables(self._endpoints, self._slots))
        self._push_lease()
        self._push_maps(self._endpoints)

    def set_refused(self, endpoint_ids: Iterable[str]) -> None:
        """All endpoints with evidence that was revoked or failed: they are enforced in an observe zone as well."""
        refused = frozenset(endpoint_ids)
        changed, self._refused = refused ^ self._refused, refused
        self._push_maps([name for name in changed if name in self._endpoints])

    def set_grants(self, endpoint_id: str, grants: Iterable[Grant]) -> None:
        """All grants of one endpoint; those of another epoch or past are the caller's to leave out. Unknown endpoints wait for `set_endpoints`."""
        self._grants[endpoint_id] = tuple(grants)
        if endpoint_id in self._endpoints:
            self._push_maps([endpoint_id])

    def set_revocations(self, revocations: Iterable[Revocation], *, epoch: int) -> None:
        """All standing revocations as of an epoch, which never falls. Raises `LimitExceeded`, `Conflict`."""
        if epoch < self._epoch:
            raise Conflict(f"epoch {epoch} is older than {self._epoch}", remedy="publish from the newest state alone")
        now = self._clock()
        standing = {
            one.id: one for one in revocations if not one.withdrawn_by and one.target_kind in VISIBLE_KINDS and not outlived(one, now)
        }
        was_over, self._over, self._epoch = self._over, "", epoch
        if len(standing) > MAX_REVOCATIONS:
            self._over = f"{len(standing)} revocations are over the bound of {MAX_REVOCATIONS}"
            raise LimitExceeded(
                self._over, remedy="nothing is served until fewer stand: undo some, revoke a principal in place of its credentials, or wait"
            )
        self._split.take(standing, now)
        self._push_revocations()
        if was_over:
            self._due = 0.0
            self._wake.set()

    def _push_revocations(self) -> None:
        split = self._split
        if split.older_version == "" or split.older_changed:
            value = packed(extension(OLDER, self._struck(split.older.values(), names=False)))
            split.rendered(f"{self._epoch}-{_digest(value)}")
            self._server.set_resources(EXTENSION_TYPE, {OLDER: Resource(value, split.older_version)})
        self._settle()
        value = packed(extension(REVOCATIONS, self._struck(split.newer())))
        after = frozenset(split.complete_with)
        resource = Resource(value, f"{self._epoch}-{_digest(value)}", self._longest_lease(), after=((EXTENSION_TYPE, OLDER), after))
        self._server.set_resources(EXTENSION_TYPE, {REVOCATIONS: resource})

    def _struck(self, revocations: Collection[Revocation], *, names: bool = True) -> Message:
        ours = self._settings.trust_domain
        return revocation_map(revocations, trust_domain=ours, names=names, partners=self._outside.partners, aliases=self._outside.aliases)

    def _settle(self) -> bool:
        """Once every connected point holds the older ones as rendered last, the newer ones need no longer repeat them."""
        held = [node.acked.get((EXTENSION_TYPE, OLDER)) for node in self._server.nodes()]
        return self._split.moving and all(version == self._split.older_version for version in held) and self._split.settle()

    def set_identity(self, *, jwks: str, bundle: str, svid: tuple[str, str]) -> None:
        """Keys of tokens (JSON), our authorities (PEM), and the gateway's own certificate chain and key (PEM)."""
        self._jwks = jwks
        self._set(SECRET_TYPE, {SVID_SECRET: svid_secret(*svid), BUNDLE_SECRET: bundle_secret(bundle)})
        self._push_tokens()

    def set_federated_bundles(self, bundles: Mapping[str, str]) -> None:
        """All partners: foreign trust domain -> its authorities (PEM). One that is no longer named is refused at once, on live connections
        too. Raises `InvalidInput` where one is ours, or no trust domain; `LimitExceeded`."""
        self._outside.set_partners(bundles)
        if self._epoch >= 0:
            self._push_revocations()
        if bundles:
            self._set(SECRET_TYPE, {PARTNER_SECRET: partner_secret(bundles)})
        if bundles and self._settings.federated_address and not self._federated:
            self._federated = True
            self._push_listeners()

    def set_federated_names(self, names: Mapping[str, str]) -> None:
        """All foreign callers that are known: foreign SPIFFE id -> our principal for it, whose grants and revocations are its own."""
        changed = self._outside.set_names(names)
        if not changed:
            return
        self._split.older_changed = True
        if self._epoch >= 0:
            self._push_revocations()
        self._push_maps([name for name in self._endpoints if any(one.principal in changed for one in self._grants.get(name, ()))])

    def set_secret(self, name: str, value: bytes) -> None:
        """The newest version of a secret of [[secrets]]; requests that begin after its acknowledgement carry it, those before it end as they
        began. Empty: it is withdrawn, and every destination that needs it answers 503. Raises `InvalidInput`, which never says it."""
        self._outside.set_secret(name, value)
        using: dict[str, Endpoint] = {
            one.id: one for one in self._endpoints.values() if one.egress is not None and one.egress.secret == name
        }
        self._server.set_resources(SECRET_TYPE, self._outside.fresh_secrets(using))
        if value:
            self._set(CLUSTER_TYPE, {key: cluster(endpoint, system_ca=self._settings.system_ca) for key, endpoint in using.items()})
        else:
            self._server.remove(CLUSTER_TYPE, using)

    # -- leases

    def pause(self, why: str) -> None:
        """Stop renewing: every grant out there lives at most its lease."""
        self._paused = why

    def resume(self) -> None:
        """Renew again, at once."""
        self._paused = ""
        self._due = 0.0
        self._wake.set()

    def withhold(self) -> None:
        """Rule 5, until `release`."""
        self._server.withhold(_belongs_to_slots)

    def release(self) -> None:
        """Tell them, with the leases that they have now."""
        self._push_maps(self._endpoints)
        self._server.release()

    async def run(self) -> None:
        """The lease loop; ends by cancellation."""
        while True:
            if not self._paused and not self._over:
                if time.monotonic() >= self._due:
                    self.renew()
                else:
                    self._leave_out_lapsing()
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), self._pause_length())
            except TimeoutError:
                continue

    def renew(self) -> None:
        """One renewal: a new end for the lease, heartbeats for revocations and maps, maps rendered again where a grant lapses."""
        now = self._clock()
        if self._settle():
            self._push_revocations()
        self._due = time.monotonic() + self._shortest_lease() / RENEWALS_PER_LEASE
        self._server.heartbeat(EXTENSION_TYPE, {REVOCATIONS: self._longest_lease()})
        self._push_lease()
        self._leave_out_lapsing()
        self._server.heartbeat(EXTENSION_TYPE, {map_name(slot): self._ttl(name, now) for name, slot in self._slots.items()})

    def _leave_out_lapsing(self) -> None:
        soon = self._clock() + 1000 * LAPSE_MARGIN_SECONDS
        if any(zone.mode == "observe" and zone.observe_until <= soon for zone in self._zones.values()) and self._endpoints:
            self._set(ROUTE_TYPE, self._tables(self._endpoints, self._slots))
        self._push_maps([name for name, lapse in self._map_lapses.items() if lapse <= soon and name in self._endpoints])

    # -- what came of it

    async def wait_enforced(self, *, timeout: float) -> dict[str, bool]:
        """Wait until every connected point acknowledged the newest revocations: node id -> whether it did in time."""
        if self._over:
            return dict.fromkeys((node.id for node in self._server.nodes()), False)
        begun = time.monotonic()
        enforced = await self._server.wait_gate(timeout=timeout)
        if not self._split.lifting:
            return enforced
        lifted = await self._server.wait_acked(EXTENSION_TYPE, [OLDER], timeout=max(0.0, begun + timeout - time.monotonic()))
        return {name: done and lifted.get(name, False) for name, done in enforced.items()}

    def granted(self) -> list[Grant]:
        """Every grant in the maps of endpoints that are there."""
        return [grant for name in self._endpoints for grant in self._grants.get(name, ())]

    def status(self) -> GatewayStatus:
        """Every connected point."""
        now = time.monotonic()
        points = []
        for node in self._server.nodes():
            points.append(
                PointStatus(
                    node_id=node.id,
                    epoch=int(node.acked.get(GATE, "-1-").rpartition("-")[0]),
                    current=self._server.gate_acked(node) and not self._over,
                    last_ack_seconds=round(now - node.last_ack, 3) if node.last_ack else -1.0,
                    maps_behind=sum(
                        node.acked.get((EXTENSION_TYPE, map_name(slot))) != self._server.version(EXTENSION_TYPE, map_name(slot))
                        for slot in self._slots.values()
                    ),
                    rejected={key[1]: words for key, words in node.rejected.items()},
                )
            )
        return GatewayStatus(epoch=self._epoch, paused=self._paused or self._over, points=tuple(points), overflow=dict(self._overflow))

    # -- rendering

    def _assign(self, wanted: Mapping[str, Endpoint]) -> tuple[dict[str, int], list[int]]:
        slots = {name: slot for name, slot in self._slots.items() if name in wanted}
        freed = list(self._freed) + [slot for name, slot in self._slots.items() if name not in wanted]
        used = set(slots.values()) | set(freed)
        fresh = [slot for slot in range(slot_count(len(wanted))) if slot not in used]
        spare = iter(fresh + freed)
        for name in wanted:
            if name not in slots:
                slots[name] = next(spare)
        taken = set(slots.values())
        return slots, [slot for slot in freed if slot not in taken]

    def _tables(self, endpoints: Mapping[str, Endpoint], slots: Mapping[str, int]) -> dict[str, Message]:
        observed = {zone.name for zone in self._zones.values() if self._observed(zone.name)}
        told = self._settings
        return route_tables(
            endpoints.values(), slots, hosts=told.hosts, observed=observed, authority=told.authority, issuer=told.sts_issuer
        )

    def _observed(self, name: str) -> bool:
        zone = self._zones.get(name)
        return zone is not None and zone.mode == "observe" and zone.observe_until > self._clock() + 1000 * LAPSE_MARGIN_SECONDS

    def _widen(self, width: int) -> None:
        if width > self._width:
            self._width = width
            self._push_listeners()

    def _push_listeners(self) -> None:
        if self._width:
            self._set(LISTENER_TYPE, listeners(self._settings, self._width, federated=self._federated, egress=self._egress))

    def _lease_seconds(self, zone: str) -> int:
        known = self._zones.get(zone)
        return known.lease_seconds if known else DEFAULT_LEASE_SECONDS

    def _longest_lease(self) -> float:
        return float(max((self._lease_seconds(endpoint.zone) for endpoint in self._endpoints.values()), default=DEFAULT_LEASE_SECONDS))

    def _shortest_lease(self) -> float:
        return float(min((self._lease_seconds(endpoint.zone) for endpoint in self._endpoints.values()), default=DEFAULT_LEASE_SECONDS))

    def _pause_length(self) -> float:
        if self._paused or self._over:
            return IDLE_SECONDS
        self._planned = min(self._map_lapses.values(), default=UnixMillis(2**62))
        until_lapse = (self._planned - self._clock()) / 1000 - LAPSE_MARGIN_SECONDS
        return max(0.001, min(self._due - time.monotonic(), until_lapse, IDLE_SECONDS))

    def _push_lease(self) -> None:
        now = self._clock()
        zones = {endpoint.zone for endpoint in self._endpoints.values()}
        if self._paused or self._over:
            return
        until = {zone: UnixMillis(now + 1000 * self._lease_seconds(zone)) for zone in sorted(zones)}
        self._set(EXTENSION_TYPE, {LEASE: extension(LEASE, lease(until))}, ttl=self._longest_lease())

    def _push_tokens(self) -> None:
        made = token_filter(self._endpoints.values(), self._jwks, issuer=self._issuer, trust_domain=self._settings.trust_domain)
        self._set(EXTENSION_TYPE, {JWT: extension(JWT, made)})

    def _push_maps(self, names: Iterable[str]) -> None:
        now = self._clock()
        rendered = {}
        for name in names:
            endpoint, slot = self._endpoints[name], self._slots[name]
            grants = [grant for grant in self._grants.get(name, ()) if grant.not_after > now + 1000 * LAPSE_MARGIN_SECONDS]
            observe = self._observed(endpoint.zone) and name not in self._refused and endpoint.egress is None
            lapses = [grant.not_after for grant in grants] + ([self._zones[endpoint.zone].observe_until] if observe else [])
            message, overflow = allow_map(endpoint, grants, observe=observe, aliases=self._outside.aliases)
            value = packed(extension(map_name(slot), message))
            self._note(name, overflow, lapses)
            rendered[map_name(slot)] = Resource(value, _digest(value), self._ttl(name, now))
        self._server.set_resources(EXTENSION_TYPE, rendered)

    def _ttl(self, name: str, now: UnixMillis) -> float:
        lease_seconds = float(self._lease_seconds(self._endpoints[name].zone))
        lapse = self._map_lapses.get(name)
        return lease_seconds if lapse is None else max(MIN_TTL_SECONDS, min(lease_seconds, (lapse - now) / 1000))

    def _note(self, name: str, overflow: int, lapses: list[UnixMillis]) -> None:
        self._overflow.pop(name, None)
        self._map_lapses.pop(name, None)
        if overflow:
            self._overflow[name] = overflow
        if lapses:
            self._map_lapses[name] = min(lapses)
            if self._map_lapses[name] < self._planned:
                self._wake.set()

    def _set(self, type_url: str, messages: Mapping[str, Message], *, ttl: float | None = None) -> None:
        values = {name: packed(message) for name, message in messages.items()}
        self._server.set_resources(type_url, {name: Resource(value, _digest(value), ttl) for name, value in values.items()})


def _belongs_to_slots(key: tuple[str, str]) -> bool:
    return key[0] in {ROUTE_TYPE, LISTENER_TYPE} or (key[0] == EXTENSION_TYPE and key[1].startswith(MAP_PREFIX))


def _digest(value: Message) -> str:
    return hashlib.sha256(value.value).hexdigest()[:16]
