"""Jupyter notebooks: code that only computes is clean; what reaches outside is named, cell by cell.

Rules (nbformat 3 and 4)
1. The JSON is strict, its cells are of the format's kinds, their sources text.
2. All Python cells are one program to a kernel: what one imports another uses; they are judged together (python_code.py).
3. IPython's escapes are taken apart first (ipython_source.py). A cell that is no Python, or another kernel's language, is for a person.
4. Outputs and Markdown are pages: script in them runs when the notebook is shown and trusted.
"""

from __future__ import annotations

import ast
from typing import Any

from vouchgate.scanning.ipython_source import take_apart
from vouchgate.scanning.python_code import Found, Unparsable, acting_markup, judge, parse
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import strict
from vouchgate.scanning.verdict import Reading, Reason, Refuse

NAME = "notebook"
REMEDY = "clear the outputs and take out what reaches outside, or have a person read the notebook"
MAX_CELLS = 20_000
MAX_SOURCE = 4 * 1024**2
"""Characters of all code cells."""
_KINDS = frozenset(("code", "markdown", "raw", "heading"))
_PAGES = frozenset(("text/html", "image/svg+xml", "text/markdown"))
_SCRIPTS = frozenset(("application/javascript", "text/javascript", "application/x-javascript"))
_PYTHONS = frozenset(("", "python", "ipython", "python3", "python2"))


def recognise(sight: Sight) -> Claim:
    """A JSON object with `nbformat` and cells."""
    value = sight.json
    if not isinstance(value, dict) or "nbformat" not in value or not ("cells" in value or "worksheets" in value):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a notebook's cells", above=("json", "text"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 1 to 4."""
    del scope
    value = strict(sight, NAME)
    if not isinstance(value, dict):
        raise Refuse(f"{NAME}:object", "offset 0", "it is no JSON object, so it has no cells", REMEDY)
    cells = _cells(value)
    reasons: list[Reason] = []
    codes: list[tuple[int, str]] = []
    for number, cell in enumerate(cells, 1):
        source = _source(cell, number)
        if cell["cell_type"] == "code":
            codes.append((number, source))
            reasons.extend(_outputs(cell, number))
        elif cell["cell_type"] == "markdown" and acting_markup(source):
            reasons.append(_reason(number, Found(0, "markup", "its Markdown holds a script or loads one", "refused")))
    language = _language(value)
    if sum(len(source) for _, source in codes) > MAX_SOURCE:
        reasons.append(_reason(0, Found(0, "too-large", f"its code is over {MAX_SOURCE} characters", "review")))
    elif language not in _PYTHONS and any(source.strip() for _, source in codes):
        reasons.append(_reason(0, Found(0, "language", f"its cells are `{language[:40]}`, which cannot be judged", "review")))
    else:
        reasons.extend(_judged(codes))
    return Reading(covered=len(sight), reasons=tuple(reasons), facts={"cells": len(cells), "code_cells": len(codes)})


def _cells(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Rule 1."""
    if value.get("nbformat") not in (3, 4):
        raise Refuse(
            f"{NAME}:version", "nbformat", f"format version `{str(value.get('nbformat'))[:20]}` is not one that was reviewed", REMEDY
        )
    sheets = value.get("worksheets", [])
    if "cells" in value and sheets:
        raise Refuse(f"{NAME}:two-lists", "worksheets", "it has cells in two places, and readers differ in which they show", REMEDY)
    lists = [value["cells"]] if "cells" in value else _of_sheets(sheets)
    if not all(isinstance(one, list) for one in lists) or sum(map(len, lists)) > MAX_CELLS:
        raise Refuse(f"{NAME}:cells", "cells", f"they are no list of at most {MAX_CELLS}", REMEDY)
    cells = [cell for one in lists for cell in one]
    for number, cell in enumerate(cells, 1):
        if not isinstance(cell, dict) or str(cell.get("cell_type")) not in _KINDS:
            raise Refuse(f"{NAME}:cell-kind", f"cell {number}", "it is none of the format's kinds", REMEDY)
    return cells


def _of_sheets(sheets: Any) -> list[Any]:
    """Format version 3 keeps cells by worksheet."""
    if not isinstance(sheets, list) or not all(isinstance(sheet, dict) for sheet in sheets):
        raise Refuse(f"{NAME}:worksheets", "worksheets", "they are no list of worksheets", REMEDY)
    return [sheet.get("cells", []) for sheet in sheets]


def _source(cell: dict[str, Any], number: int) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    if not isinstance(source, str):
        raise Refuse(f"{NAME}:source", f"cell {number}", "its source is not text", REMEDY)
    return source


def _language(value: dict[str, Any]) -> str:
    """By the kernel; a notebook that does not say is opened with Python."""
    metadata = value.get("metadata")
    said = [
        metadata[part][key]
        for part, key in (("kernelspec", "language"), ("language_info", "name"))
        if isinstance(metadata, dict) and isinstance(metadata.get(part), dict) and isinstance(metadata[part].get(key), str)
    ]
    return next((name.lower() for name in said if name.lower() not in _PYTHONS), "python")


def _judged(codes: list[tuple[int, str]]) -> list[Reason]:
    """Rules 2 and 3: one tree of all cells, each at lines of its own."""
    reasons: list[Reason] = []
    tree = ast.Module(body=[], type_ignores=[])
    begins: list[tuple[int, int]] = []
    program: list[str] = []
    lines = 0
    for number, source in codes:
        try:
            cell = take_apart(source)
            part = parse(cell.python)
        except Unparsable as error:
            reasons.append(
                _reason(number, Found(0, "syntax", f"it is not Python that can be read ({error}), so what it does is not known", "review"))
            )
            continue
        reasons.extend(_reason(number, found) for found in cell.found)
        if cell.markup and acting_markup(cell.markup):
            reasons.append(_reason(number, Found(1, "markup", "the page that it shows runs a script", "refused")))
        tree.body.extend(ast.increment_lineno(part, lines).body)
        begins.append((lines, number))
        program.append(cell.python)
        lines += cell.python.count("\n") + 1
    try:
        for found in judge("\n".join(program), tree):
            begin, number = max(begin for begin in begins if begin[0] < max(found.line, 1))
            reasons.append(_reason(number, Found(found.line - begin, found.rule, found.why, found.weight)))
    except Unparsable as error:
        reasons.append(_reason(0, Found(0, "syntax", f"its code cannot be judged ({error})", "review")))
    return reasons


def _outputs(cell: dict[str, Any], number: int) -> list[Reason]:
    """Rule 4."""
    reasons = []
    outputs = cell.get("outputs", [])
    for output in outputs if isinstance(outputs, list) else []:
        data = output.get("data", output) if isinstance(output, dict) else {}
        for kind, content in data.items() if isinstance(data, dict) else ():
            text = "".join(str(line) for line in content) if isinstance(content, list) else str(content)
            if kind in _SCRIPTS or (kind in ("javascript",) and text):
                reasons.append(
                    _reason(number, Found(0, "script-output", "its output is a script, which runs when the notebook is shown", "refused"))
                )
            elif (kind in _PAGES or kind in ("html", "svg")) and acting_markup(text):
                reasons.append(_reason(number, Found(0, "markup", "its output is a page that runs a script", "refused")))
    return reasons


def _reason(number: int, found: Found) -> Reason:
    where = "notebook" if not number else f"cell {number}" + (f" line {found.line}" if found.line else "")
    why = found.why.encode("ascii", "backslashreplace").decode("ascii")
    return Reason(rule=f"{NAME}:{found.rule}", where=where, why=why, remedy=REMEDY, weight=found.weight)
