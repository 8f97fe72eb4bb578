"""One spelling for each value."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.vocabulary.base64url import b64, unb64


@given(st.binary(min_size=1, max_size=200))
def test_what_is_written_is_read(raw: bytes) -> None:
    assert unb64(b64(raw)) == raw
    assert b64(raw) == base64.urlsafe_b64encode(raw).decode().rstrip("=")


@given(st.text(max_size=12))
def test_any_other_spelling_is_refused(text: str) -> None:
    raw = unb64(text)
    assert raw is None or b64(raw) == text


@pytest.mark.parametrize("text", ["", "A", "AA==", "AB", "AAB", "A+A/", "AA\n", " AA", "AA.AA", "ÅÅ", "AAAAA"])
def test_what_is_no_spelling_is_refused(text: str) -> None:
    assert unb64(text) is None
