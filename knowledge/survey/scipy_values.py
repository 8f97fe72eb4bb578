"""Sparse matrices and arrays, distributions, interpolators, spatial indexes, rotations, optimiser results and filters of scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy
from scipy import integrate, interpolate, ndimage, optimize, signal, sparse, spatial, special, stats

FORMATS = ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself."""
    yield from _sparse()
    yield from _stats()
    yield from _interpolators()
    yield from _others()


def _sparse() -> Iterator[tuple[str, Callable[[], Any]]]:
    for kind in FORMATS:
        yield f"scipy-{kind}-matrix", lambda kind=kind: getattr(sparse, f"{kind}_matrix")(np.eye(4))
        if hasattr(sparse, f"{kind}_array"):
            yield f"scipy-{kind}-array", lambda kind=kind: getattr(sparse, f"{kind}_array")(np.eye(4, dtype="f4"))
    yield "scipy-sparse-int", lambda: sparse.csr_matrix(np.array([[1, 0], [0, 2]], dtype="i8"))
    yield "scipy-sparse-bool", lambda: sparse.csc_matrix(np.array([[1, 0], [0, 1]], dtype=bool))
    yield "scipy-sparse-random", lambda: sparse.random(50, 50, density=0.1, format="csr", random_state=0)
    yield "scipy-linear-operator", lambda: sparse.linalg.aslinearoperator(np.eye(3))


def _stats() -> Iterator[tuple[str, Callable[[], Any]]]:
    for name in (
        "norm",
        "uniform",
        "beta",
        "gamma",
        "expon",
        "t",
        "chi2",
        "f",
        "lognorm",
        "loguniform",
        "randint",
        "poisson",
        "binom",
        "truncnorm",
        "weibull_min",
        "cauchy",
        "laplace",
        "pareto",
        "genextreme",
        "geom",
        "nbinom",
        "bernoulli",
        "reciprocal",
    ):
        yield f"scipy-stats-{name}", lambda name=name: getattr(stats, name)
        yield (
            f"scipy-frozen-{name}",
            lambda name=name: getattr(stats, name)(
                *(
                    [0.5, 0.7, 0.2][: getattr(stats, name).numargs]
                    if name not in ("randint", "loguniform", "reciprocal", "truncnorm", "nbinom", "binom")
                    else [1, 10]
                    if name != "binom"
                    else [5, 0.5]
                )
            ),
        )
    yield "scipy-frozen-kwargs", lambda: stats.norm(loc=1, scale=2)
    yield "scipy-multivariate-normal", lambda: stats.multivariate_normal([0, 0], np.eye(2))
    yield "scipy-dirichlet", lambda: stats.dirichlet([1, 2])
    yield "scipy-gaussian-kde", lambda: stats.gaussian_kde(np.random.default_rng(0).normal(size=30))
    yield "scipy-rv-histogram", lambda: stats.rv_histogram(np.histogram(np.arange(10.0)))
    yield "scipy-rv-discrete-values", lambda: stats.rv_discrete(values=([1, 2], [0.5, 0.5]))
    yield "scipy-ttest", lambda: stats.ttest_ind([1, 2, 3], [2, 3, 5])
    yield "scipy-linregress", lambda: stats.linregress([1, 2, 3], [2, 3, 5])
    yield "scipy-pearsonr", lambda: stats.pearsonr([1.0, 2, 3], [2.0, 3, 5])
    yield "scipy-describe", lambda: stats.describe([1, 2, 3])
    yield "scipy-shapiro", lambda: stats.shapiro([1.0, 2, 3, 5, 9])
    yield "scipy-mode", lambda: stats.mode([1, 2, 2])
    yield "scipy-ks", lambda: stats.kstest([0.1, 0.4], "norm")
    yield "scipy-f-oneway", lambda: stats.f_oneway([1, 2, 3], [2, 3, 4])
    yield "scipy-chi2-contingency", lambda: stats.chi2_contingency([[10, 20], [30, 5]])
    yield "scipy-ecdf", lambda: stats.ecdf([1.0, 2, 3])
    yield "scipy-qmc", lambda: stats.qmc.Sobol(2, seed=1)
    yield "scipy-qmc-halton", lambda: stats.qmc.Halton(2, seed=1)


def _interpolators() -> Iterator[tuple[str, Callable[[], Any]]]:
    x = np.arange(8.0)
    y = x**2
    for kind in ("linear", "cubic", "nearest", "previous", "quadratic", "zero"):
        yield f"scipy-interp1d-{kind}", lambda kind=kind: interpolate.interp1d(x, y, kind=kind)
    yield "scipy-interp1d-extrapolate", lambda: interpolate.interp1d(x, y, fill_value="extrapolate")
    yield "scipy-interp1d-bounds", lambda: interpolate.interp1d(x, y, bounds_error=False, fill_value=(0, 1))
    yield "scipy-cubicspline", lambda: interpolate.CubicSpline(x, y)
    yield "scipy-pchip", lambda: interpolate.PchipInterpolator(x, y)
    yield "scipy-akima", lambda: interpolate.Akima1DInterpolator(x, y)
    yield "scipy-bspline", lambda: interpolate.make_interp_spline(x, y)
    yield "scipy-ppoly", lambda: interpolate.PPoly(np.ones((2, 3)), np.arange(4.0))
    yield "scipy-univariate-spline", lambda: interpolate.UnivariateSpline(x, y)
    yield "scipy-interpolated-spline", lambda: interpolate.InterpolatedUnivariateSpline(x, y)
    yield "scipy-smooth-bivariate", lambda: interpolate.RectBivariateSpline(x, x, np.outer(y, y))
    yield "scipy-regular-grid", lambda: interpolate.RegularGridInterpolator((x, x), np.outer(y, y))
    yield "scipy-linear-nd", lambda: interpolate.LinearNDInterpolator(np.random.default_rng(0).random((10, 2)), np.arange(10.0))
    yield "scipy-nearest-nd", lambda: interpolate.NearestNDInterpolator(np.random.default_rng(0).random((10, 2)), np.arange(10.0))
    yield "scipy-rbf", lambda: interpolate.RBFInterpolator(np.random.default_rng(0).random((10, 2)), np.arange(10.0))
    yield "scipy-barycentric", lambda: interpolate.BarycentricInterpolator(x, y)
    yield "scipy-krogh", lambda: interpolate.KroghInterpolator(x, y)
    yield "scipy-splrep", lambda: interpolate.splrep(x, y)


def _others() -> Iterator[tuple[str, Callable[[], Any]]]:
    points = np.random.default_rng(0).random((30, 3))
    yield "scipy-ckdtree", lambda: spatial.cKDTree(points)
    yield "scipy-kdtree", lambda: spatial.KDTree(points)
    yield "scipy-rotation", lambda: spatial.transform.Rotation.from_euler("z", 45, degrees=True)
    yield "scipy-delaunay", lambda: spatial.Delaunay(points)
    yield "scipy-minimize", lambda: optimize.minimize(lambda v: float((v**2).sum()), np.ones(2))
    yield "scipy-lbfgs", lambda: optimize.minimize(lambda v: float((v**2).sum()), np.ones(2), method="L-BFGS-B")
    yield "scipy-nelder-mead", lambda: optimize.minimize(lambda v: float((v**2).sum()), np.ones(2), method="Nelder-Mead")
    yield "scipy-least-squares", lambda: optimize.least_squares(lambda v: v - 1, np.ones(2))
    yield "scipy-linprog", lambda: optimize.linprog([1, 2], bounds=[(0, 1), (0, 1)])
    yield "scipy-root-scalar", lambda: optimize.root_scalar(lambda v: v - 1, bracket=(0, 3))
    yield (
        "scipy-differential-evolution",
        lambda: optimize.differential_evolution(lambda v: float((v**2).sum()), [(-1, 1)], seed=1, maxiter=2),
    )
    yield "scipy-bounds", lambda: [optimize.Bounds(0, 1), optimize.LinearConstraint(np.eye(2), 0, 1)]
    yield "scipy-solve-ivp", lambda: integrate.solve_ivp(lambda t, v: -v, (0, 1), [1.0])
    yield "scipy-butter", lambda: signal.butter(3, 0.2)
    yield "scipy-lti", lambda: [signal.lti([1], [1, 2]), signal.StateSpace([[1]], [[1]], [[1]], [[0]]), signal.dlti([1], [1, 0.5])]
    yield (
        "scipy-functions",
        lambda: {
            "f": [
                special.expit,
                special.logit,
                spatial.distance.euclidean,
                spatial.distance.cosine,
                stats.zscore,
                signal.savgol_filter,
                ndimage.gaussian_filter,
                spatial.distance.cdist,
                stats.spearmanr,
                special.softmax,
                special.gamma,
                scipy.linalg.svd,
            ]
        },
    )
    yield "scipy-linalg-lu", lambda: scipy.linalg.lu_factor(np.eye(3) + 1)
