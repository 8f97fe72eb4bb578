"""safetensors: exact structure or nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from artifact_making import entry, good_safetensors, safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from vouchgate.scanning.scan import scan
from vouchgate.scanning.settings import ScanSettings

ONE = {"w": entry("F32", [4], 0, 16)}
DATA = bytes(16)


def rules(content: bytes, **more: int) -> tuple[str, list[str]]:
    verdict = scan(content, settings=ScanSettings(**more))
    return verdict.outcome, [reason.rule.removeprefix("safetensors:") for reason in verdict.reasons]


def test_what_the_reference_library_writes_is_clean() -> None:
    arrays = {"a": np.zeros((3, 4), np.float32), "b": np.ones(5, np.int8), "c": np.array(1.5), "empty": np.zeros((0, 2), np.float16)}
    verdict = scan(save(arrays, metadata={"format": "np"}))
    assert (verdict.outcome, verdict.format, verdict.covered) == ("clean", "safetensors", verdict.size)
    assert verdict.facts["tensors"] == 4
    assert verdict.facts["parameters"] == 18


def test_every_kind_of_entry_that_the_format_allows() -> None:
    assert rules(good_safetensors()) == ("clean", [])
    assert rules(safetensors({})) == ("clean", [])
    assert rules(safetensors(json.dumps(ONE) + "     ", DATA)) == ("clean", [])
    assert rules(safetensors({"w": entry("F4", [4], 0, 2)}, bytes(2))) == ("clean", [])


def test_header_order_and_alignment_are_free() -> None:
    header = {"late": entry("U8", [3], 5, 8), "early": entry("U8", [5], 0, 5)}
    verdict = scan(safetensors(header, bytes(8)))
    assert verdict.outcome == "clean"
    assert verdict.facts["aligned"] is False


BAD: list[tuple[str, bytes, str]] = [
    ("length beyond the file", safetensors(ONE, DATA, length=10_000), "header-length"),
    ("length of 1 GiB", safetensors(ONE, DATA, length=1 << 30), "header-length"),
    ("length of 2^64 - 1", safetensors(ONE, DATA, length=2**64 - 1), "header-length"),
    ("length one short", safetensors(ONE, DATA, length=len(json.dumps(ONE)) - 1), "header-json"),
    ("length zero", safetensors(ONE, DATA, length=0), "header-length"),
    ("length one", safetensors(ONE, DATA, length=1), "header-length"),
    ("no JSON", safetensors("{nonsense}", DATA), "header-json"),
    ("not UTF-8", safetensors(b'{"\xff\xfe": 1}', DATA), "header-utf8"),
    ("overlong UTF-8", safetensors(b'{"\xc0\xaf": 1}', DATA), "header-utf8"),
    ("tab padding", safetensors(json.dumps(ONE) + "\t", DATA), "header-padding"),
    ("zero padding", safetensors(json.dumps(ONE) + "\0", DATA), "header-padding"),
    ("second document", safetensors(json.dumps(ONE) + "{}", DATA), "header-json"),
    ("duplicate tensor", safetensors(json.dumps(ONE)[:-1] + "," + json.dumps(ONE)[1:], DATA), "duplicate-key"),
    (
        "duplicate by escape",
        safetensors('{"w":' + json.dumps(ONE["w"]) + ',"\\u0077":' + json.dumps(ONE["w"]) + "}", DATA),
        "duplicate-key",
    ),
    ("duplicate dtype", safetensors('{"w":{"dtype":"F32","dtype":"F64","shape":[4],"data_offsets":[0,16]}}', DATA), "duplicate-key"),
    ("duplicate metadata", safetensors('{"__metadata__":{"a":"1","a":"2"}}'), "duplicate-key"),
    ("half a surrogate pair", safetensors('{"\\ud800":' + json.dumps(ONE["w"]) + "}", DATA), "header-surrogate"),
    ("NaN", safetensors('{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}', DATA), "header-number"),
    ("Infinity", safetensors('{"w":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,16]}}', DATA), "header-number"),
    ("a float shape", safetensors('{"w":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}}', DATA), "header-number"),
    ("an exponent", safetensors('{"w":{"dtype":"F32","shape":[4e0],"data_offsets":[0,16]}}', DATA), "header-number"),
    ("a negative shape", safetensors({"w": entry("F32", [-4], 0, 16)}, DATA), "header-number"),
    ("minus nought", safetensors('{"w":{"dtype":"F32","shape":[4],"data_offsets":[-0,16]}}', DATA), "header-number"),
    ("a huge number", safetensors('{"w":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,16]}}', DATA), "header-number"),
    ("a truth as a size", safetensors('{"w":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}', bytes(4)), "shape"),
    ("nesting", safetensors('{"w":' + "[" * 50_000 + "]" * 50_000 + "}"), "header-depth"),
    ("a list as header entry", safetensors({"w": [1, 2]}, DATA), "entry-shape"),
    ("a missing member", safetensors({"w": {"dtype": "F32", "shape": [4]}}, DATA), "entry-shape"),
    ("a member too many", safetensors({"w": {**ONE["w"], "code": "x"}}, DATA), "entry-shape"),
    ("an unknown dtype", safetensors({"w": entry("OBJECT", [4], 0, 16)}, DATA), "dtype"),
    ("a dtype that is no string", safetensors({"w": {**ONE["w"], "dtype": ["F32"]}}, DATA), "dtype"),
    ("a string as shape", safetensors({"w": {**ONE["w"], "shape": "4"}}, DATA), "shape"),
    ("65 dimensions", safetensors({"w": entry("U8", [1] * 65, 0, 1)}, bytes(1)), "shape"),
    ("three offsets", safetensors({"w": {**ONE["w"], "data_offsets": [0, 8, 16]}}, DATA), "offsets"),
    ("offsets backwards", safetensors({"w": entry("F32", [4], 16, 0)}, DATA), "offsets"),
    ("size too small", safetensors({"w": entry("F32", [5], 0, 16)}, DATA), "size-mismatch"),
    ("size overflow", safetensors({"w": entry("F32", [2**62, 2**62], 0, 16)}, DATA), "size-overflow"),
    ("overflow to the right size", safetensors({"w": entry("F32", [2**32, 2**32, 4], 0, 16)}, DATA), "size-overflow"),
    ("overflow before a nought", safetensors({"w": entry("F32", [2**63, 2**63, 0], 0, 0)}, b""), "size-overflow"),
    ("half a byte", safetensors({"w": entry("F4", [3], 0, 1)}, bytes(1)), "size-bits"),
    ("beyond the file", safetensors(ONE, bytes(8)), "out-of-range"),
    ("overlap", safetensors({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 4, 12)}, bytes(12)), "overlap"),
    ("the same bytes twice", safetensors({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 0, 8)}, bytes(8)), "overlap"),
    ("a gap", safetensors({"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 5, 9)}, bytes(9)), "gap"),
    ("a gap at the start", safetensors({"a": entry("U8", [4], 1, 5)}, bytes(5)), "gap"),
    ("trailing bytes", safetensors(ONE, DATA + b"x"), "trailing-bytes"),
    ("bytes and no tensor", safetensors({}, b"x"), "trailing-bytes"),
    ("metadata that is a list", safetensors({"__metadata__": ["x"]}), "metadata-shape"),
    ("metadata of numbers", safetensors({"__metadata__": {"step": 3}}), "metadata-shape"),
    ("metadata that nests", safetensors({"__metadata__": {"a": {"b": "c"}}}), "metadata-shape"),
    ("metadata that is null", safetensors({"__metadata__": None}), "metadata-shape"),
]


@pytest.mark.parametrize(("what", "content", "rule"), BAD, ids=[what for what, _, _ in BAD])
def test_each_fault_is_refused_by_its_own_rule(what: str, content: bytes, rule: str) -> None:
    assert rules(content) == ("refused", [rule])
    reason = scan(content).reasons[0]
    assert reason.where
    assert reason.remedy


def test_bounds_are_settings() -> None:
    many = {str(index): entry("U8", [1], index, index + 1) for index in range(10)}
    assert rules(safetensors(many, bytes(10)), max_tensors=9) == ("refused", ["too-many-tensors"])
    assert rules(safetensors(many, bytes(10)), max_header_bytes=64) == ("refused", ["header-length"])
    assert rules(safetensors({"n" * 5000: ONE["w"]}, DATA)) == ("refused", ["name-size"])
    assert rules(safetensors({"__metadata__": {"a": "x" * 100}}), max_text_bytes=99) == ("refused", ["metadata-size"])


@pytest.mark.parametrize(
    "text",
    [
        "<img src='http://tracker/x.png'>",
        "<!doctype html>",
        "{{ config }}",
        "{% raw %}",
        "${now:%Y}",
        "<%= name %>",
        "__import__('os')",
        "eval(x)",
        "javascript:x",
        "data:text/html,x",
        "\x1b[2J",
        "a\u202eb",
    ],
)
def test_text_that_might_act_when_shown_waits_for_a_person(text: str) -> None:
    assert rules(safetensors({"__metadata__": {"note": text}})) == ("review", ["active-metadata"])
    assert rules(safetensors({"__metadata__": {text: "note"}})) == ("review", ["active-metadata"])


@pytest.mark.parametrize(
    "text",
    [
        "a {nested: {dict}}",
        "<p>A <b>style</b> by <a href='https://example.org'>me</a></p>",
        "masterpiece, <lora:detail:0.8>, >_<, <o>_<o>",
        "data:image/jpeg;base64,/9j/4AAQ",
        "languages: Python (70 %), JavaScript: 30 % (old)",
        "${model.width} of ${data.root}",
        json.dumps({"imgs": {"1girl": 3, "{{masterpiece}}": 2, "<lora:x:1>": 1, "__sub__": 1, "a (b)": 4}}),
        json.dumps({"optimizer": {"__class__": "AdamW"}, "home": "${oc.env:HOME}", "eval(20)": 1}),
        "<p>options: option one = 1</p>",
        "pt",
        "v1.2 (beta)",
        '{"lr": 1e-4, "tags": ["a", "b"]}',
        "größe <= 3",
        "a < b",
        "data: cifar",
        "eval (20 %)",
    ],
)
def test_ordinary_metadata_is_clean(text: str) -> None:
    assert rules(safetensors({"__metadata__": {"note": text}})) == ("clean", [])


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(["U8", "F16", "F32", "I64"]), st.lists(st.integers(0, 4), max_size=3)),
        max_size=5,
    )
)
def test_any_exact_tiling_is_clean(tensors: dict[str, tuple[str, list[int]]]) -> None:
    width = {"U8": 1, "F16": 2, "F32": 4, "I64": 8}
    header, here = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape, dtype=int)) * width[dtype]
        header[name] = entry(dtype, shape, here, here + size)
        here += size
    verdict = scan(safetensors(header, bytes(here)))
    assert verdict.outcome == "clean", verdict.reasons


@settings(max_examples=400)
@given(st.data())
def test_inserting_or_cutting_anywhere_is_never_clean(data: st.DataObject) -> None:
    """The file is tiled exactly, so one byte more or less must be seen, except spaces that only pad or separate JSON."""
    good = good_safetensors()
    place = data.draw(st.integers(0, len(good)))
    if data.draw(st.booleans()):
        changed = good[:place] + data.draw(st.binary(min_size=1, max_size=9)) + good[place:]
    else:
        changed = good[:place] + good[place + data.draw(st.integers(1, 9)) :]
    assert changed == good or scan(changed).outcome != "clean"


@settings(max_examples=400)
@given(st.integers(0, 8 * len(good_safetensors()) - 1))
def test_flipping_a_bit_gives_a_typed_result_and_full_coverage_if_clean(bit: int) -> None:
    changed = bytearray(good_safetensors())
    changed[bit // 8] ^= 1 << bit % 8
    verdict = scan(bytes(changed))
    assert verdict.outcome != "incomplete"
    assert verdict.outcome != "clean" or verdict.covered == len(changed)
    if bit < 64:
        assert verdict.outcome == "refused"


@settings(max_examples=600)
@given(st.data())
def test_clean_means_that_the_reference_library_loads_it(data: st.DataObject) -> None:
    """Changes inside the header, its length kept true, so that they get past the first check."""
    header = bytearray(json.dumps({"__metadata__": {"a": "b"}, "w": entry("F32", [2], 0, 8), "v": entry("U8", [3], 8, 11)}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(header) - 1))
        new = data.draw(st.sampled_from(list(b'0123456789{}[]",:\\ \n\tFIU.-e\x00\xff')))
        how = data.draw(st.sampled_from(["change", "insert", "remove"]))
        if how == "change":
            header[place] = new
        elif how == "insert":
            header.insert(place, new)
        else:
            del header[place]
    content = safetensors(bytes(header), bytes(11))
    if scan(content).outcome == "clean":
        assert len(load(content)) == scan(content).facts["tensors"]


def test_a_pickle_that_the_header_length_spells_is_a_polyglot() -> None:
    """The length's low bytes are the opcode SHORT_BINSTRING, whose string ends in the metadata, where more of them hop into the data."""
    length, hop, payload = 0x55 + 256 * 100, 128, bytes(9) + b"cos\nsystem\n(S'true'\ntR."
    head = json.dumps({"w": entry("U8", [len(payload)], 0, len(payload)), "__metadata__": {"x": ""}}, separators=(",", ":")).removesuffix(
        '"}}'
    )
    text = bytearray(head.encode().ljust(length - 3, b"a") + b'"}}')
    for place in range(2 + 100 - 8, length - 8, hop):
        text[place : place + 2] = b"U~"
    content = safetensors(bytes(text), payload)
    assert json.loads(text)
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "polyglot")
    assert "os.system" in verdict.reasons[0].why
    assert scan(safetensors(bytes(text), bytes(len(payload)))).outcome == "clean"


@pytest.mark.parametrize(
    "text",
    [
        "<script>x()</script>",
        "<SCRIPT src=//x>",
        "<iframe src=x>",
        "<img src=x onerror=alert(1)>",
        '<b title=">" onmouseover="x()">',
        "<svg/onload='x'>",
        "javascript:alert(1)",
        "java\nscript:alert(1)",
        "&#106;avascript:x%28%29",
        "{{ x.__class__ }}",
        "{{ cycler.next() }}",
        "{{ x|attr('y') }}",
        "{% import 'x' as y %}",
        "{% for m in messages %}{{ cycler.__init__.__globals__ }}{% endfor %}",
        "${jndi:ldap://x}",
        "${T(java.lang.Runtime).getRuntime()}",
        "<%= system('x') %>",
        json.dumps({"note": "<script>x()</script>"}),
        json.dumps([1, "{{ x.__class__ }}"]),
    ],
)
def test_text_that_acts_when_shown_is_refused(text: str) -> None:
    assert rules(safetensors({"__metadata__": {"note": text}})) == ("refused", ["active-metadata"])
    assert rules(safetensors({"__metadata__": {"format": "pt", text: "{{ config }}"}})) == ("refused", ["active-metadata"])


def test_a_template_of_a_chat_is_held_to_the_list_of_its_calls() -> None:
    text = "{% for m in messages %}{{ m['content'].strip() }}{% endfor %}"
    assert rules(safetensors({"__metadata__": {"chat_template": text}})) == ("review", ["active-metadata"])
