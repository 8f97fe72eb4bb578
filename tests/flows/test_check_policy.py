"""Checking and proving over the control plane: who may, what is in force, and names that are not there."""

from __future__ import annotations

import asyncio
import time

import pytest
from flows_world import DIGITS, World, caller, endpoint, make_world, registration, running, zone

from vouchgate.flows import check_policy, prove
from vouchgate.flows.changes import Change, EndpointPut, RegistrationPut, ZonePut
from vouchgate.policy.jobs import Checked, CheckJob, ProofJob, Proved, do
from vouchgate.vocabulary.answers_policy import CheckReport, CheckRequest, PolicyText, Proof, ProofRequest
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted

AUTHOR = ("role:policy-author",)
ANN = caller("ann")
NEVER = 'permit (principal, action == Action::"administer:author-policy", resource) unless { principal in Group::"role:policy-author" };'


class Here:
    """The prover, in this process; `jobs` is what it was asked."""

    def __init__(self) -> None:
        self.jobs: list[CheckJob | ProofJob] = []

    def prove(self, job: ProofJob) -> Proof:
        self.jobs.append(job)
        done = do(job, time.monotonic)
        assert isinstance(done, Proved)
        return done.proof

    def check(self, job: CheckJob) -> Checked:
        self.jobs.append(job)
        return Checked()


async def begin(world: World, groups: tuple[str, ...], *changes: Change) -> None:
    ann = registration(ANN.principal.principal.id, groups)
    await world.put(ZonePut(zone=zone()), EndpointPut(endpoint=endpoint()), *changes)
    await world.put(RegistrationPut(registration=registration()), RegistrationPut(registration=ann))


def run_check(request: CheckRequest, *, groups: tuple[str, ...] = AUTHOR, changes: tuple[Change, ...] = ()) -> tuple[CheckReport, Here]:
    async def main() -> tuple[CheckReport, Here]:
        here = Here()
        async with running(make_world(), publishing=False) as world:
            await begin(world, groups, *changes)
            return await check_policy.check_here(world.context, ANN, request, here), here

    return asyncio.run(main())


def files(text: str) -> tuple[PolicyText, ...]:
    return (PolicyText(name="mine.cedar", text=text),)


def test_what_is_in_force_is_checked_with_its_cells() -> None:
    answer, here = run_check(CheckRequest(seconds=5))
    assert answer.ok
    assert {(one.endpoint, one.action) for one in answer.cells} >= {(DIGITS, "infer")}
    assert sum(one.allowed + one.residual + one.denied for one in answer.cells if one.action == "infer") == 2
    assert isinstance(here.jobs[0], CheckJob) and here.jobs[0].seconds == 5


def test_names_that_are_not_there() -> None:
    text = """@id("a") permit (principal in Group::"caller", action == Action::"infer", resource is Endpoint in Zone::"moon") when { context.risk < 9 };
@id("b") forbid (principal, action == Action::"infer", resource == Endpoint::"vg://test.local/endpoint/digit");"""
    answer, _ = run_check(CheckRequest(policies=files(text), seconds=1))
    told = {(one.policy, one.text, one.remedy) for one in answer.findings if one.kind == "stale-name"}
    assert ("a", "there is no group `caller`", "did you mean `callers`?") in told
    assert any("there is no zone `moon`" in text for _, text, _ in told)
    assert ("b", "there is no endpoint `vg://test.local/endpoint/digit`", f"did you mean `{DIGITS}`?") in told


def test_zones_without_crossings_are_told() -> None:
    answer, _ = run_check(CheckRequest(seconds=1), changes=(ZonePut(zone=zone("train")),))
    assert [one.kind for one in answer.findings if one.kind == "no-crossings"] == ["no-crossings"]


def test_another_text_is_compared_with_what_is_in_force() -> None:
    answer, here = run_check(
        CheckRequest(policies=files('@id("mine") forbid (principal, action == Action::"infer", resource);'), seconds=5)
    )
    assert "adds `mine`" in answer.changes and "removes `risk-ceiling`" in answer.changes
    job = here.jobs[0]
    assert isinstance(job, CheckJob) and job.against == "the policy in force" and any("risk-ceiling" in one.text for one in job.in_force)


def test_what_cannot_be_put_in_force_is_an_error_with_its_line() -> None:
    answer, here = run_check(CheckRequest(policies=files("// x\npermit (principal, action, nobody);"), seconds=5))
    assert not answer.ok and here.jobs == []
    assert "line 2" in answer.findings[0].text


@pytest.mark.parametrize("seconds", [-1.0, 1e9, float("inf")])
def test_time_is_bounded(seconds: float) -> None:
    with pytest.raises(InvalidInput):
        run_check(CheckRequest(seconds=seconds))


def test_who_may_not_check_is_refused() -> None:
    with pytest.raises(NotPermitted):
        run_check(CheckRequest(), groups=())


def ask(request: ProofRequest, *, groups: tuple[str, ...] = AUTHOR) -> Proof:
    async def main() -> Proof:
        async with running(make_world(), publishing=False) as world:
            await begin(world, groups)
            return await prove.ask(world.context, ANN, request, Here())

    return asyncio.run(main())


def test_what_is_in_force_is_proved_about() -> None:
    assert ask(ProofRequest(question="never", never=NEVER)).verdict == "proved"


def test_a_text_is_compared_with_what_is_in_force() -> None:
    one = '@id("a") permit (principal in Group::"a", action == Action::"export", resource is Dataset);'
    less = '@id("b") forbid (principal, action == Action::"export", resource is Dataset) when { context.delegated };'
    assert ask(ProofRequest(question="nothing-new", policies=files(one))).verdict == "refuted"
    assert ask(ProofRequest(question="nothing-new", policies=files(one + less), old=files(one))).verdict == "proved"


@pytest.mark.parametrize(
    "request_",
    [
        ProofRequest(question="never", never=""),
        ProofRequest(question="never", never="permit (principal"),
        ProofRequest(question="never", never=NEVER, seconds=0),
        ProofRequest(question="never", never=NEVER, seconds=1e6),
        ProofRequest(question="never", never=NEVER, seconds=float("nan")),
        ProofRequest(question="equivalent", policies=files("permit everything;")),
    ],
)
def test_a_question_that_is_none(request_: ProofRequest) -> None:
    with pytest.raises(InvalidInput):
        ask(request_)


def test_who_may_not_analyse_is_refused() -> None:
    with pytest.raises(NotPermitted):
        ask(ProofRequest(question="never", never=NEVER), groups=("role:registrar",))
