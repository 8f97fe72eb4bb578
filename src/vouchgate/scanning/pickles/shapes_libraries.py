"""Rules over the arguments and states of other libraries' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import Fit

ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {}
STATES: Mapping[str, Callable[[Fit], str]] = {}
