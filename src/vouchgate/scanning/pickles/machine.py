"""The pickle machine: interprets a pickle's opcodes over abstract values, and says what loading it would do."""

from __future__ import annotations

from dataclasses import dataclass, field

from vouchgate.scanning.pickles.dialects import PLAIN, Dialect
from vouchgate.scanning.pickles.values import Array, Name, Persistent, Value
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


def run(view: memoryview, scope: Scope, *, dialect: Dialect = PLAIN, begin: int = 0, keep: bool = False) -> Ran:
    """Interpret the pickle that begins at `begin`; never raises but `Refuse` where the scope's budget is spent.

    It goes on after a refused name or call, so that all of them are told and disarm can recover the rest. Without `keep`, runs of numbers in
    lists are passed over (`Numbers`).
    """
    raise NotImplementedError
