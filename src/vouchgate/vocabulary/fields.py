"""Fields: a plug-in's declaration of every input field as required, optional or ignored, by name; an unknown field fails.

Rules
1. A value must be of one of the kinds below; a boolean is not a number, a number is not a string.
2. Strings, lists and nesting are bounded, so that whatever is accepted can be stored, signed and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import Noun

FieldKind = Literal["text", "document", "integer", "number", "flag", "texts", "counts"]
"""`document` is a longer string: a token, an encoded certificate; `texts` is a list of strings; `counts` maps a string to an integer."""
MAX_TEXT = 4_096
"""Characters of one string value; the longest real one is a path."""
MAX_DOCUMENT_TEXT = 65_536
"""Characters of a `document`: a cloud's signed document has about 8,000, the node list of a large job about 20,000."""
MAX_ITEMS = 1_024
"""Items of one list or map: the files of a large sharded model."""
MAX_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""


class Fields(Noun, frozen=True, kw_only=True):
    """Names and kinds of the fields a plug-in takes."""

    required: dict[str, FieldKind] = {}
    optional: dict[str, FieldKind] = {}
    ignored: tuple[str, ...] = ()
    """Known, and deliberately not used."""

    def check(self, values: Mapping[str, Any], *, what: str) -> None:
        """Raise `InvalidInput` unless `values` has every required field, only known ones, and each of its kind."""
        missing = sorted(set(self.required) - set(values))
        if missing:
            raise InvalidInput(f"the {what} lacks `{missing[0]}`", remedy=f"give {', '.join(sorted(self.required))}")
        known = {**self.required, **self.optional}
        for name, value in values.items():
            if name in self.ignored:
                continue
            if name not in known:
                raise InvalidInput(f"the {what} has an unknown field `{str(name)[:80]}`", remedy=f"use only {', '.join(sorted(known))}")
            if not _is(known[name], value):
                raise InvalidInput(f"`{name}` of the {what} is not {_SAID[known[name]]}", remedy="correct its value")


_SAID = {
    "text": "a string within the bound",
    "document": "a string within the bound",
    "integer": "an integer within the bound",
    "number": "a finite number",
    "flag": "true or false",
    "texts": "a list of strings within the bound",
    "counts": "a map from strings to integers within the bound",
}


def _is(kind: FieldKind, value: Any) -> bool:
    match kind:
        case "text":
            return isinstance(value, str) and len(value) <= MAX_TEXT
        case "document":
            return isinstance(value, str) and len(value) <= MAX_DOCUMENT_TEXT
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER
        case "number":
            return _is("integer", value) or (isinstance(value, float) and abs(value) < float("inf"))
        case "flag":
            return isinstance(value, bool)
        case "texts":
            return isinstance(value, list | tuple) and len(value) <= MAX_ITEMS and all(_is("text", item) for item in value)
        case "counts":
            return (
                isinstance(value, Mapping)
                and len(value) <= MAX_ITEMS
                and all(_is("text", key) and _is("integer", count) for key, count in value.items())
            )
