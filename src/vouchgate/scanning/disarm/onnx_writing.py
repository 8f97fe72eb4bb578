"""Writes ONNX models in protobuf's wire format: what a rebuilt estimator needs, and nothing else.

Rules (onnx.proto of ONNX 1.16, IR version 10; protobuf "Encoding" guide)
1. Messages are written field by field, numbers beside the code; tensors as raw little-endian bytes, texts as UTF-8.
2. A graph is a chain of operators over values that are named by their number, so no text of an artifact becomes a name.
3. The same model is the same bytes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

IR_VERSION = 10
OPSETS = (("", 21), ("ai.onnx.ml", 5))
"""Operator sets of ONNX 1.16, the first with `TreeEnsemble` over float64."""
FLOAT, INT64, STRING, BOOL, DOUBLE, UINT8 = 1, 7, 8, 9, 11, 2
"""TensorProto.DataType."""
_OF_INT, _OF_TENSOR, _OF_INTS = 2, 4, 7
"""AttributeProto.AttributeType."""
Attribute: TypeAlias = "int | array[int] | bytes"
"""A number, numbers, or an encoded tensor."""


def varint(value: int) -> bytes:
    """A number as two's complement of 64 bits in groups of seven."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(place: int, value: int) -> bytes:
    """A field that is a number."""
    return varint(place << 3) + varint(value)


def message(place: int, *parts: bytes) -> bytes:
    """A field that is bytes, a text, or a message of `parts`."""
    return varint(place << 3 | 2) + varint(sum(map(len, parts))) + b"".join(parts)


def tensor(kind: int, shape: Sequence[int], data: bytes | array[float] | array[int], name: str = "") -> bytes:
    """TensorProto: dims 1, data_type 2, name 8, raw_data 9."""
    return b"".join(
        (*(number(1, size) for size in shape), number(2, kind), message(8, name.encode()) if name else b"", message(9, raw(data)))
    )


def texts(items: Sequence[str], name: str = "") -> bytes:
    """TensorProto of strings: string_data 6."""
    return number(1, len(items)) + number(2, STRING) + b"".join(message(6, item.encode()) for item in items) + message(8, name.encode())


def raw(data: bytes | array[float] | array[int]) -> bytes:
    """Numbers in little-endian order."""
    if isinstance(data, bytes):
        return data
    if sys.byteorder == "big":
        data = data[:]
        data.byteswap()
    return data.tobytes()


def doubles(values: Iterable[float], shape: Sequence[int]) -> bytes:
    """A tensor of float64, as an attribute."""
    return tensor(DOUBLE, shape, array("d", values))


@dataclass
class Graph:
    """A model being written. Every method that makes a value gives its name."""

    features: int
    _nodes: list[bytes] = field(default_factory=list)
    _constants: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)
    _made: int = 0

    def constant(self, kind: int, shape: Sequence[int], data: bytes | array[float] | array[int]) -> str:
        """An initialiser."""
        name = self._name()
        self._constants.append(message(5, tensor(kind, shape, data, name)))
        return name

    def numbers(self, values: Iterable[float], *shape: int) -> str:
        """An initialiser of float64."""
        return self.constant(DOUBLE, shape, array("d", values))

    def whole(self, values: Iterable[int], *shape: int) -> str:
        """An initialiser of int64."""
        return self.constant(INT64, shape, array("q", values))

    def words(self, items: Sequence[str]) -> str:
        """An initialiser of texts."""
        name = self._name()
        self._constants.append(message(5, texts(items, name)))
        return name

    def run(self, operator: str, *inputs: str, domain: str = "", output: str = "", **attributes: Attribute) -> str:
        """One operator with one result. NodeProto: input 1, output 2, name 3, op_type 4, attribute 5, domain 7."""
        name = output or self._name()
        parts = [*(message(1, one.encode()) for one in inputs), message(2, name.encode()), message(3, f"node_{name}".encode())]
        parts += [message(4, operator.encode()), *(message(5, *_attribute(key, value)) for key, value in attributes.items())]
        parts += [message(7, domain.encode())] if domain else []
        self._nodes.append(message(1, *parts))
        return name

    def output(self, name: str, value: str, kind: int, *sizes: int) -> None:
        """A result of the model: the rows of the input, then `sizes`."""
        self.run("Identity", value, output=name)
        self._outputs.append(message(12, *_described(name, kind, sizes)))

    def model(self, described: str) -> bytes:
        """ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8. GraphProto: node 1, name 2, initializer 5, input 11, output 12."""
        source = message(11, *_described("X", DOUBLE, (self.features,)))
        graph = (*self._nodes, message(2, described.encode()), *self._constants, source, *self._outputs)
        versions = [message(8, message(1, domain.encode()) if domain else b"", number(2, version)) for domain, version in OPSETS]
        return b"".join((number(1, IR_VERSION), message(2, b"vouchgate disarm"), message(7, *graph), *versions))

    def _name(self) -> str:
        self._made += 1
        return f"v{self._made}"


def _attribute(name: str, value: Attribute) -> list[bytes]:
    """AttributeProto: name 1, i 3, t 5, ints 8, type 20."""
    parts = [message(1, name.encode())]
    if isinstance(value, bytes):
        return [*parts, message(5, value), number(20, _OF_TENSOR)]
    if isinstance(value, int):
        return [*parts, number(3, value), number(20, _OF_INT)]
    return [*parts, b"".join(b"\x40" + varint(one) for one in value), number(20, _OF_INTS)]


def _described(name: str, kind: int, sizes: Sequence[int]) -> list[bytes]:
    """ValueInfoProto: name 1, type 2; TypeProto.Tensor: elem_type 1, shape 2; dim_value 1, dim_param 2. The first dimension is the rows."""
    dims = [message(1, message(2, b"rows")), *(message(1, number(1, size)) for size in sizes)]
    return [message(1, name.encode()), message(2, message(1, number(1, kind), message(2, *dims)))]
