"""Rules over keys that libraries ask objects for, types looked up by name, and states of handles, interpolators, caches and designs."""

from __future__ import annotations

import pytest
from tests.scanning.naming_pickles import pickled

from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.pickles.fitting import Fit, is_protocol
from vouchgate.scanning.pickles.shapes import STATES
from vouchgate.scanning.pickles.values import Dict, Made, Name, Tuple
from vouchgate.scanning.scan import scan

ADDRESS = {"data": (4096, False), "shape": (2,), "typestr": "<f8", "version": 3}


def _rules(what: object) -> set[str]:
    return {reason.rule for reason in scan(memoryview(pickled(what))).reasons}


def _wrong(rule: str, state: object) -> str:
    return STATES[rule](Fit(memoryview(b""), shipped(), None, made=Made("newobj", None), state=state))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key",
    [
        "__array_interface__",
        "__array_struct__",
        "__cuda_array_interface__",
        "__torch_function__",
        "__annotations__",
        "__code__",
        "__reduce_ex__",
    ],
)
def test_keys_that_libraries_ask_objects_for_are_refused(key: str) -> None:
    assert is_protocol(key)
    assert "pickle:protocol" in _rules({key: ADDRESS})


def test_a_key_that_is_made_is_read_as_the_text_that_it_makes() -> None:
    assert "pickle:protocol" in _made_key(b"__array_interface__")
    assert not _made_key(b"plain")


def _made_key(text: bytes) -> set[str]:
    """`{str(text): 1}`."""
    program = b"\x80\x04}(\x8c\x08builtins\x8c\x03str\x93\x8c" + bytes([len(text)]) + text + b"\x85RK\x01u."
    return {reason.rule for reason in scan(memoryview(program)).reasons}


@pytest.mark.parametrize("key", ["__start__", "__unk__", "__label__x", "_private", "array_interface", "__metadata__"])
def test_words_of_a_vocabulary_stay_keys(key: str) -> None:
    assert not _rules({key: 1})


def _looked_up(module: str, function: str, wanted: str, call: bytes = b"") -> set[str]:
    """`function(wanted)`, and what is done with it then."""
    parts = b"".join(b"\x8c" + bytes([len(one)]) + one.encode() for one in (module, function))
    program = b"\x80\x04" + parts + b"\x93\x8c" + bytes([len(wanted)]) + wanted.encode() + b"\x85R" + call + b"."
    return {reason.rule for reason in scan(memoryview(program)).reasons}


LOOKUPS = [("cloudpickle.cloudpickle", "_builtin_type"), ("dill._dill", "_load_type")]
SQRT_OF_NINE = b"\x8c\x04math\x8c\x04sqrt\x93K\x09\x86R"
SYSTEM_OF_TEXT = b"\x8c\x02os\x8c\x06system\x93\x8c\x02id\x86R"


@pytest.mark.parametrize(("module", "function"), LOOKUPS)
@pytest.mark.parametrize("wanted", ["FunctionType", "CodeType", "LambdaType", "ModuleType", "CellType", "method", "__import__", ""])
def test_types_that_code_is_made_of_are_not_looked_up(module: str, function: str, wanted: str) -> None:
    assert _looked_up(module, function, wanted)


@pytest.mark.parametrize(("module", "function"), LOOKUPS)
def test_a_type_that_was_looked_up_is_called_by_its_own_rule(module: str, function: str) -> None:
    assert not _looked_up(module, function, "MethodType", SQRT_OF_NINE)
    assert _looked_up(module, function, "MethodType", SYSTEM_OF_TEXT)


def _ordered() -> Made:
    return Made("reduce", Name("collections", "OrderedDict", None))


@pytest.mark.parametrize("state", [(None, 3), ("dict", 0), (None, 1, None), (None, 1, ())])
def test_handles_know_dicts_and_a_number(state: tuple[object, ...]) -> None:
    held = [Tuple(()) if one == () else _ordered() if one == "dict" else one for one in state]
    assert not _wrong("torch-handle", Tuple(tuple(held)))


@pytest.mark.parametrize(
    "state", [(None,), (None, -1), (None, 2**60), (None, True), (1, 1), (None, "1"), (None, 1, 2), (None, 1, None, None), ()]
)
def test_handles_of_anything_else_are_refused(state: tuple[object, ...]) -> None:
    assert _wrong("torch-handle", Tuple(state))


def test_a_handle_of_other_handles_holds_dicts_only() -> None:
    assert not _wrong("torch-handle", Tuple((None, 1, Tuple((_ordered(),)))))
    assert _wrong("torch-handle", Tuple((None, 1, Tuple((Made("newobj", Name("x", "Y", None)),)))))


def _rbf(first: object = 1.0, rest: tuple[object, ...] = (1.0, 1.0, 1.0)) -> Tuple:
    return Tuple((Tuple((first, 1.0, Tuple((1,)), Name("builtins", "float", None), None, 0.0, "cubic", 1.0, 1.0)), Tuple(rest)))


def test_an_interpolator_holds_arrays_and_settings() -> None:
    assert not _wrong("scipy-rbf", _rbf())
    assert not _wrong("scipy-rbf", _rbf(rest=(Made("newobj", Name("scipy.spatial._kdtree", "KDTree", None)),)))


@pytest.mark.parametrize(
    "state",
    [
        _rbf(Made("newobj", Name("sklearn.utils._bunch", "Bunch", None))),
        _rbf(rest=(Made("newobj", Name("x", "Y", None)),)),
        Tuple(()),
        None,
    ],
)
def test_an_interpolator_of_anything_else_is_refused(state: object) -> None:
    assert _wrong("scipy-rbf", state)


@pytest.mark.parametrize("rule", ["statsmodels-model", "statsmodels-results", "joblib-memory", "sklearn-memory"])
def test_no_pair_goes_past_who_looks_at_a_dict(rule: str) -> None:
    hidden = Tuple((None, Dict([("data", 1), ("model", 1), ("location", "/x"), ("memory", "/x")])))
    assert _wrong(rule, hidden)
    assert not _wrong(rule, Dict([("plain", 1)]))


@pytest.mark.parametrize(
    "design",
    [
        "1 + __import__('os')",
        Made("reduce", Name("builtins", "str", None), ("x",)),
        Made("newobj", Name("sklearn.utils._bunch", "Bunch", None)),
    ],
)
@pytest.mark.parametrize(
    ("rule", "key"), [("statsmodels-model", "design_info"), ("statsmodels-data", "scale_design_info"), ("statsmodels-data", "model_spec")]
)
def test_a_design_is_an_object_of_patsys_own(rule: str, key: str, design: object) -> None:
    assert _wrong(rule, Dict([(key, design)]))
    assert not _wrong(rule, Dict([(f"restore_{key}", True)]))


@pytest.mark.parametrize("memory", ["/tmp/cache", Made("newobj", Name("pathlib", "PosixPath", None)), 1])
def test_a_pipeline_caches_nowhere(memory: object) -> None:
    assert _wrong("sklearn-memory", Dict([("memory", memory)]))
    assert not _wrong("sklearn-memory", Dict([("memory", None)]))
    assert not _wrong("sklearn-memory", Dict([("memory", Made("newobj", Name("joblib.memory", "Memory", None)))]))


def test_settings_of_single_layers_are_not_taken_unseen() -> None:
    assert _wrong("transformers-config", Dict([("_heterogeneity_spec", Made("newobj", Name("x", "Y", None)))]))
    assert not _wrong("transformers-config", Dict([("_heterogeneity_spec", None), ("hidden_size", 8)]))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("imblearn.pipeline", "Pipeline"),
        ("sklearn.pipeline", "Pipeline"),
        ("feature_engine.pipeline.pipeline", "Pipeline"),
        ("sklearn.cluster._optics", "OPTICS"),
        ("sklearn.cluster._agglomerative", "FeatureAgglomeration"),
        ("sklearn.linear_model._base", "LinearRegression"),
    ],
)
@pytest.mark.parametrize(
    "memory", [b"\x8c\x02/x", b"\x8c\x08builtins\x8c\x03str\x93\x8c\x02/x\x85R", b"\x8c\x07pathlib\x8c\x09PosixPath\x93\x8c\x02/x\x85R"]
)
def test_no_estimator_of_any_library_caches_where_the_file_says(module: str, name: str, memory: bytes) -> None:
    assert "pickle:state" in _stated(module, name, b"}\x8c\x06memory" + memory + b"s")
    assert not _stated(module, name, b"}\x8c\x06memoryNs")


def _stated(module: str, name: str, state: bytes) -> set[str]:
    """An object made without its constructor, and given a state."""
    named = b"".join(b"\x8c" + bytes([len(one)]) + one.encode() for one in (module, name))
    return {reason.rule for reason in scan(memoryview(b"\x80\x04" + named + b"\x93)\x81" + state + b"b.")).reasons}
