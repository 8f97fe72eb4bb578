"""A scikit-learn model as ONNX, written from the values in its pickle: nothing is imported, unpickled or computed by its own code.

Rules
1. Known are trees, forests, boosted trees, linear models, and pipelines and searches that end in one of them; scalers may stand before. Anything
   else in the chain refuses: a model that leaves out a step would be another model.
2. The input is `X`, float64, a row for each sample; the columns are those that the model was fitted to.
3. What is said beside the model: the chain of classes, the version that wrote them, names of the columns, and whether it lay in something else.
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning.disarm import sklearn_linear, sklearn_trees
from vouchgate.scanning.disarm.estimators import Estimator, constructed, only_one
from vouchgate.scanning.disarm.onnx_writing import Graph
from vouchgate.scanning.pickles.values import Tuple, Value, text_of

PIPELINE = "sklearn.pipeline.Pipeline"
SEARCHES = frozenset(
    {f"sklearn.model_selection._search.{name}" for name in ("GridSearchCV", "RandomizedSearchCV")}
    | {f"sklearn.model_selection._search_successive_halving.{name}" for name in ("HalvingGridSearchCV", "HalvingRandomSearchCV")}
)
KNOWN = sklearn_linear.MODELS | sklearn_linear.SCALERS | sklearn_trees.MODELS | SEARCHES | {PIPELINE}
MAX_STEPS = 100
"""Steps of a chain, pipelines within pipelines counted."""
MAX_COLUMNS = 10_000_000
"""Columns of the input; a vocabulary of hashed words has a million."""


def model(view: memoryview, root: Value) -> tuple[bytes, dict[str, Any]]:
    """The document and what is told beside it. Raises `Refuse`."""
    whole = only_one(view, root, KNOWN)
    chain = _chain(whole, 0)
    *before, last = chain
    if last.full not in sklearn_linear.MODELS | sklearn_trees.MODELS:
        whole.refuse("ends in a step that predicts nothing")
    width = chain[0].count("n_features_in_", MAX_COLUMNS)
    graph = Graph(width)
    x = "X"
    for step in before:
        if step.full not in sklearn_linear.SCALERS:
            whole.refuse(f"has a step `{step.name[:80]}` before its end")
        x, width = sklearn_linear.transform(step, graph, x, width)
    if last.count("n_features_in_", MAX_COLUMNS) != width:
        last.refuse(f"takes other columns than the {width} that reach it")
    (sklearn_trees if last.full in sklearn_trees.MODELS else sklearn_linear).predict(last, graph, x, width)
    return graph.model(last.name), _beside(chain) | ({} if _is(view, root, whole) else {"wrapped": True})


def _is(view: memoryview, root: Value, whole: Estimator) -> bool:
    """Whether the file holds the estimator and nothing around it."""
    first = constructed(view, root)
    return first is not None and first.full == whole.full


def _chain(one: Estimator, depth: int) -> list[Estimator]:
    """The steps in order (rule 1)."""
    if depth > MAX_STEPS:
        one.refuse(f"has more than {MAX_STEPS} steps within each other")
    if one.full in SEARCHES:
        return _chain(one.inner("best_estimator_"), depth + 1)
    if one.full != PIPELINE:
        return [one]
    found: list[Estimator] = []
    for step in one.items("steps"):
        inner = step.items[1] if isinstance(step, Tuple) and len(step.items) == 2 else one.refuse("has a step that is no pair")
        if inner is not None and text_of(one.view, inner) != "passthrough":
            found += _chain(one.of(inner, "steps"), depth + 1)
        if len(found) > MAX_STEPS:
            one.refuse(f"has more than {MAX_STEPS} steps")
    return found or one.refuse("has no steps")


def _beside(chain: list[Estimator]) -> dict[str, Any]:
    told: dict[str, Any] = {"estimators": [one.full for one in chain], "input": {"X": ["rows", int(chain[0].number("n_features_in_"))]}}
    if chain[-1].text("_sklearn_version"):
        told["scikit-learn"] = chain[-1].text("_sklearn_version")[:40]
    if chain[0].has("feature_names_in_"):
        told["columns"] = list(chain[0].labels("feature_names_in_").items)
    return told
