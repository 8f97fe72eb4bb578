"""ONNX: every byte on the wire, every operator, every tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from artifact_making import graph, model, onnx_bytes, rich_onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from vouchgate.scanning.onnx_operators import OPERATORS
from vouchgate.scanning.scan import scan
from vouchgate.scanning.settings import ScanSettings


def rules(content: bytes, **more: int) -> tuple[str, list[str]]:
    verdict = scan(content, settings=ScanSettings(**more))
    return verdict.outcome, [reason.rule.removeprefix("onnx:") for reason in verdict.reasons]


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def test_models_that_the_checker_accepts_are_clean() -> None:
    for content in (onnx_bytes(), rich_onnx()):
        onnx.checker.check_model(onnx.load_from_string(content))
        verdict = scan(content)
        assert (verdict.outcome, verdict.format, verdict.covered) == ("clean", "onnx", len(content)), verdict.reasons
    assert verdict.facts["operators"]["ai.onnx.ml.TreeEnsembleRegressor"] == 1
    assert verdict.facts["functions"] == 1
    assert verdict.facts["opset"] == "ai.onnx 17, ai.onnx.ml 3, local.ops 1"


def test_every_model_that_the_onnx_package_ships_is_clean() -> None:
    """Its backend tests: one model for each operator and a few whole networks."""
    shipped = sorted(Path(onnx.__file__).parent.rglob("*.onnx"))
    verdicts = {path.parent.name: scan(path.read_bytes()) for path in shipped}
    assert len(shipped) > 50
    assert {name: verdict.reasons[0].why for name, verdict in verdicts.items() if verdict.outcome != "clean"} == {}


@pytest.mark.parametrize("kind", [DecisionTreeRegressor, GradientBoostingRegressor, LogisticRegression, KMeans])
def test_what_skl2onnx_writes_is_clean(kind: Any) -> None:
    """Its trees import the standard operator set twice, in one version."""
    features = np.arange(40, dtype=np.float32).reshape(10, 4)
    fitted = (kind(3) if kind is KMeans else kind()).fit(features, np.arange(10) % 2)
    assert rules(to_onnx(fitted, features[:1]).SerializeToString()) == ("clean", [])


def test_facts_count_tensors_and_parameters() -> None:
    facts = scan(onnx_bytes()).facts
    assert (facts["tensors"], facts["parameters"], facts["tensor_bytes"]) == (2, 10, 40)
    assert (facts["inputs"], facts["outputs"]) == (["x"], ["y"])


def changed(change: Callable[[Any], None]) -> bytes:
    made = model()
    change(made)
    return onnx_bytes(made)


def external(location: str) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def function(name: str, nodes: list[Any], domain: str = "local.ops") -> Any:
    return helper.make_function(domain, name, ["a"], ["c"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("local.ops", 1)])


def calling(*functions: Any, first: str) -> bytes:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local.ops", 1)]
    return onnx_bytes(
        model(graph([helper.make_node(first, ["x"], ["y"], domain="local.ops")]), opset_imports=imports, functions=list(functions))
    )


def set_tensor(**fields: Any) -> Callable[[Any], None]:
    """Replace the first initialiser."""

    def change(made: Any) -> None:
        tensor = made.graph.initializer[0]
        tensor.Clear()
        tensor.name = "W"
        for name, value in fields.items():
            if isinstance(value, list):
                getattr(tensor, name).extend(value)
            else:
                setattr(tensor, name, value)

    return change


CALL = helper.make_node
BAD_MODELS: list[tuple[str, bytes, str]] = [
    ("custom domain imported", changed(lambda made: made.opset_import.add(domain="com.evil.ops", version=1)), "custom-domain"),
    (
        "a domain that looks like the runtime's",
        changed(lambda made: made.opset_import.add(domain="com.microsoft.x", version=1)),
        "custom-domain",
    ),
    ("a domain that looks like ONNX's", changed(lambda made: made.opset_import.add(domain="ai.onnx ", version=1)), "custom-domain"),
    ("a domain in capitals", changed(lambda made: made.opset_import.add(domain="AI.ONNX.ML", version=1)), "custom-domain"),
    ("custom operator", onnx_bytes(model(graph([CALL("Shell", ["x"], ["y"])]))), "custom-operator"),
    ("custom operator in a domain", onnx_bytes(model(graph([CALL("PythonOp", ["x"], ["y"], domain="com.microsoft")]))), "custom-operator"),
    (
        "a program compiled for a driver",
        onnx_bytes(model(graph([CALL("EPContext", ["x"], ["y"], domain="com.microsoft")]))),
        "custom-operator",
    ),
    ("an operator of aten", onnx_bytes(model(graph([CALL("ATen", ["x"], ["y"], domain="org.pytorch.aten")]))), "custom-operator"),
    (
        "a function in place of an operator of the runtime",
        onnx_bytes(model(functions=[function("FusedConv", [], domain="com.microsoft")])),
        "shadowing",
    ),
    ("an operator of the other domain", onnx_bytes(model(graph([CALL("Scaler", ["x"], ["y"])]))), "custom-operator"),
    ("an operator without a type", onnx_bytes(model(graph([CALL("", ["x"], ["y"])]))), "custom-operator"),
    (
        "custom operator in a branch",
        onnx_bytes(model(graph([CALL("If", ["c"], ["y"], then_branch=graph([CALL("Shell", [], ["o"])]), else_branch=graph())]))),
        "custom-operator",
    ),
    ("custom operator in a function", calling(function("F", [CALL("Shell", ["a"], ["c"])]), first="F"), "custom-operator"),
    (
        "custom operator in a function nobody calls",
        onnx_bytes(model(functions=[function("F", [CALL("Shell", ["a"], ["c"])])])),
        "custom-operator",
    ),
    ("a function that calls itself", calling(function("F", [CALL("F", ["a"], ["c"], domain="local.ops")]), first="F"), "recursion"),
    (
        "two functions that call each other",
        calling(
            function("F", [CALL("G", ["a"], ["c"], domain="local.ops")]),
            function("G", [CALL("F", ["a"], ["c"], domain="local.ops")]),
            first="F",
        ),
        "recursion",
    ),
    ("a function defined twice", calling(*[function("F", [CALL("Identity", ["a"], ["c"])])] * 2, first="F"), "duplicate-function"),
    (
        "a function that stands in for an operator",
        onnx_bytes(model(functions=[function("Gemm", [CALL("Identity", ["a"], ["c"])], domain="")])),
        "shadowing",
    ),
    (
        "functions that multiply",
        calling(
            *[function(f"F{level}", [CALL(f"F{level + 1}", ["a"], ["c"], domain="local.ops")] * 10) for level in range(12)],
            function("F12", [CALL("Identity", ["a"], ["c"])]),
            first="F0",
        ),
        "expansion",
    ),
    ("external data in the folder", changed(external("weights.bin")), "external-data"),
    ("external data above the folder", changed(external("../../../etc/passwd")), "path-traversal"),
    ("external data by an absolute path", changed(external("/etc/passwd")), "path-traversal"),
    ("external data by a Windows path", changed(external("..\\..\\secrets")), "path-traversal"),
    ("external data by a drive", changed(external("C:secrets")), "path-traversal"),
    ("external data without a place", changed(external("")), "external-data"),
    (
        "external data without the flag",
        changed(lambda made: made.graph.initializer[0].external_data.add(key="location", value="x")),
        "external-data",
    ),
    ("external data by the flag alone", changed(lambda made: setattr(made.graph.initializer[0], "data_location", 1)), "external-data"),
    ("a segment", changed(lambda made: made.graph.initializer[0].segment.CopyFrom(TensorProto.Segment(begin=0, end=4))), "segment"),
    ("raw data too short", changed(set_tensor(dims=[4, 2], data_type=1, raw_data=bytes(31))), "size-mismatch"),
    ("raw data too long", changed(set_tensor(dims=[4, 2], data_type=1, raw_data=bytes(33))), "size-mismatch"),
    ("no data", changed(set_tensor(dims=[4, 2], data_type=1)), "size-mismatch"),
    ("data in two fields", changed(set_tensor(dims=[1], data_type=1, raw_data=bytes(4), float_data=[1.0])), "tensor-data"),
    ("data in another type's field", changed(set_tensor(dims=[1], data_type=1, int64_data=[1])), "tensor-data"),
    ("strings as raw data", changed(set_tensor(dims=[1], data_type=8, raw_data=b"x")), "tensor-data"),
    ("a negative dimension", changed(set_tensor(dims=[-1], data_type=1, raw_data=bytes(4))), "negative-dimension"),
    ("dimensions that overflow", changed(set_tensor(dims=[2**40, 2**40], data_type=1, raw_data=bytes(4))), "size-overflow"),
    ("65 dimensions", changed(set_tensor(dims=[1] * 65, data_type=1, raw_data=bytes(4))), "rank"),
    ("no data type", changed(set_tensor(dims=[1], raw_data=bytes(4))), "data-type"),
    ("an unknown data type", changed(set_tensor(dims=[1], data_type=99, raw_data=bytes(4))), "data-type"),
    (
        "two initialisers of one name",
        onnx_bytes(model(graph(initializers=[numpy_helper.from_array(np.zeros(1, np.float32), "W")] * 2))),
        "duplicate-tensor",
    ),
    ("no graph", changed(lambda made: made.ClearField("graph")), "no-graph"),
    ("no operator set", changed(lambda made: made.ClearField("opset_import")), "no-opset"),
    ("an operator set twice", changed(lambda made: made.opset_import.add(domain="", version=9)), "two-opsets"),
    ("an operator set twice by its other name", changed(lambda made: made.opset_import.add(domain="ai.onnx", version=9)), "two-opsets"),
    ("an opaque type", changed(lambda made: made.graph.input[0].type.opaque_type.SetInParent()), "opaque-type"),
    (
        "an opaque type inside a sequence",
        changed(lambda made: made.graph.input[0].type.sequence_type.elem_type.opaque_type.SetInParent()),
        "opaque-type",
    ),
]


@pytest.mark.parametrize(("what", "content", "rule"), BAD_MODELS, ids=[what for what, _, _ in BAD_MODELS])
def test_each_fault_of_the_model_is_refused_by_its_own_rule(what: str, content: bytes, rule: str) -> None:
    assert rules(content) == ("refused", [rule])
    assert scan(content).reasons[0].remedy


def test_the_custom_operator_and_the_path_are_named() -> None:
    custom = scan(onnx_bytes(model(graph([CALL("PythonOp", ["x"], ["y"], name="n1", domain="com.microsoft")])))).reasons[0]
    assert "com.microsoft.PythonOp" in custom.why
    assert "n1" in custom.where
    assert "../../../etc/passwd" in scan(changed(external("../../../etc/passwd"))).reasons[0].why


def test_nesting_is_bounded() -> None:
    nested = CALL("Identity", ["x"], ["y"])
    for _ in range(30):
        nested = CALL("If", ["c"], ["y"], then_branch=helper.make_graph([nested], "g", [], []))
    assert rules(onnx_bytes(model(graph([nested])))) == ("refused", ["depth"])
    assert rules(onnx_bytes(), max_depth=2) == ("refused", ["depth"])


def test_active_text_waits_for_a_person() -> None:
    made = model()
    onnx.helper.set_model_props(made, {"note": "{{ config }}"})
    assert rules(onnx_bytes(made)) == ("review", ["active-metadata"])
    onnx.helper.set_model_props(made, {"note": "<script>x()</script>"})
    assert rules(onnx_bytes(made)) == ("refused", ["active-metadata"])


def test_a_model_that_configures_its_runtime_waits_for_a_person() -> None:
    made = model()
    onnx.helper.set_model_props(made, {"ort_config": '{"session_options": {"intra_op_num_threads": 64}}'})
    assert rules(onnx_bytes(made)) == ("review", ["runtime-options"])


GOOD = onnx_bytes()
BAD_WIRE: list[tuple[str, bytes, str]] = [
    ("an unknown field", GOOD + field(99, b"x"), "unknown-field"),
    ("trailing noughts", GOOD + b"\0\0", "tag"),
    ("a pickle behind", GOOD + b"cos\nsystem\n(S'true'\ntR.", "wire-type"),
    ("field nought", GOOD + b"\x02\x01x", "tag"),
    ("a second graph", GOOD + field(7, b""), "duplicate-field"),
    ("a second ir_version", GOOD + b"\x08\x09", "duplicate-field"),
    ("a group", GOOD + b"\x0b\x0c", "wire-type"),
    ("wire type 6", GOOD + b"\x0e", "wire-type"),
    ("a known field with another wire type", GOOD + b"\x2d\0\0\0\0", "wire-type"),
    ("a tag that is not minimal", GOOD + b"\xaa\x80\x00" + b"\x01x", "tag"),
    ("a tag of six bytes", GOOD + b"\xaa\xaa\xaa\xaa\xaa\x01" + b"\x01x", "tag"),
    ("a length beyond the end", GOOD + b"\x32\x7f", "truncated"),
    ("a length of 2^63", GOOD + b"\x32" + varint(2**63), "truncated"),
    ("a number of eleven bytes", GOOD + b"\x28" + b"\xff" * 10 + b"\x01", "varint"),
    ("a number over 64 bits", GOOD + b"\x28" + b"\xff" * 9 + b"\x7f", "varint"),
    ("an unfinished number", GOOD + b"\x28\xff", "truncated"),
    ("text that is not UTF-8", GOOD + field(6, b"\xff\xfe"), "utf8"),
    ("a name of 5 kB", GOOD + field(4, b"x" * 5000), "text-size"),
]


@pytest.mark.parametrize(("what", "content", "rule"), BAD_WIRE, ids=[what for what, _, _ in BAD_WIRE])
def test_each_fault_on_the_wire_is_refused_by_its_own_rule(what: str, content: bytes, rule: str) -> None:
    assert rules(content) == ("refused", [rule])


def test_packed_numbers_are_checked_like_single_ones() -> None:
    def with_tensor(tensor: bytes) -> bytes:
        return b"\x08\x09" + field(8, b"\x10\x11") + field(7, field(5, tensor))

    dims, int64 = b"\x0a\x01\x03", b"\x10\x07"
    assert rules(with_tensor(dims + int64 + field(7, b"\x01\x02\x03")))[0] == "clean"
    assert rules(with_tensor(dims + int64 + b"\x38\x01\x38\x02\x38\x03"))[0] == "clean"
    assert rules(with_tensor(dims + int64 + field(7, b"\x01\x02\x83"))) == ("refused", ["truncated"])
    assert rules(with_tensor(dims + int64 + field(7, b"\x01\x02" + b"\x80" * 10 + b"\x01"))) == ("refused", ["varint"])
    assert rules(with_tensor(dims + int64 + field(7, b"\x01\x02"))) == ("refused", ["size-mismatch"])
    assert rules(with_tensor(dims + b"\x10\x01" + field(4, b"\0" * 13))) == ("refused", ["packed-length"])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300))
def test_runs_of_unpacked_numbers_are_counted_exactly(numbers: list[int]) -> None:
    """`ints` of an attribute is unpacked; a second attribute behind it is found only if the run ends where it should."""
    node = CALL("Constant", [], ["y"], value_ints=numbers or [0])
    assert rules(onnx_bytes(model(graph([node]))))[0] == "clean"
    content = b"\x08\x09" + field(8, b"\x10\x11")
    tensor = field(1, varint(len(numbers))) + b"\x10\x07" + b"".join(b"\x38" + varint(number % 2**64) for number in numbers)
    assert rules(content + field(7, field(5, tensor)))[0] == "clean"
    wrong = field(1, varint(len(numbers) + 1)) + tensor[len(field(1, varint(len(numbers)))) :]
    assert rules(content + field(7, field(5, wrong))) == ("refused", ["size-mismatch"])


def test_the_number_of_fields_is_bounded() -> None:
    assert rules(rich_onnx(), max_fields=50) == ("refused", ["too-many-fields"])
    assert rules(rich_onnx(), max_tensors=2) == ("refused", ["too-many-tensors"])


RICH = rich_onnx()


@settings(max_examples=400)
@given(st.data())
def test_cutting_a_model_anywhere_is_never_clean_unless_whole_fields_fell(data: st.DataObject) -> None:
    """protobuf has no end mark: a cut between two top-level fields is another, shorter message, and is scanned as that."""
    cut = data.draw(st.integers(0, len(RICH) - 1))
    verdict = scan(RICH[:cut])
    assert verdict.outcome != "clean" or onnx.load_from_string(RICH[:cut]).HasField("graph")
    assert verdict.outcome != "incomplete"


@settings(max_examples=600)
@given(st.integers(0, len(RICH) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_a_typed_result_and_clean_means_that_protobuf_reads_the_same(place: int, mask: int) -> None:
    content = bytearray(RICH)
    content[place] ^= mask
    verdict = scan(bytes(content))
    assert verdict.outcome != "incomplete"
    if verdict.outcome == "clean":
        parsed = onnx.load_from_string(bytes(content))
        assert verdict.covered == len(content)
        assert verdict.facts["inputs"] == [item.name for item in parsed.graph.input]
        assert verdict.facts["operators"].keys() >= {f"{node.domain}.{node.op_type}".lstrip(".") for node in parsed.graph.node}
        assert all(item.domain in ("", "ai.onnx", "ai.onnx.ml", "local.ops") for item in parsed.opset_import)
        assert not any(tensor.external_data for tensor in parsed.graph.initializer)


@settings(max_examples=300)
@given(st.integers(0, len(RICH)), st.binary(min_size=1, max_size=12))
def test_inserting_bytes_gives_a_typed_result(place: int, inserted: bytes) -> None:
    verdict = scan(RICH[:place] + inserted + RICH[place:])
    assert verdict.outcome in ("clean", "refused", "review")
    assert verdict.outcome != "clean" or verdict.covered == verdict.size


def test_the_operator_list_is_what_the_installed_onnx_defines() -> None:
    known: dict[str, set[str]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        known.setdefault(schema.domain, set()).add(schema.name)
    for domain in ("", "ai.onnx.ml", "ai.onnx.preview.training"):
        assert OPERATORS[domain] <= known[domain]


def test_the_message_table_is_what_the_installed_onnx_defines() -> None:
    """Names, numbers and kinds against the library's own descriptors."""
    from vouchgate.scanning.onnx_schema import SCHEMA

    ours = {
        "ModelProto",
        "GraphProto",
        "NodeProto",
        "AttributeProto",
        "TensorProto",
        "FunctionProto",
        "ValueInfoProto",
        "SparseTensorProto",
    }
    for name in ours:
        theirs = getattr(onnx, name).DESCRIPTOR
        assert {number: row.name for number, row in SCHEMA[name].items()} == {item.number: item.name for item in theirs.fields}, name
        for item in theirs.fields:
            row = SCHEMA[name][item.number]
            assert row.many == item.is_repeated, (name, item.name)
            kind = item.message_type.name if item.message_type else {9: "text", 12: "bytes", 2: "float", 1: "double"}.get(item.type, "int")
            assert row.kind == kind, (name, item.name)


def test_verdicts_are_json() -> None:
    from vouchgate.vocabulary.wire import encode

    assert json.loads(encode(scan(RICH)))["outcome"] == "clean"


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_what_the_runtime_writes_after_optimising_is_clean(level: str, tmp_path: Path) -> None:
    kernel = numpy_helper.from_array(np.ones((16, 16, 3, 3), "f4"), "k")
    nodes = [CALL("Conv", ["x", "k"], ["c"], pads=[1] * 4), CALL("Relu", ["c"], ["r"]), CALL("MaxPool", ["r"], ["y"], kernel_shape=[2, 2])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 16, 8, 8]), ("y", None))]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [kernel]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "o.onnx"), 4
    onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert rules((tmp_path / "o.onnx").read_bytes()) == ("clean", [])


def test_sparse_and_optional_values_are_clean() -> None:
    values, indices = (
        helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("i", TensorProto.INT64, [2, 2], [0, 1, 1, 2]),
    )
    sparse = helper.make_sparse_tensor(values, indices, [3, 3])
    several = helper.make_optional_type_proto(helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [None])))
    inputs = [
        helper.make_value_info("o", several),
        helper.make_value_info("p", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [3, 3])),
    ]
    nodes = [CALL("Constant", [], ["k"], sparse_value=sparse), CALL("Optional", ["k"], ["w"]), CALL("OptionalGetElement", ["w"], ["y"])]
    made = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 3])], sparse_initializer=[sparse]
    )
    assert rules(onnx_bytes(model(made))) == ("clean", [])


def test_operators_of_the_runtime_are_those_it_defines_without_the_compiled_programs() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    defined = {(schema.domain, schema.name) for schema in get_all_operator_schema() if schema.domain.startswith("com.m")}
    listed = {(domain, name) for domain, names in OPERATORS.items() if domain.startswith("com.m") for name in names}
    assert listed == defined - {("com.microsoft", "EPContext"), ("com.microsoft", "Snpe")}
