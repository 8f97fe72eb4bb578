"""The organisation of organisation.py behind vouchgate: the same decisions that the gateway's requests get, habits learned as the control plane learns them.

What is real: `flows.admit_request.admit` over `Facts`, runs, credentials, revocations, habits and the pack `ai_lifecycle` as it ships. What is put in
by hand: that vouches hold (their signatures are other tests' matter), and what the gateway says of a certificate.

`static` is what role-based access control says: the null. Each sabotage takes one of the checks away, and must be seen in the figures.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "evals")]

from organisation import DAY, Ask, Member, Organisation, Thing  # noqa: E402

from vouchgate.flows.admit_request import admit  # noqa: E402
from vouchgate.flows.changes import AssetPut, Change, CredentialIssued, EndpointPut, RegistrationPut, Revoked, RunPut, ZonePut  # noqa: E402
from vouchgate.flows.facts import Facts, compile_sources  # noqa: E402
from vouchgate.flows.habits import Habits  # noqa: E402
from vouchgate.flows.sequence import Sequenced  # noqa: E402
from vouchgate.policy import facts as world_facts  # noqa: E402
from vouchgate.policy.catalog import pack  # noqa: E402
from vouchgate.policy.world import Evidence, Held  # noqa: E402
from vouchgate.vocabulary.answers_decisions import DecisionLine  # noqa: E402
from vouchgate.vocabulary.decisions import Risk  # noqa: E402
from vouchgate.vocabulary.digests import file_digest  # noqa: E402
from vouchgate.vocabulary.names import PrincipalId, ResourceId, TrustDomain, principal, resource  # noqa: E402
from vouchgate.vocabulary.places import Asset, Endpoint, Route, Zone  # noqa: E402
from vouchgate.vocabulary.principals import Principal, Registration  # noqa: E402
from vouchgate.vocabulary.requests import Request  # noqa: E402
from vouchgate.vocabulary.runs import Run  # noqa: E402
from vouchgate.vocabulary.vouches import Revocation, UnixMillis  # noqa: E402

TD = TrustDomain("office.example")
MONDAY = 1_767_571_200_000
"""2026-01-05, 00:00 UTC, in milliseconds."""
LATE = UnixMillis(MONDAY + 10**12)
ZONES = ("ingest", "prepare", "train", "evaluate", "register", "serve", "agents")
GROUPS = {"analysts": "callers", "applications": "callers"}
"""Their role -> the pack's group, where the names differ."""
POSTURE_SECONDS = DAY
"""A check of a device counts for so long (evidence/predicates/posture.py: at most a day)."""
Outcome = Literal["allowed", "stepped-up", "denied"]
SABOTAGES = {
    "odd-hour": "unusual-hour-steps-up",
    "new-network": "unusual-network-steps-up",
    "stale-posture": "watched-needs-posture",
    "purpose-mismatch": "jobs-keep-to-the-purpose",
}
"""Kind of request -> the policy that is for it."""


def pack_without(policy: str = "") -> tuple[tuple[str, str], ...]:
    """The pack, with one policy taken out. Raises where there is no such policy: a sabotage that does nothing proves nothing."""
    source = pack("ai_lifecycle")
    text, count = re.subn(rf'@id\("{policy}"\).*?;\n', "", source.text, flags=re.DOTALL) if policy else (source.text, 1)
    if count != 1:
        raise ValueError(f"the pack holds {count} policies named {policy}")
    return ((source.name, text),)


class Office:
    """One installation that the organisation works in."""

    def __init__(self, org: Organisation, *, without: str = "", risk_counts: bool = True, runs_count: bool = True) -> None:
        self.org, self._risk_counts, self._runs_count = org, risk_counts, runs_count
        self.fresh, self.stale = Facts(TD, ""), Facts(TD, "")
        self._names = {member.name: principal(TD, member.kind, member.zone, member.name) for member in org.members}
        self._things = {thing.name: thing for thing in org.things}
        sources = pack_without(without)
        for facts in (self.fresh, self.stale):
            facts.policies = compile_sources(sources, version=1)
            self._furnish(facts)
        self.habits = Habits(self.fresh, _Sequencer(self), lambda: self._now)  # type: ignore[arg-type]  # the one method that it calls
        self._now = UnixMillis(MONDAY)
        self._day = 0

    def put(self, *changes: Change) -> None:
        """Apply to both."""
        for facts in (self.fresh, self.stale):
            for change in changes:
                facts.apply(
                    Sequenced(change=change, epoch=facts.epoch + 1, log_index=facts.epoch),
                    self._now if hasattr(self, "_now") else UnixMillis(MONDAY),
                )

    def _furnish(self, facts: Facts) -> None:
        now = UnixMillis(MONDAY)

        def put(change: Change) -> None:
            facts.apply(Sequenced(change=change, epoch=facts.epoch + 1, log_index=facts.epoch), now)

        for zone in ZONES:
            put(ZonePut(zone=Zone(name=zone, trust_domain=TD)))
        for thing in self.org.things:
            _put_thing(facts, thing, put)
        for member in self.org.members:
            self._put_member(facts, member, put)

    def _put_member(self, facts: Facts, member: Member, put: Any) -> None:
        name = self._names[member.name]
        groups = tuple(GROUPS.get(group, group) for group in member.groups)
        put(
            RegistrationPut(
                registration=Registration(principal=PrincipalId(name), trust_domain=TD, groups=groups, created_at=UnixMillis(MONDAY))
            )
        )
        checked = (
            Evidence((Held("posture", f"posture-{member.name}", "verified", LATE),))
            if facts is self.fresh
            else Evidence((), {"posture": "expired"})
        )
        world_facts.put_principal(facts.world, Principal(id=PrincipalId(name), groups=groups), checked)
        if not member.purpose:
            return
        all_inputs = tuple(sorted(file_digest(thing.encode()).text for _, thing in self.org.grants[member.groups[0]]))
        other = tuple(sorted(file_digest(name.encode()).text for name in ("not", "asked", "for")))
        for kind, stage, inputs in (
            ("own", member.zone, all_inputs),
            ("ended", member.zone, all_inputs),
            ("undeclared", member.zone, other),
            ("other-stage", "serve", all_inputs),
        ):
            run = Run(
                id=_run_id(member.name, kind), trust_domain=TD, principal=PrincipalId(name), zone=member.zone, stage=stage, purpose=member.purpose,
                inputs=inputs, started_at=UnixMillis(MONDAY), not_after=LATE,
            )  # fmt: skip
            put(RunPut(run=run))
            put(CredentialIssued(id=_serial(member.name, kind), principal=name, kind="x509", not_after=LATE, run=run.id))
        ended = facts.runs[_run_id(member.name, "ended")]
        put(RunPut(run=Run(**{field: getattr(ended, field) for field in ended.__struct_fields__} | {"ended_at": UnixMillis(MONDAY + 1)})))
        put(
            Revoked(
                revocation=Revocation(
                    id=ended.id, trust_domain=TD, target_kind="run", target=ended.id, reason="ended", requested_by="x", made_at=now_of()
                )
            )
        )

    def ask(self, ask: Ask, *, teach: bool = True) -> Outcome:
        """One request, as the PDP answers it; what is let through teaches."""
        self._turn(ask.at // DAY)
        now = self._now = UnixMillis(MONDAY + ask.at * 1000)
        facts = self.fresh if ask.posture_age < POSTURE_SECONDS else self.stale
        name = self._names[ask.who]
        if self._risk_counts:
            facts.risks[name] = Risk(value=ask.risk)
        request = self._request(ask, name, now)
        answer = admit(request, facts, now, lease_until=UnixMillis(now + 10_000))
        if answer.allowed and teach:
            line = DecisionLine(
                seq=0, at=now, effect="allow", would_be="allow", mode="enforce", principal=name, authenticated=True, action=ask.action,
                resource=request.endpoint, peer=request.peer,
            )  # fmt: skip
            self.habits.count([(line, name)])
        if answer.allowed:
            return "allowed"
        return "stepped-up" if answer.problem is not None and answer.problem.type.endswith("/step-up") else "denied"

    def _request(self, ask: Ask, name: str, now: UnixMillis) -> Request:
        kind = {"": "", "elsewhere": "own"}.get(ask.run, ask.run) if self._runs_count else "own" if ask.run else ""
        return Request(
            request_id="r",
            method="POST",
            path=f"/{ask.thing}",
            host="localhost",
            endpoint=resource(TD, "endpoint", ask.thing),
            action=ask.action,
            zone=self._things[ask.thing].zone,
            san=name,
            serial=_serial(ask.who, kind),
            fingerprint=hashlib.sha256(ask.who.encode()).hexdigest(),
            certificate_since=UnixMillis(now - ask.credential_age * 1000),
            peer=f"{ask.address}:40000",
        )

    def _turn(self, day: int) -> None:
        """What was learned by yesterday is told; the habits tell as many callers at once as they want."""
        if day == self._day:
            return
        self._day = day
        before = -1
        while len(self.habits._due) != before:
            before = len(self.habits._due)
            asyncio.run(self.habits.settle())


def now_of() -> UnixMillis:
    """The first moment."""
    return UnixMillis(MONDAY)


def _put_thing(facts: Facts, thing: Thing, put: Any) -> None:
    name = resource(TD, "endpoint", thing.name)
    routes = tuple(Route(method="POST", path=f"/{action}", action=action) for action in thing.actions)
    asset = "" if thing.kind == "endpoint" else resource(TD, thing.kind, thing.name)
    digest = file_digest(thing.name.encode()).text
    purposes, labels = thing.purposes, ("personal",) if thing.personal else ()
    endpoint = Endpoint(
        id=name, trust_domain=TD, zone=thing.zone, upstream="tcp:127.0.0.1:9000", prefix=f"/{thing.name}", routes=routes, asset=asset,
        purposes=purposes, labels=labels,
    )  # fmt: skip
    put(EndpointPut(endpoint=endpoint))
    held = [Held(predicate, f"{predicate}-{thing.name}", "verified", LATE) for predicate in ("scan", "structure", "validate", "approval")]
    if asset:
        put(AssetPut(asset=Asset(id=ResourceId(asset), zones=(thing.zone,), digest=digest, labels=labels, purposes=purposes)))
        world_facts.put_asset(facts.world, facts.assets[asset], Evidence(tuple(held)))
        return
    world_facts.put_artifact(facts.world, resource(TD, "artifact", digest), Evidence(tuple(held)))
    serving = Endpoint(**{field: getattr(endpoint, field) for field in endpoint.__struct_fields__} | {"model_digest": digest})
    facts.endpoints[name] = serving
    world_facts.put_endpoint(facts.world, serving, Evidence((Held("serves", f"serves-{thing.name}", "verified", LATE),)))


def _run_id(who: str, kind: str) -> str:
    return f"run-{hashlib.sha256(f'{who}/{kind}'.encode()).hexdigest()[:16]}"


def _serial(who: str, kind: str) -> str:
    return hashlib.sha256(f"serial/{who}/{kind}".encode()).hexdigest()[:32]


class _Sequencer:
    """What habits are told through: the change is applied, nothing is stored."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def submit(
        self, requester: str, changes: Sequence[Change], entries: Iterable[Any], *, steps: Sequence[Any] = ()
    ) -> tuple[Any, ...]:
        """Apply."""
        self._office.put(*changes)
        return ()
