"""Models of xgboost, lightgbm and catboost, through their scikit-learn faces and their own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def _x() -> Any:
    return np.random.default_rng(0).normal(size=(80, 4))


def _y() -> Any:
    return (_x()[:, 0] > 0).astype(int)


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Those that are installed."""
    for library, table in (("xgboost", _xgboost), ("lightgbm", _lightgbm), ("catboost", _catboost)):
        if importlib.util.find_spec(library) is not None:
            for label, thunk in table().items():
                yield f"{library}-{label}", thunk


def _xgboost() -> dict[str, Callable[[], Any]]:
    import xgboost as xgb

    z = _x()[:, 1]
    booster = lambda **given: xgb.train({"max_depth": 2, **given}, xgb.DMatrix(_x(), _y()), 3)  # noqa: E731
    return {
        "classifier": lambda: xgb.XGBClassifier(n_estimators=3).fit(_x(), _y()),
        "classifier-multi": lambda: xgb.XGBClassifier(n_estimators=2).fit(_x(), np.arange(80) % 3),
        "classifier-eval": lambda: xgb.XGBClassifier(n_estimators=3, eval_metric=["logloss", "auc"], early_stopping_rounds=2).fit(
            _x(), _y(), eval_set=[(_x(), _y())], verbose=False
        ),
        "regressor": lambda: xgb.XGBRegressor(n_estimators=3, objective="reg:squarederror", random_state=np.random.RandomState(1)).fit(
            _x(), z
        ),
        "regressor-monotone": lambda: xgb.XGBRegressor(
            n_estimators=3, monotone_constraints={"f0": 1} if False else (1, 0, 0, 0), tree_method="hist"
        ).fit(_x(), z),
        "regressor-callbacks": lambda: xgb.XGBRegressor(n_estimators=3, callbacks=[xgb.callback.EarlyStopping(2)]).fit(
            _x(), z, eval_set=[(_x(), z)], verbose=False
        ),
        "ranker": lambda: xgb.XGBRanker(n_estimators=2, objective="rank:pairwise").fit(_x(), _y(), group=[40, 40]),
        "rf": lambda: xgb.XGBRFClassifier(n_estimators=3).fit(_x(), _y()),
        "linear": lambda: xgb.XGBRegressor(n_estimators=3, booster="gblinear").fit(_x(), z),
        "dart": lambda: xgb.XGBRegressor(n_estimators=3, booster="dart").fit(_x(), z),
        "booster": booster,
        "booster-attr": lambda: _with_attr(booster()),
        "unfitted": xgb.XGBClassifier,
        "pandas": lambda: xgb.XGBClassifier(n_estimators=2, enable_categorical=True).fit(
            __import__("pandas").DataFrame(_x(), columns=list("abcd")), _y()
        ),
        "dict": lambda: {"model": xgb.XGBRegressor(n_estimators=2).fit(_x(), z), "columns": list("abcd")},
        "grid": lambda: (
            __import__("sklearn.model_selection")
            .model_selection.GridSearchCV(xgb.XGBRegressor(n_estimators=2), {"max_depth": [1, 2]}, cv=2)
            .fit(_x(), z)
        ),
    }


def _with_attr(booster: Any) -> Any:
    booster.set_attr(best="1")
    return booster


def _lightgbm() -> dict[str, Callable[[], Any]]:
    import lightgbm as lgb

    quiet = {"verbose": -1, "min_child_samples": 5}
    z = _x()[:, 1]
    return {
        "classifier": lambda: lgb.LGBMClassifier(n_estimators=3, **quiet).fit(_x(), _y()),
        "classifier-multi": lambda: lgb.LGBMClassifier(n_estimators=2, **quiet).fit(_x(), np.arange(80) % 3),
        "classifier-eval": lambda: lgb.LGBMClassifier(n_estimators=3, **quiet).fit(
            _x(), _y(), eval_set=[(_x(), _y())], callbacks=[lgb.early_stopping(2, verbose=False)]
        ),
        "regressor": lambda: lgb.LGBMRegressor(n_estimators=3, objective="huber", **quiet).fit(_x(), z),
        "ranker": lambda: lgb.LGBMRanker(n_estimators=2, **quiet).fit(_x(), _y(), group=[40, 40]),
        "booster": lambda: lgb.train({"objective": "binary", **quiet}, lgb.Dataset(_x(), _y()), 3),
        "cvbooster": lambda: lgb.cv({"objective": "binary", **quiet}, lgb.Dataset(_x(), _y()), 2, nfold=2, return_cvbooster=True),
        "pandas": lambda: lgb.LGBMClassifier(n_estimators=2, **quiet).fit(
            __import__("pandas").DataFrame(_x(), columns=list("abcd")).assign(e=__import__("pandas").Categorical(["p", "q"] * 40)), _y()
        ),
        "unfitted": lgb.LGBMClassifier,
        "pipeline": lambda: (
            __import__("sklearn.pipeline")
            .pipeline.make_pipeline(
                __import__("sklearn.preprocessing").preprocessing.StandardScaler(), lgb.LGBMRegressor(n_estimators=2, **quiet)
            )
            .fit(_x(), z)
        ),
    }


def _catboost() -> dict[str, Callable[[], Any]]:
    import catboost as cb

    quiet = {"verbose": 0, "allow_writing_files": False, "iterations": 3}
    z = _x()[:, 1]
    return {
        "classifier": lambda: cb.CatBoostClassifier(**quiet).fit(_x(), _y()),
        "classifier-multi": lambda: cb.CatBoostClassifier(**quiet).fit(_x(), np.arange(80) % 3),
        "regressor": lambda: cb.CatBoostRegressor(**quiet).fit(_x(), z),
        "ranker": lambda: cb.CatBoostRanker(**quiet).fit(_x(), _y(), group_id=np.repeat([0, 1], 40)),
        "base": lambda: cb.CatBoost({**quiet, "loss_function": "Logloss"}).fit(_x(), _y()),
        "categorical": lambda: cb.CatBoostClassifier(**quiet).fit([[str(i % 3), float(i)] for i in range(80)], _y(), cat_features=[0]),
        "unfitted": lambda: cb.CatBoostClassifier(iterations=3),
    }
