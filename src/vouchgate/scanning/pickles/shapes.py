"""The rules that arguments and states must fit, by the name that an entry of the knowledge base uses.

`Entry.arguments` is a key of `ARGUMENTS`. `Entry.state` is a key of `STATES`, and may go on with `+items` (the object may be appended to or
added to) and `+pairs` (keys may be set on it). An empty state is `attributes` for what was constructed and `none` for what a call gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles import shapes_libraries, shapes_numpy, shapes_python, shapes_torch
from vouchgate.scanning.pickles.fitting import Fit, attributes, is_plain

Shape = Callable[[Fit], str]


def _none(fit: Fit) -> str:
    return "it takes no arguments" if fit.args or fit.kwargs else ""


def _plain(fit: Fit) -> str:
    whole = all(is_plain(value) for value in fit.args) and (fit.kwargs is None or is_plain(fit.kwargs))
    return "" if whole else "one of its arguments is no plain value"


def _no_state(fit: Fit) -> str:
    return "" if fit.state is None else "it takes no state"


ARGUMENTS: Mapping[str, Shape] = {
    "none": _none,
    "plain": _plain,
    "values": lambda fit: "",
    **shapes_python.ARGUMENTS,
    **shapes_numpy.ARGUMENTS,
    **shapes_torch.ARGUMENTS,
    **shapes_libraries.ARGUMENTS,
}
"""`values`: anything that may itself be loaded; the callee was reviewed to act on none of it."""

STATES: Mapping[str, Shape] = {
    "none": _no_state,
    "attributes": lambda fit: attributes(fit.state),
    "plain": lambda fit: "" if is_plain(fit.state) else "its state is no plain value",
    "values": lambda fit: "",
    **shapes_python.STATES,
    **shapes_numpy.STATES,
    **shapes_torch.STATES,
    **shapes_libraries.STATES,
}
"""`values`: its `__setstate__` was reviewed to act on none of what it is given."""


def arguments_misfit(rule: str, fit: Fit) -> str:
    """What is wrong with the arguments, empty where they fit; an unknown rule fits nothing."""
    shape = ARGUMENTS.get(rule)
    return shape(fit) if shape else "no arguments are known to be harmless for it"


def state_misfit(rule: str, fit: Fit) -> str:
    """What is wrong with the state, empty where it fits; an unknown rule fits nothing."""
    shape = STATES.get(rule.partition("+")[0])
    return shape(fit) if shape else "no state is known to be harmless for it"


def may_grow(rule: str, part: str) -> bool:
    """Whether `items` or `pairs` may be put into the object."""
    return part in rule.split("+")[1:]
