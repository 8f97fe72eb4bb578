"""Model and data files, told by their first bytes.

Rules
1. Content decides; a name's ending only shows that a file is disguised, or settles two readings of the same bytes.
2. What may run code when it is opened is called `code-bearing`, whatever its name says.
3. A magic number that other files share (zip, protobuf, pickle of old protocols) is not certain.

The numbers: safetensors README "Format"; GGUF spec (ggml docs/gguf.md); ONNX onnx.proto ModelProto; HDF5 File Format, section II.A; pickle
PEP 307 and 3154; torch/serialization.py MAGIC_NUMBER; TensorFlow saved_model.proto; TFLite schema.fbs; NumPy npy format; Parquet and Arrow
file formats; APPNOTE.TXT section 4.3.7 (zip).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Literal

from vouchgate.inventory.finders import Asset, FileFact, Finder
from vouchgate.vocabulary.wire import Noun

NAME = "model-files"
MAX_SAFETENSORS_HEADER = 100_000_000
"""Bytes; the reference reader refuses more (safetensors, MAX_HEADER_SIZE)."""
MAX_IR_VERSION = 64
"""ONNX stands at 14 (onnx 1.23) and rises by about one a year; more is another protobuf."""
MAX_GGUF_VERSION = 99
"""GGUF stands at 3; a huge number is a big-endian file or no GGUF."""
_GGML_OLD = (b"lmgg", b"fmgg", b"tjgg", b"algg")
_TORCH_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_PROTOCOL_0 = re.compile(rb"\(?c[A-Za-z_][A-Za-z0-9_.]*\r?\n[A-Za-z_][A-Za-z0-9_.]*\r?\n|\([dl]p\d+\r?\n|\(?\([A-Z]'")
_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00")
"""zlib, gzip, bzip2, xz and lzma, which joblib writes."""
_ZIP_LOCAL = b"PK\x03\x04"

Kind = Literal["model", "weights", "dataset", "code-bearing"]


class _Seen(Noun, frozen=True, kw_only=True):
    kind: Kind
    format: str
    certain: bool
    because: str


def find(fact: FileFact) -> Asset | None:
    """What the file is, or None where it is nothing that we know."""
    if fact.size < len(fact.head):
        return None
    for tell in _TELLS:
        seen = tell(fact)
        if seen is not None:
            return Asset(
                kind=seen.kind,
                format=seen.format,
                path=fact.path,
                size=fact.size,
                certain=seen.certain,
                because=seen.because,
                disguised=_disguised(fact.path, seen.format),
                finder=NAME,
            )
    return None


_ENDINGS: dict[str, tuple[str, ...]] = {
    ".safetensors": ("safetensors",),
    ".gguf": ("gguf",),
    ".onnx": ("onnx",),
    ".h5": ("hdf5",),
    ".hdf5": ("hdf5",),
    ".keras": ("keras-zip", "hdf5"),
    ".tflite": ("tflite",),
    ".npy": ("npy",),
    ".npz": ("npz",),
    ".parquet": ("parquet",),
    ".arrow": ("arrow",),
    ".feather": ("arrow",),
    ".txt": ("lightgbm",),
    ".json": (),
    ".md": (),
    ".csv": (),
    ".png": (),
    ".jpg": (),
}
"""What a name with this ending promises to be."""


def _disguised(path: str, told: str) -> bool:
    name = path.rpartition("/")[2].lower()
    ending = name[name.rfind(".") :] if "." in name[1:] else ""
    return ending in _ENDINGS and told not in _ENDINGS[ending]


def _safetensors(fact: FileFact) -> _Seen | None:
    if len(fact.head) < 9:
        return None
    (header,) = struct.unpack_from("<Q", fact.head)
    if not 2 <= header <= MAX_SAFETENSORS_HEADER or 8 + header > fact.size or fact.head[8:9] != b"{":
        return None
    return _Seen(kind="weights", format="safetensors", certain=True, because=f"a header of {header} bytes of JSON after its length")


def _gguf(fact: FileFact) -> _Seen | None:
    if not fact.head.startswith(b"GGUF") or len(fact.head) < 8:
        return None
    little, big = struct.unpack_from("<I", fact.head, 4)[0], struct.unpack_from(">I", fact.head, 4)[0]
    version = min(little, big)
    if not 1 <= version <= MAX_GGUF_VERSION:
        return None
    return _Seen(kind="model", format="gguf", certain=True, because=f"GGUF of version {version}")


def _fixed(magic: bytes, kind: Kind, name: str, *, at: int = 0) -> Callable[[FileFact], _Seen | None]:
    def tell(fact: FileFact) -> _Seen | None:
        if fact.head[at : at + len(magic)] != magic:
            return None
        return _Seen(kind=kind, format=name, certain=True, because=f"its magic number at offset {at}")

    return tell


def _npy(fact: FileFact) -> _Seen | None:
    if not fact.head.startswith(b"\x93NUMPY"):
        return None
    # An array of objects is a pickle behind the header (NEP 1, "Format Specification").
    objects = b"|O" in fact.head[:512]
    return _Seen(kind="code-bearing" if objects else "dataset", format="npy", certain=True, because="NumPy's magic number")


def _ggml_old(fact: FileFact) -> _Seen | None:
    if fact.head[:4] not in _GGML_OLD or len(fact.head) < 8:
        return None
    return _Seen(kind="weights", format="ggml", certain=False, because="a magic number of llama.cpp before GGUF")


def _hdf5(fact: FileFact) -> _Seen | None:
    """The superblock lies at 0, or behind a user block at 512 and every doubling (HDF5 File Format, section II.A)."""
    for at in (0, 512, 1024, 2048):
        if fact.head[at : at + 8] == b"\x89HDF\r\n\x1a\n":
            return _Seen(kind="code-bearing", format="hdf5", certain=at == 0, because=f"an HDF5 superblock at offset {at}")
    return None


def _torch_legacy(fact: FileFact) -> _Seen | None:
    if not fact.head.startswith(_TORCH_LEGACY):
        return None
    return _Seen(kind="code-bearing", format="torch-legacy", certain=True, because="PyTorch's magic number as a pickle")


def _pickle(fact: FileFact) -> _Seen | None:
    head = fact.head
    if len(head) < 3 or head[0] != 0x80 or not 2 <= head[1] <= 5:
        return None
    framed = head[1] >= 4 and head[2] == 0x95 and len(head) >= 11 and 11 + struct.unpack_from("<Q", head, 3)[0] <= fact.size
    because = f"pickle of protocol {head[1]}" + (" with a frame" if framed else "")
    return _Seen(kind="code-bearing", format="pickle", certain=framed, because=because)


def _pickle_text(fact: FileFact) -> _Seen | None:
    """Protocol 0 has no magic number: an import, or a list, dictionary or tuple put into the memo."""
    if not _PROTOCOL_0.match(fact.head[:256]):
        return None
    return _Seen(kind="code-bearing", format="pickle", certain=False, because="the opcodes with which a pickle of protocol 0 begins")


def _joblib(fact: FileFact) -> _Seen | None:
    if not fact.path.lower().endswith(".joblib") or not fact.head.startswith(_COMPRESSED):
        return None
    return _Seen(kind="code-bearing", format="joblib", certain=False, because="compressed bytes under the name of a joblib file")


def _zip(fact: FileFact) -> _Seen | None:
    head = fact.head
    if not head.startswith(_ZIP_LOCAL) or len(head) < 30:
        return None
    length = struct.unpack_from("<H", head, 26)[0]
    first = head[30 : 30 + length].decode("utf-8", "replace")
    because = f"a zip archive whose first file is `{first[:80]}`"
    name = fact.path.lower()
    root, slash, rest = first.partition("/")
    if root and slash and (rest in {"data.pkl", "constants.pkl", "byteorder", ".format_version"} or rest.startswith("data/")):
        return _Seen(kind="code-bearing", format="torch-zip", certain=first.endswith(".pkl"), because=because)
    if first in {"metadata.json", "config.json", "model.weights.h5"}:
        return _Seen(kind="code-bearing", format="keras-zip", certain=name.endswith(".keras"), because=because)
    if first.endswith(".npy"):
        return _Seen(kind="dataset", format="npz", certain=False, because=because)
    return None


def _protobuf(fact: FileFact) -> _Seen | None:
    """ONNX and SavedModel are protobufs without a magic number (rule 3): both begin with a small integer in field 1."""
    head = fact.head
    if len(head) < 4 or head[0] != 0x08 or not 1 <= head[1] <= MAX_IR_VERSION:
        return None
    name = fact.path.rpartition("/")[2].lower()
    # saved_model_schema_version is 1, meta_graphs is field 2; ONNX with ir_version 1 looks the same.
    if name == "saved_model.pb" and head[1] == 1 and head[2] == 0x12:
        return _Seen(kind="code-bearing", format="savedmodel", certain=False, because="the schema version of a SavedModel, and its name")
    # After ir_version follow, in any order: producer_name (2), its version (3), domain (4), doc_string (6), graph (7), opset_import (8).
    if head[2] not in {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42}:
        return None
    if not name.endswith(".onnx") and b"onnx" not in head and b"ai." not in head and head[2] not in {0x3A, 0x42}:
        return None
    return _Seen(kind="model", format="onnx", certain=False, because=f"the ir_version {head[1]} of an ONNX model, and a field of its next")


def _boosters(fact: FileFact) -> _Seen | None:
    if fact.head.startswith(b"tree\nversion=v"):
        return _Seen(kind="model", format="lightgbm", certain=True, because="LightGBM's first two lines")
    return None


_TELLS: tuple[Callable[[FileFact], _Seen | None], ...] = (
    _safetensors,
    _gguf,
    _hdf5,
    _fixed(b"TFL3", "model", "tflite", at=4),
    _npy,
    _fixed(b"PAR1", "dataset", "parquet"),
    _fixed(b"ARROW1\x00\x00", "dataset", "arrow"),
    _torch_legacy,
    _zip,
    _pickle,
    _pickle_text,
    _joblib,
    _ggml_old,
    _boosters,
    _protobuf,
)
"""Asked in turn; those with a magic number of their own first."""

FINDER = Finder(
    name=NAME, version=1, find=find, summary="model and data files by their first bytes; which of them may run code when opened"
)
