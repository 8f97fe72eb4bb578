"""numpy's .npy files.

Rules (numpy `lib/format.py`, "Format Version 1.0" to 3.0)
1. Magic, version, the header's length, a Python literal of exactly `descr`, `fortran_order` and `shape`; spaces and one newline behind it.
2. The data is exactly shape x itemsize bytes.
3. A dtype with objects means that a pickle follows instead: it is judged by the machine, and ends with the file.
"""

from __future__ import annotations

from vouchgate.scanning.npy_headers import MAGIC, header_of
from vouchgate.scanning.pickle_records import facts, most, trailing
from vouchgate.scanning.pickles.dtypes import product
from vouchgate.scanning.pickles.machine import run
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Refuse, at

NAME = "numpy"
REMEDY = "save the array again with `numpy.save(..., allow_pickle=False)`"


def recognise(sight: Sight) -> Claim:
    """By its magic."""
    return Claim(strength="certain", kind=NAME, because="numpy's magic", above=TEXTS) if sight.head.startswith(MAGIC) else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Header, then data or a pickle."""
    view = sight.view
    header = header_of(view)
    told = {"dtype": header.dtype.code, "shape": list(header.shape)}
    if header.dtype.objects:
        ran = run(view, scope, begin=header.end)
        reasons = list(ran.reasons)
        if 0 <= ran.end < len(view):
            reasons.append(trailing(view, ran.end))
        return Reading(covered=max(ran.end, 0), reasons=most(reasons), facts={**told, **facts(ran)})
    size = header.dtype.size * product(header.shape)
    if header.end + size != len(view):
        why = f"its shape and dtype make {size} bytes of data, there are {len(view) - header.end}"
        raise Refuse(f"{NAME}:size-mismatch", at(header.end), why, REMEDY)
    return Reading(covered=len(view), facts=told)
