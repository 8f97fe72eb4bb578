"""Cedar's values and extension types against cedarpy, and their JSON form."""

from __future__ import annotations

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vouchgate.policy.extensions import ExtensionError, parse_datetime, parse_decimal, parse_duration, parse_extension, parse_ip
from vouchgate.policy.values import DateTime, Decimal, Duration, Ip, Record, Uid, from_cedar_json, key, to_cedar_json, to_value, values
from vouchgate.vocabulary.errors import InvalidInput

I64 = st.integers(-(2**63), 2**63 - 1)
EXTENDED = st.one_of(
    st.builds(Decimal, I64),
    st.builds(Duration, I64),
    st.builds(DateTime, I64),
    st.builds(lambda address, prefix: Ip(4, address, prefix), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda address, prefix: Ip(6, address, prefix), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)
LEAVES = st.one_of(st.booleans(), I64, st.text(max_size=5), st.builds(Uid, st.text(max_size=3), st.text(max_size=3)), EXTENDED)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(values),
        st.dictionaries(st.text(max_size=3).filter(lambda name: not name.startswith("__")), inner, max_size=3).map(Record),
    ),
    max_leaves=6,
)
ASKED = {"principal": {"type": "U", "id": "u"}, "action": {"type": "Action", "id": "a"}, "resource": {"type": "U", "id": "u"}}


@settings(max_examples=200)
@given(VALUES)
def test_a_value_that_was_written_reads_back_as_itself(value):
    again = from_cedar_json(to_cedar_json(value))
    assert type(again) is type(value)
    assert again == value


@settings(max_examples=100)
@given(VALUES, VALUES)
def test_equality_and_keys_agree(left, right):
    same = type(left) is type(right) and left == right
    assert (key(left) == key(right) and type(left) is type(right)) == same
    assert values([left]) == values([left])


def cedar_reads(constructor: str, text: str) -> bool:
    """Whether Cedar's own constructor accepts the text."""
    context = {"x": {"__extn": {"fn": constructor, "arg": text}}}
    answer = cedarpy.is_authorized(
        {**ASKED, "context": context}, "permit (principal, action, resource) when { context.x == context.x };", []
    )
    return answer.decision == cedarpy.Decision.Allow


def we_read(constructor: str, text: str) -> bool:
    try:
        parse_extension(constructor, text)
    except ExtensionError:
        return False
    return True


NEAR = st.one_of(
    st.tuples(st.just("decimal"), st.from_regex(r"[-+]?[0-9]{0,18}\.?[0-9]{0,5}", fullmatch=True)),
    st.tuples(st.just("ip"), st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){2,4}(/[0-9]{0,3})?", fullmatch=True)),
    st.tuples(st.just("ip"), st.from_regex(r"[0-9a-f:]{2,12}(/[0-9]{1,3})?", fullmatch=True)),
    st.tuples(st.just("datetime"), st.from_regex(r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9](T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{3})?(Z|[+-][0-9]{4})?)?", fullmatch=True)),
    st.tuples(st.just("duration"), st.from_regex(r"-?([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,20}ms)?", fullmatch=True)),
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(NEAR)
def test_constructors_accept_what_cedar_accepts(case):
    constructor, text = case
    assert we_read(constructor, text) == cedar_reads(constructor, text), case


@pytest.mark.parametrize(
    ("constructor", "text"),
    [
        ("decimal", "1"), ("decimal", "1."), ("decimal", ".5"), ("decimal", "1.23456"), ("decimal", "922337203685477.5808"),
        ("decimal", "+1.0"), ("decimal", " 1.0"), ("decimal", "1.0\n"), ("decimal", "١.٠"), ("decimal", "-922337203685477.5809"),
        ("ip", ""), ("ip", "1.2.3"), ("ip", "1.2.3.4.5"), ("ip", "01.2.3.4"), ("ip", "256.0.0.1"), ("ip", "1.2.3.4/33"), ("ip", "1.2.3.4/"),
        ("ip", "1.2.3.4/08"), ("ip", "::1%eth0"), ("ip", "::ffff:1.2.3.4"), ("ip", "::/129"), ("ip", "1::2::3"), ("ip", ":::"),
        ("ip", "::1/+8"), ("ip", " ::1"), ("ip", "1.2.3.4\n"), ("ip", "1.2.3.4/8/8"), ("ip", "0:0:0:0:0:0:0:0:0"),
        ("datetime", "2024-02-30"), ("datetime", "2023-02-29"), ("datetime", "2024-13-01"), ("datetime", "2024-1-1"),
        ("datetime", "2024-01-01T24:00:00Z"), ("datetime", "2024-01-01T00:00:60Z"), ("datetime", "2024-01-01T00:00:00"),
        ("datetime", "2024-01-01T00:00:00.1Z"), ("datetime", "2024-01-01T00:00:00+2400"), ("datetime", "2024-01-01T00:00:00z"),
        ("datetime", "2024-01-01 00:00:00Z"), ("datetime", "2024-01-01\n"),
        ("duration", ""), ("duration", "-"), ("duration", "1"), ("duration", "1h1d"), ("duration", "1.5h"), ("duration", "+1h"),
        ("duration", "9223372036854775808ms"), ("duration", "106751991168d"), ("duration", "1ms\n"), ("duration", "1h-1m"),
    ],
)  # fmt: skip
def test_malformed_extension_text_is_refused_as_cedar_refuses_it(constructor, text):
    assert not we_read(constructor, text)
    assert not cedar_reads(constructor, text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (parse_decimal("-0.5").units, -5000),
        (parse_decimal("-922337203685477.5808").units, -(2**63)),
        (parse_datetime("1970-01-01").millis, 0),
        (parse_datetime("0000-01-01").millis, -62167219200000),
        (parse_datetime("2024-02-29T12:30:15.250+0130").millis, 1709204415250),
        (parse_duration("-1d2h3m4s5ms").millis, -93784005),
        (parse_duration("-9223372036854775808ms").millis, -(2**63)),
        (parse_ip("10.1.2.3").in_range(parse_ip("10.0.0.0/8")), True),
        (parse_ip("10.0.0.0/7").in_range(parse_ip("10.0.0.0/8")), False),
        (parse_ip("::1").in_range(parse_ip("127.0.0.0/8")), False),
    ],
)
def test_known_answers(value, expected):
    assert value == expected


@pytest.mark.parametrize(
    "value",
    [1.5, None, 2**63, -(2**63) - 1, {"__extn": 1}, {"__extn": {"fn": "ip"}}, {"__extn": {"fn": "nope", "arg": "1"}}, {"__entity": {"type": "A"}},
     {"__entity": "A"}, {"__extn": {"fn": "offset", "args": [1]}}, {"__extn": {"fn": "ip", "args": []}}],
)  # fmt: skip
def test_what_is_no_cedar_value_is_refused(value):
    with pytest.raises(InvalidInput):
        from_cedar_json(value)


def test_deep_values_are_refused():
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidInput):
        from_cedar_json(deep)
    with pytest.raises(InvalidInput):
        to_value(deep)
