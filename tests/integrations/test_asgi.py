"""The middleware in a real uvicorn, called with real HTTP and real TLS."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from asgi_servers import ALICE, BOB, INFER, NOW, Control, Domain, grant, running

from vouchgate.integrations.asgi import EnforcementPoint
from vouchgate.integrations.leases import FixedSource, FramesSource
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.leased import LeasedMap
from vouchgate.vocabulary.places import Route

Make = Callable[..., LeasedMap]


class Model:
    """The app behind: it notes what reached it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.release = threading.Event()
        self.release.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append({"headers": dict(scope["headers"]), "caller": scope["vouchgate"]})
        if scope["path"] == "/v1/broken":
            raise RuntimeError("the model broke")
        if scope["path"] == "/v1/chat":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
            for _ in range(3):
                await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            while not self.release.is_set():
                await asyncio.sleep(0.01)
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"label":3}'})


class Served(msgspec.Struct):
    model: Model
    source: FixedSource
    client: httpx.Client


@pytest.fixture
def served(leased: Make) -> Iterator[Served]:
    model, source = Model(), FixedSource()
    source.put(leased())
    with running(EnforcementPoint(model, source=source)) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield Served(model, source, client)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_allowed_call_reaches_the_model_with_its_caller_and_without_credentials(served: Served, domain: Domain) -> None:
    headers = {
        **bearer(domain.token()),
        "x-vg-principal": BOB,
        "x-forwarded-client-cert": "URI=" + BOB,
        "x-request-id": "mine",
        "x-own": "kept",
    }
    for _ in range(3):
        assert served.client.post(INFER, headers=headers).json() == {"label": 3}
    seen = served.model.seen[-1]
    assert seen["caller"].principal == ALICE and seen["caller"].enforced_by == "in_process"
    assert not {b"authorization", b"x-vg-principal", b"x-forwarded-client-cert", b"x-request-id"} & set(seen["headers"])
    assert seen["headers"][b"x-own"] == b"kept"
    assert len({call.request_id for call in served.source.calls}) == 3
    call = served.source.calls[-1]
    assert (call.principal, call.grant_id, call.allowed, call.status, call.action) == (ALICE, "g-alice", True, 200, "infer")


def test_denial_is_a_problem_document_and_never_reaches_the_model(served: Served, domain: Domain) -> None:
    cases = [
        (401, "anonymous", {}, INFER), (403, "not-granted", bearer(domain.token(BOB)), INFER), (404, "no-route", bearer(domain.token()), "/admin"),
        (401, "bad-token", {"authorization": "Basic YTpi"}, INFER),
    ]  # fmt: skip
    for status, code, headers, path in cases:
        answer = served.client.post(path, headers=headers)
        assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"].endswith("/" + code) and problem["remedy"] and problem["status"] == status
        assert served.source.calls[-1].code == code and not served.source.calls[-1].allowed
        assert problem["request_id"] == served.source.calls[-1].request_id
    assert served.model.seen == []


def test_two_authorization_headers_are_refused(served: Served, domain: Domain) -> None:
    headers = [("authorization", f"Bearer {domain.token()}"), ("authorization", f"Bearer {domain.token(BOB)}")]
    assert served.client.post(INFER, headers=headers).status_code == 401
    assert served.client.post(INFER, headers=[("authorization", ""), headers[0]]).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/v2/models/digits%2finfer", "/v2/models/digits/%69nfer", "//v2/models/digits/infer", "/v2/models/x/../digits/infer", INFER + "/"],
)
def test_path_confusion_is_refused(served: Served, domain: Domain, path: str) -> None:
    # http.client sends a path as it is; httpx would tidy it up first
    connection = http.client.HTTPConnection("127.0.0.1", served.client.base_url.port)
    connection.request("POST", path, headers=bearer(domain.token()))
    assert connection.getresponse().status == 404
    connection.close()
    assert served.model.seen == []


def test_query_is_no_part_of_the_route(served: Served, domain: Domain) -> None:
    assert served.client.post(INFER + "?a=/admin", headers=bearer(domain.token())).status_code == 200


def test_lapsed_lease_refuses_on_a_live_connection(served: Served, domain: Domain, leased: Make) -> None:
    headers = bearer(domain.token())
    assert served.client.post(INFER, headers=headers).status_code == 200
    served.source.put(leased(lease_ms=0))
    answer = served.client.post(INFER, headers=headers)
    assert answer.status_code == 503 and answer.json()["type"].endswith("/lease-expired")
    served.source.put(leased())
    assert served.client.post(INFER, headers=headers).status_code == 200


def test_server_without_a_map_lets_nobody_in(domain: Domain) -> None:
    with running(EnforcementPoint(Model(), source=FixedSource())) as port:
        assert httpx.post(f"http://127.0.0.1:{port}{INFER}", headers=bearer(domain.token())).status_code == 503


def test_revocation_falls_on_a_remembered_answer(served: Served, domain: Domain, leased: Make) -> None:
    headers = bearer(domain.token())
    assert served.client.post(INFER, headers=headers).status_code == 200
    served.source.put(leased(epoch=2, revoked=(ALICE,)))
    assert served.client.post(INFER, headers=headers).status_code == 403
    with pytest.raises(InvalidInput):
        served.source.put(leased(epoch=1))
    assert served.client.post(INFER, headers=headers).status_code == 403


def test_remembered_answer_dies_with_its_grant(served: Served, domain: Domain, leased: Make) -> None:
    headers = bearer(domain.token())
    served.source.put(leased(epoch=2, grants=(grant(not_after=NOW + 400),)))
    assert served.client.post(INFER, headers=headers).status_code == 200
    deadline = time.monotonic() + 5
    while served.client.post(INFER, headers=headers).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert served.client.post(INFER, headers=headers).status_code == 403


def test_what_cannot_be_recorded_is_not_let_in(served: Served, domain: Domain) -> None:
    served.source.recording = False
    answer = served.client.post(INFER, headers=bearer(domain.token()))
    assert answer.status_code == 503 and answer.json()["type"].endswith("/record-unavailable")
    assert served.model.seen == []


def test_observe_passes_and_says_what_it_would_deny(served: Served, leased: Make) -> None:
    served.source.put(leased(epoch=2, mode="observe"))
    assert served.client.post(INFER).status_code == 200
    call = served.source.calls[-1]
    assert call.allowed and call.would_deny and call.code == "anonymous" and call.principal == "" and not call.authenticated


def test_model_that_breaks_is_recorded(served: Served, domain: Domain, leased: Make) -> None:
    served.source.put(leased(epoch=2, routes=(Route(method="POST", path="/v1/broken", action="infer"),)))
    assert served.client.post("/v1/broken", headers=bearer(domain.token())).status_code == 500
    assert served.source.calls[-1].allowed and served.source.calls[-1].status == 0


def test_stream_is_recorded_at_start_and_end(served: Served, domain: Domain) -> None:
    served.model.release.clear()
    with served.client.stream("POST", "/v1/chat", headers=bearer(domain.token())) as answer:
        chunks = answer.iter_raw()
        assert next(chunks)
        assert [call.phase for call in served.source.calls] == ["start"]
        served.model.release.set()
        list(chunks)
    deadline = time.monotonic() + 5
    while len(served.source.calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [(call.phase, call.status) for call in served.source.calls] == [("start", 0), ("end", 200)]


def test_certificate_of_the_servers_own_tls_names_the_caller(
    domain: Domain, leased: Make, tls_files: Callable[..., tuple[str, str, str]]
) -> None:
    now = int(time.time() * 1000)
    model, source = Model(), FixedSource()
    source.put(leased(now=now, grants=(grant(credential_kind="x509", not_after=now + 600_000),)))
    certificate, key, ca = tls_files("spiffe://test.local/server/serving/digits", dns=("localhost",))
    options = {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ca_certs": ca, "ssl_cert_reqs": ssl.CERT_OPTIONAL}
    with running(EnforcementPoint(model, source=source), **options) as port:
        for who, status in ((ALICE, 200), (BOB, 403), ("", 401)):
            context = ssl.create_default_context(cafile=ca)
            if who:
                context.load_cert_chain(*tls_files(who)[:2])
            with httpx.Client(verify=context) as client:
                url = f"https://localhost:{port}{INFER}"
                spoof = {"x-forwarded-client-cert": f"URI={ALICE}", "x-vg-caller": ALICE}
                assert client.post(url, headers=spoof).status_code == status
    assert [entry["caller"].principal for entry in model.seen] == [ALICE]


def test_websocket_and_unknown_protocols_are_refused(leased: Make) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("the app was called")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    source = FixedSource()
    source.put(leased())
    point = EnforcementPoint(never, source=source)
    asyncio.run(point({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "upgrades are not let through"}]
    with pytest.raises(InvalidInput):
        asyncio.run(point({"type": "grpc"}, receive, send))


def test_control_plane_that_ends_takes_the_server_with_it(control: Control, domain: Domain, leased: Make) -> None:
    control.put(leased(lease_ms=1_500))
    source = FramesSource(control.path, "vg://test.local/endpoint/digits").start()
    headers = bearer(domain.token())
    with running(EnforcementPoint(Model(), source=source)) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        deadline = time.monotonic() + 5
        while client.post(INFER, headers=headers).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.post(INFER, headers=headers).status_code == 200
        control.put(leased(epoch=2, lease_ms=1_500, revoked=("token-0001",)))
        while client.post(INFER, headers=headers).status_code == 200 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert client.post(INFER, headers=headers).status_code == 403
        control.put(leased(epoch=3, lease_ms=1_500))
        while client.post(INFER, headers=headers).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.005)
        control.stop()
        stopped = time.monotonic()
        while client.post(INFER, headers=headers).status_code == 200 and time.monotonic() < stopped + 5:
            time.sleep(0.01)
        assert client.post(INFER, headers=headers).status_code == 503
    source.close()
    assert source.current() is None
