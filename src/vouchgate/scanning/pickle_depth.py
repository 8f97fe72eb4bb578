"""How far a loader would get through bytes that may be a pickle: the depth of its stack and its memo, without any value.

Words are opcodes too: `cat`, `dog` on two lines import `at.dog`. A loader stops where an opcode needs more than the stack holds, or a line is
no number: what stands behind that is never run. In doubt the loader goes on.
"""

from __future__ import annotations

_PUSHING = frozenset(b"NIJKMLGFSTUVXBC]})cghj" + bytes((0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x96)))
_TAKING = {
    ord("R"): (2, -1), ord("b"): (2, -1), ord("a"): (2, -1), ord("s"): (3, -2), ord("2"): (1, 1), ord("."): (1, -1), ord("p"): (1, 0),
    ord("q"): (1, 0), ord("r"): (1, 0), 0x94: (1, 0), 0x81: (2, -1), 0x92: (3, -2), 0x93: (2, -1), 0x85: (1, 0), 0x86: (2, -1), 0x87: (3, -2),
}  # fmt: skip
"""Values that an opcode needs on the stack, and how many more there are behind it."""
_TO_MARK = {ord("t"): 1, ord("l"): 1, ord("d"): 1, ord("i"): 1, ord("o"): 1, 0x91: 1, ord("e"): 0, ord("u"): 0, 0x90: 0, ord("1"): 0}
"""Opcodes that take everything above the last mark, and what they put there."""
_MEMOIZE = 0x94
_FILLING = frozenset((ord("e"), ord("u"), 0x90))


MAX_OPERAND = 1_024
"""Bytes of a line that are looked at; of a longer one it is taken that a loader gets past it."""


class Depth:
    """Of one pickle."""

    def __init__(self) -> None:
        self._depth = 0
        self._marks: list[int] = []
        self._memo: set[int] = set()
        self._any = False
        """An index was too long to be looked at."""

    def runs(self, code: int, operand: bytes) -> bool:
        """Whether a loader gets past this opcode."""
        if not _is_valid(code, operand):
            return False
        if code == ord("("):
            self._marks.append(self._depth)
            self._depth = 0
        elif code in _PUSHING:
            if code == ord("g") and not self._has(operand):
                return False
            self._depth += 1
        elif code in _TO_MARK:
            return self._to_mark(code)
        elif code == ord("0"):
            return self._pop()
        elif code in _TAKING:
            needed, more = _TAKING[code]
            if self._depth < needed:
                return False
            self._depth += more
            self._remember(code, operand)
        return True

    def _has(self, operand: bytes) -> bool:
        return self._any or len(operand) > MAX_OPERAND or int(operand) in self._memo

    def _remember(self, code: int, operand: bytes) -> None:
        if code == ord("p"):
            self._any = self._any or len(operand) > MAX_OPERAND
            self._memo.add(-1 if self._any else int(operand))
        elif code in b"qr":
            self._memo.add(int.from_bytes(operand, "little"))
        elif code == _MEMOIZE:
            self._memo.add(len(self._memo))

    def _to_mark(self, code: int) -> bool:
        if not self._marks or (code == ord("o") and not self._depth):
            return False
        self._depth = self._marks.pop() + _TO_MARK[code]
        return self._depth > 0 or code not in _FILLING

    def _pop(self) -> bool:
        if self._depth:
            self._depth -= 1
            return True
        if not self._marks:
            return False
        self._depth = self._marks.pop()
        return True


def _is_valid(code: int, operand: bytes) -> bool:
    """Whether a line is what its opcode reads (CPython `Lib/pickle.py`, `load_int`, `load_float`, `load_string`, `load_put`)."""
    if len(operand) > MAX_OPERAND:
        return True
    try:
        if code in b"IL":
            int(
                operand.strip().removesuffix(b"L") if code == ord("L") else operand,
                10 if operand.strip()[:1] == b"0" and operand.strip().isdigit() else 0,
            )
        elif code in b"pg":
            int(operand)
        elif code == ord("F"):
            float(operand)
        elif code == ord("S"):
            text = operand.strip()
            return len(text) >= 2 and text[:1] == text[-1:] and text[:1] in (b"'", b'"')
    except ValueError:
        return False
    return True
