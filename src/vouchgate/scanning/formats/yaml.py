"""YAML: configurations and metadata, by events and tags; nothing is constructed.

Rules are those of yaml_events.py. Text that is a mapping or a sequence at its root is YAML; prose that a YAML reader takes as one scalar is text.
"""

from __future__ import annotations

from vouchgate.scanning.plain_text import first_fault
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import NO_JSON, Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at
from vouchgate.scanning.yaml_events import MAX_YAML, Document, NoYaml, has_tags, looks_structured, read_events

NAME = "yaml"
REMEDY = "keep only plain values in the file (`yaml.safe_dump`), and build objects in your own reviewed code"


def recognise(sight: Sight) -> Claim:
    """A mapping or sequence at the root, or something that acts before a fault."""
    text = sight.text
    if text is None or sight.json is not NO_JSON or not looks_structured(text) or (len(text) > MAX_YAML and not has_tags(text)):
        return NOT_MINE
    claim = Claim(strength="certain", kind=NAME, because="a YAML mapping or sequence", above=("text", "csv"))
    if len(text) > MAX_YAML:
        return claim
    try:
        document = _document(sight)
    except NoYaml:
        return claim
    structured = not document.fault and bool({"mapping", "sequence"} & set(document.roots))
    return claim if structured or document.acts else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """What its events say."""
    del scope
    fault = first_fault(sight.view, "utf-8")
    if fault:
        raise Refuse(f"{NAME}:control", at(fault[0]), f"it holds {fault[1]}", REMEDY)
    if len(sight.text or "") > MAX_YAML:
        raise Refuse(f"{NAME}:too-large", at(0), f"it has tags and is over {MAX_YAML} characters", REMEDY, "incomplete")
    try:
        document = _document(sight)
    except NoYaml as error:
        raise Refuse(
            f"{NAME}:no-reader",
            at(0),
            "reading YAML needs a library that is not installed",
            "run `pip install 'vouchgate[scan]'`",
            "incomplete",
        ) from error
    reasons = tuple(
        Reason(rule=f"{NAME}:{rule}", where=f"line {line}", why=why, remedy=REMEDY, weight="refused" if heavy else "review")
        for line, rule, why, heavy in document.acts
    )
    return Reading(covered=len(sight), reasons=reasons, facts={"documents": len(document.roots), "events": document.events})


def _document(sight: Sight) -> Document:
    """Read once a look, kept with the sight."""
    kept: Document | None = sight.__dict__.get("yaml_document")
    if kept is None:
        kept = sight.__dict__["yaml_document"] = read_events((sight.text or "").removeprefix("\ufeff"))
    return kept
