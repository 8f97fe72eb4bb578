"""Estimators that call a method by a name from their state: with a path or a table in the estimator's place that name could be any method."""

from __future__ import annotations

from typing import Any

import pytest
from naming_pickles import Call, Named, New, pickled
from pickle_making import STOP, text

from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scan import scan

STACK = Named("sklearn.ensemble._stacking", "StackingRegressor")
SCORER = Named("sklearn.metrics._scorer", "_Scorer")
PATH = Call(Named("pathlib", "PosixPath"), ("/tmp/canary",))
MODEL = New(Named("sklearn.linear_model._base", "LinearRegression"), (), {"fit_intercept": True})
CALLERS = (
    ("sklego.meta.estimator_transformer", "EstimatorTransformer"),
    ("sklego.meta.grouped_predictor", "GroupedPredictor"),
    ("sksurv.metrics", "as_integrated_brier_score_scorer"),
    ("torch.utils.data.datapipes.dataframe.dataframes", "CaptureCall"),
    ("torch.utils.data.datapipes.dataframe.dataframes", "CaptureGetAttr"),
    ("torch.nn.cpp", "OrderedDictWrapper"),
    ("lightning.pytorch.strategies.strategy", "_ForwardRedirection"),
    ("pandas.core.apply", "SeriesApply"),
)


def rules(data: bytes) -> set[str]:
    return {reason.rule for reason in scan(memoryview(data)).reasons}


def stack(methods: Any, estimator: Any = MODEL) -> New:
    return New(STACK, (), {"estimators_": [estimator], "stack_method_": methods, "final_estimator_": MODEL})


def test_a_stack_that_predicts_is_clean() -> None:
    assert rules(pickled(stack(["predict"]))) == set()


@pytest.mark.parametrize("methods", [["write_text"], ["predict", "unlink"], ("tofile",), [7], "to_csv"])
def test_a_stack_that_calls_any_other_method_is_refused(methods: Any) -> None:
    assert "pickle:state" in rules(pickled(stack(methods, PATH)))


def test_a_method_that_is_put_in_after_the_rule_looked_is_refused() -> None:
    """The list is fetched again from the memo, behind the state that holds it."""
    methods: list[str] = ["predict"]
    data = pickled((stack(methods, PATH), methods))
    place = data.rindex(b"h")  # BINGET of the list, then TUPLE2
    assert rules(data) == set()
    late = data[: place + 2] + text("write_text") + b"a" + data[place + 2 :]
    unframed = late[:2] + late[11:] if late[2] == 0x95 else late
    assert unframed.endswith(STOP)
    assert "pickle:late-items" in rules(unframed)


@pytest.mark.parametrize("method", ["predict", ("decision_function", "predict_proba")])
def test_a_scorer_that_predicts_is_clean(method: Any) -> None:
    assert rules(pickled(New(SCORER, (), {"_sign": 1, "_kwargs": {}, "_response_method": method}))) == set()


@pytest.mark.parametrize("method", ["unlink", ("predict", "write_text"), ["predict", "unlink"], 7])
def test_a_scorer_that_calls_any_other_method_is_refused(method: Any) -> None:
    assert "pickle:state" in rules(pickled(New(SCORER, (), {"_response_method": method})))


@pytest.mark.parametrize(("method", "refused"), [("auto", False), ("predict_proba", False), ("save", True)])
def test_a_threshold_is_laid_over_what_predicts(method: str, refused: bool) -> None:
    kind = Named("sklearn.model_selection._classification_threshold", "FixedThresholdClassifier")
    assert rules(pickled(New(kind, (), {"response_method": method, "estimator_": MODEL}))) == ({"pickle:state"} if refused else set())


@pytest.mark.parametrize("name", CALLERS, ids=lambda name: name[1])
def test_what_calls_any_method_of_any_value_is_not_known(name: tuple[str, str]) -> None:
    assert shipped().find(*name) is None
