"""A file of bounds for a scan: TOML, one line for each bound that is to be another than the default.

Rules
1. A key is a field of `ScanSettings`; an unknown one fails with the nearest known.
2. Every bound may be tightened down to 1. What bounds amounts (bytes, tensors, members, steps) may be raised to `MAX_RAISE` times the default:
   that costs time, and lets nothing pass that the structure does not explain; memory and processor time of the process that reads stay
   bounded as they are. What bounds how deep readers go is only tightened: their own stacks are made for the default.
3. The settings are part of every verdict (their digest) and of what a kept verdict rests on.
"""

from __future__ import annotations

import difflib
import tomllib
from typing import Any

from msgspec.structs import asdict, replace

from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.vocabulary.errors import InvalidInput

MAX_RAISE = 16
"""Times the default: no honest artifact is known that wants more, and the process's own bounds end sooner."""
DEPTHS = frozenset({"max_depth", "max_nesting", "max_rank"})
"""Bounds that are only tightened."""


def chosen(data: bytes) -> ScanSettings:
    """The settings that the file asks for. Raises `InvalidInput`."""
    try:
        found = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"the settings of the scan are no TOML: {str(error)[:200]}", remedy="write lines like `max_members = 1000`"
        ) from None
    defaults = asdict(DEFAULTS)
    for key, value in found.items():
        _check(key, value, defaults)
    return replace(DEFAULTS, **found)


def _check(key: str, value: Any, defaults: dict[str, Any]) -> None:
    if key not in defaults:
        near = difflib.get_close_matches(key, defaults, 1, 0.0)
        raise InvalidInput(
            f"`{key[:80]}` bounds nothing in a scan", remedy=f"did you mean `{near[0]}`?" if near else "see docs/scanning.md"
        )
    most = defaults[key] * (1 if key in DEPTHS else MAX_RAISE)
    if type(value) is not int or not 1 <= value <= most:
        raise InvalidInput(f"`{key}` is {str(value)[:40]}", remedy=f"give a whole number from 1 to {most} (the default is {defaults[key]})")
