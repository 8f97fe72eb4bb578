"""Pickles that libraries write are clean at every protocol; what the machine says of them is what loading would give."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import fractions
import functools
import io
import ipaddress
import pathlib
import pickle
import random
import re
import types
import uuid
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_making import called, made, name, program, text

from vouchgate.scanning.pickles.machine import Ran, run
from vouchgate.scanning.pickles.values import Array, Dict, FrozenSet, List, Made, Name, Numbers, Set, Span, Tuple, Value, bytes_of, text_of
from vouchgate.scanning.scan import _scope, scan
from vouchgate.scanning.settings import DEFAULTS, ScanSettings

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def ran(content: bytes, *, keep: bool = True) -> Ran:
    return run(memoryview(content), _scope(DEFAULTS, (), None, deep=True), keep=keep)


SHARED = ("x", 1)
VALUES: dict[str, Any] = {
    "plain": {"a": [1, -2, 2.5, None, True, "text", b"bytes", (1, (2, ())), {3, "4"}, frozenset((5,)), 10**30, -(10**30)]},
    "shared": [SHARED, SHARED, [SHARED]],
    "long": ["x" * 10_000, b"y" * 70_000, bytearray(b"z" * 5_000)],
    "containers": [
        collections.OrderedDict(a=1), collections.Counter("aab"), collections.defaultdict(list, {1: [2]}), collections.deque([1, 2], 5),
        types.SimpleNamespace(a=1), argparse.Namespace(lr=0.1),
    ],
    "numbers": [decimal.Decimal("1.50"), fractions.Fraction(1, 3), 1 + 2j, range(3), slice(1, None, 2), random.Random(3)],
    "dates": [datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC), datetime.date(2020, 1, 2), datetime.timedelta(1), datetime.time(1)],
    "names": [int, len, ValueError, functools.partial(len), collections.OrderedDict],
    "text": [uuid.UUID(int=5), re.compile("a+", re.I), pathlib.PurePosixPath("a/b"), ipaddress.ip_address("10.0.0.1")],
    "exceptions": [ValueError("x"), KeyError(1), UserWarning("w")],
    "arrays": [
        np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3, 2)), np.array(["a", "bcd"]), np.array([1, "x", None], dtype=object),
        np.zeros(2, dtype=[("a", "<f4"), ("b", "O")]), np.zeros(2, dtype=[("a", "<f4", (2,)), ("b", "S3")]), np.float32(1.5), np.int64(3),
        np.array(["2020-01-01"], dtype="M8[D]"), np.dtype("f8"), np.ma.masked_array([1, 2], [True, False]), np.array(5), np.zeros((0, 3)),
    ],
    "generators": [np.random.RandomState(0), np.random.default_rng(0), np.log1p],
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", VALUES)
def test_what_libraries_write_is_clean(what: str, protocol: int) -> None:
    content = pickle.dumps(VALUES[what], protocol)
    verdict = scan(content)
    assert (verdict.outcome, verdict.reasons) == ("clean", ())
    assert verdict.format == "pickle" or (protocol == 0 and verdict.format == "text")


def plain(view: memoryview, value: Value) -> Any:
    """An abstract plain value as the value itself."""
    match value:
        case List(items=items):
            return [plain(view, item) for item in items]
        case Tuple(items=items):
            return tuple(plain(view, item) for item in items)
        case Set(items=items):
            return {plain(view, item) for item in items}
        case FrozenSet(items=items):
            return frozenset(plain(view, item) for item in items)
        case Dict(pairs=pairs):
            return {plain(view, key): plain(view, one) for key, one in pairs}
        case Span(kind="int"):
            return int.from_bytes(view[value.begin : value.begin + value.length], "little", signed=True)
        case Span(kind="bytearray"):
            return bytearray(bytes_of(view, value) or b"")
        case Span(kind="text" | "raw-text"):
            return text_of(view, value)
        case Span():
            return bytes(bytes_of(view, value) or b"")
        case Made() if value.calls("_codecs.encode"):
            return plain(view, value.args[0]).encode("latin-1")
        case Made() if value.calls("builtins.set", "builtins.frozenset", "builtins.bytearray", "builtins.bytes"):
            inner = plain(view, value.args[0]) if value.args else ()
            return {"set": set, "frozenset": frozenset, "bytearray": bytearray, "bytes": bytes}[value.name.name](inner)  # type: ignore[union-attr]
    return value


keys = st.one_of(
    st.integers(), st.text(max_size=5), st.booleans(), st.none(), st.binary(max_size=5), st.tuples(st.integers(), st.text(max_size=3))
)
leaves = st.one_of(keys, st.floats(allow_nan=False), st.binary(max_size=400), st.text(max_size=400), st.integers(2**60, 2**3000))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=12), st.dictionaries(keys, inner, max_size=8), st.tuples(inner, inner), st.sets(keys, max_size=5),
        st.frozensets(keys, max_size=5),
    ),
    max_leaves=40,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(values, st.sampled_from(PROTOCOLS))
def test_the_machine_builds_what_loading_builds(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    found = ran(content)
    assert (found.end, found.reasons) == (len(content), [])
    assert plain(memoryview(content), found.value) == value


def test_long_text_and_bytes_stay_in_the_view() -> None:
    content = pickle.dumps(["x" * 10_000, b"y" * 10_000], 4)
    first, second = ran(content).value.items
    assert (first.kind, first.length, second.kind, second.length) == ("text", 10_000, "bytes", 10_000)


def test_shared_objects_are_one_node_and_a_list_may_hold_itself() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    found = ran(pickle.dumps([inner, inner], 4)).value
    assert found.items[0] is found.items[1]
    assert found.items[0].items[1] is found.items[0]


def test_every_name_is_told_with_its_uses() -> None:
    found = ran(program(called(name("posix", "system"), text("true"))))
    assert [(one.full, one.pushed, one.used) for one in found.names] == [("posix.system", 1, 1)]
    assert isinstance(found.value, Made)
    assert found.value.how == "reduce"
    assert found.value.args == ("true",)


@pytest.mark.parametrize("count", [8, 999, 1000, 12_345])
@pytest.mark.parametrize("value", [1.5, 3, 300, 70_000, None, True], ids=str)
def test_batches_of_numbers_are_passed_over_without_keep_and_kept_with_it(value: Any, count: int) -> None:
    content = pickle.dumps([[value] * count, "after"], 4)
    quick, kept = ran(content, keep=False), ran(content)
    assert (quick.end, quick.reasons) == (kept.end, kept.reasons) == (len(content), [])
    assert sum(one.count if isinstance(one, Numbers) else 1 for one in quick.value.items[0].items) == count
    assert kept.value.items[0].items == [value] * count
    assert quick.value.items[1] == "after"
    assert quick.steps < kept.steps


def test_mixed_numbers_are_passed_over_across_frames() -> None:
    value = [float(one) if one % 3 else one for one in range(30_000)]
    content = pickle.dumps(value, 4)
    quick = ran(content, keep=False)
    assert (quick.end, quick.reasons) == (len(content), [])
    assert sum(one.count if isinstance(one, Numbers) else 1 for one in quick.value.items) == len(value)


def test_python_2_names_are_the_ones_that_load() -> None:
    old = name("copy_reg", "_reconstructor") + b"(" + name("argparse", "Namespace") + name("__builtin__", "object") + b"NtR"
    found = ran(b"\x80\x02" + old + b".")
    assert found.reasons == []
    assert [one.full for one in found.names] == ["copyreg._reconstructor", "argparse.Namespace", "builtins.object"]
    assert found.value.how == "newobj"
    renamed = ran(b"\x80\x03" + old + b".")
    assert {reason.rule for reason in renamed.reasons} == {"pickle:unknown-call", "pickle:unknown-name"}


def joblib_bytes(value: Any, **more: Any) -> bytes:
    out = io.BytesIO()
    joblib.dump(value, out, **more)
    return out.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_joblib_arrays_inline(protocol: int) -> None:
    value = {"a": np.arange(1000.0), "b": np.array([{"c": 1}, None], dtype=object), "f": np.asfortranarray(np.eye(50)), "m": [1, "x"]}
    content = joblib_bytes(value, protocol=protocol)
    verdict = scan(content)
    assert (verdict.outcome, verdict.format, verdict.facts["inline_arrays"]) == ("clean", "joblib", 3)
    assert verdict.covered == len(content)


def test_an_inline_array_is_found_where_it_lies() -> None:
    from vouchgate.scanning.pickles.dialects import JOBLIB

    content = joblib_bytes([np.arange(100.0)])
    found = run(memoryview(content), _scope(DEFAULTS, (), None, deep=True), dialect=JOBLIB, keep=True)
    [array] = found.arrays
    assert isinstance(array, Array)
    assert found.value.items == [array]
    assert np.frombuffer(content[array.begin : array.begin + array.length]).tolist() == list(range(100))


def test_joblib_generators_hold_inline_arrays() -> None:
    assert scan(joblib_bytes([np.random.RandomState(0), np.random.default_rng(0)])).outcome == "clean"


def test_joblib_compressed_is_read_inside() -> None:
    for compress in (("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)):
        assert scan(joblib_bytes({"a": np.arange(10.0)}, compress=compress)).outcome == "clean"


def test_several_pickles_in_a_row_are_each_judged() -> None:
    good = pickle.dumps([1])
    assert scan(good * 3).outcome == "clean"
    verdict = scan(good + program(called(name("posix", "system"), text("true"))))
    assert verdict.outcome == "refused"
    assert "posix.system" in verdict.reasons[0].why


def test_the_number_of_opcodes_is_bounded() -> None:
    content = pickle.dumps([str(one) for one in range(1000)])
    verdict = scan(content, settings=ScanSettings(max_pickle_steps=100))
    assert (verdict.outcome, verdict.reasons[0].rule) == ("incomplete", "pickle:too-long")


def test_a_class_is_used_by_its_entry_alone() -> None:
    assert ran(program(made(name("argparse", "Namespace")))).reasons == []
    assert [one.rule for one in ran(program(called(name("argparse", "Namespace")))).reasons] == ["pickle:not-callable"]
    assert [one.rule for one in ran(program(made(name("_codecs", "encode")))).reasons] == ["pickle:not-constructible"]
    held = ran(program(name("numpy._core.multiarray", "_reconstruct")))
    assert [one.rule for one in held.reasons] == ["pickle:not-inert"]
    assert isinstance(held.value, Name)
