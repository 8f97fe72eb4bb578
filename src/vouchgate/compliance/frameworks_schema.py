"""What a framework file may say. Unknown keys fail, so that a misspelt condition is never silently no condition."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.events import Event, Finding
from vouchgate.vocabulary.vouches import Revocation, Vouch
from vouchgate.vocabulary.wire import Noun

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Value = str | bool | int
DEFAULT_DAYS = 90
"""Days of the log that count where a need does not say otherwise: a quarter."""
MAX_CONTROLS = 1_000
"""Controls of one file; a larger framework is split by its own families."""

NOUNS: dict[str, type[Noun]] = {
    "decision": Decision,
    "vouch": Vouch,
    "revocation": Revocation,
    "request-start": Event,
    "request-end": Event,
    "finding": Finding,
}
"""Kinds of log entry that hold a noun, which knows its fields and their defaults."""
PLAIN: dict[str, tuple[str, ...]] = {
    "push": ("pep", "epoch", "resource", "outcome"),
    "lease-lost": ("pep", "epoch", "since", "reason"),
    "act": ("who", "verb", "resource", "outcome"),
    "authentication": ("principal", "credential_kind", "credential_id", "ok", "reason"),
    "gap": ("source", "missing", "since", "until"),
}
"""Kinds that hold plain values."""


class Need(Noun, frozen=True, kw_only=True):
    """Log entries of one kind that say something."""

    what: Text
    """In our own words, lower-case."""
    kind: str
    where: dict[str, Value | tuple[Value, ...]] = {}
    """Field = value, or one of several values; all must hold."""
    at_least: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    within_days: Annotated[int, Meta(ge=1, le=3660)] = DEFAULT_DAYS


class Control(Noun, frozen=True, kw_only=True):
    """One requirement of a framework."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    title: Text
    text: Text
    limits: Text
    """What its evidence does not show."""
    needs: Annotated[tuple[Need, ...], Meta(min_length=1, max_length=32)]
    contradicted_by: Annotated[tuple[Need, ...], Meta(max_length=32)] = ()


class Framework(Noun, frozen=True, kw_only=True):
    """One file."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
    title: Text
    source: Annotated[str, Meta(pattern=r"^https://[^\s]{1,200}$")]
    edition: Text
    controls: Annotated[tuple[Control, ...], Meta(min_length=1, max_length=MAX_CONTROLS)]


def check(framework: Framework) -> None:
    """Raise `InvalidInput` for a control given twice, an unknown kind of entry, or a field that the kind does not have."""
    ids = [control.id for control in framework.controls]
    for number, one in enumerate(ids):
        if one in ids[:number]:
            raise _wrong(framework, one, "is given twice", "give each control an id of its own")
    for control in framework.controls:
        for need in (*control.needs, *control.contradicted_by):
            fields = fields_of(need.kind)
            if not fields:
                raise _wrong(framework, control.id, f"asks for `{need.kind}`, which is no kind of log entry", f"use one of {_kinds()}")
            for name, wanted in need.where.items():
                if name not in fields:
                    raise _wrong(framework, control.id, f"asks for `{name}` of a `{need.kind}`", f"use one of {', '.join(fields)}")
                if wanted == ():
                    raise _wrong(framework, control.id, f"lets `{name}` have no value", "list the values, or leave the field out")


def fields_of(kind: str) -> tuple[str, ...]:
    """Fields of a kind of log entry that can be asked for; none for an unknown kind."""
    return NOUNS[kind].__struct_fields__ if kind in NOUNS else PLAIN.get(kind, ())


def _kinds() -> str:
    return ", ".join([*NOUNS, *PLAIN])


def _wrong(framework: Framework, control: str, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"control `{control}` of `{framework.name}` {what}", remedy=remedy)
