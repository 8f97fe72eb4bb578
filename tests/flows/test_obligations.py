"""What an allow owes, settled before a request passes: budgets, fresh credentials, and people who agree to exactly one request."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from typing import Any

import msgspec
import pytest
from flows_world import (
    ALICE,
    BOB,
    DAY,
    DIGITS,
    HOUR,
    NOW,
    SPINE,
    World,
    caller,
    endpoint,
    evidence_for,
    lasting,
    make_world,
    registration,
    revoked,
    running,
    zone,
)  # fmt: skip
from test_admit_request import request

from vouchgate.flows import approvals, start
from vouchgate.flows.admit_request import Admission, admit, settled
from vouchgate.flows.changes import ApprovalPut, EndpointPut, RegistrationPut, RegistrationRemoved, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_approvals import MAX_OPEN, MAX_OPEN_OF_ONE, Approvals, ended, share
from vouchgate.flows.obligations import readable
from vouchgate.flows.settle import Settling
from vouchgate.vocabulary.approvals import Agreement, Approval, Parameters
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import Conflict, LimitExceeded, NotFound, NotPermitted, StoreDamaged
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.vouches import UnixMillis

ANN, BEA, CAT = (principal("test.local", "person", "admin", name) for name in ("ann", "bea", "cat"))
BUDGET = '@id("slow") @oblige("budget=3/minute; budget=5/hour") forbid (principal, action == Action::"infer", resource);'
STEP_UP = '@id("fresh") @oblige("step-up=300") forbid (principal, action == Action::"infer", resource);'
BOARD = '@id("board") @oblige("approval=safety-board") forbid (principal, action == Action::"infer", resource);'
TWO = '@id("two") @oblige("approval=safety-board; approval=owners") forbid (principal, action == Action::"infer", resource);'
BOTH = '@id("both") @oblige("approval=safety-board; budget=1/day; rounded-answer=2; redaction=usage") forbid (principal, action == Action::"infer", resource);'
FIELDS: dict[str, Any] = {"san": ALICE, "serial": "0c0ffee0", "fingerprint": "ab" * 32, "content_type": "application/json"}


def sources(*texts: str) -> tuple[tuple[str, str], ...]:
    return (*SPINE, ("own.cedar", "\n".join(texts)))


class Place:
    """A control plane in memory, and the PDP's side of a request beside it."""

    def __init__(self, world: World) -> None:
        self.world, self.settling = world, Settling(world.context)

    async def ask(self, body: bytes = b'{"x": 1}', **changes: Any) -> Admission:
        """As edges/processes/pdp.py does."""
        asked = request(**(FIELDS | {"body": body} | changes))
        made = admit(asked, self.world.facts, self.world.clock.now(), lease_until=UnixMillis(NOW + 100 * DAY))
        if made.owed is None:
            return made
        said, _ = await self.settling.settle(made.decision, made.owed)
        return settled(made, said, asked)

    def open(self) -> list[Approval]:
        return [one for one in self.world.facts.approvals.all.values() if one.stage in ("pending", "approved")]

    async def approved(self, **changes: Any) -> Approval:
        made = await self.ask(**changes)
        assert code(made) == "approval-needed"
        await approvals.give(self.world.context, caller("ann"), made.problem.approval)
        return self.world.facts.approvals.all[made.problem.approval]

    def denied(self) -> list[Decision]:
        return [one for one in self.decisions() if one.effect == "deny"]

    def decisions(self) -> list[Decision]:
        found = []
        for entry in self.world.entries():
            if entry == b"e":
                continue
            kept = json.loads(entry).get("unmapped", {}).get("vouchgate", {})
            if kept.get("kind") == "decision":
                found.append(msgspec.convert(kept["detail"], Decision))
        return found


def code(made: Admission) -> str:
    assert not made.allowed
    assert made.problem is not None
    assert made.decision.effect == made.decision.would_be == "deny"
    assert made.problem.remedy
    return made.problem.type.rpartition("/")[2]


async def people(world: World) -> None:
    await world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint(approvals=True)), *evidence_for())
    await world.put(*(RegistrationPut(registration=one) for one in (registration(), registration(BOB))))
    for name, groups in ((ANN, ("safety-board",)), (BEA, ("safety-board", "owners")), (CAT, ("owners",))):
        await world.put(RegistrationPut(registration=registration(name, (*groups, "role:approver"))))


def told(*policies: str) -> Any:
    """Run a story in a fresh place of its own with these policies; its first argument is the place."""

    def wrap(story: Any) -> Any:
        async def run(**params: Any) -> None:
            world = make_world()
            async with running(world, publishing=False, policies=sources(*policies)):
                await people(world)
                await story(Place(world), **params)

        @functools.wraps(story)
        def test(**params: Any) -> None:
            asyncio.run(run(**params))

        signature = inspect.signature(story)
        test.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
        return test

    return wrap


# -- budgets


@told(BUDGET)
async def test_a_budget_is_counted_in_each_window_and_told_with_when_to_come_back(here):
    here.world.clock.at = (NOW // HOUR) * HOUR + 5_000
    assert [(await here.ask()).allowed for _ in range(3)] == [True] * 3
    over = await here.ask()
    assert (code(over), over.problem.status, over.retry_after) == ("budget-spent", 429, 55)
    here.world.clock.at += 55_000
    assert [(await here.ask()).allowed for _ in range(3)] == [True, True, False]
    hourly = await here.ask()
    assert (code(hourly), hourly.retry_after) == ("budget-spent", 3_540)
    here.world.clock.at += HOUR
    assert (await here.ask()).allowed
    assert (await here.ask(san=BOB)).allowed


@told(BUDGET)
async def test_a_restart_forgets_no_count(here):
    for _ in range(3):
        assert (await here.ask()).allowed
    again = Place(here.world)
    again.settling.start(here.world.store)
    assert code(await again.ask()) == "budget-spent"
    here.world.clock.at += 2 * HOUR
    later = Place(here.world)
    later.settling.start(here.world.store)
    assert (await later.ask()).allowed


@told(BUDGET)
async def test_many_at_once_never_pass_beyond_the_budget(here):
    made = await asyncio.gather(*(here.ask() for _ in range(50)))
    assert sum(one.allowed for one in made) == 3
    stored = Place(here.world)
    stored.settling.start(here.world.store)
    assert code(await stored.ask()) == "budget-spent"


@told(BUDGET)
async def test_a_clock_that_is_set_back_counts_on(here):
    for _ in range(3):
        assert (await here.ask()).allowed
    here.world.clock.at -= 120_000
    assert code(await here.ask()) == "budget-spent"


@told(BUDGET)
async def test_what_could_not_be_recorded_is_not_counted_and_does_not_pass(here, monkeypatch):
    commit = here.world.store.commit_async

    async def broken(steps):
        raise StoreDamaged("no space", remedy="make some")

    monkeypatch.setattr(here.world.store, "commit_async", broken)
    for _ in range(4):
        with pytest.raises(StoreDamaged):
            await here.ask()
    monkeypatch.setattr(here.world.store, "commit_async", commit)
    assert [(await here.ask()).allowed for _ in range(4)] == [True, True, True, False]


@told(BUDGET)
async def test_everybody_in_the_chain_is_counted(here):
    made = admit(request(**FIELDS), here.world.facts, NOW, lease_until=UnixMillis(NOW + DAY))
    for principal_name in (ALICE, ALICE, ALICE):
        chained = msgspec.structs.replace(made.decision, principal=BOB, actors=(principal_name,))
        said, _ = await here.settling.settle(chained, made.owed)
        assert not said.code
    assert code(await here.ask()) == "budget-spent"


# -- step-up


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"certificate_since": NOW - 300_000}, True),
        ({"certificate_since": NOW - 300_001}, False),
        ({"certificate_since": 0}, False),
        ({"certificate_since": NOW, "subject": ALICE, "token_id": "j", "audience": DIGITS, "token_since": NOW}, True),
        ({"certificate_since": NOW, "subject": ALICE, "token_id": "j", "audience": DIGITS, "token_since": NOW - HOUR}, False),
        ({"certificate_since": NOW - HOUR, "subject": ALICE, "token_id": "j", "audience": DIGITS, "token_since": NOW}, False),
        ({"certificate_since": NOW, "subject": ALICE, "token_id": "j", "audience": DIGITS}, False),
    ],
)
@told(STEP_UP)
async def test_only_credentials_that_are_young_enough_pass(here, changes, passes):
    made = await here.ask(**changes)
    assert made.allowed == passes
    if not passes:
        assert (code(made), made.problem.status) == ("step-up", 401)
        assert made.challenge.startswith('Bearer error="insufficient_user_authentication"')
        assert made.challenge.endswith('max_age="300"')


# -- approvals


@told(BOARD)
async def test_one_approval_lets_exactly_one_request_pass(board):
    waits = await board.ask()
    assert (code(waits), waits.problem.status) == ("approval-needed", 403)
    assert f"vouchgate approve give {waits.problem.approval}" in waits.problem.remedy
    assert waits.problem.approval_until == NOW + 15 * 60_000
    assert (await board.ask()).problem.approval == waits.problem.approval
    assert board.world.facts.approvals.waiting(NOW) == 1
    given = await approvals.give(board.world.context, caller("ann"), waits.problem.approval)
    assert (given.state, given.approvers) == ("approved", (f"{ANN} (safety-board)",))
    passed = await board.ask()
    assert passed.allowed
    again = await board.ask()
    assert code(again) == "approval-needed"
    assert again.problem.approval != waits.problem.approval
    used = board.world.facts.approvals.all[waits.problem.approval]
    assert (used.stage, used.ended_by) == ("used", passed.decision.id)


@told(BOARD)
async def test_the_gateway_is_told_that_people_agreed_to_what_they_could_read(board):
    await board.approved()
    assert (await board.ask()).answer == "agreed=parameters"


@told(BOARD)
async def test_of_many_at_once_exactly_one_passes(board):
    await board.approved()
    made = await asyncio.gather(*(board.ask() for _ in range(40)))
    assert sum(one.allowed for one in made) == 1
    assert {code(one) for one in made if not one.allowed} == {"approval-needed"}
    assert len(board.open()) <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b'{"x": 2}'}, {"body": b'{"x": 1} '}, {"body": b""}, {"path": "/predict?x=1"}, {"content_type": "text/plain"},
        {"method": "PUT"}, {"san": BOB},
    ],
)  # fmt: skip
@told(BOARD)
async def test_another_request_does_not_pass_by_it(board, changes):
    one = await board.approved()
    other = await board.ask(**changes)
    assert code(other) == "approval-needed"
    assert other.problem.approval != one.id
    assert (await board.ask()).allowed


@pytest.mark.parametrize(
    "changes",
    [
        {"content_encoding": "gzip"}, {"body": b"\xff\xfe"}, {"body": b"x" * 16_385},
        {"tool": "t", "body": b'{"id": 1, "id": 2}'}, {"tool": "t", "body": b"[]"}, {"tool": "t", "body": b"{"},
    ],
)  # fmt: skip
@told(BOARD)
async def test_what_nobody_can_read_is_not_put_before_anybody(board, changes):
    if "tool" in changes:
        tools = {"tools": {"t": "vg://test.local/tool/digits.t"}}
        await board.world.put(EndpointPut(endpoint=endpoint(approvals=True, mcp=True, **tools)))
        from vouchgate.flows.obligations import parameters_of
        from vouchgate.vocabulary.outcomes import Denied

        made = parameters_of(request(**(FIELDS | changes)), board.world.facts.endpoints[DIGITS])
        assert isinstance(made, Denied)
        assert made.code == "approval-unreadable"
        return
    assert code(await board.ask(**changes)) == "approval-unreadable"
    assert not board.open()


@told(BOARD)
async def test_an_endpoint_that_passes_on_no_bodies_cannot_ask_people(board):
    await board.world.put(EndpointPut(endpoint=endpoint()))
    assert code(await board.ask()) == "approval-unavailable"


def test_a_tool_call_is_the_same_when_it_is_sent_again():
    from vouchgate.flows.obligations import parameters_of

    def digest(**message: Any) -> str:
        body = json.dumps({"jsonrpc": "2.0", "method": "tools/call"} | message).encode()
        return parameters_of(request(tool="pay", body=body), endpoint(approvals=True)).digest

    call = {"name": "pay", "arguments": {"to": "bob", "amount": 5}}
    first = digest(id=1, params=call)
    assert digest(id="again", params={"arguments": {"amount": 5, "to": "bob"}, "name": "pay"}) == first
    assert digest(id=2, params=call | {"_meta": {"progressToken": 7}}) == first
    assert digest(id=2, params=call | {"_meta": {"other": 7}}) != first
    assert digest(id=1, params=call | {"arguments": {"to": "bob", "amount": 50}}) != first
    assert digest(id=1, params=call | {"arguments": {"to": "bob", "amount": "5"}}) != first
    assert digest(id=1, params=call | {"arguments": {"to": "bob", "amount": 5, "id": 1}}) != first


@pytest.mark.parametrize("who", ["cat", "dan"])
@told(BOARD)
async def test_only_the_group_agrees(board, who):
    made = await board.ask()
    await board.world.put(RegistrationPut(registration=registration(principal("test.local", "person", "admin", "dan"), ("safety-board",))))
    with pytest.raises(NotPermitted):
        await approvals.give(board.world.context, caller(who), made.problem.approval)
    assert code(await board.ask()) == "approval-needed"
    entry = json.loads(board.world.entries()[-2])
    assert "denied" in json.dumps(entry)


@told(BOARD)
async def test_nobody_agrees_to_what_is_asked_in_their_own_name(board):
    await board.world.put(RegistrationPut(registration=registration(ANN, ("safety-board", "role:approver", "callers"))))
    made = await board.ask(san=ANN)
    with pytest.raises(NotPermitted, match="own name"):
        await approvals.give(board.world.context, caller("ann"), made.problem.approval)
    acting = msgspec.structs.replace(board.world.facts.approvals.all[made.problem.approval], id="n", principal=ALICE, actors=(ANN,))
    await board.world.put(ApprovalPut(approval=acting))
    with pytest.raises(NotPermitted, match="own name"):
        await approvals.give(board.world.context, caller("ann"), "n")
    assert (await approvals.give(board.world.context, caller("bea"), "n")).state == "approved"


@told(BOARD)
async def test_no_workload_agrees_however_it_is_grouped(board):
    made = await board.ask()
    robot = registration(principal("test.local", "agent", "serve", "robot"), ("safety-board", "role:approver"))
    await board.world.put(RegistrationPut(registration=robot))
    machine = caller("ann")
    who = msgspec.structs.replace(machine.principal, principal=msgspec.structs.replace(machine.principal.principal, id=robot.principal))
    with pytest.raises(NotPermitted, match="is no person"):
        await approvals.give(board.world.context, msgspec.structs.replace(machine, principal=who), made.problem.approval)


@told(TWO)
async def test_two_groups_need_two_people(here):
    made = await here.ask()
    context, id = here.world.context, made.problem.approval
    assert (await approvals.give(context, caller("bea"), id)).state == "pending"
    with pytest.raises(NotPermitted, match="a person of its own"):
        await approvals.give(context, caller("bea"), id)
    assert code(await here.ask()) == "approval-needed"
    with pytest.raises(NotPermitted):
        await approvals.give(context, caller("ann"), id) if here.world.facts.approvals.all[id].given[0].group == "safety-board" else (
            await approvals.give(context, caller("cat"), id)
        )
    other = "cat" if here.world.facts.approvals.all[id].given[0].group == "safety-board" else "ann"
    assert (await approvals.give(context, caller(other), id)).state == "approved"
    assert (await here.ask()).allowed


@told(BOARD)
async def test_time_denies(board):
    one = await board.approved()
    board.world.clock.at = one.expires_at
    assert code(await board.ask()) == "approval-needed"
    with pytest.raises(Conflict, match="expired"):
        await approvals.give(board.world.context, lasting("bea"), one.id)
    listed = {state.id: state.state for state in await approvals.listed(board.world.context, lasting("ann"))}
    assert listed[one.id] == "expired"


@told(BOARD)
async def test_a_refusal_ends_it_before_and_after_somebody_agreed(board):
    first = (await board.ask()).problem.approval
    await approvals.refuse(board.world.context, caller("ann"), first, "no")
    with pytest.raises(Conflict):
        await approvals.give(board.world.context, caller("bea"), first)
    second = await board.approved()
    await approvals.refuse(board.world.context, caller("bea"), second.id, "no")
    again = await board.ask()
    assert code(again) == "approval-needed"
    assert again.problem.approval not in (first, second.id)
    with pytest.raises(NotPermitted):
        await approvals.refuse(board.world.context, caller("cat"), again.problem.approval, "no")


FALLS = {
    "revoked": lambda: revoked("principal", ANN),
    "credential revoked": lambda: revoked("credential", "uid:1000"),
    "left the group": lambda: RegistrationPut(registration=registration(ANN, ("role:approver",))),
    "lost the role": lambda: RegistrationPut(registration=registration(ANN, ("safety-board",))),
    "gone": lambda: RegistrationRemoved(principal=ANN),
}


@pytest.mark.parametrize("why", FALLS)
@told(BOARD)
async def test_with_the_approver_falls_the_approval(board, why):
    one = await board.approved()
    await board.world.put(FALLS[why]())
    made = await board.ask()
    assert code(made) == "approval-needed"
    assert "fell" in made.problem.detail
    assert board.world.facts.approvals.all[one.id].stage == "refused"
    fresh = await board.ask()
    assert fresh.problem.approval != one.id
    other = caller("bea", how="cookie")
    await approvals.give(board.world.context, other, fresh.problem.approval)
    assert (await board.ask()).allowed


@told(BOARD)
async def test_a_policy_that_forbids_by_now_beats_an_approval(board):
    await board.approved()
    banned = '@id("banned") forbid (principal, action == Action::"infer", resource);'
    await start.activate(board.world.context, sources(BOARD, banned), author="a", approver="b")
    assert code(await board.ask()) == "denied"


@told(BOARD)
async def test_a_decision_on_an_older_policy_is_not_settled(board):
    await board.approved()
    asked = request(**(FIELDS | {"body": b'{"x": 1}'}))
    made = admit(asked, board.world.facts, NOW, lease_until=UnixMillis(NOW + DAY))
    await start.activate(board.world.context, sources(BOARD, "// another"), author="a", approver="b")
    said, recorded = await board.settling.settle(made.decision, made.owed)
    assert (said.code, recorded.effect) == ("policy-changed", "deny")


@told(BOARD)
async def test_a_requester_who_was_revoked_meanwhile_passes_by_nothing(board):
    await board.approved()
    asked = request(**(FIELDS | {"body": b'{"x": 1}'}))
    made = admit(asked, board.world.facts, NOW, lease_until=UnixMillis(NOW + DAY))
    await board.world.put(revoked("principal", ALICE))
    said, _ = await board.settling.settle(made.decision, made.owed)
    assert said.code == "revoked"


@told(BOARD)
async def test_what_is_used_up_is_used_up_after_a_restart_too(board):
    one = await board.approved()
    assert (await board.ask()).allowed
    other = await board.approved(body=b'{"x": 2}')
    fresh = Facts("test.local", board.world.context.facts._fingerprint)
    start.replay(board.world.store, fresh, NOW)
    assert {name: found.stage for name, found in fresh.approvals.all.items()} == {one.id: "used", other.id: "approved"}
    with pytest.raises(Conflict, match="used already"):
        fresh.check(ApprovalPut(approval=ended(one, "used", "d", UnixMillis(NOW))))
    fresh.check(ApprovalPut(approval=ended(other, "used", "d", UnixMillis(NOW))))


@told(BOTH)
async def test_all_that_is_owed_is_met_or_nothing_passes(here):
    one = await here.approved()
    passed = await here.ask()
    assert (passed.allowed, passed.answer) == (True, "rounded-answer=2; redaction=usage; agreed=parameters")
    assert here.world.facts.approvals.all[one.id].stage == "used"
    assert code(await here.ask()) == "budget-spent"
    assert not here.open()


@told(BOTH)
async def test_in_observe_it_is_recorded_and_passes(here):
    await here.world.put(ZonePut(zone=zone(mode="observe", observe_until=UnixMillis(NOW + DAY))))
    made = await here.ask()
    assert (made.allowed, made.owed, made.answer) == (True, None, "")
    assert len(made.decision.obligations) == 4


@told(BOARD)
async def test_parameters_are_for_who_may_approve(board):
    await board.ask(body='{"to": "\u202e\u200b", "é": 1}\n'.encode())
    await board.world.put(RegistrationPut(registration=registration(CAT, ("role:auditor",))))
    shown = (await approvals.listed(board.world.context, caller("ann")))[0]
    assert (shown.body, shown.mine, shown.shown) == ('{"to": "\\u202e\\u200b", "é": 1}\\u000a', True, True)
    hidden = (await approvals.listed(board.world.context, caller("cat")))[0]
    assert (hidden.body, hidden.path, hidden.mine, hidden.shown) == ("", "", False, False)
    with pytest.raises(NotPermitted):
        await approvals.listed(board.world.context, caller("nobody"))
    with pytest.raises(NotFound):
        await approvals.give(board.world.context, caller("ann"), "none")


@told(BOARD)
async def test_one_requester_cannot_fill_the_desk(board):
    made = [await board.ask(body=str(number).encode()) for number in range(MAX_OPEN_OF_ONE + 5)]
    assert [code(one) for one in made].count("approvals-full") == 5
    assert made[-1].problem.status == 429
    assert code(await board.ask(san=BOB)) == "approval-needed"


def pending(number: int, who: str, **changes: Any) -> Approval:
    values: dict[str, Any] = {
        "id": f"a{number}", "principal": who, "action": "infer", "resource": DIGITS, "endpoint": DIGITS, "groups": ("g",), "reason": "",
        "parameters": Parameters(digest=str(number), method="POST", path="/"), "asked_at": NOW, "expires_at": NOW + HOUR, "decision_id": "d",
    }  # fmt: skip
    return Approval(**(values | changes))


def test_the_fuller_the_desk_the_fewer_for_each():
    desk, number = Approvals(), 0
    taken: dict[str, int] = {}
    for who in range(2_000):
        for _ in range(MAX_OPEN_OF_ONE + 1):
            one = pending(number, f"spiffe://test.local/job/train/j{who}")
            number += 1
            try:
                desk.check(one, NOW)
            except LimitExceeded:
                break
            desk.put(one, NOW)
            taken[one.principal] = taken.get(one.principal, 0) + 1
    assert sum(taken.values()) == MAX_OPEN
    assert max(taken.values()) == MAX_OPEN_OF_ONE
    assert len(taken) > 50
    assert share(1) == 1
    later = UnixMillis(NOW + 3 * HOUR)
    desk.check(pending(number, ALICE, expires_at=later + HOUR), later)
    assert not desk._open
    assert not +desk._held


def said(*people: tuple[str, str]) -> tuple[Agreement, ...]:
    return tuple(Agreement(group=group, approver=who, credential_id="c", at=NOW) for group, who in people)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "used"},
        {"stage": "approved"},
        {"stage": "approved", "given": said(("g", ALICE))},
        {"stage": "approved", "given": said(("h", BOB))},
        {"stage": "approved", "given": said(("g", BOB), ("g", ANN))},
        {"given": said(("g", BOB), ("g2", BOB))},
        {"principal": BOB},
        {"resource": "vg://test.local/endpoint/other"},
        {"parameters": Parameters(digest="other", method="POST", path="/")},
        {"groups": ("g", "h")},
        {"expires_at": NOW + DAY},
        {"stage": "approved", "given": said(("g", "x")), "actors": ("x",)},
    ],
)
def test_no_way_but_the_listed_ones(changes):
    desk = Approvals()
    desk.put(pending(1, ALICE), NOW)
    with pytest.raises(Conflict):
        desk.check(pending(1, ALICE, **changes), NOW)


@pytest.mark.parametrize("stage", ["pending", "approved", "used", "refused"])
@pytest.mark.parametrize("done", ["used", "refused"])
def test_what_ended_goes_nowhere(done, stage):
    desk = Approvals()
    desk.put(pending(1, ALICE), NOW)
    desk.put(pending(1, ALICE, stage=done, given=said(("g", BOB))), NOW)
    with pytest.raises(Conflict):
        desk.check(pending(1, ALICE, stage=stage, given=said(("g", BOB))), NOW)


@told(BOARD)
async def test_records_of_what_ended_long_ago_go(board):
    one = await board.approved()
    assert await approvals.forget(board.world.context) == 0
    board.world.clock.at = one.expires_at + HOUR
    assert await approvals.forget(board.world.context) == 1
    assert not board.world.facts.approvals.all
    assert not board.world.store.scan("approval", after="", limit=10)


def test_what_a_reader_would_not_see_is_written_out():
    assert readable("a\u202eb\u0000\u2028ü\ue000") == "a\\u202eb\\u0000\\u2028ü\\ue000"
    for hidden in "\u00a0\u00ad\u034f\u115f\u1160\u17b4\u180b\u2003\u200b\u2800\u3000\u3164\ufe0f\uffa0\U000e0100\U000e0041":
        assert readable(f"1{hidden}0") == f"1\\u{ord(hidden):04x}0"
    assert readable("zu viel, ünïcode, 模型 e\u0301") == "zu viel, ünïcode, 模型 e\u0301"


def test_what_one_of_the_chain_owes_all_owe():
    from vouchgate.flows.delegation import joined
    from vouchgate.identity.verify import registered
    from vouchgate.vocabulary.decisions import Obligation

    def made(who: str, *owed: tuple[Any, str], **changes: Any) -> Decision:
        values: dict[str, Any] = {
            "id": "d", "trust_domain": "test.local", "effect": "allow", "would_be": "allow", "principal": who, "action": "infer",
            "resource": DIGITS, "policy_digest": "", "policy_version": 1, "evidence_epoch": 1, "not_after": NOW, "evaluated_at": NOW,
            "obligations": tuple(Obligation(kind=kind, value=value) for kind, value in owed),
        }  # fmt: skip
        return Decision(**(values | changes))

    subject = registered(registration(), UnixMillis(NOW))
    first = made(ALICE, ("budget", "5/minute"), ("rounded-answer", "3"), ("approval", "a"))
    actor = made(BOB, ("budget", "9/minute"), ("budget", "9/day"), ("rounded-answer", "1"), ("step-up", "60"), mode="observe")
    both = joined([first, actor], subject)
    assert [f"{one.kind}={one.value}" for one in both.obligations] == [
        "budget=5/minute", "budget=9/day", "rounded-answer=1", "step-up=60", "approval=a",
    ]  # fmt: skip
    assert both.mode == "enforce"
    refused = joined([first, made(BOB, effect="deny", would_be="deny")], subject)
    assert (refused.effect, refused.obligations) == ("deny", ())
