"""Pickles as files: plain ones, joblib's with arrays inline, PyTorch's legacy files. The machine is pickles/machine.py.

Rules
1. A pickle is a program; it is run over abstract values, and each use of a name needs an entry of the knowledge base.
2. A plain file is one pickle, or several in a row as `pickle.dump` appends them; each is judged, and every byte belongs to one.
3. A legacy file of PyTorch is five pickles and then storages (torch_legacy.py).
4. Bytes that only might be a pickle (protocol 0 or 1, no import) are one only where no other format is sure of them.
"""

from __future__ import annotations

from vouchgate.scanning.pickle_records import ANY_TEXT, facts, most, trailing
from vouchgate.scanning.pickles.dialects import JOBLIB
from vouchgate.scanning.pickles.machine import Ran, run
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.torch_legacy import is_legacy, read_legacy
from vouchgate.scanning.verdict import Reading, Reason

NAME = "pickle"
MAX_PICKLES = 10_000
"""Pickles in a row in one file."""


def recognise(sight: Sight) -> Claim:
    """By its opcodes."""
    seen = sight.pickled
    if not seen.possible:
        return NOT_MINE
    kind = NAME
    if is_legacy(sight.view):
        kind = "torch-legacy"
    elif any(name.startswith("joblib.") for name in seen.imports):
        kind = "joblib"
    protocol = f"protocol {seen.protocol}" if seen.protocol >= 0 else "protocol 0 or 1"
    imports = f", it imports {', '.join(seen.imports)}" if seen.imports else ""
    return Claim(strength="certain" if seen.certain else "possible", kind=kind, because=f"a pickle of {protocol}{imports}", above=ANY_TEXT)


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 1 to 3."""
    return read_legacy(sight.view, scope) if is_legacy(sight.view) else _plain(sight.view, scope)


def _plain(view: memoryview, scope: Scope) -> Reading:
    first = last = run(view, scope, dialect=JOBLIB)
    reasons: list[Reason] = list(first.reasons)
    count = 1
    while 0 <= last.end < len(view) and count < MAX_PICKLES and not reasons:
        following = run(view, scope, dialect=JOBLIB, begin=last.end)
        if following.end < 0:
            break
        last, count = following, count + 1
        reasons += last.reasons
    if 0 <= last.end < len(view):
        reasons.append(trailing(view, last.end))
    return Reading(covered=max(last.end, 0), reasons=most(reasons), facts=_facts(first, count))


def _facts(ran: Ran, count: int) -> dict[str, object]:
    return {**facts(ran), "pickles": count, "inline_arrays": len(ran.arrays)}
