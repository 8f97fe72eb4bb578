"""Waivers: two persons, one control, one subject, a time; never over what failed or was revoked."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from flows_world import (
    ALICE,
    DAY,
    DIGITS,
    HOUR,
    KEYS,
    MODEL,
    NOW,
    OTHER_MODEL,
    TD,
    World,
    about,
    caller,
    endpoint,
    lasting,
    make_world,
    registration,
    revoked,
    running,
    served,
    vouched,
    zone,
)

from vouchgate.evidence.statement import sign_vouch
from vouchgate.flows import start, waive
from vouchgate.flows.change_policy import report as policy_report
from vouchgate.flows.changes import AssetPut, EndpointPut, RegistrationPut, RegistrationRemoved, VouchAdded, ZonePut
from vouchgate.flows.explain import why
from vouchgate.flows.facts import Facts, compile_sources
from vouchgate.flows.needs import _waivers
from vouchgate.flows.revoke import revoke
from vouchgate.policy.world import tier_strings
from vouchgate.vocabulary.answers import RevokeRequest
from vouchgate.vocabulary.answers_approvals import Waiver, WaiveRequest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, InvalidName, NotFound, NotPermitted, VouchgateError
from vouchgate.vocabulary.names import ResourceId, resource
from vouchgate.vocabulary.places import Asset
from vouchgate.vocabulary.vouches import Method, Subject, UnixMillis, Vouch

ANN, BEN, EVE = lasting("ann", "policy-author", "auditor"), lasting("ben", "policy-approver", "responder", "auditor"), lasting("eve")
STRUCTURE = vouched("structure", [about()])
SERVES = vouched("serves", [served()])
ARTIFACT = resource(TD, "artifact", MODEL.text)
CALLERS = '@id("a") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint in Zone::"serve");'


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in every case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


@asynccontextmanager
async def house(*vouches: VouchAdded, solo: bool = False) -> AsyncIterator[World]:
    """An endpoint whose model lacks a scan."""
    async with running(make_world(solo=solo)) as world:
        await world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint()), *(vouches or (STRUCTURE, SERVES)))
        people = [registration(one.principal.principal.id, one.principal.principal.groups) for one in (ANN, BEN, EVE)]
        await world.put(*(RegistrationPut(registration=one) for one in (registration(), *people)))
        await world.settled()
        yield world


def story(tell: Callable[[World], Awaitable[None]], *vouches: VouchAdded, solo: bool = False) -> None:
    async def go() -> None:
        async with house(*vouches, solo=solo) as world:
            await tell(world)

    asyncio.run(go())


def wish(**changes: Any) -> WaiveRequest:
    return WaiveRequest(**({"control": "scan", "subject": MODEL.text, "until": NOW + 10 * DAY, "why": "the scanner is replaced"} | changes))


async def made(world: World, **changes: Any) -> Waiver:
    asked = await waive.ask(world.context, ANN, wish(**changes))
    assert asked.state == "waits"
    agreed = await waive.agree(world.context, BEN, asked.id)
    await world.settled()
    return agreed


def strings(world: World, name: str = ARTIFACT) -> set[str]:
    evidence = world.facts.evidence(name, world.clock.now())
    return {text for one in evidence.held for text in one.strings}


def test_two_persons_let_one_control_pass_for_a_time() -> None:
    async def tell(world: World) -> None:
        assert not world.granted()
        agreed = await made(world)
        assert (agreed.state, agreed.requester, agreed.approver) == ("in-force", ANN.principal.principal.id, BEN.principal.principal.id)
        assert world.granted() == {ALICE}
        assert strings(world) == {*tier_strings("structure", "verified"), "scan"}
        explained = why(world.context, "alice", "infer", "digits")
        assert explained.decision.waivers == (agreed.id,)
        assert agreed.id in explained.decision.vouches_used
        assert "scan (waived)" in explained.decision.reason
        assert any(one.predicate == "waiver" and "scan" in one.detail for one in explained.vouches)
        assert [grant.not_after <= NOW + 10 * DAY for grant in world.points.grants[DIGITS]] == [True]

    story(tell)


def test_the_decision_worker_gives_the_same_waivers() -> None:
    async def tell(world: World) -> None:
        agreed = await made(world)
        recorded = [one for one in world.recorded if one.action == "infer" and one.effect == "allow"]
        assert recorded[-1].waivers == (agreed.id,)
        assert world.replica.facts.waivers.keys() == {agreed.id}

    story(tell)


def test_it_ends_with_its_time() -> None:
    async def tell(world: World) -> None:
        await made(world, until=NOW + 2 * HOUR)
        assert world.granted() == {ALICE}
        world.clock.at += 2 * HOUR
        world.facts.advance(world.clock.now())
        assert "scan" not in strings(world)
        assert not world.facts.evidence(ARTIFACT, world.clock.now()).lacking.get("waiver")
        world.context.publisher.redecide([(DIGITS, ALICE)])
        await world.settled()
        assert not world.granted()
        assert [one.state for one in waive.listed(world.context)] == ["ended"]

    story(tell)


def test_it_ends_with_its_revocation_and_that_says_nothing_against_its_subject() -> None:
    async def tell(world: World) -> None:
        agreed = await made(world)
        await revoke(world.context, BEN, RevokeRequest(kind="vouch", target=agreed.id, reason="done"))
        await world.settled()
        assert not world.granted()
        assert not world.facts.has_refused_evidence(DIGITS, world.clock.now())
        assert [one.state for one in waive.listed(world.context)] == ["revoked"]

    story(tell)


FAIL = vouched("scan", [about()], outcome="fail", issued_at=NOW - 1)


@pytest.mark.parametrize(
    "against",
    [
        pytest.param([vouched("scan", [about()], outcome="fail", issued_at=NOW + 1)], id="a fail afterwards"),
        pytest.param([FAIL], id="a fail from before that comes late"),
        pytest.param([vouched("scan", [about()], expires_at=NOW + DAY), revoked("key", "KEY")], id="a scan whose key is revoked"),
        pytest.param([revoked("digest", MODEL.text)], id="the digest is revoked"),
    ],
)
def test_it_falls_at_once_when_something_stands_against_it(against: list[Any]) -> None:
    async def tell(world: World) -> None:
        await made(world)
        assert world.granted() == {ALICE}
        for change in against:
            whole = change
            if getattr(change, "revocation", None) and change.revocation.target == "KEY":
                whole = revoked("key", world.facts.lineage.vouches[against[0].id].issuer_key)
            await world.put(whole)
        await world.settled()
        assert "scan" not in {text for text in strings(world) if text == "scan"}
        assert not world.granted()
        assert waive.listed(world.context)[0].state in {"held-back", "revoked"}

    story(tell)


def test_a_newer_pass_that_lapsed_clears_a_revocation_from_before() -> None:
    async def tell(world: World) -> None:
        old = vouched("scan", [about()], issued_at=NOW - 2)
        await world.put(old, revoked("vouch", old.id))
        with pytest.raises(Conflict):
            await waive.ask(world.context, ANN, wish())
        await world.put(vouched("scan", [about()], issued_at=NOW - 1, expires_at=NOW + 1000))
        world.clock.at += 2000
        world.facts.advance(world.clock.now())
        await made(world)
        assert "scan" in strings(world)

    story(tell)


def test_what_is_there_is_not_waived_and_what_comes_takes_its_place() -> None:
    async def tell(world: World) -> None:
        with pytest.raises(Conflict, match="holds"):
            await waive.ask(world.context, ANN, wish(control="structure"))
        agreed = await made(world)
        await world.put(vouched("scan", [about()], issued_at=NOW + 1))
        await world.settled()
        assert waive.listed(world.context)[0].state == "not-needed"
        assert why(world.context, "alice", "infer", "digits").decision.waivers == ()
        assert agreed.id in world.facts.waivers

    story(tell)


def test_a_tier_is_waived_exactly() -> None:
    async def tell(world: World) -> None:
        assert strings(world, DIGITS) == set(tier_strings("serves", "inferred"))
        await made(world, control="serves@rederived", subject="digits")
        assert strings(world, DIGITS) == {*tier_strings("serves", "inferred"), "serves@rederived"}
        assert world.granted() == {ALICE}

    story(tell, STRUCTURE, vouched("scan", [about()]), vouched("serves", [served()], tier="inferred"))


def test_a_caller_s_evidence_can_be_waived_and_falls_with_the_caller() -> None:
    async def tell(world: World) -> None:
        await made(world, control="posture", subject="alice")
        assert strings(world, ALICE) == {"posture"}
        await world.put(revoked("principal", ALICE))
        assert strings(world, ALICE) == set()
        with pytest.raises(Conflict):
            await waive.ask(world.context, ANN, wish(control="posture", subject=ALICE))

    story(tell)


@pytest.mark.parametrize("named", [True, False])
def test_a_name_that_stands_for_content_waives_nothing_that_failed_on_either(named: bool) -> None:
    """Asking by the name, where the content failed, is asking about the content."""

    async def tell(world: World) -> None:
        name = resource(TD, "dataset", "digits")
        await world.put(AssetPut(asset=Asset(id=ResourceId(name), zones=("serve",), digest=MODEL.text)))
        where = name if named else MODEL.text
        await made(world, subject=where)
        uid = world.facts.known_of(name, world.clock.now())
        assert uid
        entity = next(one for key, one in world.facts.world.attributes.items() if key.id == name)
        assert "scan" in entity["vouches"]
        failing = about() if named else Subject(name=name, digest=MODEL)
        await world.put(vouched("scan", [failing], outcome="fail", issued_at=NOW + 1))
        entity = next(one for key, one in world.facts.world.attributes.items() if key.id == name)
        assert "scan" not in entity["vouches"]

    story(tell)


BAD: list[tuple[str, dict[str, Any], type[VouchgateError]]] = [
    ("a whole kind", {"subject": "vg://test.local/artifact/*"}, InvalidName),
    ("everything", {"subject": "*"}, NotFound),
    ("a zone", {"subject": f"vg://{TD}/zone/serve"}, InvalidInput),
    ("the control plane", {"subject": f"vg://{TD}/system/control"}, InvalidInput),
    ("of another domain", {"subject": f"vg://evil.local/artifact/{MODEL.text}"}, InvalidInput),
    ("of another domain's caller", {"subject": "spiffe://evil.local/service/serve/alice"}, NotFound),
    ("a digest in capitals", {"subject": MODEL.text.upper().replace("SHA256", "sha256")}, InvalidInput),
    ("a digest with a blank", {"subject": MODEL.text + " "}, InvalidInput),
    ("content that nobody knows", {"subject": OTHER_MODEL.text}, NotFound),
    ("nobody", {"subject": f"spiffe://{TD}/service/serve/nobody"}, NotFound),
    ("every control", {"control": "*"}, InvalidInput),
    ("a control that is none", {"control": "sca"}, InvalidInput),
    ("a control in capitals", {"control": "Scan"}, InvalidInput),
    ("a tier that is none", {"control": "scan@sure"}, InvalidInput),
    ("an empty tier", {"control": "scan@"}, InvalidInput),
    ("two tiers", {"control": "scan@verified@declared"}, InvalidInput),
    ("a list of controls", {"control": "scan,structure"}, InvalidInput),
    ("a waiver of a waiver", {"control": "waiver"}, InvalidInput),
    ("a waiver of an approval", {"control": "approval@declared"}, InvalidInput),
    ("content's control of a caller", {"control": "scan", "subject": ALICE}, InvalidInput),
    ("for ever", {"until": NOW + 90 * DAY + 1}, InvalidInput),
    ("until long ago", {"until": NOW}, InvalidInput),
    ("until the end of time", {"until": 2**62}, InvalidInput),
]


@pytest.mark.parametrize(("changes", "error"), [pytest.param(changes, error, id=name) for name, changes, error in BAD])
def test_what_cannot_be_waived(changes: dict[str, Any], error: type[VouchgateError]) -> None:
    async def tell(world: World) -> None:
        with pytest.raises(error):
            await waive.ask(world.context, ANN, wish(**changes))
        assert waive.listed(world.context) == ()

    story(tell)


@pytest.mark.parametrize("kind", ["vouch", "digest"])
def test_an_import_that_was_revoked_is_not_waived(kind: str) -> None:
    async def tell(world: World) -> None:
        imported = vouched("import", [about()])
        await world.put(imported, revoked(kind, imported.id if kind == "vouch" else MODEL.text))
        with pytest.raises(Conflict, match="failed or was revoked"):
            await waive.ask(world.context, ANN, wish(control="import"))

    story(tell)


def test_nobody_asks_and_agrees() -> None:
    async def tell(world: World) -> None:
        both = lasting("ann", "policy-author", "policy-approver")
        await world.put(RegistrationPut(registration=registration(both.principal.principal.id, both.principal.principal.groups)))
        asked = await waive.ask(world.context, both, wish())
        with pytest.raises(NotPermitted, match="does not agree"):
            await waive.agree(world.context, both, asked.id)
        with pytest.raises(NotPermitted):
            await waive.agree(world.context, EVE, asked.id)
        assert not world.granted()

    story(tell)


def test_the_signer_itself_refuses_one_person() -> None:
    async def tell(world: World) -> None:
        asked = await waive.ask(world.context, ANN, wish())
        found = msgspec.structs.replace(waive._find(world.context, asked.id), requester=BEN.principal.principal.id)
        with pytest.raises(NotPermitted, match="one person"):
            await waive._agreed(world.context, BEN, found, [])

    story(tell)


def test_with_solo_one_person_does_both_and_it_says_so() -> None:
    async def tell(world: World) -> None:
        owner = lasting("owner", "policy-author", "policy-approver")
        await world.put(RegistrationPut(registration=registration(owner.principal.principal.id, owner.principal.principal.groups)))
        agreed = await waive.ask(world.context, owner, wish())
        assert (agreed.state, agreed.solo) == ("in-force", True)
        with pytest.raises(NotPermitted):
            await waive.ask(world.context, ANN, wish(control="import"))

    story(tell, solo=True)


def test_who_may_ask() -> None:
    async def tell(world: World) -> None:
        with pytest.raises(NotPermitted):
            await waive.ask(world.context, EVE, wish())
        robot = caller("x", "policy-author")
        name = f"spiffe://{TD}/service/serve/robot"
        who = msgspec.structs.replace(robot.principal, principal=msgspec.structs.replace(robot.principal.principal, id=name))
        await world.put(RegistrationPut(registration=registration(name, ("role:policy-author", "role:policy-approver"))))
        with pytest.raises(NotPermitted, match="no person"):
            await waive.ask(world.context, msgspec.structs.replace(robot, principal=who), wish())
        asked = await waive.ask(world.context, ANN, wish())
        with pytest.raises(NotPermitted, match="no person"):
            await waive.agree(world.context, msgspec.structs.replace(robot, principal=who), asked.id)

    story(tell)


@pytest.mark.parametrize("how", ["role taken", "unregistered", "revoked"])
def test_the_first_person_s_right_is_looked_at_again(how: str) -> None:
    async def tell(world: World) -> None:
        asked = await waive.ask(world.context, ANN, wish())
        name = ANN.principal.principal.id
        change = {
            "role taken": RegistrationPut(registration=registration(name, ("role:auditor",))),
            "unregistered": RegistrationRemoved(principal=name),
            "revoked": revoked("principal", name),
        }[how]
        await world.put(change)
        with pytest.raises(Conflict, match="no longer"):
            await waive.agree(world.context, BEN, asked.id)
        assert not world.granted()

    story(tell)


def test_what_changed_meanwhile_is_looked_at_again() -> None:
    async def tell(world: World) -> None:
        asked = await waive.ask(world.context, ANN, wish())
        await world.put(vouched("scan", [about()], outcome="fail"))
        with pytest.raises(Conflict):
            await waive.agree(world.context, BEN, asked.id)

    story(tell)


def test_a_request_is_used_once_even_by_two_at_the_same_time() -> None:
    async def tell(world: World) -> None:
        asked = await waive.ask(world.context, ANN, wish())
        two = await asyncio.gather(*(waive.agree(world.context, BEN, asked.id) for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(one, Waiver) for one in two) == 1
        assert all(isinstance(one, Waiver | Conflict | NotFound) for one in two)
        assert len(world.facts.waivers) == 1
        with pytest.raises(NotFound):
            await waive.agree(world.context, BEN, asked.id)

    story(tell)


def test_a_request_lapses_and_can_be_withdrawn() -> None:
    async def tell(world: World) -> None:
        first = await waive.ask(world.context, ANN, wish())
        with pytest.raises(NotPermitted):
            await waive.withdraw(world.context, EVE, first.id)
        assert (await waive.withdraw(world.context, ANN, first.id)).state == "ended"
        with pytest.raises(NotFound):
            await waive.agree(world.context, BEN, first.id)
        second = await waive.ask(world.context, ANN, wish())
        world.clock.at += waive.OPEN_HOURS * HOUR
        with pytest.raises(Conflict, match="lapsed"):
            await waive.agree(world.context, BEN, second.id)
        assert waive.listed(world.context) == ()

    story(tell)


def test_requests_are_bounded_and_lapsed_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waive, "MAX_WAITING", 3)

    async def tell(world: World) -> None:
        for _ in range(3):
            await waive.ask(world.context, ANN, wish())
        with pytest.raises(VouchgateError, match="wait for a second person"):
            await waive.ask(world.context, ANN, wish())
        world.clock.at += waive.OPEN_HOURS * HOUR
        await waive.ask(world.context, ANN, wish(until=world.clock.at + DAY))
        assert len(world.store.scan(waive.KIND, limit=10)) == 1

    story(tell)


def test_a_renewal_takes_two_persons_again_and_is_counted() -> None:
    async def tell(world: World) -> None:
        await made(world)
        world.clock.at += DAY
        asked = await waive.ask(world.context, ANN, wish(until=NOW + 60 * DAY))
        assert (asked.state, asked.renewals) == ("waits", 1)
        second = await waive.agree(world.context, BEN, asked.id)
        assert (second.renewals, second.state) == (1, "in-force")
        assert sum(one.waives == "scan" for one in world.facts.evidence(ARTIFACT, world.clock.now()).held) == 1

    story(tell)


def test_they_are_counted_in_status_and_policy_check() -> None:
    async def tell(world: World) -> None:
        await waive.ask(world.context, ANN, wish())
        await made(world, until=NOW + 2 * DAY)
        told = list(_waivers(world.context))
        assert [(one.kind, one.severity) for one in told] == [("waiver", "soon"), ("waiver", "soon")]
        assert "1 waiver waits" in told[0].title
        assert "1 waiver stands, 1 ends in 2 days" in told[1].title
        report = await asyncio.to_thread(policy_report, world.context, CALLERS)
        assert any("1 waiver stands" in one.text for one in report.findings)

    story(tell)


def test_a_restart_keeps_requests_and_waivers() -> None:
    async def tell(world: World) -> None:
        await made(world)
        again = Facts(TD, world.facts._fingerprint)
        start.replay(world.store, again, world.clock.now())
        assert again.waivers.keys() == world.facts.waivers.keys()
        assert again.evidence(ARTIFACT, world.clock.now()) == world.facts.evidence(ARTIFACT, world.clock.now())
        await waive.ask(world.context, ANN, wish(control="import"))
        assert [one.state for one in waive.listed(world.context)] == ["waits", "in-force"]

    story(tell)


def signed(**changes: Any) -> VouchAdded:
    from flows_world import _spki

    from vouchgate.vocabulary.trust import key_id

    key = KEYS.ed25519["approver"]
    wanted = {
        "id": "", "trust_domain": TD, "predicate_type": "waiver", "predicate_version": 1, "subjects": (about(),), "outcome": "pass",
        "issuer_key": key_id(_spki(key)), "issuer_role": "approver", "issued_at": NOW, "not_before": NOW, "expires_at": NOW + DAY,
        "tier": "declared", "method": Method(tool="t", version="1"),
        "claims": {"control": "scan", "reason": "r", "requester": "a", "approver": "b"},
    }  # fmt: skip
    wanted |= changes
    made = sign_vouch(Vouch(**wanted), key)
    return VouchAdded(id=made.vouch.id, envelope=made.envelope)


CLAIMS = {"reason": "r", "requester": "a", "approver": "b"}


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": CLAIMS | {"control": "*"}},
        {"claims": CLAIMS | {"control": "waiver"}},
        {"claims": CLAIMS | {"control": ""}},
        {"subjects": (about(), about(OTHER_MODEL))},
        {"outcome": "fail"},
        {"expires_at": UnixMillis(NOW + 91 * DAY)},
        {"subjects": (Subject(name=ALICE),)},
    ],
)
def test_even_a_signed_waiver_is_held_to_the_rules(changes: dict[str, Any]) -> None:
    """As if the approver's key were in other hands."""

    async def tell(world: World) -> None:
        try:
            change = signed(**changes)
        except InvalidInput:
            return
        await world.put(change)
        assert world.facts.waivers == {}
        assert strings(world) == set(tier_strings("structure", "verified"))

    story(tell)
