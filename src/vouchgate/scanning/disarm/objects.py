"""Takes a pickle's values apart: tensors under dotted names, plain values as JSON, everything else dropped and told.

Rules
1. Nothing is called or constructed. What a call would have given is recovered only where this file, numpy_objects.py or torch_objects.py
   knows the call by its exact name; any other call is dropped; its arguments, state and items are kept where they
   hold tensors.
2. A tensor's name is the way to it: dict keys, list places and attributes, joined by dots. A module's parameters, buffers and children are
   named as its `state_dict()` names them.
3. The JSON keeps what is not a tensor. Its `$` words: `$tensor` (name in the safetensors file), `$tuple`, `$set`, `$frozenset`, `$dict` (pairs,
   where keys are no plain text), `$bytes` (base64), `$float` (nan, inf, -inf), `$int` (hexadecimal), `$name` (a dtype or the like),
   `$object` (a class whose code is not here, with its state), `$call` (a call that the knowledge base knows, written down and not made), `$dropped`, `$same` (the way to an object that stands there already).
4. Every object is taken apart once, however often it is shared or holds itself; depth and number are bounded.
5. What was wrapped in a call that is dropped, and nothing else beside it, keeps the names it had before it was wrapped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.numpy_objects import (
    FROM_BUFFER,
    MASKED,
    PLAIN_BYTES,
    RECONSTRUCT,
    SCALAR,
    Objects,
    array_of,
    mask_of,
    scalar_of,
    storage_of,
)
from vouchgate.scanning.disarm.tensors import BadTensor, Storage, Tensor
from vouchgate.scanning.disarm.torch_objects import DTYPES, FindStorage, tensor_of, unwrapped
from vouchgate.scanning.pickles.values import (
    Array,
    Dict,
    FrozenSet,
    List,
    Made,
    Name,
    Numbers,
    Persistent,
    Set,
    Span,
    Tuple,
    Value,
    bytes_of,
    text_of,
)

MAX_DEPTH = 120
"""Objects within each other: the deepest real modules have about 20; three calls a level stay below Python's own bound."""
MAX_VALUES = 5_000_000
"""Plain values kept: a vocabulary has about 500,000."""
INLINE_BYTES = 4_096
"""Bytes that stand in the JSON; longer ones become a `U8` tensor."""
MAX_INT_BITS = 4_096
"""Bits of an integer written in decimal."""
_LONG_TEXT = 1024**2
"""Characters of a text that stands in the JSON; longer ones become a `U8` tensor."""
MAX_LIFTS = 16
"""Calls wrapped around each other that rule 5 looks through."""
MAX_LOOKED = 200_000
"""Objects looked at for tensors, at each of them."""

_MAPPINGS = frozenset({"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict", "__builtin__.dict"})
_SEQUENCES = {
    "torch.Size": "$tuple", "builtins.tuple": "$tuple", "builtins.list": "", "builtins.set": "$set", "builtins.frozenset": "$frozenset",
    "__builtin__.set": "$set", "__builtin__.frozenset": "$frozenset", "collections.deque": "",
}  # fmt: skip
_NAMES = frozenset(
    f"torch.{name}"
    for name in (
        *DTYPES,
        "strided",
        "sparse_coo",
        "sparse_csr",
        "per_tensor_affine",
        "per_channel_affine",
        "contiguous_format",
        "preserve_format",
    )
)
_MODULE = ("_parameters", "_buffers", "_modules")
_WHY_CALL = "loading would call it; disarm calls nothing"
_WHY_CLASS = "its code is not part of the file; its state was kept"
_WHY_NAME = "a function or class held as a value is code of somebody else"


class Apart:
    """One pickle's values, taken apart into `findings`."""

    def __init__(self, view: memoryview, origin: int, find: FindStorage, findings: Findings) -> None:
        self._view, self._origin, self._find, self._findings = view, origin, find, findings
        self._seen: dict[int, str] = {}
        self._tensors: dict[int, Tensor] = {}
        self._values = 0
        self._kept: list[Value] = []
        """Objects made on the way, so that no id is given twice."""

    def take(self, value: Value, path: str = "") -> Any:
        """The value as JSON (rule 3)."""
        return self._take(value, path, 0)

    def _take(self, value: Value, path: str, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            over = f"objects lie deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"there are more than {MAX_VALUES} values"
            return self._drop("value", path, type(value).__name__.lower(), f"{over} within each other")
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= MAX_INT_BITS else {"$int": hex(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": str(value)}
        if isinstance(value, bytes | Span):
            return self._raw(value, path)
        if isinstance(value, Name):
            return self._name(value, path)
        return self._shared(value, path, depth)

    def _shared(self, value: Value, path: str, depth: int) -> Any:
        """Rule 4: a tensor may stand under several names, everything else is described once."""
        known = self._tensors.get(id(value))
        if known is not None:
            return {"$tensor": self._findings.keep(path, known)}
        if id(value) in self._seen:
            return {"$same": self._seen[id(value)]}
        self._seen[id(value)] = path
        self._kept.append(value)
        if isinstance(value, Tuple):
            return {"$tuple": self._items(value.items, path, depth, lift=_holds_call(value.items))}
        if isinstance(value, List):
            return self._items(value.items, path, depth, lift=_holds_call(value.items))
        if isinstance(value, Set | FrozenSet):
            return {"$set" if isinstance(value, Set) else "$frozenset": self._items(value.items, path, depth)}
        if isinstance(value, Dict):
            return self._pairs(value.pairs, path, depth)
        if isinstance(value, Array | Persistent | Made):
            return self._numbers(value, path, depth)
        what = "a run of numbers" if isinstance(value, Numbers) else type(value).__name__.lower()
        return self._drop("value", path, what, "it has no place in the output")

    def _items(self, items: Sequence[Value], path: str, depth: int, *, lift: bool = False) -> list[Any]:
        """With `lift` (rule 5) and nothing above, the one item that holds tensors takes the place of what is around it."""
        holding = [place for place, item in enumerate(items) if holds_tensors(item)] if lift and not path and depth < MAX_LIFTS else []
        lifted = holding[0] if len(holding) == 1 else -1
        return [self._take(item, path if place == lifted else _join(path, str(place)), depth + 1) for place, item in enumerate(items)]

    def _pairs(self, pairs: list[tuple[Value, Value]], path: str, depth: int) -> Any:
        """A dict; keys that are text, each once, stay an object."""
        keys = [self._key(key) for key, _ in pairs]
        if all(key is not None and not key.startswith("$") for key in keys) and len(set(keys)) == len(keys):
            return {key: self._take(item, _join(path, str(key)), depth + 1) for key, (_, item) in zip(keys, pairs, strict=True)}
        return {"$dict": [[self._take(key, _join(path, f"key{place}"), depth + 1), self._take(item, _join(path, _step(key, place)), depth + 1)]
                          for place, (key, item) in enumerate(pairs)]}  # fmt: skip

    def _key(self, key: Value) -> str | None:
        try:
            return text_of(self._view, key)
        except ValueError:
            return None

    def _raw(self, value: Value, path: str) -> Any:
        try:
            text = text_of(self._view, value)
            if text is not None and len(text) <= _LONG_TEXT:
                return text
            raw = bytes_of(self._view, value) if text is None else text.encode("utf-8", "surrogatepass")
        except ValueError:
            return self._drop("fault", path, "text", "its bytes are no such text")
        if raw is None:
            return self._integer(value)
        if len(raw) <= INLINE_BYTES:
            return {"$bytes": base64.b64encode(raw).decode()}
        storage = storage_of(self._view, self._origin, value) or Storage(memoryview(raw))
        was = "bytes" if text is None else "text"
        return self._keep(Tensor(dtype="U8", shape=(len(storage.view),), strides=(1,), storage=storage, was=was), path)

    def _integer(self, value: Span) -> Any:
        raw = bytes(self._view[value.begin : value.begin + value.length])
        return {"$int": hex(int.from_bytes(raw, "little", signed=True))}

    def _name(self, value: Name, path: str) -> Any:
        if value.full in _NAMES or value.full.startswith(("builtins.", "numpy.")):
            return (
                {"$name": value.full}
                if value.full in _NAMES or value.entry is not None
                else self._drop("name", path, value.full, _WHY_NAME)
            )
        return self._drop("name", path, value.full, _WHY_NAME)

    def _numbers(self, value: Value, path: str, depth: int) -> Any:
        """Arrays and tensors; an object that is none goes on as a call."""
        inner = unwrapped(value)
        found: Tensor | Objects | None
        mask: Tensor | None = None
        try:
            mask = mask_of(self._view, self._origin, inner)
            found = tensor_of(inner, self._find)
            if found is None:
                found = array_of(self._view, self._origin, inner)
            if found is None and isinstance(inner, Made) and inner.calls(*SCALAR):
                found = scalar_of(self._view, self._origin, inner)
        except BadTensor as bad:
            return self._drop("fault", path, _called(inner), str(bad))
        if isinstance(found, Objects):
            return {"$array": list(found.shape), "of": self._take(found.items, path, depth + 1)}
        if found is not None:
            self._tensors[id(value)] = found
            if mask is not None:
                return {**self._keep(found, path), "mask": self._keep(mask, _join(path, "mask"))}
            return self._with_quantiser(self._keep(found, path), found, path, depth)
        return self._made(inner, path, depth)

    def _with_quantiser(self, told: dict[str, Any], tensor: Tensor, path: str, depth: int) -> dict[str, Any]:
        quantiser = tensor.extra.get("quantiser")
        return told if quantiser is None else {**told, "quantiser": self._take(quantiser, _join(path, "quantiser"), depth + 1)}

    def _keep(self, tensor: Tensor, path: str) -> dict[str, Any]:
        return {"$tensor": self._findings.keep(path, tensor)}

    def _made(self, value: Made, path: str, depth: int) -> Any:
        full = value.name.full if value.name is not None else ""
        if full in _MAPPINGS:
            return self._mapping(value, path, depth)
        if full in _SEQUENCES and value.state is None:
            items = [*_elements(value.args[:1]), *value.items]
            listed = self._items(items, path, depth)
            return {_SEQUENCES[full]: listed} if _SEQUENCES[full] else listed
        if full in PLAIN_BYTES:
            return self._encoded(value, full, path)
        if full == "builtins.complex" and len(value.args) == 2:
            return {"$complex": self._items(value.args, path, depth)}
        if full in ("torch.device", "torch.serialization._get_layout"):
            return {"$name": f"{full}({', '.join(str(arg) for arg in value.args if isinstance(arg, str | int))})"}
        if full.startswith("torch._utils._rebuild_sparse") and len(value.args) >= 2:
            return {"$sparse": self._items(value.args, path, depth)}
        return self._unknown(value, full, path, depth)

    def _encoded(self, value: Made, full: str, path: str) -> Any:
        """Bytes as protocols 0 to 2 write them."""
        try:
            storage = storage_of(self._view, self._origin, value)
        except BadTensor as bad:
            return self._drop("fault", path, _called(value), str(bad))
        if storage is None:
            return self._drop("call", path, full, _WHY_CALL)
        if len(storage.view) <= INLINE_BYTES:
            return {"$bytes": base64.b64encode(storage.view).decode()}
        return self._keep(Tensor(dtype="U8", shape=(len(storage.view),), strides=(1,), storage=storage, was="bytes"), path)

    def _mapping(self, value: Made, path: str, depth: int) -> Any:
        """Its first argument may hold pairs, as protocol 0 to 2 write an OrderedDict; a state is its attributes, such as torch's `_metadata`."""
        pairs = list(value.pairs)
        for argument in value.args:
            pairs += argument.pairs if isinstance(argument, Dict) else _as_pairs(argument)
        return self._pairs(pairs, path, depth)

    def _unknown(self, value: Made, full: str, path: str, depth: int) -> Any:
        """Rule 1: dropped, but what it was given is searched."""
        state = _state(value.state)
        names = {key: item for key, item in state if isinstance(key, str)}
        constructed = value.how == "newobj" or full in ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__")
        of = _class_of(value, full)
        if constructed and all(part in names for part in _MODULE):
            return self._module(names, of, path, depth)
        known = not constructed and value.name is not None and value.name.entry is not None and "callable" in value.name.entry.uses
        if constructed:
            self._drop("class", path, of, _WHY_CLASS)
        elif not known:
            self._drop("call", path, _called(value), _WHY_CALL)
        inside: dict[str, Any] = {"$object" if constructed else "$call" if known else "$dropped": of}
        arguments = [argument for argument in value.args if not isinstance(argument, Name)]
        for word, items in (("arguments", arguments), ("items", value.items)):
            if items and (constructed or known or any(map(holds_tensors, items))):
                inside[word] = self._items(items, path, depth, lift=not constructed)
        if state:
            inside["state"] = self._pairs(state, path, depth)
        elif value.state is not None:
            inside["state"] = self._take(value.state, path, depth + 1)
        if value.pairs:
            inside["pairs"] = self._pairs(value.pairs, path, depth)
        return inside

    def _module(self, state: dict[str, Value], of: str, path: str, depth: int) -> Any:
        """Rule 2: `torch.nn.Module.__setstate__` puts a state like this in place; its `state_dict()` walks these three."""
        self._drop("class", path, of, _WHY_CLASS)
        told: dict[str, Any] = {"$module": of}
        for part in _MODULE:
            pairs = _contents(state[part])
            told[part] = {str(key): self._take(item, _join(path, str(key)), depth + 1) for key, item in pairs if isinstance(key, str)}
        rest = [(key, item) for key, item in state.items() if key not in _MODULE and not _empty(item)]
        told["attributes"] = {key: self._take(item, _join(path, key), depth + 1) for key, item in rest}
        return told

    def _drop(self, kind: Any, path: str, what: str, why: str) -> dict[str, Any]:
        self._findings.drop(kind, path, what, why)
        return {"$dropped": what[:200].encode("ascii", "backslashreplace").decode()}


def holds_tensors(value: Value) -> bool:
    """Whether a tensor, an array or long bytes lie anywhere within `value`; looks at `MAX_LOOKED` objects."""
    waiting, seen = [value], set[int]()
    while waiting and len(seen) < MAX_LOOKED:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, Array | Persistent | Span) or (isinstance(here, Made) and here.calls(*RECONSTRUCT, *FROM_BUFFER, *MASKED)):
            return True
        waiting.extend(_within(here))
    return False


def _within(value: Value) -> Iterable[Value]:
    if isinstance(value, Tuple | List | Set | FrozenSet):
        return value.items
    if isinstance(value, Dict):
        return (item for _, item in value.pairs)
    if isinstance(value, Made):
        return (*value.args, value.state, *value.items, *(item for _, item in value.pairs))
    return ()


def _holds_call(items: Sequence[Value]) -> bool:
    """Whether one of them is a call that will be dropped, not a construction or a tensor."""
    return any(
        isinstance(item, Made)
        and item.how != "newobj"
        and item.name is not None
        and item.name.full not in (*_MAPPINGS, *_SEQUENCES, *RECONSTRUCT, *FROM_BUFFER, *SCALAR)
        and not item.name.full.startswith(("torch._utils.", "torch._tensor.", "copyreg.", "copy_reg."))
        for item in items
    )


def _join(path: str, step: str) -> str:
    return f"{path}.{step}" if path else step


def _step(key: Value, place: int) -> str:
    return str(key) if isinstance(key, str | int | float | bool) else str(place)


def _contents(value: Value) -> list[tuple[Value, Value]]:
    """Pairs of a dict or an OrderedDict."""
    if isinstance(value, Dict):
        return value.pairs
    if isinstance(value, Made) and value.name is not None and value.name.full in _MAPPINGS:
        return [*value.pairs, *(pair for argument in value.args for pair in _as_pairs(argument))]
    return []


def _as_pairs(value: Value) -> list[tuple[Value, Value]]:
    """[[key, value], ...] as protocol 0 to 2 hand it to OrderedDict."""
    items = value.items if isinstance(value, List | Tuple) else ()
    return [(item.items[0], item.items[1]) for item in items if isinstance(item, List | Tuple) and len(item.items) == 2]


def _elements(arguments: tuple[Value, ...]) -> list[Value]:
    return [item for argument in arguments if isinstance(argument, List | Tuple | Set | FrozenSet) for item in argument.items]


def _state(state: Value) -> list[tuple[Value, Value]]:
    """A dict, or the pair (dict, slots) that objects with slots write."""
    if isinstance(state, Dict):
        return list(state.pairs)
    if isinstance(state, Tuple) and len(state.items) == 2 and all(part is None or isinstance(part, Dict) for part in state.items):
        return [pair for part in state.items if part is not None for pair in part.pairs]
    return []


def _class_of(value: Made, full: str) -> str:
    """The class that a construction is of: its first argument, for copyreg's."""
    first = value.args[0] if value.args else None
    return first.full if full.startswith("copy") and isinstance(first, Name) else full or "the result of a call"


def _called(value: Value) -> str:
    """`module.name(...)`, with its plain arguments."""
    if not isinstance(value, Made):
        return type(value).__name__.lower()
    full = value.name.full if value.name is not None else "the result of a call"
    told = ", ".join(repr(argument)[:80] if isinstance(argument, str | int | float | bytes) else "..." for argument in value.args[:4])
    return f"{full}({told})"


def _empty(value: Value) -> bool:
    """An empty container or a default that says nothing: hooks of a module."""
    return (isinstance(value, Dict | List | Set) and not (value.pairs if isinstance(value, Dict) else value.items)) or (
        isinstance(value, Made) and value.name is not None and value.name.full in _MAPPINGS and not (value.pairs or value.args)
    )
