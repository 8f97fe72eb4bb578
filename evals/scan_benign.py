"""Honest artifacts, made by the libraries themselves: fitted models, arrays, frames, checkpoints, folders.

    python scan_benign.py FOLDER [--seed N]

Runs in the evaluation's own environment (build/scan/libraries). One row a file in FOLDER/labels.jsonl: path, format, library, version, held (library or
version that the knowledge base was not made from), what. What a library cannot make is told on standard error and is no row.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
os.environ.update(KERAS_BACKEND="torch", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", MPLBACKEND="Agg")

Made = tuple[str, str, str, Callable[[Path], object]]
"""(what, format, file or folder name, writer)."""
HELD = {"shap", "lifelines", "category-encoders", "sktime", "pmdarima", "hdbscan", "umap-learn"}
SKIPPED = {
    "ClassifierChain", "MultiOutputClassifier", "MultiOutputRegressor", "RegressorChain", "OneVsOneClassifier", "OneVsRestClassifier",
    "OutputCodeClassifier", "ColumnTransformer", "FeatureUnion", "Pipeline", "GridSearchCV", "RandomizedSearchCV", "StackingClassifier",
    "StackingRegressor", "VotingClassifier", "VotingRegressor", "SparseCoder", "RFE", "RFECV", "SelectFromModel", "SequentialFeatureSelector",
    "FrozenEstimator", "FixedThresholdClassifier", "TunedThresholdClassifierCV", "SelfTrainingClassifier", "HalvingGridSearchCV", "HalvingRandomSearchCV",
}  # fmt: skip
"""Need an estimator or other parts; some of them stand in `composed`."""


def pickled(thing: Any, protocol: int = 4) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(pickle.dumps(thing, protocol))


def joblibbed(thing: Any, compress: Any = 0) -> Callable[[Path], object]:
    import joblib

    return lambda path: joblib.dump(thing, path, compress=compress)


def sklearn_models(seed: int) -> Iterator[Made]:
    import numpy as np
    from sklearn.utils import all_estimators

    draw = np.random.default_rng(seed)
    X, y, z = np.abs(draw.normal(size=(60, 6))), draw.integers(0, 3, 60), draw.normal(size=60)
    packing = (0, 3, ("gzip", 3), ("lzma", 3), ("bz2", 3))
    for index, (label, kind) in enumerate(all_estimators()):
        if label in SKIPPED:
            continue
        try:
            model = kind()
            if "random_state" in model.get_params():
                model.set_params(random_state=int(draw.integers(0, 1000)))
            for small in ("n_estimators", "max_iter"):
                if small in model.get_params() and label not in ("GaussianProcessClassifier",):
                    model.set_params(**{small: 12})
            tags = getattr(model, "_estimator_type", "") or (
                "classifier" if "Classif" in label else "regressor" if "Regress" in label else ""
            )
            fit(model, X, y, z, tags)
        except Exception as error:
            tell(f"sklearn {label}: {error!r}"[:150])
            continue
        yield label, "pickle", f"{label}.pkl", pickled(model, (2, 3, 4, 5)[index % 4])
        yield label, "joblib", f"{label}.joblib", joblibbed(model, packing[index % len(packing)])
        yield label, "pickle", f"{label}_unfitted.pkl", pickled(kind(), (5, 4)[index % 2])


def fit(model: Any, X: Any, y: Any, z: Any, kind: str) -> None:
    for target in (y, z, (X[:, 0], y), X[:, :2]) if kind != "regressor" else (z, y, X[:, :2]):
        try:
            model.fit(X[:, 0] if isinstance(target, tuple) else X, target[1] if isinstance(target, tuple) else target)
        except Exception as error:
            last = error
        else:
            return
    try:
        model.fit(["the cat sat", "on the mat", "a dog ran"] * 5)
    except Exception:
        raise last from None


def composed(seed: int) -> Iterator[Made]:
    import numpy as np
    import pandas as pd
    from sklearn import (
        calibration,
        compose,
        ensemble,
        feature_selection,
        impute,
        linear_model,
        model_selection,
        multiclass,
        neighbors,
        pipeline,
        preprocessing,
        svm,
        tree,
    )
    from sklearn.feature_extraction.text import TfidfVectorizer

    draw = np.random.default_rng(seed + 1)
    X, y, z = draw.normal(size=(80, 5)), draw.integers(0, 2, 80), draw.normal(size=80)
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": draw.choice(["x", "y", "z"], 80), "d": draw.integers(0, 5, 80)})
    logistic, forest = linear_model.LogisticRegression(), ensemble.RandomForestClassifier(8, random_state=0)
    columns = compose.ColumnTransformer(
        [
            ("n", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["a", "b"]),
            ("c", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["c"]),
        ],
        remainder="passthrough",
    )
    named = {
        "columns": pipeline.make_pipeline(columns, forest).fit(frame, y),
        "selector": compose.make_column_transformer((preprocessing.StandardScaler(), compose.make_column_selector(dtype_include=float))).fit(frame),
        "grid": model_selection.GridSearchCV(svm.SVC(probability=True), {"C": [0.1, 1], "kernel": ["rbf", "linear"]}, cv=2).fit(X, y),
        "random-search": model_selection.RandomizedSearchCV(tree.DecisionTreeRegressor(), {"max_depth": [2, 3, 4]}, n_iter=2, cv=2, random_state=1).fit(X, z),
        "calibrated": calibration.CalibratedClassifierCV(linear_model.SGDClassifier(), cv=2).fit(X, y),
        "stacking": ensemble.StackingClassifier([("a", logistic), ("b", forest)], cv=2).fit(X, y),
        "voting": ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=2))]).fit(X, z),
        "bagging": ensemble.BaggingClassifier(neighbors.KNeighborsClassifier(), 4, random_state=0).fit(X, y),
        "ovr": multiclass.OneVsRestClassifier(svm.LinearSVC()).fit(X, draw.integers(0, 3, 80)),
        "rfe": feature_selection.RFE(logistic, n_features_to_select=2).fit(X, y),
        "from-model": feature_selection.SelectFromModel(forest).fit(X, y),
        "target": compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1).fit(X, np.abs(z)),
        "function": preprocessing.FunctionTransformer(np.log1p).fit(np.abs(X)),
        "text": pipeline.make_pipeline(TfidfVectorizer(ngram_range=(1, 2), stop_words="english"), logistic).fit(["good film", "bad film", "so good", "so bad"] * 5, [1, 0, 1, 0] * 5),
        "balltree": neighbors.KNeighborsClassifier(algorithm="ball_tree").fit(X, y),
        "kdtree": neighbors.NearestNeighbors(algorithm="kd_tree", metric="minkowski", p=3).fit(X),
        "histgb-categorical": ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features=[3]).fit(frame[["a", "b", "d", "d"]].to_numpy(), y),
        "isolation": ensemble.IsolationForest(n_estimators=10, random_state=0).fit(X),
        "extra": ensemble.ExtraTreesRegressor(5, criterion="absolute_error", random_state=np.random.RandomState(3)).fit(X, z),
        "gb-losses": ensemble.GradientBoostingRegressor(n_estimators=5, loss="huber").fit(X, z),
        "gb-init": ensemble.GradientBoostingClassifier(n_estimators=5, init=logistic).fit(X, y),
        "adaboost": ensemble.AdaBoostClassifier(tree.DecisionTreeClassifier(max_depth=1), n_estimators=5).fit(X, y),
        "svr-sparse": svm.SVR().fit(__import__("scipy.sparse").sparse.csr_matrix(X), z),
        "tuple-of-models": (logistic.fit(X, y), {"columns": list(frame), "version": 3, "trained": __import__("datetime").datetime(2026, 1, 2)}),
    }  # fmt: skip
    for label, thing in named.items():
        for protocol in (2, 4, 5):
            yield f"composed {label}", "pickle", f"{label}-{protocol}.pkl", pickled(thing, protocol)
        yield f"composed {label}", "joblib", f"{label}.joblib", joblibbed(thing)
        yield f"composed {label}", "joblib", f"{label}.joblib.z", joblibbed(thing, ("zlib", 3))


def values(seed: int) -> Iterator[Made]:
    import collections
    import datetime as dt
    import decimal
    import fractions
    import ipaddress
    import pathlib
    import re
    import uuid

    named: dict[str, Any] = {
        "plain": {"a": [1, 2.5, "x", None, True, b"y", (1, 2), {3, 4}, frozenset((5,))]}, "long": 2**200, "negative": -(2**70), "floats": [float("inf"), -0.0, 1e-300],
        "unicode": "héllo \U0001f600 \u2028", "bytes": bytes(range(256)), "bytearray": bytearray(b"abc" * 100), "complex": [1j, 2 + 3j],
        "dates": [dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 2, 3, 4, 5),  # noqa: DTZ001
        dt.time(1, 2), dt.timedelta(3), dt.timezone(dt.timedelta(hours=2)), dt.datetime.now(dt.UTC)],
        "decimal": decimal.Decimal("1.25"), "fraction": fractions.Fraction(3, 7), "uuid": uuid.UUID(int=5), "path": pathlib.PurePosixPath("/a/b"), "regex": re.compile(r"\d+", re.I),
        "ordered": collections.OrderedDict(a=1), "counter": collections.Counter("abracadabra"), "deque": collections.deque([1, 2], 5), "defaultdict": collections.defaultdict(list, a=[1]),
        "defaultdict-int": collections.defaultdict(int, a=1), "chain": collections.ChainMap({"a": 1}), "range": range(3, 9, 2), "slice": slice(1, 5), "ellipsis": [..., NotImplemented],
        "ip": [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_interface("::1/128")], "types": [int, str, float, list, dict, tuple, set, bytes, bool, object, type(None)],
        "functions": [len, sum, max, abs, round], "exceptions": [ValueError("x"), KeyError(3), OSError(2, "no"), StopIteration()], "namespace": __import__("types").SimpleNamespace(a=1),
        "partial": __import__("functools").partial(round, ndigits=2), "itemgetter": __import__("operator").itemgetter(1), "array": __import__("array").array("d", [1.0, 2.0]),
        "random": __import__("random").Random(seed), "mapping": __import__("collections").UserDict(a=1), "string-io": __import__("io").StringIO("x"), "zone": __import__("zoneinfo").ZoneInfo("UTC"), "tagged": __import__("http").HTTPStatus(200),
        "shared": [once := [1, 2], once, {"again": once}], "deep": _nested(40), "large": {f"key-{index}": [index, index / 3, str(index)] for index in range(3_000)}, "statistics": __import__("statistics").NormalDist(1, 2),
    }  # fmt: skip
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    named["cyclic"] = cyclic
    for label, thing in named.items():
        for protocol in range(6):
            try:
                pickle.dumps(thing, protocol)
            except Exception as error:
                tell(f"python {label} {protocol}: {error!r}"[:120])
                continue
            yield f"python {label}", "pickle", f"{label}-{protocol}.pkl", pickled(thing, protocol)


def _nested(depth: int) -> Any:
    return {"x": _nested(depth - 1)} if depth else []


def arrays(seed: int) -> Iterator[Made]:
    import numpy as np
    import scipy.sparse as sp
    import scipy.stats as st
    from scipy import interpolate, spatial

    draw = np.random.default_rng(seed)
    named: dict[str, Any] = {
        f"dtype-{kind}": np.zeros((3, 4), kind)
        for kind in (
            "f2",
            "f4",
            "f8",
            "i1",
            "i2",
            "i4",
            "i8",
            "u1",
            "u2",
            "u4",
            "u8",
            "c8",
            "c16",
            "?",
            "S5",
            "U7",
            "M8[ns]",
            "m8[s]",
            ">f4",
            "V8",
        )
    }
    named |= {
        "fortran": np.asfortranarray(draw.normal(size=(5, 6))), "strided": draw.normal(size=(10, 10))[::2, ::3], "empty": np.zeros((0, 3)), "scalar": np.float32(1.5), "scalars": [np.int64(3), np.bool_(True), np.str_("x"), np.datetime64("2026-01-01")],
        "objects": np.array([{"a": 1}, None, "x", 3], dtype=object), "record": np.rec.array([(1, 2.0, "x")], dtype=[("a", "i4"), ("b", "f8"), ("c", "U5")]), "structured": np.zeros(3, [("a", "i4", (2, 2)), ("b", [("c", "f4")])]),
        "masked": np.ma.masked_array([1, 2, 3], [0, 1, 0]), "matrix": np.matrix([[1, 2]]), "generator": np.random.default_rng(1), "randomstate": np.random.RandomState(1), "philox": np.random.Generator(np.random.Philox(1)), "sfc": np.random.Generator(np.random.SFC64(2)), "seed-sequence": np.random.SeedSequence(4),
        "poly": np.polynomial.Polynomial([1, 2]), "poly1d": np.poly1d([1, 2]), "chebyshev": np.polynomial.Chebyshev([1, 2]), "dtype-object": np.dtype([("a", "f4")]), "ufunc": np.sin, "iinfo": np.iinfo("i4"), "large": draw.normal(size=100_000), "vectors": [draw.normal(size=n) for n in range(20)],
        "csr": sp.random(20, 20, 0.1, "csr"), "csc": sp.random(20, 20, 0.1, "csc"), "coo": sp.random(20, 20, 0.1, "coo"), "lil": sp.random(9, 9, 0.1, "lil"), "dok": sp.random(9, 9, 0.1, "dok"), "dia": sp.eye(5, format="dia"), "bsr": sp.random(8, 8, 0.3, "bsr"), "csr-array": sp.csr_array(np.eye(3)),
        "frozen": st.norm(1, 2), "frozen-beta": st.beta(2, 3), "kde": st.gaussian_kde(draw.normal(size=50)), "multivariate": st.multivariate_normal([0, 0]), "cubic": interpolate.CubicSpline(range(5), range(5)), "interp1d": interpolate.interp1d(range(5), range(5)), "bspline": interpolate.make_interp_spline(range(6), range(6)), "univariate": interpolate.UnivariateSpline(range(6), range(6)), "rbf": interpolate.RBFInterpolator(draw.normal(size=(9, 2)), draw.normal(size=9)), "regular-grid": interpolate.RegularGridInterpolator((range(3), range(3)), np.zeros((3, 3))), "kdtree": spatial.cKDTree(draw.normal(size=(30, 3))), "pykdtree": spatial.KDTree(draw.normal(size=(30, 3))), "rotation": spatial.transform.Rotation.from_euler("x", 1.0), "hull": spatial.ConvexHull(draw.normal(size=(10, 2))).vertices,
    }  # fmt: skip
    for index, (label, thing) in enumerate(named.items()):
        for protocol in {(index % 6), 4, 2}:
            yield f"array {label}", "pickle", f"{label}-{protocol}.pkl", pickled(thing, protocol)
        yield f"array {label}", "joblib", f"{label}.joblib", joblibbed(thing, (0, 3)[index % 2])
        if isinstance(thing, np.ndarray):
            yield f"npy {label}", "numpy", f"{label}.npy", lambda path, thing=thing: np.save(path, thing, allow_pickle=True)
        if sp.issparse(thing) and label not in ("lil", "dok"):
            yield f"npz {label}", "numpy", f"{label}.npz", lambda path, thing=thing: sp.save_npz(path, thing)
    yield "npz", "numpy", "many.npz", lambda path: np.savez(path, **{f"a{n}": draw.normal(size=n) for n in range(9)})
    yield "npz", "numpy", "packed.npz", lambda path: np.savez_compressed(path, a=np.zeros(1000), b=np.array(["x"]))


def frames(seed: int) -> Iterator[Made]:
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(seed)
    base = pd.DataFrame(
        {"a": draw.normal(size=20), "b": draw.integers(0, 5, 20), "c": list("abcde") * 4, "d": pd.date_range("2026", periods=20, freq="h")}
    )
    named: dict[str, Any] = {
        "frame": base, "empty": pd.DataFrame(), "series": base.a, "index": base.index, "multi": base.set_index(["b", "c"]), "columns-multi": pd.concat({"x": base, "y": base}, axis=1), "category": base.c.astype("category"), "ordered": pd.Categorical(["a", "b"], ordered=True),
        "string": base.c.astype("string"), "int-nullable": base.b.astype("Int64"), "bool-nullable": pd.array([True, None], "boolean"), "float-nullable": pd.array([1.5, None], "Float64"), "timestamp": pd.Timestamp("2026-01-01", tz="UTC"), "timedelta": pd.Timedelta("3h"), "period": pd.period_range("2026", periods=3, freq="M"), "interval": pd.interval_range(0, 4), "cut": pd.cut(base.a, 3),
        "tz": base.d.dt.tz_localize("Europe/Berlin"), "sparse": pd.arrays.SparseArray([0, 0, 1]), "offset": pd.offsets.MonthEnd(2), "nat": pd.NaT, "na": pd.NA, "range-index": pd.RangeIndex(5), "datetime-index": pd.DatetimeIndex(["2026-01-01"]), "dict-of-frames": {"x": base, "y": base.a}, "attrs": base.copy(), "objects": pd.DataFrame({"x": [[1], {"a": 2}, None]}), "groups": dict(list(base.groupby("c"))), "dtypes": base.dtypes, "arrow-string": pd.Series(["a", "b"], dtype="string[pyarrow]"), "business": pd.offsets.BDay(), "freq": pd.tseries.frequencies.to_offset("15min"),
    }  # fmt: skip
    for index, (label, thing) in enumerate(named.items()):
        for protocol in {(2, 3, 4, 5)[index % 4], 5, 4}:
            yield f"pandas {label}", "pickle", f"{label}-{protocol}.pkl", pickled(thing, protocol)
    yield "pandas to_pickle", "compressed", "frame.pkl.gz", base.to_pickle
    yield "pandas to_pickle", "compressed", "frame.pkl.xz", base.to_pickle
    for engine in ("snappy", "gzip", "zstd", "brotli", None):
        yield (
            f"parquet {engine}",
            "parquet",
            f"frame-{engine}.parquet",
            lambda path, engine=engine: base.to_parquet(path, compression=engine),
        )
    yield "parquet multi", "parquet", "multi.parquet", lambda path: base.set_index(["b", "c"]).to_parquet(path)
    yield "parquet category", "parquet", "category.parquet", lambda path: base.astype({"c": "category"}).to_parquet(path)
    yield "feather", "arrow", "frame.feather", base.to_feather
    yield "feather plain", "arrow", "plain.feather", lambda path: base.to_feather(path, compression="uncompressed")
    yield "csv", "csv", "frame.csv", base.to_csv
    yield "csv", "csv", "frame.tsv", lambda path: base.to_csv(path, sep="\t", index=False)
    yield "json lines", "text", "frame.jsonl", lambda path: base.to_json(path, orient="records", lines=True)
    yield "json", "json", "frame.json", base.to_json


def torches(seed: int) -> Iterator[Made]:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    modules: dict[str, Any] = {
        "mlp": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)), "conv": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(3)), "lstm": nn.LSTM(4, 5, 2, bidirectional=True), "gru": nn.GRU(4, 5), "transformer": nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2),
        "decoder": nn.TransformerDecoderLayer(8, 2), "mha": nn.MultiheadAttention(8, 2), "embedding": nn.EmbeddingBag(10, 4), "norms": nn.ModuleList([nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4), nn.InstanceNorm1d(4)]), "activations": nn.Sequential(nn.GELU(), nn.SiLU(), nn.Softmax(-1), nn.PReLU(), nn.Hardswish(), nn.Mish(), nn.ELU()),
        "dict": nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Conv1d(2, 2, 1)}), "parameters": nn.ParameterList([nn.Parameter(torch.zeros(3))]), "tied": _tied(nn, torch), "convs": nn.Sequential(nn.ConvTranspose2d(2, 2, 2), nn.Conv3d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2), nn.PixelShuffle(1)), "losses": nn.ModuleList([nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCEWithLogitsLoss(), nn.SmoothL1Loss()]),
        "weight-norm": nn.utils.weight_norm(nn.Linear(3, 3)), "bilinear": nn.Bilinear(2, 3, 4), "rnn-cell": nn.LSTMCell(2, 3), "padding": nn.Sequential(nn.ZeroPad2d(1), nn.ReflectionPad2d(1)),
    }  # fmt: skip
    for index, (label, module) in enumerate(modules.items()):
        yield f"state {label}", "pytorch-zip", f"{label}-state.pt", lambda path, module=module: torch.save(module.state_dict(), path)
        yield f"module {label}", "pytorch-zip", f"{label}.pth", lambda path, module=module: torch.save(module, path)
        yield (
            f"legacy {label}",
            "pytorch-legacy",
            f"{label}-legacy.pt",
            lambda path, module=module, index=index: torch.save(
                module.state_dict() if index % 2 else module, path, _use_new_zipfile_serialization=False
            ),
        )
    for kind in (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "uint8",
        "int16",
        "int32",
        "int64",
        "bool",
        "complex64",
        "float8_e4m3fn",
    ):
        yield (
            f"tensor {kind}",
            "pytorch-zip",
            f"tensor-{kind}.pt",
            lambda path, kind=kind: torch.save(torch.zeros(3, 4).to(getattr(torch, kind)), path),
        )
    tensors: dict[str, Any] = {
        "strided": torch.zeros(6, 6)[::2, 1:], "shared": {"a": (one := torch.zeros(4, 4)), "b": one[1:], "c": one.T}, "zero-d": torch.tensor(3.0), "empty": torch.zeros(0, 2), "sparse": torch.eye(4).to_sparse(), "sparse-csr": torch.eye(4).to_sparse_csr(), "quantised": torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8), "list": [torch.zeros(2), 1, "x", {"y": torch.ones(1)}], "generator": torch.Generator().get_state(), "size": torch.zeros(2).shape, "device": torch.device("cpu"), "dtype": torch.float16, "parameter": nn.Parameter(torch.zeros(2)), "buffer": nn.Buffer(torch.zeros(2)), "meta": torch.zeros(2, device="meta"), "layout": torch.strided, "numpy": {"a": torch.zeros(2).numpy(), "epoch": 3}, "namedtuple": torch.return_types.max((torch.zeros(2), torch.zeros(2, dtype=torch.int64))),
    }  # fmt: skip
    for label, thing in tensors.items():
        yield f"tensor {label}", "pytorch-zip", f"thing-{label}.pt", lambda path, thing=thing: torch.save(thing, path)
        yield f"pickled {label}", "pickle", f"thing-{label}.pkl", pickled(thing, 4)
    model = nn.Linear(3, 3)
    for kind in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adadelta", "Adamax", "ASGD", "Rprop"):
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
        model(torch.zeros(1, 3)).sum().backward()
        optimizer.step()
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        checkpoint = {
            "epoch": 3,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": schedule.state_dict(),
            "loss": 0.5,
            "args": {"lr": 0.01, "name": kind},
            "rng": torch.get_rng_state(),
        }
        yield (
            f"checkpoint {kind}",
            "pytorch-zip",
            f"checkpoint-{kind}.ckpt",
            lambda path, checkpoint=checkpoint: torch.save(checkpoint, path),
        )
        yield f"optimizer {kind}", "pytorch-zip", f"optimizer-{kind}.pt", lambda path, optimizer=optimizer: torch.save(optimizer, path)
    yield (
        "namespace",
        "pytorch-zip",
        "args.pt",
        lambda path: torch.save({"args": argparse.Namespace(lr=0.1), "state": model.state_dict()}, path),
    )
    import safetensors.torch as st

    for label, module in modules.items():
        if label not in ("tied", "conv"):
            yield (
                f"safetensors {label}",
                "safetensors",
                f"{label}.safetensors",
                lambda path, module=module: st.save_file(
                    {k: v.contiguous() for k, v in module.state_dict().items()}, path, {"format": "pt"}
                ),
            )


def _tied(nn: Any, torch: Any) -> Any:
    class_free = nn.ModuleDict({"e": nn.Embedding(6, 4), "o": nn.Linear(4, 6, bias=False)})
    class_free["o"].weight = class_free["e"].weight
    return class_free


def boosted(seed: int) -> Iterator[Made]:
    import numpy as np

    draw = np.random.default_rng(seed)
    X, y, z = draw.normal(size=(80, 4)), draw.integers(0, 2, 80), draw.normal(size=80)
    import xgboost as xgb

    for label, model in {
        "clf": xgb.XGBClassifier(n_estimators=4),
        "reg": xgb.XGBRegressor(n_estimators=4),
        "rf": xgb.XGBRFClassifier(n_estimators=3),
        "dart": xgb.XGBRegressor(booster="dart", n_estimators=3),
        "linear": xgb.XGBRegressor(booster="gblinear", n_estimators=3),
    }.items():
        model.fit(X, y if label in ("clf", "rf") else z)
        yield f"xgboost {label}", "pickle", f"xgb-{label}.pkl", pickled(model)
        yield f"xgboost {label}", "joblib", f"xgb-{label}.joblib", joblibbed(model, 3)
        yield f"xgboost {label}", "xgboost", f"xgb-{label}.json", lambda path, model=model: model.save_model(path)
        yield f"xgboost {label}", "xgboost", f"xgb-{label}.ubj", lambda path, model=model: model.save_model(path)
        yield f"xgboost {label} booster", "pickle", f"xgb-{label}-booster.pkl", pickled(model.get_booster())
    import lightgbm as lgb

    for label, model in {
        "clf": lgb.LGBMClassifier(n_estimators=4, verbose=-1),
        "reg": lgb.LGBMRegressor(n_estimators=4, verbose=-1),
        "rank": lgb.LGBMRanker(n_estimators=3, verbose=-1),
    }.items():
        model.fit(X, y, **({"group": [40, 40]} if label == "rank" else {}))
        yield f"lightgbm {label}", "pickle", f"lgb-{label}.pkl", pickled(model)
        yield f"lightgbm {label}", "joblib", f"lgb-{label}.joblib", joblibbed(model)
        yield f"lightgbm {label}", "lightgbm", f"lgb-{label}.txt", lambda path, model=model: model.booster_.save_model(path)
        yield f"lightgbm {label} booster", "pickle", f"lgb-{label}-booster.pkl", pickled(model.booster_, 5)
    import catboost as cb

    for label, model in {
        "clf": cb.CatBoostClassifier(iterations=4, verbose=0, allow_writing_files=False),
        "reg": cb.CatBoostRegressor(iterations=4, verbose=0, allow_writing_files=False),
    }.items():
        model.fit(X, y if label == "clf" else z)
        yield f"catboost {label}", "pickle", f"cb-{label}.pkl", pickled(model)
        yield f"catboost {label}", "joblib", f"cb-{label}.joblib", joblibbed(model)
        yield f"catboost {label}", "catboost", f"cb-{label}.cbm", lambda path, model=model: model.save_model(str(path))


def statistics(seed: int) -> Iterator[Made]:
    import numpy as np
    import pandas as pd
    import statsmodels.api as sm

    draw = np.random.default_rng(seed)
    X, y = sm.add_constant(draw.normal(size=(60, 2))), draw.normal(size=60)
    frame = pd.DataFrame(X[:, 1:], columns=["u", "v"]).assign(y=y)
    fitted = {
        "ols": sm.OLS(y, X).fit(), "wls": sm.WLS(y, X).fit(), "logit": sm.Logit((y > 0).astype(int), X).fit(disp=0), "glm": sm.GLM(np.abs(y), X, sm.families.Gamma(sm.families.links.Log())).fit(), "poisson": sm.GLM(draw.poisson(2, 60), X, sm.families.Poisson()).fit(),
        "rlm": sm.RLM(y, X).fit(), "arima": sm.tsa.ARIMA(y, order=(1, 0, 0)).fit(), "holt": sm.tsa.ExponentialSmoothing(np.abs(y) + 1, trend="add").fit(), "autoreg": sm.tsa.AutoReg(y, 2).fit(), "quantile": sm.QuantReg(y, X).fit(), "mixed": sm.MixedLM(y, X, draw.integers(0, 5, 60)).fit(),
        "frame": sm.OLS(frame.y, frame[["u", "v"]]).fit(),
    }  # fmt: skip
    for label, model in fitted.items():
        yield f"statsmodels {label}", "pickle", f"sm-{label}.pkl", pickled(model)
        yield f"statsmodels {label}", "pickle", f"sm-{label}-bare.pkl", lambda path, model=model: model.save(str(path), remove_data=True)


def graphs(seed: int) -> Iterator[Made]:
    import networkx as nx

    yield "networkx", "pickle", "graph.pkl", pickled(nx.karate_club_graph())
    yield "networkx", "pickle", "digraph.pkl", pickled(nx.gnp_random_graph(9, 0.3, directed=True, seed=seed), 5)
    import numpy as np
    from imblearn import ensemble, over_sampling, pipeline, under_sampling
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(seed)
    X, y = draw.normal(size=(80, 4)), np.r_[np.zeros(60, int), np.ones(20, int)]
    for model in (over_sampling.SMOTE(), over_sampling.ADASYN(), under_sampling.RandomUnderSampler()):
        model.fit_resample(X, y)
        yield "imblearn", "pickle", f"{type(model).__name__}.pkl", pickled(model)
    for model in (ensemble.BalancedRandomForestClassifier(5), pipeline.make_pipeline(over_sampling.SMOTE(), LogisticRegression())):
        yield "imblearn", "joblib", f"{type(model).__name__}.joblib", joblibbed(model.fit(X, y))


def hugging_faces(seed: int) -> Iterator[Made]:
    import torch
    import transformers as tf
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    torch.manual_seed(seed)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 64}
    configs = {
        "bert": tf.BertConfig(**small), "roberta": tf.RobertaConfig(**small), "distilbert": tf.DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, vocab_size=64), "gpt2": tf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=64), "llama": tf.LlamaConfig(**small), "mistral": tf.MistralConfig(**small, num_key_value_heads=2), "qwen2": tf.Qwen2Config(**small, num_key_value_heads=2), "gemma": tf.GemmaConfig(**small, num_key_value_heads=1, head_dim=8), "phi": tf.PhiConfig(**small), "t5": tf.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64), "vit": tf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32), "electra": tf.ElectraConfig(**small, embedding_size=16), "albert": tf.AlbertConfig(**small, embedding_size=16), "opt": tf.OPTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, vocab_size=64, word_embed_proj_dim=16),
    }  # fmt: skip
    for label, config in configs.items():
        model = tf.AutoModel.from_config(config)
        yield (
            f"transformers {label}",
            "hf-repo",
            f"{label}",
            lambda path, model=model, label=label: (
                model.save_pretrained(path),
                (path / "README.md").write_text(
                    f"---\nlicense: apache-2.0\ntags:\n- {label}\n---\n# {label}\n\nA model.\n\n```python\nfrom transformers import AutoModel\n```\n"
                ),
                (path / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n"),
                (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "the", "##s"])),
            ),
        )
        yield (
            f"transformers {label} bin",
            "hf-repo",
            f"{label}-bin",
            lambda path, model=model, config=config: (
                config.save_pretrained(path),
                torch.save(model.state_dict(), path / "pytorch_model.bin"),
            ),
        )
    yield (
        "sharded",
        "hf-repo",
        "sharded",
        lambda path: tf.AutoModel.from_config(configs["bert"]).save_pretrained(path, max_shard_size="8KB"),
    )
    yield (
        "training args",
        "pytorch-zip",
        "training_args.bin",
        lambda path: torch.save(tf.TrainingArguments("out", report_to=[], use_cpu=True), path),
    )
    yield "config pickled", "pickle", "config.pkl", pickled(configs["bert"])
    for label, model, trainer in (
        ("wordpiece", models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
        ("bpe", models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
        ("unigram", models.Unigram(), trainers.UnigramTrainer),
    ):
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.Replace("``", '"')])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel() if label == "bpe" else pre_tokenizers.Whitespace()
        tokenizer.train_from_iterator(
            ["the cat sat on the mat", "a dog ran far away"] * 10,
            trainer(vocab_size=80, special_tokens=["[UNK]", "[PAD]"], show_progress=False),
        )
        yield f"tokenizer {label}", "hf-tokenizer", f"tokenizer-{label}.json", lambda path, tokenizer=tokenizer: tokenizer.save(str(path))
        fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
        fast.chat_template = TEMPLATES[len(label) % len(TEMPLATES)]
        yield f"tokenizer folder {label}", "hf-repo", f"tokenizer-{label}", lambda path, fast=fast: fast.save_pretrained(path)
        yield f"tokenizer pickled {label}", "pickle", f"tokenizer-{label}.pkl", pickled(fast)


TEMPLATES = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "{%- if tools %}{{- '# Tools\\n' }}{%- for tool in tools %}{{- tool | tojson(indent=2) }}{%- endfor %}{%- endif %}{%- set ns = namespace(last=messages|length - 1) %}{%- for message in messages[::-1] %}{%- set ns.last = loop.index0 %}{%- endfor %}{%- if strftime_now is defined %}{{- strftime_now('%d %b %Y') }}{%- endif %}{% macro show(x) %}{{ x|upper }}{% endmacro %}{{ show('a') }}",
)  # fmt: skip
"""Written after the ways of the chat templates in use: ChatML, alternating roles, tools with namespace and macro."""


def documents(seed: int) -> Iterator[Made]:
    import nbformat
    from nbformat import v4

    cells = [
        "import numpy as np\nimport pandas as pd\nimport matplotlib.pyplot as plt",
        "x = np.linspace(0, 1, 50)\nplt.plot(x, x**2)\nplt.show()",
        "df = pd.read_csv('data.csv')\ndf.head()",
        "from sklearn.linear_model import LogisticRegression\nmodel = LogisticRegression().fit(X, y)\nprint(model.score(X, y))",
        "for epoch in range(3):\n    loss = step(model)\n    print(f'{epoch}: {loss:.3f}')",
        "%matplotlib inline\n%time model.fit(X, y)",
    ]
    for index in range(len(cells)):
        book = v4.new_notebook(
            cells=[
                v4.new_markdown_cell("# Notes\n\nSome *text* with `code` and $x^2$."),
                *(
                    v4.new_code_cell(
                        cell,
                        execution_count=1,
                        outputs=[
                            v4.new_output("stream", text="0.93\n"),
                            v4.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}),
                        ],
                    )
                    for cell in cells[: index + 1]
                ),
            ]
        )
        yield f"notebook {index}", "notebook", f"book-{index}.ipynb", lambda path, book=book: nbformat.write(book, path)
    yield (
        "markdown",
        "text",
        "README.md",
        lambda path: path.write_text('# Model card\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<p align="center">text</p>\n\n<!-- note -->\n'),
    )
    yield "licence", "text", "LICENSE", lambda path: path.write_text("Apache License\nVersion 2.0, January 2004\n")
    yield "requirements", "text", "requirements.txt", lambda path: path.write_text("numpy>=2\nscikit-learn==1.5.0\n")
    yield (
        "yaml",
        "yaml",
        "config.yaml",
        lambda path: path.write_text("model:\n  layers: [1, 2, 3]\n  name: x\ntrain: &t\n  lr: 1e-3\neval:\n  <<: *t\n"),
    )
    yield (
        "dvc",
        "yaml",
        "data.csv.dvc",
        lambda path: path.write_text("outs:\n- md5: d41d8cd98f00b204e9800998ecf8427e\n  size: 1\n  path: data.csv\n"),
    )
    import msgpack

    yield "msgpack", "msgpack", "a.msgpack", lambda path: path.write_bytes(msgpack.packb({"w": [1.0, 2.0], "n": b"x"}))
    yield "images", "image", "a.png", lambda path: _image().save(path)
    yield "images", "image", "a.jpg", lambda path: _image().save(path)
    yield "images", "image", "a.webp", lambda path: _image().save(path)
    yield "images", "image", "a.gif", lambda path: _image().save(path)
    yield "images", "image", "a.bmp", lambda path: _image().save(path)
    yield "webdataset", "webdataset", "shard.tar", _shard
    yield (
        "zip of texts",
        "archive",
        "data.zip",
        lambda path: zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED).writestr("a/data.csv", "a,b\n1,2\n"),
    )


def _image() -> Any:
    from PIL import Image

    return Image.radial_gradient("L").resize((32, 32)).convert("RGB")


def _shard(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        for index in range(5):
            picture = io.BytesIO()
            _image().save(picture, "JPEG")
            for suffix, content in (("jpg", picture.getvalue()), ("cls", str(index).encode()), ("json", b'{"caption": "a circle"}')):
                info = tarfile.TarInfo(f"{index:05d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def networks(seed: int) -> Iterator[Made]:
    import keras
    import numpy as np

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    models = {
        "dense": keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(8, activation="relu", kernel_regularizer="l2"),
                layers.Dropout(0.1),
                layers.BatchNormalization(),
                layers.Dense(2, activation="softmax"),
            ]
        ),
        "conv": keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, padding="same"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(1)]
        ),
        "lstm": keras.Sequential([keras.Input((5, 3)), layers.Bidirectional(layers.LSTM(4)), layers.Dense(1)]),
        "embedding": keras.Sequential(
            [keras.Input((6,)), layers.Embedding(20, 4), layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")]
        ),
        "augmented": keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Rescaling(1 / 255),
                layers.RandomFlip(),
                layers.SeparableConv2D(4, 3),
                layers.GlobalMaxPooling2D(),
            ]
        ),
    }
    entry = keras.Input((4,))
    joined = layers.Concatenate()([layers.Dense(3, activation="gelu")(entry), layers.LayerNormalization()(layers.Dense(3)(entry))])
    models["functional"] = keras.Model(entry, layers.Dense(1)(joined))
    for label, model in models.items():
        model.compile(optimizer="adam", loss="mse", metrics=["mae"])
        yield f"keras {label}", "keras-v3", f"{label}.keras", lambda path, model=model: model.save(path)
        yield f"keras {label}", "keras-h5", f"{label}.h5", lambda path, model=model: model.save(path)
        yield f"keras {label}", "hdf5", f"{label}.weights.h5", lambda path, model=model: model.save_weights(path)
    from skl2onnx import to_onnx
    from sklearn import ensemble, linear_model, pipeline, preprocessing, tree

    draw = np.random.default_rng(seed)
    X, y = draw.normal(size=(50, 4)).astype("f4"), draw.integers(0, 2, 50)
    for model in (
        linear_model.LogisticRegression(),
        tree.DecisionTreeClassifier(),
        ensemble.RandomForestClassifier(5),
        ensemble.GradientBoostingClassifier(n_estimators=3),
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()),
        linear_model.LinearRegression(),
    ):
        yield (
            f"onnx {type(model).__name__}",
            "onnx",
            f"{type(model).__name__}.onnx",
            lambda path, model=model: path.write_bytes(to_onnx(model.fit(X, y), X[:1]).SerializeToString()),
        )
    import skops.io

    for model in (
        linear_model.LogisticRegression(),
        tree.DecisionTreeClassifier(),
        ensemble.RandomForestClassifier(5),
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge()),
    ):
        yield (
            f"skops {type(model).__name__}",
            "skops",
            f"{type(model).__name__}.skops",
            lambda path, model=model: skops.io.dump(model.fit(X, y), path),
        )
    import gguf

    for kind in ("f32", "q8_0"):
        yield f"gguf {kind}", "gguf", f"{kind}.gguf", lambda path, kind=kind: _gguf(gguf, path, kind)
    import flax.serialization

    yield (
        "flax",
        "msgpack",
        "flax.msgpack",
        lambda path: path.write_bytes(flax.serialization.to_bytes({"params": {"w": np.zeros((3, 4), "f4"), "b": np.zeros(4, "f2")}})),
    )
    import openvino as ov

    yield "openvino", "openvino", "ov", lambda path: (path.mkdir(exist_ok=True), ov.save_model(_ov(ov), path / "model.xml"))


def _gguf(gguf: Any, path: Path, kind: str) -> None:
    import numpy as np

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(["a", "b"])
    writer.add_chat_template(TEMPLATES[0])
    plain = np.zeros((32, 32), "f4")
    if kind == "f32":
        writer.add_tensor("w", plain)
    else:
        writer.add_tensor("w", gguf.quantize(plain, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _ov(ov: Any) -> Any:
    import numpy as np

    ops = ov.opset13 if hasattr(ov, "opset13") else __import__("openvino.opset13", fromlist=["x"])
    entry = ops.parameter([1, 4], np.float32)
    return ov.Model([ops.matmul(entry, ops.constant(np.ones((4, 2), "f4")), False, False)], [entry])


def held_out(seed: int) -> Iterator[Made]:
    """Libraries that nothing was tuned on."""
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(seed)
    X, y = draw.normal(size=(60, 3)), draw.integers(0, 2, 60)
    frame = pd.DataFrame({"a": draw.choice(list("xyz"), 60), "b": X[:, 0]})
    for maker in (_encoders, _lifelines, _pmdarima, _hdbscan, _sktime):
        try:
            yield from maker(frame, X, y)
        except Exception as error:
            tell(f"{maker.__name__}: {error!r}"[:150])


def _encoders(frame: Any, X: Any, y: Any) -> Iterator[Made]:
    import category_encoders as ce

    for kind in (ce.TargetEncoder, ce.OrdinalEncoder, ce.BinaryEncoder, ce.OneHotEncoder, ce.CountEncoder, ce.HashingEncoder):
        yield "category-encoders", "pickle", f"{kind.__name__}.pkl", pickled(kind(cols=["a"]).fit(frame, y))


def _lifelines(frame: Any, X: Any, y: Any) -> Iterator[Made]:
    import lifelines

    fitter = lifelines.KaplanMeierFitter().fit(abs(X[:, 0]), y)
    yield "lifelines", "pickle", "km.pkl", pickled(fitter)


def _pmdarima(frame: Any, X: Any, y: Any) -> Iterator[Made]:
    import pmdarima

    yield "pmdarima", "pickle", "arima.pkl", pickled(pmdarima.ARIMA((1, 0, 0)).fit(X[:, 0]))


def _hdbscan(frame: Any, X: Any, y: Any) -> Iterator[Made]:
    import hdbscan

    yield "hdbscan", "pickle", "hdbscan.pkl", pickled(hdbscan.HDBSCAN().fit(X))


def _sktime(frame: Any, X: Any, y: Any) -> Iterator[Made]:
    from sktime.forecasting.naive import NaiveForecaster

    yield "sktime", "pickle", "naive.pkl", pickled(NaiveForecaster().fit(frame.b, fh=[1]))


MAKERS: dict[str, Callable[[int], Iterator[Made]]] = {
    "python": values, "numpy": arrays, "pandas": frames, "scikit-learn": sklearn_models, "sklearn-composed": composed, "torch": torches, "boosting": boosted,
    "statsmodels": statistics, "others": graphs, "transformers": hugging_faces, "networks": networks, "documents": documents, "held-out": held_out,
}  # fmt: skip


def tell(line: str) -> None:
    print("not made:", line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--only", nargs="*", default=list(MAKERS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for group in options.only:
        folder = options.folder / group
        folder.mkdir(exist_ok=True)
        try:
            for what, form, name, write in MAKERS[group](options.seed):
                path = folder / name
                try:
                    if form in ("hf-repo", "openvino"):
                        path.mkdir(exist_ok=True)
                    write(path)
                except Exception as error:
                    tell(f"{what}: {error!r}"[:160])
                    if path.is_file():
                        path.unlink()
                    continue
                rows.append(
                    {
                        "path": str(path.relative_to(options.folder)),
                        "format": form,
                        "group": group,
                        "what": what,
                        "held": group == "held-out",
                    }
                )
        except Exception as error:
            tell(f"the rest of {group}: {error!r}"[:200])
    (options.folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(len(rows), "files", {name: version(name) for name in ("numpy", "scikit-learn", "pandas")})


if __name__ == "__main__":
    main()
