"""Which control is met by which entries of the log.

    coverage(framework, entries, now) -> tuple[ControlCoverage, ...]

Rules
1. `met`: every need has its entries and nothing contradicts. `unmet`: no need has. `partly`: everything between.
2. Missing evidence never counts: an entry that is shortened, damaged, from the future or too old supports nothing. A contradiction counts
   whenever its entry can be read so.
3. Each answer names the newest entries it rests on by log index, so that `vouchgate audit prove INDEX` can show them to anybody.
Left to others: verifying the log first (audit), asking persons about what no log shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from vouchgate.compliance.frameworks_schema import NOUNS, PLAIN, Control, Framework, Need
from vouchgate.vocabulary.answers import AuditEntry
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

MAX_REFERENCES = 5
"""Log entries named for one need; the count says how many there are."""
DAY_MS = 24 * 3600 * 1000
CLOCK_MS = 5_000
"""Milliseconds an entry may be ahead of `now`: the gateway's clock is read apart from ours."""

Status = Literal["met", "partly", "unmet"]


class NeedCoverage(Noun, frozen=True, kw_only=True):
    """What was found of one need or contradiction."""

    what: str
    met: bool
    count: int
    wanted: int
    references: tuple[int, ...] = ()
    """Log indexes, newest first."""


class ControlCoverage(Noun, frozen=True, kw_only=True):
    """One control, and what shows it."""

    control: str
    title: str
    status: Status
    needs: tuple[NeedCoverage, ...]
    contradictions: tuple[NeedCoverage, ...] = ()
    """Only those that were found."""
    limits: str


def coverage(framework: Framework, entries: Iterable[AuditEntry], now: UnixMillis) -> tuple[ControlCoverage, ...]:
    """Hold every control against the entries, in one pass over them."""
    asked = [need for control in framework.controls for need in (*control.needs, *control.contradicted_by)]
    by_kind: dict[str, list[int]] = {}
    for number, need in enumerate(asked):
        by_kind.setdefault(need.kind, []).append(number)
    counts, newest = [0] * len(asked), [[] for _ in asked]  # type: ignore[var-annotated]
    for entry in entries:
        wanted = by_kind.get(entry.kind)
        if not wanted or entry.at > now + CLOCK_MS:
            continue
        said = _said(entry)
        for number in wanted:
            if said is not None and entry.at > now - asked[number].within_days * DAY_MS and _holds(asked[number], said):
                counts[number] += 1
                newest[number] = sorted((*newest[number], entry.index), reverse=True)[:MAX_REFERENCES]
    found = iter(
        NeedCoverage(what=need.what, met=count >= need.at_least, count=count, wanted=need.at_least, references=tuple(references))
        for need, count, references in zip(asked, counts, newest, strict=True)
    )
    return tuple(_control(control, [next(found) for _ in (*control.needs, *control.contradicted_by)]) for control in framework.controls)


def _control(control: Control, found: list[NeedCoverage]) -> ControlCoverage:
    needs, against = found[: len(control.needs)], [one for one in found[len(control.needs) :] if one.met]
    held = sum(one.met for one in needs)
    status: Status = "met" if held == len(needs) and not against else "partly" if held else "unmet"
    return ControlCoverage(
        control=control.id, title=control.title, status=status, needs=tuple(needs), contradictions=tuple(against), limits=control.limits
    )


def _said(entry: AuditEntry) -> Mapping[str, Any] | None:
    """The fields of what the entry records, defaults filled in; None where it does not hold all of it (rule 2)."""
    unmapped = entry.body.get("unmapped")
    if not isinstance(unmapped, dict) or "left_out" in unmapped or not isinstance(unmapped.get("vouchgate"), dict):
        return None
    detail: dict[str, Any] = unmapped["vouchgate"]
    if entry.kind in PLAIN:
        return detail
    try:
        noun = msgspec.convert(detail, NOUNS[entry.kind])
    except msgspec.ValidationError:
        return None
    return {name: getattr(noun, name) for name in noun.__struct_fields__}


def _holds(need: Need, said: Mapping[str, Any]) -> bool:
    for name, wanted in need.where.items():
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        # In Python `True == 1`: a number in the log must not pass for a yes.
        if not any(type(said.get(name)) is type(value) and said.get(name) == value for value in values):
            return False
    return True
