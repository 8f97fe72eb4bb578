"""scikit-learn's estimators among a pickle's values: which class, and its fitted attributes as numbers.

Rules
1. A class counts by its exact module and name; nothing is imported to find out. A subclass of somebody else's is another class.
2. Numbers are read from arrays as they were written, and become float64, in which scikit-learn computes; what is no number refuses.
3. Everything is checked before it is believed: shapes against each other, places in trees against their number.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from vouchgate.scanning.disarm.numpy_objects import FROM_BUFFER, RECONSTRUCT, SCALAR, Objects, array_of, scalar_of
from vouchgate.scanning.disarm.tensors import BadTensor, Tensor
from vouchgate.scanning.pickles.dtypes import Dtype, dtype_of
from vouchgate.scanning.pickles.values import Array, Dict, FrozenSet, List, Made, Name, Set, Tuple, Value, text_of
from vouchgate.scanning.verdict import Refuse

MAX_NUMBERS = 50_000_000
"""Numbers of one attribute: as float64 they take 400 MB, a fifth of what the process may have."""
MAX_BITS = 1_000
"""Bits of a whole number that becomes a float64."""
MAX_LOOKED = 200_000
"""Values looked at to find the estimator in what it was wrapped in."""
REMEDY = "export the model to ONNX where it was trained, or take its arrays: `vouchgate disarm` without `--as`"
_STRUCT = {"i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B", "f8": "d", "f4": "f", "b1": "?"}
"""numpy's code -> struct's."""
_SAFETENSORS = {"F64": "d", "F32": "f", "F16": "e", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U64": "Q", "U32": "I", "U16": "H", "U8": "B", "BOOL": "?"}  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """An array of float64, row by row."""

    shape: tuple[int, ...]
    values: array[float]


@dataclass(frozen=True)
class Labels:
    """The classes of a classifier."""

    kind: str
    """`int`, `float`, `bool` or `text`."""
    items: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Estimator:
    """One object of scikit-learn's."""

    view: memoryview
    full: str
    """Module and name."""
    state: dict[str, Value]
    args: tuple[Value, ...]

    @property
    def name(self) -> str:
        """The class."""
        return self.full.rpartition(".")[2]

    def has(self, attribute: str) -> bool:
        """Whether it is there and not None."""
        return self.state.get(attribute) is not None

    def refuse(self, why: str) -> NoReturn:
        """End the rebuilding."""
        raise Refuse("disarm:no-onnx", self.name[:80], f"`{self.name[:80]}` {why}", REMEDY)

    def inner(self, attribute: str) -> Estimator:
        """Another object. Raises `Refuse`."""
        return self.of(self.state.get(attribute), attribute)

    def of(self, value: Value, attribute: str) -> Estimator:
        """A value as an object. Raises `Refuse`."""
        return constructed(self.view, value) or self.refuse(f"has no object as its `{attribute}`")

    def items(self, attribute: str) -> Sequence[Value]:
        """A list, a tuple or an array of objects, row by row. Raises `Refuse`."""
        value = self.state.get(attribute)
        if isinstance(value, List | Tuple):
            return value.items
        found = self._array(value, attribute)
        return self._objects(found, value, attribute) if isinstance(found, Objects) else self.refuse(f"has no list as its `{attribute}`")

    def numbers(self, attribute: str, *, value: Value = None) -> Numbers:
        """An array, or one number. Raises `Refuse`."""
        value = self.state.get(attribute) if value is None else value
        if type(value) is float or (type(value) is int and value.bit_length() <= MAX_BITS):
            return Numbers((), array("d", [value]))
        if isinstance(value, Made) and value.calls(*SCALAR):
            try:
                found: Tensor | Objects | None = scalar_of(self.view, -1, value)
            except BadTensor as bad:
                self.refuse(f"has a number that cannot be read as its `{attribute}`: {bad}")
        else:
            found = self._array(value, attribute)
        if not isinstance(found, Tensor) or found.was or found.dtype not in _SAFETENSORS:
            self.refuse(f"has no plain numbers as its `{attribute}`")
        return Numbers(found.shape, array("d", _unpacked(found)))

    def shaped(self, attribute: str, *shape: int) -> array[float]:
        """Numbers of exactly this shape. Raises `Refuse`."""
        found = self.numbers(attribute)
        if found.shape != shape:
            self.refuse(f"has `{attribute}` of shape {found.shape}, where {shape} belongs")
        return found.values

    def number(self, attribute: str) -> float:
        """One number. Raises `Refuse`."""
        found = self.numbers(attribute)
        if prod(found.shape) != 1:
            self.refuse(f"has no single number as its `{attribute}`")
        return found.values[0]

    def count(self, attribute: str, most: int) -> int:
        """One number that is whole and between 1 and `most`. Raises `Refuse`."""
        found = self.number(attribute)
        if not 1 <= found <= most or found != int(found):
            self.refuse(f"has `{attribute}` {found}, where a whole number from 1 to {most} belongs")
        return int(found)

    def flag(self, attribute: str, default: bool) -> bool:
        """A yes or no."""
        value = self.state.get(attribute, default)
        if type(value) is bool:
            return value
        return bool(self.number(attribute))

    def text(self, attribute: str, default: str = "") -> str:
        """A text; `default` where there is none."""
        found = text_of(self.view, self.state.get(attribute))
        return default if found is None else found

    def version(self) -> tuple[int, int]:
        """Of scikit-learn, as it wrote it into the state; (0, 0) where it did not."""
        parts = self.text("_sklearn_version").split(".")[:2]
        return (
            (int(parts[0]), int(parts[1]))
            if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts)
            else (0, 0)
        )

    def classes(self) -> Labels:
        """A classifier's; some keep them with what made them. Raises `Refuse`."""
        return self.labels() if self.has("classes_") else self.inner("_label_binarizer").labels()

    def labels(self, attribute: str = "classes_") -> Labels:
        """The classes. Raises `Refuse`."""
        found = self._array(self.state.get(attribute), attribute)
        if isinstance(found, Objects):
            return self._object_labels(self._objects(found, self.state.get(attribute), attribute), attribute)
        if len(found.shape) == 2 and found.was.lstrip("<>").startswith("U"):
            return Labels("text", tuple(self._words(found)))
        if len(found.shape) != 1 or found.was or found.dtype not in _SAFETENSORS:
            self.refuse(f"has classes that are neither numbers nor texts as its `{attribute}`")
        kind = "bool" if found.dtype == "BOOL" else "float" if found.dtype.startswith("F") else "int"
        items = _unpacked(found)
        if kind == "int" and max(items, default=0) >= 2**63:
            self.refuse("has a class that is no number of 64 bits")
        return Labels(kind, items)

    def records(self, attribute: str, wanted: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """An array of records, the wanted fields of each (0 where the type has no such field). Raises `Refuse`."""
        value = self.state.get(attribute)
        found, dtype = self._array(value, attribute), _dtype(value)
        if not isinstance(found, Tensor) or dtype is None or not dtype.fields or len(found.shape) != 2:
            self.refuse(f"has no array of records as its `{attribute}`")
        fields = {name: (one, at) for name, one, at in dtype.fields}
        missing = [name for name in wanted if name not in fields and name not in OPTIONAL]
        if missing:
            self.refuse(f"has no `{missing[0]}` in its `{attribute}`")
        names = sorted((name for name in wanted if name in fields), key=lambda name: fields[name][1])
        layout, here = "<", 0
        for name in names:
            one, at = fields[name]
            if one.code not in _STRUCT or one.order == ">" or at < here:
                self.refuse(f"has a `{name}` that is no plain number in its `{attribute}`")
            layout, here = f"{layout}{at - here}x{_STRUCT[one.code]}", at + one.size
        reader = struct.Struct(f"{layout}{dtype.size - here}x")
        places = [names.index(name) if name in names else -1 for name in wanted]
        return (tuple(row[place] if place >= 0 else 0 for place in places) for row in reader.iter_unpack(_joined(found)))

    def _array(self, value: Value, attribute: str) -> Tensor | Objects:
        try:
            found = array_of(self.view, -1, value)
        except BadTensor as bad:
            self.refuse(f"has an array that contradicts itself as its `{attribute}`: {bad}")
        if found is None:
            self.refuse(f"has no array as its `{attribute}`")
        if prod(found.shape) > MAX_NUMBERS:
            self.refuse(f"has more than {MAX_NUMBERS} numbers as its `{attribute}`")
        return found

    def _objects(self, found: Objects, value: Value, attribute: str) -> Sequence[Value]:
        """The elements of an array of objects; joblib writes the array once more as a pickle inside."""
        shape = found.shape
        if isinstance(value, Array):
            value = found.items
            inner = self._array(value, attribute)
            found = inner if isinstance(inner, Objects) else self.refuse(f"has no array of objects as its `{attribute}`")
        turned = isinstance(value, Made) and isinstance(value.state, Tuple) and bool(value.state.items[3]) and len(shape) > 1
        items = found.items.items if isinstance(found.items, List | Tuple) else ()
        if turned or found.shape != shape or len(items) != prod(shape):
            self.refuse(f"has another number or order of objects than its `{attribute}` says")
        return items

    def _object_labels(self, items: Sequence[Value], attribute: str) -> Labels:
        """Texts, or whole numbers of Python's own."""
        if items and all(type(item) is int and -(2**63) <= item < 2**63 for item in items):
            return Labels("int", tuple(items))
        words = tuple(text_of(self.view, item) for item in items)
        if not words or not all(word is not None and _plain(word) for word in words):
            self.refuse(f"has classes that are neither numbers nor texts as its `{attribute}`")
        return Labels("text", words)

    def _words(self, found: Tensor) -> Iterator[str]:
        order, width = ">" if found.was.startswith(">") else "<", found.shape[1] // 4
        for row in struct.iter_unpack(f"{order}{width}I", _joined(found)) if width else ():
            if any(code > 0x10FFFF or 0xD800 <= code <= 0xDFFF for code in row):
                self.refuse("has a class that is no text")
            yield "".join(map(chr, row)).rstrip("\0")


def _plain(word: str) -> bool:
    """Whether it is text that UTF-8 can write: half of a pair is not."""
    return not any("\ud800" <= character <= "\udfff" for character in word)


OPTIONAL = frozenset({"missing_go_to_left", "is_categorical"})
"""Fields of records that older versions do not have; they mean 0."""


def constructed(view: memoryview, value: Value) -> Estimator | None:
    """An object that the pickle constructs, with its state; None for anything else."""
    if not isinstance(value, Made) or value.name is None:
        return None
    full = value.name.full
    args = value.args
    if full in ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__"):
        if not args or not isinstance(args[0], Name):
            return None
        full, args = args[0].full, ()
    pairs = value.state.pairs if isinstance(value.state, Dict) else []
    return Estimator(view, full, {key: item for key, item in pairs if isinstance(key, str)}, args)


def only_one(view: memoryview, root: Value, known: frozenset[str]) -> Estimator:
    """The one estimator of a known class that `root` is, or that lies in it outside of any other. Raises `Refuse`."""
    waiting, seen = [root], set[int]()
    found: list[Estimator] = []
    while waiting and len(seen) < MAX_LOOKED and len(found) < 2:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        one = constructed(view, here)
        if one is not None and one.full in known:
            found.append(one)
        else:
            waiting.extend(_parts(here))
    if len(found) == 1:
        return found[0]
    first = constructed(view, root)
    named = f"`{first.full[:120]}`" if first is not None else "what the file holds"
    why = "holds more than one estimator" if found else "is no estimator whose values say all that it computes"
    raise Refuse(
        "disarm:no-onnx", "whole artifact", f"{named} {why}: trees, linear models, scalers and pipelines of them are known", REMEDY
    )


def _parts(value: Value) -> list[Value]:
    if isinstance(value, Tuple | List | Set | FrozenSet):
        return list(value.items)
    if isinstance(value, Dict):
        return [item for _, item in value.pairs]
    if isinstance(value, Made):
        return [*value.args, value.state, *value.items, *(item for _, item in value.pairs)]
    return []


def _dtype(value: Value) -> Dtype | None:
    if isinstance(value, Array):
        found: Dtype = value.dtype
        return found
    if isinstance(value, Made) and value.calls(*RECONSTRUCT) and isinstance(value.state, Tuple):
        return dtype_of(value.state.items[2])
    return dtype_of(value.args[1]) if isinstance(value, Made) and value.calls(*FROM_BUFFER) else None


def _joined(tensor: Tensor) -> bytes:
    return b"".join(bytes(piece) for piece in tensor.pieces())


def _unpacked(tensor: Tensor) -> tuple[Any, ...]:
    return struct.unpack(f"<{tensor.count}{_SAFETENSORS[tensor.dtype]}", _joined(tensor))
