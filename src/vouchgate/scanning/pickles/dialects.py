"""Dialects: what differs between the loaders that read pickles, beyond the opcodes themselves."""

from __future__ import annotations

from collections.abc import Callable

from vouchgate.scanning.pickles.fitting import Fit
from vouchgate.scanning.pickles.values import Value
from vouchgate.vocabulary.wire import Noun


class Dialect(Noun, frozen=True, kw_only=True):
    """One loader's."""

    name: str
    persistent: Callable[[Fit], str] | None = None
    """What is wrong with a persistent id (`Fit.args[0]`), empty where it fits; None where the loader takes none."""
    stands_for: Callable[[Value], Value] | None = None
    """What such an id stands for where that is one of its own parts; `NOTHING` where it is not."""
    own: str = ""
    """Module below which names are the file's own, defined elsewhere in it and by no import."""
    arrays: bool = False
    """Inline arrays of joblib behind a wrapper's state."""


NOTHING = object()
PLAIN = Dialect(name="pickle")
JOBLIB = Dialect(name="joblib", arrays=True)
"""Reads whatever `PLAIN` reads, and reads it the same way."""
