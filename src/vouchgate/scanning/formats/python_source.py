"""Python source: code by design, so never clean; a person reads it. What reaches out of its own computing is refused outright.

Rules
1. Recognised by its syntax tree: text that parses as Python and would do something (word lists, tables and settings parse too, and do not).
2. Text that does not parse here, but begins as a program does, may be another version's: it is code as well.
3. The source is UTF-8; a coding line that names another encoding lets Python read other code than a person sees (PEP 263).
4. The tree is judged (python_code.py); the name of the file decides nothing.
"""

from __future__ import annotations

import ast
import re

from vouchgate.scanning.python_code import MAX_SOURCE, Found, Unparsable, is_program, judge, parse
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import NO_JSON, Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "python-source"
REMEDY = "leave the code out of the artifact and keep it in a reviewed repository, or have a person accept it"
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""PEP 263's own expression."""
_ENCODINGS = frozenset(("utf-8", "utf8", "utf_8", "utf-8-sig", "ascii", "us-ascii", "latin-1", "latin1", "iso-8859-1", "iso-8859-15"))
_BEGINS = re.compile(r"(?:import [A-Za-z_][\w.]*(?: as \w+)?|from [\w.]+ import .+|def \w+\(.*|class \w+[(:].*|async def .*)\s*(?:#.*)?")
_NEEDED = ("import", "(", "@", "lambda", "for ", "while ", "with ", "class ", "def ", "raise", "del ", "assert", "if ", "try")
"""Without one of these, no program of Python can act."""


def recognise(sight: Sight) -> Claim:
    """Rules 1 to 3."""
    text = sight.text
    if text is None or sight.json is not NO_JSON:
        return NOT_MINE
    if _coding(text):
        return _claim("a coding line")
    if not any(word in text for word in _NEEDED):
        return NOT_MINE
    try:
        return _claim("a program by its syntax tree") if is_program(text, _tree(sight)) else NOT_MINE
    except Unparsable:
        begins = _long_program(text) if len(text) > MAX_SOURCE else _BEGINS.fullmatch(_first_line(text))
        return _claim("it begins as a program does") if begins else NOT_MINE


def _claim(because: str) -> Claim:
    return Claim(strength="certain", kind=NAME, because=because, above=("text", "yaml", "csv"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Judge the tree; never clean."""
    del scope
    text = (sight.text or "").removeprefix("\ufeff")
    coding = _coding(text)
    if coding and coding not in _ENCODINGS:
        raise Refuse(f"{NAME}:encoding", "line 1", f"Python would read it as `{coding[:40]}`, in which it may be other code", REMEDY)
    try:
        found = judge(text, _tree(sight))
    except Unparsable as error:
        found = (Found(1, "syntax", f"it cannot be read as Python of this version ({error}), so what it does is not known", "review"),)
    by_design = Reason(
        rule=f"{NAME}:code",
        where=at(0),
        why="it is a program: whoever imports or runs it runs what it says",
        remedy=REMEDY,
        weight="review",
    )
    return Reading(covered=len(sight), reasons=(*map(_reason, found), by_design), facts={"lines": text.count("\n") + 1})


def _reason(found: Found) -> Reason:
    why = found.why.encode("ascii", "backslashreplace").decode("ascii")
    return Reason(rule=f"{NAME}:{found.rule}", where=f"line {found.line}", why=why, remedy=REMEDY, weight=found.weight)


def _tree(sight: Sight) -> ast.Module:
    """Parsed once a look, kept with the sight."""
    kept: ast.Module | Unparsable | None = sight.__dict__.get("python_tree")
    if kept is None:
        try:
            kept = parse((sight.text or "").removeprefix("\ufeff"))
        except Unparsable as error:
            kept = error
        sight.__dict__["python_tree"] = kept
    if isinstance(kept, Unparsable):
        raise kept
    return kept


def _long_program(text: str) -> bool:
    """Too long to parse: its first lines parse, and some line of it can only be Python's."""
    prefix = text[:PREFIX].rpartition("\n")[0].rstrip().rpartition("\n")[0] or text[:PREFIX]
    try:
        parse(prefix)
    except Unparsable as error:
        if (
            "EOF" not in str(error)
            and "never closed" not in str(error)
            and "unterminated triple" not in str(error)
            and "expected an indented" not in str(error)
        ):
            return False
    return any(_BEGINS.fullmatch(line) for line in text.splitlines() if line[:1] in _LETTERS)


_LETTERS = frozenset("ifcda")
PREFIX = 32_768
"""Characters of a long text that are parsed to see whether it is Python at all."""


def _coding(text: str) -> str:
    """The encoding that one of the first two lines names."""
    for line in text[:4096].removeprefix("\ufeff").splitlines()[:2]:
        match = _CODING.match(line)
        if match:
            return match.group(1).lower().replace("_", "-") if match.group(1) != "utf_8" else "utf-8"
    return ""


def _first_line(text: str) -> str:
    """The first line that is neither blank nor comment, behind a docstring; of a text of any length."""
    here, quote = 0, ""
    body = text[:MAX_SOURCE].removeprefix("\ufeff")
    while here < len(body):
        end = body.find("\n", here)
        line = body[here : len(body) if end < 0 else end].strip()
        here = len(body) if end < 0 else end + 1
        if quote:
            quote = "" if quote in line else quote
            continue
        if not line or line.startswith("#"):
            continue
        mark = line[:3]
        if mark in ('"""', "'''"):
            quote = "" if mark in line[3:] else mark
            continue
        return line
    return ""
