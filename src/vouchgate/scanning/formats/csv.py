"""CSV and its kin: rows of the same number of cells, split by comma, semicolon, tab or bar.

Rules (RFC 4180)
1. Recognised by its first rows: the same number of cells, at least two, in each of them.
2. A cell that a spreadsheet would evaluate (`=`, `@`, `+`, `-` before anything but a number) and that calls a function or another program
   (`(`, `|`) is refused: the reader of the table opens it with a double click.
3. The rest is text (no control characters).
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator

from vouchgate.scanning.plain_text import first_fault
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Refuse, at

NAME = "csv"
MAX_CELL = 16 * 1024**2
"""Characters of one cell; Python's own bound is 131,072, which articles in a data set pass."""
SAMPLED_ROWS = 20
"""Rows that must agree for the text to be a table."""
DELIMITERS = ",;\t|"
_EVALUATED = ("=", "@", "+", "-")
_CALLS = ("(", "|")
_REACHING_WORDS = (
    "hyperlink webservice importxml importdata importhtml importfeed importrange image call register exec rtd dde filterxml encodeurl "
    "registerid evaluate open run"
)
_REACHING = frozenset(_REACHING_WORDS.split())
"""Functions that leave the sheet: behind `@`, `+` and `-`, which begin words and numbers too, only these count."""


def recognise(sight: Sight) -> Claim:
    """Rule 1. Only where the text does not begin as another language does."""
    text = sight.text
    if text is None or text.lstrip("\ufeff \t\r\n")[:1] in ("", "{", "[", "<"):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="rows of cells", above=("text",)) if _delimiter(sight) else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Every row."""
    del scope
    fault = first_fault(sight.view, "utf-8")
    if fault:
        raise Refuse(f"{NAME}:control", at(fault[0]), f"it holds {fault[1]}", "write the table again without it")
    rows = cells = 0
    for number, row in enumerate(_rows(sight.text or "", _delimiter(sight)), 1):
        rows, cells = number, cells + len(row)
        for cell in row:
            if cell.lstrip()[:1] in _EVALUATED and _acts(cell.strip()):
                raise Refuse(
                    f"{NAME}:formula",
                    f"row {number}",
                    f"the cell `{_shown(cell)}` is a formula that a spreadsheet would run",
                    "quote it with a leading apostrophe, or remove it",
                )
    return Reading(covered=len(sight), facts={"rows": rows, "cells": cells})


def _acts(cell: str) -> bool:
    """Rule 2: a name and right behind it a call or a link to another program (DDE); numbers, dates and signed words do not."""
    body = cell.lstrip("=+-@ \t")
    end = min((place for place in map(body.find, _CALLS) if place >= 0), default=-1)
    name = body[: max(end, 0)].replace(".", "").replace("_", "").strip("'\"")
    if not name.isalnum() or name[0].isdigit():
        return False
    return cell[0] == "=" or body[end] == "|" or name.lower() in _REACHING


def _delimiter(sight: Sight) -> str:
    """The one that splits the first rows alike, else none."""
    head = sight.head[:16_384].decode("utf-8", "ignore").removeprefix("\ufeff")
    lines = head.splitlines(keepends=True)
    whole = lines if len(head.encode()) >= len(sight) - 3 else lines[:-1]
    for delimiter in DELIMITERS:
        if delimiter not in "".join(whole[:1]):
            continue
        try:
            counts = {len(row) for row in itertools.islice(_rows("".join(whole), delimiter), SAMPLED_ROWS) if row}
        except Refuse:
            continue
        if len(counts) == 1 and counts.pop() >= 2 and len(whole) >= 2:
            return delimiter
    return ""


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    previous = csv.field_size_limit(MAX_CELL)
    try:
        yield from csv.reader(_lines(text), delimiter=delimiter)
    except csv.Error as error:
        raise Refuse(f"{NAME}:row", "a row", f"it cannot be split into cells: {error}", "write the table again") from error
    finally:
        csv.field_size_limit(previous)


def _lines(text: str) -> Iterator[str]:
    here = 0
    while here < len(text):
        end = text.find("\n", here)
        stop = len(text) if end < 0 else end + 1
        yield text[here:stop]
        here = stop


def _shown(text: str) -> str:
    return text[:60].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")
