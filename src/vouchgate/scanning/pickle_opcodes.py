"""Walks a pickle's opcodes without a stack: enough to tell that bytes are a pickle, and which names it would import.

Rules
1. Nothing is imported, resolved or called; the operands of an opcode are skipped, not built.
2. The walk says what it saw until STOP, the first byte that is no opcode, or `MAX_STEPS`.
3. From the first byte of a file it also stops where a loader would, for words are opcodes too (pickle_depth.py).
4. It serves recognition only. No verdict of `clean` ever rests on it.

Opcodes and operands: CPython `Lib/pickletools.py`, protocols 0 to 5.
"""

from __future__ import annotations

import re

from vouchgate.scanning.pickle_depth import Depth
from vouchgate.vocabulary.wire import Noun

MAX_STEPS = 20_000
"""Opcodes followed: what goes on for so long is a pickle, whatever comes later."""
MAX_LINE = 4_096
"""Bytes looked at of an operand that may be a name; longer ones are passed over."""
MAX_NAMES = 8
"""Imports listed in a message."""

_PLAIN = frozenset(b"(.012NQRabdelostu}])" + bytes((0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8F, 0x90, 0x91, 0x93, 0x94, 0x97, 0x98, 0x92)))
_FIXED = {
    ord("K"): 1, ord("M"): 2, ord("J"): 4, ord("G"): 8, ord("h"): 1, ord("j"): 4, ord("q"): 1, ord("r"): 4,
    0x80: 1, 0x82: 1, 0x83: 2, 0x84: 4, 0x95: 8,
}  # fmt: skip
_COUNTED = {
    ord("T"): 4, ord("U"): 1, ord("B"): 4, ord("C"): 1, ord("X"): 4, 0x8A: 1, 0x8B: 4, 0x8C: 1, 0x8D: 8, 0x8E: 8, 0x96: 8,
}  # fmt: skip
_LINES = {ord("F"): 1, ord("I"): 1, ord("L"): 1, ord("S"): 1, ord("V"): 1, ord("P"): 1, ord("g"): 1, ord("p"): 1, ord("c"): 2, ord("i"): 2}
_TEXT = frozenset(b"XUTVS") | {0x8C, 0x8D}
_IMPORTING = {ord("c"), ord("i")}
_STACK_GLOBAL, _STOP, _PROTO, _INST = 0x93, ord("."), 0x80, ord("i")
_ACTING = frozenset(b"Roibsuae" + bytes((0x81, 0x90, 0x92)))
_ACT_WHEN_IMPORTED = frozenset({"antigravity", "this", "idlelib", "test", "turtledemo", "__main__", "__hello__", "__phello__"})
"""Modules of the standard library that do something when they are imported; to import any other one changes nothing."""
_PERSISTENT = frozenset(b"PQ")
_EXTENSIONS = frozenset((0x82, 0x83, 0x84))
_NEWLINE = re.compile(rb"\n")
_DOTTED = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,200}(\.[A-Za-z_<][A-Za-z0-9_>]{0,200}){0,20}\Z")


class Walk(Noun, frozen=True, kw_only=True):
    """What the walk saw."""

    steps: int = 0
    stopped_at: int = -1
    """Offset just behind STOP; -1 if none was reached."""
    protocol: int = -1
    imports: tuple[str, ...] = ()
    """Names in the order in which they would be imported."""
    acts: bool = False
    """Something is called, constructed, or filled behind an import, and a loader would get there."""

    @property
    def certain(self) -> bool:
        """These bytes act as a pickle: they use an import, import and end, begin as protocol 2 or later and go on as one, or go on and on as one."""
        importing = bool(self.imports) and (self.acts or self.stopped_at >= 0 or self.protocol >= 2 or _acts_alone(self.imports))
        return importing or self.steps >= MAX_STEPS or (self.protocol >= 2 and (self.steps >= 4 or self.stopped_at >= 0))

    @property
    def possible(self) -> bool:
        """These bytes can be loaded as a pickle, if perhaps by accident."""
        return self.certain or self.stopped_at >= 0


def walk(view: memoryview, start: int = 0) -> Walk:
    """Follow the opcodes from `start`."""
    here, steps, protocol = start, 0, -1
    imports: list[str] = []
    texts: list[bytes] = []
    stopped, acts = -1, False
    depth = Depth() if start == 0 else None
    while here < len(view) and steps < MAX_STEPS:
        code = view[here]
        begin, here, operand = here, *_operand(view, code, here + 1)
        if here < 0:
            break
        if code in _PERSISTENT or (code == _PROTO and operand[0] > 5):
            break  # no loader of plain pickles goes on here; a zip begins with such an opcode
        if code == _PROTO:
            protocol = operand[0] if begin == start else protocol
        if depth is not None and protocol < 2 and not depth.runs(code, operand):
            break
        steps += 1
        acts = acts or (code in _ACTING and (bool(imports) or code == _INST))
        if code in _TEXT and len(operand) <= MAX_LINE:
            texts = [*texts[-1:], operand]
        name = f"extension {operand[0]}" if code in _EXTENSIONS and protocol >= 2 else _imported(code, operand, texts)
        if name and len(imports) < MAX_NAMES:
            imports.append(name)
        if code == _STOP:
            stopped = here
            break
    return Walk(steps=steps, stopped_at=stopped, protocol=protocol, imports=tuple(imports), acts=acts)


def _acts_alone(imports: tuple[str, ...]) -> bool:
    return any(name.partition(".")[0] in _ACT_WHEN_IMPORTED for name in imports)


def _operand(view: memoryview, code: int, here: int) -> tuple[int, bytes]:
    """Where the next opcode is (-1 if `code` is none, or ends behind the bytes) and the operand, cut at `MAX_LINE`."""
    if code in _PLAIN:
        return here, b""
    if code in _FIXED:
        end = here + _FIXED[code]
        return end if end <= len(view) else -1, bytes(view[here:end])
    if code in _COUNTED:
        width = _COUNTED[code]
        length = int.from_bytes(view[here : here + width], "little")
        begin = here + width
        return begin + length if begin + length <= len(view) else -1, bytes(view[begin : begin + min(length, MAX_LINE + 1)])
    end = here
    for _ in range(_LINES.get(code, 0)):
        found = _NEWLINE.search(view, end)
        if found is None:
            return -1, b""
        end = found.end()
    return (end, bytes(view[here : min(end - 1, here + 2 * MAX_LINE)])) if end > here else (-1, b"")


def _imported(code: int, operand: bytes, texts: list[bytes]) -> str:
    if code in _IMPORTING:
        names = operand.split(b"\n")
    elif code == _STACK_GLOBAL and len(texts) == 2:
        names = texts
    else:
        return ""
    if not all(_DOTTED.match(name) for name in names):
        return ""
    return ".".join(name.decode("ascii") for name in names)
