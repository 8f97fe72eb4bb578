"""Every estimator that scikit-learn lists, fitted with its defaults on small data, and unfitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

SAMPLES = 60


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Fitted, with numbers or texts as each takes them."""
    for name, cls in all_estimators():
        yield f"sklearn-{name}", lambda cls=cls: _fitted(cls)
    for package in ("imblearn",):
        yield from _of(package)


def _of(package: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    try:
        from imblearn.utils.testing import all_estimators as listed
    except ImportError:
        return
    for name, cls in listed():
        yield f"{package}-{name}", lambda cls=cls: _fitted(cls)


def _fitted(cls: type) -> Any:
    model = _made(cls)
    for data, target in _data():
        for given in ((data, target), (data,)):
            for fit in ("fit", "fit_resample"):
                if hasattr(model, fit):
                    try:
                        getattr(model, fit)(*given)
                    except Exception:
                        continue
                    return model
    return model


def _made(cls: type) -> Any:
    name = cls.__name__
    single = LogisticRegression() if "Classif" in name or name == "ClassifierChain" else Ridge()
    tree = DecisionTreeClassifier(max_depth=2) if "Classif" in name else DecisionTreeRegressor(max_depth=2)
    for given in (
        {},
        {"estimator": single},
        {"estimators": [("a", single), ("b", tree)]},
        {"base_estimator": single},
        {"transformers": [("s", "passthrough", [0, 1])]},
        {"steps": [("m", single)]},
        {"transformer_list": [("p", "passthrough")]},
        {"estimator": single, "param_grid": {}},
        {"estimator": single, "param_distributions": {}},
        {"dictionary": np.eye(4)},
    ):
        try:
            return cls(**given)
        except TypeError:
            continue
    return cls.__new__(cls)


def _data() -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(SAMPLES, 4))
    classes = (numbers[:, 0] > 0).astype(int)
    texts = [f"some words {i % 7} here and there {i % 3}" for i in range(SAMPLES)]
    yield numbers, classes
    yield numbers, numbers[:, 1]
    yield np.abs(numbers), classes
    yield np.abs(numbers) + 1, np.abs(numbers[:, 1]) + 1
    yield numbers, np.stack([classes, 1 - classes], axis=1)
    yield numbers, numbers[:, :2]
    yield numbers[:, 0], numbers[:, 1]
    yield texts, classes
    yield [{"a": i, "b": str(i % 3)} for i in range(SAMPLES)], classes
    yield rng.random((6, 8, 8)), None
    yield list(classes), None
    yield [[1, 2], [2], []] * 20, None
