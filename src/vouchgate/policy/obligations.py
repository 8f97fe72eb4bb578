"""Obligations: forbids that can be met. `@oblige("budget=10/minute; rounded-answer=2")` on a `forbid` names what lifts it.

    read_obligations(text) -> tuple[Obligation, ...]          one annotation; raises `InvalidObligation`
    strictest(obligations) -> tuple[Obligation, ...]          many as the one set that meets them all
    lift(evaluation, carries) -> Lifted                       Cedar's answer with the forbids lifted that this point can meet

Rules
1. Cedar's own answer stays what it is: a satisfied forbid denies. It is lifted only here, only where every obligation of it is of a kind that
   the asking point carries out (`carries`, nothing unless said), and only if a permit holds. So one more forbid never allows more.
2. With unknown facts: a forbid that may or may not hold, to be met or not, leaves the answer open; so does one that errs.
3. Only a forbid carries `@oblige`. An unknown kind, a bad value and two values for one thing are refused when policies are loaded (hazards.py);
   a set that was not validated keeps such a forbid as one that nothing meets.
4. Of many: the smallest budget of each window, the fewest decimals, every member to be left out, the youngest credential, every approval.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from vouchgate.policy.compile import CompiledPolicy, Evaluation, TriEffect
from vouchgate.policy.unknowns import ERROR, TRUE
from vouchgate.vocabulary.decisions import Obligation, ObligationKind
from vouchgate.vocabulary.errors import InvalidInput

EVERY: frozenset[str] = frozenset(get_args(ObligationKind))
"""All kinds: what the gateway and the PDP together carry out."""
NONE: frozenset[str] = frozenset()
WINDOWS = ("minute", "hour", "day")
MAX_BUDGET = 1_000_000_000
"""Requests of one window; more bounds nobody."""
MAX_DECIMALS = 15
"""Decimals of a rounded number; a double has no more."""
MIN_STEP_UP_SECONDS = 60
"""Seconds; a certificate begins 30 s before it is issued (identity/ca.py, `BACKDATE_MS`), and then has to travel."""
MAX_STEP_UP_SECONDS = 30 * 86_400
"""Seconds; no credential lives longer."""
MAX_PATHS = 64
"""Members that one policy leaves out."""
MAX_PATH_SEGMENTS = 16
"""Segments of the path of one."""
MAX_OWED_BYTES = 4_096
"""Bytes of all values of one decision; beyond it nothing is lifted, since the gateway is told in a header."""
_MEMBER = re.compile(r"[A-Za-z0-9_$@-]{1,64}|\*")
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/-]{0,127}")
_COUNT = re.compile(r"[1-9][0-9]{0,9}")


class InvalidObligation(InvalidInput):
    """An `@oblige` that means nothing."""

    code = "invalid-obligation"


def read_obligations(text: str) -> tuple[Obligation, ...]:
    """What one annotation asks for. Raises `InvalidObligation`."""
    found: dict[str, Obligation] = {}
    for part in text.split(";"):
        kind, equals, value = (piece.strip() for piece in part.partition("="))
        if kind not in _READERS or not equals:
            raise InvalidObligation(f"`{part.strip()[:64]!a}` is no obligation", remedy=f"write one of {', '.join(_READERS)}: `kind=value`")
        value, place = _READERS[kind](value)
        if place in found:
            raise InvalidObligation(f"`{kind}` is there twice for the same thing", remedy="keep one of the two, or write two policies")
        found[place] = Obligation(kind=kind, value=value)  # type: ignore[arg-type]  # one of _READERS, which are the kinds
    return tuple(found.values())


def _bad(value: str, fix: str) -> InvalidObligation:
    return InvalidObligation(f"`{value[:64]!a}` is no value of that obligation", remedy=fix)


def _budget(value: str) -> tuple[str, str]:
    count, _, window = value.partition("/")
    if not _COUNT.fullmatch(count) or int(count) > MAX_BUDGET or window not in WINDOWS:
        raise _bad(
            value, "write `budget=N/minute`, `/hour` or `/day`, N at least 1; what is never allowed is a forbid without an obligation"
        )
    return value, f"budget/{window}"


def _decimals(value: str) -> tuple[str, str]:
    if not re.fullmatch(r"[0-9]{1,2}", value) or int(value) > MAX_DECIMALS:
        raise _bad(value, f"write `rounded-answer=N`, N from 0 to {MAX_DECIMALS}")
    return str(int(value)), "rounded-answer"


def _paths(value: str) -> tuple[str, str]:
    paths = sorted({path.strip() for path in value.split(",")})
    segments = [path.split(".") for path in paths]
    if any(len(path) > MAX_PATH_SEGMENTS or not all(_MEMBER.fullmatch(one) for one in path) for path in segments) or len(paths) > MAX_PATHS:
        raise _bad(value, "write `redaction=usage,choices.*.logprobs`: members by name, `*` for every element")
    return ",".join(paths), "redaction"


def _seconds(value: str) -> tuple[str, str]:
    if not _COUNT.fullmatch(value) or not MIN_STEP_UP_SECONDS <= int(value) <= MAX_STEP_UP_SECONDS:
        raise _bad(value, f"write `step-up=SECONDS`, from {MIN_STEP_UP_SECONDS} to {MAX_STEP_UP_SECONDS}")
    return value, "step-up"


def _group(value: str) -> tuple[str, str]:
    if not _GROUP.fullmatch(value):
        raise _bad(value, "write `approval=GROUP`, for example `approval=safety-board`")
    return value, f"approval/{value}"


_READERS: dict[str, Callable[[str], tuple[str, str]]] = {
    "budget": _budget,
    "rounded-answer": _decimals,
    "redaction": _paths,
    "step-up": _seconds,
    "approval": _group,
}
"""Kind -> what reads its value: the value as it is kept, and the thing of which one policy names one value."""


def problem_of(policy: Any) -> InvalidObligation | None:
    """What is wrong with the `@oblige` of a policy (`load.Policy`), or nothing (rule 3)."""
    annotations = policy.json.get("annotations", {})
    if "oblige" not in annotations:
        return None
    if policy.effect != "forbid":
        return InvalidObligation(
            "it is a permit with `@oblige`, which lifts nothing", remedy="write a forbid with the same head that carries the obligation"
        )
    try:
        read_obligations(annotations["oblige"] or "")
    except InvalidObligation as error:
        return error
    return None


def obligations_of(policy: CompiledPolicy) -> tuple[Obligation, ...]:
    """What meets a forbid; nothing for one that cannot be met, and for a permit."""
    text = policy.policy.json.get("annotations", {}).get("oblige") if policy.forbids else None
    return _read(text) if text else ()


@functools.lru_cache(maxsize=4_096)
def _read(text: str) -> tuple[Obligation, ...]:
    try:
        return read_obligations(text)
    except InvalidObligation:
        return ()


def strictest(obligations: Iterable[Obligation]) -> tuple[Obligation, ...]:
    """Rule 4, in one order whatever the order of what is given."""
    budgets: dict[str, int] = {}
    decimals: list[int] = []
    seconds: list[int] = []
    paths: set[str] = set()
    groups: set[str] = set()
    for one in obligations:
        match one.kind:
            case "budget":
                count, _, window = one.value.partition("/")
                budgets[window] = min(int(count), budgets.get(window, int(count)))
            case "rounded-answer":
                decimals.append(int(one.value))
            case "redaction":
                paths |= set(one.value.split(","))
            case "step-up":
                seconds.append(int(one.value))
            case "approval":
                groups.add(one.value)
    made = [Obligation(kind="budget", value=f"{budgets[window]}/{window}") for window in WINDOWS if window in budgets]
    made += [Obligation(kind="rounded-answer", value=str(min(decimals)))] if decimals else []
    made += [Obligation(kind="redaction", value=",".join(sorted(paths)))] if paths else []
    made += [Obligation(kind="step-up", value=str(min(seconds)))] if seconds else []
    return (*made, *(Obligation(kind="approval", value=group) for group in sorted(groups)))


@dataclass(frozen=True, slots=True)
class Lifted:
    """An evaluation after forbids were lifted."""

    evaluation: Evaluation
    """`effect` is allow where they were; `cedar_effect` stays Cedar's."""
    obligations: tuple[Obligation, ...] = ()
    met: tuple[str, ...] = ()
    """The forbids that hold and that the obligations meet."""
    short_of: tuple[Obligation, ...] = ()
    """What would have lifted a deny, at a point that carries it out."""


def meetable(policy: CompiledPolicy, carries: Collection[str]) -> bool:
    """Whether a forbid is one that this point can meet."""
    found = obligations_of(policy)
    return bool(found) and all(one.kind in carries for one in found)


def lift(evaluation: Evaluation, carries: Collection[str]) -> Lifted:
    """Rules 1 and 2."""
    pairs = list(zip(evaluation.in_scope, evaluation.masks, strict=True))
    held = [policy for policy, mask in pairs if policy.forbids and mask == TRUE and meetable(policy, EVERY)]
    if not held:
        return Lifted(evaluation)
    obligations = strictest(one for policy in held for one in obligations_of(policy))
    met = tuple(policy.id for policy in held)
    effect, determining = _without(evaluation, {policy.order for policy in held})
    if effect == "deny":
        return Lifted(evaluation)
    if not all(meetable(policy, carries) for policy in held) or sum(len(one.value) for one in obligations) > MAX_OWED_BYTES:
        return Lifted(evaluation, short_of=obligations if effect == "allow" else ())
    return Lifted(
        dataclasses.replace(evaluation, effect=effect, determining=(*determining, *met) if effect == "allow" else ()), obligations, met
    )


def _without(evaluation: Evaluation, lifted: Collection[int]) -> tuple[TriEffect, tuple[str, ...]]:
    """What the policies beside the lifted forbids say, and which permits hold."""
    pairs = [pair for pair in zip(evaluation.in_scope, evaluation.masks, strict=True) if pair[0].order not in lifted]
    permits = tuple(policy.id for policy, mask in pairs if not policy.forbids and mask == TRUE)
    may_permit = any(mask & TRUE for policy, mask in pairs if not policy.forbids)
    if not may_permit or any(mask == ERROR or (policy.forbids and mask == TRUE) for policy, mask in pairs):
        return "deny", ()
    open_against = any(mask & ERROR or (policy.forbids and mask & TRUE) for policy, mask in pairs)
    return ("allow", permits) if permits and not open_against else ("residual", ())
