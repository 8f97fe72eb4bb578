"""Disarm of ONNX and safetensors: the graph stays where it names nobody's code, the weights stay in any case, text does not."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from artifact_making import entry, good_safetensors, graph, model, onnx_bytes, rich_onnx, safetensors
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load

from vouchgate.scanning.disarm.rebuild import Rebuilt, rebuild
from vouchgate.scanning.disarm.report import sidecar
from vouchgate.scanning.disarm.safetensors_file import Copy, Mismatch
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Refuse


def written(artifact: bytes) -> tuple[Rebuilt, bytes]:
    rebuilt = rebuild(memoryview(artifact))
    parts = [artifact[piece[0] : piece[0] + piece[1]] if isinstance(piece, Copy) else bytes(piece) for piece in rebuilt.pieces()]
    content = b"".join(parts)
    assert rebuilt.compare(io.BytesIO(content).read) == len(content)
    return rebuilt, content


def test_a_graph_stays_and_what_surrounds_it_goes() -> None:
    made = model(doc_string="<script>x</script>")
    made.graph.doc_string = "{{ 7*7 }}"
    made.graph.node[0].doc_string = "eval(1)"
    helper.set_model_props(made, {"note": "__import__('os')"})
    before = onnx.load_from_string(made.SerializeToString())
    rebuilt, content = written(made.SerializeToString())
    after = onnx.load_from_string(content)
    assert (rebuilt.format, scan(content).outcome, scan(made.SerializeToString()).outcome) == ("onnx", "clean", "refused")
    assert not any(word in content for word in (b"script", b"7*7", b"eval", b"import", b"producer", b"test"))
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
    assert [tensor.SerializeToString() for tensor in after.graph.initializer] == [
        tensor.SerializeToString() for tensor in before.graph.initializer
    ]
    onnx.checker.check_model(after, full_check=True)


def test_a_rich_model_means_the_same_afterwards() -> None:
    rebuilt, content = written(rich_onnx())
    assert rebuilt.format == "onnx" and scan(content).outcome == "clean"
    before, after = onnx.load_from_string(rich_onnx()), onnx.load_from_string(content)
    for made in (before, after):
        for name in ("producer_name", "producer_version", "doc_string", "metadata_props"):
            made.ClearField(name)
        for part in (made.graph, *made.functions, *made.graph.node, *made.graph.initializer, *made.graph.input, *made.graph.output):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")
    assert {name for name in ("graph", "functions", "opset_import") if getattr(before, name) != getattr(after, name)} == set()


TYPED = {
    "floats": ([1.5, -2.5], TensorProto.FLOAT, np.float32),
    "doubles": ([1.5, -2.5], TensorProto.DOUBLE, np.float64),
    "bytes": ([1, 255], TensorProto.UINT8, np.uint8),
    "signed": ([-1, 2], TensorProto.INT8, np.int8),
    "longs": ([-1, 2**40], TensorProto.INT64, np.int64),
    "flags": ([True, False], TensorProto.BOOL, np.bool_),
}


def test_code_of_others_goes_and_the_weights_stay() -> None:
    tensors = [helper.make_tensor(name, kind, [2], numbers) for name, (numbers, kind, _) in TYPED.items()]
    tensors.append(numpy_helper.from_array(np.arange(6, dtype=np.float16).reshape(2, 3), "raw"))
    custom = helper.make_node("RunPython", ["x"], ["y"], domain="ai.onnx.contrib", code="import os")
    made = model(graph([custom], tensors), opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)])
    rebuilt, content = written(onnx_bytes(made))
    found = load(content)
    assert rebuilt.format == "safetensors" and scan(content).outcome == "clean"
    assert found["raw"].tolist() == [[0, 1, 2], [3, 4, 5]]
    for name, (numbers, _, dtype) in TYPED.items():
        assert found[name].dtype == dtype and found[name].tolist() == numbers, name
    assert any(one.kind == "call" for one in rebuilt.findings.dropped) and b"import" not in content


def test_a_tensor_in_another_file_is_not_fetched() -> None:
    outside = TensorProto(name="out", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="../../etc/passwd")
    inside = helper.make_tensor("in", TensorProto.FLOAT, [1], [3.0])
    rebuilt, content = written(onnx_bytes(model(graph([helper.make_node("Relu", ["x"], ["y"])], [outside, inside]))))
    assert list(load(content)) == ["in"]
    assert any(one.kind == "fault" and "another file" in one.why for one in rebuilt.findings.dropped)


def test_a_changed_graph_is_found_out() -> None:
    rebuilt, content = written(onnx_bytes())
    changed = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(Mismatch):
        rebuilt.compare(io.BytesIO(changed).read)


def test_safetensors_are_written_anew_without_their_metadata() -> None:
    header = {"__metadata__": {"note": "<script>"}, "w": entry("F32", [2], 0, 8)}
    rebuilt, content = written(safetensors(header, bytes(8)))
    assert b"script" not in content and (sidecar(rebuilt) or {})["values"]["$metadata"] == {"note": "<script>"}
    assert set(written(good_safetensors())[0].findings.tensors) == {"a", "none", "b", "scalar"}


def test_broken_safetensors_give_what_fits() -> None:
    header = {
        "a": entry("F32", [2], 0, 8),
        "b": entry("F32", [2], 4, 12),
        "c": entry("F32", [9], 0, 8),
        "d": entry("F32", [1], 40, 44),
        "e": 3,
    }
    rebuilt, content = written(safetensors(header, bytes(range(12)) + b"payload behind"))
    assert set(load(content)) == {"a", "b"}
    assert {one.where for one in rebuilt.findings.dropped} == {"c", "d", "e"}
    assert b"payload" not in content


@pytest.mark.parametrize("cut", [9, 20, 60])
def test_truncated_models_are_refused_or_rebuilt(cut: int) -> None:
    for original in (rich_onnx(), good_safetensors()):
        try:
            _, content = written(original[:-cut])
        except Refuse:
            continue
        assert scan(content).outcome == "clean"
