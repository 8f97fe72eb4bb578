"""Rules over what libraries rebuild: what they really write fits, and each thing that a hostile file would change does not."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from tests.scanning.naming_pickles import Call, Named, New, array, pickled

from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.pickles import (
    shapes_arrow,
    shapes_libraries,
    shapes_numpy,
    shapes_pandas,
    shapes_python,
    shapes_science,
    shapes_sklearn,
    shapes_torch,
    shapes_transformers,
)
from vouchgate.scanning.pickles.formulas import wrong_formula
from vouchgate.scanning.pickles.machine import run
from vouchgate.scanning.scope import Budget, Scope
from vouchgate.scanning.settings import ScanSettings

REVIEWED = Path(__file__).parents[2] / "knowledge" / "reviewed"


def _reasons(what: Any, protocol: int = 4) -> list[str]:
    data = pickled(what, protocol)
    scope = Scope(settings=ScanSettings(), knowledge=shipped(), read_inner=None, plugins=None, budget=Budget(2**30, 100))  # type: ignore[arg-type]
    ran = run(memoryview(data), scope)
    assert ran.end == len(data)
    return [f"{reason.rule} {reason.why}" for reason in ran.reasons]


# Rules are named once


def test_no_rule_of_one_family_hides_another() -> None:
    families = (shapes_python, shapes_numpy, shapes_torch, shapes_arrow, shapes_pandas, shapes_science, shapes_sklearn, shapes_transformers)
    for table in ("ARGUMENTS", "STATES"):
        names = [name for family in families for name in getattr(family, table, {})]
        own = set(getattr(shapes_libraries, table)) - {
            n for f in (shapes_arrow, shapes_pandas, shapes_science, shapes_sklearn, shapes_transformers) for n in getattr(f, table, {})
        }
        assert len(names) == len(set(names))
        assert not own & set(names)


# scikit-learn: trees

NODE = struct.Struct("<qqqddqdq")


def _nodes(*rows: tuple[int, int, int]) -> Any:
    fields = (
        "left_child",
        "right_child",
        "feature",
        "threshold",
        "impurity",
        "n_node_samples",
        "weighted_n_node_samples",
        "missing_go_to_left",
    )
    codes = ("i8", "i8", "i8", "f8", "f8", "i8", "f8", "u1")
    plain = {
        code: Call(Named("numpy", "dtype"), (code, False, True), (3, "|" if code == "u1" else "<", None, None, None, -1, -1, 0))
        for code in codes
    }
    places = {name: (plain[code], 8 * number) for number, (name, code) in enumerate(zip(fields, codes, strict=True))}
    dtype = Call(Named("numpy", "dtype"), ("V64", False, True), (3, "|", None, fields, places, 64, 8, 16))
    raw = b"".join(NODE.pack(left, right, feature, 0.5, 0.1, 3, 3.0, 0) for left, right, feature in rows)
    make = Named("numpy._core.multiarray", "_reconstruct")
    return Call(make, (Named("numpy", "ndarray"), (0,), b"b"), (1, (len(rows),), dtype, False, raw))


GOOD = ((1, 2, 0), (-1, -1, -2), (-1, -1, -2))


def _tree(rows: tuple[tuple[int, int, int], ...] = GOOD, count: int | None = None, features: int = 2, **more: Any) -> Call:
    count = len(rows) if count is None else count
    state = {
        "max_depth": 1,
        "node_count": count,
        "nodes": _nodes(*rows),
        "values": array([0.0] * len(rows), "f8", (len(rows), 1, 1)),
    } | more
    return Call(Named("sklearn.tree._tree", "Tree"), (features, array([1], "i8", (1,)), 1), state)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_tree_fits(protocol: int) -> None:
    assert _reasons(_tree(), protocol) == []
    assert _reasons(_tree(((-1, -1, -2),)), protocol) == []


@pytest.mark.parametrize(
    ("what", "word"),
    [
        (_tree(((5, 2, 0), *GOOD[1:])), "child"),
        (_tree(((1, -7, 0), *GOOD[1:])), "child"),
        (_tree((GOOD[0], (0, 2, 0), GOOD[2])), "child"),
        (_tree(((0, 0, 0),)), "child"),
        (_tree(count=4), "count of nodes"),
        (_tree(count=2), "count of nodes"),
        (_tree(((1, 2, 2), *GOOD[1:])), "feature"),
        (_tree(((1, 2, -3), *GOOD[1:])), "no feature"),
        (_tree(nodes="x"), "no array"),
        (_tree(extra=1), "no tree"),
    ],
)
def test_a_tree_whose_nodes_lead_out_of_it_is_refused(what: Call, word: str) -> None:
    assert any(word in reason for reason in _reasons(what))


def test_a_tree_of_too_many_outputs_is_refused() -> None:
    tree = _tree()
    tree.args = (2, array([1], "i8", (1,)), 2**30)
    assert any("outputs" in reason for reason in _reasons(tree))


# scikit-learn: neighbour trees and metrics


def _metric(name: str = "EuclideanDistance64", **more: Any) -> Call:
    state = more.get("state", (2.0, array([0.0], "f8", (1,)), array([0.0], "f8", (1, 1))))
    return Call(Named("sklearn.metrics._dist_metrics", "newObj"), (Named("sklearn.metrics._dist_metrics", name),), state)


def _neighbours(order: list[int] | None = None, places: list[int] | None = None, **more: Any) -> Call:
    order = [0, 1, 2] if order is None else order
    places = [0, 3] if places is None else places
    raw = struct.pack("<qqqd", places[0], places[1], 1, 0.5)
    dtype = Call(Named("numpy", "dtype"), ("V32", False, True), _node_data())
    make = Named("numpy._core.multiarray", "_reconstruct")
    nodes = Call(make, (Named("numpy", "ndarray"), (0,), b"b"), (1, (1,), dtype, False, raw))
    state = (
        array([0.0] * 6, "f8", (3, 2)),
        array(order, "i8", (3,)),
        nodes,
        array([0.0] * 2, "f8", (1, 1, 2)),
        30,
        1,
        1,
        0,
        1,
        0,
        0,
        _metric(),
        None,
    )
    return Call(
        Named("sklearn.neighbors._ball_tree", "newObj"), (Named("sklearn.neighbors._ball_tree", more.get("kind", "BallTree")),), state
    )


def _node_data() -> tuple[Any, ...]:
    names = ("idx_start", "idx_end", "is_leaf", "radius")
    plain = {code: Call(Named("numpy", "dtype"), (code, False, True), (3, "<", None, None, None, -1, -1, 0)) for code in ("i8", "f8")}
    return (
        3,
        "|",
        None,
        names,
        {name: (plain["f8" if name == "radius" else "i8"], 8 * place) for place, name in enumerate(names)},
        32,
        8,
        16,
    )


def test_a_neighbour_tree_fits() -> None:
    assert _reasons(_neighbours()) == []


@pytest.mark.parametrize(
    "what",
    [
        _neighbours(order=[0, 1, 3]),
        _neighbours(order=[0, -1, 2]),
        _neighbours(places=[0, 4]),
        _neighbours(places=[-1, 3]),
        _neighbours(places=[3, 1]),
        _neighbours(kind="newObj"),
        _metric("PyFuncDistance64"),
        _metric(state=(2.0, array([0.0], "f8", (1,)), array([0.0], "f8", (1, 1)), Named("os", "system"), {})),
        Call(Named("sklearn.metrics._dist_metrics", "newObj"), (Named("subprocess", "Popen"),)),
    ],
)
def test_a_neighbour_tree_that_leads_out_or_holds_code_is_refused(what: Call) -> None:
    assert _reasons(what)


# scipy: distributions run source that their state holds

TEMPLATE = """
def _parse_args(self, {n} loc=0, scale=1):
    return ({n}), loc, scale

def _parse_args_rvs(self, {n} loc=0, scale=1, size=None):
    return self._argcheck_rvs({n} loc, scale, size=size)

def _parse_args_stats(self, {n} loc=0, scale=1, moments='mv'):
    return ({n}), loc, scale, moments
"""
ACTS = "\nimport os\nos.system('true')\n"


def _distribution(text: Any, *more: tuple[str, Any]) -> New:
    return New(Named("scipy.stats._continuous_distns", "norm_gen"), (), dict([("name", "norm"), ("_parse_arg_template", text), *more]))


@pytest.mark.parametrize("names", ["", "a, ", "a, b, "])
def test_a_distribution_with_its_own_parser_fits(names: str) -> None:
    assert _reasons(_distribution(TEMPLATE.format(n=names))) == []


@pytest.mark.parametrize(
    "text",
    [
        ACTS,
        TEMPLATE.format(n="") + ACTS,
        ACTS + TEMPLATE.format(n=""),
        TEMPLATE.format(n="a=__import__('os').system('true'), "),
        TEMPLATE.format(n="a=print(1), "),
        TEMPLATE.format(n="a"),
        TEMPLATE.format(n="a,"),
        TEMPLATE.format(n="__a, "),
        TEMPLATE.format(n="a, loc=0, scale=1):\n    import os\n#, "),
        TEMPLATE.format(n="").replace("scale=1", "scale=exit()"),
        TEMPLATE.format(n="").replace("loc, scale, size", "loc, exit(), size"),
        b"x",
        7,
        None,
    ],
)
def test_a_distribution_with_other_source_is_refused(text: Any) -> None:
    assert any("scipy would run" in reason for reason in _reasons(_distribution(text)))


def test_a_distribution_without_a_parser_or_with_two_is_refused() -> None:
    name = Named("scipy.stats._continuous_distns", "norm_gen")
    assert any("no parser" in reason for reason in _reasons(New(name, (), {"name": "norm"})))
    twice = pickled(New(name, (), {"_parse_arg_template": TEMPLATE.format(n=""), "_parse_arg_templatf": ACTS})).replace(
        b"templatf", b"template"
    )
    scope = Scope(settings=ScanSettings(), knowledge=shipped(), read_inner=None, plugins=None, budget=Budget(2**30, 100))  # type: ignore[arg-type]
    assert run(memoryview(twice), scope).reasons


# statsmodels: formulas are evaluated again


@pytest.mark.parametrize(
    "formula", ["y ~ x", "y ~ x + C(g)", "np.log(y) ~ x:w + I(x**2) - 1", "y ~ C(g, Treatment('a')) * x", 'Q("a b") ~ bs(x, df=3)', "y ~ 1"]
)
def test_formulas_of_plain_parts_fit(formula: str) -> None:
    assert wrong_formula(formula) == ""
    state = {"formula": formula, "restore_design_info": True}
    assert _reasons(New(Named("statsmodels.base.data", "PandasData"), (), state)) == []


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ __import__('os').system('true')",
        "y ~ exec('1')",
        "y ~ eval(x)",
        "y ~ np.load(x)",
        "y ~ np.log.__class__(x)",
        "y ~ x.__class__",
        "y ~ pd.read_pickle('x')",
        "y ~ C (__builtins__)",
        "y ~ (lambda: 1)()",
        "y ~ [c for c in x]",
        "y ~ {open}",
        "y ~ C(g)(1)",
        "y ~ x[0]",
        "y ~ f'{exit()}'",
        "y ~ 'a'.format(x)",
        "y ~ C(b'x')",
        "y ~ (x := 1)",
        "y ~ np . load ( 'x' )",
        "y ~ np.\nload('x')",
        "y ~ x; import os",
        "y ~ open ('x')",
        "y ~ ℯxec(x)",
        "y ~ ｅｘｅｃ('1')",
        "y ~ `x`",
        "y ~ x + ((" + "(" * 60,
        "y ~ " + "x+" * 10_000,
        "y ~ system 'x'(1)",
        "y ~ Q('a') ('b')",
        "y ~ np.log (x) .real",
        "y ~ await x",
        "y ~ x @ w",
    ],
)
def test_formulas_that_could_act_are_refused(formula: str) -> None:
    assert wrong_formula(formula)
    assert _reasons(New(Named("statsmodels.base.data", "PandasData"), (), {"formula": formula, "restore_model_spec": True}))


# pyarrow: arrays over buffers


def _arrow(kind: str, length: int, *buffers: bytes | None, offset: int = 0, children: Any = None) -> Call:
    made = [None if one is None else Call(Named("pyarrow.lib", "py_buffer"), (one,)) for one in buffers]
    kind_ = Call(Named("pyarrow.lib", "type_for_alias"), (kind,))
    return Call(Named("pyarrow.lib", "_restore_array"), ((kind_, length, 0, offset, made, children or [], None),))


@pytest.mark.parametrize(
    "what",
    [
        _arrow("int64", 2, None, bytes(16)),
        _arrow("bool", 9, b"\xff\x01", b"\xff\x01"),
        _arrow("string", 2, None, struct.pack("<3i", 0, 1, 3), b"abc"),
        _arrow("large_string", 1, None, struct.pack("<2q", 0, 3), b"abc"),
        _arrow("large_string", 1, None, struct.pack("<3q", 0, 1, 3), b"abc", offset=1),
        _arrow("string", 0, None, b"", None),
    ],
)
def test_arrow_arrays_within_their_buffers_fit(what: Call) -> None:
    assert _reasons(what) == []


@pytest.mark.parametrize(
    "what",
    [
        _arrow("int64", 3, None, bytes(16)),
        _arrow("int64", 2, None, bytes(16), offset=1),
        _arrow("int64", 2**62, None, bytes(16)),
        _arrow("int64", 9, b"\xff", bytes(72)),
        _arrow("string", 2, None, struct.pack("<3i", 0, 1, 4), b"abc"),
        _arrow("string", 2, None, struct.pack("<3i", 0, 2, 1), b"abc"),
        _arrow("string", 2, None, struct.pack("<3i", -1, 1, 2), b"abc"),
        _arrow("string", 2, None, struct.pack("<2i", 0, 1), b"abc"),
        _arrow("string", 1, None, struct.pack("<2i", 0, 1), None),
        _arrow("int64", 1, None, None),
        _arrow("list", 1, None, bytes(8)),
        _arrow("int64", 1, None, bytes(8), children=[1]),
        Call(Named("pyarrow.lib", "_restore_array"), ((1, 2, 3),)),
    ],
)
def test_arrow_arrays_beyond_their_buffers_are_refused(what: Call) -> None:
    assert _reasons(what)


# pandas


def test_an_index_is_made_of_named_parts_of_a_known_class() -> None:
    make, index = Named("pandas.core.indexes.base", "_new_Index"), Named("pandas", "RangeIndex")
    assert _reasons(Call(make, (index, {"name": None, "start": 0, "stop": 3, "step": 1}))) == []
    assert _reasons(Call(make, (index, {"path": "x"})))
    assert _reasons(Call(make, (Named("pandas", "ExcelWriter"), {"name": None})))
    assert _reasons(Call(make, (Named("pandas", "HDFStore"), {"data": "x"})))
    assert _reasons(Call(make, (index, {"data": Named("os", "system")})))


@pytest.mark.parametrize(
    "name",
    [
        "pandas.ExcelWriter",
        "pandas.HDFStore",
        "pandas.io.pytables.HDFStore",
        "pandas.read_pickle",
        "pandas.eval",
        "pandas.DataFrame.eval",
        "pandas.DataFrame.query",
    ],
)
def test_names_of_pandas_that_act_are_not_known(name: str) -> None:
    module, _, attribute = name.partition(".") if name.count(".") < 2 or "DataFrame" in name else (*name.rpartition("."),)
    assert _reasons([Named(module, attribute)])
    assert _reasons(Call(Named(module, attribute), ("x",)))
    assert _reasons(New(Named(module, attribute), (), {"a": 1}))


# Boosters


@pytest.mark.parametrize(
    ("module", "name", "key", "good"),
    [
        ("xgboost.core", "Booster", "handle", bytearray(b"CONFIG-offset:\x10")),
        ("lightgbm.basic", "Booster", "_handle", "tree\nversion=v4\n"),
        ("catboost.core", "CatBoostClassifier", "__model", b"CBM1\x00"),
    ],
)
def test_a_boosters_state_is_a_model_of_its_own_format(module: str, name: str, key: str, good: Any) -> None:
    assert _reasons(New(Named(module, name), (), {key: good})) == []
    assert _reasons(New(Named(module, name), (), {key: b"\x80\x04K\x01."}))
    assert _reasons(New(Named(module, name), (), {key: [1]}))


# What predicts by its design, and what loads from where it lies


def _fitted(data: Any, model: str = "statsmodels.regression.linear_model.OLS") -> New:
    module, _, name = model.rpartition(".")
    return New(
        Named("statsmodels.regression.linear_model", "RegressionResults"), (), {"model": New(Named(module, name), (), {"data": data})}
    )


def test_results_hold_a_model_whose_data_was_checked() -> None:
    data = Named("statsmodels.base.data", "PandasData")
    assert _reasons(_fitted(New(data, (), {"formula": "y ~ x"}))) == []
    assert any("design" in reason for reason in _reasons(_fitted(New(data, (), {"design_info": "__import__('os').system('true')"}))))
    assert any(
        "data" in reason for reason in _reasons(_fitted(New(Named("sklearn.linear_model._ridge", "Ridge"), (), {"design_info": "exit()"})))
    )
    bunch = New(Named("statsmodels.tools.tools", "Bunch"), (), {"data": 1})
    assert any(
        "model" in reason for reason in _reasons(New(Named("statsmodels.base.model", "LikelihoodModelResults"), (), {"model": bunch}))
    )


def test_a_cache_of_results_lies_nowhere() -> None:
    memory = Named("joblib.memory", "Memory")
    assert _reasons(New(memory, (), {"location": None, "store_backend": None, "verbose": 0})) == []
    assert _reasons(New(memory, (), {"location": "/tmp/cache", "store_backend": None}))
    assert _reasons(
        New(
            memory,
            (),
            {"location": None, "store_backend": New(Named("joblib._store_backends", "FileSystemStoreBackend"), (), {"location": "x"})},
        )
    )


# Sparse matrices


def _csr(pointers: list[int], places: list[int], shape: tuple[int, int] = (2, 3)) -> New:
    state = {
        "_shape": shape,
        "maxprint": 50,
        "indices": array(places, "i4", (len(places),)),
        "indptr": array(pointers, "i4", (len(pointers),)),
        "data": array([1.0] * len(places), "f8", (len(places),)),
    }
    return New(Named("scipy.sparse._csr", "csr_matrix"), (), state)


def test_a_sparse_matrix_fits() -> None:
    assert _reasons(_csr([0, 1, 3], [0, 1, 2])) == []
    assert _reasons(_csr([0, 0, 0], [])) == []


@pytest.mark.parametrize(
    "what",
    [
        _csr([0, 1, 4], [0, 1, 2]),
        _csr([0, 1, 3], [0, 1, 3]),
        _csr([0, 1, 3], [0, -1, 2]),
        _csr([0, 2, 1], [0, 1, 2]),
        _csr([1, 1, 3], [0, 1, 2]),
        _csr([-1, 1, 3], [0, 1, 2]),
    ],
)
def test_a_sparse_matrix_that_leads_out_of_itself_is_refused(what: New) -> None:
    assert any("not there" in reason for reason in _reasons(what))


def test_new_obj_constructs_only_what_is_of_its_own_module() -> None:
    for kind in (
        ("scipy.stats._continuous_distns", "norm_gen"),
        ("statsmodels.base.data", "PandasData"),
        ("sklearn.neighbors._ball_tree", "BallTree"),
    ):
        assert _reasons(Call(Named("sklearn.metrics._dist_metrics", "newObj"), (Named(*kind),)))


# The reviewed entries


def test_a_classs_use_is_not_its_call() -> None:
    for name in ("DecisionTreeClassifier", "Bunch"):
        assert _reasons(Call(Named("sklearn.utils._bunch" if name == "Bunch" else "sklearn.tree._classes", name), ()))
    assert _reasons(Call(Named("xgboost.core", "Booster"), ({}, [], "model.bin")))
    assert _reasons(Call(Named("lightgbm.basic", "Booster"), ({}, None, "model.txt")))


@pytest.mark.parametrize("zone", ["../../etc/passwd", "/etc/passwd", "Europe/../x", "a\x00b", "", "Europe//Berlin", "x" * 100, "zoné"])
def test_a_zones_name_leads_nowhere(zone: str) -> None:
    assert _reasons(Call(Named("pytz", "_p"), (zone, 60, 0, "X")))
    assert _reasons(Call(Named("pytz", "_p"), ("Europe/Berlin", 60, 0, "X"))) == []
