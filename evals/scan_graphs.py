"""SavedModels and ONNX models that act, reach outside or break their reader; protobufs are written by hand. Frozen with the generators (scan.py, `FROZEN`)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from scan_containers import EVIL
from scan_keras import lambda_config


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def saved_model(ops: list[str], *, library: list[str] = (), attributes: bytes = b"") -> bytes:  # type: ignore[assignment]
    nodes = b"".join(field(1, field(1, f"n{index}") + field(2, op) + attributes) for index, op in enumerate(ops))
    function = field(
        2, field(1, field(1, field(1, "f")) + b"".join(field(3, field(1, f"m{index}") + field(2, op)) for index, op in enumerate(library)))
    )
    graph = nodes + (function if library else b"")
    return field(1, 1) + field(2, field(1, field(4, "serve")) + field(2, graph))


ACTING_OPS = (
    "PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile", "MatchingFiles", "WholeFileReaderV2", "TextLineReaderV2", "FixedLengthRecordReaderV2",
    "TFRecordReaderV2", "TextLineDataset", "TFRecordDataset", "FixedLengthRecordDatasetV2", "CSVDatasetV2", "SqlDataset", "LMDBDataset", "SaveDatasetV2",
    "LoadDataset", "SnapshotDatasetV2", "CacheDatasetV2", "DebugIdentityV2", "DebugNumericSummary", "WriteSummary",
    "CreateSummaryFileWriter", "ImportEvent", "WriteGraphSummary", "DecodeProtoV2", "RpcOp", "RpcClient", "RpcServer", "SendTPUEmbeddingGradients",
    "ConfigureDistributedTPU", "TRTEngineOp", "MyCustomOp", "LoadLibrary", "Save", "SaveSlices", "DatasetToTFRecord", "ParallelFilenames", "RemoteCall", "DataServiceDatasetV2",
    "KafkaDataset", "BigQueryReader", "GcsConfigureCredentials", "S3", "DeleteFile",
)  # fmt: skip


def tensorflow() -> Iterator[tuple[str, dict[str, bytes]]]:
    for op in ACTING_OPS:
        yield f"op:{op.rstrip(chr(0))}", {"saved_model.pb": saved_model(["Placeholder", op, "Identity"])}
    for op in ("PyFunc", "WriteFile", "ReadFile", "EagerPyFunc"):
        yield f"in-a-function:{op}", {"saved_model.pb": saved_model(["PartitionedCall"], library=[op])}
    to_a_file = field(5, field(1, "output_stream") + field(2, field(2, "file:///tmp/vouchgate-canary/fired")))
    yield "op:PrintV2-to-a-file", {"saved_model.pb": saved_model(["PrintV2"], attributes=to_a_file)}
    yield "asset-outside", {"saved_model.pb": saved_model(["Placeholder"]), "assets.extra/run.py": b"import os\nos.system('x')\n"}
    yield "variables-pickle", {"saved_model.pb": saved_model(["Placeholder"]), "variables/variables.index": EVIL}
    yield (
        "keras-metadata-lambda",
        {"saved_model.pb": saved_model(["Placeholder"]), "keras_metadata.pb": field(1, field(4, json.dumps(lambda_config())))},
    )
    yield "trailing", {"saved_model.pb": saved_model(["Placeholder"]) + EVIL}


def onnx_model(node: bytes, *, extra: bytes = b"", graph: bytes = b"", opset: str = "") -> bytes:
    imports = field(8, field(1, opset) + field(2, 17)) + (field(8, field(1, "") + field(2, 17)) if opset else b"")
    return field(1, 8) + field(2, "x") + field(7, field(1, node) + field(2, "g") + graph) + imports + extra


def _node(op: str, domain: str = "", attributes: bytes = b"") -> bytes:
    return field(1, "a") + field(2, "b") + field(3, "n") + field(4, op) + attributes + (field(7, domain) if domain else b"")


def _external_tensor(location: str) -> bytes:
    return field(1, 2) + field(2, 1) + field(8, "w") + field(13, field(1, "location") + field(2, location)) + field(14, 1)


def onnx() -> Iterator[tuple[str, bytes]]:
    yield "domain:evil", onnx_model(_node("Run", "evil.ops"), opset="evil.ops")
    yield "domain:python", onnx_model(_node("PythonOp", "com.microsoft.python"), opset="com.microsoft.python")
    yield "domain:aten", onnx_model(_node("ATen", "org.pytorch.aten"), opset="org.pytorch.aten")
    yield "domain:undeclared", onnx_model(_node("Run", "evil.ops"))
    yield "op:unknown", onnx_model(_node("ExecuteShell"))
    yield (
        "external:initializer-in-subgraph",
        onnx_model(
            _node(
                "If",
                "",
                field(5, field(1, "then_branch") + field(20, 5) + field(6, field(2, "s") + field(5, _external_tensor("../../etc/passwd")))),
            )
        ),
    )
    yield (
        "external:attribute",
        onnx_model(_node("Constant", "", field(5, field(1, "value") + field(20, 4) + field(5, _external_tensor("/etc/passwd"))))),
    )
    yield "external:sparse", onnx_model(_node("Relu"), graph=field(15, field(1, _external_tensor("/etc/shadow"))))
    yield (
        "external:hidden-in-training",
        onnx_model(_node("Relu"), extra=field(20, field(1, field(2, "t") + field(5, _external_tensor("/etc/passwd"))))),
    )
    yield "external:null", onnx_model(_node("Relu"), graph=field(5, _external_tensor("ok.bin\0../../x")))
    yield "external:proc", onnx_model(_node("Relu"), graph=field(5, _external_tensor("/proc/self/environ")))
    yield "external:url", onnx_model(_node("Relu"), graph=field(5, _external_tensor("http://127.0.0.1/x")))
    yield (
        "function:recursive",
        onnx_model(_node("F", "local"), opset="local", extra=field(25, field(1, "F") + field(10, "local") + field(7, _node("F", "local")))),
    )
    yield "function:shadows", onnx_model(_node("Relu"), extra=field(25, field(1, "Relu") + field(7, _node("Shell", "evil"))))
    yield "tensor:too-short", onnx_model(_node("Relu"), graph=field(5, field(1, 1000) + field(2, 1) + field(8, "w") + field(9, bytes(8))))
    yield (
        "tensor:overflow",
        onnx_model(_node("Relu"), graph=field(5, field(1, 1 << 40) + field(1, 1 << 40) + field(2, 1) + field(8, "w") + field(9, bytes(8)))),
    )
    yield (
        "session-options",
        onnx_model(
            _node("Relu"), extra=field(14, field(1, "ort_config") + field(2, '{"session_options": {"custom_ops_library": "/tmp/x.so"}}'))
        ),
    )
    yield "trailing-pickle", onnx_model(_node("Relu")) + EVIL
