"""Arrays, scalars, dtypes, generators and functions of numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SIMPLE = (
    "?",
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    ">i4",
    ">f8",
    "S3",
    "U4",
    "V5",
    "M8[s]",
    "M8[D]",
    "M8[ns]",
    "m8[h]",
    "m8[ns]",
    "g",
    "G",
)
UFUNCS = (
    "log1p",
    "expm1",
    "sqrt",
    "exp",
    "log",
    "abs",
    "sin",
    "tanh",
    "add",
    "multiply",
    "maximum",
    "isnan",
    "square",
    "sign",
    "log10",
    "clip",
)
FUNCTIONS = (
    "mean",
    "median",
    "std",
    "var",
    "sum",
    "min",
    "max",
    "argmax",
    "nanmean",
    "percentile",
    "nan_to_num",
    "ravel",
    "squeeze",
    "log2",
    "round",
    "unique",
    "transpose",
    "stack",
    "concatenate",
    "zeros",
    "ones",
    "array",
    "asarray",
    "cumsum",
    "dot",
    "where",
    "sort",
    "prod",
    "size",
    "shape",
    "diff",
    "average",
    "count_nonzero",
    "linspace",
    "nanmax",
    "nanmin",
    "nanstd",
    "nanmedian",
    "quantile",
    "corrcoef",
)


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself."""
    rng = np.random.default_rng(0)
    for kind in SIMPLE:
        safe = kind.replace(">", "be-").replace("?", "bool").replace("[", "-").replace("]", "")
        safe = {"g": "longdouble", "G": "clongdouble"}.get(safe, safe)
        yield f"numpy-array-{safe}", lambda kind=kind: np.zeros((3, 2), dtype=kind)
        yield f"numpy-scalar-{safe}", lambda kind=kind: np.zeros(1, dtype=kind)[0]
        yield f"numpy-dtype-{safe}", lambda kind=kind: np.dtype(kind)
    yield (
        "numpy-scalar-types",
        lambda: [
            np.float32,
            np.float64,
            np.int64,
            np.bool_,
            np.uint8,
            np.str_,
            np.object_,
            np.datetime64,
            np.complex128,
            np.int32,
            np.float16,
            np.number,
            np.integer,
            np.floating,
            np.generic,
            np.ndarray,
            np.void,
            np.bytes_,
            np.timedelta64,
            np.dtype,
            np.ufunc,
        ],
    )
    yield "numpy-array-fortran", lambda: np.asfortranarray(rng.normal(size=(4, 5)))
    yield "numpy-array-strided", lambda: rng.normal(size=(6, 6))[::2, ::3]
    yield "numpy-array-empty", lambda: [np.empty((0, 4)), np.array(3.0), np.array([])]
    yield "numpy-array-big", lambda: rng.normal(size=(300, 100))
    yield "numpy-array-readonly", _readonly
    yield "numpy-array-object", lambda: np.array([1, "a", None, [1, 2], {"b": 2}, np.arange(3)], dtype=object)
    yield "numpy-array-object2d", lambda: np.array([["a", 1], ["b", 2.5]], dtype=object)
    yield "numpy-array-ragged", lambda: np.array([np.arange(2), np.arange(3)], dtype=object)
    yield "numpy-structured", lambda: np.zeros(3, dtype=[("a", "i4"), ("b", "f8", (2,)), ("c", "U5")])
    yield "numpy-structured-nested", lambda: np.zeros(2, dtype=[("p", [("x", "f4"), ("y", "f4")]), ("o", "O")])
    yield "numpy-structured-aligned", lambda: np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    yield "numpy-structured-titled", lambda: np.zeros(2, dtype=np.dtype({"names": ["a"], "formats": ["i4"], "titles": ["A"]}))
    yield "numpy-structured-metadata", lambda: np.zeros(2, dtype=np.dtype("i4", metadata={"unit": "m"}))
    yield "numpy-record", lambda: np.rec.array([(1, 2.0), (3, 4.0)], names="a,b")
    yield "numpy-record-one", lambda: np.rec.array([(1, 2.0)], names="a,b")[0]
    yield "numpy-void", lambda: np.zeros(1, dtype=[("a", "i4")])[0]
    yield "numpy-subarray-dtype", lambda: np.dtype(("i4", (2, 3)))
    yield "numpy-masked", lambda: np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    yield "numpy-masked-constant", lambda: np.ma.masked
    yield "numpy-masked-records", lambda: np.ma.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    yield "numpy-matrix", lambda: np.matrix([[1, 2], [3, 4]])
    yield "numpy-chararray", lambda: np.char.array(["a", "bc"])
    yield "numpy-poly1d", lambda: np.poly1d([1, 2, 3])
    for kind in ("Polynomial", "Chebyshev", "Legendre", "Hermite", "HermiteE", "Laguerre"):
        yield f"numpy-{kind.lower()}", lambda kind=kind: getattr(np.polynomial, kind)([1, 2, 3])
    for kind in ("PCG64", "MT19937", "Philox", "SFC64", "PCG64DXSM"):
        yield f"numpy-generator-{kind.lower()}", lambda kind=kind: np.random.Generator(getattr(np.random, kind)(1))
        yield f"numpy-bits-{kind.lower()}", lambda kind=kind: getattr(np.random, kind)(1)
    yield "numpy-randomstate", lambda: np.random.RandomState(3)
    yield "numpy-randomstate-pcg", lambda: np.random.RandomState(np.random.PCG64(3))
    yield "numpy-randomstate-state", lambda: np.random.RandomState(3).get_state()
    yield "numpy-seedsequence", lambda: np.random.SeedSequence(5).spawn(2)
    yield "numpy-global-random", lambda: np.random.mtrand._rand
    yield "numpy-ufuncs", lambda: [getattr(np, name) for name in UFUNCS]
    for name in FUNCTIONS:
        yield f"numpy-function-{name}", lambda name=name: {"f": getattr(np, name)}
    yield "numpy-linalg-functions", lambda: [np.linalg.norm, np.linalg.inv, np.linalg.svd, np.linalg.solve]
    yield "numpy-finfo", lambda: [np.finfo("f8").dtype, np.iinfo("i4").dtype]
    yield (
        "numpy-dict-of-arrays",
        lambda: {f"layer{i}": {"w": rng.normal(size=(3, 3)).astype("f4"), "b": np.zeros(3, "f4")} for i in range(5)},
    )
    yield "numpy-shared", _shared
    yield "numpy-datetime-mixed", lambda: [np.datetime64("2024-01-01"), np.timedelta64(3, "D"), np.datetime64("NaT")]
    yield "numpy-strings-dtype", lambda: np.array(["a", "bcd"], dtype=np.dtypes.StringDType())
    yield "numpy-dtypes-classes", lambda: [np.dtypes.Float64DType, np.dtypes.Int32DType]
    yield "numpy-flags-tuple", lambda: (np.int64(3), np.float32(1.5), np.bool_(True), np.str_("abc"), np.bytes_(b"x"))
    yield "numpy-memmap", _memmap
    yield "numpy-iterator-free", lambda: {"idx": np.ix_([0, 1], [2]), "grid": np.meshgrid([1, 2], [3])}


def _readonly() -> Any:
    array = np.arange(5)
    array.flags.writeable = False
    return array


def _shared() -> Any:
    array = np.arange(10.0)
    return [array, array, array[2:4]]


def _memmap() -> Any:
    import tempfile

    return np.memmap(tempfile.NamedTemporaryFile(), dtype="f4", mode="w+", shape=(3,))
