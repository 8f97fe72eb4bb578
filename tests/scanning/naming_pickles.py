"""Pickles that name what need not be installed: `Call(Named("m", "f"), args, state)` is written as a library's own pickler would."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Named:
    """`module.name`."""

    module: str
    name: str


@dataclass
class Call:
    """REDUCE of a name with arguments, and a state."""

    callee: Named
    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass
class New:
    """NEWOBJ of a class with arguments, a state, items and keys."""

    kind: Named
    args: tuple[Any, ...] = ()
    state: Any = None
    pairs: dict[Any, Any] = field(default_factory=dict)


class _Writer(pickle._Pickler):  # type: ignore[name-defined,misc]
    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_named(self, what: Named) -> None:
        if self.proto >= 4:
            self.save(what.module)
            self.save(what.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{what.module}\n{what.name}\n".encode())
        self.memoize(what)

    def save_call(self, what: Call) -> None:
        self._save(what, what.callee, what.args, pickle.REDUCE, what.state, {})

    def save_new(self, what: New) -> None:
        self._save(what, what.kind, what.args, pickle.NEWOBJ, what.state, what.pairs)

    def _save(self, what: Any, name: Named, args: tuple[Any, ...], opcode: bytes, state: Any, pairs: dict[Any, Any]) -> None:
        self.save(name)
        self.save(args)
        self.write(opcode)
        self.memoize(what)
        if pairs:
            self._batch_setitems(pairs.items())
        if state is not None:
            self.save(state)
            self.write(pickle.BUILD)

    dispatch[Named] = save_named
    dispatch[Call] = save_call
    dispatch[New] = save_new


def pickled(what: Any, protocol: int = 4) -> bytes:
    """The pickle of a value that may hold all of these."""
    out = io.BytesIO()
    _Writer(out, protocol).dump(what)
    return out.getvalue()


def array(values: list[Any], code: str, shape: tuple[int, ...], *, data: bytes | None = None) -> Call:
    """A numpy array as numpy writes it."""
    import struct

    raw = (
        struct.pack(f"<{len(values)}{ {'i8': 'q', 'f8': 'd', 'i4': 'i'}[code] if data is None else 'x' }", *values)
        if data is None
        else data
    )
    dtype = Call(Named("numpy", "dtype"), (code, False, True), (3, "<" if code[0] in "if" else "|", None, None, None, -1, -1, 0))
    make = Named("numpy._core.multiarray", "_reconstruct")
    return Call(make, (Named("numpy", "ndarray"), (0,), b"b"), (1, shape, dtype, False, raw))
