"""What a pickle would build, as abstract values: nothing is imported, called or copied.

Rules
1. Plain Python values stand for themselves: None, bool, int, float, str (up to `SHORT` bytes), bytes (up to `SHORT`).
2. Longer text and bytes, and every bytearray, are a `Span`: offsets into the pickle's own view.
3. Everything else is a node with identity: two places that share one object share one node, and lists, dicts and made objects may hold
   themselves. A walk over them keeps a set of ids.
4. Nodes compare by identity, hold no behaviour, and say where in the view they came from (`at`) where a message needs it.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Any, Literal

from vouchgate.scanning.knowledge.entries import Entry

SHORT = 4_096
"""Bytes of text or bytes that are held as a Python value; longer ones stay in the view."""

Value = Any
"""None | bool | int | float | str | bytes | Span | Tuple | List | Dict | Set | FrozenSet | Name | Made | Persistent | Array | Numbers."""
How = Literal["reduce", "newobj", "obj", "inst"]


@dataclass(slots=True, eq=False)
class Span:
    """Long text or bytes: where they lie in the view."""

    begin: int
    length: int
    kind: Literal["bytes", "bytearray", "text", "raw-text", "escaped", "int"] = "bytes"
    """`text` is UTF-8; `raw-text` raw-unicode-escape (protocol 0); `escaped` the inside of a quoted protocol-0 string; `int` little-endian."""


@dataclass(slots=True, eq=False)
class Tuple:
    """A tuple."""

    items: tuple[Value, ...]
    shared: bool = False
    """It was fetched again from the memo, so more than one place may hold it."""


@dataclass(slots=True, eq=False)
class List:
    """A list."""

    items: list[Value] = field(default_factory=list)
    closed: bool = False
    """A rule relied on what it is now: nothing may be put into it any more."""


@dataclass(slots=True, eq=False)
class Dict:
    """A dict as its writer filled it: in order, a repeated key repeated."""

    pairs: list[tuple[Value, Value]] = field(default_factory=list)
    closed: bool = False
    """A rule relied on what it is now: nothing may be put into it any more."""


@dataclass(slots=True, eq=False)
class Set:
    """A set."""

    items: list[Value] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class FrozenSet:
    """A frozenset."""

    items: tuple[Value, ...]


@dataclass(slots=True, eq=False)
class Name:
    """A module's name, looked up while loading."""

    module: str
    name: str
    entry: Entry | None
    at: int = 0
    pushed: int = 1
    """Times it came onto the stack ..."""
    used: int = 0
    """... and times it left it to be called or constructed. Where the first is more, something holds it as a value."""

    @property
    def full(self) -> str:
        """`module.name`."""
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Made:
    """What a call or a construction gives, and all that was then put into it."""

    how: How
    name: Name | None
    """What was called or constructed; None where that was no name (refused)."""
    args: tuple[Value, ...] = ()
    kwargs: Dict | None = None
    state: Value = None
    """Of BUILD; `None` where there was none (a state of None is not told apart: it does nothing)."""
    items: list[Value] = field(default_factory=list)
    """Of APPEND, APPENDS, ADDITEMS."""
    pairs: list[tuple[Value, Value]] = field(default_factory=list)
    """Of SETITEM, SETITEMS."""
    at: int = 0
    built: bool = False
    gives: Value = None
    """What the call gives, where that was worked out and is another value."""
    closed: bool = False
    """A rule relied on what it is now: nothing may be put into it any more."""

    def calls(self, *names: str) -> bool:
        """Whether it is made by one of these full names."""
        return self.name is not None and self.name.full in names


@dataclass(slots=True, eq=False)
class Persistent:
    """What the loader puts in for a persistent id."""

    id: Value
    at: int = 0


@dataclass(slots=True, eq=False)
class Array:
    """joblib's inline array: the wrapper in the pickle, its data right behind."""

    wrapper: Made
    dtype: Any
    """A `dtypes.Dtype`."""
    shape: tuple[int, ...]
    fortran: bool
    begin: int
    length: int
    value: Value = None
    """For an array of objects: what the pickle inside gives."""


@dataclass(slots=True, eq=False)
class Numbers:
    """A run of plain numbers, booleans and Nones in a list, not kept one by one (`run` without `keep`)."""

    count: int
    begin: int
    end: int


def text_of(view: memoryview, value: Value) -> str | None:
    """A text value, long or short; None for anything else. Raises `ValueError` where its bytes are no such text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Span) or value.kind not in ("text", "raw-text"):
        return None
    raw = view[value.begin : value.begin + value.length]
    return codecs.decode(raw, "utf-8", "surrogatepass") if value.kind == "text" else codecs.decode(raw, "raw-unicode-escape")


def bytes_of(view: memoryview, value: Value) -> bytes | memoryview | None:
    """A bytes or bytearray value, long or short, without a copy where it lies in the view; None for anything else."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, Span):
        return None
    raw = view[value.begin : value.begin + value.length]
    if value.kind in ("bytes", "bytearray"):
        return raw
    return codecs.escape_decode(raw)[0] if value.kind == "escaped" else None
