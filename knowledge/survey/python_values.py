# ruff: noqa: DTZ001, DTZ901  (values without a zone are what is surveyed)
"""Values of the standard library, as configurations and results hold them."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import itertools
import math
import operator
import pathlib
import random
import re
import statistics
import string
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any


def _values() -> dict[str, Any]:
    return {
        "none": None,
        "bools": [True, False],
        "ints": [0, 1, -1, 255, 65536, 2**31, -(2**31) - 1, 2**64, -(2**200)],
        "floats": [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan],
        "complex": [1 + 2j, complex("nan")],
        "texts": ["", "abc", "naïve ünïcödé \u2603", "line\nbreak", "x" * 70_000],
        "bytes": [b"", b"abc\x00\xff", b"y" * 70_000, bytearray(b"mutable"), bytearray()],
        "containers": {
            "list": [1, [2, [3]]],
            "tuple": (1, (2,), ()),
            "set": {1, 2},
            "frozenset": frozenset({"a"}),
            "dict": {1: {2: {3: 4}}},
        },
        "long-list": list(range(5000)),
        "records": [{"name": f"n{i}", "score": i / 7, "tags": ("a", "b")} for i in range(300)],
        "range-slice": [range(10), range(1, 100, 7), slice(None), slice(1, 2, 3), Ellipsis, NotImplemented],
        "types": [
            int,
            str,
            dict,
            type(None),
            object,
            type(Ellipsis),
            bytes,
            float,
            complex,
            list,
            set,
            tuple,
            bool,
            frozenset,
            range,
            slice,
            type,
        ],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "defaultdict": [
            collections.defaultdict(list, {"a": [1]}),
            collections.defaultdict(int, {"b": 2}),
            collections.defaultdict(None),
            collections.defaultdict(dict),
            collections.defaultdict(float),
            collections.defaultdict(set),
        ],
        "counter": collections.Counter("abracadabra"),
        "deque": [collections.deque([1, 2], maxlen=5), collections.deque()],
        "chainmap": collections.ChainMap({"a": 1}, {"b": 2}),
        "userdict": [collections.UserDict({"a": 1}), collections.UserList([1]), collections.UserString("s")],
        "namespace": types.SimpleNamespace(a=1, b="two"),
        "mappingless": [
            iter([1, 2]),
            iter((1,)),
            iter({}),
            iter("ab"),
            iter(range(3)),
            enumerate([1]),
            zip([1], [2], strict=False),
            reversed([1, 2]),
        ],
        "itertools": [
            itertools.count(3),
            itertools.chain([1], [2]),
            itertools.repeat(1, 2),
            itertools.islice([1, 2], 1),
            itertools.product([1], [2]),
        ],
        "date": dt.date(2024, 2, 29),
        "datetime": [dt.datetime(2024, 1, 2, 3, 4, 5, 6), dt.datetime(2024, 1, 2, tzinfo=dt.UTC), dt.datetime(2024, 7, 2, fold=1)],
        "time": [dt.time(1, 2, 3), dt.time(1, tzinfo=dt.UTC)],
        "timedelta": [dt.timedelta(days=1, seconds=2, microseconds=3), dt.timedelta(-5)],
        "timezone": [dt.UTC, dt.timezone(dt.timedelta(hours=2)), dt.timezone(dt.timedelta(hours=2), "X")],
        "zoneinfo": [zoneinfo.ZoneInfo("UTC"), dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))],
        "decimal": [decimal.Decimal("1.50"), decimal.Decimal("NaN"), decimal.Decimal("-Infinity")],
        "decimal-context": decimal.Context(prec=10),
        "fraction": [fractions.Fraction(1, 3), fractions.Fraction(-7)],
        "uuid": [uuid.UUID(int=5), uuid.uuid5(uuid.NAMESPACE_DNS, "a")],
        "paths": [pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("c:/x"), pathlib.Path("a/b"), pathlib.PosixPath("/tmp")],
        "regex": [re.compile(r"\b\w+\b"), re.compile(r"(?u)x", re.I | re.M), re.compile(rb"\d")],
        "ip": [
            ipaddress.ip_address("10.0.0.1"),
            ipaddress.ip_address("::1"),
            ipaddress.ip_network("10.0.0.0/8"),
            ipaddress.ip_network("fe80::/10"),
            ipaddress.ip_interface("10.1.1.1/8"),
            ipaddress.ip_interface("::1/64"),
        ],
        "array": [
            array.array("d", [1.0, 2.0]),
            array.array("i", [1]),
            array.array("B", b"ab"),
            array.array("u", "hé"),
            array.array("q", [2**40]),
        ],
        "random": [random.Random(1), random.getstate() if hasattr(random, "getstate") else 0],
        "exceptions": [
            ValueError("x"),
            KeyError("k"),
            RuntimeError(),
            StopIteration(3),
            UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
            OSError(2, "gone"),
            FileNotFoundError(2, "gone", "f"),
            ImportError("m"),
            TypeError("t"),
            IndexError(),
            ZeroDivisionError("z"),
            NotImplementedError(),
            AttributeError("a"),
            Warning("w"),
            UserWarning("u"),
            DeprecationWarning("d"),
            FutureWarning("f"),
            RuntimeWarning("r"),
            TimeoutError("t"),
            MemoryError(),
            OverflowError("o"),
            ArithmeticError(),
            AssertionError("a"),
            EOFError(),
            Exception("e"),
            KeyboardInterrupt(),
            SystemExit(0),
        ],
        "partials": [
            functools.partial(len),
            functools.partial(int, base=2),
            functools.partial(sorted, reverse=True),
            functools.partial(max, 3),
            functools.partial(round, ndigits=2),
            functools.partial(operator.add, 1),
        ],
        "getters": [operator.itemgetter(1), operator.itemgetter(1, 2), operator.itemgetter("a")],
        "functions": [
            len,
            abs,
            sum,
            max,
            min,
            sorted,
            round,
            math.sqrt,
            math.log,
            math.exp,
            operator.add,
            operator.mul,
            operator.itemgetter,
            str.lower,
            str.upper,
            str.split,
            functools.partial,
            all,
            any,
            zip,
            map,
            filter,
            enumerate,
            isinstance,
            repr,
            hash,
            id,
            ord,
            chr,
            divmod,
            pow,
            iter,
            next,
            callable,
            math.isclose,
            operator.neg,
            operator.eq,
            operator.lt,
            statistics.mean,
        ],
        "enums": [re.IGNORECASE, enum.Enum, uuid.SafeUUID.unknown, decimal.ROUND_HALF_UP],
        "cyclic": _cyclic(),
        "calendar-like": [dt.date.min, dt.datetime.max, dt.timedelta.max],
        "normaldist": statistics.NormalDist(1, 2),
        "string": [string.ascii_letters, string.Template("$a")],
        "struct-time": __import__("time").gmtime(0),
        "named-in-collections": [collections.OrderedDict, collections.deque, collections.defaultdict, collections.Counter],
        "cmp-to-key": [functools.reduce],
        "config": {
            "lr": 1e-3,
            "layers": [64, 32],
            "activation": "relu",
            "seed": None,
            "path": pathlib.PurePosixPath("runs/1"),
            "when": dt.datetime(2024, 1, 1),
        },
        "logging-level": __import__("logging").INFO,
        "http-status": __import__("http").HTTPStatus.OK,
        "argparse-namespace": __import__("argparse").Namespace(lr=0.1, epochs=3, name="run"),
        "dataclass-field-types": [
            __import__("typing").List[int],
            __import__("typing").Optional[str],
            list[int],
            dict[str, int],
            __import__("typing").Any,
            int | str,
        ],
        "abc-types": [collections.abc.Mapping, collections.abc.Sequence, collections.abc.Callable],
        "calendar-day": __import__("calendar").MONDAY,
        "fileless-io": [__import__("io").BytesIO(b"abc"), __import__("io").StringIO("abc")],
        "string-hash": {"sha": __import__("hashlib").sha256(b"").hexdigest()},
        "email-header": __import__("urllib.parse").parse.urlparse("https://example.org/a?b=c"),
        "os-stat": __import__("os").stat_result(range(10)),
        "version": [__import__("sys").version_info[:3], __import__("sys").float_info[:3]],
        "shape-like": [object()],
        "weak": collections.OrderedDict((i, collections.Counter({i: i})) for i in range(20)),
        "userclass-enum": [__import__("socket").AF_INET, __import__("signal").SIGTERM, __import__("ssl").PROTOCOL_TLS_CLIENT],
    }


def _cyclic() -> list[Any]:
    one: list[Any] = [1]
    one.append(one)
    table: dict[str, Any] = {"self": None}
    table["self"] = table
    return [one, table]


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every value, and every one of a list of values by itself where the whole cannot be written."""
    for label, value in _values().items():
        yield f"python-{label}", lambda value=value: value
