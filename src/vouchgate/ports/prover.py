"""Runs the prover in a process of its own, and ends it when its time is over: z3 does not always keep the time that it is given.

    prove(job) -> Proof          one question
    check(job) -> Checked        what can be proved of single policies
    validate(job) -> str         the key of the verdict that the set may be loaded; empty where there is none

Whatever happens to the child, the answer is `unknown`, or says what was not looked at; or there is no verdict.

Rules
1. The child gets standard input and output, an empty environment and `/` as its folder; it bounds its own memory and CPU time.
2. A child that has not answered GRACE_SECONDS after its own bound is killed and waited for. A crash, a signal and nonsense are `unknown`.
3. MAX_AT_ONCE children; whoever asks for one more is told to ask again, so that analyses never take the machine from decisions. A
   validation waits for no analysis: it has a place of its own, and whoever finds it taken gets no verdict.
"""

from __future__ import annotations

import subprocess
import sys
import threading

from vouchgate.policy.jobs import Checked, CheckJob, Failed, Job, Outcome, ProofJob, Proved, Validated, ValidateJob
from vouchgate.policy.load import InvalidPolicy
from vouchgate.vocabulary.answers_policy import Proof
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable, Unsupported
from vouchgate.vocabulary.wire import decode, encode

GRACE_SECONDS = 15.0
"""Seconds to start, to read 2,000 policies, and to replay; z3's own bound is inside."""
MAX_AT_ONCE = 1
"""Provers of one process that run at the same time."""
WAIT_SECONDS = 1.0
"""How long a validation waits for the one before it."""
COMMAND = (sys.executable, "-I", "-m", "vouchgate.edges.processes.prover")
_ERRORS = {kind.code: kind for kind in (InvalidInput, InvalidPolicy, LimitExceeded, Unsupported)}
_free = threading.BoundedSemaphore(MAX_AT_ONCE)
_validating = threading.BoundedSemaphore(MAX_AT_ONCE)


def prove(job: ProofJob, *, command: tuple[str, ...] = COMMAND, grace: float = GRACE_SECONDS) -> Proof:
    """One question. Blocks; safe to call from a thread. Raises `Unsupported` without z3, `Unavailable`, what the child raises."""
    outcome = _run(job, job.seconds, command, grace)
    if isinstance(outcome, Proved):
        return outcome.proof
    why = outcome if isinstance(outcome, str) else "the prover answered something else"
    return Proof(verdict="unknown", question="", sentence=f"it could not be decided: {why}", why=(why,))


def check(job: CheckJob, *, command: tuple[str, ...] = COMMAND, grace: float = GRACE_SECONDS) -> Checked:
    """What can be proved of single policies. Raises `Unsupported` without z3, `Unavailable`, what the child raises."""
    outcome = _run(job, job.seconds, command, grace)
    if isinstance(outcome, Checked):
        return outcome
    return Checked(unproved=(outcome if isinstance(outcome, str) else "the prover answered something else",))


def validate(job: ValidateJob, *, command: tuple[str, ...] = COMMAND, grace: float = 0.0) -> str:
    """One set. Blocks at most WAIT_SECONDS and `job.seconds`; safe to call from a thread. Raises `InvalidPolicy` and what else the child says of the set."""
    if not _validating.acquire(timeout=WAIT_SECONDS):
        return ""
    try:
        outcome = _child(job, job.seconds, command, grace)
    except OSError:
        # no process can be had; the set is validated by whoever asked
        return ""
    finally:
        _validating.release()
    return outcome.key if isinstance(outcome, Validated) else ""


def _run(job: Job, seconds: float, command: tuple[str, ...], grace: float) -> Outcome | str:
    if not _free.acquire(blocking=False):
        raise Unavailable("another question is being proved", remedy="ask again when it is answered")
    try:
        return _child(job, seconds, command, grace)
    finally:
        _free.release()


def _child(job: Job, seconds: float, command: tuple[str, ...], grace: float) -> Outcome | str:
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=True, env={}, cwd="/",
        start_new_session=True, umask=0o077,
    )  # fmt: skip
    try:
        output, _ = child.communicate(encode(job), seconds + grace)
    except subprocess.TimeoutExpired:
        return f"the prover did not end within {seconds + grace:g} seconds and was ended"
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
    if child.returncode < 0:
        return f"the prover was ended by signal {-child.returncode}, for want of memory or CPU time"
    try:
        outcome: Outcome = decode(Outcome, output, what="prover's answer")  # type: ignore[arg-type]  # a union is no class to mypy
    except InvalidInput:
        return "the prover did not answer"
    if isinstance(outcome, Failed):
        raise _ERRORS.get(outcome.code, InvalidInput)(outcome.reason, remedy=outcome.remedy)
    return outcome
