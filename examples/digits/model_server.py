"""Serve one ONNX model by the Open Inference Protocol (KServe V2, HTTP/REST) with onnxruntime.

    python examples/digits/model_server.py --model build/digits/model.onnx --name digits --unix /run/digits.sock

Rules
1. The model's bytes are read once, from a path or from a descriptor that was handed down (`--model /dev/fd/N`), and loaded from memory.
   The server says nothing about their digest: whoever handed the bytes over knows it.
2. Tensors are JSON only; the binary extension is not offered, and a request that uses it is refused.
3. Errors are `{"error": "..."}` with a 4xx status, as the protocol says.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import stat
from collections.abc import Awaitable
from typing import Any

import http_serving
import msgspec
import numpy as np
import onnxruntime
from http_serving import Request, Response

MAX_MODEL_BYTES = 2 * 1024**3
"""What one protobuf message can hold."""
MAX_ELEMENTS = 1_000_000
"""Elements of one input tensor; the body is bounded too."""
VERSION = "1"
_NAMES = {
    "tensor(bool)": "BOOL", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32", "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32", "tensor(int64)": "INT64", "tensor(float16)": "FP16",
    "tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(string)": "BYTES",
}  # fmt: skip
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8, "INT16": np.int16,
    "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": object,
}  # fmt: skip
_ROUTE = re.compile(
    r"/v2(?:/(?P<health>health/(?:live|ready))|/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>ready|infer))?)?/?\Z"
)


class InputTensor(msgspec.Struct):
    """One input of an inference request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class RequestedOutput(msgspec.Struct):
    """An output that the client wants; all if none is named."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The body of `infer`."""

    inputs: list[InputTensor]
    outputs: list[RequestedOutput] | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}


class Refused(Exception):
    """A request that cannot be answered: the text goes to the client."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


_decoder = msgspec.json.Decoder(InferRequest)
_encoder = msgspec.json.Encoder()


class Model:
    """A loaded model and its metadata."""

    def __init__(self, name: str, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        self.name = name
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = {item.name: item for item in self._session.get_inputs()}
        self._outputs = {item.name: item for item in self._session.get_outputs()}

    def metadata(self) -> dict[str, Any]:
        """The model metadata response."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": "onnx_onnxv1",
            "inputs": [_described(item) for item in self._inputs.values()],
            "outputs": [_described(item) for item in self._outputs.values()],
        }

    def infer(self, request: InferRequest) -> dict[str, Any]:
        """The inference response. Raises `Refused`."""
        if "binary_data_output" in request.parameters:
            raise Refused("the binary tensor data extension is not offered; ask for JSON tensors")
        given = {tensor.name for tensor in request.inputs}
        if len(given) != len(request.inputs):
            raise Refused("an input is given twice")
        unknown, missing = given - self._inputs.keys(), self._inputs.keys() - given
        if unknown or missing:
            raise Refused(f"the model takes the inputs {', '.join(self._inputs)}; got {', '.join(sorted(given)) or 'none'}")
        wanted = [output.name for output in request.outputs or ()] or list(self._outputs)
        if unknown_outputs := set(wanted) - self._outputs.keys():
            raise Refused(f"`{min(unknown_outputs)[:80]}` is not an output; there are {', '.join(self._outputs)}")
        feed = {tensor.name: _array(tensor, self._inputs[tensor.name]) for tensor in request.inputs}
        try:
            results = self._session.run(wanted, feed)
        except Exception as error:
            raise Refused(f"the model could not be run on these inputs: {str(error).splitlines()[0][:200]}") from None
        outputs = [_tensor(self._outputs[name], value) for name, value in zip(wanted, results, strict=True)]
        answer: dict[str, Any] = {"model_name": self.name, "model_version": VERSION, "outputs": outputs}
        if request.id is not None:
            answer["id"] = request.id
        return answer


def _described(item: Any) -> dict[str, Any]:
    shape = [dimension if isinstance(dimension, int) else -1 for dimension in item.shape]
    return {"name": item.name, "datatype": _NAMES.get(item.type, "BYTES"), "shape": shape}


def _array(tensor: InputTensor, expected: Any) -> np.ndarray[Any, Any]:
    """The tensor as numpy holds it, checked against the model's declaration."""
    datatype = _NAMES.get(expected.type, "BYTES")
    if tensor.datatype != datatype:
        raise Refused(f"input `{tensor.name}` is {datatype}, not `{tensor.datatype[:20]}`")
    if tensor.data is None or "binary_data_size" in tensor.parameters:
        raise Refused(f"input `{tensor.name}` has no JSON `data`; the binary tensor data extension is not offered")
    declared = expected.shape
    fits = len(tensor.shape) == len(declared) and all(
        size >= 0 and (not isinstance(want, int) or want == size) for size, want in zip(tensor.shape, declared, strict=True)
    )
    if not fits:
        raise Refused(f"input `{tensor.name}` has shape {tensor.shape}, the model takes {_described(expected)['shape']}")
    elements = math.prod(tensor.shape)
    if elements > MAX_ELEMENTS:
        raise Refused(f"input `{tensor.name}` has {elements} elements, the bound is {MAX_ELEMENTS}", 413)
    return _values(tensor, datatype).reshape(tensor.shape)


def _values(tensor: InputTensor, datatype: str) -> np.ndarray[Any, Any]:
    """The data, flat or nested, of the right kind and in range."""
    try:
        raw = np.asarray(tensor.data, dtype=object if datatype == "BYTES" else None)
    except (ValueError, OverflowError):
        raise Refused(f"the data of `{tensor.name}` is not a tensor: rows differ in length or kind") from None
    if raw.shape != tuple(tensor.shape) and raw.shape != (math.prod(tensor.shape),):
        raise Refused(f"the data of `{tensor.name}` has shape {list(raw.shape)}, `shape` says {tensor.shape}")
    if datatype == "BYTES":
        if not all(isinstance(item, str) for item in raw.flat):
            raise Refused(f"the data of `{tensor.name}` holds something that is not a string")
        return raw
    kinds = {"BOOL": "b", "FP16": "iuf", "FP32": "iuf", "FP64": "iuf"}.get(datatype, "iu")
    if raw.size and raw.dtype.kind not in kinds:
        raise Refused(f"the data of `{tensor.name}` is not {datatype}")
    if kinds == "iu" and raw.size:
        bounds = np.iinfo(_DTYPES[datatype])
        if int(raw.min()) < bounds.min or int(raw.max()) > bounds.max:
            raise Refused(f"the data of `{tensor.name}` is out of the range of {datatype}")
    with np.errstate(over="ignore"):
        values: np.ndarray[Any, Any] = raw.astype(_DTYPES[datatype])
    if kinds == "iuf" and not np.isfinite(values).all():
        raise Refused(f"the data of `{tensor.name}` is out of the range of {datatype}")
    return values


def _tensor(item: Any, value: Any) -> dict[str, Any]:
    array = np.asarray(value)
    return {"name": item.name, "datatype": _NAMES.get(item.type, "BYTES"), "shape": list(array.shape), "data": array.ravel().tolist()}


class Server:
    """Routes of the protocol."""

    def __init__(self, model: Model, delay_ms: float) -> None:
        self._model, self._delay = model, delay_ms / 1000

    def __call__(self, request: Request) -> Response | Awaitable[Response]:
        """One answer; later by the delay where one is set and the request infers."""
        try:
            response = self._answer(request)
        except Refused as error:
            return _error(error.status, str(error))
        if self._delay and request.method == "POST" and response.status == 200:
            return _delayed(response, self._delay)
        return response

    def _answer(self, request: Request) -> Response:
        path = request.path.split("?", 1)[0]
        route = _ROUTE.match(path)
        if route is None:
            raise Refused(f"`{path[:120]}` is not a path of the Open Inference Protocol", 404)
        if route["model"] is not None:
            self._check_model(route["model"], route["version"])
        verb = route["verb"]
        allowed = "POST" if verb == "infer" else "GET"
        if request.method != allowed:
            response = _error(405, f"`{request.method[:20]}` is not allowed here, use {allowed}")
            response.headers = (("allow", allowed),)
            return response
        if verb == "infer":
            return self._infer(request)
        return Response(body=_encoder.encode(self._document(route)))

    def _document(self, route: re.Match[str]) -> dict[str, Any]:
        if route["health"]:
            return {route["health"].rpartition("/")[2]: True}
        if route["model"] is None:
            return {"name": "digits-server", "version": VERSION, "extensions": []}
        return {"name": self._model.name, "ready": True} if route["verb"] else self._model.metadata()

    def _check_model(self, name: str, version: str | None) -> None:
        if name != self._model.name:
            raise Refused(f"the model `{name[:80]}` is not here", 404)
        if version is not None and version != VERSION:
            raise Refused(f"version `{version[:20]}` of `{name}` is not here; there is {VERSION}", 404)

    def _infer(self, request: Request) -> Response:
        if "inference-header-content-length" in request.headers:
            raise Refused("the binary tensor data extension is not offered; send JSON tensors")
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(f"send application/json, not `{kind[:60]}`", 415)
        try:
            parsed = _decoder.decode(request.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(f"the request is not an inference request: {str(error)[:200]}") from None
        return Response(body=_encoder.encode(self._model.infer(parsed)))


def _error(status: int, why: str) -> Response:
    return Response(status=status, body=_encoder.encode({"error": why}))


async def _delayed(response: Response, seconds: float) -> Response:
    await asyncio.sleep(seconds)
    return response


def read_model(where: str) -> bytes:
    """The model's bytes, from a path or from `/dev/fd/N` (read through the descriptor itself, which needs no right to open the file)."""
    handed = re.fullmatch(r"/dev/fd/(\d+)", where)
    descriptor = int(handed[1]) if handed else os.open(where, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_MODEL_BYTES:
        raise SystemExit(f"`{where}` is not a regular file of at most {MAX_MODEL_BYTES} bytes")
    content = bytearray()
    while len(content) < facts.st_size:
        part = os.pread(descriptor, facts.st_size - len(content), len(content))
        if not part:
            raise SystemExit(f"`{where}` became shorter while it was read")
        content += part
    os.close(descriptor)
    return bytes(content)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="serve one ONNX model by the Open Inference Protocol (KServe V2)")
    parser.add_argument("--model", required=True, help="path of the ONNX file, or /dev/fd/N")
    parser.add_argument("--name", default="digits", help="name of the model in the API")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="wait this long before answering an inference (for measuring)")
    http_serving.add_listen_options(parser)
    options = parser.parse_args()
    model = Model(options.name, read_model(options.model))
    http_serving.run(Server(model, options.delay_ms), options, name=f"model server {options.name}")


if __name__ == "__main__":
    main()
