"""ONNX by exact structure: the whole protobuf is walked, every operator named, every initialiser measured.

Rules
1. The wire is read against the message table (protobuf_wire.py): nothing unknown, doubled, truncated or behind the end.
2. Operators come from ONNX's own domains (`""`, `ai.onnx`, `ai.onnx.ml`), from those of onnxruntime that quantised and optimised models need, and
   from their lists, or are functions that the model itself defines; functions do not call themselves, do not shadow an operator, and do not
   multiply beyond a bound. Any other operator is custom: its code comes from outside the model.
3. No tensor lies outside the file (`external_data`, CVE-2022-25882, CVE-2024-27318, CVE-2024-5187): its path is the model's to choose.
4. A tensor's data is exactly dims x data_type, in exactly one field.
5. Subgraphs, functions, training graphs, sparse tensors and attributes are held to the same rules, at any depth up to the bound.
6. No opaque types. Metadata that would act if shown, or that sets the runtime's options, is put up for review.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from vouchgate.scanning.active_text import first_active
from vouchgate.scanning.onnx_operators import OPERATORS, OWN_DOMAINS
from vouchgate.scanning.onnx_schema import EXTERNAL, IR_VERSIONS, PER_INT32, SCHEMA, STRING, TENSOR_BITS, TYPED_DATA
from vouchgate.scanning.protobuf_wire import Message, Numbers, Span, WireReader
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, Weight

NAME = "onnx"
REMEDY = "export the model again with the framework's own ONNX exporter"
CUSTOM_REMEDY = "export with standard operators only (opset of `ai.onnx` or `ai.onnx.ml`), or as functions defined inside the model"
EXTERNAL_REMEDY = "save the model with its weights inside (`onnx.save_model(..., save_as_external_data=False)`)"
MAX_ELEMENTS = 2**48
"""Elements of one tensor; a product beyond it cannot be data in a file."""
MAX_FACT_TEXT = 400
"""Characters of one text among the facts."""
RUNTIME_OPTIONS = "ort_config"
"""Metadata key from which onnxruntime takes session options where ORT_LOAD_CONFIG_FROM_MODEL is set."""
_IR_VERSION_TAG = 0x08
_NEXT_TAGS = frozenset((0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42))
_DATA_FIELDS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

FunctionKey = tuple[str, str, str]
"""Domain, name, overload."""


def recognise(sight: Sight) -> Claim:
    """`ir_version` first, as every writer of ONNX puts it, then another field of ModelProto."""
    view = sight.view
    if len(view) < 3 or view[0] != _IR_VERSION_TAG or view[1] not in IR_VERSIONS or view[2] not in _NEXT_TAGS:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because=f"an ONNX model of IR version {view[1]}", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Walk every byte, then check what the model says."""
    view, settings = sight.view, scope.settings
    model = WireReader(view, SCHEMA, settings, format_name=NAME, remedy=REMEDY).message("ModelProto", 0, len(view))
    if model.get("ir_version") not in IR_VERSIONS:
        _refuse("ir-version", "ir_version", f"IR version {model.get('ir_version')} is not one that was reviewed", REMEDY)
    if "graph" not in model:
        _refuse("no-graph", "model", "it has no graph", REMEDY)
    check = _Check(model, settings)
    check.run()
    return Reading(covered=len(view), reasons=_review(model), facts=check.facts())


class _Check:
    """One pass over the parsed model."""

    def __init__(self, model: Message, settings: ScanSettings) -> None:
        self._model, self._settings = model, settings
        self._functions: dict[FunctionKey, Message] = {}
        self._operators: Counter[str] = Counter()
        self._tensors = self._parameters = self._tensor_bytes = 0
        self._expanded: dict[FunctionKey, int] = {}

    def run(self) -> None:
        self._collect_functions()
        self._imports(self._model.get("opset_import", []), "model")
        if not self._model.get("opset_import"):
            _refuse("no-opset", "model", "it imports no operator set, so what its operators mean is not said", REMEDY)
        total = 0
        for key in self._functions:
            total += self._expanded_size(key, ())
        total += self._graph(self._model["graph"], "graph")
        for index, training in enumerate(self._model.get("training_info", [])):
            for part in ("initialization", "algorithm"):
                total += self._graph(training.get(part, {}), f"training_info[{index}].{part}")
        self._bounded(total, "model")

    def facts(self) -> dict[str, Any]:
        imports = sorted({(item.get("domain") or "ai.onnx", item.get("version", 0)) for item in self._model.get("opset_import", [])})
        return {
            "ir_version": self._model["ir_version"],
            "opset": ", ".join(f"{domain} {version}" for domain, version in imports)[:MAX_FACT_TEXT],
            "producer": f"{self._model.get('producer_name', '')} {self._model.get('producer_version', '')}".strip()[:MAX_FACT_TEXT],
            "operators": dict(sorted(self._operators.items())),
            "functions": len(self._functions),
            "tensors": self._tensors,
            "parameters": self._parameters,
            "tensor_bytes": self._tensor_bytes,
            "inputs": [_show(item.get("name", "")) for item in self._model["graph"].get("input", [])][:64],
            "outputs": [_show(item.get("name", "")) for item in self._model["graph"].get("output", [])][:64],
        }

    def _collect_functions(self) -> None:
        for function in self._model.get("functions", []):
            key = (function.get("domain", ""), function.get("name", ""), function.get("overload", ""))
            where = f"function `{_show('.'.join(key[:2]))}`"
            if key in self._functions:
                _refuse("duplicate-function", where, "it is defined twice", REMEDY)
            if key[0] in OWN_DOMAINS or key[1] in OPERATORS.get(key[0], ()):
                _refuse("shadowing", where, "it is defined where it could stand in for an operator of the runtime's own", REMEDY)
            self._functions[key] = function

    def _imports(self, imports: list[Message], where: str) -> None:
        """One version a domain (`""` and `ai.onnx` are one); some exporters write the same line twice, which says nothing new."""
        seen: dict[str, int] = {}
        own = {key[0] for key in self._functions}
        for item in imports:
            domain, version = item.get("domain", ""), item.get("version", 0)
            if seen.setdefault(domain or "ai.onnx", version) != version:
                _refuse("two-opsets", where, f"operator set `{_show(domain)}` is imported in two versions, and readers differ", REMEDY)
            if domain not in OPERATORS and domain not in own:
                _refuse(
                    "custom-domain",
                    where,
                    f"it imports the operator set `{_show(domain)}`, which is neither ONNX's nor onnxruntime's",
                    CUSTOM_REMEDY,
                )

    def _expanded_size(self, key: FunctionKey, path: tuple[FunctionKey, ...]) -> int:
        """Nodes of a function with everything it calls written out; each function is checked once."""
        where = f"function `{_show('.'.join(key[:2]))}`"
        if key in path:
            _refuse("recursion", where, "it calls itself", REMEDY)
        if len(path) >= self._settings.max_depth:
            _refuse("call-depth", where, f"functions call each other deeper than {self._settings.max_depth}", REMEDY)
        if key not in self._expanded:
            function = self._functions[key]
            self._imports(function.get("opset_import", []), where)
            size = 0
            for attribute in function.get("attribute_proto", []):
                size += self._attribute(attribute, where, (*path, key))
            for value in function.get("value_info", []):
                self._type(value.get("type", {}), where)
            for node in function.get("node", []):
                size += self._node(node, where, (*path, key))
            self._expanded[key] = self._bounded(size, where)
        return self._expanded[key]

    def _graph(self, graph: Message, where: str, path: tuple[FunctionKey, ...] = ()) -> int:
        names: set[str] = set()
        for tensor in graph.get("initializer", []):
            self._tensor(tensor, where, names)
        for sparse in graph.get("sparse_initializer", []):
            self._sparse(sparse, where, names)
        for part in ("input", "output", "value_info"):
            for value in graph.get(part, []):
                self._type(value.get("type", {}), f"{where} {part} `{_show(value.get('name', ''))}`")
        size = 0
        for node in graph.get("node", []):
            size += self._node(node, where, path)
        return self._bounded(size, where)

    def _node(self, node: Message, where: str, path: tuple[FunctionKey, ...]) -> int:
        domain, operator = node.get("domain", ""), node.get("op_type", "")
        here = f"{where} node `{_show(node.get('name') or operator)}`"
        size = 1
        key = (domain, operator, node.get("overload", ""))
        if key in self._functions:
            size += self._expanded_size(key, path)
        elif operator not in OPERATORS.get(domain, ()):
            full = f"{domain}.{operator}" if domain else operator
            _refuse(
                "custom-operator",
                here,
                f"`{_show(full)}` is no operator of ONNX or onnxruntime that is known, its code comes from outside",
                CUSTOM_REMEDY,
            )
        self._operators[operator if not domain else f"{domain}.{operator}"] += 1
        for attribute in node.get("attribute", []):
            size += self._attribute(attribute, here, path)
        return self._bounded(size, here)

    def _attribute(self, attribute: Message, where: str, path: tuple[FunctionKey, ...]) -> int:
        here = f"{where} attribute `{_show(attribute.get('name', ''))}`"
        for tensor in (*_one(attribute, "t"), *attribute.get("tensors", [])):
            self._tensor(tensor, here)
        for sparse in (*_one(attribute, "sparse_tensor"), *attribute.get("sparse_tensors", [])):
            self._sparse(sparse, here)
        for kind in (*_one(attribute, "tp"), *attribute.get("type_protos", [])):
            self._type(kind, here)
        return sum(self._graph(graph, here, path) for graph in (*_one(attribute, "g"), *attribute.get("graphs", [])))

    def _type(self, kind: Message, where: str) -> None:
        if "opaque_type" in kind:
            _refuse("opaque-type", where, "it uses an opaque type, which only code from outside can read", CUSTOM_REMEDY)
        for part, inner in (("sequence_type", "elem_type"), ("optional_type", "elem_type"), ("map_type", "value_type")):
            if part in kind and inner in kind[part]:
                self._type(kind[part][inner], where)

    def _sparse(self, sparse: Message, where: str, names: set[str] | None = None) -> None:
        if "values" not in sparse or "indices" not in sparse:
            _refuse("sparse", where, "a sparse tensor lacks its values or its indices", REMEDY)
        self._tensor(sparse["values"], where, names)
        self._tensor(sparse["indices"], where)

    def _tensor(self, tensor: Message, where: str, names: set[str] | None = None) -> None:
        name = tensor.get("name", "")
        here = f"{where} tensor `{_show(name)}`"
        if names is not None:
            if name in names:
                _refuse("duplicate-tensor", here, "two initialisers have this name", REMEDY)
            names.add(name)
        _inside(tensor, here)
        elements = _elements(tensor, here)
        present = [field for field in _DATA_FIELDS if field in tensor and _length(tensor[field])]
        if len(present) > 1:
            _refuse("tensor-data", here, f"its data stands in {' and '.join(present)}, and readers differ in which they take", REMEDY)
        self._tensors += 1
        self._parameters += elements
        self._tensor_bytes += _check_data(tensor, present[0] if present else "", elements, here)
        if self._tensors > self._settings.max_tensors:
            _refuse("too-many-tensors", here, f"more than {self._settings.max_tensors} tensors", REMEDY)

    def _bounded(self, size: int, where: str) -> int:
        if size > self._settings.max_expanded_nodes:
            _refuse("expansion", where, f"written out it has more than {self._settings.max_expanded_nodes} nodes", REMEDY)
        return size


def _one(message: Message, field: str) -> tuple[Message, ...]:
    return (message[field],) if field in message else ()


def _inside(tensor: Message, where: str) -> None:
    """Rule 3."""
    if tensor.get("external_data") or tensor.get("data_location", 0) == EXTERNAL:
        paths = [item.get("value", "") for item in tensor.get("external_data", []) if item.get("key") == "location"]
        path = paths[0] if paths else ""
        unsafe = posixpath.isabs(path) or ".." in path.replace("\\", "/").split("/") or ":" in path or "\\" in path
        what = "which leaves the model's own folder (path traversal)" if unsafe else "which is not part of what was scanned"
        _refuse(
            "path-traversal" if unsafe else "external-data", where, f"its data lies in the file `{_show(path)}`, {what}", EXTERNAL_REMEDY
        )
    if tensor.get("data_location", 0) != 0:
        _refuse("data-location", where, "its data_location is none of the format's", REMEDY)
    if "segment" in tensor:
        _refuse("segment", where, "it is a segment of a tensor, which no runtime supports", REMEDY)


def _elements(tensor: Message, where: str) -> int:
    dims: Numbers = tensor.get("dims", Numbers())
    if dims.count > len(dims.first):
        _refuse("rank", where, f"it has {dims.count} dimensions, the bound is {Numbers.KEPT}", REMEDY)
    total = 1
    for dimension in dims.first:
        if dimension >> 63:
            _refuse("negative-dimension", where, "one of its dimensions is negative", REMEDY)
        total *= dimension
        if total > MAX_ELEMENTS:
            _refuse("size-overflow", where, f"its dimensions multiply to more than {MAX_ELEMENTS} elements", REMEDY)
    return total


def _check_data(tensor: Message, field: str, elements: int, where: str) -> int:
    """Rule 4; the bytes that the tensor holds."""
    kind = tensor.get("data_type", 0)
    if kind not in TENSOR_BITS and kind != STRING:
        _refuse("data-type", where, f"its data_type {kind} is none of the format's", REMEDY)
    if field == "raw_data":
        if kind == STRING:
            _refuse("tensor-data", where, "strings cannot stand in raw_data", REMEDY)
        expected, found, unit = -(-elements * TENSOR_BITS[kind] // 8), _length(tensor[field]), "bytes"
    else:
        home, each = TYPED_DATA.get(kind, ("int32_data", 1))
        if field and field != home:
            _refuse("tensor-data", where, f"its data stands in {field}, for its type it must be {home} or raw_data", REMEDY)
        expected, found, unit = -(-elements * each // PER_INT32.get(kind, 1)), _length(tensor[field]) if field else 0, "values"
    if expected != found:
        _refuse("size-mismatch", where, f"dims x data_type is {expected} {unit}, its data has {found}", REMEDY)
    return elements * TENSOR_BITS.get(kind, 0) // 8


def _length(value: Any) -> int:
    if isinstance(value, Numbers):
        return value.count
    if isinstance(value, Span):
        return value.end - value.begin
    return len(value)


def _review(model: Message) -> tuple[Reason, ...]:
    """Rule 6."""
    reasons = []
    if any(item.get("key") == RUNTIME_OPTIONS for item in model.get("metadata_props", [])):
        why = "it sets options of onnxruntime, which are the server's to set"
        reasons.append(_doubt("runtime-options", f"metadata `{RUNTIME_OPTIONS}`", why))
    found = first_active(dict(_texts(model)))
    if found is not None:
        why = f"it holds {found.what}: no runtime runs it, but a page, a template or a careless tool might"
        reasons.append(_doubt("active-metadata", found.key, why, found.weight))
    return tuple(reasons)


def _doubt(rule: str, where: str, why: str, weight: Weight = "review") -> Reason:
    remedy = "export the model again without it, or have a person accept it"
    return Reason(rule=f"{NAME}:{rule}", where=where, why=why, remedy=remedy, weight=weight)


def _texts(model: Message) -> Iterator[tuple[str, str]]:
    for field in ("producer_name", "producer_version", "domain", "doc_string"):
        yield field, model.get(field, "")
    for item in model.get("metadata_props", []):
        where = f"metadata `{_show(item.get('key', ''))}`"
        yield f"{where} (its key)", item.get("key", "")
        yield where, item.get("value", "")


def _show(text: str) -> str:
    return text[:120].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")


def _refuse(rule: str, where: str, why: str, remedy: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", where, why, remedy)
