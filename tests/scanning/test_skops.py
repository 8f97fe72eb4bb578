"""skops files: each node acts only as its loader does, with names that the knowledge base lets in for that use."""

from __future__ import annotations

import io
import json
import zipfile
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Verdict

_NUMBER = count(1)


class Known:
    """One constructible class, one that may be called with plain values, one function to hold."""

    version, digest, fault = 1, "0" * 64, ""

    def find(self, module: str, name: str) -> Entry | None:
        uses: dict[str, Any] = {
            "lib.Model": {"uses": ("constructible",)},
            "lib.Point": {"uses": ("constructible",), "arguments": "plain"},
            "lib.made": {"uses": ("callable",), "arguments": "plain"},
            "lib.score": {"uses": ("inert",)},
            "sklearn.tree._tree.Tree": {"uses": ("callable",), "arguments": "sklearn-tree", "state": "sklearn-tree"},
        }
        found = uses.get(f"{module}.{name}")
        return Entry(module=module, name=name, library="lib", **found) if found else None


def node(loader: str, full: str, **more: Any) -> dict[str, Any]:
    module, _, name = full.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader, "__id__": next(_NUMBER)} | {
        key.replace("dunder_reduce", "__reduce__"): value for key, value in more.items()
    }


def plain(value: Any) -> dict[str, Any]:
    """A value as skops writes it."""
    if isinstance(value, dict):
        keys = listed([node("TypeNode", f"builtins.{type(key).__name__}") for key in value])
        return node("DictNode", "builtins.dict", content={str(key): as_node(item) for key, item in value.items()}, key_types=keys)
    if isinstance(value, list):
        return listed([as_node(item) for item in value])
    if isinstance(value, tuple):
        return node("TupleNode", "builtins.tuple", content=[as_node(item) for item in value])
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def as_node(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) and "__loader__" in value else plain(value)


def listed(items: list[dict[str, Any]]) -> dict[str, Any]:
    return node("ListNode", "builtins.list", content=items)


def model(**attributes: Any) -> dict[str, Any]:
    return node("ObjectNode", "lib.Model", content=plain(attributes))


def packed(root: Any, protocol: Any = 2, schema: str | None = None, method: int = zipfile.ZIP_STORED, **files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
        text = json.dumps({**root, "protocol": protocol, "_skops_version": "0.16"}) if schema is None else schema
        archive.writestr("schema.json", text)
    return file.getvalue()


def array(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def verdict_of(root: Any, **more: Any) -> Verdict:
    return scan(packed(root, **more), knowledge=Known())


def rules(root: Any, **more: Any) -> list[str]:
    verdict = verdict_of(root, **more)
    assert verdict.format == "skops"
    assert (verdict.outcome == "clean") == (not verdict.reasons)
    return [reason.rule.removeprefix("skops:") for reason in verdict.reasons]


BIT_STATE = {"bit_generator": "PCG64", "state": {"state": 3, "inc": 5}, "has_uint32": 0, "uinteger": 0}
SHAPE = plain((2,))
GOOD: list[tuple[str, Any]] = [
    ("plain values", plain({"a": [1, 2.5, "x", None, True], "b": {"c": (1, 2)}})),
    ("keys of numbers", plain({1: "a", 2.5: "b"})),
    ("a known class", model(coef=1.5, name="x", inner=model(deep=[1]))),
    ("no state", node("ObjectNode", "lib.Model")),
    ("an empty state", node("ObjectNode", "lib.Model", content=plain(None))),
    ("a set, a slice", plain([node("SetNode", "builtins.set", content=[plain(1)]), node("SliceNode", "builtins.slice", content={"start": 1, "stop": None, "step": 2})])),
    ("a held function", model(score=node("FunctionNode", "lib.score"))),
    ("a function of numpy", model(score=node("FunctionNode", "numpy.log1p"))),
    ("a function of scipy", model(score=node("FunctionNode", "scipy.special._ufuncs.expit"))),
    ("plain types", model(kinds=[node("TypeNode", "builtins.int"), node("TypeNode", "numpy.float64")])),
    ("a partial", model(score=node("PartialNode", "functools.partial", content={"func": node("FunctionNode", "numpy.add"), "args": plain((1,)), "kwds": plain({}), "namespace": plain(None)}))),
    ("an item getter", node("OperatorFuncNode", "operator.itemgetter", attrs=plain((1, "name")))),
    ("an attribute getter", node("OperatorFuncNode", "operator.attrgetter", attrs=plain(("coef",)))),
    ("a call with plain values", node("ConstructorFromReduceNode", "lib.made", content=plain((1, "x")))),
    ("a named tuple", node("TupleNode", "lib.Point", content=[plain(1), plain(2)])),
    ("a default dictionary", node("DefaultDictNode", "collections.defaultdict", content={"main": plain({"a": 1}), "default_factory": node("TypeNode", "builtins.list")})),
    ("an array of objects as nodes", node("NdArrayNode", "numpy.ndarray", type="json", content=[plain(1), plain("x")], shape=SHAPE)),
    ("a random generator", node("RandomGeneratorNode", "numpy.random._generator.Generator", content={"bit_generator": plain(BIT_STATE), "seed_seq": plain({"entropy": 0, "spawn_key": (), "pool_size": 4, "n_children_spawned": 0})})),
    ("a random state", node("RandomStateNode", "numpy.random.mtrand.RandomState", content=plain({"bit_generator": "MT19937", "state": {"pos": 624}, "gauss": 0.0}))),
    ("a loss", node("LossNode", "sklearn._loss._loss.CyHalfBinomialLoss", dunder_reduce={"args": plain(())}, content=plain({}))),
    ("a loss with a number", node("LossNode", "sklearn.linear_model._sgd_fast.Hinge", dunder_reduce={"args": plain((1.0,))}, content=plain({}))),
]  # fmt: skip


@pytest.mark.parametrize(("what", "root"), GOOD, ids=[what for what, _ in GOOD])
def test_allowed(what: str, root: Any) -> None:
    assert rules(root) == [], what


def method(of: dict[str, Any], name: str) -> dict[str, Any]:
    return node("MethodNode", "lib.Model", content={"func": name, "obj": of})


def partial(func: dict[str, Any], namespace: Any = None) -> dict[str, Any]:
    return node(
        "PartialNode", "functools.partial", content={"func": func, "args": plain(()), "kwds": plain({}), "namespace": plain(namespace)}
    )


def keyed(kind: dict[str, Any]) -> dict[str, Any]:
    return node("DictNode", "builtins.dict", content={"touch /tmp/x": plain(1)}, key_types=listed([kind]))


def sharing(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    second["__id__"] = first["__id__"]
    return plain([first, second])


def round_trip() -> dict[str, Any]:
    outer = node("ListNode", "builtins.list", content=[])
    outer["content"] = [{**node("ListNode", "builtins.list", content=[]), "__id__": outer["__id__"]}]
    return outer


BAD: list[tuple[str, Any, str]] = [
    ("an unknown class", node("ObjectNode", "evil.Model", content=plain({})), "unknown-call"),
    ("a class that may only be held", node("ObjectNode", "lib.score", content=plain({})), "not-constructible"),
    ("a state that reaches the class", model(__class__="x"), "state"),
    ("a state that is no dictionary", node("ObjectNode", "lib.Model", content=plain([1])), "state"),
    ("a call that nobody knows", node("ConstructorFromReduceNode", "os.system", content=plain(("true",))), "unknown-call"),
    ("a call of a class that is only constructed", node("ConstructorFromReduceNode", "lib.Model", content=plain(())), "not-callable"),
    ("a call with an object", node("ConstructorFromReduceNode", "lib.made", content=plain((model(),))), "arguments"),
    ("a held function that nobody knows", model(score=node("FunctionNode", "os.system")), "unknown-name"),
    ("a held class that is only constructed", model(kind=node("TypeNode", "lib.Model")), "not-inert"),
    ("a held builtin", model(score=node("TypeNode", "builtins.eval")), "unknown-name"),
    ("numpy's loader among its functions", model(score=node("FunctionNode", "numpy.load")), "unknown-name"),
    ("a module through numpy", model(score=node("FunctionNode", "numpy.os.system")), "unknown-name"),
    ("a named tuple that nobody knows", node("TupleNode", "os.system", content=[plain("true")]), "unknown-call"),
    ("a named tuple of an object", node("TupleNode", "lib.Point", content=[model()]), "arguments"),
    ("a list of another class", node("ListNode", "os.system", content=[]), "class"),
    ("a set of another class", node("SetNode", "subprocess.Popen", content=[]), "class"),
    ("a dictionary of another class", node("DictNode", "evil.Dict", content={}, key_types=listed([])), "class"),
    ("a default dictionary of another class", node("DefaultDictNode", "evil.D", content={"main": plain({}), "default_factory": plain(None)}), "class"),
    ("a default that acts", node("DefaultDictNode", "collections.defaultdict", content={"main": plain({}), "default_factory": node("FunctionNode", "lib.score")}), "default-factory"),
    ("keys made by a function", keyed(node("FunctionNode", "os.system")), "key-types"),
    ("keys made by a class", keyed(node("TypeNode", "lib.Model")), "key-types"),
    ("keys made by nothing", keyed(plain(1)), "key-types"),
    ("keys without types", node("DictNode", "builtins.dict", content={"a": plain(1)}, key_types=listed([])), "key-types"),
    ("a method", method(model(), "fit"), "method"),
    ("a method of another class than it says", method(plain(1), "__reduce__"), "method"),
    ("an operator that calls", node("OperatorFuncNode", "operator.methodcaller", attrs=plain(("system", "true"))), "class"),
    ("an operator of nothing known", node("OperatorFuncNode", "operator.call", attrs=plain(())), "class"),
    ("an operator of another module", node("OperatorFuncNode", "os.system", attrs=plain(("true",))), "class"),
    ("an attribute that is private", node("OperatorFuncNode", "operator.attrgetter", attrs=plain(("a.__globals__",))), "operator"),
    ("an attribute that is an object", node("OperatorFuncNode", "operator.itemgetter", attrs=plain((model(),))), "operator"),
    ("a partial of an object", partial(model()), "partial"),
    ("a partial of a function that nobody knows", partial(node("FunctionNode", "os.system")), "unknown-name"),
    ("a partial with attributes", partial(node("FunctionNode", "numpy.add"), {"func": 1}), "partial"),
    ("a partial of another class", {**partial(node("FunctionNode", "numpy.add")), "__module__": "evil"}, "class"),
    ("a generator by another name", node("RandomGeneratorNode", "numpy.random._generator.Generator", content={"bit_generator": plain({**BIT_STATE, "bit_generator": "seed"})}), "generator"),
    ("a generator of an object", node("RandomGeneratorNode", "numpy.random._generator.Generator", content={"bit_generator": plain({**BIT_STATE, "state": model()})}), "generator"),
    ("a generator with a seed of objects", node("RandomGeneratorNode", "numpy.random._generator.Generator", content={"bit_generator": plain(BIT_STATE), "seed_seq": plain({"entropy": model()})}), "generator"),
    ("a generator of another class", node("RandomGeneratorNode", "evil.Generator", content={"bit_generator": plain(BIT_STATE)}), "class"),
    ("a random state of another class", node("RandomStateNode", "evil.State", content=plain(BIT_STATE)), "class"),
    ("a loss that is none", node("LossNode", "os.system", dunder_reduce={"args": plain(("true",))}, content=plain({})), "loss"),
    ("a loss with more than numbers", node("LossNode", "sklearn.linear_model._sgd_fast.Hinge", dunder_reduce={"args": plain(("x",))}, content=plain({})), "loss"),
    ("a loss with a state", node("LossNode", "sklearn.linear_model._sgd_fast.Hinge", dunder_reduce={"args": plain(())}, content=plain({"a": 1})), "loss"),
    ("a tree of another class", node("TreeNode", "os.system", dunder_reduce={"args": plain((1, 2, 3))}, content=plain({})), "class"),
    ("a tree without arrays", node("TreeNode", "sklearn.tree._tree.Tree", dunder_reduce={"args": plain((1, 2, 3))}, content=plain({})), "arguments"),
    ("an array handed to a class", node("NdArrayNode", "os.system", type="numpy", file="a.npy"), "class"),
    ("an array of no kind", node("NdArrayNode", "numpy.ndarray", type="pickle", file="a.npy"), "array"),
    ("an array's shape that is an object", node("NdArrayNode", "numpy.ndarray", type="json", content=[], shape=model()), "array"),
    ("a file that is not there", node("NdArrayNode", "numpy.ndarray", type="numpy", file="../a.npy"), "missing-file"),
    ("a file that is no name", node("BytesNode", "builtins.bytes", file=3), "file"),
    ("one file as two things", plain([node("BytesNode", "builtins.bytes", file="a.npy"), node("NdArrayNode", "numpy.ndarray", type="numpy", file="a.npy")]), "file"),
    ("a sparse matrix of another module", node("SparseMatrixNode", "evil.csr_matrix", type="scipy", file="a.npz"), "class"),
    ("an unknown loader", node("PickleNode", "lib.Model", content=plain(1)), "loader"),
    ("no loader", listed([{"a": 1}]), "node"),
    ("a field that no loader reads", {**plain(1), "code": "x"}, "node"),
    ("a field that is missing", node("DictNode", "builtins.dict", content={}), "node"),
    ("a class that is no text", {**plain([]), "__class__": 3}, "node"),
    ("JSON that is none", node("JsonNode", "builtins.str", content="{", is_json=True), "json"),
    ("a number that is none", node("JsonNode", "builtins.str", content="import os", is_json=True), "node"),
    ("one id for two kinds", sharing(plain(1), model()), "id"),
    ("one id for two classes", sharing(node("TypeNode", "builtins.int"), node("TypeNode", "lib.score")), "id"),
    ("a part of itself", round_trip(), "id"),
    ("an id that is no number", {**plain(1), "__id__": "x"}, "id"),
    ("a reference to nothing", {"__loader__": "CachedNode", "__id__": 10**9, "__class__": None, "__module__": None}, "id"),
    ("names that are none", node("ObjectNode", "lib.Mod el"), "odd-name"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "root", "rule"), BAD, ids=[what for what, _, _ in BAD])
def test_refused(what: str, root: Any, rule: str) -> None:
    verdict = verdict_of(root)
    assert verdict.outcome == "refused", what
    assert f"skops:{rule}" in {reason.rule for reason in verdict.reasons}, verdict.reasons
    assert all("schema.json" in reason.where or reason.rule == "skops:missing-file" for reason in verdict.reasons)


def test_of_two_nodes_with_one_id_the_first_is_taken() -> None:
    """skops gives the second place the first object: a generator must not be named by a node that is never read."""
    decoy = plain("PCG64")
    first = {**plain("seed"), "__id__": decoy["__id__"]}
    state = plain({**BIT_STATE, "bit_generator": decoy})
    assert "generator" in rules(
        plain([first, node("RandomGeneratorNode", "numpy.random._generator.Generator", content={"bit_generator": state})])
    )


def test_what_is_wrong_in_a_node_that_is_never_taken_counts_too() -> None:
    assert "unknown-call" in rules(
        sharing(node("ListNode", "builtins.list", content=[]), node("ListNode", "builtins.list", content=[node("ObjectNode", "evil.X")]))
    )


@pytest.mark.parametrize("protocol", [True, -1, 3, None, "2", 1.0])
def test_protocols_that_skops_does_not_know(protocol: Any) -> None:
    assert rules(plain(1), protocol=protocol) == ["protocol"]


def test_the_first_protocol_names_functions_inside() -> None:
    held = node("FunctionNode", "numpy.add", content={"module_path": "os", "function": "system"})
    assert rules(model(score=held), protocol=0) == ["unknown-name"]
    assert rules(model(score=held), protocol=2) == []  # later ones look at the class alone, and so does this reader


def test_files_belong_to_nodes() -> None:
    root = plain([node("BytesNode", "builtins.bytes", file="a.bin")])
    assert rules(root, a__bin=b"\x80\x04 any bytes: nothing reads them") == []
    assert rules(root) == ["missing-file"]
    assert rules(plain(1), a__bin=b"x") == ["extra-file"]


def test_arrays_are_read_as_arrays_alone() -> None:
    root = plain([node("NdArrayNode", "numpy.ndarray", type="numpy", file="a.npy")])
    assert rules(root, a__npy=b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.") != []
    assert rules(root, a__npy=b"plain text\n") == ["scan:out-of-place"]
    assert rules(root, a__npy=array(np.array([{}], dtype=object))) != []


NODE = np.dtype([
    ("left_child", "<i8"), ("right_child", "<i8"), ("feature", "<i8"), ("threshold", "<f8"), ("impurity", "<f8"), ("n_node_samples", "<i8"),
    ("weighted_n_node_samples", "<f8"),
])  # fmt: skip


def tree(*nodes: tuple[int, int, int]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A tree over two features: its node, and its files."""
    arrays = [node("NdArrayNode", "numpy.ndarray", type="numpy", file=f"{name}.npy") for name in ("classes", "nodes", "values")]
    state = plain({"max_depth": 1, "node_count": len(nodes), "nodes": arrays[1], "values": arrays[2]})
    made = node("TreeNode", "sklearn.tree._tree.Tree", dunder_reduce={"args": plain((2, arrays[0], 1))}, content=state)
    rows = np.array([(*one, 0.5, 0.0, 3, 3.0) for one in nodes], NODE)
    return made, {"classes__npy": array(np.array([1])), "nodes__npy": array(rows), "values__npy": array(np.zeros((len(nodes), 1, 1)))}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_trees_whose_nodes_point_outside_them_are_refused(method: int) -> None:
    leaf = (-1, -1, -2)
    made, files = tree((1, 2, 0), leaf, leaf)
    assert rules(made, method=method, **files) == []
    for bad in ((9, 2, 0), (1, 2**40, 0), (1, -7, 0), (0, 2, 0), (1, 2, 2), (1, 2, -9)):
        made, files = tree(bad, leaf, leaf)
        assert rules(made, method=method, **files) == ["state"], bad


def test_a_schema_of_something_else_leaves_a_plain_archive() -> None:
    assert scan(packed(None, schema='{"type": "object"}', a__txt=b"words\n")).outcome == "clean"
    assert scan(packed(None, schema='{"type": "object"}', a__txt=b"\x80\x04cos\nsystem\n.")).outcome == "refused"
    assert rules(None, schema='{"__loader__": "JsonNode", "__loader__": "ObjectNode"}') == ["duplicate-key"]
    assert rules(None, schema="{") == ["json"]


def test_depth_is_bounded() -> None:
    root = plain(1)
    for _ in range(150):
        root = listed([root])
    assert rules(root) == ["depth"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_schema_is_read_or_refused(data: st.DataObject) -> None:
    """One field of a good file, anywhere in it, set to anything."""
    root = json.loads(json.dumps(data.draw(st.sampled_from([root for _, root in GOOD]))))
    places = [(holder, key) for holder in _holders(root) for key in (holder if isinstance(holder, dict) else range(len(holder)))]
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.booleans(), st.lists(st.integers(), max_size=2), st.just({}))
    )
    verdict = verdict_of(root if isinstance(root, dict) else plain(1))
    assert verdict.outcome in ("clean", "refused")
    assert not any(reason.rule == "scan:fault" for reason in verdict.reasons)


def _holders(value: Any) -> list[Any]:
    found = [value]
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            found += _holders(item)
    return found
