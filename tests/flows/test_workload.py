"""Issuing to workloads, without sockets: what is asked of whom, what is refused, what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flows_world import ALICE, BOB, DIGITS, NOW, TD, World, endpoint, evidence_for, make_world, registration, revoked, running, zone

from vouchgate.audit import ocsf
from vouchgate.flows.changes import EndpointPut, RegistrationPut, ZonePut
from vouchgate.flows.workload import LOOK_SECONDS, MAX_BATCH, Wanted, Workloads, selectors_of
from vouchgate.flows.workload_binding import bound_of, fallen, lineage_root
from vouchgate.flows.workload_refusals import AGAIN_SECONDS, MAX_KINDS, Refusal, Refusals
from vouchgate.flows.workload_validate import validate
from vouchgate.identity.x509svid import read_x509
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Selector


def spki() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def wanted(connection: str = "c1", **changes: Any) -> Wanted:
    return Wanted(**({"connection": connection, "pid": 10, "uid": 1000, "form": "x509", "spki": spki()} | changes))


class Desk:
    """A control plane with one machine's processes."""

    def __init__(self, world: World) -> None:
        self.world, self.steady, self.looks = world, 100.0, list[list[int]]()
        self.processes: dict[int, Any] = {10: facts(1000), 20: facts(2000)}
        self.workloads = Workloads(world.context, self.look, steady=lambda: self.steady)

    async def look(self, pids: Sequence[int]) -> list[Any]:
        self.looks.append(list(pids))
        return [self.processes.get(pid) for pid in pids]

    async def register(self, name: str = ALICE, uid: int = 1000, **changes: Any) -> None:
        (one,) = await self.world.put(RegistrationPut(registration=registration(name, uid=uid, **changes)))
        self.workloads.candidates.take(one.change)

    async def one(self, **changes: Any) -> dict[str, Any]:
        (answer,) = await self.workloads.issue([wanted(**changes)])
        return answer


def facts(uid: int, **changes: Any) -> dict[str, Any]:
    return {"unix-process": {"uid": uid, "gid": uid, **changes}}


def run(story) -> None:
    async def go() -> None:
        world = make_world()
        async with running(world, publishing=False):
            await story(Desk(world))

    asyncio.run(asyncio.wait_for(go(), 20))


def logged(desk: Desk) -> list[dict[str, Any]]:
    found = [ocsf.detail_of(entry) for entry in desk.world.entries() if entry.startswith(b"{")]
    return [one for one in found if isinstance(one, dict) and "credential_kind" in one]


def test_a_batch_is_one_question_to_each_and_one_transaction():
    async def story(desk: Desk) -> None:
        await desk.register()
        await desk.register(BOB, 2000)
        before = desk.world.store.epoch()
        desk.world.context.signer.calls.clear()
        answers = await desk.workloads.issue([wanted("a"), wanted("b", pid=20, uid=2000), wanted("c"), wanted("d", pid=99)])
        assert [answer["ok"] for answer in answers] == [True, True, True, False]
        assert [answer.get("principal") for answer in answers] == [ALICE, BOB, ALICE, None]
        assert desk.looks == [[10, 20, 99]]
        assert desk.world.context.signer.calls == ["x509_svids"]
        assert desk.world.store.epoch() == before + 3
        ids = {answer["credential"] for answer in answers[:3]}
        assert len(ids) == 3 and {one["credential_id"] for one in logged(desk) if one["ok"]} == ids
        read = read_x509(answers[0]["chain"], desk.world.facts.bundle, desk.world.clock.now())
        assert not isinstance(read, Denied) and read.principal == ALICE

    run(story)


def test_a_look_counts_for_a_second_and_a_rotation_looks_again():
    async def story(desk: Desk) -> None:
        await desk.register()
        await desk.one()
        await desk.one()
        assert len(desk.looks) == 1
        desk.steady += LOOK_SECONDS + 0.1
        await desk.one()
        assert len(desk.looks) == 2
        desk.steady += 0.01
        await desk.one(fresh=True)
        assert len(desk.looks) == 3
        await desk.one(pid=20, uid=2000)
        assert desk.looks[-1] == [20]

    run(story)


def test_the_same_mark_is_the_same_and_signs_nothing():
    async def story(desk: Desk) -> None:
        await desk.register()
        first = await desk.one()
        count = len(logged(desk))
        again = await desk.one(mark=first["mark"])
        assert again["same"] and "chain" not in again and len(logged(desk)) == count
        await desk.register(groups=("other",))
        assert (await desk.one(mark=first["mark"]))["same"]
        await desk.register(dns=("digits.test",))
        assert not (await desk.one(mark=first["mark"]))["same"]

    run(story)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"form": "jwt", "audience": ""}, "audience"),
        ({"form": "jwt", "audience": "a" * 513}, "audience"),
        ({"form": "jwt", "audience": "ä"}, "audience"),
        ({"subject": BOB}, "not-yours"),
        ({"spki": b""}, "invalid-input"),
        ({"spki": b"\x30\x03abc"}, "invalid-input"),
        ({"spki": b"x" * 10_000}, "invalid-input"),
        ({"pid": 77}, "gone"),
        ({"pid": 20, "uid": 2000}, "not-registered"),
        ({"pid": 20}, "other-user"),
    ],
)
def test_refusals_are_typed_recorded_and_sign_nothing(changes, code):
    async def story(desk: Desk) -> None:
        await desk.register()
        answer = await desk.one(**changes)
        assert (answer["ok"], answer["code"]) == (False, code)
        await desk.world.settled()
        said = logged(desk)
        assert not [one for one in said if one["ok"]] and said[-1]["reason"].startswith(code)

    run(story)


def test_a_malformed_key_does_not_spoil_its_batch():
    async def story(desk: Desk) -> None:
        await desk.register()
        bad, good = await desk.workloads.issue([wanted("a", spki=b"nonsense"), wanted("b")])
        assert not bad["ok"] and good["ok"]
        assert len([one for one in logged(desk) if one["ok"]]) == 1

    run(story)


def test_a_token_that_the_signer_refuses_does_not_spoil_its_batch():
    async def story(desk: Desk) -> None:
        await desk.register()
        signs = desk.world.context.signer.methods["jwt_svid"]

        def refuse(**params: Any) -> Any:
            if params["audience"] == "bad":
                raise InvalidInput("no", remedy="r")
            return signs(**params)

        desk.world.context.signer.methods["jwt_svid"] = refuse
        made = await desk.workloads.issue(
            [wanted("a", form="jwt", audience="bad"), wanted("b", form="jwt", audience="good"), wanted("c"), wanted("d", form="who")]
        )
        assert [one["ok"] for one in made] == [False, True, True, True] and made[0]["code"] == "invalid-input"
        assert len([one for one in logged(desk) if one["ok"]]) == 2

    run(story)


def test_what_cannot_be_recorded_is_not_handed_out():
    async def story(desk: Desk) -> None:
        await desk.register()

        async def full(*_: Any) -> Any:
            raise Unavailable("the disk is full", remedy="free some space")

        desk.world.store.commit_async = full
        with pytest.raises(Unavailable):
            await desk.one()

    run(story)


def test_bounds_of_a_batch_and_of_what_is_remembered():
    async def story(desk: Desk) -> None:
        await desk.register()
        with pytest.raises(InvalidInput):
            await desk.workloads.issue([wanted(str(number)) for number in range(MAX_BATCH + 1)])
        await desk.workloads.issue([wanted("a", form="who"), wanted("b", form="who")], gone=["x"])
        assert list(desk.workloads.attached) == ["a", "b"]
        await desk.workloads.issue([wanted("c", form="who")], gone=["a"])
        assert list(desk.workloads.attached) == ["b", "c"]

    run(story)


def test_a_life_never_outlasts_its_registration():
    async def story(desk: Desk) -> None:
        await desk.register(expires_at=NOW + 30_000)
        assert (await desk.one())["lives_ms"] <= 30_000
        desk.world.clock.at += 25_000
        assert (await desk.one())["code"] == "ended"
        desk.world.clock.at += 25_000
        assert (await desk.one())["code"] == "not-registered"

    run(story)


def test_kinds_that_are_not_earned():
    async def story(desk: Desk) -> None:
        for kind in ("person", "system", "declared"):
            await desk.register(principal(TD, kind, "admin", "ann"))
        assert (await desk.one())["code"] == "not-registered"

    run(story)


def test_facts_of_which_one_is_malformed_establish_the_rest():
    made = selectors_of({**facts(5), "container": {"cgroups": "no list"}, "nothing-known": {}})
    assert not isinstance(made, Denied) and Selector(type="unix:uid", value="5") in made
    assert isinstance(selectors_of({"container": {"cgroups": []}}), Denied)
    assert isinstance(selectors_of(facts(5, real_uid=6)), Denied)


def test_a_binding_follows_evidence_and_never_comes_back_under_a_revoked_id():
    async def story(desk: Desk) -> None:
        world = desk.world
        await world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint()))
        now = world.clock.now()
        assert bound_of(world.facts, DIGITS, now) is None
        await world.put(*evidence_for())
        bound = bound_of(world.facts, DIGITS, now)
        assert bound is not None and bound.binding.model_digest.startswith("sha256:")
        assert bound.binding.lineage_root == lineage_root(world.facts, ())
        await desk.register(endpoint=DIGITS)
        answer = await desk.one()
        assert not fallen(world.facts, [DIGITS], now)
        serves = next(one.id for one in world.facts.lineage.vouches.values() if one.predicate_type == "serves")
        await world.put(revoked("vouch", serves, identity="v"))
        assert fallen(world.facts, [DIGITS], now) == [bound.id]
        await world.put(revoked("credential", bound.id, identity="b"))
        assert not fallen(world.facts, [DIGITS], now)
        assert world.facts.revocation_of("", answer["credential"]) is not None
        await world.put(revoked("vouch", serves, identity="v", withdrawn="w"))
        again = bound_of(world.facts, DIGITS, now)
        assert again is not None and again.binding == bound.binding and again.id != bound.id
        assert fallen(world.facts, [], now) == []

    run(story)


def test_tokens_are_validated_as_the_gateway_would():
    async def story(desk: Desk) -> None:
        await desk.register()
        said = await desk.one(form="jwt", audience="them")
        made = validate(desk.world.context, said["token"], "them")
        assert not isinstance(made, Denied) and made["spiffe_id"] == ALICE and made["claims"]["aud"] == "them"
        assert isinstance(validate(desk.world.context, said["token"], "others"), Denied)
        assert isinstance(validate(desk.world.context, said["token"][:-2], "them"), Denied)
        await desk.world.put(revoked("credential", said["credential"]))
        assert isinstance(validate(desk.world.context, said["token"], "them"), Denied)

    run(story)


def test_repeated_refusals_are_counted_and_kinds_are_bounded():
    now = [0.0]
    refusals = Refusals(lambda: now[0])

    def one(uid: int = 1, code: str = "c") -> Refusal:
        return Refusal(uid=uid, pid=1, code=code, reason="r")

    assert refusals.note(one())
    assert not refusals.note(one())
    assert [times for _, times in refusals.take()] == [2]
    for _ in range(5):
        assert not refusals.note(one())
    assert not refusals.overdue() and refusals.take() == []
    now[0] += AGAIN_SECONDS
    assert refusals.overdue()
    assert [times for _, times in refusals.take()] == [5]
    for uid in range(2 * MAX_KINDS):
        refusals.note(one(uid))
    assert len(refusals.take()) <= MAX_KINDS
