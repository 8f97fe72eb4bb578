"""Plain text: model cards, licences, vocabularies, merges, requirements, logs.

Rules
1. All of it decodes, without control characters: an escape sequence in a file that a person prints can lie to that person.
2. Nothing runs text by what it says; a first line can make it a program (`#!`), a page (`<html`, `<svg`, `<script`) or a template (`<?php`).
3. A text that a template renderer would let reach for Python's internals is refused, whoever would render it (jinja.py, `internals`).
4. A member's name may only make it worse: one that a system runs, sources or imports from (`.sh`, `.bat`, `.pth`) is code in whatever words.

Formats that are text too (JSON, YAML, CSV, Python, ...) claim above this one.
"""

from __future__ import annotations

import posixpath
import re

from vouchgate.scanning.jinja import internals
from vouchgate.scanning.plain_text import encoding_of, first_fault
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "text"
_PAGES = ("<!doctype html", "<html", "<svg", "<script", "<?php", "<%", "<iframe", "<body", "<head")
_SUFFIXES = (
    "sh bash zsh fish ksh csh bat cmd ps1 psm1 vbs vbe js mjs cjs jse wsf hta lua pl pm rb php command desktop service html htm svg xhtml "
    "reg inf scr lnk url r jl tcl awk groovy gradle mk cmake dockerfile"
)
_RUNNABLE = frozenset(_SUFFIXES.split())
"""Suffixes that a system runs, sources or shows as a page."""
_RUNNABLE_NAMES = frozenset(("makefile", "dockerfile", "jenkinsfile", ".bashrc", ".profile", ".bash_profile", ".zshrc", ".envrc"))


def recognise(sight: Sight) -> Claim:
    """Bytes that are text in some encoding; a few control characters make it a broken one, not another format."""
    encoding = encoding_of(sight)
    if not encoding:
        return NOT_MINE
    return Claim(strength="certain" if encoding == "utf-8" else "possible", kind=NAME, because=f"{encoding.upper()} text")


def read(sight: Sight, scope: Scope) -> Reading:
    """Decode all of it, then rules 2 to 4."""
    encoding = encoding_of(sight)
    fault = first_fault(sight.view, encoding)
    if fault:
        offset, what = fault
        raise Refuse(
            f"{NAME}:control",
            at(offset),
            f"it holds {what}: shown in a terminal or editor, the text can hide or change what stands there",
            "remove those characters, or find out what wrote them",
        )
    rendered = internals(sight.text or "", NAME, "text")
    head = sight.head.decode(encoding, "ignore").removeprefix("\ufeff")
    return Reading(covered=len(sight), reasons=(*_first_line(head), *rendered, *_named(scope)), facts={"encoding": encoding})


_SCRIPT = re.compile(r"#![ \t]*[^\s/]*/")
"""What the system runs by its first line: `#!` and the path of an interpreter; dictionaries and licences have `#!` and a word."""


def _first_line(head: str) -> tuple[Reason, ...]:
    """Rule 2."""
    if _SCRIPT.match(head):
        line = head[:80].splitlines()[0].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")
        return (_reason("script", f"its first line `{line}` makes it a program that the system runs", "refused"),)
    start = head.lstrip().lower()
    if start.startswith(_PAGES):
        return (_reason("page", "it is a page: whoever opens it runs what it holds", "review"),)
    return ()


def _named(scope: Scope) -> tuple[Reason, ...]:
    """Rule 4; `.pth`: lines beginning with `import` run at every start of Python (library reference, `site`)."""
    name = posixpath.basename(scope.path[-1].replace("\\", "/")).lower() if scope.path else ""
    suffix = name.rpartition(".")[2]
    if suffix == "pth" or name in ("sitecustomize.py", "usercustomize.py"):
        return (_reason("path-file", "Python runs a file of this name when it starts", "refused"),)
    if name in _RUNNABLE_NAMES or ("." in name and suffix in _RUNNABLE):
        return (_reason("runnable-name", "a file of this name is run or sourced as a program", "review"),)
    return ()


def _reason(rule: str, why: str, weight: str) -> Reason:
    return Reason(
        rule=f"{NAME}:{rule}",
        where=at(0),
        why=why,
        remedy="leave it out of the artifact, or have a person read it",
        weight=weight,  # type: ignore[arg-type]
    )
