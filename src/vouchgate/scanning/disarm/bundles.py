"""TensorFlow's variables (TensorBundle) as tensors: the index says where each lies, the shards hold their bytes.

Rules (tensorflow/core/util/tensor_bundle; tensorflow/core/util/saved_tensor_slice_util.cc)
1. A tensor's name is its key: `layer/kernel/.ATTRIBUTES/VARIABLE_VALUE` is `layer.kernel`. TensorFlow writes a dot of an attribute's name as two, a
   slash as `.S` (trackable_utils.py, `escape_local_name`); these stay as they are, so that no two keys become one name.
2. Bytes are copied as they lie in the shard; one whose checksum was computed and is another is not carried over.
3. A variable in slices gives its slices, each under its name and place; whoever loads them knows how they were cut.
4. Texts are plain values. What describes the objects around the variables is not carried over: a loader builds and runs by it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from math import prod
from typing import Any

from vouchgate.scanning import tensor_bundle
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.numpy_types import array
from vouchgate.scanning.disarm.tensors import BadTensor, Storage, row_major
from vouchgate.scanning.disarm.tensors import Tensor as Numbers
from vouchgate.scanning.pickles.dtypes import parse_code
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.tensor_bundle import STRING, Bundle, Tensor
from vouchgate.scanning.verdict import Refuse

MAX_TEXT_BYTES = 64 * 1024
"""Bytes of one tensor of texts that stand among the plain values; a vocabulary of more is told and left."""
Part = tuple[tuple[int, int], ...]
"""A slice: start and length along each dimension."""
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NARROW = {"bfloat16": "BF16", "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3"}
_QUANTISED = {11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16", 16: "quint16"}
"""`DataType` (types.proto) whose numbers are integers with a scale that the graph holds."""


def from_bundle(stem: str, files: Mapping[str, Storage], path: str, settings: ScanSettings, findings: Findings) -> dict[str, Any]:
    """One checkpoint's tensors, below `path`; what stands for them among the plain values."""
    index = files.get(f"{stem}.index")
    try:
        bundle = tensor_bundle.open_bundle(index.view if index else memoryview(b""), settings, "disarm")
    except Refuse as refuse:
        findings.drop("fault", f"{stem}.index", "the index of the checkpoint", refuse.reason.why)
        return {}
    findings.understood = True
    shards = [files.get(tensor_bundle.shard_name(stem, number, bundle.shards)) for number in range(bundle.shards)]
    return _Bundle(bundle, shards, path, findings).taken()


class _Bundle:
    """One checkpoint while it is taken apart."""

    def __init__(self, bundle: Bundle, shards: list[Storage | None], path: str, findings: Findings) -> None:
        self._bundle, self._shards, self._path, self._findings = bundle, shards, path, findings
        self._left = tensor_bundle.MAX_SUMMED

    def taken(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        parts = {slice_key(one.name, part): (one.name, part) for one in self._bundle.tensors for part in one.slices}
        for one in self._bundle.tensors:
            name = named(one.name) if one.key not in parts else _part_name(*parts[one.key])
            name = one.name if name in values else name
            if one.sliced:
                values[name] = {"$sliced": list(one.shape), "parts": [_part_name(one.name, part) for part in one.slices]}
            elif one.name == _OBJECTS:
                self._findings.drop(
                    "value", name, "the description of the objects", "a loader builds objects by it; the variables are carried over"
                )
            else:
                where = f"{self._path}.{name}" if self._path else name
                values[name] = self._one(one, where)
        return values

    def _one(self, one: Tensor, where: str) -> Any:
        try:
            raw = self._bytes(one)
            if one.dtype == STRING:
                return _texts(raw.view[one.offset : one.offset + one.size], one)
            return {"$tensor": self._findings.keep(where, _numbers(one, raw))}
        except BadTensor as bad:
            self._findings.drop("fault", where, f"variable {one.name}", str(bad))
            return {"$dropped": where[:200]}

    def _bytes(self, one: Tensor) -> Storage:
        """The shard, once the tensor's bytes are known to lie in it and, while the bound lasts, to have their checksum (rule 2)."""
        shard = self._shards[one.shard]
        if shard is None:
            raise BadTensor(f"shard {one.shard} of {self._bundle.shards} is not there")
        if one.offset + one.size > len(shard.view):
            raise BadTensor("it ends behind its shard")
        if one.dtype != STRING and one.size <= self._left:
            self._left -= one.size
            summed = tensor_bundle.crc32c(shard.view[one.offset : one.offset + one.size])
            if tensor_bundle.masked(summed) != one.crc:
                raise BadTensor("its bytes have another checksum than the index says")
        return shard


def named(key: str) -> str:
    """Rule 1."""
    return key.removesuffix(_VARIABLE).replace("/", ".")


def _part_name(name: str, part: Part) -> str:
    """`layer.kernel[0:2,:]`."""
    return f"{named(name)}[{','.join(f'{start}:{start + length}' if length >= 0 else ':' for start, length in part)}]"


def slice_key(name: str, part: Part) -> bytes:
    """The key of a slice's entry (`EncodeTensorNameSlice`; tensorflow/core/lib/strings/ordered_code.cc)."""
    text = name.encode().replace(b"\xff", b"\xff\x00").replace(b"\0", b"\0\xff")
    places = b"".join(_signed(number) for extent in part for number in extent)
    return b"\0" + text + b"\0\x01" + (bytes([1, len(part)]) if part else b"\0") + places


def _signed(value: int) -> bytes:
    """`WriteSignedNumIncreasing`: as many leading ones as there are bytes, then the number, so that bytes sort as numbers do."""
    count = (value ^ (value >> 64)).bit_length() // 7 + 1
    header = ((1 << count) - 1) << (8 * count - count)
    return (value % (1 << 8 * count) ^ header).to_bytes(count, "big")


def _numbers(one: Tensor, shard: Storage) -> Numbers:
    begin = shard.begin + one.offset if shard.begin >= 0 else -1
    storage = Storage(shard.view[one.offset : one.offset + one.size], begin)
    narrow = _NARROW.get(one.numpy)
    if narrow is not None:
        return Numbers(dtype=narrow, shape=one.shape, strides=row_major(one.shape), storage=storage)
    dtype = parse_code(one.numpy)
    if dtype is None:
        raise BadTensor("its elements are no plain numbers")
    made = array(dtype, one.shape, storage)
    was = _QUANTISED.get(one.dtype, made.was)
    return Numbers(dtype=made.dtype, shape=made.shape, strides=made.strides, storage=storage, was=was)


def _texts(raw: memoryview, one: Tensor) -> dict[str, Any]:
    """Lengths as varints, four bytes of their checksum, the texts (`WriteStringTensor`)."""
    count, here, lengths = prod(one.shape), 0, []
    if len(raw) > MAX_TEXT_BYTES or count > len(raw):
        raise BadTensor(f"its texts take {len(raw)} bytes; {MAX_TEXT_BYTES} are carried over as plain values")
    for _ in range(count):
        value = shift = 0
        while here < len(raw) and shift < 64:
            byte = raw[here]
            value |= (byte & 127) << shift
            here, shift = here + 1, shift + 7
            if byte < 128:
                break
        lengths.append(value)
    here += 4
    if here + sum(lengths) != len(raw):
        raise BadTensor("its texts are not as long as they say")
    texts = []
    for length in lengths:
        texts.append(_text(bytes(raw[here : here + length])))
        here += length
    return {"$texts": texts, "shape": list(one.shape)}


def _text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"$bytes": base64.b64encode(raw).decode()}
