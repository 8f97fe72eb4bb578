"""Finds text that would act if something rendered or evaluated it: markup, script addresses, templates, code to evaluate.

Metadata is inert to loaders, so no `clean` rests on this; it stops what has no honest reason to stand in metadata.

Rules
1. Acts, and is refused: elements that run or embed, handlers of events in any element, script addresses that hold code, template expressions that
   call, import or reach for a name with two underscores.
2. Might act, and waits for a person: other markup that loads or restyles, plain template expressions, expressions that code could evaluate,
   control characters.
3. Formatting markup (`<p>`), tags of pictures (`<lora:x:1>`) and names of other values (`${model.width}`) are plain; so is what rule 2 names where
   the whole text is a JSON document: configurations and counts of tags hold all of it honestly.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from vouchgate.scanning import jinja

MAX_JSON = 64 * 1024**2
"""Characters tried as JSON; longer texts are no document."""
MAX_SEGMENT = 4_096
"""Characters of one template expression looked at."""
_RUNS = frozenset(("script", "iframe", "object", "embed", "applet", "frame", "frameset"))
_LOADS = frozenset(
    (
        "base",
        "meta",
        "link",
        "style",
        "form",
        "svg",
        "math",
        "img",
        "image",
        "input",
        "video",
        "audio",
        "source",
        "template",
        "portal",
        "html",
        "body",
    )
)
_BEHIND = r"(?=[\s/><]|$)"
_MAY_ACT = re.compile(rf"</?(?:{'|'.join(sorted(_RUNS))}){_BEHIND}|[\s/\"']on[a-z]{{3,24}}\s*=")
_MAY_LOAD = re.compile(rf"</?(?:{'|'.join(sorted(_LOADS))}){_BEHIND}|<[!?]")
"""Elements and handlers anywhere in a text in lower case: what these do not find, no single piece has."""
_TAG = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)(?=[\s/>]|$)")
_HANDLER = re.compile(r"[\s/\"']on[a-z]{3,24}\s*=")
_ADDRESS = re.compile(r"\b(?:java|vb|live)script:(.{0,400})", re.IGNORECASE | re.DOTALL)
_SCRIPT_END = "pt:"
"""What every such address has, in letters that no other letter folds to (a long s is an s without regard to case)."""
_STATEMENT = re.compile(r"[\w\])]\(|`|\w=|\[|\+|%[0-9a-fA-F]{2}")
"""What code in an address has, and an English sentence behind the word does not."""
_PAGE = re.compile(r"\bdata:(?:text/html|image/svg|application/xhtml|text/javascript|application/javascript)", re.IGNORECASE)
_CODE = re.compile(r"\.__[a-z]+__|\b__[a-z]+__\(|\b(?:eval|exec|compile|getattr|system|popen)\(")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_IGNORED = {ord(character): None for character in "\t\n\r\0"}
"""What browsers leave out of an address (WHATWG URL, "basic URL parser")."""
_BRACKETS = (("{{", "}}"), ("{%", "%}"), ("${", "}"), ("#{", "}"), ("<%", "%>"))
_REACHES = re.compile(
    r"__|\w\s*\(|\b(?:import|include|extends|require|attr)\b|\\x|(?<![\w.])(?:jndi|script|lower|upper|env|sys|java|url|dns)\s*:"
)
_VARIABLE = re.compile(r"[\w.:\-/ ]*")


class Active(NamedTuple):
    """What was found, and under which key."""

    key: str
    what: str
    weight: Literal["refused", "review"]


def first_active(texts: Mapping[str, str]) -> Active | None:
    """The worst of what the keys and values hold, the first of its weight; None if all is plain."""
    worst: Active | None = None
    for key, value in texts.items():
        for text in (key, value):
            found = _acts(text)
            if found:
                return Active(key, found, "refused")
            mild = "" if worst else _might(text)
            if mild and not _is_document(text):
                worst = Active(key, mild, "review")
    return worst


def _acts(text: str) -> str:
    """Rule 1."""
    lower = text.lower()
    if "<" in text and _MAY_ACT.search(lower) and any(_element_acts(piece) for piece in _pieces(text)):
        return "markup that acts"
    if (":" in text or "&" in text) and _address_acts(text):
        return "a script address"
    return "a template expression that calls, imports or reaches inside" if _template_acts(text) else ""


def _address_acts(text: str) -> bool:
    read = (html.unescape(text) if "&" in text else text).translate(_IGNORED)
    address = _ADDRESS.search(read) if _SCRIPT_END in read.lower() else None
    return bool(address and _STATEMENT.search(address.group(1)))


def _might(text: str) -> str:
    """Rule 2."""
    lower = text.lower()
    if "<" in text and _MAY_LOAD.search(lower) and any(_name(piece) in _LOADS or piece[:1] in "!?" for piece in _pieces(text)):
        return "markup"
    if _expressions(text, plain=False):
        return "a template expression"
    address = _ADDRESS.search(text) if _SCRIPT_END in lower else None
    if (address and not address.group(1)[:1].isspace()) or ("data:" in lower and _PAGE.search(text)):
        return "a script address"
    if ("__" in text or "(" in text) and _CODE.search(text):
        return "an expression that code could evaluate"
    return "control characters" if _CONTROL.search(text) else ""


def _pieces(text: str) -> list[str]:
    """What stands behind each `<`."""
    return [piece for piece in text.split("<")[1:] if piece]


def _name(piece: str) -> str:
    found = _TAG.match(piece)
    return found.group(1).lower() if found else ""


def _element_acts(piece: str) -> bool:
    name = _name(piece)
    return bool(name) and (name in _RUNS or _HANDLER.search(_attributes(piece)) is not None)


def _attributes(piece: str) -> str:
    """The element up to its `>`; one in quotes does not end it."""
    quote = ""
    for place, character in enumerate(piece):
        if character in "\"'":
            quote = "" if quote == character else quote or character
        elif character == ">" and not quote:
            return piece[:place].lower()
    return piece.lower()


def _expressions(text: str, *, plain: bool = True) -> list[str]:
    """The insides of template expressions; without `plain`, not the names in `${...}`."""
    found = []
    for opening, closing in _BRACKETS:
        if opening not in text:
            continue
        for piece in text.split(opening)[1:]:
            inside = piece[:MAX_SEGMENT].partition(closing)[0]
            if plain or opening not in ("${", "#{") or not _VARIABLE.fullmatch(inside):
                found.append(inside)
    return found


def _template_acts(text: str) -> bool:
    """By its words; where it is a whole template of a chat, whose calls are known, by the list of those."""
    if not any(_REACHES.search(inside) for inside in _expressions(text)):
        return False
    return "messages" not in text or bool(jinja.check(text, "text", "text"))


def _is_document(text: str) -> bool:
    """Rule 3: a JSON object or list."""
    if len(text) > MAX_JSON or text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
