"""The pickle machine: interprets a pickle's opcodes over abstract values, and says what loading it would do.

Nothing is imported, resolved, called or copied. Opcodes: CPython `Lib/pickletools.py`, protocols 0 to 5; semantics: `Lib/pickle.py`, `_Unpickler`.

Rules
1. The bytes decide. Truncation, an unknown opcode, an empty stack, a memo miss, a protocol over 5 end the run with a reason: where readers would
   stop, what lies behind is not guessed at.
2. Nothing that readers treat differently: an opcode reaches over no frame's end (PEP 3154), PROTO stands only at the start, no extension codes,
   no out-of-band buffers, no memo index beyond the opcodes so far.
3. Every name is judged by its use (judging.py); a refused one does not end the run, so that all are told and disarm gets the rest.
4. Time and memory are linear: long text and bytes stay in the view, batches of numbers are passed over without `keep`, and opcodes are counted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from vouchgate.scanning.pickles.dialects import PLAIN, Dialect
from vouchgate.scanning.pickles.judging import Judge
from vouchgate.scanning.pickles.opcodes import TABLE
from vouchgate.scanning.pickles.state import Broken, State
from vouchgate.scanning.pickles.values import Array, Name, Persistent, Value
from vouchgate.scanning.pickles.work import Overworked, refill
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.verdict import Reason


@dataclass(slots=True, eq=False)
class Ran:
    """What one pickle is."""

    end: int
    """Offset just behind STOP; -1 where it was not reached."""
    value: Value = None
    """What loading gives, as far as the machine got."""
    reasons: list[Reason] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    """Every name it refers to, in order."""
    steps: int = 0
    protocol: int = 0
    persistent: list[Persistent] = field(default_factory=list)
    """Every persistent id, in order."""
    arrays: list[Array] = field(default_factory=list)
    """Every inline array, in order."""


def run(view: memoryview, scope: Scope, *, dialect: Dialect = PLAIN, begin: int = 0, keep: bool = False, within: bool = False) -> Ran:
    """Interpret the pickle that begins at `begin`; never raises but `Refuse` where the scope's budget is spent.

    It goes on after a refused name or call, so that all of them are told and disarm can recover the rest. Without `keep`, runs of numbers in
    lists are passed over (`Numbers`). A run `within` another spends the other's budget.
    """
    if begin == 0 and not within:
        refill()
    judge = Judge(view, scope.knowledge, dialect)
    state = State(view, begin, judge, dialect, scope.settings.max_pickle_steps, keep=keep)
    state.nested = lambda at: run(view, scope, begin=at, keep=keep, within=True)
    judge.inner = lambda inner, kind, at: run(inner, scope, dialect=kind, begin=at, keep=True, within=True)
    try:
        _interpret(state)
        state.value = state.stack[-1] if state.stack else None
        if state.end < 0:
            raise Broken("truncated", state.begin, "the pickle ends before its STOP")
    except Broken as broken:
        judge.broken(broken.rule, broken.at, broken.why, broken.weight)
    except UnicodeDecodeError:
        judge.broken("text", state.begin, "a text is not in the encoding that its opcode says", "refused")
    except Overworked:
        judge.broken("too-much-work", state.begin, "looking at what its calls are given takes more work than any real file", "incomplete")
    judge.settle()
    return Ran(
        end=state.end,
        value=state.value,
        reasons=judge.reasons,
        names=judge.names,
        steps=state.steps,
        protocol=state.protocol,
        persistent=state.persistent,
        arrays=state.arrays,
    )


def _interpret(state: State) -> None:
    view, table, most = state.view, TABLE, state.most
    steps = 0
    try:
        while state.end < 0:
            state.begin = begin = state.here
            state.here = begin + 1
            table[view[begin]](state)
            steps += 1
            if state.here >= state.limit:
                state.edge()
            if steps + state.passed > most:
                raise Broken("too-long", begin, f"it has more than {most} opcodes", "incomplete")
    except (IndexError, struct.error):
        # reading beyond the view or popping an empty stack: either way nothing was decided on what is missing
        if state.here > state.size or state.begin >= state.size:
            raise Broken("truncated", state.begin, "the bytes end inside an opcode") from None
        raise Broken("stack", state.begin, "an opcode needs more than the stack holds") from None
    finally:
        state.steps = steps
