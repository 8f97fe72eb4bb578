"""scikit-learn's linear models and scalers as ONNX.

Rules (scikit-learn's own `predict`, `predict_proba` and `transform`, version 1.2 to 1.9)
1. Everything is computed in float64 in scikit-learn's order of operations.
2. A classifier gives `label` and, where it has them, `probabilities`; a regressor gives `prediction`.
3. Binary: the second class where the score is over 0. More classes: the first of the largest.
"""

from __future__ import annotations

from array import array
from math import isnan, prod

from vouchgate.scanning.disarm.estimators import Estimator, Labels
from vouchgate.scanning.disarm.onnx_writing import BOOL, DOUBLE, INT64, STRING, Graph

_LINEAR = "sklearn.linear_model."
REGRESSORS = frozenset(
    {f"{_LINEAR}_base.LinearRegression", f"{_LINEAR}_bayes.ARDRegression", f"{_LINEAR}_bayes.BayesianRidge", f"{_LINEAR}_huber.HuberRegressor",
     f"{_LINEAR}_theil_sen.TheilSenRegressor", f"{_LINEAR}_stochastic_gradient.SGDRegressor", f"{_LINEAR}_quantile.QuantileRegressor",
     "sklearn.svm._classes.LinearSVR", f"{_LINEAR}_passive_aggressive.PassiveAggressiveRegressor"}
    | {f"{_LINEAR}_ridge.{name}" for name in ("Ridge", "RidgeCV")}
    | {f"{_LINEAR}_coordinate_descent.{prefix}{name}{suffix}" for prefix in ("", "MultiTask") for name in ("Lasso", "ElasticNet") for suffix in ("", "CV")}
    | {f"{_LINEAR}_least_angle.{name}" for name in ("Lars", "LarsCV", "LassoLars", "LassoLarsCV", "LassoLarsIC")}
    | {f"{_LINEAR}_omp.{name}" for name in ("OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV")}
)  # fmt: skip
EXPONENTIAL = frozenset({f"{_LINEAR}_glm.glm.PoissonRegressor", f"{_LINEAR}_glm.glm.GammaRegressor"})
"""Their link is the logarithm."""
TWEEDIE = f"{_LINEAR}_glm.glm.TweedieRegressor"
LOGISTIC = frozenset({f"{_LINEAR}_logistic.LogisticRegression", f"{_LINEAR}_logistic.LogisticRegressionCV"})
STOCHASTIC = f"{_LINEAR}_stochastic_gradient.SGDClassifier"
DISCRIMINANT = "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"
SCORING = frozenset(
    {"sklearn.svm._classes.LinearSVC", f"{_LINEAR}_perceptron.Perceptron", f"{_LINEAR}_passive_aggressive.PassiveAggressiveClassifier",
     f"{_LINEAR}_ridge.RidgeClassifier", f"{_LINEAR}_ridge.RidgeClassifierCV"}
)  # fmt: skip
"""Classifiers without probabilities."""
CLASSIFIERS = LOGISTIC | SCORING | {STOCHASTIC, DISCRIMINANT}
MODELS = REGRESSORS | EXPONENTIAL | CLASSIFIERS | {TWEEDIE}
_DATA = "sklearn.preprocessing._data."
STANDARD, MIN_MAX, MAX_ABS, ROBUST = (f"{_DATA}{name}" for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"))
IMPUTER = "sklearn.impute._base.SimpleImputer"
PCA = "sklearn.decomposition._pca.PCA"
SCALERS = frozenset({STANDARD, MIN_MAX, MAX_ABS, ROBUST, IMPUTER, PCA})


def transform(one: Estimator, graph: Graph, x: str, width: int) -> tuple[str, int]:
    """A scaler's result and its columns. Raises `Refuse`."""
    if one.full == STANDARD:
        x = _row(one, graph, "Sub", x, "mean_", width) if one.flag("with_mean", True) else x
        return (_row(one, graph, "Div", x, "scale_", width) if one.flag("with_std", True) and one.has("scale_") else x), width
    if one.full == ROBUST:
        x = _row(one, graph, "Sub", x, "center_", width) if one.flag("with_centering", True) else x
        return (_row(one, graph, "Div", x, "scale_", width) if one.flag("with_scaling", True) else x), width
    if one.full == MIN_MAX:
        x = _row(one, graph, "Add", _row(one, graph, "Mul", x, "scale_", width), "min_", width)
        low, high = (one.numbers("feature_range", value=bound).values[0] for bound in _pair(one, "feature_range"))
        return (graph.run("Clip", x, graph.numbers([low]), graph.numbers([high])) if one.flag("clip", False) else x), width
    if one.full == MAX_ABS:
        x = _row(one, graph, "Div", x, "scale_", width)
        return (graph.run("Clip", x, graph.numbers([-1.0]), graph.numbers([1.0])) if one.flag("clip", False) else x), width
    return _imputed(one, graph, x, width) if one.full == IMPUTER else _projected(one, graph, x, width)


def _pair(one: Estimator, attribute: str) -> tuple[object, ...]:
    found = tuple(one.items(attribute))
    return found if len(found) == 2 else one.refuse(f"has no pair as its `{attribute}`")


def _row(one: Estimator, graph: Graph, operator: str, x: str, attribute: str, width: int) -> str:
    return graph.run(operator, x, graph.numbers(one.shaped(attribute, width), width))


def _imputed(one: Estimator, graph: Graph, x: str, width: int) -> tuple[str, int]:
    missing = one.number("missing_values")
    if not isnan(missing) or one.flag("add_indicator", False):
        one.refuse("fills in something else than NaN, or adds columns")
    filling = one.shaped("statistics_", width)
    if any(map(isnan, filling)):
        one.refuse("leaves out columns that had no value at all")
    return graph.run("Where", graph.run("IsNaN", x), graph.numbers(filling, width), x), width


def _projected(one: Estimator, graph: Graph, x: str, width: int) -> tuple[str, int]:
    components = one.numbers("components_")
    if len(components.shape) != 2 or components.shape[1] != width:
        one.refuse(f"has components of shape {components.shape} for {width} columns")
    count = components.shape[0]
    turned = graph.numbers(_turned(components.values, count, width), width, count)
    x = graph.run("MatMul", x, turned)
    if one.has("mean_"):
        x = graph.run("Sub", x, graph.run("MatMul", graph.numbers(one.shaped("mean_", width), 1, width), turned))
    if one.flag("whiten", False):
        least = 2.220446049250313e-16
        scale = array("d", (max(value**0.5, least) for value in one.shaped("explained_variance_", count)))
        x = graph.run("Div", x, graph.numbers(scale, count))
    return x, count


def predict(one: Estimator, graph: Graph, x: str, width: int) -> None:
    """A linear model's outputs. Raises `Refuse`."""
    coefficients = one.numbers("coef_")
    if coefficients.shape not in ((width,), (prod(coefficients.shape[:1]), width)) or not prod(coefficients.shape):
        one.refuse(f"has coefficients of shape {coefficients.shape} for {width} columns")
    outputs = coefficients.shape[0] if len(coefficients.shape) == 2 else 0
    turned = _turned(coefficients.values, outputs, width) if outputs else coefficients.values
    weights = graph.numbers(turned, *((width, outputs) if outputs else (width,)))
    intercept = one.numbers("intercept_")
    if intercept.shape not in ((), (1,), (outputs or 1,)):
        one.refuse(f"has intercepts of shape {intercept.shape} for {outputs or 1} outputs")
    offset = graph.numbers(intercept.values, *intercept.shape)
    scores = graph.run("Add", graph.run("MatMul", x, weights), offset)
    if one.full in CLASSIFIERS:
        _classified(one, graph, scores, outputs)
        return
    if one.full in EXPONENTIAL or (one.full == TWEEDIE and _log_link(one)):
        scores = graph.run("Exp", scores)
    graph.output("prediction", scores, DOUBLE, *((outputs,) if outputs else ()))


def _log_link(one: Estimator) -> bool:
    """`auto` is the identity for a normal distribution (power 0 and below) and the logarithm for others."""
    link = one.text("link", "auto")
    return link == "log" or (link == "auto" and one.number("power") > 0)


def _turned(values: array[float], rows: int, columns: int) -> array[float]:
    return array("d", (values[row * columns + column] for column in range(columns) for row in range(rows)))


def _classified(one: Estimator, graph: Graph, scores: str, outputs: int) -> None:
    labels = one.classes()
    count = len(labels.items)
    if count < 2 or (outputs or 1) != (1 if count == 2 else count):
        one.refuse(f"has {count} classes and {outputs} rows of coefficients")
    flat = graph.run("Reshape", scores, graph.whole([-1], 1)) if count == 2 and outputs else scores
    write_labels(graph, binary_choice(graph, flat) if count == 2 else largest(graph, scores), labels)
    probabilities = _probabilities(one, graph, flat, count)
    if probabilities:
        graph.output("probabilities", probabilities, DOUBLE, count)


def _probabilities(one: Estimator, graph: Graph, scores: str, count: int) -> str:
    if one.full in SCORING or (one.full == STOCHASTIC and one.text("loss") not in ("log_loss", "log", "modified_huber")):
        return ""
    if one.full == STOCHASTIC and one.text("loss") == "modified_huber":
        return _clipped(graph, scores, count)
    if one.full == DISCRIMINANT:
        return both(graph, logistic(graph, scores)) if count == 2 else graph.run("Softmax", scores, axis=1)
    if one.full in LOGISTIC and not _one_against_rest(one, count):
        if count == 2 and one.text("multi_class") == "multinomial":
            column = graph.run("Unsqueeze", scores, graph.whole([1], 1))
            return graph.run("Softmax", graph.run("Concat", graph.run("Neg", column), column, axis=1), axis=1)
        return graph.run("Softmax", scores, axis=1)
    chances = logistic(graph, scores)
    return both(graph, chances) if count == 2 else _shares(graph, chances)


def _one_against_rest(one: Estimator, count: int) -> bool:
    """What `multi_class` meant until it went (`LogisticRegression.predict_proba`)."""
    asked = one.text("multi_class", "deprecated")
    return asked == "ovr" or (asked in ("auto", "deprecated") and (count <= 2 or one.text("solver") == "liblinear"))


def _clipped(graph: Graph, scores: str, count: int) -> str:
    clipped = graph.run("Clip", scores, graph.numbers([-1.0]), graph.numbers([1.0]))
    chances = graph.run("Div", graph.run("Add", clipped, graph.numbers([1.0])), graph.numbers([2.0]))
    if count == 2:
        return both(graph, chances)
    none = graph.run("Equal", graph.run("ReduceSum", chances, graph.whole([1], 1), keepdims=1), graph.numbers([0.0]))
    return _shares(graph, graph.run("Where", none, graph.numbers([1.0]), chances))


def _shares(graph: Graph, chances: str) -> str:
    return graph.run("Div", chances, graph.run("ReduceSum", chances, graph.whole([1], 1), keepdims=1))


def logistic(graph: Graph, scores: str) -> str:
    """1 / (1 + exp(-x)): runtimes' own `Sigmoid` is cut off far from 0, where shares of small chances are still told apart."""
    one = graph.numbers([1.0])
    return graph.run("Div", one, graph.run("Add", one, graph.run("Exp", graph.run("Neg", scores))))


def both(graph: Graph, chances: str) -> str:
    """The columns of two classes, from the second's."""
    column = graph.run("Unsqueeze", chances, graph.whole([1], 1))
    return graph.run("Concat", graph.run("Sub", graph.numbers([1.0]), column), column, axis=1)


def binary_choice(graph: Graph, scores: str) -> str:
    """Rule 3."""
    return graph.run("Cast", graph.run("Greater", scores, graph.numbers([0.0])), to=INT64)


def largest(graph: Graph, scores: str) -> str:
    """Rule 3."""
    return graph.run("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)


def write_labels(graph: Graph, places: str, labels: Labels) -> None:
    """The classes at these places."""
    count = len(labels.items)
    if labels.kind == "text":
        table, kind = graph.words(labels.items), STRING
    elif labels.kind == "int":
        table, kind = graph.whole(labels.items, count), INT64
    elif labels.kind == "bool":
        table, kind = graph.constant(BOOL, (count,), bytes(map(bool, labels.items))), BOOL
    else:
        table, kind = graph.numbers(labels.items, count), DOUBLE
    graph.output("label", graph.run("Gather", table, places, axis=0), kind)
