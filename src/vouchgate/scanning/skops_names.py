"""Names that skops files refer to by where they are imported from, and not by where they are defined: numpy's functions and scalar types, scikit-learn's losses.

Each was looked at: the functions compute on their arguments alone, the types are made from one value.
"""

from __future__ import annotations

from vouchgate.scanning.python_names import words

PLAIN_CLASSES = frozenset(
    f"builtins.{name}" for name in ("list", "dict", "set", "frozenset", "tuple", "int", "float", "str", "bool", "complex", "bytes")
)
KEY_TYPES = frozenset(f"builtins.{name}" for name in ("str", "int", "float", "bool"))
"""Called with a key's text."""
BIT_GENERATORS = frozenset(("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"))
LOSSES = frozenset(
    [f"sklearn.linear_model._sgd_fast.{name}" for name in (
        "EpsilonInsensitive", "Hinge", "Huber", "Log", "ModifiedHuber", "SquaredEpsilonInsensitive", "SquaredHinge", "SquaredLoss")]
    + [f"{module}.{name}" for module in ("sklearn._loss._loss", "_loss") for name in (
        "CyAbsoluteError", "CyExponentialLoss", "CyHalfBinomialLoss", "CyHalfGammaLoss", "CyHalfMultinomialLoss", "CyHalfPoissonLoss", "CyHalfSquaredError",
        "CyHalfTweedieLoss", "CyHalfTweedieLossIdentity", "CyHuberLoss", "CyPinballLoss")]
)  # fmt: skip
_SCALARS = words(
    """bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intc uintc intp uintp longlong ulonglong byte ubyte short ushort long ulong half single double
    longdouble float16 float32 float64 float128 complex64 complex128 complex256 csingle cdouble clongdouble str_ bytes_ datetime64 timedelta64 int_ uint"""
)
_FUNCTIONS = words(
    """absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_or bitwise_xor bitwise_not cbrt ceil conjugate copysign cos cosh deg2rad
    degrees divide divmod equal exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater greater_equal heaviside hypot invert isfinite isinf
    isnan isnat lcm ldexp left_shift less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor matmul maximum minimum
    mod modf multiply negative nextafter not_equal positive power rad2deg radians reciprocal remainder right_shift rint sign signbit sin sinh spacing sqrt square
    subtract tan tanh true_divide trunc mean median average sum prod std var min max amin amax nanmean nanmedian nansum nanstd nanmin nanmax ptp abs"""
)
_SPECIAL = words(
    "expit logit log_expit xlogy xlog1py boxcox inv_boxcox erf erfc gammaln digamma psi gamma logsumexp softmax exp10 exp2 expm1 log1p cbrt"
)


def is_scalar_type(full: str) -> bool:
    """One of numpy's scalar types, which is called with one value."""
    return full.startswith("numpy.") and full.removeprefix("numpy.") in _SCALARS


def is_ufunc(full: str) -> bool:
    """A function of numpy's or scipy.special's that computes on its arguments."""
    module, _, name = full.rpartition(".")
    if module in (
        "numpy",
        "numpy.core._multiarray_umath",
        "numpy._core._multiarray_umath",
        "numpy.core.fromnumeric",
        "numpy._core.fromnumeric",
    ):
        return name in _FUNCTIONS
    return module in ("scipy.special", "scipy.special._ufuncs", "scipy.special._special_ufuncs") and name in _SPECIAL
