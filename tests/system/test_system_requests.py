"""Malformed, oversized, slow, smuggled and forged requests against gateway, control plane and PDP worker as they really run: refused, and recorded."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from installation import CHAT_PATH, INFER, INFER_PATH, TRUST_DOMAIN, Answer, Caller, Installation, b64, mine, part

BODY = json.dumps(INFER).encode()
CHAT = {"model": "tiny-1", "messages": [{"role": "user", "content": "a"}]}


def recorded(house: Installation, request_id: str, seconds: float = 6.0) -> dict[str, object]:
    """The entry of a request in the audit log, by the id that its answer named."""
    found: list[dict[str, object]] = []
    start = max(0, house.status().log_size - 300)

    def look() -> bool:
        found[:] = [
            mine(entry) for entry in house.entries(start) if entry.kind == "request-end" and mine(entry).get("request_id") == request_id
        ]
        return bool(found)

    house.until(look, seconds, f"the request {request_id} is not in the audit log", pause=0.1)
    assert len(found) == 1
    return found[0]


def refused(house: Installation, answer: Answer, *statuses: int) -> dict[str, object]:
    assert answer.status in statuses, (answer.status, answer.body[:300])
    entry = recorded(house, answer.headers["x-request-id"])
    assert entry["outcome"] != "allowed", entry
    return entry


# --- who, what, where ------------------------------------------------------------------------------------------------------------


def test_an_allowed_call_is_answered_and_recorded_with_who_and_what(house: Installation, alice: Caller) -> None:
    answer = house.infer(alice)
    assert answer.status == 200
    entry = recorded(house, answer.headers["x-request-id"])
    assert entry["principal"] == alice.principal
    assert entry["action"] == "infer"
    assert entry["outcome"] == "allowed"
    assert entry["credential_id"] == alice.credential_id


def test_a_call_without_identity_is_refused_and_recorded(house: Installation, alice: Caller) -> None:
    answer = house.infer(None)
    assert answer.problem["remedy"]
    assert "authenticated" not in refused(house, answer, 401)


def test_a_caller_without_permission_is_refused_with_reason_and_remedy(house: Installation, victor: Caller) -> None:
    answer = house.infer(victor)
    assert "group" in answer.problem["detail"] and answer.problem["remedy"] and answer.problem["decision_id"]
    entry = refused(house, answer, 403)
    assert entry["principal"] == victor.principal


SPOOFED = {
    "x-vg-decision-id": "1",
    "x-vg-principal": "spiffe://example.local/service/serve/alice",
    "x-forwarded-client-cert": "URI=spiffe://example.local/service/serve/alice",
    "x-envoy-original-path": "/v2/models/digits",
    "x-forwarded-for": "127.0.0.1",
    "x-envoy-internal": "true",
    "x-forwarded-proto": "https",
    "x-original-url": "/v2/models/digits",
    "x-rewrite-url": "/v2/models/digits",
    "x-http-method-override": "GET",
    "x-jwt-payload": base64.b64encode(b'{"sub":"spiffe://example.local/service/serve/alice"}').decode(),
    "x-request-id": "11111111-2222-4333-8444-555555555555",
}


@pytest.mark.parametrize("name", SPOOFED)
def test_a_header_cannot_make_a_caller_another(house: Installation, victor: Caller, alice: Caller, name: str) -> None:
    answer = house.infer(victor, headers={name: SPOOFED[name]})
    entry = refused(house, answer, 403)
    assert entry["principal"] == victor.principal
    assert answer.headers["x-request-id"] != SPOOFED["x-request-id"]
    assert refused(house, house.infer(None, headers={name: SPOOFED[name]}), 401)["outcome"] == "denied"


PATHS = [
    "/v2/models/digits/infer/",
    "/v2/models/digits//infer",
    "/v2/models/./digits/infer/../infer/x",
    "/v2/models/digits/infer%2f",
    "/v2/models/digits%2finfer",
    "/v2/models/digits/%69nfer%00",
    "/V2/models/digits/infer",
    "/v2/models/digits/infer;x=1",
    "/v2/models/digits/infer.",
    "/v2/models/digits%252finfer",
    "/v2\\models\\digits\\infer",
    "/v2/models/other/infer",
    "/v2/repository/index",
    "/v2/repository/models/digits/unload",
    "/v2/models/digits/versions/1/infer",
    "/metrics",
    "/",
    "/" + "a" * 9000,
]


@pytest.mark.parametrize("path", PATHS)
def test_only_listed_paths_exist_even_for_who_may(house: Installation, alice: Caller, path: str) -> None:
    answer = house.call(alice, path)
    if answer.status == 200:  # what normalises to the listed path is that path, for the model as well
        assert path in ("/v2/models/digits//infer", "/v2\\models\\digits\\infer")
        assert recorded(house, answer.headers["x-request-id"])["detail"]["path"] == INFER_PATH  # type: ignore[index]
        return
    assert answer.status in (400, 403, 404, 414, 431), answer
    if "x-request-id" in answer.headers:
        assert recorded(house, answer.headers["x-request-id"])["outcome"] != "allowed"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "HEAD", "PATCH", "PROPFIND", "CONNECT"])
def test_only_listed_methods_exist(house: Installation, alice: Caller, method: str) -> None:
    assert house.call(alice, INFER_PATH, method=method, body=b"").status in (0, 400, 403, 404, 405, 501)


RAW = {
    "content-length and chunked": b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    % INFER_PATH.encode(),
    "two content-lengths": b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"
    % INFER_PATH.encode(),
    "bad content-length": b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n" % INFER_PATH.encode(),
    "chunked twice": b"POST %s HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n" % INFER_PATH.encode(),
    "space before colon": b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length : 0\r\n\r\n" % INFER_PATH.encode(),
    "no host": b"POST %s HTTP/1.1\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "two hosts": b"POST %s HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "other host": b"POST %s HTTP/1.1\r\nhost: evil\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "absolute form of another host": b"POST http://evil%s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "underscore header": b"POST %s HTTP/1.1\r\nhost: localhost\r\nx_vg_principal: a\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "nul in header": b"POST %s HTTP/1.1\r\nhost: localhost\r\na: b\0c\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "http/0.9": b"GET /v2/models/digits\r\n\r\n",
    "http/1.0": b"POST %s HTTP/1.0\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n" % INFER_PATH.encode(),
    "garbage": b"\x00\x01\x02garbage\r\n\r\n",
    "h2c preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "upgrade to h2c": b"GET /v2/models/digits HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "upgrade to websocket": b"GET /v2/models/digits HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "huge header": b"GET /v2/models/digits HTTP/1.1\r\nhost: localhost\r\na: " + b"b" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET /v2/models/digits HTTP/1.1\r\nhost: localhost\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(2000)) + b"\r\n",
}


@pytest.mark.parametrize("case", RAW)
def test_a_malformed_request_reaches_no_model(house: Installation, alice: Caller, case: str) -> None:
    before = house.status().log_size
    answer = house.raw(alice, RAW[case], timeout=3)
    if case == "upgrade to h2c":  # the wish is not passed on; what is left is an ordinary, permitted request
        assert answer.status == 200 and "upgrade" not in answer.headers
        return
    assert answer.status not in (101, 200), answer
    if "x-request-id" in answer.headers:
        assert recorded(house, answer.headers["x-request-id"])["outcome"] != "allowed"
    house.until(lambda: house.status().log_size >= before, 2)
    assert house.infer(alice).status == 200


def test_a_pipelined_second_request_is_decided_by_itself(house: Installation, victor: Caller, alice: Caller) -> None:
    one = (
        b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % (INFER_PATH.encode(), len(BODY))
        + BODY
    )
    with house.connect(victor) as link:
        link.sendall(one + one)
        time.sleep(0.5)
        text = link.recv(65536)
    assert b"HTTP/1.1 403" in text and b"HTTP/1.1 200" not in text


# --- the body that names the model ------------------------------------------------------------------------------------------------

BODIES = {
    "another model": json.dumps(CHAT | {"model": "tiny-2"}).encode(),
    "twice": b'{"model":"tiny-1","model":"tiny-2","messages":[]}',
    "twice, the other way": b'{"model":"tiny-2","model":"tiny-1","messages":[]}',
    "escaped key": b'{"model":"tiny-1","mod\\u0065l":"tiny-2","messages":[]}',
    "missing": b'{"messages":[]}',
    "nested": b'{"a":{"model":"tiny-1"},"messages":[]}',
    "array": b'{"model":["tiny-1"],"messages":[]}',
    "null": b'{"model":null,"messages":[]}',
    "case": b'{"Model":"tiny-1","messages":[]}',
    "two documents": b'{"model":"tiny-1","messages":[]}{"model":"tiny-2"}',
    "not json": b"model=tiny-1",
    "bom": b'\xef\xbb\xbf{"model":"tiny-1","messages":[]}',
    "bad utf-8": b'{"model":"tiny-1","messages":["\xff\xfe"]}',
    "utf-16": '{"model":"tiny-1","messages":[]}'.encode("utf-16"),
    "empty": b"",
    "list": b'[{"model":"tiny-1"}]',
    "too deep": b'{"model":"tiny-1","messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "too large": b'{"model":"tiny-1","messages":["' + b"a" * (2 * 1024 * 1024) + b'"]}',
    "comment": b'{"model":"tiny-1",/*"*/"model":"tiny-2","messages":[]}',
    "cut off": b'{"model":"tiny-1","messages":[',
    "trailing comma": b'{"model":"tiny-1","messages":[],}',
}


def test_a_chat_with_the_permitted_model_is_answered(house: Installation, alice: Caller) -> None:
    answer = house.call(alice, CHAT_PATH, body=json.dumps(CHAT).encode())
    assert answer.status == 200, answer
    streamed = house.call(alice, CHAT_PATH, body=json.dumps(CHAT | {"stream": True}).encode())
    assert streamed.status == 200 and streamed.body.rstrip().endswith(b"data: [DONE]")


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_does_not_name_one_permitted_model_is_refused(house: Installation, alice: Caller, case: str) -> None:
    refused(house, house.call(alice, CHAT_PATH, body=BODIES[case]), 400, 403, 411, 413, 415)


@pytest.mark.parametrize(
    "headers",
    [{"content-encoding": "br"}, {"content-encoding": "gzip"}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data; boundary=a"},
     {"content-type": "application/json; charset=utf-16"}, {"content-encoding": "identity, gzip"}],
)  # fmt: skip
def test_a_body_in_another_coding_is_refused(house: Installation, alice: Caller, headers: dict[str, str]) -> None:
    refused(house, house.call(alice, CHAT_PATH, body=json.dumps(CHAT).encode(), headers=headers), 400, 403, 415)


# --- tokens (RFC 8725) ------------------------------------------------------------------------------------------------------------


def signed(header: dict[str, object], claims: dict[str, object], key: ec.EllipticCurvePrivateKey) -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


OWN = ec.generate_private_key(ec.SECP256R1())


def _hmac(token: str, secret: bytes) -> str:
    text = f"{b64(json.dumps(part(token, 0) | {'alg': 'HS256'}).encode())}.{token.split('.')[1]}"
    return f"{text}.{b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def _public() -> bytes:
    return OWN.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _changed(token: str, at: int, **changes: object) -> str:
    pieces = token.split(".")
    pieces[at] = b64(json.dumps({k: v for k, v in (part(token, at) | changes).items() if v is not None}).encode())
    return ".".join(pieces)


def _flip(token: str, at: int) -> str:
    pieces = token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(pieces[at] + "=="))
    raw[len(raw) // 2] ^= 1
    pieces[at] = b64(bytes(raw))
    return ".".join(pieces)


def _jwk() -> dict[str, str]:
    numbers = OWN.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}


FORGED: dict[str, Callable[[str], str]] = {
    "none": lambda t: f"{b64(json.dumps({'alg': 'none', 'typ': 'JWT'}).encode())}.{t.split('.')[1]}.",
    "None with signature": lambda t: f"{b64(json.dumps({'alg': 'None'}).encode())}.{t.split('.')[1]}.{t.split('.')[2]}",
    "no algorithm": lambda t: _changed(t, 0, alg=None),
    "hmac with the public key": lambda t: _hmac(t, _public()),
    "hmac with nothing": lambda t: _hmac(t, b""),
    "another algorithm": lambda t: _changed(t, 0, alg="RS256"),
    "own key": lambda t: signed(part(t, 0), part(t, 1), OWN),
    "own key in the header": lambda t: signed(part(t, 0) | {"jwk": _jwk()}, part(t, 1), OWN),
    "own key by jku": lambda t: signed(part(t, 0) | {"jku": "http://127.0.0.1:1/jwks"}, part(t, 1), OWN),
    "own key by x5u": lambda t: signed(part(t, 0) | {"x5u": "http://127.0.0.1:1/c"}, part(t, 1), OWN),
    "unknown key id": lambda t: signed(part(t, 0) | {"kid": "../../etc/passwd"}, part(t, 1), OWN),
    "another subject": lambda t: _changed(t, 1, sub="spiffe://example.local/person/admin/owner"),
    "later end": lambda t: _changed(t, 1, exp=9_999_999_999),
    "no end": lambda t: _changed(t, 1, exp=None),
    "flipped header": lambda t: _flip(t, 0),
    "flipped claims": lambda t: _flip(t, 1),
    "flipped signature": lambda t: _flip(t, 2),
    "no signature": lambda t: t.rpartition(".")[0] + ".",
    "zero signature": lambda t: t.rpartition(".")[0] + "." + b64(b"\0" * 64),
    "two parts": lambda t: t.rpartition(".")[0],
    "four parts": lambda t: t + "." + t.split(".")[0],
    "five parts (JWE)": lambda t: ".".join([t.split(".")[0]] * 5),
    "junk after": lambda t: t + "AAAA",
    "huge": lambda t: t + "A" * 20_000,
    "empty": lambda t: "",
    "not base64": lambda t: "%%%.%%%.%%%",
}  # fmt: skip


def test_a_token_is_accepted_where_the_endpoint_lists_bearer(house: Installation, alice: Caller) -> None:
    assert house.bearer(house.token("alice")).status == 200


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_token_is_refused(house: Installation, alice: Caller, case: str) -> None:
    answer = house.bearer(FORGED[case](house.token("alice")))
    refused(house, answer, 400, 401, 403, 431)


def test_a_token_for_another_endpoint_is_refused(house: Installation, alice: Caller) -> None:
    refused(house, house.bearer(house.token("alice", "tiny-1")), 401, 403)


def test_a_token_lapses_and_one_of_another_caller_beside_a_certificate_is_refused(
    house: Installation, alice: Caller, victor: Caller
) -> None:
    token = house.token("alice")
    refused(house, house.infer(victor, headers={"authorization": f"Bearer {token}"}), 401, 403)
    short = house.token("alice", ttl=10)
    assert house.bearer(short).status == 200
    time.sleep(max(0.0, part(short, 1)["exp"] + 2.1 - time.time()))
    refused(house, house.bearer(short), 401)


def test_a_token_in_the_query_a_cookie_or_twice_is_no_identity(house: Installation, alice: Caller, victor: Caller) -> None:
    token = house.token("alice")
    assert house.call(None, f"{INFER_PATH}?access_token={token}").status in (401, 404)
    refused(house, house.infer(None, headers={"cookie": f"access_token={token}"}), 401)
    both = f"POST {INFER_PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nauthorization: Bearer {house.token('victor')}\r\ncontent-length: 0\r\n\r\n"
    assert house.raw(None, both.encode()).status in (400, 401, 403)


# --- slow, many ------------------------------------------------------------------------------------------------------------------


def test_slow_requests_hold_up_nobody_and_are_ended(house: Installation, alice: Caller) -> None:
    slow: list[socket.socket] = []
    try:
        for number in range(100):
            link = house.connect(alice if number % 2 else None)
            link.sendall(b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: local")
            slow.append(link)
        began = time.monotonic()
        assert house.infer(alice).status == 200
        assert time.monotonic() - began < 3
    finally:
        for link in slow:
            link.close()


def test_a_flood_of_denied_calls_leaves_an_allowed_caller_alone(house: Installation, alice: Caller, victor: Caller) -> None:
    ended = threading.Event()
    flooded = [0]

    def flood() -> None:
        while not ended.is_set():
            flooded[0] += house.infer(victor).status == 403

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        until, statuses = time.monotonic() + 3, []
        while time.monotonic() < until:
            statuses.append(house.infer(alice).status)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}, statuses
    assert flooded[0] > 20
    assert TRUST_DOMAIN in alice.principal
