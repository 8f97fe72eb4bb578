"""JSON that every reader reads in the same way, and the marks in it that make some loader act.

Rules (RFC 8259; `strict` raises `Refuse` with the asking format's name)
1. One document of UTF-8, no duplicate key in any object (section 4: readers differ), no lone surrogate. With `doubles` a second value of a key
   is kept beside the first, so that whoever looks for what acts sees both.
2. Depth is bounded before the parser recurses; Python itself refuses to multiply out a number of more than 4,300 digits.
3. `NaN` and `Infinity` are no JSON, but Python, xgboost and scikit-learn write them: they are read as numbers.
4. `acting` finds keys by which libraries rebuild objects from JSON: jsonpickle's `py/...`, hydra's `_target_` (targets.py), LangChain's `lc` constructors.
   What is not listed there acts nowhere by itself: JSON is data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from vouchgate.scanning.sight import Sight
from vouchgate.scanning.targets import TARGET, harmless_target
from vouchgate.scanning.verdict import Refuse

MAX_DEPTH = 200
"""Arrays and objects within each other; Python's own parser stops near 1,000, other readers sooner."""
REMEDY = "write the file again with the library that made it"
DOUBLED = "\0"
"""Stands behind the name of a key that occurs twice, before a number, for each value but the first (`doubles`)."""
_ACTING = {
    "__reduce__": "loaders call the name that it gives",
    "__lambda__": "Keras runs the code that it holds",
    "lc_callable": "LangChain calls the name that it gives",
}
_JSONPICKLE = "py/"
_JSONPICKLE_DATA = frozenset(("py/tuple", "py/set", "py/id", "py/b64", "py/bytes", "py/b85", "py/ref"))


def strict(sight: Sight, rule: str, what: str = "the file", *, doubles: bool = False) -> Any:
    """The document. `rule` is the format's name."""
    text = sight.text
    if text is None:
        raise Refuse(f"{rule}:encoding", "offset 0", f"{what} is no UTF-8 text, or over the bound for text", REMEDY)
    return strict_text(text.removeprefix("\ufeff"), rule, what, doubles=doubles)


def strict_text(text: str, rule: str, what: str = "the text", *, doubles: bool = False) -> Any:
    """The document that a text is."""

    def refuse(name: str, why: str) -> NoReturn:
        raise Refuse(f"{rule}:{name}", what, why, REMEDY)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs) and doubles:
            found = {}
            for number, (key, one) in enumerate(pairs):
                found[key if key not in found else f"{key}{DOUBLED}{number}"] = one
        elif len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            refuse("duplicate-key", f"the key `{_shown(twice)}` occurs twice in one object, and readers differ in which one they take")
        return found

    if _depth(text) > MAX_DEPTH:
        refuse("depth", f"its arrays and objects lie deeper than {MAX_DEPTH} within each other")
    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        refuse("json", f"it is not one JSON document: {_shown(str(error))}")
    if "\\u" in text and _lone_surrogate(value):
        refuse("surrogate", "it holds half of a surrogate pair, which is no character")
    return value


def _depth(text: str) -> int:
    """Deepest nesting, by the brackets outside strings; at most one over the bound is counted exactly."""
    deepest = depth = 0
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    for piece in _outside_strings(text):
        for character in piece:
            if character in "[{":
                depth += 1
                deepest = max(deepest, depth)
                if deepest > MAX_DEPTH:
                    return deepest
            elif character in "]}":
                depth -= 1
    return deepest


def _outside_strings(text: str) -> Iterator[str]:
    """The pieces between strings, reduced to brackets."""
    here, keep = 0, {ord(bracket): bracket for bracket in "[]{}"}
    while here < len(text):
        opening = text.find('"', here)
        piece = text[here:] if opening < 0 else text[here:opening]
        yield "".join(character for character in piece if ord(character) in keep)
        if opening < 0:
            return
        here = _string_end(text, opening + 1)


def _string_end(text: str, here: int) -> int:
    """Place behind the closing quote."""
    while True:
        closing = text.find('"', here)
        if closing < 0:
            return len(text)
        slashes = closing
        while slashes > here and text[slashes - 1] == "\\":
            slashes -= 1
        if (closing - slashes) % 2 == 0:
            return closing + 1
        here = closing + 1


def every(value: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of every value in the document, itself first. Iterative: depth costs no stack."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, here = waiting.pop()
        yield path, here
        if isinstance(here, dict):
            waiting.extend((f"{path}.{key}" if len(path) < 200 else path, inner) for key, inner in here.items())
        elif isinstance(here, list):
            waiting.extend((f"{path}[]" if len(path) < 200 else path, inner) for inner in here if isinstance(inner, dict | list))


def acting(value: Any) -> tuple[str, str] | None:
    """Path of the first object that some loader would act on, and why (rule 4)."""
    for path, here in every(value):
        if not isinstance(here, dict):
            continue
        for written, item in here.items():
            key = written.partition(DOUBLED)[0]
            if key == TARGET and not harmless_target(item):
                return f"{path}.{key}", "hydra imports and calls the name that it gives"
            if key in _ACTING:
                return f"{path}.{key}", _ACTING[key]
            if key.startswith(_JSONPICKLE) and key not in _JSONPICKLE_DATA:
                return f"{path}.{key}", "jsonpickle imports and calls the name that it gives"
            if key == "type" and item in ("constructor", "not_implemented") and "lc" in here and "id" in here:
                return path, "LangChain imports the class that it names and calls it"
            if key == "class_name" and item in ("Lambda", "__lambda__") and "config" in here:
                return path, "Keras runs the code that its Lambda layer holds"
    return None


def _lone_surrogate(value: Any) -> bool:
    texts = (item for _, here in every(value) for item in _strings(here))
    return any(not item.isascii() and any("\ud800" <= character <= "\udfff" for character in item) for item in texts)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    elif isinstance(value, list):
        yield from (item for item in value if isinstance(item, str))


def _shown(text: str) -> str:
    return text[:120].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'").replace("\n", " ")
