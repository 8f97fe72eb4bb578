"""The finder of model files: real files of each format, files that are none, and names that lie."""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.inventory.catalog import find, finder
from vouchgate.inventory.finders import HEAD_BYTES, Asset, FileFact
from vouchgate.inventory.finders.model_files import FINDER
from vouchgate.vocabulary.errors import InvalidInput, NotFound

CORPUS = Path(__file__).parents[2].parent / "shared/corpus/ai-artifacts-public.tar.xz"
TOLD_AS = {
    "pickle": {"pickle"}, "joblib": {"pickle", "joblib"}, "pytorch-zip": {"torch-zip"}, "torchscript": {"torch-zip"}, "gguf": {"gguf"},
    "pytorch-legacy": {"torch-legacy"}, "numpy": {"npy", "npz"}, "onnx": {"onnx"}, "tf-savedmodel": {"savedmodel"}, "parquet": {"parquet"},
    "keras-v3": {"keras-zip"}, "keras-h5": {"hdf5"}, "lightgbm": {"lightgbm"}, "text": {None}, "notebook": {None},
}  # fmt: skip


def told(path: str, data: bytes) -> Asset | None:
    found = list(find([FileFact(path=path, head=data[:HEAD_BYTES], size=len(data))]))
    assert len(found) <= 1
    return found[0] if found else None


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


def array(value: object, **options: object) -> bytes:
    out = io.BytesIO()
    np.save(out, value, **options)
    return out.getvalue()


def safetensors_file() -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"abcd"


def onnx_file() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", 1, [1])])
    return helper.make_model(graph).SerializeToString()


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("m.safetensors", safetensors_file, ("weights", "safetensors", True)),
        ("m.onnx", onnx_file, ("model", "onnx", False)),
        ("m", onnx_file, ("model", "onnx", False)),
        ("m.gguf", lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 0), ("model", "gguf", True)),
        ("m.gguf", lambda: b"GGUF" + struct.pack(">IQQ", 3, 0, 0), ("model", "gguf", True)),
        ("m.gguf", lambda: b"GGUF" + struct.pack("<I", 1), ("model", "gguf", True)),
        ("m.gguf", lambda: b"GGUF" + struct.pack("<I", 99), ("model", "gguf", True)),
        ("m.onnx", lambda: b"\x08\x01\x3a\x00", ("model", "onnx", False)),
        ("m.onnx", lambda: b"\x08\x40\x3a\x00", ("model", "onnx", False)),
        ("m.safetensors", lambda: struct.pack("<Q", 2) + b"{}", ("weights", "safetensors", True)),
        ("m.pkl", lambda: b"\x80\x02.", ("code-bearing", "pickle", False)),
        ("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(88), ("code-bearing", "hdf5", True)),
        ("m.h5", lambda: bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(88), ("code-bearing", "hdf5", False)),
        ("m.pt", lambda: zipped("m/data.pkl", "m/data/0"), ("code-bearing", "torch-zip", True)),
        ("m.pt", lambda: zipped("m/data/0", "m/data.pkl"), ("code-bearing", "torch-zip", False)),
        ("m.keras", lambda: zipped("metadata.json", "config.json"), ("code-bearing", "keras-zip", True)),
        ("a.npz", lambda: zipped("x.npy"), ("dataset", "npz", False)),
        ("m.pkl", lambda: pickle.dumps({"a": 1}, 4), ("code-bearing", "pickle", True)),
        ("m.pkl", lambda: pickle.dumps({"a": 1}, 5), ("code-bearing", "pickle", True)),
        ("m.pkl", lambda: pickle.dumps({"a": 1}, 2), ("code-bearing", "pickle", False)),
        ("m.pkl", lambda: pickle.dumps({"a": 1}, 0), ("code-bearing", "pickle", False)),
        ("m.pkl", lambda: b"cos\nsystem\n(S'true'\ntR.", ("code-bearing", "pickle", False)),
        ("a.npy", lambda: array(np.zeros(3)), ("dataset", "npy", True)),
        ("a.npy", lambda: array(np.array([{}], dtype=object), allow_pickle=True), ("code-bearing", "npy", True)),
        ("d.parquet", lambda: b"PAR1" + bytes(20) + b"PAR1", ("dataset", "parquet", True)),
        ("m.tflite", lambda: struct.pack("<I", 28) + b"TFL3" + bytes(20), ("model", "tflite", True)),
        ("saved/saved_model.pb", lambda: b"\x08\x01\x12\x02\x0a\x00", ("code-bearing", "savedmodel", False)),
        ("m.joblib", lambda: b"\x78\x9c" + bytes(20), ("code-bearing", "joblib", False)),
        ("m.txt", lambda: b"tree\nversion=v4\nnum_class=1\n", ("model", "lightgbm", True)),
    ],
)  # fmt: skip
def test_files_are_told_by_their_bytes(name, make, expected):
    one = told(name, make())
    assert one is not None and (one.kind, one.format, one.certain) == expected
    assert one.because and one.finder == "model-files" and not one.disguised


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.onnx", b""), ("m.onnx", b"\x08"), ("m.onnx", b"<html>"), ("m.onnx", b"\x08\x00\x3a\x00"), ("m.onnx", b"\x08\x7f\x3a\x00"),
        ("x.pb", b"\x08\x07\x12\x04test"), ("m.safetensors", struct.pack("<Q", 10**9) + b"{" + bytes(50)), ("m.safetensors", bytes(64)),
        ("m.safetensors", struct.pack("<Q", 60) + b"{}"), ("m.safetensors", struct.pack("<Q", 2) + b"[]"), ("m.gguf", b"GGUF"), ("m.gguf", b"GGUF" + struct.pack("<I", 100)), ("m.onnx", b"\x08\x41\x3a\x00"),
        ("m.safetensors", struct.pack("<Q", 3) + b"{}"), ("m.safetensors", struct.pack("<Q", 1) + b"{}"), ("m.pkl", b"\x80\x01."), ("m.pkl", b"\x80\x06."),
        ("m.gguf", b"GGUF" + bytes(8)), ("m.gguf", b"GGUF are letters"), ("m.pkl", b"\x80\x07."), ("m.pkl", b"\x80"), ("m.pt", b"PK\x03\x04"),
        ("a.zip", zipped("readme.txt")), ("a.zip", zipped("data.pkl")), ("m.joblib", b"plain words"), ("x.gz", b"\x1f\x8b" + bytes(20)),
        ("m.h5", b"\x89HDF\r\n"), ("README.md", b"# GGUF and PAR1"), ("code.py", b"import os\n"), ("code.c", b"int main;\n"), ("m.tflite", b"TFL3"),
        ("a.csv", b"a,b\n1,2\n"), ("deploy.yaml", b"tree\nversion=1"), ("mail.txt", b"(dp is a word"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_not_called_one(name, data):
    assert told(name, data) is None


@pytest.mark.parametrize(
    ("name", "disguised"),
    [
        ("model.safetensors", True), ("MODEL.SAFETENSORS", True), ("notes.txt", True), ("config.json", True), ("logo.png", True), ("m.onnx", True),
        ("m.pkl", False), ("m.bin", False), ("m", False), (".safetensors", False), ("a.safetensors/m", False),
    ],
)  # fmt: skip
def test_a_pickle_under_another_name_is_called_disguised(name, disguised):
    one = told(f"/models/{name}", pickle.dumps([1, 2], 4))
    assert one is not None and one.kind == "code-bearing" and one.disguised is disguised


def test_weights_under_the_name_of_a_pickle_are_weights():
    assert told("m.pkl", safetensors_file()).format == "safetensors"


@given(st.binary(max_size=300), st.text(max_size=20), st.integers(0, 10**12))
def test_any_fact_gives_an_asset_or_nothing(head, path, size):
    for one in find([FileFact(path=path, head=head, size=size)]):
        assert one.path == path and one.size == size >= len(head)


@pytest.mark.parametrize("name", ["m.onnx", "m.pt", "m.safetensors", "m.gguf", "saved_model.pb", "m.npy", "m.pkl"])
def test_every_cut_of_a_real_head_is_read_without_error(name):
    for data in (safetensors_file(), onnx_file(), zipped("m/data.pkl"), pickle.dumps([1], 4), array(np.zeros(2)), b"GGUF" + bytes(20)):
        for end in range(len(data)):
            told(name, data[:end])


@pytest.mark.parametrize(
    "fact",
    [
        FileFact(path="x", head=bytes(HEAD_BYTES + 1), size=10**6), FileFact(path="x" * 5000, head=b"", size=0), FileFact(path="x", head=b"", size=-1),
    ],
)  # fmt: skip
def test_a_fact_over_the_bounds_is_refused(fact):
    with pytest.raises(InvalidInput):
        list(find([fact]))


def test_the_labelled_corpus_is_told_as_it_is_labelled():
    if not CORPUS.exists():
        pytest.skip("the shared corpus of labelled artifacts is not beside this repository")
    with tarfile.open(CORPUS) as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member).read() for member in archive if member.isfile()}
    rows = [row for row in csv.DictReader(io.StringIO(files["labels.csv"].decode())) if row["format"] in TOLD_AS and row["path"] in files]
    wrong = []
    for row in rows:
        one = told(row["path"], files[row["path"]])
        if (one.format if one else None) not in TOLD_AS[row["format"]]:
            wrong.append((row["path"], row["format"], one))
    assert len(rows) > 300 and wrong == []


def test_the_catalog_refuses_unknown_names():
    assert finder("model-files") is FINDER
    with pytest.raises(NotFound):
        finder("containers")
