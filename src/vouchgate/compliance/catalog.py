"""The frameworks: one TOML file each in `frameworks/`, listed here.

Rules
1. The folder is the list: adding a framework needs its file alone; two of one name are refused.
2. A file is bounded, and refused with its unknown or wrong key named; so is a control that asks for what no log entry holds.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

from vouchgate.compliance.frameworks_schema import Framework, check
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.plugins import by_name, chosen
from vouchgate.vocabulary.wire import from_plain

MAX_FRAMEWORK_BYTES = 1024 * 1024
"""Bytes of one file; a framework of a thousand controls has half of that."""
SUFFIX = ".toml"
_FOLDER = resources.files("vouchgate.compliance") / "frameworks"


@cache
def frameworks() -> dict[str, Framework]:
    """All frameworks of this build, by name."""
    return by_name(
        "framework",
        (
            parse(entry.read_bytes(), entry.name)
            for entry in sorted(_FOLDER.iterdir(), key=lambda one: one.name)
            if entry.name.endswith(SUFFIX)
        ),
    )


def framework(name: str) -> Framework:
    """One framework. Raises `NotFound`."""
    return chosen("framework", frameworks(), name)


def parse(data: bytes, file: str) -> Framework:
    """Read one file. Raises `InvalidInput`."""
    remedy = f"correct `{file[:80]}`"
    if len(data) > MAX_FRAMEWORK_BYTES:
        raise InvalidInput(f"`{file[:80]}` has {len(data)} bytes, the bound is {MAX_FRAMEWORK_BYTES}", remedy="split it")
    try:
        made = from_plain(Framework, tomllib.loads(data.decode("utf-8")), what=f"framework `{file[:80]}`")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"`{file[:80]}` is not TOML: {error}", remedy=remedy) from None
    check(made)
    return made
