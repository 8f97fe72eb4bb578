"""Seeds of the fuzz targets: small honest files, made here or taken from the samples of the tests; each target starts from all of its own kind."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import sys
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

SCANNING = Path(__file__).parents[1] / "scanning"
sys.path.insert(0, str(SCANNING))

from artifact_making import good_safetensors, onnx_bytes, rich_onnx  # noqa: E402

VALUES: tuple[Any, ...] = (
    {"a": [1, 2.5, None, True], "b": ("x", b"y", {3})},
    OrderedDict(w=np.arange(6.0).reshape(2, 3)),
    np.array([{"k": 1}, None], dtype=object),
    np.random.RandomState(0),
)
TEXTS = (
    b"plain words\nand more\n",
    b"a,b\n1,2\n3,4\n",
    b"a: 1\nb: [1, 2]\nc: &x {d: e}\nf: *x\n",
    b"import math\nprint(math.pi)\n",
    b"<?xml version='1.0'?><PMML version='4.4'><Header/></PMML>",
    b"{{ bos_token }}{% for m in messages %}{{ m['content'] | trim }}{% endfor %}",
    b'{"model_type": "bert", "auto_map": {}}',
    b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}',
    json.dumps(
        {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {},
            "cells": [{"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": 1}],
        }
    ).encode(),
)


def seeds() -> list[bytes]:
    """All of them."""
    samples = [path.read_bytes() for path in sorted((SCANNING / "samples").rglob("*")) if path.is_file() and path.name != "README.md"]
    pickles = [pickle.dumps(value, protocol) for value in VALUES for protocol in (0, 2, 4, 5)]
    arrays = [_saved(np.save, np.arange(6.0)), _saved(np.savez, np.arange(3)), _saved(np.save, np.zeros(2, [("a", "<i4"), ("b", "S3")]))]
    plain = [good_safetensors(), onnx_bytes(), rich_onnx(), _gguf(), *arrays, *pickles, *TEXTS]
    packed = [pack(plain[0]) for pack in (gzip.compress, bz2.compress, lzma.compress, zlib.compress)]
    return [
        *samples,
        *plain,
        *packed,
        _zip(plain[:3]),
        _tar(plain[:3]),
        *_hdf5(),
        b"\xff|\xff".join((TEXTS[6], b"\x08\x01\x12\0", b"flavors:\n")),
    ]


def _saved(write: Any, value: Any) -> bytes:
    buffer = io.BytesIO()
    write(buffer, value)
    return buffer.getvalue()


def _zip(contents: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"folder/{index}", content)
    return buffer.getvalue()


def _tar(contents: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for index, content in enumerate(contents):
            member = tarfile.TarInfo(f"{index}" + "n" * 150)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _gguf() -> bytes:
    """One key, no tensor (GGUF v3)."""
    key, value = b"general.architecture", b"llama"
    sized = len(key).to_bytes(8, "little") + key + (8).to_bytes(4, "little") + len(value).to_bytes(8, "little") + value
    return b"GGUF" + (3).to_bytes(4, "little") + bytes(8) + (1).to_bytes(8, "little") + sized


def _hdf5() -> list[bytes]:
    """Of both generations of the format, where h5py is there to write them."""
    try:
        import h5py
    except ImportError:
        return []
    found = []
    for version in ("earliest", "latest"):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=version) as file:
            file.attrs["keras_version"] = "2.15.0"
            file.create_group("model_weights").create_dataset("w", data=np.arange(64.0), chunks=(16,), compression="gzip")
            file["names"] = np.array([b"a", b"bc"])
        found.append(buffer.getvalue())
    return found
