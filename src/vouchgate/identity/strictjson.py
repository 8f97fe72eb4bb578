"""JSON as security tokens need it: one reading, or none.

Rules
1. A member name occurs once in an object (RFC 8725, section 2.4; RFC 7515, section 5.2: duplicates are rejected).
2. UTF-8 without a byte order mark; no NaN, no Infinity, no lone surrogate.
3. Size and depth are bounded before anything is believed.
"""

from __future__ import annotations

import json
from typing import Any

from vouchgate.vocabulary.errors import InvalidInput

MAX_DEPTH = 16
"""Nested brackets; a token has two levels, a bundle three."""


def parse_object(data: bytes, *, limit: int, what: str) -> dict[str, Any]:
    """Parse one JSON object. Raises `InvalidInput`."""
    if len(data) > limit:
        raise InvalidInput(f"the {what} has {len(data)} bytes, the bound is {limit}", remedy="send a smaller one")
    try:
        text = data.decode("utf-8")
        if _depth(text) > MAX_DEPTH:
            raise ValueError("nested too deeply")
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise InvalidInput(f"the {what} is not one strict JSON object", remedy="send UTF-8 JSON without duplicate members") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"the {what} is not a JSON object", remedy="send a JSON object")
    return value


def _depth(text: str) -> int:
    """Upper bound of the nesting: brackets inside strings count too, which can only refuse more."""
    deepest = level = 0
    for character in text:
        if character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member occurs twice")
    return value


def _constant(name: str) -> Any:
    raise ValueError(name)
