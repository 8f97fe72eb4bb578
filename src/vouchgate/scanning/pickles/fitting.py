"""What a rule over arguments or state is handed, and the questions that rules ask of abstract values.

A rule is a function `(Fit) -> str`: empty where it fits, else what is wrong, for a person, as the end of a sentence ("its first argument is no
plain number"). Rules are listed by name in shapes.py; an entry of the knowledge base names the one that its calls, or its states, must fit.

Rules for rules
1. Every value that reaches a rule was already checked on its own: names in it are known and must be inert, calls in it fitted their own rule.
2. A class among the arguments that the callee constructs, without `__init__`, is taken with `constructs`; it then need not be inert.
3. A rule is O(size of what it looks at), bounded, and looks no deeper than it must.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vouchgate.scanning.knowledge.entries import Entry, Knowledge
from vouchgate.scanning.pickles.values import Dict, FrozenSet, List, Made, Name, Numbers, Set, Span, Tuple, Value
from vouchgate.scanning.pickles.work import visit

MAX_PLAIN = 1_000_000
"""Values looked at to tell that something is plain; more is not plain."""
MAX_ATTRIBUTE = 512
"""Characters of an attribute's name."""
DISPLAYED = ("_ipython_", "_doc_link_", "__doc_link_", "_repr_html", "_html_repr", "_sk_visual_block_")
"""How names begin that a notebook, or scikit-learn for one, asks of an object itself: an instance's own would be run, or become part of the page
(IPython, core/formatters.py, `_repr_*_`; sklearn/utils/_repr_html/base.py, `_get_doc_link`)."""
_PROTOCOLS = ("__array", "__arrow", "__torch_", "__cuda_", "__dlpack", "__sklearn_", "__patsy_", "__jax_", "__dataframe", "__rich")
_PYTHON_ASKS = frozenset(
    {
        "__annotations__", "__annotate__", "__wrapped__", "__signature__", "__text_signature__", "__code__", "__globals__", "__closure__", "__defaults__",
        "__kwdefaults__", "__self__", "__func__", "__class__", "__dict__", "__mro__", "__bases__", "__base__", "__subclasses__", "__reduce__", "__reduce_ex__",
        "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__deepcopy__", "__copy__", "__replace__", "__del__", "__call__", "__html__",
        "__fspath__", "__index__", "__getattr__", "__getattribute__", "__setattr__", "__get__", "__set__", "__init__", "__new__", "__slots__",
        "__builtins__", "__loader__", "__spec__", "__path__", "__file__", "__dataclass_fields__", "__attrs_attrs__", "__instancecheck__",
        "__subclasscheck__", "__subclasshook__", "__mro_entries__", "__prepare__", "__set_name__", "__init_subclass__", "__class_getitem__",
    }
)  # fmt: skip
"""What Python itself (copy, inspect, typing, pickle, dataclasses) asks objects for."""
CACHE = "memory"
"""The attribute by which scikit-learn's and its followers' estimators cache steps: a text there becomes joblib's folder of pickles
(sklearn/utils/validation.py, `check_memory`), whatever class holds it."""
_TEXTS = ("builtins.str", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
MAX_ELEMENTS = 2**48
"""Elements of an array: what a process can address, so that products cannot be used to overflow."""
MAX_RANK = 64
"""Dimensions of an array: numpy's own bound."""


@dataclass(slots=True)
class Fit:
    """One call's arguments, or one object's state."""

    view: memoryview
    knowledge: Knowledge
    entry: Entry
    args: tuple[Value, ...] = ()
    kwargs: Dict | None = None
    made: Made | None = None
    """For a state: the object that it is given to."""
    state: Value = None
    constructed: list[Name] = field(default_factory=list)

    def constructs(self, value: Value) -> bool:
        """Whether it is a class that may be constructed without `__init__`; it is then accounted for (rule 2)."""
        if isinstance(value, Name) and value.entry is not None and "constructible" in value.entry.uses:
            self.constructed.append(value)
            return True
        return False

    def refers(self, value: Value, *names: str) -> bool:
        """Whether it is one of these classes or functions, by full name; it is then accounted for (rule 2)."""
        if isinstance(value, Name) and value.entry is not None and value.full in names:
            self.constructed.append(value)
            return True
        return False


def is_int(value: Value, low: int = 0, high: int = 2**63 - 1) -> bool:
    """A whole number, and no boolean, within bounds."""
    return type(value) is int and low <= value <= high


def is_number(value: Value) -> bool:
    """A number or a boolean."""
    return isinstance(value, int | float)


def is_text(value: Value) -> bool:
    """Text of any length."""
    return isinstance(value, str) or (isinstance(value, Span) and value.kind in ("text", "raw-text"))


def is_bytes(value: Value) -> bool:
    """Bytes of any length, however they are written."""
    long = isinstance(value, Span) and value.kind in ("bytes", "bytearray", "escaped")
    return isinstance(value, bytes) or long or is_encoded(value)


def is_encoded(value: Value) -> bool:
    """Bytes as protocols 0 to 2 write them: `_codecs.encode(text, "latin1")`, or `bytes()`; that the call fits was checked when it was made."""
    return isinstance(value, Made) and (value.calls("_codecs.encode") or (value.calls("builtins.bytes") and not value.args))


def is_scalar(value: Value) -> bool:
    """None, a number, text or bytes."""
    return value is None or isinstance(value, int | float | str | bytes | Span | Numbers) or is_encoded(value)


def is_class(value: Value, *names: str) -> bool:
    """One of these names; where it is an argument use `Fit.refers`."""
    return isinstance(value, Name) and value.full in names


def children(value: Value) -> tuple[Value, ...] | list[Value]:
    """What a plain container holds directly; nothing for anything else."""
    if isinstance(value, Dict):
        return [part for pair in value.pairs for part in pair]
    return value.items if isinstance(value, Tuple | List | Set | FrozenSet) else ()


def is_plain(value: Value) -> bool:
    """Scalars, and tuples, lists, dicts and sets of them, to any depth."""
    if is_scalar(value):
        return True
    seen: set[int] = set()
    waiting: list[Any] = [value]
    for _ in range(MAX_PLAIN):
        if not waiting:
            return True
        one = waiting.pop()
        if is_scalar(one) or id(one) in seen:
            continue
        if not isinstance(one, Tuple | List | Dict | Set | FrozenSet):
            return False
        seen.add(id(one))
        inside = children(one)
        visit(len(inside) + 1)
        waiting.extend(inside)
    return not waiting


def dimensions(value: Value) -> tuple[int, ...] | None:
    """A shape: a tuple (or list) of whole numbers from 0 whose product stays within `MAX_ELEMENTS`; None for anything else."""
    if is_int(value):
        value = Tuple((value,))
    if not isinstance(value, Tuple | List) or len(value.items) > MAX_RANK:
        return None
    total = 1
    for item in value.items:
        if not is_int(item):
            return None
        total *= item or 1
        if total > MAX_ELEMENTS:
            return None
    return tuple(value.items)


def attributes(value: Value) -> str:
    """What is wrong with a state that goes into `__dict__` (or, in a pair, into slots); empty where it fits."""
    parts = value.items if isinstance(value, Tuple) and len(value.items) == 2 else (value,)
    for part in parts:
        if part is None or part is False:
            continue
        if not isinstance(part, Dict):
            return "its state is no dict of attributes"
        visit(len(part.pairs))
        for key, held in part.pairs:
            if key == "__doc__" and (held is None or is_text(held)):
                continue  # documentation of an instance's own: scipy's distributions write it, and nothing runs text
            if not isinstance(key, str) or not is_attribute(key):
                return f"its state sets `{shown(key)}`, which is no plain attribute"
            if key == CACHE and is_place(held):
                return "it keeps results in a folder that the file names, and would load them"
    return ""


def is_place(value: Value) -> bool:
    """Text, however it is made, or a path."""
    made = isinstance(value, Made) and value.name is not None and (value.calls(*_TEXTS) or value.name.module.startswith("pathlib"))
    return is_text(value) or made


def is_attribute(key: str) -> bool:
    """A name that a class's own methods would set: an identifier, and not one that the interpreter or a notebook itself looks up."""
    plain = len(key) <= MAX_ATTRIBUTE and key.isascii() and key.isidentifier() and not (key.startswith("__") and key.endswith("__"))
    return plain and not key.startswith(DISPLAYED) and not (key.startswith("_repr_") and key.endswith("_"))


def is_protocol(key: str) -> bool:
    """A name that the interpreter or a library of arrays asks an object for, not knowing what it is."""
    return key.startswith(_PROTOCOLS) or key in _PYTHON_ASKS


def shown(value: Value) -> str:
    """A value as it may stand in a message: ASCII, 80 characters, no backtick."""
    text = (
        value if isinstance(value, str) else repr(value) if isinstance(value, bytes | int | float | bool | None) else type(value).__name__
    )
    return text[:80].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'").replace("\n", "\\n")
