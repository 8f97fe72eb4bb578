"""Makes artifacts byte by byte, so that each test can break exactly one thing."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def safetensors(header: dict[str, Any] | str | bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header and data; `length` lies about the header."""
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def good_safetensors() -> bytes:
    """Two tensors, an empty one, a scalar and metadata."""
    header = {
        "__metadata__": {"format": "pt", "step": "12"},
        "a": entry("F32", [2, 2], 0, 16),
        "none": entry("F32", [0, 4], 16, 16),
        "b": entry("BF16", [3], 16, 22),
        "scalar": entry("I64", [], 22, 30),
    }
    return safetensors(header, bytes(range(30)))


def graph(nodes: list[Any] | None = None, initializers: list[Any] | None = None) -> Any:
    """A small graph: y = x W + b, or what is given."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "W")
    bias = helper.make_tensor("b", TensorProto.FLOAT, [2], [0.5, -0.5])
    chosen = [helper.make_node("Gemm", ["x", "W", "b"], ["y"], alpha=1.0)] if nodes is None else nodes
    return helper.make_graph(chosen, "g", [x], [y], [weights, bias] if initializers is None else initializers)


def model(made: Any = None, **more: Any) -> Any:
    """A model around a graph."""
    more.setdefault("opset_imports", [helper.make_opsetid("", 17)])
    made_model = helper.make_model(made or graph(), producer_name="test", **more)
    made_model.ir_version = 9
    return made_model


def onnx_bytes(made: Any = None) -> bytes:
    """A model's bytes."""
    content: bytes = (made or model()).SerializeToString(deterministic=True)
    return content


def rich_onnx() -> bytes:
    """A model with a subgraph, a local function, sparse and typed tensors, packed and unpacked numbers, metadata."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["W"], ["out"])], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    )
    function = helper.make_function(
        "local.ops", "Twice", ["a"], ["c"], [helper.make_node("Add", ["a", "a"], ["c"])], [helper.make_opsetid("", 17)]
    )
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [1], [3.0]), helper.make_tensor("s_index", TensorProto.INT64, [1], [2]), [4]
    )
    nodes = [
        helper.make_node("If", ["cond"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("Twice", ["x"], ["x2"], domain="local.ops"),
        helper.make_node("Constant", [], ["k"], sparse_value=sparse),
        helper.make_node("TreeEnsembleRegressor", ["x2"], ["t"], domain="ai.onnx.ml", nodes_nodeids=list(range(200)) + [-1] * 5),
        helper.make_node("Gemm", ["x2", "W", "b"], ["y"]),
    ]
    tensors = [
        numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "W"),
        helper.make_tensor("b", TensorProto.FLOAT, [2], [0.5, -0.5]),
        helper.make_tensor("cond", TensorProto.BOOL, [], [True]),
        helper.make_tensor("half", TensorProto.FLOAT16, [3], [1.0, 2.0, 3.0]),
        helper.make_tensor("names", TensorProto.STRING, [2], [b"zero", b"one"]),
        helper.make_tensor("negative", TensorProto.INT64, [3], [-1, -(2**62), 5]),
        helper.make_tensor("nibbles", TensorProto.INT4, [3], [1, -2, 3]),
        helper.make_tensor("complex", TensorProto.COMPLEX64, [1], [1 + 2j]),
    ]
    made = model(
        graph(nodes, tensors),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("local.ops", 1)],
        functions=[function],
    )
    onnx.helper.set_model_props(made, {"author": "nobody"})
    return onnx_bytes(made)
