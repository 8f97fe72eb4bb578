"""scikit-learn's trees and what is built of them as ONNX.

Rules
1. A tree must be one: every node but the first is the child of exactly one node before it, every column exists (`_tree.pyx`, `Node`).
2. Trees compare in float64: an input of `DecisionTree...` and of what is built of them is cut to float32 first, as scikit-learn cuts it, one of
   `HistGradientBoosting...` is not. A missing number goes where the tree says.
3. ONNX's `TreeEnsemble` (ai.onnx.ml 5) adds one number a leaf. Where a leaf holds several, it adds the leaf's place, a table has the rest.
4. Sums are in float64, in another order than scikit-learn's: results differ in their last bits, and so may the class of an exact tie.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from vouchgate.scanning.disarm.estimators import Estimator, Labels
from vouchgate.scanning.disarm.onnx_writing import DOUBLE, FLOAT, INT64, UINT8, Graph, doubles, tensor
from vouchgate.scanning.disarm.sklearn_linear import binary_choice, both, largest, logistic, write_labels

_TREE, _FOREST = "sklearn.tree._classes.", "sklearn.ensemble._forest."
TREE_CLASSIFIERS = frozenset({f"{_TREE}DecisionTreeClassifier", f"{_TREE}ExtraTreeClassifier"})
TREE_REGRESSORS = frozenset({f"{_TREE}DecisionTreeRegressor", f"{_TREE}ExtraTreeRegressor"})
FOREST_CLASSIFIERS = frozenset({f"{_FOREST}RandomForestClassifier", f"{_FOREST}ExtraTreesClassifier"})
FOREST_REGRESSORS = frozenset({f"{_FOREST}RandomForestRegressor", f"{_FOREST}ExtraTreesRegressor"})
BOOSTED = frozenset({"sklearn.ensemble._gb.GradientBoostingClassifier", "sklearn.ensemble._gb.GradientBoostingRegressor"})
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting."
BINNED = frozenset(
    {f"{_HISTOGRAM}gradient_boosting.HistGradientBoostingClassifier", f"{_HISTOGRAM}gradient_boosting.HistGradientBoostingRegressor"}
)
MODELS = TREE_CLASSIFIERS | TREE_REGRESSORS | FOREST_CLASSIFIERS | FOREST_REGRESSORS | BOOSTED | BINNED
MAX_NODES = 2_000_000
"""Nodes of all trees: a forest of 1,000 deep trees has about a million, and each takes some 100 bytes here."""
MAX_TABLE = 50_000_000
"""Numbers of all leaves."""
_EPSILON = 2.220446049250313e-16
_LOSS = "sklearn._loss.loss."
_FRACTIONS = (1, 3)
"""Since this version the numbers of a classifier's leaf are shares; before, they were counts."""


@dataclass(frozen=True)
class Node:
    """A node as both kinds of trees have it."""

    left: int
    right: int
    column: int
    threshold: float
    missing_left: bool


@dataclass
class Ensemble:
    """Trees as `TreeEnsemble` takes them."""

    width: int
    roots: array[int] = field(default_factory=lambda: array("q"))
    columns: array[int] = field(default_factory=lambda: array("q"))
    thresholds: array[float] = field(default_factory=lambda: array("d"))
    yes: array[int] = field(default_factory=lambda: array("q"))
    yes_leaf: array[int] = field(default_factory=lambda: array("q"))
    no: array[int] = field(default_factory=lambda: array("q"))
    no_leaf: array[int] = field(default_factory=lambda: array("q"))
    missing: array[int] = field(default_factory=lambda: array("q"))
    targets: array[int] = field(default_factory=lambda: array("q"))
    weights: array[float] = field(default_factory=lambda: array("d"))

    def add(self, one: Estimator, nodes: Sequence[Node | None], weights: Sequence[float], target: int) -> list[int]:
        """One tree, None where a node is a leaf; which node each of its leaves was, in order. Raises `Refuse`."""
        _check(one, nodes, self.width)
        first, first_leaf = len(self.columns), len(self.targets)
        if first + len(nodes) > MAX_NODES:
            one.refuse(f"has more than {MAX_NODES} nodes")
        leaves = [place for place, node in enumerate(nodes) if node is None]
        inner = [place for place, node in enumerate(nodes) if node is not None]
        where = {place: first_leaf + number for number, place in enumerate(leaves)}
        where |= {place: first + number for number, place in enumerate(inner)}
        self.roots.append(first)
        for place in inner:
            node = nodes[place]
            assert node is not None
            self._node(node, (where[node.left], nodes[node.left] is None), (where[node.right], nodes[node.right] is None))
        if not inner:  # a tree that is one leaf is written as a node whose ways both lead there
            self._node(Node(0, 0, 0, 0.0, missing_left=False), (first_leaf, True), (first_leaf, True))
        self.targets.extend(target for _ in leaves)
        self.weights.extend(weights[place] for place in leaves)
        return leaves

    def _node(self, node: Node, yes: tuple[int, bool], no: tuple[int, bool]) -> None:
        self.columns.append(node.column)
        self.thresholds.append(node.threshold)
        self.missing.append(int(node.missing_left))
        self.yes.append(yes[0])
        self.yes_leaf.append(int(yes[1]))
        self.no.append(no[0])
        self.no_leaf.append(int(no[1]))

    def run(self, graph: Graph, x: str, targets: int) -> str:
        """The sum of each target's leaves, a column for each."""
        count = len(self.columns)
        return graph.run(
            "TreeEnsemble",
            x,
            domain="ai.onnx.ml",
            aggregate_function=1,
            leaf_targetids=self.targets,
            leaf_weights=doubles(self.weights, (len(self.weights),)),
            n_targets=targets,
            nodes_falseleafs=self.no_leaf,
            nodes_falsenodeids=self.no,
            nodes_featureids=self.columns,
            nodes_missing_value_tracks_true=self.missing,
            nodes_modes=tensor(UINT8, (count,), bytes(count)),
            nodes_splits=doubles(self.thresholds, (count,)),
            nodes_trueleafs=self.yes_leaf,
            nodes_truenodeids=self.yes,
            post_transform=0,
            tree_roots=self.roots,
        )


def _check(one: Estimator, nodes: Sequence[Node | None], width: int) -> None:
    """Rule 1."""
    parents = bytearray(len(nodes))
    for place, node in enumerate(nodes):
        if node is None:
            continue
        if (
            not (place < node.left < len(nodes) and place < node.right < len(nodes))
            or not 0 <= node.column < width
            or node.left == node.right
        ):
            one.refuse(f"has a tree whose node {place} leads nowhere, or to a column that is not there")
        if math.isnan(node.threshold) or parents[node.left] or parents[node.right]:
            one.refuse(f"has a tree whose node {place} leads where another does, or compares with no number")
        parents[node.left] = parents[node.right] = 1
    if not nodes or sum(parents) != len(nodes) - 1:
        one.refuse("has a tree with nodes that nothing leads to")


def _nodes(tree: Estimator) -> list[Node | None]:
    """`_tree.pyx`: a leaf's left child is -1."""
    wanted = ("left_child", "right_child", "feature", "threshold", "missing_go_to_left")
    rows = tree.records("nodes", wanted)
    return [None if left == -1 else Node(left, right, column, at, bool(missing)) for left, right, column, at, missing in rows]


def _cut(graph: Graph, x: str) -> str:
    """Rule 2."""
    return graph.run("Cast", graph.run("Cast", x, to=FLOAT), to=DOUBLE)


def predict(one: Estimator, graph: Graph, x: str, width: int) -> None:
    """The outputs of a model of trees. Raises `Refuse`."""
    if one.full in BINNED:
        _binned(one, graph, x, width)
    elif one.full in BOOSTED:
        _boosted(one, graph, _cut(graph, x), width)
    else:
        members = [one] if one.full in TREE_CLASSIFIERS | TREE_REGRESSORS else _members(one, one.items("estimators_"))
        _forest(one, members, graph, _cut(graph, x), width)


def _members(one: Estimator, values: Iterable[object]) -> list[Estimator]:
    found = [one.of(value, "estimators_") for value in values]
    kinds = TREE_CLASSIFIERS if one.full in FOREST_CLASSIFIERS else TREE_REGRESSORS
    if not found or any(member.full not in kinds for member in found):
        one.refuse("is made of something else than trees")
    return found


def _forest(one: Estimator, members: Sequence[Estimator], graph: Graph, x: str, width: int) -> None:
    """One tree or the mean of many."""
    classifies = one.full in TREE_CLASSIFIERS | FOREST_CLASSIFIERS
    if classifies and one.count("n_outputs_", 1_000) != 1:
        one.refuse("classifies into more than one output")
    labels = one.classes() if classifies else None
    count = len(labels.items) if labels else one.count("n_outputs_", 100_000)
    sums = _summed(one, members, graph, x, width, count, shares=classifies)
    means = graph.run("Div", sums, graph.numbers([float(len(members))])) if len(members) > 1 else sums
    if labels is not None:
        write_labels(graph, largest(graph, means), labels)
        graph.output("probabilities", means, DOUBLE, count)
    elif count == 1:
        graph.output("prediction", graph.run("Reshape", means, graph.whole([-1], 1)), DOUBLE)
    else:
        graph.output("prediction", means, DOUBLE, count)


def _summed(one: Estimator, members: Sequence[Estimator], graph: Graph, x: str, width: int, count: int, *, shares: bool) -> str:
    """Rule 3."""
    ensemble, table = Ensemble(width), array("d")
    for number, member in enumerate(members):
        tree = member.inner("tree_")
        nodes = _nodes(tree)
        values = tree.shaped("values", len(nodes), 1, count) if shares else tree.shaped("values", len(nodes), count, 1)
        if count == 1:
            ensemble.add(one, nodes, values, 0)
            continue
        leaves = ensemble.add(one, nodes, _places(nodes, len(table) // count), number)
        counted = shares and member.version() < _FRACTIONS
        for leaf in leaves:
            table.extend(_shares(values[leaf * count : (leaf + 1) * count]) if counted else values[leaf * count : (leaf + 1) * count])
        if len(table) > MAX_TABLE:
            one.refuse(f"has more than {MAX_TABLE} numbers in its leaves")
    if count == 1:
        return ensemble.run(graph, x, 1)
    reached = graph.run("Cast", ensemble.run(graph, x, len(members)), to=INT64)
    held = graph.run("Gather", graph.numbers(table, len(table) // count, count), reached, axis=0)
    return graph.run("ReduceSum", held, graph.whole([1], 1), keepdims=0)


def _places(nodes: Sequence[Node | None], first: int) -> list[float]:
    """For each leaf its row of the table."""
    found, here = [], first
    for node in nodes:
        found.append(float(here))
        here += node is None
    return found


def _shares(values: array[float]) -> array[float]:
    total = sum(values)
    return array("d", (value / total for value in values)) if total else values


def _boosted(one: Estimator, graph: Graph, x: str, width: int) -> None:
    """`_gb.py`, `_raw_predict`: what the first estimator says, through the link, and each tree times the learning rate."""
    rate, classifies = one.number("learning_rate"), one.name.endswith("Classifier")
    labels = one.classes() if classifies else None
    count = len(labels.items) if labels and len(labels.items) > 2 else 1
    ensemble = Ensemble(width)
    stages = list(one.items("estimators_"))
    if not stages or len(stages) % count:
        one.refuse("has another number of trees than its classes need")
    for number, value in enumerate(stages):
        member = one.of(value, "estimators_")
        if member.full not in TREE_REGRESSORS:
            one.refuse("is made of something else than trees")
        tree = member.inner("tree_")
        nodes = _nodes(tree)
        ensemble.add(one, nodes, [rate * value for value in tree.shaped("values", len(nodes), 1, 1)], number % count)
    start = graph.numbers(_start(one, labels, count), count)
    _told(one, graph, graph.run("Add", ensemble.run(graph, x, count), start), labels, one.inner("_loss").full)


def _start(one: Estimator, labels: Labels | None, count: int) -> list[float]:
    """`_init_raw_predictions`."""
    if one.text("init_") == "zero":
        return [0.0] * count
    first = one.inner("init_")
    if labels is None and first.full == "sklearn.dummy.DummyRegressor":
        return [first.number("constant_")]
    if labels is None or first.full != "sklearn.dummy.DummyClassifier" or first.text("strategy") != "prior":
        one.refuse("begins with an estimator of somebody's own")
    shares = [min(max(value, _EPSILON), 1 - _EPSILON) for value in first.shaped("class_prior_", len(labels.items))]
    if count == 1:
        odds = math.log(shares[1] / (1 - shares[1]))
        return [odds / 2 if one.inner("_loss").name == "ExponentialLoss" else odds]
    logs = [math.log(value) for value in shares]
    return [value - sum(logs) / count for value in logs]


def _binned(one: Estimator, graph: Graph, x: str, width: int) -> None:
    """`gradient_boosting.py`, `_raw_predict`: the baseline and the leaves, which hold the learning rate already."""
    if one.has("_preprocessor"):
        one.refuse("encodes categories before its trees")
    labels = one.classes() if one.name.endswith("Classifier") else None
    count = len(labels.items) if labels and len(labels.items) > 2 else 1
    ensemble = Ensemble(width)
    for stage in one.items("_predictors"):
        members = list(_listed(one, stage))
        if len(members) != count:
            one.refuse("has another number of trees than its classes need")
        for target, member in enumerate(members):
            nodes, values = _predictor(member)
            ensemble.add(one, nodes, values, target)
    if not ensemble.roots:
        one.refuse("has no trees")
    baseline = one.numbers("_baseline_prediction")
    if len(baseline.values) != count:
        one.refuse("has another number of baselines than its classes need")
    _told(
        one, graph, graph.run("Add", ensemble.run(graph, x, count), graph.numbers(baseline.values, count)), labels, one.inner("_loss").full
    )


def _listed(one: Estimator, stage: object) -> Iterator[Estimator]:
    for value in getattr(stage, "items", ()):
        member = one.of(value, "_predictors")
        if member.full != f"{_HISTOGRAM}predictor.TreePredictor":
            one.refuse("is made of something else than trees")
        yield member


def _predictor(member: Estimator) -> tuple[list[Node | None], list[float]]:
    """`predictor.py`, `PREDICTOR_RECORD_DTYPE`."""
    wanted = ("value", "feature_idx", "num_threshold", "missing_go_to_left", "left", "right", "is_leaf", "is_categorical")
    nodes: list[Node | None] = []
    values: list[float] = []
    for value, column, threshold, missing, left, right, leaf, categories in member.records("nodes", wanted):
        if categories and not leaf:
            member.refuse("splits by categories")
        nodes.append(None if leaf else Node(left, right, column, threshold, bool(missing)))
        values.append(value)
    return nodes, values


_IDENTITY = frozenset(f"{_LOSS}{name}" for name in ("HalfSquaredError", "AbsoluteError", "PinballLoss", "HuberLoss"))
_LOGARITHM = frozenset(f"{_LOSS}{name}" for name in ("HalfPoissonLoss", "HalfGammaLoss"))


def _told(one: Estimator, graph: Graph, raw: str, labels: Labels | None, loss: str) -> None:
    """Through the loss's link to what is predicted."""
    if labels is None and loss in _IDENTITY | _LOGARITHM:
        flat = graph.run("Reshape", raw, graph.whole([-1], 1))
        graph.output("prediction", graph.run("Exp", flat) if loss in _LOGARITHM else flat, DOUBLE)
    elif labels is not None and len(labels.items) == 2 and loss in (f"{_LOSS}HalfBinomialLoss", f"{_LOSS}ExponentialLoss"):
        flat = graph.run("Reshape", raw, graph.whole([-1], 1))
        write_labels(graph, binary_choice(graph, flat), labels)
        doubled = graph.run("Mul", flat, graph.numbers([2.0])) if loss.endswith("ExponentialLoss") else flat
        graph.output("probabilities", both(graph, logistic(graph, doubled)), DOUBLE, 2)
    elif labels is not None and len(labels.items) > 2 and loss == f"{_LOSS}HalfMultinomialLoss":
        write_labels(graph, largest(graph, raw), labels)
        graph.output("probabilities", graph.run("Softmax", raw, axis=1), DOUBLE, len(labels.items))
    else:
        one.refuse("was trained with a loss whose link is not known")
