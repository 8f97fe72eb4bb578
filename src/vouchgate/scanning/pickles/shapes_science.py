"""Rules over the arguments and states of scipy, statsmodels and the boosting libraries.

Rules
1. A scipy distribution keeps the source of its own argument parser as text and runs it when its state is set (`exec` in
   `_attach_argparser_methods`): the text must be the one that scipy's template gives for plain argument names.
2. statsmodels evaluates a model's formula again when the data's state is set: the formula must fit formulas.py. Predicting evaluates the
   data's design, so results hold a model of statsmodels, and that holds data that was checked.
3. A k-d tree's nodes and a sparse matrix's rows and columns lead by index: they are looked at as scikit-learn's are.
4. Boosters hand their state to a native reader of their own model format; the state must be that format's beginning.

Sources: scipy/stats/_distn_infrastructure.py, scipy/spatial/_ckdtree.pyx and ckdtree/src/ckdtree_decl.h, statsmodels/base/data.py,
xgboost/core.py, lightgbm/basic.py, catboost/core.py (`__setstate__` of each).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import Fit, attributes, dimensions
from vouchgate.scanning.pickles.formulas import wrong_formula
from vouchgate.scanning.pickles.taking import (
    ANY,
    ARRAY,
    COUNT,
    NUMBER,
    PLAIN,
    Kind,
    content_of,
    documented,
    either,
    entry_of,
    is_array,
    made_by,
    raw_of,
    state_of,
    taking,
)
from vouchgate.scanning.pickles.values import Dict, Made, Name, Tuple, Value, text_of

_DESIGNS = ("patsy.design_info.DesignInfo", "formulaic.model_spec.ModelSpec")
_PARSER = """
def _parse_args(self, {names} {given}):
    return ({names}), {taken}

def _parse_args_rvs(self, {names} {given}, size=None):
    return self._argcheck_rvs({names} {taken}, size=size)

def _parse_args_stats(self, {names} {given}, moments='mv'):
    return ({names}), {taken}, moments
"""
"""What scipy's template gives; `names` is empty, or each name and a comma and a space."""
_GIVEN = {"loc=0, scale=1": "loc, scale", "loc=0": "loc, 1"}
"""Continuous and discrete distributions."""
MAX_PARSER = 8_192
"""Characters of a parser's text: the distribution with the most arguments needs under a thousand."""
KD_NODE_NUMBERS = 9
"""Eight-byte fields of `ckdtreenode`: split_dim, children, split, start_idx, end_idx, two pointers, _less, _greater."""


def _distribution_state(fit: Fit) -> str:
    """Rule 1."""
    wrong = documented(fit.state)
    if wrong or not isinstance(fit.state, Dict):
        return wrong or "its state is no dict of attributes"
    texts = [value for key, value in fit.state.pairs if key == "_parse_arg_template"]
    if len(texts) != 1:
        return "its state has no parser, or several"
    text = text_of(fit.view, texts[0])
    if text is None or len(text) > MAX_PARSER or not _is_parser(text):
        return "its state holds source code that scipy would run, and that is not scipy's own"
    return ""


def _is_parser(text: str) -> bool:
    """Whether it is the template's for some plain names."""
    head = "\ndef _parse_args(self, "
    line = text[len(head) :].partition("\n")[0] if text.startswith(head) else ""
    for given, taken in _GIVEN.items():
        names = line.removesuffix(f" {given}):")
        plain = names == "" or (names.endswith(", ") and all(_is_argument(name) for name in names[:-2].split(", ")))
        if names != line and plain:
            return text == _PARSER.format(names=names, given=given, taken=taken)
    return False


def _is_argument(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not name.startswith("_")


def _evaluated(key: Value, value: Value) -> bool:
    """Whether a design is other than an object of patsy's or formulaic's own (`statsmodels.base.model`, `_transform_predict_exog`)."""
    design = isinstance(key, str) and key.endswith(("design_info", "model_spec"))
    return design and not (value is None or isinstance(value, bool) or (isinstance(value, Made) and value.calls(*_DESIGNS)))


def _whole(state: Value) -> str:
    """A state that is one dict: of a pair, the second would be set as slots, past whoever looks at the first."""
    return "" if isinstance(state, Dict | None) else "its state is no dict of attributes"


def _model_data(fit: Fit) -> str:
    """Rule 2."""
    wrong = attributes(fit.state)
    if wrong or not isinstance(fit.state, Dict):
        return wrong or "its state is no dict of attributes"
    if any(_evaluated(key, value) for key, value in fit.state.pairs):
        return "its design is none of patsy's own, and would be evaluated as a formula"
    formulas = [value for key, value in fit.state.pairs if key == "formula"]
    if not formulas or formulas == [None]:
        return ""
    text = text_of(fit.view, formulas[0]) if len(formulas) == 1 else None
    return "its formula is no text" if text is None else wrong_formula(text)


def _model_state(fit: Fit) -> str:
    """Rule 2: a model's data is data whose own state was checked."""
    wrong = _whole(fit.state) or documented(fit.state)
    data = entry_of(fit.state, "data")
    if not wrong and isinstance(fit.state, Dict) and any(_evaluated(key, value) for key, value in fit.state.pairs):
        return "its design is none of patsy's own, and would be evaluated as a formula"
    return wrong or ("" if data is None or _checked_by(data, "statsmodels-data") else "its data is none of statsmodels' own")


def _results_state(fit: Fit) -> str:
    """Rule 2: results predict by their model's data, so their model is one that was checked."""
    wrong = _whole(fit.state) or documented(fit.state)
    model = entry_of(fit.state, "model")
    return wrong or ("" if model is None or _checked_by(model, "statsmodels-model") else "its model is none of statsmodels' own")


def _checked_by(value: Value, rule: str) -> bool:
    return isinstance(value, Made) and value.name is not None and value.name.entry is not None and value.name.entry.state == rule


def _sparse_state(fit: Fit) -> str:
    """Rule 3: rows and columns by index; `indptr` never falls, and every index lies within the shape."""
    wrong = attributes(fit.state)
    shape = dimensions(entry_of(fit.state, "_shape"))
    if wrong or shape is None:
        return wrong or "its state has no shape"
    outer = entry_of(fit.state, "indptr")
    if outer is not None:
        return _wrong_runs(fit, outer, entry_of(fit.state, "indices"), max(shape, default=0))
    for axis, name in enumerate(("row", "col")):
        places = entry_of(fit.state, name)
        if places is not None and not _within(_numbers(fit, places), shape[min(axis, len(shape) - 1)]):
            return "it speaks of a row or column that is not there"
    coordinates = entry_of(fit.state, "coords")
    if isinstance(coordinates, Tuple) and not all(
        _within(_numbers(fit, one), size) for one, size in zip(coordinates.items, shape, strict=False)
    ):
        return "it speaks of a row or column that is not there"
    return ""


def _wrong_runs(fit: Fit, outer: Value, inner: Value, most: int) -> str:
    runs, places = _numbers(fit, outer), _numbers(fit, inner)
    if runs is None or places is None or not len(runs):
        return "its indices cannot be looked at"
    rising = runs[0] == 0 and all(map(operator.le, runs, runs[1:])) and runs[-1] <= len(places)
    return "" if rising and _within(places, most) else "it speaks of a row or column that is not there"


def _numbers(fit: Fit, value: Value) -> memoryview | None:
    """An array of four- or eight-byte whole numbers."""
    found = content_of(fit.view, value)
    if found is None:
        return None
    shape, raw = found
    count = math.prod(shape)
    width = len(raw) // count if count else 8
    return memoryview(raw).cast("B").cast("i" if width == 4 else "q") if width in (4, 8) and width * count == len(raw) else None


def _within(numbers: memoryview | None, size: int) -> bool:
    return numbers is not None and (not len(numbers) or (min(numbers) >= 0 and max(numbers) < size))


def _arrays_or_attributes(fit: Fit) -> str:
    """An array, arrays in a tuple, or attributes."""
    parts = fit.state.items if isinstance(fit.state, Tuple) else (fit.state,)
    return "" if all(is_array(part) or part is None or isinstance(part, bool) for part in parts) else attributes(fit.state)


def _memory_state(fit: Fit) -> str:
    """joblib's cache of results on disk loads pickles from where it lies: only one that lies nowhere."""
    wrong = _whole(fit.state) or attributes(fit.state)
    named = [key for key in ("location", "cachedir", "store_backend", "_cachedir") if entry_of(fit.state, key) is not None]
    return wrong or (f"it keeps results on disk (`{named[0]}`), and would load them" if named else "")


def _kd_tree_state(fit: Fit) -> str:
    """(nodes, data, n, m, leafsize, maxes, mins, indices, boxsize, boxsize_data); rule 3."""
    wrong = state_of(ARRAY, ARRAY, COUNT, COUNT, COUNT, ARRAY, ARRAY, ARRAY, ANY, ANY, optional=2)(fit)
    if wrong:
        return wrong
    nodes, data, count, width, _, _, _, indices = fit.state.items[:8]
    found = [content_of(fit.view, one) for one in (nodes, data, indices)]
    if any(one is None for one in found):
        return "its arrays cannot be looked at"
    (_, raw), (shape, _), (_, order) = [one for one in found if one is not None]
    return _wrong_kd_nodes(raw, order, count) or ("" if shape == (count, width) else "its arrays do not belong together")


def _wrong_kd_nodes(raw: bytes | memoryview, order: bytes | memoryview, samples: int) -> str:
    size = KD_NODE_NUMBERS * 8
    if len(raw) % size or len(order) != samples * 8:
        return "its arrays have another size than a k-d tree's"
    which, numbers, nodes = memoryview(order).cast("B").cast("q"), memoryview(raw).cast("B").cast("q"), len(raw) // size
    if samples and (min(which) < 0 or max(which) >= samples):
        return "it speaks of a sample that is not there"
    if not nodes:
        return ""
    split, begins, ends, less, greater = (numbers[place::KD_NODE_NUMBERS] for place in (0, 3, 4, 7, 8))
    if min(begins) < 0 or max(ends) > samples or not all(map(operator.le, begins, ends)):
        return "one of its nodes speaks of samples that are not there"
    for place in range(nodes):
        if split[place] >= 0 and not (place < less[place] < nodes and place < greater[place] < nodes):
            return "one of its nodes has a child that is not behind it in the tree"
    return ""


def _booster_state(begins: tuple[bytes, ...], *keys: str) -> Callable[[Fit], str]:
    """Rule 4: what stands under each of these keys."""

    def rule(fit: Fit) -> str:
        wrong = attributes(fit.state)
        if wrong or not isinstance(fit.state, Dict):
            return wrong or "its state is no dict of attributes"
        for key in keys:
            value = entry_of(fit.state, key)
            if value is not None and not _content(fit, value).startswith(begins):
                return f"`{key}` in its state is no model of its own format"
        return ""

    return rule


def _content(fit: Fit, value: Value) -> bytes:
    """The first bytes of bytes or text."""
    raw = raw_of(fit.view, value)
    if raw is not None:
        return bytes(raw[:64])
    text = text_of(fit.view, value)
    return b"" if text is None else text[:64].encode("utf-8", "replace")


_ELEMENT = Kind("type of element", lambda fit, value: isinstance(value, Name) or (isinstance(value, Made) and value.calls("numpy.dtype")))
_SETTING = either(ARRAY, NUMBER, PLAIN, _ELEMENT)
_TREE = made_by("k-d tree", "scipy.spatial._kdtree.KDTree", "scipy.spatial._ckdtree.cKDTree", "scipy.spatial.ckdtree.cKDTree")


def _rbf_state(fit: Fit) -> str:
    """`((y, d, d_shape, d_dtype, neighbors, smoothing, kernel, epsilon, powers), rest)`: it asks which library the arrays are of, so arrays they are."""
    match fit.state:
        case Tuple(items=(Tuple(items=settings), Tuple(items=rest))) if len(settings) == 9 and len(rest) in (1, 3):
            parts = _SETTING if len(rest) == 3 else _TREE
            if all(_SETTING.fits(fit, one) for one in settings) and all(parts.fits(fit, one) for one in rest):
                return ""
        case Dict():
            return attributes(fit.state)
    return "its state is no arrays and settings"


_STATESPACE = made_by("state space", *(f"statsmodels.tsa.statespace._representation.{kind}Statespace" for kind in "sdcz"))
_FILTER = made_by("filter", *(f"statsmodels.tsa.statespace._kalman_filter.{kind}KalmanFilter" for kind in "sdcz"))
_NUMBERS = (NUMBER,) * 8

ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "statespace": lambda fit: (
        ""
        if fit.args and all(either(ARRAY, NUMBER).fits(fit, one) for one in fit.args) and not fit.kwargs
        else "its arguments are no arrays and numbers"
    ),
    "statespace-filter": taking(_STATESPACE, *_NUMBERS, optional=8),
    "statespace-smoother": taking(_STATESPACE, _FILTER, *_NUMBERS, optional=8),
}
STATES: Mapping[str, Callable[[Fit], str]] = {
    "scipy-distribution": _distribution_state,
    "scipy-kd-tree": _kd_tree_state,
    "arrays-or-attributes": _arrays_or_attributes,
    "scipy-rbf": _rbf_state,
    "scipy-sparse": _sparse_state,
    "statsmodels-data": _model_data,
    "statsmodels-model": _model_state,
    "statsmodels-results": _results_state,
    "joblib-memory": _memory_state,
    "xgboost-booster": _booster_state((b"CONFIG-offset:", b"{L", b'{"', b"{l", b"{i", b"{U", b"{u", b"binf"), "handle"),
    "lightgbm-booster": _booster_state((b"tree\n", b"tree\r\n"), "_handle", "handle"),
    "catboost-model": _booster_state((b"CBM1",), "__model"),
}
