"""A whole control plane in memory: real facts, sequencer, publisher, signer and PDP worker; clock, points and peers belong to the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vouchgate.evidence.statement import sign_vouch
from vouchgate.evidence.trustroot import fingerprint
from vouchgate.flows import start
from vouchgate.flows.changes import Change, EndpointPut, RegistrationPut, Revoked, TrustRootAdopted, VouchAdded, ZonePut
from vouchgate.flows.context import Buckets, Context, Place
from vouchgate.flows.facts import Facts
from vouchgate.flows.initialise import first_trust_root, make_root_keys, sign_with
from vouchgate.flows.pdp_link import PdpLink
from vouchgate.flows.publish import Publisher
from vouchgate.flows.replica import Replica
from vouchgate.flows.sequence import Sequenced, Sequencer
from vouchgate.flows.sign import ROLES, Access, Keys, SignedBefore, Signer, public_keys
from vouchgate.flows.traffic import Traffic
from vouchgate.identity.ca import make_ca
from vouchgate.identity.verify import peer_uid, session
from vouchgate.policy.catalog import pack
from vouchgate.storage.opening import open_memory
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, principal, resource
from vouchgate.vocabulary.places import Endpoint, Route, Zone
from vouchgate.vocabulary.principals import Principal, Registration, Selector, VerifiedPrincipal
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import Method, Revocation, Subject, UnixMillis, Vouch

TD = "test.local"
NOW = UnixMillis(1_790_000_000_000)
HOUR, DAY = 3_600_000, 86_400_000
CONTROL_UID = 58_002
CA, JWT = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
KEYS = Keys(
    ca=CA,
    ca_certificate=make_ca(TD, CA, now=NOW, days=300),
    jwt=JWT,
    ed25519={name: Ed25519PrivateKey.generate() for name in ("log", "policy", *ROLES)},
)
ROOTS = make_root_keys(1)
TRUST_ROOT = first_trust_root(TD, root_keys=[ROOTS[0].public], threshold=1, signer_keys=public_keys(KEYS), now=UnixMillis(NOW - DAY))
SIGNED_ROOT = sign_with(TRUST_ROOT, [ROOTS[0].pem])
FINGERPRINT = fingerprint(TRUST_ROOT)
SPINE = ((pack("ai_lifecycle").name, pack("ai_lifecycle").text),)
ALICE = principal(TD, "service", "serve", "alice")
BOB = principal(TD, "service", "serve", "bob")
NIGHT = principal(TD, "job", "serve", "night")
DIGITS = resource(TD, "endpoint", "digits")
CHAT = resource(TD, "endpoint", "chat")
MODEL = file_digest(b"a model")
OTHER_MODEL = file_digest(b"another model")


class HandClock:
    """Time that the test moves."""

    def __init__(self, at: int = NOW) -> None:
        self.at, self.trouble = at, ""

    def now(self) -> UnixMillis:
        return UnixMillis(self.at)

    def accept(self) -> None:
        self.trouble = ""


class Points:
    """The enforcement points: what they were told, in order, and what they hold."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.grants: dict[str, list[Grant]] = {}
        self.revocations: list[Revocation] = []
        self.revocation_epoch = -1
        self.paused = ""
        self.refused: set[str] = set()
        self.points: list[Any] = []
        self.acknowledged: dict[str, bool] = {"gateway": True}

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        self.told.append(("endpoints", [one.id for one in endpoints]))

    def set_zones(self, zones: Iterable[Zone]) -> None:
        self.told.append(("zones", [one.name for one in zones]))

    def set_refused(self, endpoint_ids: Iterable[str]) -> None:
        self.refused = set(endpoint_ids)
        self.told.append(("refused", sorted(self.refused)))

    def set_grants(self, endpoint_id: str, grants: Iterable[Grant]) -> None:
        self.grants[endpoint_id] = list(grants)
        self.told.append(("grants", (endpoint_id, list(self.grants[endpoint_id]))))

    def set_revocations(self, revocations: Iterable[Revocation], *, epoch: int) -> None:
        assert epoch >= self.revocation_epoch
        self.revocations, self.revocation_epoch = list(revocations), epoch
        self.told.append(("revocations", (epoch, [one.target for one in self.revocations])))

    def pause(self, why: str) -> None:
        self.paused = why

    def resume(self) -> None:
        self.paused = ""

    def withhold(self) -> None:
        self.told.append(("withhold", None))

    def release(self) -> None:
        self.told.append(("release", None))

    def status(self) -> Any:
        @dataclass
        class Said:
            points: list[Any]

        return Said(list(self.points))

    async def wait_enforced(self, *, timeout: float) -> dict[str, bool]:
        return dict(self.acknowledged)

    def callers(self, endpoint_id: str) -> set[str]:
        return {grant.principal for grant in self.grants.get(endpoint_id, ())}


class Remote:
    """A peer process in memory: methods by name, values carried over as frames carry them; `away` makes it unreachable."""

    def __init__(self, methods: dict[str, Callable[..., Any]]) -> None:
        self.methods, self.away, self.calls = methods, "", list[str]()

    async def call(self, method: str, /, **params: Any) -> Any:
        self.calls.append(method)
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable(self.away, remedy="start it")
        made = self.methods[method](**msgspec.msgpack.decode(msgspec.msgpack.encode(params)))
        made = await made if asyncio.iscoroutine(made) else made
        return msgspec.msgpack.decode(msgspec.msgpack.encode(made))


class Nowhere:
    """A signer's disk that forgets."""

    async def save(self, state: bytes) -> None:
        await asyncio.sleep(0)


def worker(replica: Replica) -> Remote:
    """The PDP worker's methods, as edges/processes/pdp.py offers them."""

    def lease(milliseconds: int) -> Any:
        replica.lease(milliseconds)
        return replica.hello()

    return Remote(
        {
            "hello": replica.hello,
            "begin": replica.begin,
            "load": replica.load,
            "end": replica.end,
            "apply": replica.apply,
            "lease": lease,
            "cells": lambda cells: replica.cells([(cell[0], cell[1]) for cell in cells]),
        }
    )


def zone(name: str = "serve", **changes: Any) -> Zone:
    return Zone(**({"name": name, "trust_domain": TrustDomain(TD)} | changes))


def endpoint(name: str = "digits", **changes: Any) -> Endpoint:
    wanted = {
        "id": resource(TD, "endpoint", name), "trust_domain": TrustDomain(TD), "zone": "serve", "upstream": "tcp:127.0.0.1:9000",
        "routes": (Route(method="POST", path="/predict", action="infer"),),
    }  # fmt: skip
    return Endpoint(**(wanted | changes))


def registration(name: str = ALICE, groups: tuple[str, ...] = ("callers",), uid: int = -1, **changes: Any) -> Registration:
    selectors = (Selector(type="unix:uid", value=str(uid)),) if uid >= 0 else ()
    wanted = {"principal": PrincipalId(name), "trust_domain": TrustDomain(TD), "groups": groups, "selectors": selectors, "created_at": NOW}
    return Registration(**(wanted | changes))


_CLAIMS: dict[str, dict[str, Any]] = {
    "scan": {"format": "onnx"},
    "structure": {"format": "onnx"},
    "import": {"source": "file", "requested_by": f"spiffe://{TD}/person/admin/ann", "inputs": []},
    "serves": {"model": ""},
}
_ROLE = {"scan": "scanner", "structure": "scanner", "import": "importer", "serves": "supervisor"}


def vouched(predicate: str, subjects: Sequence[Subject], *, by: str = "", **changes: Any) -> VouchAdded:
    """A signed vouch as a change."""
    key = KEYS.ed25519[by or _ROLE[predicate]]
    wanted = {
        "id": "", "trust_domain": TD, "predicate_type": predicate, "predicate_version": 1, "subjects": tuple(subjects), "outcome": "pass",
        "issuer_key": key_id(_spki(key)), "issuer_role": _ROLE[predicate], "issued_at": NOW, "not_before": NOW, "expires_at": NOW + DAY,
        "tier": "verified", "method": Method(tool="t", version="1"), "claims": _claims(predicate, subjects),
    }  # fmt: skip
    signed = sign_vouch(Vouch(**(wanted | changes)), key)
    return VouchAdded(id=signed.vouch.id, envelope=signed.envelope)


def _spki(key: Ed25519PrivateKey) -> bytes:
    from vouchgate.evidence.dsse import spki_of

    return spki_of(key)


def _claims(predicate: str, subjects: Sequence[Subject]) -> dict[str, Any]:
    if predicate == "serves" and subjects[0].digest:
        return {"model": f"vg://{TD}/artifact/{subjects[0].digest.text}"}
    return {key: value for key, value in _CLAIMS[predicate].items() if key != "inputs"}


def about(digest: Digest = MODEL) -> Subject:
    return Subject(name=resource(TD, "artifact", digest.text), digest=digest)


def served(name: str = "digits", digest: Digest = MODEL) -> Subject:
    return Subject(name=resource(TD, "endpoint", name), digest=digest)


def evidence_for(name: str = "digits", digest: Digest = MODEL, **changes: Any) -> list[VouchAdded]:
    """Everything that makes an endpoint callable."""
    return [
        vouched("scan", [about(digest)], **changes),
        vouched("structure", [about(digest)], **changes),
        vouched("serves", [served(name, digest)], **changes),
    ]


def revoked(kind: str, target: str, *, identity: str = "r1", withdrawn: str = "", **changes: Any) -> Revoked:
    wanted = {
        "id": identity, "trust_domain": TD, "target_kind": kind, "target": target, "reason": "lost", "requested_by": "x", "made_at": NOW,
        "withdrawn_by": withdrawn,
    }  # fmt: skip
    return Revoked(revocation=Revocation(**(wanted | changes)))


def caller(name: str = "ann", *roles: str, how: str = "uid", groups: tuple[str, ...] = (), at: int = NOW) -> Caller:
    """An administrator; their roles come from their registration, not from here."""
    who = Principal(id=principal(TD, "person", "admin", name), groups=(*(f"role:{role}" for role in roles), *groups))
    if how == "uid":
        return Caller(principal=peer_uid(1000, who, UnixMillis(at)), how="uid", peer="uid:1000 pid:1")
    made = session(who, "c" * 32, UnixMillis(at + HOUR), UnixMillis(at))
    assert isinstance(made, VerifiedPrincipal)
    return Caller(principal=made, how="cookie", peer="127.0.0.1:1")


def lasting(*names: str) -> Caller:
    """A caller whose credential does not lapse while a test turns the clock."""
    made = caller(*names)
    return msgspec.structs.replace(made, principal=msgspec.structs.replace(made.principal, not_after=NOW + 10**12))


@dataclass
class World:
    """One control plane and its PDP worker."""

    context: Context
    clock: HandClock
    points: Points
    store: Any
    replica: Replica
    pdp: Remote
    recorded: list[Decision] = field(default_factory=list)
    sent: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)

    @property
    def facts(self) -> Facts:
        return self.context.facts

    async def put(self, *changes: Change, who: str = "test") -> list[Sequenced]:
        """Commit changes one after the other."""
        made: list[Sequenced] = []
        for change in changes:
            made += await self.context.sequencer.submit(who, [change], [Append(entry=b"e")])
        return made

    async def settled(self, seconds: float = 5.0) -> None:
        """Until nothing waits to be decided."""
        end = asyncio.get_running_loop().time() + seconds
        while self.context.publisher.undecided or self.context.publisher.unpushed or self.context.tasks:
            assert asyncio.get_running_loop().time() < end, "cells stay undecided"
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.005)

    def entries(self) -> list[bytes]:
        return self.store.entries(0, 10_000)

    def granted(self, name: str = DIGITS) -> set[str]:
        return self.points.callers(name)


def make_world(*, settings: Settings | None = None, store: Any = None, solo: bool = False) -> World:
    """Put together as edges/processes/control.py does."""
    clock, points = HandClock(), Points()
    store = store or open_memory(TD)
    facts = Facts(TD, FINGERPRINT)
    replica = Replica(TD, FINGERPRINT, clock.now)
    remote = worker(replica)
    link = PdpLink(remote, lambda: (store.epoch(), start.snapshot(store, clock.now())), 10_000, clock.now)
    recorded: list[Decision] = []
    sent: list[tuple[str, int, dict[str, Any]]] = []
    publisher = Publisher(
        facts,
        points,
        link,
        clock=clock.now,
        record=recorded.extend,
        publish_keys=lambda: None,
        sent=lambda resource, epoch, detail: sent.append((resource, epoch, detail)),
    )

    def tell(batch: Sequence[Sequenced]) -> None:
        link.tell(batch)
        publisher.tell(batch)

    sequencer = Sequencer(store, check=facts.check, apply=lambda one: facts.apply(one, clock.now()), tell=tell)
    signer = Signer(KEYS, SignedBefore(trust_domain=TD), Access(control=CONTROL_UID), clock, Nowhere(), solo=solo)

    def signs(name: str) -> Callable[..., Any]:
        return lambda **params: getattr(signer, name)(CONTROL_UID, params)

    names = ("public_keys", "health", "accept_clock", "x509_svid", "jwt_svid", "vouch", "checkpoint", "policy", "event_token")
    names = (*names, "x509_svids", "crl", "ca", "ca_step", "ca_request", "ca_install")
    context = Context(
        settings=settings or Settings(trust_domain=TD, data_dir="/nowhere", root_dir="/nowhere-root", solo=solo),
        place=Place(gateway="127.0.0.1:1", plain="127.0.0.1:2", console="127.0.0.1:3", isolated=True, own_uid=0),
        facts=facts,
        store=store,
        sequencer=sequencer,
        publisher=publisher,
        points=points,
        pdp=link,
        signer=Remote({name: signs(name) for name in names}),
        witness=Remote({}),
        supervisor=Remote({"processes": lambda: []}),
        clock=clock,
        traffic=Traffic(),
        registering=Buckets(600),
        started_at=NOW,
    )
    return World(context, clock, points, store, replica, remote, recorded, sent)


@contextlib.asynccontextmanager
async def running(world: World, *, publishing: bool = True, policies: Any = SPINE) -> AsyncIterator[World]:
    """The world with its loops running, roots, keys and policy in place."""
    tasks = [asyncio.create_task(world.context.sequencer.run())]
    try:
        await world.put(TrustRootAdopted(signed=SIGNED_ROOT))
        await start.publish_keys(world.context)
        await start.activate(world.context, policies, author="a", approver="b")
        if publishing:
            world.context.publisher.start()
            tasks.append(asyncio.create_task(world.context.publisher.run()))
        yield world
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        world.store.close()


async def serving(world: World, *callers: Registration) -> None:
    """Zone, endpoint `digits` with its evidence, and callers."""
    await world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint()), *evidence_for())
    await world.put(*(RegistrationPut(registration=one) for one in callers or (registration(),)))
    await world.settled()
