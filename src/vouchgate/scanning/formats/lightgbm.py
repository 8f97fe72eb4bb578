"""LightGBM's text model, by its whole grammar.

Rules (src/boosting/gbdt_model_text.cpp, src/io/tree.cpp of LightGBM 4)
1. `tree`, then header lines `key=value` of known keys, then the trees, `end of trees`, importances, `parameters:` ... `end of parameters`,
   and at most one line `pandas_categorical:` of strict JSON. Nothing else.
2. Each tree's arrays have as many numbers as it has splits or leaves; children, features and categories lie within their bounds, and a
   split's children come after it, as the writer numbers them (a cycle would never end a prediction).
3. `tree_sizes` are the trees' bytes: the library reads them in parallel at those places.
"""

from __future__ import annotations

from typing import NoReturn

from vouchgate.scanning.plain_text import first_fault
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import strict_text
from vouchgate.scanning.verdict import Reading, Refuse

NAME = "lightgbm"
REMEDY = "save the model again with LightGBM (`Booster.save_model`)"
MAX_TREES = 1_000_000
_HEADER = """version num_class num_tree_per_iteration label_index max_feature_idx objective average_output feature_names monotone_constraints
feature_infos tree_sizes init_score parser_config_str"""
_KEYS = frozenset(_HEADER.split())
_SPLITS = (
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "internal_value",
    "internal_weight",
    "internal_count",
)
_LEAVES = ("leaf_value", "leaf_weight", "leaf_count", "leaf_const", "num_features")
_OTHERS = (
    "num_leaves",
    "num_cat",
    "cat_boundaries",
    "cat_threshold",
    "is_linear",
    "leaf_features",
    "leaf_coeff",
    "shrinkage",
    "has_categorical",
)
_TREE_KEYS = frozenset((*_SPLITS, *_LEAVES, *_OTHERS))
_WHOLE = frozenset(("split_feature", "decision_type", "left_child", "right_child", "cat_boundaries", "num_features"))

Fields = dict[str, str]


def recognise(sight: Sight) -> Claim:
    """Its first two lines."""
    lines = sight.head[:100].split(b"\n")
    if len(lines) < 3 or lines[0].rstrip(b"\r") != b"tree" or not lines[1].startswith(b"version=v"):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a LightGBM model's first lines", above=("text", "csv", "yaml", "python-source"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Line by line."""
    del scope
    text = sight.text
    if text is None or first_fault(sight.view, "utf-8"):
        _refuse("encoding", "whole model", "it is not plain UTF-8 text, or over the bound for text")
    head, _, rest = text.partition("\n\n")
    header = _fields(head.splitlines()[1:], "header", _KEYS, flags=("average_output",))
    features = _whole(header, "max_feature_idx", "header") + 1
    if len(header.get("feature_names", "").split(" ")) != features or len(header.get("feature_infos", "").split(" ")) != features:
        _refuse("features", "header", f"it has not the names and ranges of {features} features")
    trees, marker, tail = rest.partition("end of trees\n")
    if not marker:
        _refuse("trees", "model", "its trees have no end")
    sizes = [_integer(size, "tree_sizes") for size in header.get("tree_sizes", "").split()]
    _trees(trees.encode(), sizes, features)
    _tail(tail)
    return Reading(
        covered=len(sight),
        facts={"trees": len(sizes), "features": features, "objective": header.get("objective", "")[:100], "version": header["version"]},
    )


def _fields(lines: list[str], where: str, known: frozenset[str], flags: tuple[str, ...] = ()) -> Fields:
    found: Fields = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if key not in known or key in found or not (equals or key in flags):
            _refuse("line", where, f"the line `{_shown(line)}` is none of the format's, or stands there twice")
        found[key] = value
    return found


def _trees(trees: bytes, sizes: list[int], features: int) -> None:
    """Rule 3, then each tree."""
    if len(sizes) > MAX_TREES:
        _refuse("trees", "header", f"it announces more than {MAX_TREES} trees")
    here = 0
    for number, size in enumerate(sizes):
        block = trees[here : here + size]
        if size < 1 or here + size > len(trees) or not block.startswith(f"Tree={number}\n".encode()) or not block.endswith(b"\n"):
            _refuse("tree-sizes", f"tree {number}", "it does not stand where `tree_sizes` says")
        here += size
        lines = [line for line in block.decode("utf-8", "replace").split("\n")[1:] if line]
        _tree(_fields(lines, f"tree {number}", _TREE_KEYS), features, f"tree {number}")
    if trees[here:].strip(b"\n"):
        _refuse("tree-sizes", "trees", "behind the last tree that `tree_sizes` counts stands more")


def _tree(tree: Fields, features: int, where: str) -> None:
    """Rule 2."""
    leaves, categories = _whole(tree, "num_leaves", where), _whole(tree, "num_cat", where)
    if leaves < 1 or "leaf_value" not in tree:
        _refuse("tree", where, "it has no leaf")
    arrays = {name: _numbers(tree, name, where, leaves - 1) for name in _SPLITS if name in tree}
    for name in _LEAVES:
        if name in tree and (leaves > 1 or tree[name] or name == "leaf_value"):
            _numbers(tree, name, where, leaves)
    for side in ("left_child", "right_child"):
        for split, child in enumerate(arrays.get(side, [])):
            if not (split < child < leaves - 1 or -leaves <= child < 0):
                _refuse("tree", where, f"split {split} has a child that is not there, or that comes before it")
    if any(not 0 <= feature < features for feature in arrays.get("split_feature", [])):
        _refuse("tree", where, "it splits by a feature that is not there")
    if leaves > 1 and not {"split_feature", "threshold", "decision_type", "left_child", "right_child"} <= arrays.keys():
        _refuse("tree", where, "it lacks one of its arrays")
    if categories:
        bounds = _numbers(tree, "cat_boundaries", where, categories + 1)
        _numbers(tree, "cat_threshold", where, int(bounds[-1]))
        if bounds != sorted(bounds) or bounds[0] != 0:
            _refuse("tree", where, "its categories' bounds do not rise from zero")
        thresholds = arrays["threshold"]
        for kind, value in zip(arrays["decision_type"], thresholds, strict=True):
            if int(kind) & 1 and not 0 <= value < categories:
                _refuse("tree", where, "a split asks for a set of categories that is not there")


def _numbers(tree: Fields, name: str, where: str, count: int) -> list[float]:
    values = tree.get(name, "").split()
    if len(values) != count:
        _refuse("array", f"{where} {name}", f"it has {len(values)} numbers, {count} belong there")
    try:
        return [int(value) for value in values] if name in _WHOLE else [float(value) for value in values]
    except ValueError:
        _refuse("array", f"{where} {name}", "it holds something other than numbers")


def _tail(tail: str) -> None:
    """What stands behind the trees."""
    stage = "trees"
    for line in tail.split("\n"):
        if not line:
            continue
        if stage == "parameters":
            if line == "end of parameters":
                stage = "end"
            elif not (line.startswith("[") and line.endswith("]") and ":" in line):
                _refuse("line", "parameters", f"the line `{_shown(line)}` is no parameter")
        elif line == "parameters:" and stage in ("trees", "importances"):
            stage = "parameters"
        elif line in ("feature_importances:", "feature importances:") and stage == "trees":
            stage = "importances"
        elif stage == "importances" and _integer_or_float(line.rpartition("=")[2]):
            continue
        elif line.startswith("pandas_categorical:") and stage != "done":
            strict_text(line.removeprefix("pandas_categorical:"), NAME, "pandas_categorical")
            stage = "done"
        else:
            _refuse("line", "end of the model", f"the line `{_shown(line)}` is none of the format's")
    if stage == "parameters":
        _refuse("line", "end of the model", "its parameters have no end")


def _integer_or_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _whole(fields: Fields, name: str, where: str) -> int:
    return _integer(fields.get(name, ""), f"{where} {name}")


def _integer(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        _refuse("number", where, "it is no whole number")
    return int(text)


def _shown(text: str) -> str:
    return text[:80].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")


def _refuse(rule: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", where, why, REMEDY)
