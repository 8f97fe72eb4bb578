"""TensorFlow SavedModel: every node of every graph and of every function in its library comes from an allow-list of operators.

Rules (tensorflow/core/protobuf: saved_model, meta_graph, graph, function, node_def)
1. The wire is walked wherever something executes is said: meta graphs, their graph, its library's functions, their nodes. Every occurrence
   counts, since readers merge a message that occurs twice; no group, no field cut short.
2. An operator is one that only computes (tf_operators.py), or a function of the model's own library, which is held to the same rule.
3. Saving and restoring name their files by what the caller hands in, never by a constant of the graph, not even through functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from vouchgate.scanning.protobuf_wire import WireReader
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder
from vouchgate.scanning.tf_operators import COMPUTING, FILES
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "tf-savedmodel"
REMEDY = "export the model again with standard operators only, or convert it to ONNX and import that"
MAX_REASONS = 10
"""Operators told; one is enough to refuse."""
_HEAD = b"\x08\x01\x12"
"""saved_model_schema_version = 1, then meta_graphs."""
_PASSED_ON = frozenset({"Identity", "StringJoin", "ShardedFilename", "Pack", "Reshape", "ExpandDims", "ConcatV2"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


@dataclass
class _Graph:
    """The graph, or one function of the library."""

    name: str
    nodes: dict[str, tuple[str, list[str], list[str]]] = field(default_factory=dict)
    """Name -> operator, inputs, functions named in its attributes."""
    arguments: list[str] = field(default_factory=list)


def recognise(sight: Sight) -> Claim:
    """A schema version of 1, then a meta graph that ends within the file."""
    if bytes(sight.view[:3]) != _HEAD:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a SavedModel of schema version 1")


def read(sight: Sight, scope: Scope) -> Reading:
    """Walk all graphs, then rules 2 and 3."""
    wire = _Wire(sight.view, scope.settings)
    graphs = list(wire.graphs())
    reasons = tuple(_check(graphs))[:MAX_REASONS]
    return Reading(covered=len(sight), reasons=reasons, facts={"functions": len(graphs), "nodes": sum(len(one.nodes) for one in graphs)})


def recognise_folder(names: frozenset[str]) -> Claim:
    """`saved_model.pb` at the top."""
    if "saved_model.pb" in names:
        return Claim(strength="certain", kind=NAME, because="`saved_model.pb` at its top")
    return NOT_MINE


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """Each file was read on its own; there is no rule across them."""
    del scope
    names = folder.names
    sizes = [len(sight) for name in names if (sight := folder.sight(name)) is not None]
    return Reading(covered=sum(sizes), facts={"files": len(names)})


class _Wire:
    """Walks the protobuf messages that say what is executed (rule 1)."""

    def __init__(self, view: memoryview, settings: ScanSettings) -> None:
        self._view, self._settings = view, settings
        self._varint = WireReader(view, {}, settings, format_name=NAME, remedy=REMEDY).varint
        self._left = settings.max_fields

    def graphs(self) -> Iterator[_Graph]:
        """Graphs of all meta graphs and functions."""
        for _, meta in self._inside((0, len(self._view)), 2):
            for index, (_, graph) in enumerate(self._inside(meta, 2)):
                found = _Graph(f"graph {index}")
                for number, span in self._inside(graph, 1, 2):
                    if number == 1:
                        self._node(found, span)
                    else:
                        for _, function in self._inside(span, 1):
                            yield self._function(function)
                yield found

    def _function(self, span: tuple[int, int]) -> _Graph:
        """FunctionDef: 1 signature (OpDef: 1 name, 2 input_arg), 3 node_def."""
        found = _Graph("")
        for number, inner in self._inside(span, 1, 3):
            if number == 3:
                self._node(found, inner)
                continue
            for part, value in self._inside(inner, 1, 2):
                if part == 1:
                    found.name = self._text(value)
                else:
                    found.arguments += [self._text(name) for _, name in self._inside(value, 1)]
        return found

    def _node(self, graph: _Graph, span: tuple[int, int]) -> None:
        """NodeDef: 1 name, 2 op, 3 input, 5 attr (key, AttrValue: 10 func, 1 list (9 func))."""
        name = operator = ""
        inputs: list[str] = []
        functions: list[str] = []
        for number, value in self._inside(span, 1, 2, 3, 5):
            if number == 1:
                name = self._text(value)
            elif number == 2:
                operator = self._text(value)
            elif number == 3:
                inputs.append(self._text(value))
            else:
                functions += self._functions(value)
        if name in graph.nodes:
            _refuse("duplicate-node", at(span[0]), f"two nodes are named `{shown(name)}`")
        graph.nodes[name] = (operator, inputs, functions)

    def _functions(self, attribute: tuple[int, int]) -> Iterator[str]:
        for _, value in self._inside(attribute, 2):
            for number, inner in self._inside(value, 1, 10):
                named = [inner] if number == 10 else [one for _, one in self._inside(inner, 9)]
                for one in named:
                    yield from (self._text(text) for _, text in self._inside(one, 1))

    def _inside(self, span: tuple[int, int], *wanted: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """(number, bytes) of the length-delimited fields asked for; every other field is stepped over exactly."""
        here, end = span
        while here < end:
            self._left -= 1
            if self._left < 0:
                _refuse("too-many-fields", at(here), f"more than {self._settings.max_fields} fields")
            start = here
            tag, here = self._varint(here, end)
            number, wire = tag >> 3, tag & 7
            if wire == 2:
                size, here = self._varint(here, end)
                if number in wanted and here + size <= end:
                    yield number, (here, here + size)
                here += size
            elif wire == 0:
                _, here = self._varint(here, end)
            elif wire in (1, 5):
                here += 8 if wire == 1 else 4
            if wire not in (0, 1, 2, 5) or not number or here > end or (number in wanted and wire != 2):
                _refuse("wire", at(start), "a field is cut short, or of a wire type that SavedModels do not have")

    def _text(self, span: tuple[int, int]) -> str:
        if span[1] - span[0] > self._settings.max_name_bytes:
            _refuse("text-size", at(span[0]), f"a name has more than {self._settings.max_name_bytes} bytes")
        try:
            return str(self._view[span[0] : span[1]], "utf-8")
        except UnicodeDecodeError:
            _refuse("utf8", at(span[0]), "a name is not UTF-8")


def _check(graphs: list[_Graph]) -> Iterator[Reason]:
    library = {graph.name: graph for graph in graphs}
    for graph in graphs:
        for name, (operator, _, functions) in graph.nodes.items():
            where = f"node `{shown(name)}` of `{shown(graph.name)}`"
            if operator not in COMPUTING and operator not in library:
                yield _reason(
                    "operator", where, f"`{shown(operator)}` is no operator that only computes: it reaches files, code or other machines"
                )
            for function in functions:
                if function not in library:
                    yield _reason("function", where, f"it calls `{shown(function)}`, which is not in the model's own library")
    named = _file_arguments(graphs, library)
    for graph in graphs:
        for name, (operator, inputs, functions) in graph.nodes.items():
            for place in _file_places(operator, functions, named, library):
                if place < len(inputs) and _sources(graph, inputs[place]) == {"Const"}:
                    where = f"node `{shown(name)}` of `{shown(graph.name)}`"
                    yield _reason("constant-file", where, "it writes or reads a file that the model names itself")


def _file_places(operator: str, functions: list[str], named: dict[str, set[int]], library: dict[str, _Graph]) -> set[int]:
    if operator in FILES:
        return {0, 1} if operator == "MergeV2Checkpoints" else {0}
    called = functions if operator in _CALLS else [operator] if operator in library else []
    return set().union(*(named.get(one, set()) for one in called)) if called else set()


def _file_arguments(graphs: list[_Graph], library: dict[str, _Graph]) -> dict[str, set[int]]:
    """For each function, which of its arguments end up as a file's name; until nothing changes."""
    named: dict[str, set[int]] = {}
    for _ in range(len(graphs) + 1):
        before = {name: set(places) for name, places in named.items()}
        for graph in graphs:
            for operator, inputs, functions in graph.nodes.values():
                for place in _file_places(operator, functions, named, library):
                    roots = _sources(graph, inputs[place]) if place < len(inputs) else set()
                    named.setdefault(graph.name, set()).update(index for index, one in enumerate(graph.arguments) if f"${one}" in roots)
        if before == named:
            break
    return named


def _sources(graph: _Graph, name: str) -> set[str]:
    """Operators and arguments (`$name`) that a value is made of."""
    found: set[str] = set()
    waiting, seen = [name], set()
    while waiting:
        one = waiting.pop().lstrip("^").partition(":")[0]
        if one in seen:
            continue
        seen.add(one)
        operator, inputs, _ = graph.nodes.get(one, ("$" + one, [], []))
        if operator in _PASSED_ON:
            waiting += inputs
        else:
            found.add(operator)
    return found if len(found) == 1 or "Const" not in found else found - {"Const"}


def _reason(rule: str, where: str, why: str) -> Reason:
    return Reason(rule=f"{NAME}:{rule}", where=where, why=why, remedy=REMEDY)


def _refuse(rule: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", where, why, REMEDY)
