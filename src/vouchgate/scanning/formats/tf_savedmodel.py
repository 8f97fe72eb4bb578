"""TensorFlow SavedModels: the graphs, and the folder with variables, assets, fingerprint and Keras's metadata.

Rules (tensorflow/core/protobuf; tensorflow/python/saved_model; tf_keras `saved_model/load.py`)
1. Every message is read against its table (tf_reading.py); graphs and functions are held to the rules of tf_graph.py.
2. An asset is a plain file in `assets/`, and is there.
3. `variables/` is a TensorBundle whose index explains every byte of its shards (tensor_bundle.py).
4. Keras's metadata is strict JSON held to keras_config.py. A layer of a class of somebody's own, which is rebuilt from the graph where nobody has
   registered the class, is put up for review.
5. Other files are read as files of their own; what has no place in a SavedModel is told by their own formats.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from vouchgate.scanning import keras_config, tensor_bundle, tf_graph
from vouchgate.scanning.protobuf_wire import Span
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim, Folder
from vouchgate.scanning.strict_json import every, strict_text
from vouchgate.scanning.tf_reading import Reader
from vouchgate.scanning.verdict import Reading, Reason, Refuse

NAME = "tf-savedmodel"
MAX_REASONS = 10
"""Operators told; one is enough to refuse."""
_HEAD = b"\x08\x01\x12"
"""saved_model_schema_version = 1, then meta_graphs."""
_MODEL, _INDEX, _STEM = "saved_model.pb", "variables/variables.index", "variables/variables"
_METADATA = "keras_metadata.pb"
_MESSAGES = {"fingerprint.pb": "FingerprintDef", _METADATA: "SavedMetadata", "debug/saved_model_debug_info.pb": "GraphDebugInfo"}
"""Files that are one message with no mark of its own."""
_IDENTIFIER = "_tf_keras_"
_ACTING = frozenset({
    "Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer", "TorchModuleWrapper",
    "JaxLayer", "FlaxLayer", "TFSMLayer", "Wrapper",
})  # fmt: skip
"""Classes of Keras that are no plain layers: they are refused as classes, where a class that Keras does not know is put up for review."""


def recognise(sight: Sight) -> Claim:
    """A schema version of 1, then a meta graph that ends within the file."""
    if bytes(sight.view[:3]) != _HEAD:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a SavedModel of schema version 1", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Rule 1."""
    found: list[Reason] = []
    functions = nodes = 0
    reader = Reader(sight.view, scope.settings)
    for meta in reader.saved_model():
        functions += len(meta.library)
        nodes += sum(len(graph.nodes) for graph in (meta.graph, *meta.library.values()))
        for reason in tf_graph.check(meta):
            if len(found) < MAX_REASONS:
                found.append(reason)
    for name in sorted(reader.assets):
        if not _stays(name):
            found.append(_reason("asset-path", f"asset `{shown(name)}`", "it leads out of `assets/`", ""))
    for index, (identifier, text) in enumerate(reader.described):
        if text and identifier.startswith(_IDENTIFIER):
            found += _description(text, f"object with a description {index}", "")
    return Reading(covered=len(sight), reasons=tuple(found), facts={"functions": functions, "nodes": nodes})


def recognise_folder(names: frozenset[str]) -> Claim:
    """`saved_model.pb` at the top, and something that goes with it; alone it is a file like any other."""
    if _MODEL in names and len(names) > 1:
        return Claim(strength="certain", kind=NAME, because="`saved_model.pb` at its top")
    return NOT_MINE


def raw_files(names: frozenset[str]) -> frozenset[str]:
    """Shards of the variables, and single messages."""
    return frozenset(name for name in names if name in _MESSAGES or name.startswith(f"{_STEM}.data-"))


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """Rules 2 to 5; the graph was read on its own."""
    facts: dict[str, Any] = {"files": len(folder.names)}
    reasons = [*_assets(folder, scope.settings)]
    for name, kind in _MESSAGES.items():
        sight = folder.sight(name)
        if sight is not None:
            reasons += _message(name, kind, sight, scope)
    facts |= _variables(folder, scope)
    size = sum(len(sight) for name in folder.names if (sight := folder.sight(name)) is not None)
    return Reading(covered=size, reasons=tuple(reasons), facts=facts)


def _assets(folder: Folder, settings: ScanSettings) -> Iterator[Reason]:
    """Rule 2."""
    sight = folder.sight(_MODEL)
    if sight is None or folder.kinds.get(_MODEL) != NAME:
        return
    reader = Reader(sight.view, settings)
    for _ in reader.saved_model():
        continue
    for name in sorted(reader.assets):
        if f"assets/{name}" not in folder.names and _stays(name):
            why = "the model fills a table from it, and it is not there"
            yield _reason("missing-asset", f"asset `{shown(name)}`", why, _MODEL, weight="incomplete")


def _stays(name: str) -> bool:
    return (
        posixpath.normpath(name) == name
        and not name.startswith(("/", ".."))
        and "\\" not in name
        and ":" not in name
        and name.isprintable()
    )


def _variables(folder: Folder, scope: Scope) -> dict[str, Any]:
    """Rule 3. A model without variables may have no folder of them; shards without an index are explained by nothing."""
    index = folder.sight(_INDEX)
    shards = sorted(name for name in folder.names if name.startswith(f"{_STEM}.data-"))
    if index is None and not shards:
        return {}
    if index is None:
        raise Refuse(f"{NAME}:variables", f"file `{shown(shards[0])}`", "it has no index that says what its bytes are", tf_graph.REMEDY)
    return tensor_bundle.check_folder(folder, _STEM, scope, NAME)


def _message(name: str, kind: str, sight: Sight, scope: Scope) -> Iterator[Reason]:
    reader = Reader(sight.view, scope.settings)
    try:
        found = reader.message(kind, Span(begin=0, end=len(sight)))
        if name == _METADATA:
            yield from _metadata(reader, found)
    except Refuse as refuse:
        why = refuse.reason
        yield Reason(rule=why.rule, where=why.where, why=why.why, remedy=why.remedy, weight=why.weight, member=name)


def _metadata(reader: Reader, found: dict[str, Any]) -> Iterator[Reason]:
    """Rule 4. Models of TensorFlow before 2.5 have the same in `saved_model.pb`."""
    for node in found.get("nodes", ())[: MAX_NODES + 1]:
        where = f"object {node.get('node_id', 0)}"
        if len(found["nodes"]) > MAX_NODES:
            yield _reason("too-many-objects", where, f"more than {MAX_NODES} objects", _METADATA)
            return
        if not node.get("identifier", "").startswith(_IDENTIFIER):
            yield _reason("metadata", where, f"`{shown(node.get('identifier', ''))}` is no object of Keras", _METADATA)
        if "metadata" in node:
            yield from _description(reader.text(node["metadata"]), where, _METADATA)


def _description(text: bytes, where: str, member: str) -> Iterator[Reason]:
    try:
        value = strict_text(text.decode("utf-8"), NAME, where)
    except UnicodeDecodeError:
        value = None
    if isinstance(value, dict):
        yield from _object(value, where, member)
    else:
        yield _reason("metadata", where, "its description is no JSON object", member)


MAX_NODES = 200_000
"""Objects of Keras in one model; a large one has about 5,000."""


def _object(value: dict[str, Any], where: str, member: str) -> Iterator[Reason]:
    """One layer, model or metric: classes of somebody's own, then everything else in its configuration."""
    value = {key: one for key, one in value.items() if key not in _SPECS}
    for name in _own_classes(value):
        why = f"its class `{shown(name)}` is somebody's own: where the loader has registered one of that name, that code runs instead of the graph"
        yield _reason("custom-class", where, why, member, weight="review")
    for one in keras_config.check(value, NAME):
        yield Reason(rule=one.rule, where=f"{where}, {one.where}", why=one.why, remedy=one.remedy, weight=one.weight, member=member)


def _own_classes(value: dict[str, Any]) -> list[str]:
    """Classes that Keras does not have, taken out of the configuration: without a module they are looked for among what is registered, and no
    further."""
    found = set()
    for _, here in every(value):
        name = here.get("class_name") if isinstance(here, dict) else None
        plain = name.rpartition(">")[2] if isinstance(name, str) else ""
        known = plain in keras_config.CLASSES | keras_config.FUNCTIONS | _ACTING or plain.startswith("__") or plain == "function"
        if plain.isidentifier() and not known and here.get("module") is None:
            found.add(plain)
            del here["class_name"]
            here.pop("registered_name", None)
            here.pop("module", None)
    return sorted(found)


_SPECS = frozenset({"save_spec", "full_save_spec", "build_input_shape"})
"""Types and shapes of inputs: made by a table of TensorFlow's own type specifications, from no module."""


def _reason(rule: str, where: str, why: str, member: str, weight: Any = "refused") -> Reason:
    return Reason(rule=f"{NAME}:{rule}", where=where, why=why, remedy=tf_graph.REMEDY, member=member, weight=weight)
