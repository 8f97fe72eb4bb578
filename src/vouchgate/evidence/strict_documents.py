"""Other tools' signed JSON: one reading, or none; members that we do not know are for the caller to name.

Rules
1. UTF-8, escaped characters too; a member name occurs once in an object; no NaN, no Infinity, however written; the size is bounded before, and Python's own parser bounds the depth.
2. Base64 is canonical, of the standard alphabet.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from vouchgate.vocabulary.errors import InvalidInput

_REMEDY = "ask the signer for the bundle as their tool wrote it"


def parse(data: bytes, *, limit: int, what: str) -> dict[str, Any]:
    """One JSON object. Raises `InvalidInput`."""
    if len(data) > limit:
        raise InvalidInput(f"the {what} has {len(data)} bytes, the bound is {limit}", remedy="sign fewer files at once")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # raises for half a character and for 1e999
    except (ValueError, RecursionError):
        raise InvalidInput(f"the {what} is not one strict JSON document", remedy=_REMEDY) from None
    if not isinstance(value, dict):
        raise InvalidInput(f"the {what} is not a JSON object", remedy=_REMEDY)
    return value


def member(value: Any, name: str, kind: type, what: str) -> Any:
    """A member of exactly this type. Raises `InvalidInput`."""
    found = value.get(name) if isinstance(value, dict) else None
    if type(found) is not kind:
        raise InvalidInput(f"the {what} has no `{name}` of the right kind", remedy=_REMEDY)
    return found


def only(value: dict[str, Any], names: set[str], what: str) -> None:
    """Raise `InvalidInput` for a member that is not named."""
    unknown = sorted(value.keys() - names)
    if unknown:
        raise InvalidInput(f"the {what} has a member `{unknown[0][:80]!s}` that is not known", remedy=_REMEDY)


def unb64(text: str, what: str) -> bytes:
    """Rule 2. Raises `InvalidInput`."""
    try:
        raw = base64.b64decode(text, validate=True)
        if base64.b64encode(raw).decode() == text:
            return raw
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput(f"the {what}'s base64 is malformed", remedy=_REMEDY)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member occurs twice")
    return value


def _constant(name: str) -> Any:
    raise ValueError(name)
