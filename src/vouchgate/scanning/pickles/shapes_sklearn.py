"""Rules over the arguments and states of scikit-learn's compiled classes: trees, neighbour trees, metrics, losses.

Rules
1. Their code follows indices in these arrays without looking at their bounds, so the arrays that lead it are looked at here: a tree's
   children come after their parent and within the tree, a neighbour tree's nodes speak of samples that are there.
2. Where an array's bytes cannot be told (its own rule then already spoke), nothing is said twice.
3. A vectoriser reads files where its state says that documents are names of files (sklearn/feature_extraction/text.py, `_VectorizerMixin.decode`): that
   is for whoever uses it to say, so a file may not.
4. A stack or a scorer calls its estimators by names that lie in its state (sklearn/ensemble/_stacking.py, `_transform`): of a path or a table any method
   would do, so they are those that predict.

Sources: sklearn/tree/_tree.pyx (`Tree.__setstate__`, `NODE_DTYPE`), sklearn/neighbors/_binary_tree.pxi.tp, sklearn/metrics/_dist_metrics.pyx.tp.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import Fit, attributes, is_int
from vouchgate.scanning.pickles.taking import (
    ANY,
    ARRAY,
    CONSTRUCTED,
    COUNT,
    DICT,
    INT,
    MAX_COUNT,
    NONE,
    NUMBER,
    Kind,
    content_of,
    either,
    entry_of,
    made_by,
    state_of,
    taking,
)
from vouchgate.scanning.pickles.values import Dict, List, Made, Name, Tuple, Value

MAX_OUTPUTS = 2**20
"""Outputs of one tree: memory is taken for each before anything is checked."""
NODE_SIZES = (56, 64)
"""Bytes of a tree's node: left, right, feature, threshold, impurity, n_node_samples, weighted_n_node_samples, and (since 1.3) a padded
`missing_go_to_left`. Children are its first two eight-byte numbers, the feature its third."""
_TREE_KEYS = {"max_depth", "node_count", "nodes", "values"}
DOCUMENTS = ("content", "file")
"""What a vectoriser may be given: texts, or files that its caller opened."""
PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
MEMORIES = ("joblib.memory.Memory",)
CALLED_BY = ("_response_method", "response_method", "chain_method", "chain_method_")
"""Attributes that name the method by which an estimator is asked."""
METRICS = made_by("metric", "sklearn.metrics._dist_metrics.newObj", "sklearn.neighbors._dist_metrics.newObj", "hdbscan.dist_metrics.newObj")


def _tree(fit: Fit) -> str:
    wrong = taking(COUNT, ARRAY, COUNT)(fit)
    if wrong:
        return wrong
    return "it has too many outputs" if fit.args[2] > MAX_OUTPUTS or fit.args[2] < 1 else ""


def _tree_state(fit: Fit) -> str:
    state = fit.state
    if (
        not isinstance(state, Dict)
        or {key for key, _ in state.pairs if isinstance(key, str)} != _TREE_KEYS
        or len(state.pairs) != len(_TREE_KEYS)
    ):
        return "its state is no tree"
    count = entry_of(state, "node_count")
    if not is_int(count, 0, MAX_COUNT) or not is_int(entry_of(state, "max_depth"), 0, MAX_COUNT):
        return "its state has no count of nodes"
    nodes = content_of(fit.view, entry_of(state, "nodes"))
    if nodes is None:
        return "its nodes are no array that can be looked at"
    features = fit.made.args[0] if fit.made is not None and fit.made.args else None
    return _wrong_nodes(*nodes, count, features)


def _wrong_nodes(shape: tuple[int, ...], raw: bytes | memoryview, count: int, features: Value) -> str:
    """Rule 1. Children of -1 are leaves; the feature of a leaf is never followed."""
    if len(shape) != 1 or shape[0] != count:
        return "its count of nodes is not that of its nodes"
    if count == 0:
        return ""
    size = len(raw) // count
    if size not in NODE_SIZES or size * count != len(raw):
        return "its nodes have another size than a tree's"
    numbers = memoryview(raw).cast("B").cast("q")
    step = size // 8
    left, right, feature = numbers[0::step], numbers[1::step], numbers[2::step]
    for children in (left, right):
        leaves = sum(map(operator.eq, children, itertools.repeat(-1)))
        behind = sum(map(operator.gt, children, itertools.count()))
        if max(children) >= count or min(children) < -1 or leaves + behind != count:
            return "one of its nodes has a child that is not behind it in the tree"
    if not is_int(features) or max(feature) >= features:
        return "one of its nodes looks at a feature that its samples do not have"
    # the feature of a leaf is -2; one of an inner node must be a place
    inner = sum(map(operator.ge, left, itertools.repeat(0)))
    placed = sum(map(operator.ge, feature, itertools.repeat(0)))
    return "one of its nodes looks at no feature" if placed < inner else ""


_NEIGHBOURS = state_of(ARRAY, ARRAY, ARRAY, ARRAY, *[COUNT] * 7, METRICS, either(NONE, ARRAY), optional=1)


def _neighbour_state(fit: Fit) -> str:
    """(data, idx_array, node_data, node_bounds, leaf_size, n_levels, n_nodes, trims, leaves, splits, calls, metric[, sample_weight])."""
    wrong = _NEIGHBOURS(fit)
    if wrong:
        return wrong
    found = [content_of(fit.view, value) for value in fit.state.items[:4]]
    if any(one is None for one in found):
        return "its arrays cannot be looked at"
    (data, _), (indices, order), (nodes, places), (bounds, _) = [one for one in found if one is not None]
    levels, count = fit.state.items[5], fit.state.items[6]
    if len(data) != 2 or indices != (data[0],) or nodes != (count,) or len(bounds) != 3 or bounds[1:] != (count, data[1]):
        return "its arrays do not belong together"
    if count != 2**levels - 1 if levels < 62 else True:
        return "its count of nodes is not that of its levels"
    return _wrong_order(order, places, data[0], count)


def _wrong_order(order: bytes | memoryview, places: bytes | memoryview, samples: int, count: int) -> str:
    """Rule 1: `idx_array` are samples; `node_data` is (idx_start, idx_end, is_leaf, radius), 32 bytes."""
    if len(order) != samples * 8 or len(places) != count * 32:
        return "its arrays have another size than a neighbour tree's"
    which = memoryview(order).cast("B").cast("q")
    if samples and (min(which) < 0 or max(which) >= samples):
        return "it speaks of a sample that is not there"
    numbers = memoryview(places).cast("B").cast("q")
    begins, ends = numbers[0::4], numbers[1::4]
    if count and (min(begins) < 0 or max(ends) > samples or not all(map(operator.le, begins, ends))):
        return "one of its nodes speaks of samples that are not there"
    return ""


def _metric_state(fit: Fit) -> str:
    return state_of(NUMBER, ARRAY, ARRAY)(fit) and state_of(NUMBER, ARRAY, ARRAY, NONE, DICT)(fit)


def _stacking_state(fit: Fit) -> str:
    """Rule 4: `stack_method_` holds names of methods that predict, and goes on holding them."""
    wrong = attributes(fit.state)
    if wrong or not isinstance(fit.state, Dict):
        return wrong or "its state is no dict of attributes"
    for key, value in fit.state.pairs:
        if key != "stack_method_":
            continue
        if not isinstance(value, List) or not all(isinstance(one, str) and one in PREDICTING for one in value.items):
            return "it calls its estimators by a method that does not predict"
        value.closed = True
    return ""


def _scorer_state(fit: Fit) -> str:
    """Rule 4 for a scorer, a chain, or a threshold laid over a classifier: one name, or several to try (sklearn/utils/_response.py)."""
    wrong = attributes(fit.state)
    if wrong or not isinstance(fit.state, Dict | None):
        return wrong or "its state is no dict of attributes"
    for value in [value for key, value in (fit.state.pairs if fit.state else ()) if key in CALLED_BY]:
        if isinstance(value, List):
            value.closed = True
        names = value.items if isinstance(value, Tuple | List) else (value,)
        if not all(isinstance(one, str) and one in (*PREDICTING, "auto") for one in names):
            return "it scores by a method that does not predict"
    return ""


def _cache_state(fit: Fit) -> str:
    """`memory` of a pipeline or a clustering: a text would become joblib's cache in that folder, which loads pickles."""
    wrong = attributes(fit.state)
    if wrong or not isinstance(fit.state, Dict | None):
        return wrong or "its state is no dict of attributes"
    held = [value for key, value in (fit.state.pairs if fit.state else ()) if key == "memory"]
    plain = all(value is None or (isinstance(value, Made) and value.calls(*MEMORIES)) for value in held)
    return "" if plain else "it keeps results in a folder that the file names, and would load them"


def _documents_state(fit: Fit) -> str:
    """Rule 3."""
    wrong = attributes(fit.state)
    parts = fit.state.pairs if isinstance(fit.state, Dict) else []
    named = [value for key, value in parts if key == "input"]
    if wrong or not isinstance(fit.state, Dict | None):
        return wrong or "its state is no dict of attributes"
    return "" if all(value in DOCUMENTS for value in named) else "it opens files by the names it is given as documents"


def _own_class(fit: Fit, value: Value) -> bool:
    """A class of the callee's own module: `newObj` would construct any class, and the state is then judged as its own classes' is."""
    return isinstance(value, Name) and value.module == fit.entry.module and fit.constructs(value)


ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "sklearn-tree": _tree,
    "known-class": taking(Kind("class of its own module", _own_class)),
    "one-number": taking(NUMBER, optional=1),
    "cython-unpickle": taking(CONSTRUCTED, INT, ANY),
}
"""`cython-unpickle`: (class, checksum of its fields, state). Cython's own function compares the checksum, calls the base's `__new__` (which
takes only its own subclasses), and puts the state's values into typed fields and `__dict__`; it calls none of them."""
STATES: Mapping[str, Callable[[Fit], str]] = {
    "sklearn-tree": _tree_state,
    "sklearn-neighbours": _neighbour_state,
    "sklearn-metric": _metric_state,
    "sklearn-stacking": _stacking_state,
    "sklearn-scorer": _scorer_state,
    "sklearn-documents": _documents_state,
    "sklearn-memory": _cache_state,
}
