"""Values that programs keep beside a model: as they are written they are clean, and what a hostile file would change is refused."""

from __future__ import annotations

from typing import Any

import pytest
from tests.scanning.naming_pickles import Call, Named, New, pickled

from vouchgate.scanning.pickle_opcodes import walk
from vouchgate.scanning.scan import scan

SYSTEM = Named("posix", "system")
HELD = New(Named("types", "SimpleNamespace"), (), {"x": 1})
GEN = Named("scipy.stats._discrete_distns", "randint_gen")
ENTROPY = Call(Named("builtins", "getattr"), (New(GEN), "_entropy"))
DECIMAL = Named("decimal", "Context")
SIGNALS = [Named("decimal", "Overflow")]

HONEST: dict[str, Any] = {
    "a normal distribution": New(Named("statistics", "NormalDist"), (), (1.0, 2.0)),
    "a status": Call(Named("http", "HTTPStatus"), (200,)),
    "bytes in memory": New(Named("_io", "BytesIO"), (), (b"abc", 0, None)),
    "text in memory": New(Named("_io", "StringIO"), (), ("abc", "\n", 0, None)),
    "a decimal context": Call(DECIMAL, (10, "ROUND_HALF_EVEN", -9, 9, 1, 0, [], SIGNALS)),
    "an address": New(Named("urllib.parse", "ParseResult"), ("https", "example.org", "/", "", "", "")),
    "a file's numbers": Call(Named("os", "stat_result"), ((1, 2, 3), {"st_atime": 7})),
    "a result of scipy's": New(Named("scipy.stats._morestats", "ShapiroResult"), (0.9, 0.4)),
    "the largest of a tensor": Call(Named("torch.return_types", "max"), ((1, 2), {})),
    "a parameter without data": Call(Named("torch.nn.parameter", "UninitializedParameter"), (True,)),
    "an annotation": Named("typing", "List"),
    "documentation of its own": New(Named("sklearn.preprocessing._data", "StandardScaler"), (), {"__doc__": "scales"}),
}
HOSTILE: dict[str, Any] = {
    "two names for a distribution": New(Named("statistics", "NormalDist"), (), (SYSTEM, 2.0)),
    "three numbers for a distribution": New(Named("statistics", "NormalDist"), (), (1.0, 2.0, 3.0)),
    "a status of nothing plain": Call(Named("http", "HTTPStatus"), (HELD,)),
    "an object for bytes": New(Named("_io", "BytesIO"), (), (HELD, 0, None)),
    "dunders beside bytes": New(Named("_io", "BytesIO"), (), (b"abc", 0, {"__class__": HELD})),
    "a place before text": New(Named("_io", "StringIO"), (), ("abc", "\n", -1, None)),
    "bytes in a file": Call(Named("_io", "FileIO"), ("canary", "w")),
    "a context that raises something else": Call(DECIMAL, (10, "ROUND_HALF_EVEN", -9, 9, 1, 0, [], [Named("builtins", "SystemExit")])),
    "a stat that is called": Call(Named("os", "stat"), ("/",)),
    "an address that is fetched": Call(Named("urllib.request", "urlopen"), ("https://example.org",)),
    "a result that holds a call": New(Named("scipy.stats._morestats", "ShapiroResult"), (Call(SYSTEM, ("true",)), 0.4)),
    "a result that is called": Call(Named("scipy.stats._morestats", "ShapiroResult"), (0.9, 0.4)),
    "a name for tensors": Call(Named("torch.return_types", "max"), (SYSTEM, {})),
    "a name for a parameter's data": Call(Named("torch.nn.parameter", "UninitializedParameter"), (True, SYSTEM)),
    "a method of scipy's that is called": Call(ENTROPY, (1,)),  # type: ignore[arg-type]
    "another method of scipy's": Call(Named("builtins", "getattr"), (New(GEN), "_construct_argparser")),
    "an attribute in a method's place": Call(Named("builtins", "getattr"), (New(GEN, (), {"_entropy": HELD}), "_entropy")),
    "an object for documentation": New(Named("sklearn.preprocessing._data", "StandardScaler"), (), {"__doc__": HELD}),
    "a type that is subscripted": Call(Named("_operator", "getitem"), (Named("typing", "List"), 1)),
}


@pytest.mark.parametrize("what", HONEST.values(), ids=HONEST)
@pytest.mark.parametrize("protocol", [2, 4])
def test_it_is_clean(what: Any, protocol: int) -> None:
    assert [reason.why for reason in scan(pickled(what, protocol)).reasons] == []


@pytest.mark.parametrize("what", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_it_is_refused(what: Any, protocol: int) -> None:
    assert scan(pickled(what, protocol)).outcome == "refused"


def test_a_method_that_a_distribution_keeps_is_a_value() -> None:
    assert scan(pickled(ENTROPY)).outcome == "clean"


WORDS = ["cat\ndog\nbird\n", "person\nbicycle\ncar\n", "call_me\nname\nx\n", "indian\nsystem\nx\n", "cos\nsin\ntan\n"]
PROGRAMS = [
    b'cos\nsystem\n(S"true"\ntR',
    b'cos\nsystem\n(S"true" \t\ntRjunk',
    b'(S"true"\nios\nsystem\n',
    b'(cos\nsystem\nS"true"\nojunk',
    b"cantigravity\nfly\nx",
    b'cos\nsystem\np0\n0g00\n(S"true"\ntRx',
    b'cos\nsystem\nq\x070g7\n(S"true"\ntRx',
    b'cos\nsystem\n\x940g0\n(S"true"\ntRx',
    b'I0x1f\n0I01\n0L5L\n0Fnan\n0cos\nsystem\n(S"true"\ntRx',
    b'((lp0\n1cos\nsystem\n(S"true"\ntRx',
]
"""Each acts before it breaks."""


@pytest.mark.parametrize("words", WORDS)
def test_lists_of_words_are_text(words: str) -> None:
    verdict = scan(words.encode())
    assert (verdict.outcome, verdict.format) == ("clean", "text")


@pytest.mark.parametrize("content", PROGRAMS)
def test_what_acts_before_it_breaks_is_a_pickle(content: bytes) -> None:
    assert scan(content).outcome == "refused"
    assert walk(memoryview(content)).certain
