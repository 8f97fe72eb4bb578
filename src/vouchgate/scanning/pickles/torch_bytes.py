"""A storage of torch's within a plain pickle: `torch.storage._load_from_bytes(bytes)`, where the bytes are a whole legacy file of one storage.

Rules (torch `storage.py`, `TypedStorage.__reduce__`; the format: torch_legacy.py)
1. The bytes are a program themselves, for `torch.load` runs them: each pickle in them is interpreted like any other, and none may have a fault.
2. They are exactly what `torch.save(storage, _use_new_zipfile_serialization=False)` writes: magic number, version, system, one persistent id
   that is a storage, its key, its elements, and nothing behind.
3. Looking is paid for by the byte where the bytes are written as text, and by the opcode otherwise: one value may be given to many calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.scanning.pickles.dialects import PLAIN, Dialect
from vouchgate.scanning.pickles.taking import raw_of
from vouchgate.scanning.pickles.torch_storages import TORCH_LEGACY, storage_of
from vouchgate.scanning.pickles.values import Dict, List, Persistent, Span, Value
from vouchgate.scanning.pickles.work import visit

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
COUNT_BYTES = 8
VISITS = 200
"""Price of one look: five small pickles."""
BYTES_PER_VISIT = 64
"""Bytes decoded for the price of one visit."""
Runner = Callable[[memoryview, Dialect, int], Any]
"""`(view, dialect, begin)` to the `Ran` of the pickle there."""
WRONG = "its argument is not the bytes of one storage, as torch writes it"


def storage_in(view: memoryview, args: tuple[Value, ...], run: Runner) -> tuple[Persistent | None, str]:
    """The storage that the call gives; or what is wrong with it."""
    if len(args) != 1:
        return None, WRONG
    visit(VISITS)
    if not isinstance(args[0], bytes | Span):
        visit(len(view) // BYTES_PER_VISIT)
    raw = raw_of(view, args[0])
    if raw is None:
        return None, WRONG
    data = memoryview(raw)
    ran, here = [], 0
    for dialect in (PLAIN, PLAIN, PLAIN, TORCH_LEGACY, PLAIN):
        one = run(data, dialect, here)
        visit(one.steps)
        if one.end < 0 or one.reasons:
            return None, WRONG + (f": {one.reasons[0].why}" if one.reasons else "")
        ran.append(one)
        here = one.end
    magic, version, system, whole, keys = (one.value for one in ran)
    storage = storage_of(whole) if isinstance(whole, Persistent) else None
    if magic != MAGIC_NUMBER or version != PROTOCOL_VERSION or not isinstance(system, Dict) or storage is None or storage.view:
        return None, WRONG
    whole_file = (
        isinstance(keys, List)
        and keys.items == [storage.key]
        and int.from_bytes(data[here : here + COUNT_BYTES], "little") == storage.elements
    )
    return (whole, "") if whole_file and here + COUNT_BYTES + storage.size == len(data) else (None, WRONG)
