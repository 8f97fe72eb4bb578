"""Rules over the arguments and states of other libraries' names, put together from one file for each family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles import shapes_arrow, shapes_pandas, shapes_science, shapes_sklearn, shapes_transformers
from vouchgate.scanning.pickles.fitting import Fit, is_attribute, is_plain, shown
from vouchgate.scanning.pickles.taking import BYTES, INT, NONE, TEXT, Kind, documented, either, made_by, taking
from vouchgate.scanning.pickles.values import Dict


def _plain_values(fit: Fit) -> str:
    """Constructed from plain values, in place or by name: they only become attributes."""
    whole = all(is_plain(value) for value in fit.args) and (fit.kwargs is None or is_plain(fit.kwargs))
    return "" if whole else "one of its arguments is no plain value"


def _zone(value: object) -> bool:
    """A time zone's name: letters, digits, `/`, `_`, `+`, `-`; it becomes a path below the zones' own folder, so nothing leads out of it."""
    plain = isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and not value.startswith("/")
    return plain and all(part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in str(value).split("/"))


ZONE = Kind("time zone's name", lambda fit, value: _zone(value))
_DELTA = made_by("time difference", "datetime.timedelta")


def _plain_keys(fit: Fit) -> str:
    """A dict that is its own `__dict__`: keys that are numbers, or attributes."""
    if fit.state is fit.made:
        return ""
    if not isinstance(fit.state, Dict):
        return "its state is no dict"
    wrong = [key for key, _ in fit.state.pairs if not (isinstance(key, int) or (isinstance(key, str) and is_attribute(key)))]
    return f"its state sets `{shown(wrong[0])}`, which is no plain key" if wrong else ""


ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "plain-values": _plain_values,
    "zone": taking(ZONE, INT, INT, either(TEXT, NONE), optional=3),
    "minutes": taking(INT),
    "tz-offset": taking(either(TEXT, NONE), either(_DELTA, INT)),
    **shapes_arrow.ARGUMENTS,
    **shapes_pandas.ARGUMENTS,
    **shapes_science.ARGUMENTS,
    **shapes_sklearn.ARGUMENTS,
}
STATES: Mapping[str, Callable[[Fit], str]] = {
    "plain-keys": _plain_keys,
    "documented": lambda fit: documented(fit.state),
    "bytes": lambda fit: "" if BYTES.fits(fit, fit.state) else "its state is no bytes",
    **shapes_pandas.STATES,
    **shapes_science.STATES,
    **shapes_sklearn.STATES,
    **shapes_transformers.STATES,
}
