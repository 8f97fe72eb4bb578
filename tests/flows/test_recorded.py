"""Recorded decisions read back out of the log, a picture of the entities, the analyses beside the event loop, and the history of versions."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from flows_world import (
    ALICE,
    BOB,
    DAY,
    DIGITS,
    HOUR,
    NIGHT,
    NOW,
    SPINE,
    TD,
    World,
    caller,
    lasting,
    make_world,
    registration,
    revoked,
    running,
    serving,
)

from vouchgate.audit import ocsf
from vouchgate.audit.tiles import MAX_ENTRY_BYTES
from vouchgate.flows import change_policy, policy_history, replay, start, suggest
from vouchgate.flows.changes import PolicyActivated, RegistrationPut, RiskSet, SettingPut
from vouchgate.flows.context import Context
from vouchgate.flows.needs import needs
from vouchgate.flows.recorded import LogReader, start_of
from vouchgate.flows.system_policy import PolicySystem
from vouchgate.identity.verify import registered
from vouchgate.policy.catalog import load
from vouchgate.policy.learn import Options
from vouchgate.policy.load import Source
from vouchgate.policy.recorded import Header, Recorded, RecordedLog, write_header
from vouchgate.policy.world import world_from_cedar_json
from vouchgate.vocabulary.decisions import Decision, Risk
from vouchgate.vocabulary.errors import InvalidInput, NotFound, NotPermitted
from vouchgate.vocabulary.events import Event
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import UnixMillis

TEXT = SPINE[0][1]
ANN, BEN = caller("ann"), caller("ben")


def event(number: int = 1, **changes: Any) -> Event:
    detail = {"method": "POST", "path": "/predict", "serial": "01"} | changes.pop("detail", {})
    wanted = {
        "source": "gateway", "source_epoch": 1, "source_seq": number, "occurred_at": UnixMillis(NOW + number), "observed_at": UnixMillis(NOW),
        "principal": ALICE, "authenticated": True, "action": "infer", "resource": DIGITS, "enforced_by": "gateway", "outcome": "allowed",
        "request_id": f"req-{number}", "peer": "10.1.2.3:4567", "detail": detail,
    }  # fmt: skip
    return Event(**(wanted | changes))


def decided(world: World, who: str = ALICE, action: str = "infer", name: str = DIGITS, **facts: Any) -> Decision:
    known = registration(who, expires_at=UnixMillis(0))
    return world.facts.decide(registered(world.facts.registrations.get(who, known), NOW), action, name, NOW, facts=facts)


async def write(world: World, *entries: bytes, label: str = "") -> None:
    for entry in entries:
        await world.context.sequencer.append("test", [Append(entry=entry, label=label)])


async def log(world: World, *events: Event) -> None:
    await write(world, *[ocsf.request(TD, one) for one in events])


def read(world: World) -> tuple[list[Recorded], dict[str, int]]:
    reader = LogReader(world.store, dict(world.facts.endpoints))
    records, at = [], 0
    while at < world.store.size():
        found, at = reader.page(at, 3)
        records += found
    return records, {why: count for why, count in reader.left_out.items() if why != "unreadable"}


@contextlib.asynccontextmanager
async def world_of(*callers: Registration, solo: bool = False) -> AsyncIterator[World]:
    async with running(make_world(solo=solo)) as world:
        await serving(world, *callers)
        yield world


def test_a_request_is_a_record_with_the_decision_behind_it() -> None:
    async def go() -> None:
        async with world_of() as world:
            made = decided(world)
            await write(world, ocsf.decision(made), label=made.id)
            await log(
                world, event(1, grant_id=f"{made.id}.7"), event(2, phase="start"), event(3, decision_id=made.id, enforced_by="ext_authz")
            )
            (one, two), left_out = read(world)
            assert not left_out
            assert (one.principal, one.action, one.resource, one.effect, one.time) == (ALICE, "infer", DIGITS, "allow", NOW + 1)
            assert (one.by, one.decision, one.source_ip, one.method, one.path) == (
                made.determining,
                made.id,
                "10.1.2.3",
                "POST",
                "/predict",
            )
            assert (one.credential, one.observed, one.risk) == ("x509", False, 0)
            assert two.by == made.determining

    asyncio.run(go())


def test_a_request_that_was_asked_about_is_recorded_with_all_of_its_facts() -> None:
    async def go() -> None:
        async with world_of() as world:
            asked = decided(world, hour=3, usual_hour=False, purpose="billing", method="POST")
            ahead = world.facts.standing((DIGITS, ALICE), NOW)[0]
            chain = msgspec.structs.replace(asked, id="c" * 32, actors=(BOB,))
            for one in (asked, ahead, chain):
                await write(world, ocsf.decision(one), label=one.id)
            await log(world, *(event(number, decision_id=one.id) for number, one in enumerate((asked, ahead, chain), 1)))
            (first, second, third), _ = read(world)
            assert (first.whole, first.usual_hour, first.purpose, first.usual_network) == (True, False, "billing", None)
            assert not second.whole, "decided ahead of the request: nothing is known of it"
            assert not third.whole, "the facts are the subject's alone"

    asyncio.run(go())


def test_a_request_that_no_policy_decided_is_left_out_by_why() -> None:
    async def go() -> None:
        async with world_of() as world:
            made = decided(world)
            struck = msgspec.structs.replace(made, id="a" * 32, effect="deny", would_be="deny", determining=("revocation:r1",))
            early = msgspec.structs.replace(made, id="b" * 32, effect="deny", would_be="deny", facts_digest="")
            for one in (struck, early):
                await write(world, ocsf.decision(one), label=one.id)
            await log(
                world,
                event(1, principal=""),
                event(2, outcome="denied", detail={"details": "rbac_access_denied"}),
                event(3, outcome="denied", detail={"details": "something new"}),
                event(4, outcome="denied", decision_id=struck.id),
                event(5, outcome="denied", decision_id=early.id),
            )
            records, left_out = read(world)
            assert not records
            assert left_out == {"anonymous": 1, "rbac": 1, "gateway": 1, "revoked": 1, "credential": 1}

    asyncio.run(go())


def test_what_observe_let_through_says_so_and_a_shortened_entry_is_left_out() -> None:
    async def go() -> None:
        async with world_of() as world:
            await log(world, event(1, detail={"map": "observe:x"}), event(2, detail={"more": "x" * MAX_ENTRY_BYTES}))
            (one,), left_out = read(world)
            assert one.observed
            assert left_out == {"shortened": 1}

    asyncio.run(go())


def test_a_decision_about_something_else_than_use_is_its_own_record() -> None:
    async def go() -> None:
        async with world_of() as world:
            made = decided(world, action="release-key", name=f"vg://{TD}/system/control")
            await write(world, ocsf.decision(made), label=made.id)
            (one,), _ = read(world)
            assert (one.action, one.effect, one.decision) == ("release-key", "deny", made.id)

    asyncio.run(go())


@pytest.mark.parametrize(
    "junk", [b"{", b"null", b'{"metadata":{"event_code":"request-end"},"unmapped":{"vouchgate":7}}', b"\xff\xfe", b"[" * 3000]
)
def test_junk_in_the_log_ends_nothing(junk: bytes) -> None:
    async def go() -> None:
        async with world_of() as world:
            await write(world, junk)
            await log(world, event(1))
            assert len(read(world)[0]) == 1

    asyncio.run(go())


def test_the_first_entry_since_a_time_is_found() -> None:
    async def go() -> None:
        async with world_of() as world:
            await log(world, *[event(number, occurred_at=UnixMillis(NOW + number * HOUR)) for number in range(1, 30)])
            first = start_of(world.store, NOW + 20 * HOUR)
            reader = LogReader(world.store, {})
            assert min(one.time for one in reader.page(first, 100)[0]) == NOW + 20 * HOUR
            assert start_of(world.store, NOW + 10**12) == world.store.size()

    asyncio.run(go())


def test_pages_and_the_snapshot_are_enough_for_a_replay_elsewhere() -> None:
    async def go() -> None:
        async with world_of(registration(), registration(BOB), registration(NIGHT, groups=("batch-callers",))) as world:
            await log(world, *[event(number) for number in range(1, 6)])
            page = await replay.page(world.context, 0, 0)
            snapshot = await replay.snapshot(world.context)
            records = [one for some in RecordedLog([write_header(Header(trust_domain=TD)), page.lines.encode()]).batches() for one in some]
            assert (len(records), page.records, page.next) == (5, 5, world.store.size())
            elsewhere = world_from_cedar_json(zlib.decompress(snapshot.entities).decode())
            assert elsewhere.entities.keys() == world.facts.world.entities.keys()
            assert load([Source(name, text) for name, text in snapshot.sources]).digest == snapshot.policy_digest
            assert ("infer", DIGITS) in snapshot.asks

    asyncio.run(go())


def test_a_picture_does_not_change_with_the_world() -> None:
    async def go() -> None:
        async with world_of() as world:
            made = replay.picture(world.context)
            before = made.world.to_cedar_json()
            await world.put(
                RegistrationPut(registration=registration(BOB)), RiskSet(subject=ALICE, risk=Risk(value=70, reasons=("burst",)))
            )
            world.facts.advance(UnixMillis(NOW + 2 * DAY))
            assert made.world.to_cedar_json() == before
            assert not made.standing
            (after,) = replay.picture(world.context).standing
            assert (after.principal, after.risk, after.reasons) == (ALICE, 70, ("burst",))

    asyncio.run(go())


def test_replay_suggest_and_privilege_beside_the_event_loop() -> None:
    async def go() -> None:
        async with world_of(registration(), registration(BOB)) as world:
            await log(world, *[event(day, occurred_at=UnixMillis(NOW - day * DAY + 60_000)) for day in range(5, 0, -1)])
            await world.put(revoked("principal", BOB))
            found = await suggest.suggested(world.context, Options(), 30)
            assert ALICE in found.text and found.granted == 1
            assert load([Source("s.cedar", found.text)])
            without = await suggest.replayed(world.context, "", 30)
            assert (without.records, without.lost) == (5, 5)
            table = await suggest.privileges(world.context, ALICE, 30)
            assert table.callers[0].used == 1
            with pytest.raises(NotFound):
                await suggest.privileges(world.context, "spiffe://test.local/service/serve/nobody", 30)

    asyncio.run(go())


def test_one_analysis_at_a_time_and_the_place_is_given_back() -> None:
    async def go() -> None:
        async with world_of() as world:
            await log(world, event(1))
            results = await asyncio.gather(*[suggest.replayed(world.context, "", 30) for _ in range(2)], return_exceptions=True)
            assert sorted(type(one).__name__ for one in results) == ["Conflict", "ReplayOutcome"]
            with pytest.raises(InvalidInput):
                await suggest.suggested(world.context, Options(zone="nowhere"), 30)
            assert (await suggest.replayed(world.context, "", 30)).records == 1

    asyncio.run(go())


def test_an_analysis_is_an_act_of_its_own() -> None:
    class Only(PolicySystem):
        def __init__(self, context: Context) -> None:
            self.context = context

    async def go() -> None:
        async with world_of() as world:
            system = Only(world.context)
            for ask in (
                system.policy_history(ANN, 0),
                system.policy_snapshot(ANN),
                system.policy_records(ANN, 0, 0),
                system.policy_replay(ANN, "", 7),
                system.policy_suggest(ANN, "", 7),
                system.policy_privilege(ANN, "", 7),
            ):
                with pytest.raises(NotPermitted):
                    await ask
            await world.put(RegistrationPut(registration=registration(ANN.principal.principal.id, groups=("role:auditor",))))
            assert (await system.policy_history(lasting("ann"), 0)).versions

    asyncio.run(go())


# -- history


def test_history_tells_who_wrote_each_version_and_whether_its_signature_holds() -> None:
    async def go() -> None:
        async with world_of() as world:
            await start.activate(world.context, [("b.cedar", TEXT + "\n// more")], author="ann", approver="ben")
            found = policy_history.history(world.context)
            assert [(one.version, one.author, one.approver, one.in_force, one.signature) for one in found.versions] == [
                (2, "ann", "ben", True, "holds"), (1, "a", "b", False, "holds"),
            ]  # fmt: skip
            assert all(not one.text and one.policies for one in found.versions)
            (one,) = policy_history.history(world.context, 1).versions
            assert one.text == TEXT
            with pytest.raises(NotFound):
                policy_history.history(world.context, 7)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("changes", "signature"),
    [
        ({"author": "mallory"}, "broken"),
        ({"approver": "mallory"}, "broken"),
        ({"sources": (("x.cedar", "permit (principal, action, resource);"),)}, "broken"),
        ({"digest": "sha256:" + "0" * 64}, "broken"),
        ({"envelope": b"{}"}, "broken"),
    ],
)
def test_a_record_that_was_changed_in_the_store_is_broken(changes: dict[str, Any], signature: str) -> None:
    async def go() -> None:
        async with world_of() as world:
            policy = world.facts.policy
            assert isinstance(policy, PolicyActivated)
            forged = msgspec.structs.replace(policy, **changes)
            told = policy_history._told(msgspec.json.encode(forged), world.facts.trust_root, 1, whole=False)
            assert told.signature == signature
            assert told.detail

    asyncio.run(go())


def test_what_waits_for_a_second_person_is_in_the_history_and_among_the_needs() -> None:
    async def go() -> None:
        async with world_of() as world:
            for name, role in (("ann", "role:policy-author"), ("ben", "role:policy-author")):
                await world.put(RegistrationPut(registration=registration(caller(name).principal.principal.id, groups=(role,))))
            assert (await change_policy.apply(world.context, ANN, TEXT + "\n", "r")).waits_for
            waiting = policy_history.history(world.context).proposal
            assert waiting is not None and waiting.author == ANN.principal.principal.id
            assert [one.title for one in _needs(world) if one.kind == "policy"] == ["a policy waits for a second person"]
            world.clock.at += 25 * HOUR
            assert policy_history.proposal(world.context) is None
            assert not [one for one in _needs(world) if one.kind == "policy"]

    asyncio.run(go())


def _needs(world: World) -> Any:
    class Quiet:
        trouble = ""

    return needs(world.context, (), (), (), Quiet())  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", "x", "x y", "x y z", "x y -1", " ", "a  9999999999999"])
def test_a_setting_that_is_no_proposal_is_none(value: str) -> None:
    async def go() -> None:
        async with world_of() as world:
            await world.put(SettingPut(key=policy_history.PROPOSAL, value=value))
            assert policy_history.proposal(world.context) is None

    asyncio.run(go())
