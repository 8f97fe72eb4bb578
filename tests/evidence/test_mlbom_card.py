"""What a model says of itself is read as plain text, or claims nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.evidence.bom.card import MAX_FRONT_BYTES, MAX_ITEMS, MAX_TEXT, Claims, front_matter, read_claims
from vouchgate.vocabulary.errors import InvalidInput


def card(text):
    return read_claims({"README.md": f"---\n{text}\n---\n# model\n".encode()})


def test_a_card_of_every_kind():
    found = read_claims(
        {
            "README.md": b"---\r\nlicense: apache-2.0\r\nbase_model:\r\n- a/b\r\n- a/b\r\n- c\r\ndatasets: squad\r\nlanguage: [no, en]\r\n"
            b"pipeline_tag: fill-mask\r\nlibrary_name: transformers\r\n---\r\ntext",
            "config.json": b'{"architectures": ["BertModel"], "model_type": "bert", "torch_dtype": "float16"}',
            "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer"}',
        }
    )
    assert found == Claims(
        license="Apache-2.0",
        base_models=("a/b", "c"),
        datasets=("squad",),
        task="fill-mask",
        library="transformers",
        languages=("no", "en"),
        architectures=("BertModel",),
        model_type="bert",
        dtype="float16",
        tokenizer="BertTokenizer",
    )


@pytest.mark.parametrize(
    ("said", "expression", "text"),
    [
        ("license: MIT", "MIT", ""),
        ("license: llama3", "", "llama3"),
        ("license: other\nlicense_name: deepseek", "", "deepseek"),
        ("license: other", "", "other"),
        ("license: [mit, apache-2.0]", "MIT", ""),
        ("license: {a: b}", "", ""),
        ("license: mit or apache-2.0", "MIT OR Apache-2.0", ""),
    ],
)
def test_a_licence_is_an_expression_or_a_text(said, expression, text):
    assert (card(said).license, card(said).license_text) == (expression, text)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "a: !!python/object/apply:os.system [true]",
        "!!map {a: b}",
        "a: 1\na: 2",
        "? [a]\n: b",
        "- a\n- b",
        "a: [",
        "just text",
        "a: " + "[" * 17 + "]" * 17,
        "a: " + "[" * 5000 + "]" * 5000,
        "a: [" + "1," * 20_001 + "]",
    ],
    ids=range(11),
)
def test_front_matter_that_is_more_than_plain_values_claims_nothing(text):
    found = card("license: mit\n" + text if not text.startswith(("- a", "just", "!!map")) else text)
    assert found.license == "" and found.notes[0].startswith("README.md claims nothing: ")


@pytest.mark.parametrize(
    "data", [b"", b"# no front matter", b"---", b"--- \n---\n", b"a\n---\nlicense: mit\n---\n", b"\xff\xfe", b"---x\nlicense: mit\n---\n"]
)
def test_no_front_matter_is_no_claim(data):
    assert read_claims({"README.md": data}).license == ""


def test_an_end_beyond_the_bound_does_not_count():
    with pytest.raises(InvalidInput, match="no end"):
        front_matter(b"---\nlicense: mit\n" + b"#" * MAX_FRONT_BYTES + b"\n---\n")


def test_texts_and_lists_are_bounded_and_single_lines():
    found = card(
        "datasets: ["
        + ", ".join(f"d{number}" for number in range(500))
        + "]\nmodel_type: x\nbase_model: |\n  a\n  b\nlibrary_name: "
        + "x" * 5000
    )
    assert len(found.datasets) == MAX_ITEMS and found.base_models == ("a b",) and len(found.library) == MAX_TEXT


@pytest.mark.parametrize("data", [b"{", b'{"model_type": "a", "model_type": "b"}', b"[]", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_a_configuration_with_two_readings_claims_nothing(data):
    found = read_claims({"config.json": data})
    assert found.model_type == "" and len(found.notes) == 1


@pytest.mark.parametrize("value", ['{"architectures": [1, null, {}], "model_type": 5}', '{"architectures": {"a": 1}}'])
def test_values_of_other_kinds_are_left_out(value):
    assert read_claims({"config.json": value.encode()}) == Claims()


@given(st.binary(max_size=400))
def test_any_bytes_give_claims_or_a_note(data):
    found = read_claims({"README.md": b"---\n" + data + b"\n---\n", "config.json": data})
    assert isinstance(found, Claims)
