"""Fields: every field required, optional or ignored by name; another kind or an unknown name fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.fields import MAX_DOCUMENT_TEXT, MAX_INTEGER, MAX_ITEMS, MAX_TEXT, Fields
from vouchgate.vocabulary.wire import decode, encode

KINDS = Fields(
    required={"text": "text"},
    optional={"document": "document", "integer": "integer", "number": "number", "flag": "flag", "texts": "texts", "counts": "counts"},
    ignored=("pid",),
)
GOOD = {
    "text": "x",
    "document": "x" * 5_000,
    "integer": -5,
    "number": 1.5,
    "flag": False,
    "texts": ["a"],
    "counts": {"a": 1},
    "pid": object(),
}


def test_what_is_declared_is_taken():
    KINDS.check(GOOD, what="fact")
    KINDS.check({"text": ""}, what="fact")
    KINDS.check({"text": "x" * MAX_TEXT, "integer": MAX_INTEGER, "number": 3, "texts": (), "counts": {}}, what="fact")


@pytest.mark.parametrize(
    "changes",
    [
        {"text": 5}, {"text": None}, {"text": b"x"}, {"text": "x" * (MAX_TEXT + 1)}, {"integer": True}, {"integer": 1.0}, {"integer": "1"},
        {"document": 5}, {"document": b"x"}, {"document": "x" * (MAX_DOCUMENT_TEXT + 1)}, {"integer": MAX_INTEGER + 1}, {"integer": -MAX_INTEGER - 1}, {"number": "1"}, {"number": True}, {"number": float("nan")},
        {"number": float("inf")}, {"number": -float("inf")}, {"number": 2**60}, {"flag": 1}, {"flag": "true"}, {"texts": "abc"}, {"texts": [1]},
        {"texts": ["x"] * (MAX_ITEMS + 1)}, {"texts": {"a": 1}}, {"counts": [1]}, {"counts": {1: 1}}, {"counts": {"a": True}}, {"counts": {"a": "1"}},
        {"counts": {str(n): n for n in range(MAX_ITEMS + 1)}}, {"unknown": 1}, {"TEXT": "x"}, {"": "x"}, {"text ": "x"},
    ],
)  # fmt: skip
def test_what_is_not_declared_is_refused(changes):
    with pytest.raises(InvalidInput) as caught:
        KINDS.check(GOOD | changes, what="fact")
    assert caught.value.remedy


def test_what_is_missing_is_named():
    with pytest.raises(InvalidInput, match="lacks `text`"):
        KINDS.check({}, what="fact")


@given(
    st.dictionaries(
        st.text(max_size=9),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=3),
        max_size=5,
    )
)
def test_only_known_names_pass(values):
    try:
        KINDS.check(values, what="fact")
    except InvalidInput:
        return
    assert set(values) <= set(GOOD)


def test_a_declaration_is_read_back():
    assert decode(Fields, encode(KINDS)) == KINDS
