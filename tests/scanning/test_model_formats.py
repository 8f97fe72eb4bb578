"""Chat templates, GGUF, Hugging Face files, Keras configurations and SavedModel graphs: what is harmless passes, what acts does not."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from vouchgate.scanning import jinja, keras_config
from vouchgate.scanning.formats.tokenizer import repeats_a_repetition
from vouchgate.scanning.scan import scan, scan_folder

GOOD_TEMPLATES = [
    "{% for m in messages %}{{ m['role'] + ': ' + m.content | trim }}{% endfor %}",
    "{%- set ns = namespace(i=0) -%}{% for m in messages %}{% set ns.i = ns.i + 1 %}{{ images[ns.i] }}{% endfor %}",
    "{% macro show(x) %}{{ x | tojson }}{% endmacro %}{% for t in tools %}{{ show(t) }}{% endfor %}",
    "{{ strftime_now('%d %b') if strftime_now is defined else '' }}{{ raise_exception('no') if not messages }}",
    "{% for i in range(messages | length - 1, -1, -1) %}{% if messages[i].role == 'user' %}{% break %}{% endif %}{% endfor %}",
    "{% for k in arguments %}{{ k ~ '=' ~ arguments[k] }}{% endfor %}{% generation %}{{ content }}{% endgeneration %}",
]
BAD_TEMPLATES = [
    "{{ ''.__class__ }}", "{{ x['__cl' ~ 'ass__'] }}", "{% set a = '__class__' %}{{ x[a] }}", "{{ x | attr('__class__') }}", "{{ cycler }}",
    "{{ x['_' * 2] }}", "{{ '{0.__class__}'.format(x) }}", "{{ range(99999999) }}", "{{ 9 ** 9 ** 9 }}", "{% include 'x' %}",
    "{{ [x] | map(attribute='__class__') | list }}", "{{ [x] | map('attr', 'a') }}", "{{ os.system('x') }}", "{{ x['y']() }}",
    "{% macro f(k) %}{{ x[k] }}{% endmacro %}{{ f('__cl' + 'ass__') }}", "{% set range = x.y %}{{ range() }}", "{%", "{{ x.gi_frame }}",
    "{% set l = [] %}{% set m = l %}{{ l.append('_' ~ '_c') }}{{ x[m[0]] }}", "{{ x[['__class__'] | join] }}", "{{ " + "(" * 500 + " }}",
]  # fmt: skip


@pytest.mark.parametrize("template", GOOD_TEMPLATES)
def test_templates_that_print_messages(template: str) -> None:
    assert jinja.check(template, "t", "x") == ()


@pytest.mark.parametrize("template", BAD_TEMPLATES)
def test_templates_that_reach_further(template: str) -> None:
    assert [reason.weight for reason in jinja.check(template, "t", "x")][:1] == ["refused"]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(pairs: dict[str, str], data: bytes = bytes(32), *, offset: int = 0, tail: bytes = b"") -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(text(k) + struct.pack("<I", 8) + text(v) for k, v in pairs.items())
    head += text("w") + struct.pack("<IQIQ", 1, 8, 0, offset)
    return head + bytes(-len(head) % 32) + data + tail


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (gguf({"general.architecture": "llama", "tokenizer.chat_template": GOOD_TEMPLATES[0]}), "clean"),
        (gguf({"tokenizer.chat_template.tool_use": BAD_TEMPLATES[0]}), "refused"),
        (gguf({}, offset=32), "refused"),
        (gguf({}, tail=b"trailing"), "refused"),
        (gguf({})[:-1], "refused"),
        (gguf({"general.description": "<script>"}), "refused"),
        (gguf({"general.description": "{{ config }}"}), "review"),
    ],
)
def test_gguf(content: bytes, outcome: str) -> None:
    verdict = scan(content)
    assert (verdict.format, verdict.outcome) == ("gguf", outcome)


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_no_part_of_a_gguf_is_clean(cut: int) -> None:
    assert scan(gguf({"a": "b"})[: 5 + cut]).outcome != "clean"


HF = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "other/repo--m.M"}}, {"trust_remote_code": True}, {"chat_template": BAD_TEMPLATES[0]},
        {"chat_template": [{"name": "tools", "template": BAD_TEMPLATES[1]}]}, {"text_config": {"auto_map": {"AutoConfig": "m.C"}}},
        {"attn_implementation": "owner/kernel"}, {"architectures": ["os.system"]}, {"torch_dtype": "__class__"},
        {"weight_map": {"a": "../x.safetensors"}}, {"custom_pipelines": {"p": {}}}, {"auto_mapping": {"parent_library": "os"}},
        {"_class_name": ["pipeline", "P"]}, {"activation_fn": "os.system"},
    ],
)  # fmt: skip
def test_configurations_that_name_code(change: dict[str, Any]) -> None:
    assert scan(json.dumps(HF).encode()).outcome == "clean"
    assert scan(json.dumps(HF | change).encode()).outcome == "refused"


@pytest.mark.parametrize(
    "foreign", [{"__version__": "1.0"}, {"architectures": "x86"}, {"model_type": 3}, {"weight_map": [1]}, {"eos_token": 2}]
)
def test_json_of_other_programs_is_json(foreign: dict[str, Any]) -> None:
    assert (scan(json.dumps(foreign).encode()).format, scan(json.dumps(foreign).encode()).outcome) == ("json", "clean")


def test_a_folder_with_a_missing_shard_or_a_git_folder_is_not_clean() -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors"}}).encode()
    good = {"config.json": json.dumps(HF).encode()}
    assert scan_folder(good).outcome == "clean"
    assert scan_folder(good | {"model.safetensors.index.json": index}).outcome == "incomplete"
    assert scan_folder(good | {".git/config": b"[core]\n"}).outcome == "refused"
    assert scan_folder(good | {"chat_template.jinja": BAD_TEMPLATES[0].encode()}).outcome == "refused"


def test_patterns_that_never_end() -> None:
    assert all(map(repeats_a_repetition, ["(a+)+", "(a*)*b", "((a+)b)*", r"(?:\s+x){2,}", "(a|b+){3,}"]))
    assert not any(map(repeats_a_repetition, [r"\p{L}+|\s*[\r\n]+|\s+(?!\S)", r"(?:\r?\n)+", "[(a+)]+", r"\(a+\)+", "(ab+)c+", "(a+){2}"]))


DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3, "activation": "relu"}, "registered_name": None}


@pytest.mark.parametrize(
    "change",
    [
        {"class_name": "Lambda"}, {"class_name": "TorchModuleWrapper"}, {"module": "os"}, {"module": "keras.utils", "class_name": "get_file"},
        {"registered_name": "mine>Dense"}, {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, {"class_name": 3},
        {"class_name": "function", "config": "system"}, {"class_name": "__typespec__"}, {"config": {"activation": "a.b"}},
        {"config": {"inner": {"class_name": "Lambda", "config": {}}}}, {"class_name": "TFOpLambda", "config": {"function": "io.write_file"}},
    ],
)  # fmt: skip
def test_keras_configurations(change: dict[str, Any]) -> None:
    assert keras_config.check(DENSE, "k") == ()
    assert keras_config.check(DENSE | change, "k")


def block(number: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    assert len(body) < 16_384
    size = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return bytes([number << 3 | 2]) + size + body


def node(name: str, operator: str, *inputs: str) -> bytes:
    return block(1, block(1, name.encode()), block(2, operator.encode()), *(block(3, one.encode()) for one in inputs))


@pytest.mark.parametrize(
    ("nodes", "outcome"),
    [
        ([node("a", "Const"), node("m", "MatMul", "a", "a")], "clean"),
        ([node("p", "Placeholder"), node("c", "Const"), node("j", "StringJoin", "p", "c"), node("s", "SaveV2", "j")], "clean"),
        ([node("c", "Const"), node("i", "Identity", "c"), node("s", "SaveV2", "i")], "refused"),
        ([node("f", "WriteFile")], "refused"),
        ([node("f", "PyFunc")], "refused"),
    ],
)
def test_saved_models(nodes: list[bytes], outcome: str) -> None:
    content = b"\x08\x01" + block(2, block(2, *nodes))
    verdict = scan(content)
    assert (verdict.format, verdict.outcome) == ("tf-savedmodel", outcome)
    assert scan(content[:-1]).outcome == "refused"
