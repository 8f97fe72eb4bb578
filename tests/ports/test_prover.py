"""The prover's process: real answers, and every way in which it can fail to give one."""

from __future__ import annotations

import sys
import threading

import pytest

from vouchgate.policy.catalog import schema_text
from vouchgate.policy.jobs import CheckJob, ProofJob
from vouchgate.ports import prover
from vouchgate.vocabulary.answers_policy import PolicyText
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

TEXT = '@id("a") permit (principal in Group::"a", action == Action::"export", resource is Dataset);'
NEVER = 'permit (principal, action == Action::"export", resource);'
QUESTION = ProofJob(question="never", schema=schema_text(), policies=(PolicyText(name="a.cedar", text=TEXT),), never=NEVER, seconds=20)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_question_is_answered_in_another_process() -> None:
    assert prover.prove(QUESTION).verdict == "refuted"


def test_a_set_is_checked_in_another_process() -> None:
    found = prover.check(CheckJob(schema=schema_text(), policies=QUESTION.policies, seconds=20))
    assert [one.kind for one in found.findings] == ["asks-for-nothing"]
    assert found.unproved == ()


def test_what_the_child_refuses_is_raised_here() -> None:
    wrong = ProofJob(question="never", schema=schema_text(), policies=QUESTION.policies, never="permit (", seconds=5)
    with pytest.raises(InvalidInput, match="cannot be read"):
        prover.prove(wrong)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import time; time.sleep(60)", "did not end within"),
        ("import time\nwhile True: time.sleep(9)", "was ended"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("print('{}')", "did not answer"),
        ("raise SystemExit(3)", "did not answer"),
        ("print('x' * 20_000_000)", "did not answer"),
        ("import sys; sys.stdin.close(); print('[]')", "did not answer"),
    ],
)
def test_a_child_that_fails_is_unknown_never_proved(code: str, why: str) -> None:
    proof = prover.prove(QUESTION, command=python(code), grace=-19.0)
    assert proof.verdict == "unknown" and why in proof.why[0]
    checked = prover.check(CheckJob(schema="", policies=(), seconds=20), command=python(code), grace=-19.0)
    assert checked.findings == () and why in checked.unproved[0]


def test_one_at_a_time() -> None:
    begun = threading.Thread(target=lambda: prover.prove(QUESTION, command=python("import time; time.sleep(60)"), grace=-17.0))
    assert prover._free.acquire(blocking=False)
    try:
        with pytest.raises(Unavailable, match="another question"):
            prover.prove(QUESTION)
    finally:
        prover._free.release()
    begun.start()
    begun.join()
    assert prover.prove(QUESTION).verdict == "refuted"
