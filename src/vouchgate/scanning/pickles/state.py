"""What the pickle machine holds between two opcodes: stack, marks, memo, frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.scanning.pickles.dialects import Dialect
from vouchgate.scanning.pickles.values import Array, Name, Persistent, Tuple, Value
from vouchgate.scanning.verdict import Weight


class Broken(Exception):
    """The run cannot go on: no loader could, or two would go on differently."""

    def __init__(self, rule: str, at: int, why: str, weight: Weight = "refused") -> None:
        super().__init__(why)
        self.rule, self.at, self.why, self.weight = rule, at, why, weight


class State:
    """The machine's registers."""

    __slots__ = (
        "arrays", "begin", "dialect", "end", "frame", "here", "judge", "keep", "limit", "marks", "memo", "most", "nested", "passed", "persistent",
        "protocol", "size", "stack", "start", "steps", "value", "view",
    )  # fmt: skip

    def __init__(self, view: memoryview, begin: int, judge: Any, dialect: Dialect, most: int, *, keep: bool) -> None:
        self.view, self.judge, self.dialect, self.keep, self.most = view, judge, dialect, keep, most
        self.start = self.here = self.begin = begin
        self.size = self.limit = len(view)
        self.frame = False
        self.stack: list[Value] = []
        self.marks: list[list[Value]] = []
        self.memo: dict[int, Value] = {}
        self.protocol = 0
        self.steps = 0
        self.passed = 0
        """Runs of numbers passed over (batches.py): they are paid for as opcodes are."""
        self.end = -1
        self.value: Value = None
        self.persistent: list[Persistent] = []
        self.arrays: list[Array] = []
        self.nested: Callable[[int], Any]

    def take(self, count: int) -> int:
        """Where the next `count` bytes of this opcode begin."""
        begin = self.here
        self.here = begin + count
        if self.here > self.limit:
            self.edge()
        return begin

    def edge(self) -> None:
        """At or over the end of the frame or of the view (rule 2)."""
        if self.here > self.limit:
            if self.frame and self.here <= self.size:
                raise Broken("frame", self.begin, "an opcode reaches over the end of its frame, where readers differ")
            raise Broken("truncated", self.begin, "the bytes end inside an opcode")
        if self.frame:
            self.frame, self.limit = False, self.size

    def enter(self, length: int) -> None:
        """A frame of `length` bytes begins here."""
        if self.frame:
            raise Broken("frame", self.begin, "a frame begins inside another, where readers differ")
        if length > self.size - self.here:
            raise Broken("frame", self.begin, f"its frame is {length} bytes long, {self.size - self.here} are left")
        if length:
            self.frame, self.limit = True, self.here + length

    def since_mark(self) -> list[Value]:
        """Everything above the last mark, which goes."""
        if not self.marks:
            raise Broken("stack", self.begin, "an opcode needs a mark, and there is none")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def recall(self, index: int) -> None:
        """Onto the stack from the memo."""
        try:
            value = self.memo[index]
        except KeyError:
            raise Broken("memo", self.begin, f"it fetches entry {index} of the memo, which was never put there") from None
        self.again(value)

    def again(self, value: Value) -> None:
        """A value that something else may hold comes onto the stack."""
        kind = type(value)
        if kind is Name:
            value.pushed += 1
        elif kind is Tuple:
            value.shared = True
        self.stack.append(value)

    def remember(self, index: int) -> None:
        """The top of the stack into the memo."""
        if index > self.here - self.start:
            raise Broken("memo-index", self.begin, f"memo index {index} is beyond the opcodes so far; a loader would reserve memory for it")
        self.memo[index] = self.stack[-1]
