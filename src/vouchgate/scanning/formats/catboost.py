"""CatBoost's binary model (`.cbm`): a FlatBuffers core, then the tables for categories.

Rules (catboost/libs/model: model.cpp, flatbuffers/model.fbs, ctr_provider)
1. `CBM1`, four bytes of length, the core. Its version is the known one; descriptions are strict JSON without keys that a loader acts on.
2. Each tree's splits, and each node's steps, lie within their arrays.
3. Behind the core stand exactly the parts that it names. Category tables (`static_provider_v1`) are counted, sized tables; text and embedding
   processing has no published layout and is told as not read (`incomplete`).
"""

from __future__ import annotations

from typing import NoReturn

from vouchgate.scanning.flat_tables import Flat, Table
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.strict_json import acting, strict_text
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "catboost"
REMEDY = "save the model again with CatBoost (`save_model`), or export it as ONNX"
MAX_TREES = 1_000_000
MAX_TABLES = 1_000_000
_MAGIC, _VERSION, _CATEGORIES = b"CBM1", "FlabuffersModel_v1", b"static_provider_v1"
_JSON_KEYS = ("params", "class_params", "training", "output_options")


def recognise(sight: Sight) -> Claim:
    """The magic number and a length within the file."""
    head = sight.head
    if head[:4] != _MAGIC or len(head) < 24:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="CatBoost's magic number", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Core, then parts."""
    del scope
    view = sight.view
    size = int.from_bytes(view[4:8], "little")
    if size < 16 or 8 + size > len(view):
        _refuse("length", 4, "the length of its core is not within the file")
    flat = Flat(view[8 : 8 + size], NAME, 8)
    core = flat.root()
    trees = core.table(1)
    if core.text(0) != _VERSION or trees is None:
        _refuse("version", 8, "its core is of another version, or has no trees")
    _described(core)
    count = _trees(trees)
    names = _names(core)
    reasons: tuple[Reason, ...] = ()
    covered = 8 + size
    for name in names:
        if name != _CATEGORIES:
            reasons = (_unread(name, covered),)
            break
        covered = _tables(view, covered)
    if not reasons and covered != len(view):
        _refuse("trailing", covered, f"{len(view) - covered} bytes stand behind its last part")
    return Reading(covered=covered, reasons=reasons, facts={"trees": count, "parts": len(names)})


def _described(core: Table) -> None:
    """Rule 1."""
    for pair in core.all(2):
        key, value = pair.text(0), pair.text(1)
        if key in _JSON_KEYS:
            found = acting(strict_text(value, NAME, f"description `{key}`"))
            if found:
                _refuse("acting-key", 8, f"its description `{key}` has a key on which loaders act: {found[1]}")


def _trees(trees: Table) -> int:
    """Rule 2."""
    splits = trees.vector(1, 4)[1]
    sizes, starts = trees.rows(2, "i"), trees.rows(3, "i")
    if len(sizes) > MAX_TREES or len(sizes) != len(starts):
        _refuse("trees", 8, "its trees are too many, or their places are not as many as they are")
    if any(size < 0 or start < 0 or start + size > splits for (size,), (start,) in zip(sizes, starts, strict=True)):
        _refuse("trees", 8, "a tree's splits lie outside their list")
    steps = trees.rows(10, "HH")
    leaves = trees.vector(11, 4)[1]
    if steps and (len(steps) != leaves or len(steps) != splits):
        _refuse("trees", 8, "its nodes, their steps and their leaves are not as many as each other")
    for node, (left, right) in enumerate(steps):
        if max(node + left, node + right) >= len(steps):
            _refuse("trees", 8, f"node {node} steps behind the last one")
    return len(sizes)


def _names(core: Table) -> list[bytes]:
    flat = core.flat
    begin, count = core.vector(3, 4)
    found = []
    for place in range(begin, begin + 4 * count, 4):
        text = place + flat.number(place, "I")
        length = flat.number(text, "I")
        if text + 4 + length > len(flat.view):
            flat.refuse(text, "a part's name reaches behind the core")
        found.append(bytes(flat.view[text + 4 : text + 4 + length]))
    return found


def _tables(view: memoryview, here: int) -> int:
    """Rule 3; the place behind them."""
    count = int.from_bytes(view[here : here + 4], "little")
    if here + 4 > len(view) or count > MAX_TABLES:
        _refuse("tables", here, "its category tables are too many, or not there")
    here += 4
    for _ in range(count):
        size = int.from_bytes(view[here : here + 4], "little")
        if here + 4 + size > len(view) or size < 8:
            _refuse("tables", here, "a category table reaches behind the file")
        table = Flat(view[here + 4 : here + 4 + size], NAME, here + 4).root()
        table.vector(1, 1)
        table.vector(2, 1)
        here += 4 + size
    return here


def _unread(name: bytes, offset: int) -> Reason:
    shown = name.rstrip(b"\0").decode("ascii", "backslashreplace")[:40]
    return Reason(
        rule=f"{NAME}:part",
        where=at(offset),
        why=f"its part `{shown}` (text or embedding processing) has no published layout, so its bytes were not read",
        remedy="train it without text and embedding features, or export it as ONNX",
        weight="incomplete",
    )


def _refuse(rule: str, offset: int, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", at(offset), why, REMEDY)
