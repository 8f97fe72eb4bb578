"""Calls to providers outside: who may, where to, and that a key is seen by the provider alone."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_harness import TD, Authority, Harness, Upstream, free_port, spiffe

from vouchgate.edges.envoy.egress import CREDENTIALS, check_secret, host_of
from vouchgate.edges.envoy.messages import CLUSTER_TYPE, EXTENSION_TYPE, SECRET_TYPE
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Egress, Endpoint, Route, Zone

pytestmark = pytest.mark.gateway
OUT = f"vg://{TD}/endpoint/provider"
PATH = "/provider/v1/chat/completions"
KEY = "sk-first-SECRETxyz"


class Provider(Upstream):
    """The upstream of the harness behind TLS."""

    def __init__(self, folder: Path, host: str = "localhost") -> None:
        super().__init__("")
        self.port, self.ca = free_port(), Authority("provider.example")
        self.folder, self.ca_file = folder, str(folder / "provider-ca.pem")
        Path(self.ca_file).write_text(self.ca.pem)
        self.present(self.ca, host)

    def present(self, ca: Authority, host: str, seconds: float = 3600) -> None:
        """Show this certificate from the next handshake on."""
        pem, key, _ = ca.issue(hosts=(host,), seconds=seconds)
        path = self.folder / "provider.pem"
        path.write_text(pem + key)
        if not hasattr(self, "context"):
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.names: list[str | None] = []
            self.context.sni_callback = lambda _, name, __: self.names.append(name)
        self.context.load_cert_chain(path)

    async def serve(self) -> asyncio.AbstractServer:
        return await asyncio.start_server(self._connection, "127.0.0.1", self.port, ssl=self.context)


@pytest.fixture(scope="module")
def provider(shared_gateway: Harness) -> Iterator[Provider]:
    made = Provider(shared_gateway.dir)
    server = shared_gateway.do(made.serve())
    yield made
    shared_gateway.do(server.close)


@pytest.fixture
def out(gw: Harness, provider: Provider) -> Harness:
    provider.present(provider.ca, "localhost")
    provider.seen.clear()
    provider.delay, provider.extra = 0.0, b""
    put(gw, destination(provider))
    return gw


def destination(provider: Provider, egress: dict | None = None, **more: object) -> Endpoint:
    values: dict = {
        "id": OUT,
        "trust_domain": TD,
        "zone": "serve",
        "upstream": f"https:localhost:{provider.port}",
        "prefix": "/provider",
        "routes": (
            Route(method="POST", path="/v1/chat/completions", action="call", streams=True),
            Route(method="GET", path="/stream", action="call", streams=True),
        ),
        "egress": Egress(**({"secret": "key", "ca_file": provider.ca_file} | (egress or {}))),
    }
    return Endpoint(**(values | more))


def put(gw: Harness, endpoint: Endpoint, *, key: str = KEY) -> None:
    def work() -> None:
        gw.view.set_endpoints(gw.endpoints())
        gw.view.set_secret("key", key.encode())
        gw.view.set_endpoints([*gw.endpoints(), endpoint])
        gw.view.set_grants(OUT, [gw.grant("alice", OUT, action="call")])

    gw.do(work)
    enforced(gw)


def enforced(gw: Harness) -> None:
    gw.settled()
    gw.do(gw.ads.wait_acked(EXTENSION_TYPE, [f"map/{slot}" for slot in range(8)], timeout=3))
    gw.do(gw.ads.wait_acked(CLUSTER_TYPE, [OUT], timeout=3))
    gw.do(gw.ads.wait_acked(SECRET_TYPE, [f"egress/{OUT}"], timeout=3))


def call(gw: Harness, who: object = "alice", **more):
    until = time.monotonic() + 3
    while True:
        try:
            return gw.call("POST", PATH, who=who, port=gw.egress_port, body=b"{}", **more)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_the_key_is_put_in_on_the_way(out: Harness, provider: Provider):
    answer = call(out)
    assert answer.status == 200
    (seen,) = provider.seen
    assert (seen["method"], seen["path"]) == ("POST", "/v1/chat/completions")
    assert [value for name, value in seen["headers"] if name == "authorization"] == [f"Bearer {KEY}"]
    assert dict(seen["headers"])["host"] == "localhost"
    assert provider.names[-1] == "localhost"
    assert out.asked == []


@pytest.mark.parametrize("name", [*CREDENTIALS, "x-provider-key"])
def test_a_caller_s_own_credentials_never_leave(out: Harness, provider: Provider, name: str):
    put(out, destination(provider, {"header": "x-provider-key", "prefix": ""}))
    headers = {name: "callers-own"} if name != "authorization" else {name: "Basic callers-own"}
    assert call(out, headers=headers).status == 200
    assert "callers-own" not in repr(provider.seen)
    assert dict(provider.seen[0]["headers"])["x-provider-key"] == KEY
    assert "authorization" not in dict(provider.seen[0]["headers"])


def test_a_key_in_the_query_never_leaves(out: Harness, provider: Provider):
    for query in ("?key=callers-own", "?", "?%6bey=callers-own", "?a=1"):
        answer = out.call("POST", PATH + query, who="alice", port=out.egress_port, body=b"{}")
        assert answer.status == 404, query
    assert provider.seen == []
    put(out, destination(provider, {"query": True}))
    assert out.call("POST", PATH + "?a=1", who="alice", port=out.egress_port, body=b"{}").status == 200
    assert provider.seen[0]["path"] == "/v1/chat/completions?a=1"


def test_where_callers_are_is_nobody_s_business(out: Harness, provider: Provider):
    call(out, headers={"x-forwarded-for": "10.9.8.7"})
    names = {name for name, _ in provider.seen[0]["headers"]}
    assert not {name for name in names if name.startswith(("x-forwarded", "x-vg-", "x-envoy-", "forwarded"))}


def test_only_the_granted_come_out(out: Harness, provider: Provider):
    assert call(out, "mallory").status == 403
    assert (out.asked[0].endpoint, out.asked[0].action, out.asked[0].san) == (OUT, "call", spiffe("mallory"))
    out.revoke("principal", spiffe("alice"))
    assert call(out).status == 403
    assert provider.seen == []


def test_nobody_comes_out_without_a_certificate(out: Harness, provider: Provider):
    for token in ("", out.ca.token(spiffe("bob"), aud=OUT)):
        with pytest.raises(OSError, match=r"."):
            call(out, None, token=token)
    with pytest.raises(OSError, match=r"."):
        call(out, out.partner.issue(spiffe("alice"))[:2])
    assert provider.seen == []


def test_providers_are_at_the_egress_listener_alone_and_nothing_else_is(out: Harness, provider: Provider):
    assert out.call("POST", PATH, who="alice", body=b"{}").status == 404
    assert out.call("POST", "/v2/models/digits/infer", who="alice", port=out.egress_port).status == 404
    assert out.call("POST", "/provider/v1/other", who="alice", port=out.egress_port).status == 404
    assert out.call("GET", PATH, who="alice", port=out.egress_port).status == 404
    assert provider.seen == []


def test_in_an_observed_zone_nobody_calls_with_our_key(out: Harness, provider: Provider):
    put(out, destination(provider, zone="old"))
    assert call(out, "mallory").status == 403
    assert call(out).status == 200
    assert len(provider.seen) == 1


@pytest.mark.parametrize("trouble", ["another host", "another authority", "expired"])
def test_a_provider_that_does_not_prove_itself_gets_neither_request_nor_key(out: Harness, provider: Provider, trouble: str):
    out.do(provider_drops(provider))
    ca = Authority("provider.example") if trouble == "another authority" else provider.ca
    provider.present(ca, "evil.example" if trouble == "another host" else "localhost", seconds=-5 if trouble == "expired" else 3600)
    answer = call(out)
    assert (answer.status, answer.json["title"]) == (503, "upstream unavailable")
    assert provider.seen == []
    assert KEY not in answer.body.decode()


async def provider_drops(provider: Provider) -> None:
    for writer in list(provider.open):
        writer.close()
    await asyncio.sleep(0.05)


def test_the_key_is_in_no_dump_no_log_and_no_answer(out: Harness, provider: Provider):
    call(out)
    call(out, "mallory")
    provider.extra = b"x-request-id: 1\r\n"
    call(out)
    paths = ["/config_dump?include_eds", "/config_dump?resource=dynamic_active_secrets", "/config_dump", "/clusters", "/stats", "/certs"]
    paths += ["/listeners", "/init_dump", "/config_dump?mask=*"]
    dumps = {path: out.admin(path) for path in paths}
    assert f"egress/{OUT}" in dumps["/config_dump"]
    time.sleep(0.3)
    files = {name: (out.dir / name).read_text(errors="replace") for name in ("access.log", "envoy.log", "envoy.json")}
    for name, text in (dumps | files).items():
        assert "SECRETxyz" not in text, name
        assert not re.search("U0VDUkVUeHl6|NFQ1JFVHh5e|TRUNSRVR4eX", text), name


def test_a_request_that_fails_does_not_say_the_key(out: Harness, provider: Provider):
    out.do(provider_drops(provider))
    put(out, destination(provider, upstream="https:localhost:1"))
    answer = call(out)
    assert answer.status == 503
    assert KEY not in repr(answer)
    assert b"SECRETxyz" not in Path(out.settings.access_log).read_bytes()


def test_a_rotation_drops_no_request(out: Harness, provider: Provider):
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def caller() -> None:
        connection = out.connect("alice", port=out.egress_port)
        while not stop.is_set():
            answer = out.call("POST", PATH, on=connection, body=b"{}")
            seen.append((answer.status, dict(answer.json["headers"])["authorization"]))
        connection.close()

    threads = [threading.Thread(target=caller) for _ in range(3)]
    for thread in threads:
        thread.start()
    keys = [f"sk-{number}" for number in range(20)]
    for key in keys:
        out.do(lambda key=key: out.view.set_secret("key", key.encode()))
        out.do(out.ads.wait_acked(SECRET_TYPE, [f"egress/{OUT}"], timeout=3))
    assert call(out).status == 200
    assert dict(provider.seen[-1]["headers"])["authorization"].startswith("Bearer sk-")
    stop.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in seen} == {200}
    order = [f"Bearer {key}" for key in (KEY, *keys)]
    assert {key for _, key in seen} <= set(order)
    assert dict(call(out).json["headers"])["authorization"] == order[-1]


def test_a_call_in_flight_ends_as_it_began(out: Harness, provider: Provider):
    provider.delay = 0.4
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(call(out)))
    thread.start()
    time.sleep(0.15)
    out.do(lambda: out.view.set_secret("key", b"sk-second"))
    thread.join()
    assert (answers[0].status, dict(answers[0].json["headers"])["authorization"]) == (200, f"Bearer {KEY}")


def test_without_its_secret_a_provider_is_not_called(out: Harness, provider: Provider):
    out.do(lambda: out.view.set_secret("key", b""))
    enforced(out)
    assert call(out).status == 503
    assert provider.seen == []
    out.do(lambda: out.view.set_secret("key", b"sk-again"))
    enforced(out)
    assert dict(call(out).json["headers"])["authorization"] == "Bearer sk-again"


def test_a_secret_that_was_never_brought_holds_nothing_else_up(out: Harness, provider: Provider):
    put(out, destination(provider, {"secret": "other"}))
    assert call(out).status == 503
    assert out.call("POST", "/v2/models/digits/infer", who="alice").status == 200
    assert provider.seen == []


def test_a_destination_without_a_secret_is_called_with_none(out: Harness, provider: Provider):
    put(out, destination(provider, {"secret": ""}))
    assert call(out, headers={"authorization": "Basic x"}).status == 200
    assert "authorization" not in dict(provider.seen[0]["headers"])


def test_events_of_a_provider_stay_intact(out: Harness):
    connection = out.connect("alice", port=out.egress_port)
    connection.request("GET", "/provider/stream")
    answer = connection.getresponse()
    assert [answer.readline() for _ in range(5)] == [b"data: 0\n", b"\n", b"data: 1\n", b"\n", b"data: 2\n"]
    connection.close()


def test_the_log_counts_what_went_out(out: Harness):
    line = out.end_line(call(out))
    assert (line["endpoint"], line["action"], line["san"], line["bytes_in"]) == (OUT, "call", spiffe("alice"), "2")
    assert int(line["bytes_out"]) > 100


def test_a_zone_that_enforces_again_changes_nothing(out: Harness):
    out.do(lambda: out.view.set_zones([out.zone, Zone(name="old", trust_domain=TD)]))
    enforced(out)
    assert call(out).status == 200


def test_a_gateway_that_was_killed_comes_back_with_keys_and_partners(own, tmp_path: Path):
    gw = own()
    provider = Provider(tmp_path)
    server = gw.do(provider.serve())
    put(gw, destination(provider))
    foreign = "spiffe://partner.local/x"
    gw.trust_partners({"partner.local": gw.partner.pem})
    assert call(gw).status == 200
    gw.stop_envoy(signal.SIGKILL)
    gw.do(lambda: gw.view.set_secret("key", b"sk-while-away"))
    gw.start_envoy()
    gw.ready()
    until = time.monotonic() + 5
    while call(gw).status != 200 and time.monotonic() < until:
        time.sleep(0.05)
    assert dict(call(gw).json["headers"])["authorization"] == "Bearer sk-while-away"
    assert gw.call("POST", "/v2/models/digits/infer", who=gw.partner.issue(foreign)[:2], port=gw.federated_port).status == 403
    assert gw.asked[-1].federated == foreign
    gw.do(server.close)


# -- without an Envoy


@pytest.mark.parametrize("value", [b"", b"a b", b"a\r\nx: y", b"a\n", b"\x00", b"\xff", b"a" * 8193, b"a\t"])
def test_what_is_no_secret_is_refused_without_saying_it(value: bytes):
    with pytest.raises(InvalidInput) as caught:
        check_secret(value)
    assert repr(value)[2:-1] not in caught.value.reason or not value


@pytest.mark.parametrize("upstream", ["tcp:h:1", "https:h", "https:h:0", "https::1", "https:h:70000", "unix:/x"])
def test_what_is_no_provider(upstream: str):
    with pytest.raises(InvalidInput):
        host_of(Endpoint(id=OUT, trust_domain=TD, zone="z", upstream=upstream, routes=(), egress=Egress()))
