"""Dialects: what differs between the loaders that read pickles, beyond the opcodes themselves."""

from __future__ import annotations

from collections.abc import Callable

from vouchgate.scanning.pickles.values import Value
from vouchgate.vocabulary.wire import Noun


class Dialect(Noun, frozen=True, kw_only=True):
    """One loader's."""

    name: str
    persistent: Callable[[Value], str] | None = None
    """What is wrong with a persistent id, empty where it fits; None where the loader takes none."""
    arrays: bool = False
    """Inline arrays of joblib behind a wrapper's state."""


PLAIN = Dialect(name="pickle")
