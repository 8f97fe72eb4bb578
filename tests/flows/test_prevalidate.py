"""Policies that are validated beside the loop: what a verdict is worth, and what is done without one."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from vouchgate.flows import prevalidate as module
from vouchgate.flows.changes import CrossingsPut, PolicyActivated, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_zones import _compiled, compile_in_force, sources_in_force
from vouchgate.flows.prevalidate import beside, prepare, prevalidate
from vouchgate.flows.sequence import Sequenced
from vouchgate.policy import catalog
from vouchgate.policy import load as loading
from vouchgate.policy.jobs import Validated, ValidateJob, do
from vouchgate.policy.load import InvalidPolicy, Source
from vouchgate.ports import prover
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.places import Crossing, Zone

GOOD = '@id("mine") permit (principal in Group::"a", action == Action::"infer", resource is Endpoint);'
BAD = GOOD.replace("resource is Endpoint", "resource is Nothing")


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    catalog._accepted.clear()
    catalog._loaded.cache_clear()
    _compiled.cache_clear()
    yield
    catalog._accepted.clear()


@pytest.fixture
def validated_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which Cedar's validator was asked in this process."""
    asked: list[int] = []
    validator = loading.problems

    def counting(policies: Any) -> Any:
        asked.append(threading.get_ident())
        return validator(policies)

    monkeypatch.setattr(loading, "problems", counting)
    return asked


class Child:
    """A validator that says what it is told to say; without, the truth."""

    def __init__(self, key: str | None = None) -> None:
        self.key, self.jobs = key, list[ValidateJob]()

    def validate(self, job: ValidateJob) -> str:
        self.jobs.append(job)
        if self.key is not None:
            return self.key
        return catalog.verdict_key([Source(one.name, one.text) for one in job.policies], job.schema)


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_what_the_child_accepts_is_not_validated_here_again(validated_here: list[int]) -> None:
    run(prevalidate([("p", GOOD)], prover))
    compiled = compile_in_force([("p", GOOD)], version=3)
    assert validated_here == []
    assert compiled.version == 3 and compiled.source.policy("mine") is not None


def test_what_the_child_refuses_is_refused_and_never_accepted(validated_here: list[int]) -> None:
    with pytest.raises(InvalidPolicy, match="Nothing"):
        run(prevalidate([("p", BAD)], prover))
    assert catalog._accepted == {} and validated_here == []
    with pytest.raises(InvalidPolicy, match="Nothing"):
        compile_in_force([("p", BAD)], version=1)
    assert len(validated_here) == 1


@pytest.mark.parametrize("key", ["", "0" * 64, catalog.verdict_key([Source("p", GOOD)], catalog.schema_text())])
def test_without_a_verdict_for_exactly_this_set_it_is_validated_here(validated_here: list[int], key: str) -> None:
    run(prevalidate([("p", GOOD)], Child(key)))
    assert validated_here == []
    compile_in_force([("p", GOOD)], version=1)
    assert len(validated_here) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "import os; os.kill(os.getpid(), 9)",
        "raise SystemExit(3)",
        "print('{}')",
        "print('x' * 20_000_000)",
        "import sys; sys.stdin.close(); print('[]')",
        'print(\'{"type":"validated"}\')',
    ],
)
def test_a_child_that_fails_gives_no_verdict(code: str) -> None:
    job = ValidateJob(schema=catalog.schema_text(), policies=(), seconds=0.5)
    assert prover.validate(job, command=python(code)) == ""


def test_a_child_that_cannot_be_had_gives_no_verdict() -> None:
    assert prover.validate(ValidateJob(schema="", policies=()), command=("/nonexistent/python",)) == ""


def test_a_verdict_is_bound_to_schema_names_and_texts_in_their_order() -> None:
    one, other = Source("p", GOOD), Source("q", GOOD.replace("mine", "yours"))
    keys = {
        catalog.verdict_key(sources, schema)
        for sources, schema in (
            ((one,), "s"), ((one,), "t"), ((Source("q", GOOD),), "s"), ((one, other), "s"), ((other, one), "s"), ((), "s"),
            ((Source("p", GOOD + "\n"),), "s"), ((Source("p", ""), Source(GOOD, "")), "s"),
        )
    }  # fmt: skip
    assert len(keys) == 8


def test_the_child_says_what_it_read() -> None:
    sources = sources_in_force([("p", GOOD)], crossings=(), zones=())
    job = ValidateJob(schema=catalog.schema_text(), policies=tuple(module.PolicyText(name=one.name, text=one.text) for one in sources))
    assert do(job, lambda: 0.0) == Validated(key=catalog.verdict_key(sources, catalog.schema_text()))
    assert prover.validate(job) == catalog.verdict_key(sources, catalog.schema_text())


def test_an_accepted_text_in_another_set_is_validated(validated_here: list[int]) -> None:
    run(prevalidate([("p", GOOD)], Child()))
    compile_in_force([("p", GOOD), ("q", GOOD.replace("mine", "yours"))], version=1)
    assert len(validated_here) == 1


def test_verdicts_are_bounded_and_the_newest_are_kept() -> None:
    for number in range(3 * catalog.MAX_ACCEPTED):
        catalog.accept(str(number))
    assert len(catalog._accepted) == catalog.MAX_ACCEPTED and str(3 * catalog.MAX_ACCEPTED - 1) in catalog._accepted


def test_the_answers_of_two_versions_of_one_text_are_kept_apart() -> None:
    one, two = compile_in_force([("p", GOOD)], version=1), compile_in_force([("p", GOOD)], version=2)
    assert one.answers is not two.answers and one.memo is not two.memo and (one.version, two.version) == (1, 2)


def zone(name: str) -> Zone:
    return Zone(name=name, trust_domain=TrustDomain("example.org"))


def policy(text: str) -> PolicyActivated:
    return PolicyActivated(version=1, sources=(("p", text),), digest="", envelope=b"", author="a", approver="b", applied_at=0)  # type: ignore[arg-type]


def test_every_set_that_a_batch_brings_into_force_is_prepared(validated_here: list[int]) -> None:
    facts, child = Facts("example.org", "f"), Child()
    crossings = (Crossing(source="a", target="b", actions=("infer",)),)
    changes = [ZonePut(zone=zone("a")), ZonePut(zone=zone("b")), policy(GOOD), CrossingsPut(crossings=crossings), ZonePut(zone=zone("c"))]
    run(prepare(facts, [Sequenced(change=one, epoch=0, log_index=0) for one in changes], child))
    assert len(child.jobs) == 3
    for zones, crossed in ((("a", "b"), ()), (("a", "b"), crossings), (("a", "b", "c"), crossings)):
        compile_in_force([("p", GOOD)], version=1, crossings=crossed, zones=zones)
    assert validated_here == []


def test_a_bad_set_in_a_batch_is_left_to_whoever_applies_it() -> None:
    facts = Facts("example.org", "f")
    run(prepare(facts, [Sequenced(change=policy(BAD), epoch=0, log_index=0)], prover))
    assert catalog._accepted == {}


def test_what_is_only_looked_at_is_prepared_alone_and_beside_crossings() -> None:
    facts, child = Facts("example.org", "f"), Child()
    facts.zones = {"a": zone("a"), "b": zone("b")}
    run(beside(facts, [("p", GOOD)], child))
    assert len(child.jobs) == 1
    facts.crossings = (Crossing(source="a", target="b", actions=("infer",)),)
    run(beside(facts, [("p", GOOD)], child))
    assert len(child.jobs) == 2, "the set alone was prepared before"


def test_without_a_validator_nothing_is_prepared() -> None:
    run(prevalidate([("p", BAD)], None))
    assert catalog._accepted == {}
