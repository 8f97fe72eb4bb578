"""Models and results of statsmodels, and what it stands on (patsy, formulaic)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.nonparametric.smoothers_lowess import lowess
from statsmodels.tsa import api as tsa


def _table() -> Any:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=60), "w": rng.normal(size=60), "g": list("abc") * 20})
    return table.assign(y=table.x * 2 + rng.normal(size=60), k=(table.x > 0).astype(int), n=rng.poisson(2, 60))


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself."""
    t = _table()
    x = sm.add_constant(t[["x", "w"]])
    series = pd.Series(np.cumsum(np.random.default_rng(0).normal(size=80)), index=pd.date_range("2024", periods=80))
    table: dict[str, Callable[[], Any]] = {
        "ols": lambda: sm.OLS(t.y, x).fit(),
        "ols-robust": lambda: sm.OLS(t.y, x).fit(cov_type="HC1"),
        "ols-arrays": lambda: sm.OLS(t.y.values, x.values).fit(),
        "ols-model": lambda: sm.OLS(t.y, x),
        "wls": lambda: sm.WLS(t.y, x, weights=np.ones(60)).fit(),
        "gls": lambda: sm.GLS(t.y, x).fit(),
        "rlm": lambda: sm.RLM(t.y, x).fit(),
        "logit": lambda: sm.Logit(t.k, x[["const", "w"]]).fit(disp=0),
        "probit": lambda: sm.Probit(t.k, x[["const", "w"]]).fit(disp=0),
        "poisson": lambda: sm.Poisson(t.n, x).fit(disp=0),
        "mnlogit": lambda: sm.MNLogit(np.arange(60) % 3, x).fit(disp=0),
        "negbin": lambda: sm.NegativeBinomial(t.n, x).fit(disp=0),
        "glm-binomial": lambda: sm.GLM(t.k, x[["const", "w"]], family=sm.families.Binomial()).fit(),
        "glm-poisson": lambda: sm.GLM(t.n, x, family=sm.families.Poisson()).fit(),
        "glm-gamma": lambda: sm.GLM(np.abs(t.y) + 1, x, family=sm.families.Gamma(sm.families.links.Log())).fit(),
        "glm-gaussian": lambda: sm.GLM(t.y, x).fit(),
        "quantreg": lambda: sm.QuantReg(t.y, x).fit(),
        "mixedlm": lambda: sm.MixedLM(t.y, x, groups=t.g).fit(),
        "gee": lambda: sm.GEE(t.y, x, groups=t.g).fit(),
        "formula-ols": lambda: smf.ols("y ~ x + C(g)", t).fit(),
        "formula-logit": lambda: smf.logit("k ~ w", t).fit(disp=0),
        "formula-glm": lambda: smf.glm("n ~ x", t, family=sm.families.Poisson()).fit(),
        "arima": lambda: tsa.ARIMA(series, order=(1, 1, 1)).fit(),
        "sarimax": lambda: tsa.SARIMAX(series, order=(1, 0, 0), seasonal_order=(0, 0, 0, 0)).fit(disp=0),
        "autoreg": lambda: tsa.AutoReg(series, 2).fit(),
        "exp-smoothing": lambda: tsa.ExponentialSmoothing(series, trend="add").fit(),
        "simple-exp": lambda: tsa.SimpleExpSmoothing(series).fit(),
        "holt": lambda: tsa.Holt(series).fit(),
        "ets": lambda: tsa.ETSModel(series, trend="add").fit(disp=0),
        "var": lambda: tsa.VAR(np.random.default_rng(0).normal(size=(60, 2))).fit(1),
        "unobserved": lambda: tsa.UnobservedComponents(series, "local level").fit(disp=0),
        "seasonal": lambda: tsa.seasonal_decompose(series, period=7),
        "stl": lambda: tsa.STL(series, period=7).fit(),
        "markov": lambda: tsa.MarkovRegression(series, k_regimes=2).fit(disp=0),
        "kde": lambda: _fitted_kde(t.x.values),
        "ecdf": lambda: sm.distributions.ECDF(t.x),
        "lowess": lambda: lowess(t.y, t.x),
        "pca": lambda: sm.PCA(t[["x", "w", "y"]]),
        "phreg": lambda: sm.PHReg(np.abs(t.y), x[["x", "w"]]).fit(),
        "summary-table": lambda: sm.OLS(t.y, x).fit().params,
    }
    for label, thunk in table.items():
        yield f"statsmodels-{label}", thunk
        if label in {"ols", "glm-binomial", "arima", "logit"}:
            yield f"statsmodels-{label}-nodata", lambda thunk=thunk: _without_data(thunk())


def _fitted_kde(values: Any) -> Any:
    kde = sm.nonparametric.KDEUnivariate(values)
    kde.fit()
    return kde


def _without_data(result: Any) -> Any:
    result.remove_data()
    return result
