"""A dump of many megabytes is read as any parser reads it, in small pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.edges.envoy import admin
from vouchgate.edges.envoy.admin import parsed
from vouchgate.vocabulary.errors import InvalidInput

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=4), PLAIN, max_size=4), st.sampled_from((None, 2)))
def test_pieces_make_the_whole(document: dict[str, object], indent: int | None) -> None:
    before, admin.PIECE_BYTES = admin.PIECE_BYTES, 4
    try:
        assert parsed(json.dumps(document, indent=indent).encode(), "dump") == document
    finally:
        admin.PIECE_BYTES = before


@pytest.mark.parametrize(
    "body",
    [b"", b"7", b"[]", b"{", b'{"a": }', b'{"a": 1} x', b"\xff" * 300_000, b"[" * 300_000, b'{"a":' * 100_000, b'{"a": [' + b" " * 300_000],
    ids=["empty", "number", "list", "cut", "hole", "more", "no text", "deep lists", "deep objects", "cut off in spaces"],
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        parsed(body, "dump")
