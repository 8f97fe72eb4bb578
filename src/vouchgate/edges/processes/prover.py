"""The prover: one process for one question (or one set to validate), without network, with bounded memory and CPU time.

Rules
1. The question arrives on standard input (policy/jobs.py), the answer leaves on standard output; no file is opened after z3 was loaded.
2. Memory and CPU time are bounded by the kernel as well as by z3's own settings; what goes over ends as a signal, which whoever asked reads as
   `unknown`.
3. It ends with whoever asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time

from vouchgate.edges.processes import confine
from vouchgate.policy.jobs import Failed, Job, Outcome, ValidateJob, do
from vouchgate.policy.prove import MAX_MEMORY_MIB, smt
from vouchgate.vocabulary.errors import LimitExceeded, VouchgateError
from vouchgate.vocabulary.wire import decode, encode

ADDRESS_BYTES = 4 * 1024**3
"""Address space: z3's own bound, its threads' stacks, and the interpreter."""
SLACK_SECONDS = 30
"""CPU seconds beyond those of the question, to read and to replay."""
VALIDATE_NICE = 5
"""By how much a validation steps back behind decisions."""
MAX_QUESTION_BYTES = 16 * 1024 * 1024
"""Two sets of policies at their bound."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> int:
    """Answer one question."""
    question = sys.stdin.buffer.read(MAX_QUESTION_BYTES + 1)
    answer = encode(_answer(question))
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return 0


def _answer(question: bytes) -> Outcome:
    try:
        job: Job = decode(Job, question, what="question")  # type: ignore[arg-type]  # a union is no class to mypy
        confine.leave_network()
        if isinstance(job, ValidateJob):
            # decisions come first: whoever waits for the verdict can wait
            os.nice(VALIDATE_NICE)
        else:
            smt()
            _bound_z3()
        _bound(int(job.seconds))
        return do(job, time.monotonic)
    except VouchgateError as error:
        return Failed(code=error.code, reason=error.reason, remedy=error.remedy)
    except (MemoryError, RecursionError):
        return Failed(code=LimitExceeded.code, reason="the policies are too large to be proved about", remedy="ask about fewer at once")


def _bound_z3() -> None:
    import z3

    z3.set_param("memory_max_size", MAX_MEMORY_MIB)


def _bound(seconds: int) -> None:
    """Rules 2 and 3."""
    for what, value in (
        (resource.RLIMIT_AS, ADDRESS_BYTES),
        (resource.RLIMIT_CPU, seconds + SLACK_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard),) * 2)
    kernel = ctypes.CDLL(None)
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
