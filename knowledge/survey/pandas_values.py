"""Frames, series, indexes, extension arrays, offsets, periods and intervals of pandas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd


def _table() -> Any:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=20),
            "b": rng.integers(0, 5, 20),
            "c": list("abcde" * 4),
            "d": pd.date_range("2024", periods=20),
            "e": [True, False] * 10,
        }
    )


def _frames() -> dict[str, Callable[[], Any]]:
    df = _table
    return {
        "df": df,
        "df-empty": pd.DataFrame,
        "df-dtypes": lambda: df().astype({"a": "float32", "b": "int8"}),
        "df-category": lambda: df().astype({"c": "category"}),
        "df-ordered-category": lambda: df().assign(c=pd.Categorical(df()["c"], categories=list("edcba"), ordered=True)),
        "df-multiindex": lambda: df().set_index(["b", "c"]),
        "df-multicolumns": lambda: df().groupby("c").agg({"a": ["mean", "std"], "b": "max"}),
        "df-datetimeindex": lambda: df().set_index("d"),
        "df-tz": lambda: df().assign(d=df()["d"].dt.tz_localize("UTC")),
        "df-tz-berlin": lambda: df().assign(d=df()["d"].dt.tz_localize("Europe/Berlin")),
        "df-tz-fixed": lambda: df().assign(d=df()["d"].dt.tz_localize("+02:00")),
        "df-period": lambda: df().assign(d=df()["d"].dt.to_period("M")),
        "df-timedelta": lambda: df().assign(t=df()["d"] - pd.Timestamp("2024")),
        "df-nullable": lambda: pd.DataFrame(
            {
                "i": pd.array([1, None], dtype="Int64"),
                "f": pd.array([1.5, None], dtype="Float64"),
                "b": pd.array([True, None], dtype="boolean"),
                "s": pd.array(["a", None], dtype="string"),
                "u": pd.array([1, None], dtype="UInt8"),
            }
        ),
        "df-sparse": lambda: pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1.0, 0])}),
        "df-object": lambda: pd.DataFrame({"o": [[1], {"a": 2}, None, "x", 3.5]}),
        "df-nan": lambda: pd.DataFrame({"a": [1, np.nan], "b": [None, "x"], "c": [pd.NaT, pd.Timestamp("2024")]}),
        "df-interval": lambda: pd.DataFrame({"i": pd.cut(np.arange(10), 3)}),
        "df-wide": lambda: pd.DataFrame(np.zeros((5, 200))),
        "df-transposed": lambda: df().T,
        "df-attrs": _with_attrs,
        "df-named-axes": lambda: df().rename_axis("rows").rename_axis("cols", axis=1),
        "df-describe": lambda: df().describe(),
        "df-dummies": lambda: pd.get_dummies(df()[["b", "c"]]),
        "df-pivot": lambda: df().pivot_table(index="c", columns="b", values="a"),
        "df-slice": lambda: df().iloc[2:9, 1:3],
        "df-concat": lambda: pd.concat({"x": df(), "y": df()}),
        "df-rolling-mean": lambda: df()[["a", "b"]].rolling(3).mean(),
        "df-pyarrow": lambda: pd.DataFrame(
            {"a": pd.array([1, 2], dtype="int64[pyarrow]"), "s": pd.array(["x", None], dtype="string[pyarrow]")}
        ),
        "df-groupby-dict": lambda: dict(df().groupby("c")),
        "df-copy-on-write": lambda: df()[["a"]],
        "df-resample": lambda: df().set_index("d")[["a"]].resample("W").mean(),
    }


def _with_attrs() -> Any:
    table = _table()
    table.attrs["source"] = "sensor"
    return table


def _others() -> dict[str, Callable[[], Any]]:
    return {
        "series": lambda: pd.Series([1.0, 2.0], name="s"),
        "series-object": lambda: pd.Series(["a", None, 3]),
        "series-category": lambda: pd.Series(list("aab"), dtype="category"),
        "series-string": lambda: pd.Series(["a", "b"], dtype="string"),
        "series-datetime": lambda: pd.Series(pd.date_range("2024", periods=3, freq="h")),
        "series-tz": lambda: pd.Series(pd.date_range("2024", periods=3, tz="US/Eastern")),
        "series-multiindex": _table().groupby(["b", "c"])["a"].sum,
        "value-counts": _table()["c"].value_counts,
        "index": lambda: [
            pd.Index([1, 2]),
            pd.Index(["a"]),
            pd.RangeIndex(5),
            pd.Index([1.5]),
            pd.Index([True]),
            pd.Index([], dtype=object),
        ],
        "multiindex": lambda: pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", "y"]),
        "categoricalindex": lambda: pd.CategoricalIndex(list("aab")),
        "datetimeindex": lambda: [
            pd.date_range("2024", periods=3, freq=f) for f in ("D", "h", "W", "B", "MS", "QS", "YS", "min", "s", "ms")
        ],
        "datetimeindex-ends": lambda: [
            pd.date_range("2024", periods=3, freq=pd.offsets.MonthEnd()),
            pd.date_range("2024", periods=3, freq=pd.offsets.QuarterEnd()),
            pd.date_range("2024", periods=3, freq=pd.offsets.YearEnd()),
        ],
        "timedeltaindex": lambda: pd.timedelta_range("1D", periods=3),
        "periodindex": lambda: [pd.period_range("2024", periods=3, freq=f) for f in ("M", "Q", "D", "W", "h")],
        "intervalindex": lambda: pd.interval_range(0, 5),
        "categorical": lambda: pd.Categorical(list("aab")),
        "timestamp": lambda: [pd.Timestamp("2024-01-01"), pd.Timestamp("2024", tz="UTC"), pd.Timestamp("2024", tz="Europe/Paris"), pd.NaT],
        "timedelta": lambda: [pd.Timedelta("1D"), pd.Timedelta(5, "ns")],
        "period": lambda: [pd.Period("2024-01", "M"), pd.Period("2024", "Y"), pd.Period("2024Q1")],
        "interval": lambda: pd.Interval(0, 1, closed="both"),
        "na": lambda: pd.NA,
        "dtypes": lambda: [
            pd.CategoricalDtype(["a"]),
            pd.DatetimeTZDtype(tz="UTC"),
            pd.PeriodDtype("M"),
            pd.IntervalDtype("int64"),
            pd.Int64Dtype(),
            pd.Float32Dtype(),
            pd.BooleanDtype(),
            pd.StringDtype(),
            pd.SparseDtype(float),
        ],
        "offsets": lambda: [
            pd.offsets.Day(2),
            pd.offsets.MonthEnd(),
            pd.offsets.BDay(),
            pd.offsets.Week(weekday=1),
            pd.DateOffset(months=3),
            pd.offsets.Hour(3),
            pd.offsets.QuarterEnd(startingMonth=2),
            pd.offsets.YearBegin(),
            pd.offsets.BusinessHour(),
            pd.offsets.BMonthEnd(),
            pd.offsets.SemiMonthEnd(),
            pd.offsets.LastWeekOfMonth(weekday=2),
            pd.offsets.Minute(),
            pd.offsets.Second(),
            pd.offsets.Milli(),
            pd.offsets.Micro(),
            pd.offsets.Nano(),
            pd.offsets.Easter(),
            pd.offsets.FY5253(weekday=1, startingMonth=1),
            pd.offsets.WeekOfMonth(week=1, weekday=1),
            pd.offsets.QuarterBegin(),
            pd.offsets.MonthBegin(),
            pd.offsets.YearEnd(),
            pd.offsets.BYearEnd(),
            pd.offsets.BQuarterEnd(),
            pd.offsets.BMonthBegin(),
        ],
        "custom-offsets": lambda: [pd.offsets.CustomBusinessDay(holidays=["2024-01-01"]), pd.offsets.CDay()],
        "arrays": lambda: [
            pd.array([1, None]),
            pd.array(["a"]),
            pd.array([1.5]),
            pd.array(pd.date_range("2024", periods=2)),
            pd.arrays.IntervalArray.from_breaks([0, 1, 2]),
            pd.array(pd.period_range("2024", periods=2, freq="M")),
            pd.array([pd.Timedelta(1)]),
        ],
        "sparse": lambda: [pd.arrays.SparseArray([0, 1]), pd.arrays.SparseArray([np.nan, 1.0], kind="block")],
        "functions": lambda: [pd.isna, pd.to_numeric, pd.DataFrame.mean],
        "classes": lambda: [pd.DataFrame, pd.Series, pd.Timestamp, pd.Index, pd.Categorical],
        "namedagg": lambda: pd.NamedAgg("a", "mean"),
        "dict-of-frames": lambda: {"train": _table(), "meta": {"rows": 20, "target": "b"}},
        "groupby": lambda: _table().groupby("c"),
        "rolling": lambda: _table()[["a"]].rolling(3),
    }


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself."""
    for label, thunk in (_frames() | _others()).items():
        yield f"pandas-{label}", thunk
