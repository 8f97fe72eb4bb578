"""Reviewed: entries that a person wrote, as TOML, one file a library.

Rules
1. An entry names exactly one name, its uses, why that is harmless, and who looked at it; an unknown key is an error.
2. `uses = []` takes a name out, whatever the rules alone would say of it.
3. A `callable` names the rule for its arguments; nothing is callable with any arguments at all.
4. A rule is one that the pickle machine has (scanning/pickles/shapes.py and judging.py): a name that is misspelt would let in nothing, and nobody would see why.
5. The same name twice, in one file or in two, is an error.

A file's `library` is the distribution its entries are of; without it, the file's own name.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.pickles.judging import CONSTRUCTORS, GETATTR, TORCH_BYTES, TYPES_BY_NAME
from vouchgate.scanning.pickles.shapes import ARGUMENTS, STATES

RULES_OF_ARGUMENTS = {"", *ARGUMENTS, *CONSTRUCTORS, *TYPES_BY_NAME, GETATTR, TORCH_BYTES}
RULES_OF_STATE = {"", *STATES}
USES = ("inert", "constructible", "callable")
_KEYS = {"name", "names", "module", "uses", "arguments", "state", "why", "reviewer"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_REVIEWER = re.compile(r"[a-z0-9][a-z0-9 .@-]{0,60}\Z")
_RULE = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,60}(?:\+items)?(?:\+pairs)?)?\Z")


class Wrong(ValueError):
    """A reviewed file that breaks a rule; says where."""


def read_reviewed(folder: Path) -> list[Entry]:
    """All entries, in order; those with no use are `uses = ()`. Raises `Wrong`."""
    entries: dict[tuple[str, str], Entry] = {}
    for path in sorted(folder.glob("*.toml")):
        for entry in _file(path):
            if (entry.module, entry.name) in entries:
                raise Wrong(f"{path.name}: `{entry.module}.{entry.name}` stands twice")
            entries[entry.module, entry.name] = entry
    return list(entries.values())


def _file(path: Path) -> Iterator[Entry]:
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise Wrong(f"{path.name}: {error}") from None
    unknown = set(document) - {"entry", "library"}
    if unknown:
        raise Wrong(f"{path.name}: `{min(unknown)}` is not a key")
    library = document.get("library", path.stem)
    for number, raw in enumerate(document.get("entry", []), 1):
        yield from _entries(raw, library, f"{path.name}: entry {number}")


def _entries(raw: dict[str, Any], library: str, where: str) -> Iterator[Entry]:
    names = [raw["name"]] if "name" in raw else list(raw.get("names", []))
    where = f"{where} ({', '.join(map(str, names))[:80]})"
    _check(raw, names, where)
    for name in names:
        module = raw.get("module") or name.rpartition(".")[0]
        yield Entry(
            module=module,
            name=name.removeprefix(module + "."),
            uses=tuple(use for use in USES if use in raw["uses"]),
            arguments=raw.get("arguments", ""),
            state=raw.get("state", ""),
            library=library,
            reviewer=raw["reviewer"],
            why=raw["why"],
        )


def _check(raw: dict[str, Any], names: list[str], where: str) -> None:
    wrong = (
        _unless(not set(raw) - _KEYS, f"unknown keys {sorted(set(raw) - _KEYS)}")
        or _unless(bool(names) and not ("name" in raw and "names" in raw), "exactly one of `name` and `names` is needed")
        or _unless(all(isinstance(name, str) and _NAME.match(name) for name in names), "a name is dotted identifiers")
        or _unless(isinstance(raw.get("uses"), list) and set(raw["uses"]) <= set(USES), f"`uses` is a list out of {', '.join(USES)}")
        or _unless("callable" not in raw["uses"] or bool(raw.get("arguments")), "what is callable names the rule for its `arguments`")
        or _unless(
            not raw.get("state") or set(raw["uses"]) & {"constructible", "callable"}, "`state` is for what is constructible or callable"
        )
        or _unless(bool(_RULE.match(raw.get("arguments", "")) and _RULE.match(raw.get("state", ""))), "a rule's name is lower case")
        or _unless(raw.get("arguments", "") in RULES_OF_ARGUMENTS, f"no rule for arguments is called `{raw.get('arguments')}`")
        or _unless(raw.get("state", "").partition("+")[0] in RULES_OF_STATE, f"no rule for a state is called `{raw.get('state')}`")
        or _unless(bool(str(raw.get("why", "")).strip()), "`why` is missing")
        or _unless(bool(_REVIEWER.match(str(raw.get("reviewer", "")))), "`reviewer` is missing")
        or _unless(
            all(name.startswith(raw.get("module", "") and raw["module"] + ".") and "." in name for name in names), "`module` is no prefix"
        )
    )
    if wrong:
        raise Wrong(f"{where}: {wrong}")


def _unless(holds: bool, wrong: str) -> str:
    return "" if holds else wrong
