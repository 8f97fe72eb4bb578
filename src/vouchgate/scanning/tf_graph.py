"""TensorFlow graphs of one meta graph, and what in them can touch a file.

Rules
1. An operator is one that only computes (tf_operators.py), or a function of the model's own library, which is held to the same rule.
2. The name of a file that is saved or restored begins with what the caller hands in: a placeholder, a function's argument, or the constant that the
   saver feeds. What is joined behind it does not climb (`..`). A name computed in any other way is refused.
3. A vocabulary's file is an asset: the constant that the loader feeds with the asset's path, or a captured asset.
4. What a signature computes touches no file at all; what runs when the model is loaded touches none but assets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vouchgate.scanning.scope import shown
from vouchgate.scanning.tf_operators import ATTRIBUTES, COMPUTING, FILES
from vouchgate.scanning.verdict import Reason, Refuse

REMEDY = "export the model again with standard operators only, or convert it to ONNX and import that"
INITIALISER = "__saved_model_init_op"
_SAME = frozenset({"Identity", "Pack", "Reshape", "ExpandDims", "ConcatV2", "Squeeze"})
"""Operators whose every input may become the name, or a part of the list of names."""
_LED = frozenset({"StringJoin", "ShardedFilename"})
"""Operators whose first input is the beginning of the name."""
_CHOICES = frozenset({"Select", "SelectV2"})
_SHIFTED = {
    "PartitionedCall": 0, "StatefulPartitionedCall": 0, "While": 0, "StatelessWhile": 0, "If": -1, "StatelessIf": -1, "Case": -1, "StatelessCase": -1,
    "For": -2,
}  # fmt: skip
"""Operators that call the functions in their attributes -> how a function's arguments lie beside the operator's inputs."""
_LOOPS = frozenset({"While", "StatelessWhile", "For"})
"""What a loop's function gets is what it gave the time before: no input stands for it."""
_UNCOUNTED = 10**6
"""The same for functions that an operator outside that table calls."""
MAX_STEPS = 1_000_000
"""Steps from files' names back to where they come from, in one meta graph (about 2 s in all); a large model takes 10,000."""
Kind = str
"""`save` or `table`."""
Places = dict[Kind, set[int]]


@dataclass(slots=True)
class Node:
    """An operator at work."""

    operator: str
    inputs: tuple[str, ...]
    functions: tuple[str, ...] = ()
    """Named in its attributes, at any depth."""
    texts: tuple[bytes, ...] | None = ()
    """A constant's texts; None where they are too many or too long to be a file's name."""
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    """Texts of the attributes that `ATTRIBUTES` asks for."""

    def data(self, place: int) -> str | None:
        """The name of a data input."""
        found = self.inputs[place] if 0 <= place < len(self.inputs) else "^"
        return None if found.startswith("^") else found


@dataclass
class Graph:
    """The graph (without a name), or one function of the library."""

    name: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    listed: bool = False
    """An argument stands for several tensors, so that places cannot be counted."""
    steps: list[int] = field(default_factory=lambda: [MAX_STEPS])
    """What is left of `MAX_STEPS`; one list for all graphs of a meta graph."""

    def spend(self, steps: int = 1) -> None:
        """Pay. Raises `Refuse`."""
        self.steps[0] -= steps
        if self.steps[0] < 0:
            why = f"where its files' names come from takes over {MAX_STEPS} steps to find out"
            raise Refuse("tf-savedmodel:too-complex", f"function `{shown(self.name)}`", why, REMEDY)


@dataclass
class Meta:
    """What one meta graph says."""

    graph: Graph
    library: dict[str, Graph]
    assets: frozenset[str] = frozenset()
    """Nodes that the loader feeds with the path of an asset."""
    saver: frozenset[str] = frozenset()
    """Nodes that the saver feeds with the path of a checkpoint."""
    signatures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Signature -> nodes that it computes."""
    starting: tuple[str, ...] = ()
    """Nodes that run when the model is loaded."""
    bound: list[tuple[str, tuple[bool, ...]]] = field(default_factory=list)
    """Function -> for each of its last arguments, whether it is bound to an asset."""


def check(meta: Meta) -> Iterator[Reason]:
    """Rules 1 to 4."""
    graphs = (meta.graph, *meta.library.values())
    for graph in graphs:
        for name, node in graph.nodes.items():
            yield from _operator(graph, name, node, meta.library)
    places = _places(meta.library)
    for graph in graphs:
        for name, node in graph.nodes.items():
            for kind, place in _named_by(node, places):
                yield from _file(meta, graph, name, node, kind, place)
    for function, assets in meta.bound:
        yield from _bound(meta, function, assets, places)
    yield from _reached(meta)


def _operator(graph: Graph, name: str, node: Node, library: Mapping[str, Graph]) -> Iterator[Reason]:
    """Rule 1."""
    operator = node.operator
    if operator not in COMPUTING and operator not in library:
        why = f"`{shown(operator)}` is no operator that only computes: it reaches files, code or other machines"
        yield reason("operator", _where(graph, name), why)
    for function in node.functions:
        if function not in library:
            yield reason("function", _where(graph, name), f"it calls `{shown(function)}`, which is not in the model's own library")
    if operator in _SHIFTED and not node.functions:
        yield reason("function", _where(graph, name), "which function it calls is not said")
    if operator in ATTRIBUTES:
        attribute, allowed = ATTRIBUTES[operator]
        if node.attributes.get(attribute, allowed[0]) not in allowed:
            yield reason("operator", _where(graph, name), f"its `{attribute}` can be a file that it writes")


def _calls(node: Node, places: Mapping[str, Places]) -> Iterator[tuple[str, int]]:
    """(function, by how much its arguments are shifted) that a node calls and whose arguments name files."""
    if node.operator in places:
        yield node.operator, 0
    for function in node.functions:
        if function in places:
            yield function, _SHIFTED.get(node.operator, _UNCOUNTED)


def _named_by(node: Node, places: Mapping[str, Places]) -> Iterator[tuple[Kind, int]]:
    """(kind, input) of the inputs that name a file."""
    if node.operator in FILES:
        own, inputs = FILES[node.operator]
        yield from ((own, place) for place in inputs)
    for function, shift in _calls(node, places):
        for kind, wanted in places[function].items():
            for place in wanted:
                yield kind, -1 if node.operator in _LOOPS or shift == _UNCOUNTED else place - shift


def _places(library: Mapping[str, Graph]) -> dict[str, Places]:
    """For each function, which arguments end up as a file's name; until nothing changes."""
    found: dict[str, Places] = {}
    callers: dict[str, set[str]] = {}
    for graph in library.values():
        for node in graph.nodes.values():
            for function in (*node.functions, node.operator):
                if function in library:
                    callers.setdefault(function, set()).add(graph.name)
    waiting = list(library)
    while waiting:
        graph = library[waiting.pop()]
        mine = _own_places(graph, found)
        if mine != found.get(graph.name, {}):
            found[graph.name] = mine
            waiting += callers.get(graph.name, ())
    return found


def _own_places(graph: Graph, found: Mapping[str, Places]) -> Places:
    index = {f"${name}": place for place, name in enumerate(graph.arguments)}
    mine: Places = {}
    graph.spend(len(graph.nodes))
    for node in graph.nodes.values():
        for kind, place in _named_by(node, found):
            source = node.data(place)
            tags = {tag for tag, _ in _sources(graph, source)} if source is not None else set()
            mine.setdefault(kind, set()).update(index[tag] for tag in tags if tag in index)
    return mine


def _sources(graph: Graph, name: str) -> Iterator[tuple[str, bool]]:
    """(tag, whether it begins the value): `$argument`, `placeholder:node`, `constant:node`, or `other:operator`."""
    waiting, seen = [(name, True)], set()
    while waiting:
        graph.spend()
        here, leads = waiting.pop()
        one = here.partition(":")[0]
        if (one, leads) in seen:
            continue
        seen.add((one, leads))
        node = graph.nodes.get(one)
        if node is None:
            yield (f"${one}" if one in graph.arguments else f"other:{one}"), leads
        elif node.operator in ("Placeholder", "PlaceholderV2"):
            yield f"placeholder:{one}", leads
        elif node.operator in ("Const", "PlaceholderWithDefault"):
            yield f"constant:{one}", leads
        else:
            data = [part for part in node.inputs if not part.startswith("^")]
            if node.operator in _LED:
                waiting += [(part, leads and not index) for index, part in enumerate(data) if not index or node.operator == "StringJoin"]
            elif node.operator in _SAME or node.operator in _CHOICES:
                waiting += [(part, leads) for part in (data[1:] if node.operator in _CHOICES else data)]
            else:
                yield f"other:{node.operator}", leads


def _file(meta: Meta, graph: Graph, name: str, node: Node, kind: Kind, place: int) -> Iterator[Reason]:
    """Rules 2 and 3 for one input of one node."""
    source = node.data(place)
    if source is None and place >= 0:
        return  # TensorFlow runs no operator that lacks an input
    tags = [("other:a loop", True)] if source is None else list(_sources(graph, source))
    where = _where(graph, name)
    if graph.listed:
        yield reason("computed-file", where, "it touches a file within a function whose arguments cannot be counted")
    for tag, leads in tags:
        how, _, one = tag.partition(":")
        if how == "other" and not (kind == "table" and _is_asset_variable(meta, graph, source)):
            yield reason("computed-file", where, f"the name of a file that it touches is made by `{shown(one)}`, not handed in")
        elif how == "constant" and leads and not _fed(meta, graph, one, kind):
            why = (
                "it fills a table from a file that is no asset of the model"
                if kind == "table"
                else "it writes or reads a file that the model names itself"
            )
            yield reason("constant-file", where, why)
        elif how == "constant" and not leads and _climbs(graph.nodes[one]):
            yield reason("constant-file", where, "what it puts behind the name handed in leads elsewhere")


def _is_asset_variable(meta: Meta, graph: Graph, name: str | None) -> bool:
    """Whether a value is read from a variable into which nothing but the path of an asset is put (TensorFlow 2 for loaders of TensorFlow 1)."""
    read = graph.nodes.get((name or "").partition(":")[0])
    if graph is not meta.graph or read is None or read.operator != "ReadVariableOp":
        return False
    handle = (read.data(0) or "").partition(":")[0]
    variable = graph.nodes.get(handle)
    if variable is None or variable.operator != "VarHandleOp" or not variable.attributes.get("shared_name"):
        return False
    everywhere = [node for one in (graph, *meta.library.values()) for node in one.nodes.values()]
    graph.spend(len(everywhere))
    shared = [
        node
        for node in everywhere
        if node.operator == "VarHandleOp" and node.attributes.get("shared_name") == variable.attributes["shared_name"]
    ]
    users = [node for node in graph.nodes.values() if any(part.lstrip("^").partition(":")[0] == handle for part in node.inputs)]
    return len(shared) == 1 and all(
        node.operator in ("ReadVariableOp", "VarIsInitializedOp")
        or (node.operator == "AssignVariableOp" and (node.data(1) or "").partition(":")[0] in meta.assets)
        for node in users
    )


def _fed(meta: Meta, graph: Graph, name: str, kind: Kind) -> bool:
    """Whether a loader puts its own value in a constant's or a placeholder's place (`PlaceholderWithDefault` of another, too)."""
    fed = meta.assets if kind == "table" else meta.saver
    if graph is not meta.graph:
        return False
    for _ in range(4):
        node = graph.nodes.get(name)
        if name in fed:
            return True
        if node is None or node.operator != "PlaceholderWithDefault" or not node.inputs:
            return False
        name = node.inputs[0].partition(":")[0]
    return False


def _climbs(node: Node) -> bool:
    return node.operator != "Const" or node.texts is None or any(b".." in text for text in node.texts)


def _bound(meta: Meta, function: str, assets: tuple[bool, ...], places: Mapping[str, Places]) -> Iterator[Reason]:
    """Captured values stand for a function's last arguments (rules 2 and 3)."""
    graph = meta.library.get(function)
    if graph is None:
        yield reason("function", f"function `{shown(function)}`", "an object calls it, and it is not in the model's own library")
        return
    first = len(graph.arguments) - len(assets)
    for kind, wanted in places.get(function, {}).items():
        for place in wanted:
            if place >= first and (kind != "table" or first < 0 or not assets[place - first]):
                why = "a file that it touches is named by what the model captured, which is no asset"
                yield reason("constant-file", f"function `{shown(function)}`", why)


def _reached(meta: Meta) -> Iterator[Reason]:
    """Rule 4."""
    touching = _touching(meta)
    for name, roots in (*meta.signatures.items(), (INITIALISER, meta.starting)):
        kinds = {kind for node in _ancestors(meta.graph, roots) for kind in touching.get(node, ())}
        if "save" in kinds or ("table" in kinds and name != INITIALISER):
            yield reason("file-in-signature", f"signature `{shown(name)}`", "what it computes touches files, without anybody asking for it")


def _touching(meta: Meta) -> dict[str, set[Kind]]:
    """Nodes of the graph that touch files, themselves or in what they call."""
    own = {
        name: {FILES[node.operator][0] for node in graph.nodes.values() if node.operator in FILES} for name, graph in meta.library.items()
    }
    called = {
        name: {one for node in graph.nodes.values() for one in (*node.functions, node.operator) if one in meta.library}
        for name, graph in meta.library.items()
    }
    callers: dict[str, set[str]] = {}
    for name, callees in called.items():
        for one in callees:
            callers.setdefault(one, set()).add(name)
    waiting = [name for name, kinds in own.items() if kinds]
    while waiting:
        one = waiting.pop()
        for name in callers.get(one, ()):
            if not own[one] <= own[name]:
                own[name] |= own[one]
                waiting.append(name)
    found = {}
    for name, node in meta.graph.nodes.items():
        kinds = {FILES[node.operator][0]} if node.operator in FILES else set()
        found[name] = kinds.union(*(own.get(one, set()) for one in (*node.functions, node.operator)))
    return found


def _ancestors(graph: Graph, roots: tuple[str, ...]) -> set[str]:
    waiting, seen = [root.lstrip("^").partition(":")[0] for root in roots], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        node = graph.nodes.get(one)
        waiting += [part.lstrip("^").partition(":")[0] for part in node.inputs] if node else []
    return seen


def _where(graph: Graph, name: str) -> str:
    return f"node `{shown(name)}` of `{shown(graph.name or 'the graph')}`"


def reason(rule: str, where: str, why: str) -> Reason:
    """One thing that speaks against a graph."""
    return Reason(rule=f"tf-savedmodel:{rule}", where=where, why=why, remedy=REMEDY)
