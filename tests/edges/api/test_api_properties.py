"""What must hold for any input: no body or query makes the API fail inside, no value breaks a line of its text formats."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_memory import MemorySurface

from vouchgate.edges.api.app import ACTS, READS, build_app
from vouchgate.edges.api.guard import PEER, UnixPeer
from vouchgate.edges.api.metrics import prometheus_text
from vouchgate.edges.api.rates import MAX_BUCKETS, Rates
from vouchgate.edges.api.sessions import MAX_SESSIONS, MAX_SESSIONS_OF_ONE, Sessions
from vouchgate.edges.api.stream import events
from vouchgate.edges.cli.printing import duration, harmless
from vouchgate.vocabulary.answers import Metric, Sample
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import LimitExceeded

SPOOL = Path(tempfile.mkdtemp(prefix="vg"))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({field for _, kind, _ in ACTS for field in kind.__struct_fields__})


def call(method: str, path: str, query: bytes = b"", body: bytes = b"") -> tuple[int, bytes]:
    """One request through the whole app, as a peer on the unix socket."""
    app = build_app(MemorySurface(), spool=SPOOL, now=lambda: 1, monotonic=lambda: 0.0, console_hosts=frozenset)
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query, "http_version": "1.1", "scheme": "http",
        "headers": [(b"content-type", b"application/json")], "root_path": "", "server": None, "client": None, PEER: UnixPeer(1, 0, 0),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([path for path, *_ in ACTS]), st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), anything, max_size=5))
def test_any_json_gets_an_answer_or_a_problem(path: str, body: dict[str, Any]) -> None:
    status, answer = call("POST", path, body=json.dumps(body).encode())
    assert status < 500
    assert json.loads(answer) is not None
    if status >= 400:
        assert json.loads(answer)["remedy"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([path for path, *_ in ACTS]), st.binary(max_size=200))
def test_any_bytes_get_a_problem(path: str, body: bytes) -> None:
    status, _ = call("POST", path, body=body)
    assert status < 500


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([path for path, *_ in READS]), st.binary(max_size=60))
def test_any_query_gets_an_answer_or_a_problem(path: str, query: bytes) -> None:
    status, answer = call("GET", path, query=query)
    assert status < 500
    json.loads(answer)


@given(st.text(), st.text(), st.floats() | st.integers())
def test_a_metric_is_always_three_lines(help_text: str, label: str, value: float) -> None:
    metric = Metric(name="vouchgate_x", kind="gauge", help=help_text, samples=(Sample(value=value, labels={"endpoint": label}),))
    lines = prometheus_text([metric]).split("\n")
    assert len(lines) == 4
    assert re.fullmatch(r'vouchgate_x\{endpoint="(?:[^"\\\n]|\\["\\n])*"\} \S+', lines[2], re.DOTALL)


@given(st.text())
def test_printed_text_holds_no_control_characters(text: str) -> None:
    shown = harmless(text)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200b-\u200f\ud800-\udfff]", shown)
    if text.isascii() and text.isprintable():
        assert shown == text


@given(st.integers(-(10**15), 10**15))
def test_a_duration_is_short(milliseconds: int) -> None:
    assert re.fullmatch(r"\d+ (s|min|h|d)", duration(milliseconds))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=60))
def test_nobody_gets_more_than_the_rate(asked: list[tuple[str, float]]) -> None:
    now, granted = 0.0, dict.fromkeys("abc", 0)
    rates = Rates(5.0, lambda: now)
    for who, wait in asked:
        now += wait
        try:
            rates.take(who)
            granted[who] += 1
        except LimitExceeded:
            continue
    for count in granted.values():
        assert count <= 10 + 5 * now + 1e-6


def test_rates_remember_a_bounded_number() -> None:
    rates = Rates(1.0, lambda: 0.0)
    for number in range(MAX_BUCKETS + 100):
        rates.take(str(number))
    assert len(rates._buckets) == MAX_BUCKETS


def named(name: str) -> Any:
    caller = MemorySurface().caller("admin", "cookie", "")
    who = msgspec.structs.replace(caller.principal.principal, id=f"spiffe://test.local/person/staff/{name}")
    return msgspec.structs.replace(caller, principal=msgspec.structs.replace(caller.principal, principal=who))


def test_sessions_are_bounded_and_the_oldest_ends() -> None:
    sessions = Sessions(lambda: 0, 10)
    tokens = [sessions.open(named(str(number)))[0] for number in range(MAX_SESSIONS + 1)]
    assert sessions.find(tokens[0]) is None
    assert sessions.find(tokens[1]) is not None
    assert sessions.find("") is None
    assert all(token not in repr(vars(sessions)) for token in tokens)


def test_nobodys_logins_end_anothers_session() -> None:
    sessions = Sessions(lambda: 0, 10)
    other = sessions.open(named("ada"))[0]
    tokens = [sessions.open(named("eve"))[0] for _ in range(MAX_SESSIONS_OF_ONE + 3)]
    assert sessions.find(other) is not None
    assert [sessions.find(one) is not None for one in tokens] == [False] * 3 + [True] * MAX_SESSIONS_OF_ONE


def line(seq: int) -> DecisionLine:
    return DecisionLine(
        seq=seq,
        at=0,
        effect="allow",
        would_be="allow",
        mode="enforce",
        principal="p",
        authenticated=True,
        action="a",
        resource="r",
        path="/\r\n\r\nx",
    )


@pytest.mark.parametrize("fails", [False, True])
def test_a_stream_that_ends_says_so_and_lets_go(fails: bool) -> None:
    closed: list[bool] = []

    async def source() -> AsyncIterator[DecisionLine]:
        try:
            yield line(7)
            if fails:
                raise LimitExceeded("x", remedy="y")
        finally:
            closed.append(True)

    async def read() -> list[bytes]:
        return [part async for part in events(source())]

    parts = asyncio.run(read())
    assert parts[1].startswith(b"id: 7\nevent: decision\ndata: {")
    assert parts[1].count(b"\n") == 4
    assert parts[-1] == b"event: end\ndata: {}\n\n"
    assert closed == [True]


def test_a_quiet_stream_beats_and_a_reader_that_leaves_is_let_go() -> None:
    closed: list[bool] = []

    async def source() -> AsyncIterator[DecisionLine]:
        try:
            await asyncio.sleep(60)
            yield line(1)
        finally:
            closed.append(True)

    async def read() -> list[bytes]:
        parts = []
        stream = events(source(), heartbeat=0.01)
        async for part in stream:
            parts.append(part)
            if len(parts) == 3:
                break
        await stream.aclose()
        return parts

    assert asyncio.run(read())[1:] == [b": heartbeat\n\n", b": heartbeat\n\n"]
    assert closed == [True]
