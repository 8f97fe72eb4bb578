"""XGBoost's binary model format of versions before 2: raw structures in little-endian, each of a size that the one before says.

Rules (src/learner.cc, src/gbm/gbtree_model.cc, src/tree/tree_model.cc of XGBoost 1.7)
1. LearnerModelParam (136 bytes), objective and booster by name (length of 8 bytes), then the booster, then what the two flags announce.
2. A tree: TreeParam (148 bytes), its nodes (20 bytes each), its statistics (16 bytes each). Children and split indices lie within; every node is
   reached at most once.
3. Every byte belongs to one of these.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn

from vouchgate.scanning.verdict import Refuse, at

REMEDY = "load the model with the XGBoost version that made it, in a sandbox, and save it again as JSON or UBJSON"
PARAM_BYTES, TREE_PARAM_BYTES, MODEL_PARAM_BYTES, LINEAR_PARAM_BYTES = 136, 148, 160, 136
NODE_BYTES, STATISTICS_BYTES = 20, 16
MAX_NAME = 128
MAX_TREES = 1_000_000
MAX_NODES = 50_000_000
MAX_ATTRIBUTES = 10_000
BOOSTERS = (b"gbtree", b"gblinear", b"dart")
_OBJECTIVES = (b"reg:", b"binary:", b"multi:", b"rank:", b"count:", b"survival:")


def looks_binary(head: bytes) -> bool:
    """The two names that stand behind the parameters."""
    begin = 4 if head[:4] == b"binf" else 0
    here = begin + PARAM_BYTES
    length = int.from_bytes(head[here : here + 8], "little")
    if not 0 < length <= MAX_NAME or not head[here + 8 : here + 8 + length].startswith(_OBJECTIVES):
        return False
    here += 8 + length
    length = int.from_bytes(head[here : here + 8], "little")
    return 0 < length <= MAX_NAME and head[here + 8 : here + 8 + length] in BOOSTERS


class Binary:
    """One model; `read` accounts for every byte. Raises `Refuse`."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._here, self._nodes = view, 0, 0

    def read(self) -> dict[str, Any]:
        """Its facts."""
        if bytes(self._view[:4]) == b"binf":
            self._here = 4
        _, features, classes, attributes, metrics = struct.unpack_from("<fIiii", self._take(PARAM_BYTES))
        objective, booster = self._text(MAX_NAME), self._text(MAX_NAME)
        if booster not in BOOSTERS:
            self._refuse("booster", "its booster is none that XGBoost has")
        trees = self._linear() if booster == b"gblinear" else self._trees(features)
        if booster == b"dart" and trees:
            self._array(4, trees)
        if attributes not in (0, 1) or metrics not in (0, 1):
            self._refuse("flag", "a flag of its parameters is neither 0 nor 1")
        if attributes:
            for _ in range(self._length(MAX_ATTRIBUTES)):
                self._text(len(self._view))
                self._text(len(self._view))
        if metrics:
            for _ in range(self._length(MAX_ATTRIBUTES)):
                self._text(MAX_NAME)
        if self._here != len(self._view):
            self._refuse("trailing", f"{len(self._view) - self._here} bytes stand behind the model")
        return {
            "booster": booster.decode(),
            "objective": objective.decode("ascii", "replace"),
            "trees": trees,
            "nodes": self._nodes,
            "classes": classes,
        }

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise Refuse(f"xgboost:binary-{name}", at(self._here), why, REMEDY)

    def _take(self, count: int) -> memoryview:
        if self._here + count > len(self._view):
            self._refuse("truncated", "it ends before what it announces")
        self._here += count
        return self._view[self._here - count : self._here]

    def _length(self, most: int) -> int:
        length = int.from_bytes(self._take(8), "little")
        if length > most:
            self._refuse("length", f"a length is {length}, the bound is {most}")
        return length

    def _text(self, most: int) -> bytes:
        return bytes(self._take(self._length(most)))

    def _array(self, width: int, count: int) -> None:
        if self._length(len(self._view)) != count:
            self._refuse("length", f"an array has not the {count} elements that belong there")
        self._take(width * count)

    def _linear(self) -> int:
        self._take(LINEAR_PARAM_BYTES)
        self._take(4 * self._length(len(self._view)))
        return 0

    def _trees(self, features: int) -> int:
        trees = int.from_bytes(self._take(MODEL_PARAM_BYTES)[:4], "little")
        if trees > MAX_TREES:
            self._refuse("trees", f"it announces {trees} trees, the bound is {MAX_TREES}")
        for _ in range(trees):
            self._tree(features)
        self._take(4 * trees)
        return trees

    def _tree(self, features: int) -> None:
        _, nodes, _, _, _, leaf_vector = struct.unpack_from("<6i", self._take(TREE_PARAM_BYTES))
        self._nodes += max(nodes, 0)
        if nodes < 1 or self._nodes > MAX_NODES or leaf_vector not in (0, 1):
            self._refuse("tree", "a tree's number of nodes or leaf vector is none that is read")
        rows = self._take(nodes * NODE_BYTES)
        self._take(nodes * STATISTICS_BYTES)
        left, right, split = zip(*((one, two, three) for _, one, two, three, _ in struct.iter_unpack("<iiiIi", rows)), strict=True)
        seen, waiting = bytearray(nodes), [0]
        while waiting:
            node = waiting.pop()
            if not 0 <= node < nodes or seen[node]:
                self._refuse("tree", f"node {node} lies outside its tree, or is reached twice")
            seen[node] = 1
            if left[node] == -1:
                continue
            if split[node] & 0x7FFFFFFF >= max(features, 1):
                self._refuse("tree", f"node {node} splits by a feature that is not there")
            waiting += (left[node], right[node])
