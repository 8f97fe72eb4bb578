"""Every noun survives the wire, unknown and wrong fields are refused, and no bytes do worse than a typed no."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import typing
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vouchgate.vocabulary as vocabulary
from vouchgate.flows.changes import Change
from vouchgate.flows.sequence import Sequenced
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.frames import MAX_FRAME_BYTES, body_length, frame, read_answer, read_request
from vouchgate.vocabulary.vouches import Vouch
from vouchgate.vocabulary.wire import MAX_DOCUMENT_BYTES, Noun, decode, encode, from_plain, to_plain


def nouns() -> list[type[Noun]]:
    found: dict[str, type[Noun]] = {}
    for module in pkgutil.iter_modules(vocabulary.__path__):
        for _, one in inspect.getmembers(importlib.import_module(f"vouchgate.vocabulary.{module.name}"), inspect.isclass):
            if issubclass(one, Noun) and one is not Noun:
                found[one.__name__] = one
    return [found[name] for name in sorted(found)]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT, st.lists(st.integers(0, 9), max_size=3))


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a noun's field, by its type."""
    if isinstance(hint, typing.NewType):
        return strategy(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return annotated(arguments)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in {typing.Union, types.UnionType}:
        return st.one_of(*map(strategy, arguments))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return st.lists(strategy(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(strategy, arguments))
    if origin is frozenset:
        return st.frozensets(strategy(arguments[0]), max_size=2)
    if origin is list:
        return st.lists(strategy(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(strategy(arguments[0]), strategy(arguments[1]), max_size=2)
    simple = {str: TEXT, int: st.integers(0, 2**53), float: st.floats(0, 1e9), bool: st.booleans(), bytes: st.binary(max_size=8)}
    if hint in simple:
        return simple[hint]
    if hint is type(None):
        return st.none()
    if hint is Any:
        return PLAIN
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        return of(hint)
    raise AssertionError(hint)


def annotated(arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    for meta in arguments[1:]:
        if getattr(meta, "pattern", None):
            longest = meta.max_length or 10**6
            return st.from_regex(meta.pattern, fullmatch=True).filter(lambda text, most=longest: len(text) <= most and "\n" not in text)
        if getattr(meta, "ge", None) is not None and arguments[0] is int:
            return st.integers(meta.ge, meta.le if meta.le is not None else meta.ge + 1000)
        if getattr(meta, "min_length", None) or getattr(meta, "max_length", None):
            least, most = meta.min_length or 0, meta.max_length or 10**6
            return strategy(arguments[0]).filter(lambda value, least=least, most=most: least <= len(value) <= most)
    return strategy(arguments[0])


@cache
def of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a noun."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.fixed_dictionaries(
        {one.name: st.deferred(lambda hint=hints[one.name]: strategy(hint)) for one in msgspec.structs.fields(kind)}
    ).map(lambda values: kind(**values))


@pytest.mark.parametrize("kind", [*nouns(), Sequenced], ids=lambda kind: kind.__name__)
def test_every_noun_survives_json_plain_values_and_frames(kind: type[Noun]) -> None:
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(of(kind))
    def check(value: Any) -> None:
        assert decode(kind, encode(value)) == value
        assert encode(decode(kind, encode(value))) == encode(value)
        assert from_plain(kind, to_plain(value)) == value
        over = msgspec.msgpack.decode(frame((1, True, encode(value)))[4:])
        assert decode(kind, over[2]) == value

    check()


@pytest.mark.parametrize("kind", nouns(), ids=lambda kind: kind.__name__)
def test_every_noun_is_frozen_and_refuses_a_field_that_it_does_not_know(kind: type[Noun]) -> None:
    @settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(of(kind))
    def check(value: Any) -> None:
        plain = {**msgspec.json.decode(encode(value)), "unknown_field": 1}
        with pytest.raises(InvalidInput, match="unknown_field"):
            decode(kind, msgspec.json.encode(plain))
        with pytest.raises(InvalidInput, match="unknown_field"):
            from_plain(kind, plain)
        name = next((one.name for one in msgspec.structs.fields(kind)), None)
        if name:
            with pytest.raises(AttributeError):
                setattr(value, name, None)

    check()


def test_the_nouns_are_all_here() -> None:
    assert len(nouns()) > 50
    assert typing.get_args(Change)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_noun_or_a_typed_no(data: bytes) -> None:
    for kind in (Vouch, Digest):
        with pytest.raises(InvalidInput):
            decode(kind, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"value": 1}',
        b'{"value": "x", "value2": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"value":' * 50_000,
        b"NaN",
    ],
    ids=range(10),
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode(Digest, data)


def test_a_document_over_the_bound_is_refused_unread() -> None:
    with pytest.raises(InvalidInput, match="the bound is"):
        decode(Digest, b" " * (MAX_DOCUMENT_BYTES + 1))


def test_the_order_of_keys_does_not_matter_to_the_bytes() -> None:
    assert encode({"b": 1, "a": {"d": 1, "c": 2}}) == encode({"a": {"c": 2, "d": 1}, "b": 1})


# --- frames ---------------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1), TEXT, st.dictionaries(TEXT, PLAIN, max_size=4))
def test_a_request_survives_its_frame(number: int, method: str, params: dict[str, Any]) -> None:
    data = frame((number, method, params))
    assert body_length(data[:4]) == len(data) - 4
    assert read_request(data[4:]) == (number, method, params)


@given(st.integers(0, 2**63 - 1), st.booleans(), PLAIN)
def test_an_answer_survives_its_frame(number: int, ok: bool, body: Any) -> None:
    assert read_answer(frame((number, ok, body))[4:]) == (number, ok, body)


@given(st.binary(max_size=60))
def test_any_body_is_a_frame_or_a_typed_no(body: bytes) -> None:
    for read in (read_request, read_answer):
        try:
            read(body)
        except InvalidInput:
            continue


@pytest.mark.parametrize("header", [b"", b"\0\0\0", b"\xff\xff\xff\xff", (MAX_FRAME_BYTES + 1).to_bytes(4, "big"), b"\0\0\0\0\0"])
def test_a_header_that_is_none_or_announces_too_much_is_refused(header: bytes) -> None:
    with pytest.raises(InvalidInput):
        body_length(header)


def test_the_largest_frame_is_a_frame_and_one_more_byte_is_not() -> None:
    body = b"x" * (MAX_FRAME_BYTES - 5)
    assert len(frame(body)) == MAX_FRAME_BYTES + 4
    with pytest.raises(InvalidInput, match="over the bound"):
        frame(body + b"x")


def test_deep_nesting_is_a_typed_no() -> None:
    with pytest.raises(InvalidInput):
        read_request(b"\x93\x01\xa1a\x81\xa1a" + b"\x91" * 100_000 + b"\x90")
