"""A SavedModel's messages made into graphs, field by field against the table of tf_schema.py.

Rules
1. Unknown fields, and singular ones that occur twice, are refused: no runtime sees another model than the scan.
2. Nodes, functions, objects and operators' definitions are read one at a time; what they say beside what is kept is let go.
3. No two nodes of a graph, nor functions of a library, have the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from vouchgate.scanning.protobuf_wire import Message, Span, WireReader
from vouchgate.scanning.scope import shown
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.tf_graph import INITIALISER, REMEDY, Graph, Meta, Node
from vouchgate.scanning.tf_operators import ATTRIBUTES
from vouchgate.scanning.tf_schema import SCHEMA
from vouchgate.scanning.verdict import Refuse, at

_STARTING = frozenset({"saved_model_main_op", "legacy_init_op"})
"""Collections whose nodes a loader of TensorFlow 1 runs."""
_ASSETS = "saved_model_assets"
_NAMED = {name: frozenset({attribute}) for name, (attribute, _) in ATTRIBUTES.items()} | {"VarHandleOp": frozenset({"shared_name"})}
"""Operators of whose attributes some are kept."""
MAX_TEXTS = 16
"""Texts kept of one constant; a file's name has one."""
MAX_TEXT = 4_096
"""Bytes of one of them (PATH_MAX)."""


class Reader:
    """Reads one file's messages."""

    def __init__(self, view: memoryview, settings: ScanSettings) -> None:
        self._view = view
        self._wire = WireReader(view, SCHEMA, settings, format_name="tf-savedmodel", remedy=REMEDY)
        self.assets: set[str] = set()
        """Files that the model takes for its assets."""
        self.described: list[tuple[str, bytes]] = []
        """(identifier, description) of objects that have one: before TensorFlow 2.5, Keras's metadata stood there."""

    def saved_model(self) -> Iterator[Meta]:
        """The meta graphs of a `saved_model.pb`, one at a time."""
        model = self.message("SavedModel", Span(begin=0, end=len(self._view)))
        if model.get("saved_model_schema_version") != 1 or not model.get("meta_graphs"):
            self._refuse("version", 0, "it has no meta graph, or a version other than 1")
        for one in model["meta_graphs"]:
            yield self._meta(one)

    def message(self, kind: str, span: Span, depth: int = 0) -> Message:
        """One message. Raises `Refuse`."""
        return self._wire.message(kind, span.begin, span.end, depth)

    def text(self, span: Span) -> bytes:
        """A bytes field."""
        return bytes(self._view[span.begin : span.end])

    def _meta(self, one: Message) -> Meta:
        definition = one.get("graph_def", {})
        library: dict[str, Graph] = {}
        graph = Graph()
        self._nodes(graph, definition.get("node", ()))
        for span in definition.get("library", {}).get("function", ()):
            function = self._function(span, graph.steps)
            if function.name in library or not function.name:
                self._refuse("duplicate-function", span.begin, f"two functions are named `{shown(function.name)}`, or one has no name")
            library[function.name] = function
        for span in one.get("meta_info_def", {}).get("stripped_op_list", {}).get("op", ()):
            self.message("OpDef", span)
        signatures = {entry.get("key", ""): _outputs(entry.get("value", {})) for entry in one.get("signature_def", ())}
        if len(signatures) != len(one.get("signature_def", ())):
            self._refuse("duplicate-signature", 0, "two signatures have the same name")
        starting = signatures.pop(INITIALISER, ())
        for entry in one.get("collection_def", ()):
            if entry.get("key") in _STARTING:
                starting = (*starting, *entry.get("value", {}).get("node_list", {}).get("value", ()))
        saver = one.get("saver_def", {}).get("filename_tensor_name", "")
        return Meta(
            graph=graph,
            library=library,
            assets=frozenset(_assets(self._asset_files(one), self.assets)),
            saver=frozenset({saver.partition(":")[0]} if saver else ()),
            signatures=signatures,
            starting=starting,
            bound=self._bound(one.get("object_graph_def", {})),
        )

    def _asset_files(self, one: Message) -> list[Message]:
        """The field, else the collection in which TensorFlow 1 keeps them, as the loader looks for them."""
        if one.get("asset_file_def"):
            return list(one["asset_file_def"])
        lists = (entry.get("value", {}).get("any_list", {}) for entry in one.get("collection_def", ()) if entry.get("key") == _ASSETS)
        return [self.message("AssetFileDef", each["value"]) for held in lists for each in held.get("value", ()) if "value" in each]

    def _function(self, span: Span, steps: list[int]) -> Graph:
        found = self.message("FunctionDef", span)
        signature = found.get("signature", {})
        arguments = signature.get("input_arg", ())
        graph = Graph(
            name=signature.get("name", ""),
            arguments=tuple(one.get("name", "") for one in arguments),
            listed=any("number_attr" in one or "type_list_attr" in one for one in arguments),
            steps=steps,
        )
        self._nodes(graph, found.get("node_def", ()))
        if not graph.nodes.keys().isdisjoint(graph.arguments) or len(set(graph.arguments)) != len(graph.arguments):
            self._refuse("duplicate-node", span.begin, "an argument is named as another, or as a node")
        return graph

    def _nodes(self, graph: Graph, spans: Sequence[Span]) -> None:
        for span in spans:
            node = self.message("NodeDef", span)
            name, operator, attributes = node.get("name", ""), node.get("op", ""), node.get("attr", ())
            if name in graph.nodes or not name:
                self._refuse("duplicate-node", span.begin, f"two nodes are named `{shown(name)}`, or one has no name")
            graph.nodes[name] = Node(
                operator=operator,
                inputs=tuple(node.get("input", ())),
                functions=tuple(function for one in attributes for function in _functions(one.get("value", {}))),
                texts=self._texts(attributes) if operator == "Const" else (),
                attributes=self._attributes(attributes, _NAMED[operator]) if operator in _NAMED else {},
            )

    def _texts(self, attributes: Sequence[Message]) -> tuple[bytes, ...] | None:
        """Short texts of a constant."""
        spans = [span for one in attributes for span in one.get("value", {}).get("tensor", {}).get("string_val", ())]
        if len(spans) > MAX_TEXTS or any(span.end - span.begin > MAX_TEXT for span in spans):
            return None
        return tuple(map(self.text, spans))

    def _attributes(self, attributes: Sequence[Message], wanted: frozenset[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for one in attributes:
            if one.get("key") in wanted:
                span = one.get("value", {}).get("s")
                found[one["key"]] = self.text(span) if span and one["key"] not in found else b"?"
        return found

    def _bound(self, graph: Message) -> list[tuple[str, tuple[bool, ...]]]:
        assets, found = [], []
        for span in graph.get("nodes", ()):
            one = self.message("SavedObject", span)
            assets.append("asset" in one)
            user = one.get("user_object", {})
            if "metadata" in user:
                self.described.append((user.get("identifier", ""), self.text(user["metadata"])))
        for entry in graph.get("concrete_functions", ()):
            span = entry.get("value", {}).get("bound_inputs", Span(begin=0, end=0))
            here, places = span.begin, []
            while here < span.end:
                place, here = self._wire.varint(here, span.end)
                if place >= len(assets):
                    self._refuse("object", here, "a function is bound to an object that is not there")
                places.append(assets[place])
            found.append((entry.get("key", ""), tuple(places)))
        return found

    def _refuse(self, rule: str, offset: int, why: str) -> NoReturn:
        raise Refuse(f"tf-savedmodel:{rule}", at(offset), why, REMEDY)


def _outputs(signature: Message) -> tuple[str, ...]:
    return tuple(name for entry in signature.get("outputs", ()) for name in _tensors(entry.get("value", {})))


def _tensors(info: Message) -> Iterator[str]:
    """Names of the nodes that a tensor of a signature is made of."""
    if "name" in info:
        yield info["name"]
    yield from info.get("coo_sparse", {}).values()
    for one in info.get("composite_tensor", {}).get("components", ()):
        yield from _tensors(one)


def _assets(definitions: Sequence[Message], files: set[str]) -> Iterator[str]:
    for one in definitions:
        files.add(one.get("filename", ""))
        yield from (name.partition(":")[0] for name in _tensors(one.get("tensor_info", {})))


def _functions(value: dict[str, Any]) -> Iterator[str]:
    """Functions that an attribute names, those in their own attributes too."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for function in [one["func"]] if "func" in one else one.get("list", {}).get("func", ()):
            yield function.get("name", "")
            waiting += [entry.get("value", {}) for entry in function.get("attr", ())]
