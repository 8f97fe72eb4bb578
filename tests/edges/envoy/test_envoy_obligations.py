"""Answers under an obligation, on a real Envoy: rounded, members left out, or withheld; and that nobody else can ask for it or escape it."""

from __future__ import annotations

import decimal
import gzip
import json
import random
import time

import msgspec
import pytest
from gateway_harness import DIGITS, NO, YES, Harness, spiffe

pytestmark = pytest.mark.gateway

INFER = "/v2/models/digits/infer"


def head(kind: str = "application/json", status: str = "200 OK", **more: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{lines}".encode()


def whole(body: str | bytes, **more: str) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return head(**more) + b"content-length: %d\r\n\r\n" % len(data) + data


def owing(text: str):
    return (200, {"x-vg-decision-id": "d-yes", "x-vg-obligations": text}, b"")


def answered(gw: Harness, owed: str, answer: bytes, **options):
    """What dora, who is always asked about, gets."""
    gw.verdict = owing(owed) if owed else YES
    gw.upstreams["digits"].answer = answer
    options.setdefault("body", b"{}")
    return gw.call("POST", INFER, who="dora", **options)


HIDDEN = {"x-dry-run": "false", "cookie": "to=prod", "prefer": "x", "range": "bytes=0-", "if-match": "*", "x-amount": "9", "te": "trailers"}


@pytest.mark.parametrize("owed", ["agreed=parameters", "rounded-answer=3; agreed=parameters"])
def test_what_people_agreed_to_reaches_the_server_without_what_they_could_not_read(gw, owed):
    gw.verdict, gw.upstreams["digits"].answer = owing(owed), b""
    got = gw.call(
        "POST", INFER, who="dora", body=b"{}", headers=HIDDEN | {"traceparent": "00-ab-cd-01", "content-type": "application/json"}
    )
    assert got.status == 200
    names = {name.lower() for name, _ in got.json["headers"]}
    assert names.isdisjoint(HIDDEN)
    assert {"host", "content-type", "traceparent", "x-request-id"} <= names
    assert got.json["headers"]


def test_an_answer_that_people_agreed_to_and_that_owes_nothing_passes_as_it_is(gw):
    got = answered(gw, "agreed=parameters", head(kind="text/plain", x_own="1") + b"content-length: 2\r\n\r\nok")
    assert (got.status, got.body, got.headers["x-own"]) == (200, b"ok", "1")


ROUNDED = [
    ("0.123456", "0.123"), ("0.9996", "1"), ("1.0005", "1.001"), ("-0.0004", "0"), ("-0", "0"), ("-0.0", "0"), ("0e5", "0"),
    ("1.23456e2", "1.23456e2"), ("1.2345678e2", "123.457"), ("123456789e-8", "1.235"), ("1E-10", "0"), ("1e-999999999999", "0"),
    ("5e-4", "0.001"), ("4.999e-4", "0"), ("1e400", "1e400"), ("12345678901234567890", "12345678901234567890"),
    ("12345678901234567890.12345", "12345678901234567890.123"), ("9.9999", "10"), ("-9.9999", "-10"), ("99.9995", "100"),
    ("0.10000", "0.1"), ("1.5", "1.5"), ("100", "100"), ("0.0010", "0.001"), ("-1.0004999", "-1"), ("0.00050000000000000000001", "0.001"),
    ("1.000000E+0", "1"), ("9" * 400 + ".9999", "1" + "0" * 400),
]  # fmt: skip


def test_numbers_are_rounded_however_they_are_written(gw):
    body = "[" + ", ".join(number for number, _ in ROUNDED) + "]"
    got = answered(gw, "rounded-answer=3", whole(body))
    assert got.status == 200
    assert got.body.decode() == "[" + ", ".join(made for _, made in ROUNDED) + "]"
    assert got.headers["content-length"] == str(len(got.body))
    assert got.headers["content-type"] == "application/json"


def test_random_numbers_are_what_exact_arithmetic_says(gw):
    chance = random.Random(7)
    numbers = []
    for _ in range(3_000):
        digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(1, 12)))
        text = chance.choice(("", "-")) + (digits.lstrip("0") or "0")
        if chance.random() < 0.8:
            text += "." + "".join(chance.choice("0495") for _ in range(chance.randint(1, 12)))
        if chance.random() < 0.4:
            text += chance.choice("eE") + chance.choice(("", "+", "-")) + str(chance.randint(0, 14))
        numbers.append(text)
    got = answered(gw, "rounded-answer=4", whole(json.dumps({"values": "X"}).replace('"X"', "[" + ",".join(numbers) + "]")))
    made = json.loads(got.body, parse_float=decimal.Decimal, parse_int=decimal.Decimal)["values"]
    with decimal.localcontext() as context:
        context.prec, context.rounding = 60, decimal.ROUND_HALF_UP
        wanted = [decimal.Decimal(text).quantize(decimal.Decimal("0.0001")) for text in numbers]
    assert made == wanted


def test_what_is_no_number_stays(gw):
    body = '{ "0.123456" : "0.123456", "t": true, "n": null, "é\\u00e9": "\\u0030.99", "deep": [[[0.55555]]] }'
    got = answered(gw, "rounded-answer=1", whole(body))
    assert got.body.decode() == body.replace("[[[0.55555]]]", "[[[0.6]]]")


@pytest.mark.parametrize(
    ("paths", "body", "left"),
    [
        ("usage", '{"usage": 1, "a": 2}', '{"a": 2}'),
        ("usage", '{"a": 2, "usage": {"x": [1, "}"]}}', '{"a": 2}'),
        ("usage", '{"a": 2, "usage": 1, "b": 3}', '{"a": 2, "b": 3}'),
        ("usage", '{"usage": 1}', "{}"),
        ("usage", '{"usage": 1, "usage": 2, "a": 3, "usage": 4}', '{"a": 3}'),
        ("usage", '{"\\u0075sage": 1, "us\\u0061ge": 2, "USAGE": 3, "a": 4}', '{"a": 4}'),
        ("usage", '{"usage ": 1, "usag": 2, "x": {"usage": 3}}', '{"usage ": 1, "usag": 2, "x": {"usage": 3}}'),
        ("a,b", '{"a": 1, "b": 2, "c": 3}', '{"c": 3}'),
        ("a,c", '{"a": 1, "b": 2, "c": 3}', '{"b": 2}'),
        ("a.b", '{"a": {"b": 1, "c": 2}, "b": 3}', '{"a": {"c": 2}, "b": 3}'),
        ("a.b", '{"a": [{"b": 1}, [{"b": 2, "d": 3}]]}', '{"a": [{}, [{"d": 3}]]}'),
        ("choices.*.logprobs", '{"choices": [{"logprobs": 1, "t": 2}, {"t": 3, "logprobs": []}]}', '{"choices": [{"t": 2}, {"t": 3}]}'),
        ("choices.logprobs", '{"choices": [{"logprobs": 1}]}', '{"choices": [{}]}'),
        ("choices.*", '{"choices": [1, {"a": 2}], "b": 3}', '{"choices": [], "b": 3}'),
        ("*.secret", '{"x": {"secret": 1}, "y": [{"secret": 2, "k": 0}]}', '{"x": {}, "y": [{"k": 0}]}'),
        ("*", '{"x": 1, "y": 2}', "{}"),
        ("id", '[{"id": 1}, {"id": 2, "v": 3}]', "[{}, {\"v\": 3}]"),
        ("a", '"a"', '"a"'),
        ("a", '  { "a" : 1 , "b" : 2 }  ', '  { "b" : 2 }  '),
        ("ab", '{"a\\u0062": 1, "ab": 2, "a\\b": 3}', '{"a\\b": 3}'),
    ],
)  # fmt: skip
def test_members_are_left_out_however_they_are_written(gw, paths, body, left):
    got = answered(gw, f"redaction={paths}", whole(body))
    assert (got.status, got.body.decode()) == (200, left)
    json.loads(got.body)


def test_random_documents_lose_exactly_what_is_named(gw):
    chance = random.Random(11)

    def grow(depth: int):
        if depth == 0 or chance.random() < 0.3:
            return chance.choice((1, 2.5, "s", None, True, "a", [], {}))
        if chance.random() < 0.5:
            return [grow(depth - 1) for _ in range(chance.randint(0, 4))]
        return {chance.choice("abcd"): grow(depth - 1) for _ in range(chance.randint(0, 4))}

    def without(value, paths):
        if isinstance(value, list):
            return [without(one, paths) for one in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, inner in value.items():
            under = [path[1:] for path in paths if path[0] == name]
            if [] not in under:
                kept[name] = without(inner, under)
        return kept

    for _ in range(60):
        document = grow(5)
        paths = [[chance.choice("abcd") for _ in range(chance.randint(1, 3))] for _ in range(chance.randint(1, 4))]
        got = answered(gw, "redaction=" + ",".join(".".join(path) for path in paths), whole(json.dumps(document)))
        assert got.status == 200
        assert json.loads(got.body) == without(document, paths), (document, paths)


def test_both_at_once(gw):
    got = answered(gw, "rounded-answer=0; redaction=b,c.d", whole('{"b": 1.5, "a": 2.5, "c": {"d": 0.1, "e": [0.5, 0.4]}}'))
    assert got.body == b'{"a": 3, "c": {"e": [1, 0]}}'


CHUNKED = head(transfer_encoding="chunked") + b"\r\n5\r\n[0.12\r\n6\r\n345, 1\r\n1\r\n]\r\n0\r\nx-more: 0.12345\r\n\r\n"


def test_a_chunked_answer_is_read_whole_and_its_trailers_go(gw):
    got = answered(gw, "rounded-answer=1", CHUNKED)
    assert (got.status, got.body) == (200, b"[0.1, 1]")
    assert "x-more" not in got.headers


WITHHELD = {
    "events": head("text/event-stream", transfer_encoding="chunked") + b"\r\nf\r\ndata: 0.123456\n\r\n0\r\n\r\n",
    "binary tensors": whole(b'{"outputs":[]}\0\0\0\0', kind="application/octet-stream", inference_header_content_length="14"),
    "binary tensors as json": whole(b'{"outputs":[]}', inference_header_content_length="14"),
    "text": whole("0.123456", kind="text/plain"),
    "compressed": whole(gzip.compress(b'{"a": 0.123456}'), content_encoding="gzip"),
    "said twice": head() + b"content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}",
    "another charset": whole('{"a": 0.123456}', kind="application/json; charset=utf-16"),
    "two documents": whole('{"a": 0.123456} {"a": 0.123456}'),
    "lines": whole('{"a": 0.123456}\n{"a": 0.123456}', kind="application/x-ndjson"),
    "cut off": whole('{"a": 0.123456'),
    "comment": whole('{"a": 0.123456 /* b */}'),
    "byte order mark": whole("\ufeff{}"),
    "not a number": whole('{"a": NaN}'),
    "leading zero": whole('{"a": 00.123456}'),
    "hexadecimal": whole('{"a": 0x1p-3}'),
    "bad utf-8": whole(b'{"a": "\xff 0.123456"}'),
    "surrogate bytes": whole(b'{"a": "\xed\xa0\x80 0.123456"}'),
    "control character": whole('{"a": "\x01 0.123456"}'),
    "bad escape": whole('{"\\x61": 0.123456}'),
    "single quotes": whole("{'a': 0.123456}"),
    "trailing comma": whole('{"a": 0.123456,}'),
    "too deep": whole("[" * 70 + "0.123456" + "]" * 70),
    "very deep": whole("[" * 200_000 + "0.123456" + "]" * 200_000),
    "a very long number": whole("0." + "123456" * 1000),
    "too long": whole("[" + "0.123456," * 130_000 + "1]"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHHELD)
def test_what_cannot_be_read_whole_is_withheld(gw, name):
    got = answered(gw, "rounded-answer=1; redaction=zzz", WITHHELD[name])
    assert got.status == 502, got
    assert b"123456" not in got.body
    assert got.headers["content-type"] == "application/problem+json"
    if name != "too long":
        assert (got.json["type"], got.json["decision_id"]) == ("https://vouchgate.dev/problem/answer-withheld", "d-yes")
        assert got.json["request_id"] == got.headers["x-request-id"]


@pytest.mark.parametrize("owed", ["delay=5", "rounded-answer=x", "rounded-answer=", "rounded-answer=1; what=ever", ";", "round"])
def test_an_obligation_that_the_gateway_does_not_know_withholds_the_answer(gw, owed):
    got = answered(gw, owed, whole('{"a": 0.123456}'))
    assert got.status == 502
    assert b"123456" not in got.body


def test_events_that_never_end_are_answered_at_once(gw):
    gw.verdict = owing("rounded-answer=1")
    connection = gw.connect("dora")
    began = time.monotonic()
    connection.request("GET", "/stream")
    got = connection.getresponse()
    assert (got.status, json.loads(got.read())["title"]) == (502, "answer withheld")
    assert time.monotonic() - began < 2
    connection.close()


def test_an_answer_of_a_megabyte(gw):
    document = json.dumps([{"p": 0.123456789, "name": "n" * 20, "drop": 1}] * 16_000)
    assert 900_000 < len(document) < 1_048_576
    got = answered(gw, "rounded-answer=2; redaction=drop", whole(document))
    assert got.status == 200
    assert json.loads(got.body) == [{"p": 0.12, "name": "n" * 20}] * 16_000


def test_headers_of_the_answer_go_too(gw):
    got = answered(
        gw, "rounded-answer=1", whole("{}", x_probability="0.123456", etag='"0.123456"', set_cookie="p=0.123456", mcp_session_id="s1")
    )
    assert got.headers["mcp-session-id"] == "s1"
    assert "0.123456" not in repr(got.headers)
    assert got.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_passes(gw, status):
    answer = f"HTTP/1.1 {status}\r\nx-probability: 0.123456\r\n\r\n".encode()
    got = answered(gw, "rounded-answer=1", answer)
    assert (str(got.status), got.body) == (status[:3], b"")
    assert "x-probability" not in got.headers


def test_an_error_of_the_server_is_tightened_too(gw):
    got = answered(gw, "redaction=usage", whole('{"usage": 1, "error": 2}', status="400 Bad Request"))
    assert (got.status, got.body) == (400, b'{"error": 2}')


def test_the_server_is_asked_for_a_plain_whole_answer(gw):
    sent = {"accept-encoding": "gzip, br", "range": "bytes=0-10", "if-none-match": '"x"', "te": "trailers", "if-modified-since": "x"}
    answered(gw, "rounded-answer=1", whole("{}"), headers=sent)
    seen = dict(gw.upstreams["digits"].seen[-1]["headers"])
    assert not set(sent) & set(seen)
    answered(gw, "", whole("{}"), headers=sent)
    assert dict(gw.upstreams["digits"].seen[-1]["headers"])["accept-encoding"] == "gzip, br"


def test_neither_caller_nor_server_can_ask_for_it(gw):
    got = answered(
        gw, "", whole('{"a": 0.123456}', **{"x-vg-obligations": "rounded-answer=1"}), headers={"x-vg-obligations": "redaction=a"}
    )
    assert got.body == b'{"a": 0.123456}'
    got = answered(gw, "rounded-answer=1", whole('{"a": 0.123456}'), headers={"x-vg-obligations": "redaction=zzz"})
    assert got.body == b'{"a": 0.1}'


def test_a_refusal_passes_untouched(gw):
    gw.verdict = NO
    assert gw.call("POST", INFER, who="dora", body=b"{}").json == {"from": "pdp"}


def test_who_is_let_in_natively_owes_nothing(gw):
    gw.upstreams["digits"].answer = whole('{"a": 0.123456}')
    assert gw.call("POST", INFER, who="alice", body=b"{}").body == b'{"a": 0.123456}'


# -- what the PDP is told


def approving(gw: Harness, **more: object) -> None:
    def work() -> None:
        gw.view.set_endpoints([msgspec.structs.replace(one, approvals=one.id == DIGITS, **more) for one in gw.endpoints()])

    gw.do(work)
    gw.settled()


def test_when_credentials_begin(gw):
    gw.verdict = YES
    before = int(time.time())
    gw.call("POST", INFER, who="dora", token=gw.ca.token(spiffe("dora"), iat=before - 77), body=b"{}")
    asked = gw.asked[-1]
    assert asked.token_since == (before - 77) * 1000
    assert 0 <= before * 1000 - asked.certificate_since <= 7_200_000
    gw.call(
        "POST", INFER, token=gw.ca.token(spiffe("dora"), iat=None), body=b"{}", headers={"x-vg-iat": str(before), "x-vg-since": str(before)}
    )
    assert (gw.asked[-1].token_since, gw.asked[-1].certificate_since) == (0, 0)


def test_a_body_comes_along_where_people_approve_and_nowhere_else(gw):
    gw.verdict = YES
    gw.call("POST", INFER, who="dora", body=b'{"x": 1}')
    assert gw.asked[-1].body == b""
    approving(gw)
    body = bytes(range(256)) * 64
    got = gw.call("POST", INFER, who="dora", body=body, headers={"content-type": "a/b", "content-encoding": "x"})
    asked = gw.asked[-1]
    assert (got.status, asked.body, asked.content_type, asked.content_encoding) == (200, body, "a/b", "x")
    assert gw.upstreams["digits"].seen[-1]["body"] == body


def test_a_chunked_body_comes_along_whole(gw):
    gw.verdict = YES
    approving(gw)
    gw.raw(
        f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n".encode(),
        who="dora",
    )
    assert gw.asked[-1].body == b"abcdefg"


def test_a_body_that_nobody_could_read_through_is_refused(gw):
    gw.verdict = YES
    approving(gw)
    got = gw.call("POST", INFER, who="dora", body=b"x" * 16_385)
    assert (got.status, got.json["title"]) == (413, "too large")
    assert not gw.upstreams["digits"].seen
    assert gw.call("POST", INFER, who="alice", body=b"x" * 16_385).status == 200


def test_a_refusal_says_when_to_come_back_and_which_credential_would_do(gw):
    challenge = 'Bearer error="insufficient_user_authentication", max_age="300"'
    gw.verdict = (401, {"content-type": "application/problem+json", "www-authenticate": challenge, "retry-after": "7"}, b"{}")
    got = gw.call("POST", INFER, who="dora", body=b"{}")
    assert (got.status, got.headers["www-authenticate"], got.headers["retry-after"]) == (401, challenge, "7")


def test_a_tool_call_comes_along_with_its_arguments(gw):
    from test_envoy_mcp import HEADERS, PATH, put, server

    gw.verdict = YES
    put(gw, server(upstream=f"unix:{gw.upstreams['digits'].path}", approvals=True))
    body = b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "search", "arguments": {"q": 1}}}'
    assert gw.call("POST", PATH, who="dora", body=body, headers=HEADERS).status == 200
    asked = gw.asked[-1]
    assert (asked.action, asked.tool, asked.body) == ("call-tool", "search", body)
    assert gw.upstreams["digits"].seen[-1]["body"] == body
    large = body.replace(b'"q": 1', b'"q": "' + b"x" * 17_000 + b'"')
    assert gw.call("POST", PATH, who="dora", body=large, headers=HEADERS).status == 413


# -- against a model of the same rules, over documents written in every way


class Members(list):
    """An object as its members were written, twice ones included."""


class Writer:
    """Random documents, as text."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def space(self) -> str:
        return "".join(self.chance.choice(" \n\t\r") for _ in range(self.chance.choice((0, 0, 0, 1, 2))))

    def number(self) -> str:
        chance = self.chance
        text = chance.choice(("", "-")) + chance.choice(("0", str(chance.randint(1, 10 ** chance.randint(1, 20)))))
        if chance.random() < 0.6:
            text += "." + "".join(chance.choice("0459") for _ in range(chance.randint(1, 20)))
        if chance.random() < 0.3:
            text += chance.choice("eE") + chance.choice(("", "+", "-")) + str(chance.randint(0, 25))
        return text

    def name(self) -> str:
        letters = (self.chance.choice("abAB") for _ in range(self.chance.randint(1, 2)))
        return '"' + "".join(one if self.chance.random() < 0.8 else f"\\u{ord(one):04x}" for one in letters) + '"'

    def value(self, depth: int) -> str:
        if depth == 0 or self.chance.random() < 0.3:
            return self.chance.choice((self.number(), self.number(), '"1.23456"', "null", "true", '"a\\"b"', "{}", "[ ]"))
        named = self.chance.random() < 0.5
        parts = [
            (f"{self.name()}{self.space()}:{self.space()}" if named else "") + self.value(depth - 1)
            for _ in range(self.chance.randint(1, 4))
        ]
        inside = f"{self.space()},{self.space()}".join(parts)
        return ("{" if named else "[") + self.space() + inside + self.space() + ("}" if named else "]")


def load(text: str | bytes):
    return json.loads(text, object_pairs_hook=Members, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


def wanted(value, paths, decimals):
    if isinstance(value, Members):
        kept = Members()
        for name, inner in value:
            under = [path[1:] for path in paths if path[0] in (name.lower(), "*")]
            if [] not in under:
                kept.append((name, wanted(inner, under, decimals)))
        return kept
    if isinstance(value, list):
        under = paths + [path[1:] for path in paths if path[0] == "*"]
        return [] if [] in under else [wanted(one, under, decimals) for one in value]
    if isinstance(value, decimal.Decimal) and decimals is not None and -decimals > value.as_tuple().exponent:
        if value.adjusted() < -100:
            return decimal.Decimal(0)
        with decimal.localcontext() as context:
            context.prec, context.rounding = 200, decimal.ROUND_HALF_UP
            return value.quantize(decimal.Decimal(1).scaleb(-decimals))
    return value


def test_any_document_is_what_the_model_says(gw):
    writer = Writer(5)
    for _ in range(150):
        document, decimals = writer.space() + writer.value(6) + writer.space(), writer.chance.choice((None, 0, 1, 3, 15))
        paths = [
            [writer.chance.choice(("a", "b", "ab", "*", "aa")) for _ in range(writer.chance.randint(1, 3))]
            for _ in range(writer.chance.randint(1, 3))
        ]
        owed = f"redaction={','.join('.'.join(path) for path in paths)}" + (f"; rounded-answer={decimals}" if decimals is not None else "")
        got = answered(gw, owed, whole(document))
        assert got.status == 200, (document, owed)
        assert load(got.body) == wanted(load(document), paths, decimals), (document, owed)


def test_a_document_with_one_byte_changed_is_read_as_python_reads_it_or_withheld(gw):
    writer, withheld = Writer(6), 0
    for _ in range(150):
        text = list(writer.value(4))
        text[writer.chance.randrange(len(text))] = writer.chance.choice('{}[],:"\\0e-.x \x01')
        document = "".join(text)
        try:
            said = load(document)
        except ValueError:
            assert answered(gw, "rounded-answer=1", whole(document)).status == 502, document
            withheld += 1
            continue
        got = answered(gw, "rounded-answer=1", whole(document))
        assert load(got.body) == wanted(said, [], 1), document
    assert withheld > 50
