"""Putting a wrapper in the place of a library's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.vocabulary.errors import Unsupported


def replace(holder: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` there. Raises `Unsupported` where the library has no such way in: what guards nothing must not look like a guard."""
    original = getattr(holder, name, None)
    if original is None:
        what = getattr(holder, "__name__", "it")
        raise Unsupported(f"`{what}` has no `{name}`: this version is not known to the load guard", remedy="install another version of it")
    made = make(original)
    made.__wrapped__ = original
    made.__name__ = getattr(original, "__name__", name)
    made.__doc__ = original.__doc__
    setattr(holder, name, made)


def is_path(what: Any) -> bool:
    """Whether a loader's argument names a file."""
    return isinstance(what, str | bytes) or hasattr(what, "__fspath__")
