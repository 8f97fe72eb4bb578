"""scikit-learn models become ONNX that predicts what they predict, from their values alone; what the values do not say is refused."""

# ruff: noqa: E402 - the libraries that may be missing are asked for first

from __future__ import annotations

import copyreg
import io
import os
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (the `example` extra)")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (the `example` extra)")

import joblib
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    MultiTaskLasso,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from vouchgate.scanning.disarm.rebuild import Rebuilt, rebuild
from vouchgate.scanning.disarm.report import sidecar
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Refuse

FLOWERS, KINDS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[KINDS]
CELLS, BENIGN = load_breast_cancer(return_X_y=True)
PATIENTS, PROGRESS = load_diabetes(return_X_y=True)
HOLES = np.where(np.random.default_rng(1).random(CELLS.shape) < 0.1, np.nan, CELLS)
TWO = np.c_[PROGRESS, PROGRESS * 2 + PATIENTS[:, 0]]
CLOSE = 1e-12
"""Sums in another order differ in their last bits; a wrong weight does so by much more."""


def joblibbed(model: Any, **how: Any) -> bytes:
    raw = io.BytesIO()
    joblib.dump(model, raw, **how)
    return raw.getvalue()


DUMPS: dict[str, Callable[[Any], bytes]] = {
    "pickle": pickle.dumps,
    "protocol 0": lambda model: pickle.dumps(model, 0),
    "protocol 2": lambda model: pickle.dumps(model, 2),
    "joblib": joblibbed,
    "joblib zlib": lambda model: joblibbed(model, compress=3),
    "joblib xz": lambda model: joblibbed(model, compress=("xz", 1)),
}


def rebuilt(raw: bytes) -> Rebuilt:
    made = rebuild(memoryview(raw), target="onnx")
    assert made.document is not None and made.format == "onnx"
    assert (scan(made.document).outcome, scan(made.document).format) == ("clean", "onnx")
    return made


def outputs(document: bytes, rows: Any) -> dict[str, Any]:
    session = runtime.InferenceSession(document)
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, {"X": np.asarray(rows, float)}), strict=True))


def same(model: Any, document: bytes, rows: Any) -> None:
    """Labels are equal, numbers as close as sums in another order are, and no output is more or less than scikit-learn gives."""
    found, expected = outputs(document, rows), model.predict(rows)
    if "label" in found:
        assert found["label"].tolist() == expected.tolist()
        assert ("probabilities" in found) == hasattr(model, "predict_proba")
        if "probabilities" in found:
            assert np.abs(found["probabilities"] - model.predict_proba(rows)).max() < CLOSE
    else:
        assert found["prediction"].shape == expected.shape
        assert (np.abs(found["prediction"] - expected) / (1 + np.abs(expected))).max() < CLOSE


CLASSIFIERS = [
    (DecisionTreeClassifier(random_state=0), FLOWERS, NAMES),
    (DecisionTreeClassifier(random_state=0, max_depth=4), HOLES, BENIGN.astype(bool)),
    (RandomForestClassifier(7, max_depth=5, random_state=0), FLOWERS, KINDS),
    (RandomForestClassifier(7, max_depth=5, random_state=0), HOLES, BENIGN),
    (ExtraTreesClassifier(5, random_state=0), FLOWERS, NAMES.astype(object)),
    (DecisionTreeClassifier(), FLOWERS, np.zeros(150, int)),
    (GradientBoostingClassifier(n_estimators=4, random_state=0), FLOWERS, KINDS),
    (GradientBoostingClassifier(n_estimators=4, loss="exponential"), CELLS, BENIGN),
    (GradientBoostingClassifier(n_estimators=4, init="zero"), CELLS, BENIGN),
    (HistGradientBoostingClassifier(max_iter=4), FLOWERS, KINDS),
    (HistGradientBoostingClassifier(max_iter=4), HOLES, BENIGN),
    (LogisticRegression(max_iter=50), FLOWERS, NAMES),
    (LogisticRegression(max_iter=50), CELLS, BENIGN),
    (SGDClassifier(loss="log_loss", max_iter=20, random_state=0), FLOWERS, KINDS.astype(float)),
    (SGDClassifier(loss="modified_huber", max_iter=20, random_state=0), FLOWERS, KINDS),
    (SGDClassifier(loss="modified_huber", max_iter=20, random_state=0), CELLS, BENIGN),
    (LinearSVC(max_iter=50), FLOWERS, KINDS),
    (RidgeClassifier(), CELLS, np.array(["malignant", "benign"])[BENIGN]),
    (LinearDiscriminantAnalysis(), FLOWERS, KINDS),
    (LinearDiscriminantAnalysis(), CELLS, BENIGN),
    (make_pipeline(StandardScaler(), PCA(3, whiten=True), LogisticRegression()), FLOWERS, KINDS),
    (make_pipeline(SimpleImputer(), MinMaxScaler((-1, 2), clip=True), RandomForestClassifier(5, random_state=0)), HOLES, BENIGN),
    (make_pipeline(make_pipeline(RobustScaler(), "passthrough"), MaxAbsScaler(), LogisticRegression()), FLOWERS, KINDS),
]
REGRESSORS = [
    (DecisionTreeRegressor(max_depth=6), PATIENTS, PROGRESS),
    (RandomForestRegressor(6, max_depth=6, random_state=0), PATIENTS, PROGRESS),
    (RandomForestRegressor(6, max_depth=6, random_state=0), PATIENTS, TWO),
    (RandomForestRegressor(3), PATIENTS, np.zeros(len(PROGRESS))),
    (GradientBoostingRegressor(n_estimators=6, loss="huber"), PATIENTS, PROGRESS),
    (HistGradientBoostingRegressor(max_iter=6, loss="gamma"), PATIENTS, PROGRESS),
    (HistGradientBoostingRegressor(max_iter=6), PATIENTS, PROGRESS),
    (LinearRegression(), PATIENTS, PROGRESS),
    (LinearRegression(fit_intercept=False), PATIENTS, PROGRESS[:, None]),
    (MultiTaskLasso(), PATIENTS, TWO),
    (PoissonRegressor(), PATIENTS, PROGRESS),
    (TweedieRegressor(power=0), PATIENTS, PROGRESS),
    (TweedieRegressor(power=1.5), PATIENTS, PROGRESS),
    (GridSearchCV(make_pipeline(StandardScaler(with_std=False), Ridge()), {"ridge__alpha": [0.1, 1]}, cv=2), PATIENTS, PROGRESS),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "rows", "truth"), CLASSIFIERS + REGRESSORS, ids=lambda value: str(value)[:40] if isinstance(value, BaseEstimator) else ""
)
def test_what_is_written_predicts_what_the_model_predicts(model: Any, rows: Any, truth: Any) -> None:
    model.fit(rows, truth)
    for dump in ("pickle", "joblib"):
        same(model, rebuilt(DUMPS[dump](model)).document or b"", rows)


@pytest.mark.parametrize("dump", DUMPS)
def test_however_it_was_saved(dump: str) -> None:
    model = make_pipeline(StandardScaler(), RandomForestClassifier(4, random_state=0)).fit(FLOWERS, NAMES)
    same(model, rebuilt(DUMPS[dump](model)).document or b"", FLOWERS)


def test_inputs_between_two_floats_go_where_the_tree_sends_them() -> None:
    """scikit-learn compares the input as float32 with the threshold as float64: a hair's breadth decides."""
    rows = np.array([[0.1], [0.2], [0.3], [0.7]])
    model = DecisionTreeClassifier().fit(rows, [0, 1, 0, 1])
    cuts = model.tree_.threshold[model.tree_.feature >= 0]
    near = np.concatenate(
        [np.nextafter(cuts, way) for way in (-9, 9)] + [cuts, cuts.astype(np.float32), np.nextafter(cuts.astype(np.float32), np.float32(9))]
    )
    same(model, rebuilt(pickle.dumps(model)).document or b"", near[:, None])


@pytest.mark.filterwarnings("ignore")
def test_what_stands_beside_it() -> None:
    frame = np.rec.fromarrays(FLOWERS.T, names="a,b,c,d")
    model = LogisticRegression(max_iter=50).fit(FLOWERS, NAMES)
    model.feature_names_in_ = np.array(frame.dtype.names, dtype=object)
    beside = sidecar(rebuilt(pickle.dumps(model)))
    assert beside is not None and beside["values"]["columns"] == ["a", "b", "c", "d"]
    assert beside["values"]["estimators"] == ["sklearn.linear_model._logistic.LogisticRegression"]
    assert beside["values"]["input"] == {"X": ["rows", 4]}


class Acting:
    """What would act on loading, around a model."""

    def __init__(self, *around: Any) -> None:
        self.around = around

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.around[-1]}",), {"model": self.around[0]}


def test_a_payload_around_a_model_is_gone_and_told(tmp_path: Any) -> None:
    model = RandomForestClassifier(3, random_state=0).fit(FLOWERS, KINDS)
    canary = tmp_path / "canary"
    made = rebuilt(pickle.dumps({"before": 1, "what": [Acting(model, canary)]}))
    assert made.document is not None and b"touch" not in made.document and not canary.exists()
    same(model, made.document, FLOWERS)
    assert any("system" in one.what + one.why for one in made.findings.dropped)
    assert made.findings.values["wrapped"] is True


class Own(DecisionTreeClassifier):
    """A class of somebody's own, whose predict may be anything."""


def changed(change: Callable[[dict[str, Any]], None], model: Any = None) -> bytes:
    """A fitted tree, written with other contents than it has."""
    fitted = model or DecisionTreeClassifier(random_state=0, max_depth=3).fit(FLOWERS, KINDS)
    kind, arguments, state = fitted.tree_.__reduce__()
    state = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in state.items()}
    change(state)
    raw = io.BytesIO()
    pickler = pickle.Pickler(raw)
    pickler.dispatch_table = copyreg.dispatch_table.copy()
    pickler.dispatch_table[kind] = lambda _: (kind, arguments, state)
    pickler.dump(fitted)
    return raw.getvalue()


def put(field: str, node: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state["nodes"][field][node] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("left_child", 0, 0),
        put("right_child", 2, 0),
        put("left_child", 0, 2**40),
        put("left_child", 0, -2),
        put("right_child", 0, 1),
        put("left_child", 2, -1),
        put("feature", 0, 4),
        put("feature", 0, -2),
        put("threshold", 0, np.nan),
        lambda state: state.update(values=state["values"][:-1]),
        lambda state: state.update(values=state["values"][:, :, :2]),
        lambda state: state.update(values=state["values"].astype(complex)),
        lambda state: state.update(nodes=state["nodes"][:0], values=state["values"][:0]),
        lambda state: state.update(nodes=state["values"]),
        lambda state: state.update(nodes=[1, 2]),
        lambda state: state.pop("nodes"),
    ],
)
def test_a_tree_that_is_none_is_refused(change: Any) -> None:
    assert rebuilt(changed(lambda state: None)).document
    with pytest.raises(Refuse):
        rebuild(memoryview(changed(change)), target="onnx")


def with_state(model: Any, **state: Any) -> Any:
    for name, value in state.items():
        if value is None:
            delattr(model, name)
        else:
            setattr(model, name, value)
    return model


def logistic() -> Any:
    return LogisticRegression(max_iter=20).fit(FLOWERS, NAMES)


def boosted() -> Any:
    return GradientBoostingClassifier(n_estimators=2).fit(FLOWERS, KINDS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Own().fit(FLOWERS, KINDS),
        RandomForestClassifier,
        lambda: BaggingClassifier(n_estimators=2).fit(FLOWERS, KINDS),
        lambda: make_pipeline(FunctionTransformer(np.abs), logistic()),
        lambda: make_pipeline(StandardScaler().fit(FLOWERS)),
        lambda: make_pipeline(StandardScaler().fit(CELLS), logistic()),
        lambda: [logistic(), logistic()],
        lambda: {"weights": np.arange(3.0)},
        lambda: DecisionTreeClassifier().fit(FLOWERS, np.c_[KINDS, KINDS]),
        lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(np.c_[KINDS, FLOWERS], BENIGN[:150]),
        lambda: SimpleImputer(missing_values=-1).fit(FLOWERS) and make_pipeline(SimpleImputer(missing_values=-1).fit(FLOWERS), logistic()),
        lambda: with_state(logistic(), coef_=np.ones((2, 4))),
        lambda: with_state(logistic(), coef_=np.ones((3, 0))),
        lambda: with_state(logistic(), coef_="no numbers"),
        lambda: with_state(logistic(), coef_=np.ones((3, 4), dtype=object)),
        lambda: with_state(logistic(), coef_=None),
        lambda: with_state(logistic(), intercept_=np.ones(2)),
        lambda: with_state(logistic(), classes_=np.array(["a", "\ud800", "c"], dtype=object)),
        lambda: with_state(logistic(), classes_=np.array([2**63, 1, 2], dtype=np.uint64)),
        lambda: with_state(logistic(), classes_=np.array([b"a", b"b", b"c"])),
        lambda: with_state(logistic(), n_features_in_=10**30),
        lambda: with_state(logistic(), n_features_in_=5),
        lambda: with_state(logistic(), n_features_in_=float("nan")),
        lambda: with_state(boosted(), learning_rate=10**400),
        lambda: with_state(boosted(), estimators_=np.asfortranarray(boosted().estimators_)),
        lambda: with_state(boosted(), estimators_=boosted().estimators_[:1, :2]),
        lambda: with_state(boosted(), init_=RandomForestClassifier(1).fit(FLOWERS, KINDS)),
        lambda: with_state(boosted(), _loss=StandardScaler()),
    ],
)
def test_what_the_values_do_not_say_is_refused(make: Any) -> None:
    with pytest.raises(Refuse):
        rebuild(memoryview(pickle.dumps(make())), target="onnx")


@pytest.mark.filterwarnings("ignore")
def test_a_pickle_that_breaks_off_gives_no_model() -> None:
    raw = pickle.dumps(logistic())
    for end in range(0, len(raw), 37):
        with pytest.raises(Refuse):
            rebuild(memoryview(raw[:end]), target="onnx")


@pytest.mark.parametrize("place", range(40, 1500, 61))
def test_any_changed_byte_gives_a_model_or_a_reason(place: int) -> None:
    raw = bytearray(pickle.dumps(DecisionTreeClassifier(random_state=0, max_depth=2).fit(FLOWERS, KINDS)))
    for value in (0, 0x7F, 0xFF):
        raw[place % len(raw)] = value
        try:
            made = rebuild(memoryview(bytes(raw)), target="onnx")
        except Refuse:
            continue
        assert scan(made.document or b"").outcome == "clean"
