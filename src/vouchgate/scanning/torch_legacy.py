"""PyTorch's legacy files (before 1.6, and `_use_new_zipfile_serialization=False` since).

Rules (torch `serialization.py`, `_legacy_save`, `_legacy_load`)
1. Pickles in a row: the magic number, the protocol version, what the system was, the object, the storages' keys.
2. Then each storage in the order of its keys: its number of elements in eight bytes, and exactly their bytes.
3. The keys are those that the object refers to, each once; one key has one size wherever it is referred to.
"""

from __future__ import annotations

from typing import NoReturn

from vouchgate.scanning.pickle_records import REMEDY, facts, most, trailing
from vouchgate.scanning.pickles.dialects import Dialect
from vouchgate.scanning.pickles.machine import Ran, run
from vouchgate.scanning.pickles.torch_storages import TORCH_LEGACY, Storage, storage_of
from vouchgate.scanning.pickles.values import Dict, List
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
MAGIC = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little")
"""The opcode that pushes the number; what a pickler writes around it differs by protocol."""
_HEAD_BYTES = 20
_COUNT_BYTES = 8
_PLAIN = Dialect(name="torch-legacy head")


def is_legacy(view: memoryview) -> bool:
    """Whether the first object is the magic number."""
    return MAGIC in bytes(view[:_HEAD_BYTES])


def read_legacy(view: memoryview, scope: Scope) -> Reading:
    """Rules 1 to 3. Raises `Refuse`."""
    magic = _next(view, scope, 0)
    version = _next(view, scope, magic.end)
    system = _next(view, scope, version.end)
    if magic.value != MAGIC_NUMBER or version.value != PROTOCOL_VERSION or not isinstance(system.value, Dict):
        _refuse("torch-head", 0, "its first three pickles are not torch's magic number, version and system")
    whole = run(view, scope, dialect=TORCH_LEGACY, begin=system.end)
    reasons: list[Reason] = [*magic.reasons, *version.reasons, *system.reasons, *whole.reasons]
    if whole.end < 0:
        return Reading(reasons=most(reasons), facts=facts(whole))
    listed = _next(view, scope, whole.end, keep=True)
    reasons += listed.reasons
    end = listed.end
    storages = referred(whole)
    keys = listed.value.items if isinstance(listed.value, List) else None
    if keys is None or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys) or set(keys) != set(storages):
        if reasons:
            return Reading(reasons=most(reasons), facts=facts(whole))
        _refuse("torch-keys", whole.end, "the storages listed are not those that the object refers to")
    for key in keys:
        end = _storage(view, end, storages[key])
    if end < len(view):
        reasons.append(trailing(view, end))
    return Reading(covered=end, reasons=most(reasons), facts={**facts(whole), "storages": len(keys)})


def referred(ran: Ran) -> dict[str, Storage]:
    """The storages that a run refers to, by key. Raises `Refuse` where one key has two sizes."""
    found: dict[str, Storage] = {}
    for one in ran.persistent:
        storage = storage_of(one)
        if storage is not None and found.setdefault(storage.key, storage).size != storage.size:
            _refuse("torch-storage", one.at, f"storage `{storage.key}` is referred to with two sizes")
    return found


def _next(view: memoryview, scope: Scope, begin: int, *, keep: bool = False) -> Ran:
    ran = run(view, scope, dialect=_PLAIN, begin=begin, keep=keep)
    if ran.end < 0:
        raise Refuse(*_parts(ran.reasons[-1]))
    return ran


def _parts(reason: Reason) -> tuple[str, str, str, str]:
    return reason.rule, reason.where, reason.why, reason.remedy


def _storage(view: memoryview, here: int, storage: Storage) -> int:
    """Rule 2: the end of the storage that begins here."""
    count = int.from_bytes(view[here : here + _COUNT_BYTES], "little")
    if count != storage.elements:
        _refuse("torch-storage", here, f"storage `{storage.key}` has {count} elements, the object refers to {storage.elements}")
    end = here + _COUNT_BYTES + storage.size
    if end > len(view):
        _refuse("torch-storage", here, f"storage `{storage.key}` is {storage.size} bytes long, {len(view) - here - _COUNT_BYTES} are left")
    return end


def _refuse(rule: str, place: int, why: str) -> NoReturn:
    raise Refuse(f"pickle:{rule}", at(place), why, REMEDY)
