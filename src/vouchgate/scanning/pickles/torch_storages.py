"""PyTorch's storages as its pickles refer to them: by a persistent id, with the bytes elsewhere in the file.

Rules (torch `serialization.py`, `_save`, `_legacy_save`; ids are tuples)
1. `("storage", type, key, location, elements)`; in legacy files a sixth part says that it is a view of another: `None` or
   `(view key, offset, elements)`.
2. `("module", class, file, source)` in legacy files stands for the class; file and source are text that loaders only compare.
3. The type is one of torch's own, the key plain, the location a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from vouchgate.scanning.pickles.dialects import NOTHING, Dialect
from vouchgate.scanning.pickles.fitting import MAX_ELEMENTS, Fit, is_int, is_text
from vouchgate.scanning.pickles.values import Made, Name, Persistent, Tuple, Value

ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8, "QInt8": 1, "QUInt8": 1, "QInt32": 4, "QUInt4x2": 1, "QUInt2x4": 1,
}  # fmt: skip
"""Bytes an element of each typed storage."""
_UNTYPED = ("torch.UntypedStorage", "torch.storage.UntypedStorage", "torch.storage._UntypedStorage")
_SIZES = {f"torch.{device}{kind}Storage": size for kind, size in ITEM_BYTES.items() for device in ("", "cuda.")} | dict.fromkeys(
    _UNTYPED, 1
)
STORAGES = tuple(_SIZES)
MAX_KEY = 64
"""Characters of a key: a number, or an address."""
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "xla", "meta", "mtia", "privateuseone")


@dataclass(frozen=True, slots=True)
class Storage:
    """What a persistent id says."""

    key: str
    type: str
    """Full name of the storage's class."""
    item: int
    """Bytes an element; 1 for an untyped one."""
    elements: int
    location: str
    view: tuple[str, int, int] | None = None
    """Legacy: (view key, offset, elements) within it."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.item * self.elements


def storage_of(value: Value) -> Storage | None:
    """From a persistent id, or what holds one; None where it is no storage."""
    held = value.gives if isinstance(value, Made) else value
    pid = held.id if isinstance(held, Persistent) else held
    if not isinstance(pid, Tuple) or len(pid.items) not in (5, 6) or pid.items[0] != "storage":
        return None
    _, kind, key, location, elements, *view = pid.items
    item = _SIZES.get(kind.full) if isinstance(kind, Name) else None
    plain = isinstance(key, str) and 0 < len(key) <= MAX_KEY and key.isascii() and key.replace("_", "").isalnum()
    device = isinstance(location, str) and location.partition(":")[0] in DEVICES and location.isascii() and len(location) < 32
    if item is None or not plain or not device or not is_int(elements, 0, MAX_ELEMENTS):
        return None
    if not view or view[0] is None:
        return Storage(key, kind.full, item, elements, location)
    return Storage(key, kind.full, item, elements, location, _view(view[0], elements)) if _view(view[0], elements) else None


def _view(value: Value, elements: int) -> tuple[str, int, int] | None:
    items = value.items if isinstance(value, Tuple) else ()
    if len(items) != 3 or not isinstance(items[0], str) or not is_int(items[1]) or not is_int(items[2]) or items[1] + items[2] > elements:
        return None
    return items[0], items[1], items[2]


def _misfit(fit: Fit) -> str:
    storage = storage_of(fit.args[0])
    if storage is None or storage.view:
        return "it is no storage of torch's own"
    fit.refers(fit.args[0].items[1], *STORAGES)
    return ""


def _legacy_misfit(fit: Fit) -> str:
    pid = fit.args[0]
    if isinstance(pid, Tuple) and len(pid.items) == 4 and pid.items[0] == "module":
        _, kind, file, source = pid.items
        fits = fit.constructs(kind) and all(one is None or is_text(one) for one in (file, source))
        return "" if fits else "it is no class that may be constructed, with the text of its source"
    if storage_of(pid) is None:
        return "it is no storage of torch's own"
    fit.refers(pid.items[1], *STORAGES)
    return ""


def _class_of(pid: Value) -> Value:
    whole = isinstance(pid, Tuple) and len(pid.items) == 4 and pid.items[0] == "module"
    return pid.items[1] if whole else NOTHING


TORCH_ZIP = Dialect(name="torch-zip", persistent=_misfit)
TORCH_SCRIPT = Dialect(name="torchscript", persistent=_misfit, own="__torch__")
"""Read by torch's C++ loader, which imports nothing; `__torch__` is the archive's own code."""
TORCH_LEGACY = Dialect(name="torch-legacy", persistent=_legacy_misfit, stands_for=_class_of)
