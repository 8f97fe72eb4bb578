"""List the names that pickles refer to, and how: `python -m survey.names PATH...`, a line for each name and use, most files first.

Rules
1. Nothing is loaded: opcodes are walked (`pickletools.genops`) with a stack of labels. A use is `call` (REDUCE), `new` (NEWOBJ, NEWOBJ_EX, OBJ, INST),
   or `held` (anything else that takes the name from the stack); a call is told with the kinds of its arguments.
2. Only plain pickles (`*.pkl`) are read; the same objects written otherwise refer to the same names.
"""

from __future__ import annotations

import collections
import pickletools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARK = object()
MAX_SHOWN = 90
"""Characters of an argument list that are shown."""


class Ref:
    """A name on the stack; `used` turns true where it was called or constructed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.used = False


class Made:
    """What a call or a construction gave."""

    def __init__(self, name: str) -> None:
        self.name = name


def uses(data: bytes) -> Iterator[tuple[str, str, str]]:
    """(name, use, arguments) of one pickle (rule 1)."""
    walk = _Walk()
    for opcode, argument, _ in pickletools.genops(data):
        walk.step(opcode, argument)
    yield from walk.found
    for ref in walk.refs:
        if not ref.used:
            yield ref.name, "held", ""


class _Walk:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.refs: list[Ref] = []
        self.found: list[tuple[str, str, str]] = []

    def step(self, opcode: Any, argument: Any) -> None:
        take = getattr(self, f"_{opcode.name.lower()}", None)
        if take is not None:
            take(argument)
            return
        if opcode.name in _STORES:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
            return
        if opcode.name in _READS:
            self.stack.append(self.memo[argument])
            return
        self._otherwise(opcode, argument)

    def _otherwise(self, opcode: Any, argument: Any) -> None:
        taken = []
        for before in reversed(opcode.stack_before):
            taken.append(
                self._to_mark() if before is pickletools.stackslice else self.stack.pop() if before is not pickletools.markobject else None
            )
        for after in opcode.stack_after:
            if after is pickletools.markobject:
                self.stack.append(MARK)
            elif opcode.name in _KEEPS:
                self.stack.append(taken[-1])
            elif after in (pickletools.pytuple,):
                self.stack.append(tuple(reversed(taken)) if opcode.name != "TUPLE" else tuple(taken[0]))
            else:
                self.stack.append(argument if argument is not None else after.name)

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def _ref(self, name: str) -> None:
        ref = Ref(name)
        self.refs.append(ref)
        self.stack.append(ref)

    def _global(self, argument: str) -> None:
        self._ref(argument.replace(" ", "."))

    def _stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._ref(f"{module}.{name}")

    def _reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self._use(function, "call", arguments)

    def _newobj(self, _: None) -> None:
        arguments, cls = self.stack.pop(), self.stack.pop()
        self._use(cls, "new", arguments)

    def _newobj_ex(self, _: None) -> None:
        self.stack.pop()
        self._newobj(None)

    def _use(self, what: Any, how: str, arguments: Any) -> None:
        name = what.name if isinstance(what, Ref) else f"<{_kind(what)}>"
        if isinstance(what, Ref):
            what.used = True
        if name == "copyreg._reconstructor" and isinstance(arguments, tuple) and isinstance(arguments[0], Ref):
            self._use(arguments[0], "new", ())
            self.stack.pop()
        self.found.append((name, how, ", ".join(_kind(one) for one in arguments) if isinstance(arguments, tuple) else _kind(arguments)))
        self.stack.append(Made(name))


_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_READS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_KEEPS = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})


def _kind(what: Any) -> str:
    if isinstance(what, Ref):
        return f"={what.name}"
    if isinstance(what, Made):
        return f"{what.name}()"
    if isinstance(what, tuple):
        return "(" + ", ".join(_kind(one) for one in what) + ")"
    return repr(what)[:24] if isinstance(what, (int, bool)) else type(what).__name__ if not isinstance(what, str) else repr(what[:24])


def main(paths: list[Path]) -> None:
    """Print the lines."""
    files: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    shapes: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for path in paths:
        for one in sorted(path.rglob("*.pkl")) if path.is_dir() else [path]:
            for name, how, arguments in uses(one.read_bytes()):
                files[name, how].add(one.name)
                shapes[name, how][arguments[:MAX_SHOWN]] += 1
    for (name, how), where in sorted(files.items(), key=lambda item: (item[0][1], item[0][0])):
        shown = " | ".join(shape for shape, _ in shapes[name, how].most_common(3))
        print(f"{how}\t{name}\t{len(where)}\t{min(where)}\t{shown}")


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]])
