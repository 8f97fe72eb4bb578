"""Varied parameters of scikit-learn: pipelines, column transformers, searches, kernels, callables, sparse and categorical data, random states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse, stats
from sklearn import (
    calibration,
    cluster,
    compose,
    covariance,
    datasets,
    decomposition,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    metrics,
    model_selection,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.gaussian_process import kernels


def _x() -> Any:
    return np.random.default_rng(0).normal(size=(80, 4))


def _y() -> Any:
    return (_x()[:, 0] > 0).astype(int)


def _z() -> Any:
    return _x()[:, 1] * 2 + 1


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself."""
    for table in (_linear(), _trees(), _composed(), _searched(), _gaussian(), _prepared(), _neighbours(), _results()):
        for label, thunk in table.items():
            yield f"sklearn-{label}", thunk


def _fit(model: Any, target: Any = None, data: Any = None) -> Callable[[], Any]:
    return lambda: model.fit(_x() if data is None else data, target)


def _linear() -> dict[str, Callable[[], Any]]:
    losses = ("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber", "epsilon_insensitive")
    sgd = {f"sgd-{loss}": _fit(linear_model.SGDClassifier(loss=loss, max_iter=5), _y()) for loss in losses}
    glm = {
        f"logistic-{solver}": _fit(linear_model.LogisticRegression(solver=solver, max_iter=20), _y())
        for solver in ("lbfgs", "saga", "liblinear", "newton-cg", "newton-cholesky", "sag")
    }
    ridge = {f"ridge-{solver}": _fit(linear_model.Ridge(solver=solver), _z()) for solver in ("auto", "svd", "cholesky", "lsqr", "sag")}
    svms = {
        f"svc-{kernel}": _fit(svm.SVC(kernel=kernel, probability=kernel == "rbf"), _y()) for kernel in ("linear", "rbf", "poly", "sigmoid")
    }
    return (
        sgd
        | glm
        | ridge
        | svms
        | {
            "sgd-early": _fit(linear_model.SGDClassifier(early_stopping=True, random_state=np.random.RandomState(1)), _y()),
            "tweedie-log": _fit(linear_model.TweedieRegressor(power=1, link="log"), np.abs(_z())),
            "gamma-regressor": _fit(linear_model.GammaRegressor(), np.abs(_z()) + 1),
            "ransac": _fit(linear_model.RANSACRegressor(random_state=1), _z()),
            "multitask": _fit(linear_model.MultiTaskElasticNet(), _x()[:, :2]),
            "svr-sparse": lambda: svm.SVR().fit(sparse.csr_matrix(_x()), _z()),
            "logistic-strings": lambda: linear_model.LogisticRegression().fit(_x(), np.where(_y() == 1, "yes", "no")),
            "logistic-float32": lambda: linear_model.LogisticRegression().fit(_x().astype("f4"), _y()),
            "logistic-weights": _fit(linear_model.LogisticRegression(class_weight={0: 1.0, 1: 2.0}), _y()),
            "mlp-adam": _fit(neural_network.MLPClassifier((8, 4), max_iter=5), _y()),
            "mlp-sgd": _fit(neural_network.MLPRegressor(hidden_layer_sizes=(8,), solver="sgd", max_iter=5, early_stopping=True), _z()),
            "mlp-lbfgs": _fit(neural_network.MLPClassifier((8,), solver="lbfgs", max_iter=5), _y()),
        }
    )


def _trees() -> dict[str, Callable[[], Any]]:
    boost = {
        f"gbc-{loss}": _fit(ensemble.GradientBoostingClassifier(loss=loss, n_estimators=5), _y()) for loss in ("log_loss", "exponential")
    }
    regress = {
        f"gbr-{loss}": _fit(ensemble.GradientBoostingRegressor(loss=loss, n_estimators=5), _z())
        for loss in ("squared_error", "absolute_error", "huber", "quantile")
    }
    hist = {
        f"hist-{loss}": _fit(
            ensemble.HistGradientBoostingRegressor(loss=loss, max_iter=5, quantile=0.5 if loss == "quantile" else None), np.abs(_z())
        )
        for loss in ("squared_error", "absolute_error", "poisson", "quantile", "gamma")
    }
    trees = {
        f"tree-{criterion}": _fit(tree.DecisionTreeRegressor(criterion=criterion, max_depth=3), np.abs(_z()) + 1)
        for criterion in ("squared_error", "friedman_mse", "absolute_error", "poisson")
    }
    return (
        boost
        | regress
        | hist
        | trees
        | {
            "tree-entropy": _fit(tree.DecisionTreeClassifier(criterion="entropy", max_features="sqrt"), _y()),
            "tree-multioutput": lambda: tree.DecisionTreeClassifier(max_depth=3).fit(_x(), np.stack([_y(), _y()], 1)),
            "forest-oob": _fit(ensemble.RandomForestClassifier(5, oob_score=True, random_state=np.random.RandomState(3)), _y()),
            "hist-classifier": _fit(ensemble.HistGradientBoostingClassifier(max_iter=5, early_stopping=True), _y()),
            "hist-multiclass": lambda: ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[3]).fit(
                np.c_[_x()[:, :3], np.arange(80) % 4], np.arange(80) % 3
            ),
            "hist-interaction": _fit(
                ensemble.HistGradientBoostingRegressor(max_iter=3, monotonic_cst=[1, 0, 0, -1], interaction_cst="pairwise"), _z()
            ),
            "hist-pandas": _hist_pandas,
            "gbc-multiclass": lambda: ensemble.GradientBoostingClassifier(n_estimators=3).fit(_x(), np.arange(80) % 3),
            "gbc-init": _fit(ensemble.GradientBoostingRegressor(n_estimators=3, init=linear_model.Ridge()), _z()),
            "isolation": _fit(ensemble.IsolationForest(n_estimators=5)),
            "adaboost": _fit(ensemble.AdaBoostClassifier(tree.DecisionTreeClassifier(max_depth=1), n_estimators=4), _y()),
            "bagging": _fit(ensemble.BaggingClassifier(linear_model.LogisticRegression(), 3), _y()),
            "stacking": _fit(
                ensemble.StackingClassifier([("a", naive_bayes.GaussianNB()), ("b", tree.DecisionTreeClassifier(max_depth=2))], cv=3), _y()
            ),
            "voting": _fit(
                ensemble.VotingClassifier(
                    [("a", naive_bayes.GaussianNB()), ("b", "drop"), ("c", svm.SVC(probability=True))], voting="soft"
                ),
                _y(),
            ),
        }
    )


def _hist_pandas() -> Any:
    import pandas as pd

    table = pd.DataFrame(_x(), columns=list("abcd")).assign(e=pd.Categorical(np.where(_y() == 1, "u", "v")))
    return ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype").fit(table, _y())


def _frame() -> Any:
    import pandas as pd

    return pd.DataFrame(_x(), columns=list("abcd")).assign(e=np.where(_y() == 1, "u", "v"), f=pd.Categorical(["p", "q"] * 40))


def _composed() -> dict[str, Callable[[], Any]]:
    def columns() -> Any:
        return compose.ColumnTransformer(
            [
                ("num", pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler()), ["a", "b"]),
                ("cat", preprocessing.OneHotEncoder(handle_unknown="ignore"), compose.make_column_selector(dtype_include=object)),
                ("ord", preprocessing.OrdinalEncoder(), ["f"]),
            ],
            remainder="passthrough",
        )

    return {
        "pipeline": _fit(pipeline.Pipeline([("s", preprocessing.StandardScaler()), ("m", linear_model.LogisticRegression())]), _y()),
        "pipeline-pca-svc": _fit(pipeline.make_pipeline(preprocessing.RobustScaler(), decomposition.PCA(2), svm.SVC()), _y()),
        "pipeline-text": lambda: pipeline.make_pipeline(
            feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2), stop_words="english"), linear_model.SGDClassifier()
        ).fit(["good words", "bad words"] * 20, [0, 1] * 20),
        "pipeline-hashing": lambda: pipeline.make_pipeline(
            feature_extraction.text.HashingVectorizer(n_features=64), naive_bayes.BernoulliNB()
        ).fit(["good words", "bad words"] * 20, [0, 1] * 20),
        "columns": lambda: pipeline.make_pipeline(columns(), ensemble.RandomForestClassifier(3)).fit(_frame(), _y()),
        "columns-slice": _fit(compose.ColumnTransformer([("a", preprocessing.MinMaxScaler(), slice(0, 2)), ("b", "drop", [2])]), None),
        "columns-pandas-out": lambda: columns().set_output(transform="default").fit(_frame(), _y()),
        "union": _fit(pipeline.make_union(decomposition.PCA(1), feature_selection.SelectKBest(k=1)), _y()),
        "target": _fit(compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1), np.abs(_z())),
        "target-quantile": _fit(
            compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.QuantileTransformer(n_quantiles=10)), _z()
        ),
        "function-log1p": lambda: preprocessing.FunctionTransformer(np.log1p, inverse_func=np.expm1).fit(np.abs(_x())),
        "function-kw": lambda: preprocessing.FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 1}).fit(_x()),
        "calibrated": _fit(calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3), _y()),
        "calibrated-isotonic": _fit(calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method="isotonic", cv=3), _y()),
        "onevsrest": lambda: multiclass.OneVsRestClassifier(svm.SVC()).fit(_x(), np.arange(80) % 3),
        "rfe": _fit(feature_selection.RFECV(linear_model.LogisticRegression(), cv=3), _y()),
        "selectkbest-mi": _fit(feature_selection.SelectKBest(feature_selection.mutual_info_classif, k=2), _y()),
        "selectkbest-chi2": lambda: feature_selection.SelectKBest(feature_selection.chi2, k=2).fit(np.abs(_x()), _y()),
        "selectkbest-f": _fit(feature_selection.SelectKBest(feature_selection.f_regression, k=2), _z()),
        "sequential": _fit(feature_selection.SequentialFeatureSelector(linear_model.Ridge(), n_features_to_select=2, cv=3), _z()),
        "select-from-model": _fit(feature_selection.SelectFromModel(ensemble.RandomForestClassifier(3)), _y()),
        "iterative-imputer": _iterative,
        "cached-pipeline": lambda: pipeline.Pipeline(
            [("s", preprocessing.StandardScaler()), ("m", linear_model.Ridge())], verbose=True
        ).fit(_x(), _z()),
    }


def _iterative() -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401

    data = _x()
    data[0, 0] = np.nan
    return impute.IterativeImputer(max_iter=2).fit(data)


def _searched() -> dict[str, Callable[[], Any]]:
    ms = model_selection
    ridge = linear_model.Ridge
    return {
        "grid": _fit(ms.GridSearchCV(ridge(), {"alpha": [0.1, 1.0]}, cv=3), _z()),
        "grid-scoring": _fit(
            ms.GridSearchCV(
                svm.SVC(),
                {"C": [1, 2], "kernel": ["rbf", "linear"]},
                scoring=["accuracy", "f1"],
                refit="f1",
                cv=ms.StratifiedKFold(3, shuffle=True, random_state=1),
            ),
            _y(),
        ),
        "grid-scorer": _fit(
            ms.GridSearchCV(
                ridge(), {"alpha": [1.0]}, scoring=metrics.make_scorer(metrics.mean_absolute_error, greater_is_better=False), cv=3
            ),
            _z(),
        ),
        "random-search": _fit(ms.RandomizedSearchCV(ridge(), {"alpha": stats.loguniform(0.1, 10)}, n_iter=3, cv=3, random_state=1), _z()),
        "random-search-dist": _fit(
            ms.RandomizedSearchCV(
                ensemble.RandomForestRegressor(2),
                {"max_depth": stats.randint(1, 4), "max_features": stats.uniform(0.3, 0.5)},
                n_iter=2,
                cv=3,
            ),
            _z(),
        ),
        "grid-pipeline": _fit(
            ms.GridSearchCV(
                pipeline.Pipeline([("s", preprocessing.StandardScaler()), ("m", ridge())]),
                {"m__alpha": np.logspace(-1, 1, 3), "s": [preprocessing.MinMaxScaler(), "passthrough"]},
                cv=3,
            ),
            _z(),
        ),
        "splitters": lambda: [
            ms.KFold(3),
            ms.StratifiedKFold(3),
            ms.TimeSeriesSplit(3),
            ms.ShuffleSplit(2, random_state=1),
            ms.GroupKFold(2),
            ms.LeaveOneOut(),
            ms.RepeatedKFold(n_splits=2),
            ms.RepeatedStratifiedKFold(n_splits=2),
            ms.PredefinedSplit([0, 1, 0]),
            ms.StratifiedShuffleSplit(2),
            ms.GroupShuffleSplit(2),
            ms.LeavePOut(2),
            ms.StratifiedGroupKFold(2),
        ],
        "scorers": lambda: {name: metrics.get_scorer(name) for name in metrics.get_scorer_names()},
        "parameter-grid": lambda: [ms.ParameterGrid({"a": [1, 2]}), ms.ParameterSampler({"a": stats.uniform()}, 2)],
        "cross-validate": lambda: ms.cross_validate(ridge(), _x(), _z(), cv=3, return_estimator=True),
        "metrics-functions": lambda: [
            metrics.accuracy_score,
            metrics.f1_score,
            metrics.roc_auc_score,
            metrics.mean_squared_error,
            metrics.r2_score,
            metrics.log_loss,
            metrics.pairwise.rbf_kernel,
            metrics.pairwise.cosine_similarity,
            metrics.euclidean_distances,
        ],
    }


def _gaussian() -> dict[str, Callable[[], Any]]:
    k = kernels
    made = {
        "rbf": k.RBF(),
        "matern": k.Matern(nu=1.5),
        "rq": k.RationalQuadratic(),
        "ess": k.ExpSineSquared(),
        "dot": k.DotProduct(),
        "white": k.RBF() + k.WhiteKernel(),
        "const": k.ConstantKernel() * k.RBF([1, 1, 1, 1]),
        "exp": k.Exponentiation(k.RBF(), 2),
        "pairwise": k.PairwiseKernel(metric="rbf"),
        "compound": k.CompoundKernel([k.RBF()]),
    }
    out = {
        f"gpr-{name}": _fit(gaussian_process.GaussianProcessRegressor(kernel, optimizer=None), _z())
        for name, kernel in made.items()
        if name != "compound"
    }
    return out | {
        "gpc": _fit(gaussian_process.GaussianProcessClassifier(k.RBF()), _y()),
        "gpc-multiclass": lambda: gaussian_process.GaussianProcessClassifier(multi_class="one_vs_rest").fit(_x(), np.arange(80) % 3),
        "kernels": lambda: made,
    }


def _prepared() -> dict[str, Callable[[], Any]]:
    p = preprocessing
    text = feature_extraction.text
    docs = ["some words here", "other words there"] * 5
    return {
        "onehot-drop": lambda: p.OneHotEncoder(drop="first", sparse_output=False).fit(_frame()[["e", "f"]]),
        "onehot-infrequent": lambda: p.OneHotEncoder(min_frequency=2, max_categories=3, handle_unknown="infrequent_if_exist").fit(
            _frame()[["e"]]
        ),
        "onehot-dtype": lambda: p.OneHotEncoder(dtype=np.float32).fit(_frame()[["e"]]),
        "onehot-objects": lambda: p.OneHotEncoder().fit(np.array([["a", 1], ["b", 2]], dtype=object)),
        "ordinal-unknown": lambda: p.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.int64).fit(
            _frame()[["e"]]
        ),
        "target-encoder": lambda: p.TargetEncoder(cv=2).fit(_frame()[["e"]], _z()),
        "label-encoder": lambda: p.LabelEncoder().fit(["a", "b", "c"]),
        "kbins": _fit(p.KBinsDiscretizer(3, encode="ordinal")),
        "power": _fit(p.PowerTransformer()),
        "quantile": _fit(p.QuantileTransformer(n_quantiles=10, output_distribution="normal")),
        "scaler-frame": lambda: p.StandardScaler().fit(_frame()[list("abcd")]),
        "spline-sparse": _fit(p.SplineTransformer(sparse_output=True)),
        "polynomial-sparse": lambda: p.PolynomialFeatures(3, interaction_only=True).fit(sparse.csr_matrix(_x())),
        "tfidf": lambda: text.TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit(docs),
        "tfidf-char": lambda: text.TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit(docs),
        "count-callable": lambda: text.CountVectorizer(tokenizer=str.split, preprocessor=str.lower, token_pattern=None).fit(docs),
        "count-vocabulary": lambda: text.CountVectorizer(vocabulary={"some": 0, "words": 1}).fit(docs),
        "count-frozen-stop": lambda: text.CountVectorizer(stop_words=["here"], binary=True).fit(docs),
        "dictvectorizer": lambda: feature_extraction.DictVectorizer().fit([{"a": 1, "b": "x"}]),
        "hasher": lambda: feature_extraction.FeatureHasher(8).fit([{"a": 1}]),
        "lda": lambda: decomposition.LatentDirichletAllocation(2, max_iter=2, random_state=np.random.RandomState(1)).fit(np.abs(_x())),
        "pca-randomized": _fit(decomposition.PCA(2, svd_solver="randomized", random_state=1)),
        "kernel-pca": _fit(decomposition.KernelPCA(2, kernel="rbf", fit_inverse_transform=True)),
        "ica": _fit(decomposition.FastICA(2, fun="cube")),
        "covariance": lambda: [
            getattr(covariance, name)().fit(_x())
            for name in ("EmpiricalCovariance", "LedoitWolf", "OAS", "MinCovDet", "EllipticEnvelope", "GraphicalLasso")
        ],
    }


def _neighbours() -> dict[str, Callable[[], Any]]:
    n = neighbors
    out = {f"knn-{kind}": _fit(n.KNeighborsClassifier(3, algorithm=kind), _y()) for kind in ("ball_tree", "kd_tree", "brute")}
    measured = {
        f"balltree-{metric}": lambda metric=metric: n.BallTree(np.abs(_x()[:, :2]), metric=metric)
        for metric in ("euclidean", "manhattan", "chebyshev", "haversine", "canberra", "braycurtis", "hamming", "jaccard")
    }
    return (
        out
        | measured
        | {
            "knn-weights": _fit(n.KNeighborsRegressor(3, weights="distance", metric="minkowski", p=3), _z()),
            "knn-mahalanobis": lambda: n.BallTree(_x(), metric="mahalanobis", V=np.eye(4)),
            "knn-seuclidean": lambda: n.BallTree(_x(), metric="seuclidean", V=np.ones(4)),
            "knn-minkowski-tree": lambda: n.KDTree(_x(), metric="minkowski", p=3),
            "knn-float32": lambda: n.NearestNeighbors(algorithm="kd_tree").fit(_x().astype("f4")),
            "kde": _fit(n.KernelDensity(kernel="gaussian", algorithm="kd_tree")),
            "lof-novelty": _fit(n.LocalOutlierFactor(novelty=True, n_neighbors=5)),
            "distance-metrics": lambda: [
                metrics.DistanceMetric.get_metric(name) for name in ("euclidean", "manhattan", "haversine", "hamming", "canberra")
            ],
            "birch": _fit(cluster.Birch(n_clusters=3)),
            "kmeans-init": lambda: cluster.KMeans(2, init=_x()[:2], n_init=1).fit(_x()),
            "bisecting": _fit(cluster.BisectingKMeans(3)),
            "hdbscan": _fit(cluster.HDBSCAN(min_cluster_size=5)),
            "optics": _fit(cluster.OPTICS(min_samples=5)),
            "agglomerative-connectivity": lambda: cluster.AgglomerativeClustering(
                2, connectivity=n.kneighbors_graph(_x(), 5), compute_distances=True
            ).fit(_x()),
            "feature-agglomeration": _fit(cluster.FeatureAgglomeration(2, pooling_func=np.median)),
        }
    )


def _results() -> dict[str, Callable[[], Any]]:
    return {
        "bunch-iris": datasets.load_iris,
        "bunch-iris-frame": lambda: datasets.load_iris(as_frame=True),
        "bunch-digits": lambda: datasets.load_digits(n_class=2),
        "model-with-meta": lambda: {
            "model": linear_model.Ridge().fit(_x(), _z()),
            "features": list("abcd"),
            "metrics": {"r2": np.float64(0.9)},
            "created": __import__("datetime").datetime(2024, 1, 1),
        },
        "model-list": lambda: [linear_model.Ridge().fit(_x(), _z()), preprocessing.StandardScaler().fit(_x())],
        "model-tuple": lambda: (tree.DecisionTreeClassifier(max_depth=2).fit(_x(), _y()), np.array(["a", "b"])),
        "classes": lambda: [linear_model.Ridge, svm.SVC],
        "random-states": lambda: [ensemble.RandomForestClassifier(2, random_state=np.random.RandomState(7)).fit(_x(), _y())],
    }
