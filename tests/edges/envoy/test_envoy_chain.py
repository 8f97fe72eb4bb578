"""Who gets through, who is asked, who is refused and with what words: against the real Envoy."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from gateway_harness import CHAT, DIGITS, LEGACY, NO, TD, YES, Harness, b64, spiffe

from vouchgate.vocabulary.places import Route, Zone

pytestmark = pytest.mark.gateway
INFER = "/v2/models/digits/infer"
PROBLEM = {"type", "title", "status", "detail", "remedy", "request_id", "decision_id"}


def test_granted_certificate_goes_straight_through(gw: Harness):
    assert gw.call("POST", INFER, who="alice").status == 200
    assert gw.asked == []


def test_granted_token_goes_straight_through(gw: Harness):
    assert gw.call("POST", INFER, token=gw.ca.token(spiffe("bob"))).status == 200
    assert gw.asked == []


def test_granted_pair_goes_straight_through(gw: Harness):
    assert gw.call("POST", INFER, who="carol", token=gw.ca.token(spiffe("carol"))).status == 200
    assert gw.asked == []


@pytest.mark.parametrize(
    ("who", "sub"),
    [
        ("mallory", None),
        (None, "mallory"),
        (None, "alice"),
        ("bob", None),
        ("alice", "bob"),
        ("bob", "alice"),
        ("carol", None),
        (None, "carol"),
        ("carol", "alice"),
    ],
)
def test_any_other_combination_is_asked_and_refused(gw: Harness, who: str | None, sub: str | None):
    answer = gw.call("POST", INFER, who=who, token=gw.ca.token(spiffe(sub)) if sub else "")
    assert (answer.status, answer.body) == (403, NO[2])
    assert (gw.asked[0].san, gw.asked[0].subject) == (spiffe(who) if who else "", spiffe(sub) if sub else "")


def test_the_pdp_hears_everything_that_is_known(gw: Harness):
    token = gw.ca.token(spiffe("dave"), cnf={"x5t#S256": "abc"}, act={"sub": "spiffe://test.local/agent/a/b"}, jti="j1")
    gw.call("POST", INFER, who="alice", token=token, headers={"user-agent": "tests"})
    asked = gw.asked[0]
    assert (asked.method, asked.path, asked.endpoint, asked.action, asked.zone) == ("POST", INFER, DIGITS, "infer", "serve")
    assert (asked.san, asked.serial, asked.fingerprint) == (spiffe("alice"), gw.serial("alice"), gw.fingerprint("alice"))
    assert (asked.subject, asked.audience, asked.token_id) == (spiffe("dave"), DIGITS, "j1")
    assert (asked.confirmation, asked.actor) == ("abc", "spiffe://test.local/agent/a/b")
    assert asked.authorization == f"Bearer {token}"
    assert asked.user_agent == "tests"
    assert asked.peer.startswith("127.0.0.1:")


def test_an_allowing_pdp_lets_the_request_through_and_is_named_in_the_log(gw: Harness):
    gw.verdict = YES
    answer = gw.call("POST", INFER, who="mallory")
    assert answer.status == 200
    line = gw.end_line(answer)
    assert (line["map"], line["asked_decision"]) == ("ask", "d-yes")
    assert "x-vg-decision-id" not in answer.headers
    assert not [name for name, _ in answer.json["headers"] if name.startswith("x-vg")]


@pytest.mark.parametrize(
    "claims", [{"cnf": {"x5t#S256": "abc"}}, {"act": {"sub": "spiffe://test.local/agent/a/b"}}, {"aud": [DIGITS]}, {"aud": [DIGITS, "x"]}]
)
def test_a_bound_delegated_or_shared_token_is_never_granted_by_a_plain_entry(gw: Harness, claims: dict):
    assert gw.call("POST", INFER, token=gw.ca.token(spiffe("bob"), **claims)).status == 403
    assert len(gw.asked) == 1


def test_anonymous_is_refused_without_asking(gw: Harness):
    answer = gw.call("POST", INFER)
    assert (answer.status, answer.json["type"]) == (401, "https://vouchgate.dev/problem/anonymous")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json.keys() == PROBLEM
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.json["status"] == 401
    assert gw.asked == []


@pytest.mark.parametrize(
    "token",
    [
        lambda ca: ca.token(spiffe("bob"), aud="vg://test.local/endpoint/other"),
        lambda ca: ca.token(spiffe("bob"), aud=None),
        lambda ca: ca.token(spiffe("bob"), ttl=-10),
        lambda ca: ca.token(spiffe("bob"), ttl=3600),
        lambda ca: ca.token(spiffe("bob"), exp=None),
        lambda ca: ca.token(spiffe("bob"), nbf=int(time.time()) + 60),
        lambda ca: ca.token(spiffe("bob"), iss="spiffe://partner.local"),
        lambda ca: ca.token("spiffe://partner.local/job/serve/bob"),
        lambda ca: ca.token("bob"),
        lambda ca: ca.token(spiffe("bob"), head={"alg": "none"}, sign=False),
        lambda ca: ca.token(spiffe("bob"), head={"alg": "none"}),
        lambda ca: ca.token(spiffe("bob"), head={"alg": "HS256"}),
        lambda ca: ca.token(spiffe("bob"), head={"kid": "other"}),
        lambda ca: ca.token(spiffe("bob"))[:-4] + "AAAA",
        lambda ca: ca.token(spiffe("bob"), sign=False),
        lambda ca: "not.a.token",
        lambda ca: ca.token(spiffe("bob")) + ", Bearer " + ca.token(spiffe("bob")),
        lambda ca: "A" * 9000,
    ],
)
def test_a_bad_token_is_401_and_never_asked(gw: Harness, token):
    answer = gw.call("POST", INFER, token=token(gw.ca))
    assert (answer.status, answer.json["type"]) == (401, "https://vouchgate.dev/problem/bad-token")
    assert gw.asked == []


def test_a_bad_token_beside_a_good_certificate_is_401(gw: Harness):
    assert gw.call("POST", INFER, who="alice", token=gw.ca.token(spiffe("alice"), ttl=-10)).status == 401


def test_a_token_dies_with_its_expiry_though_it_was_verified_and_cached(gw: Harness):
    token = gw.ca.token(spiffe("bob"), ttl=1)
    assert gw.call("POST", INFER, token=token).status == 200
    time.sleep(3.1)
    assert gw.call("POST", INFER, token=token).status == 401


@pytest.mark.parametrize("where", ["query", "cookie", "basic", "lower"])
def test_a_token_elsewhere_is_no_identity(gw: Harness, where: str):
    token = gw.ca.token(spiffe("bob"))
    if where == "query":
        assert gw.call("POST", f"{INFER}?access_token={token}").status == 401
    else:
        headers = {
            "cookie": {"cookie": f"access_token={token}"},
            "basic": {"authorization": f"Basic {token}"},
            "lower": {"authorization": token},
        }
        assert gw.call("POST", INFER, headers=headers[where]).status == 401


def test_two_names_in_a_certificate_are_refused_whoever_they_are(gw: Harness):
    for names in ((spiffe("alice"), spiffe("zoe")), (spiffe("zoe"), spiffe("alice"))):
        answer = gw.call("POST", INFER, who=gw.ca.issue(*names)[:2])
        assert (answer.status, answer.json["type"]) == (401, "https://vouchgate.dev/problem/bad-name")
    assert gw.asked == []


@pytest.mark.parametrize(
    "name",
    ["spiffe://other.local/job/serve/alice", "spiffe://TEST.local/job/serve/alice", "https://test.local/alice", "spiffe://test.local"],
)
def test_a_foreign_or_odd_name_is_refused(gw: Harness, name: str):
    assert gw.call("POST", INFER, who=gw.ca.issue(name)[:2]).status == 401


def test_a_certificate_of_another_authority_ends_the_handshake(gw: Harness):
    with pytest.raises(OSError, match=r"."):
        gw.call("POST", INFER, who=gw.partner.issue(spiffe("alice"))[:2])


def test_an_expired_certificate_ends_the_handshake(gw: Harness):
    with pytest.raises(OSError, match=r"."):
        gw.call("POST", INFER, who=gw.ca.issue(spiffe("alice"), seconds=-5)[:2])


def test_a_certificate_that_expires_on_a_live_connection_is_refused(gw: Harness):
    connection = gw.connect(gw.ca.issue(spiffe("alice"), seconds=2)[:2])
    assert gw.call("POST", INFER, on=connection).status == 200
    time.sleep(2.1)
    answer = gw.call("POST", INFER, on=connection)
    assert (answer.status, answer.json["type"]) == (401, "https://vouchgate.dev/problem/expired-certificate")


def test_a_grant_of_one_certificate_is_asked_for_each(gw: Harness):
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("alice", thumbprint=gw.fingerprint("alice"))]))
    gw.settled()
    assert gw.call("POST", INFER, who="alice").status == 403
    assert gw.call("POST", INFER, who=gw.ca.issue(spiffe("alice"))[:2]).status == 403
    assert [asked.fingerprint == gw.fingerprint("alice") for asked in gw.asked] == [True, False]


BEYOND = [
    {"vg": {"ask": "1"}},
    {"vg": {}},
    {"vg": "1"},
    {"vg": None, "act": {"sub": "spiffe://test.local/agent/a/b"}},
    {"act": {}},
    {"act": "x"},
    {"act": {"iss": "x"}},
    {"scope": "infer"},
    {"scope": ""},
    {"scope": ["infer"]},
    {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
    {"cnf": {"x5t#S256": "abc"}},
    {"cnf": {}},
    {"cnf": False},
    {"scope": "x|-|-|-|-"},
]


@pytest.mark.parametrize("scheme", ["Bearer", "DPoP"])
@pytest.mark.parametrize("claims", BEYOND)
def test_a_token_with_more_than_plain_claims_is_asked_marked_or_not(gw: Harness, claims: dict, scheme: str):
    for who, sub in ((None, "bob"), ("carol", "carol")):
        gw.asked.clear()
        headers = {"authorization": f"{scheme} {gw.ca.token(spiffe(sub), **claims)}", "dpop": "proof"}
        assert gw.call("POST", INFER, who=who, headers=headers).status == 403
        (asked,) = gw.asked
        assert (asked.beyond, asked.authorization, asked.dpop) == (True, headers["authorization"], "proof")
        assert (asked.method, asked.path, asked.host) == ("POST", INFER, "127.0.0.1")


def test_a_token_of_the_caller_s_own_certificate_is_asked_too(gw: Harness):
    thumbprint = bytes.fromhex(gw.fingerprint("carol"))
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("carol", kind="both"), gw.grant("carol", kind="both", thumbprint=thumbprint.hex())]))
    gw.settled()
    token = gw.ca.token(spiffe("carol"), cnf={"x5t#S256": b64(thumbprint)})
    assert gw.call("POST", INFER, who="carol", token=gw.ca.token(spiffe("carol"))).status == 200
    assert gw.call("POST", INFER, who="carol", token=token).status == 403


@pytest.mark.parametrize("who", ["mallory", None])
def test_a_plain_caller_is_not_beyond(gw: Harness, who: str | None):
    gw.call("POST", INFER, who=who, token="" if who else gw.ca.token(spiffe("mallory")))
    assert [asked.beyond for asked in gw.asked] == [False]


@pytest.mark.parametrize("scheme", ["DPoP {0} Bearer {1}", "Bearer {1} DPoP {0}", "DPoP {1}, Bearer {0}", "DPoP Bearer {0}"])
def test_two_tokens_in_one_header_never_open_more_than_the_plain_one_does(gw: Harness, scheme: str):
    delegated = gw.ca.token(spiffe("bob"), act={"sub": "x"}, vg={"ask": "1"})
    answer = gw.call("POST", INFER, headers={"authorization": scheme.format(delegated, gw.ca.token(spiffe("mallory")))})
    assert answer.status in {401, 403}


@pytest.mark.parametrize(("first", "second"), [("Bearer", "Bearer"), ("DPoP", "Bearer"), ("Bearer", "DPoP")])
def test_two_authorization_headers_are_refused(gw: Harness, first: str, second: str):
    plain, delegated = gw.ca.token(spiffe("bob")), gw.ca.token(spiffe("bob"), act={"sub": "x"}, vg={"ask": "1"})
    for one, two in ((plain, delegated), (delegated, plain)):
        head = f"authorization: {first} {one}\r\nauthorization: {second} {two}\r\n"
        answer = gw.raw(f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\n{head}content-length: 0\r\n\r\n".encode(), who=None)
        assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403"))
    assert gw.upstreams["digits"].seen == []


def test_a_plain_token_under_the_dpop_scheme_is_no_more_than_a_plain_token(gw: Harness):
    headers = {"authorization": "DPoP " + gw.ca.token(spiffe("bob"))}
    answer = gw.call("POST", INFER, headers=headers)
    assert answer.status == 200
    assert not {"authorization", "dpop"} & {name for name, _ in answer.json["headers"]}


def test_the_proof_never_reaches_the_upstream(gw: Harness):
    answer = gw.call("POST", INFER, who="alice", headers={"dpop": "proof"})
    assert "proof" not in answer.body.decode()


def test_several_proofs_are_joined_and_so_no_proof(gw: Harness):
    gw.raw(f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\ndpop: one\r\ndpop: two\r\ncontent-length: 0\r\n\r\n".encode(), who="mallory")
    assert gw.asked[0].dpop == "one,two"


@pytest.mark.parametrize(
    "change", [{"condition": "per_request"}, {"action": "describe"}, {"resource": CHAT}, {"not_after": 1}, {"credential_kind": "declared"}]
)
def test_a_grant_of_something_else_is_no_entry(gw: Harness, change: dict):
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("alice", **change)]))
    gw.settled()
    assert gw.call("POST", INFER, who="alice").status == 403


def test_one_endpoint_s_grants_never_hold_for_another(gw: Harness):
    body = b'{"model":"tiny"}'
    headers = {"content-type": "application/json"}
    gw.do(lambda: gw.view.set_grants(CHAT, [gw.grant("alice", DIGITS)]))
    gw.settled()
    assert gw.call("POST", "/chat/v1/chat/completions", who="alice", body=body, headers=headers).status == 403
    assert gw.call("POST", "/chat/v1/chat/completions", token=gw.ca.token(spiffe("bob")), body=body, headers=headers).status == 401


@pytest.mark.parametrize(
    "name",
    ["x-vg-san", "x-vg-endpoint", "X-VG-Sub", "x-forwarded-client-cert", "x-envoy-original-path", "x-request-id", "x-forwarded-host"],
)
def test_what_a_client_says_under_our_names_reaches_nobody(gw: Harness, name: str):
    evil = "spiffe://test.local/job/serve/evil"
    answer = gw.call("POST", INFER, who="alice", headers={name: evil})
    assert answer.status == 200
    assert evil not in json.dumps(answer.json)
    assert answer.headers["x-request-id"] != evil
    gw.call("POST", INFER, who="mallory", headers={name: evil})
    assert evil not in repr(gw.asked[-1])
    assert gw.asked[-1].san == spiffe("mallory")


def test_credentials_are_stripped_before_the_upstream(gw: Harness):
    answer = gw.call("POST", INFER, token=gw.ca.token(spiffe("bob")))
    names = {name for name, _ in answer.json["headers"]}
    assert "authorization" not in names
    assert not [name for name in names if name.startswith(("x-vg-", "x-envoy-", "x-forwarded-client"))]


def test_observe_lets_anonymous_legacy_callers_in_with_their_own_credentials(gw: Harness):
    answer = gw.call("DELETE", "/any/path?x=1", plain=True, headers={"host": "legacy.test", "authorization": "Bearer sk-legacy"})
    assert answer.status == 200
    assert ["authorization", "Bearer sk-legacy"] in answer.json["headers"]
    line = gw.end_line(answer)
    assert line["map"] == "observe:vg://test.local/endpoint/legacy"
    assert gw.asked == []


def test_observe_never_lets_a_revoked_caller_in(gw: Harness):
    gw.revoke("principal", spiffe("alice"))
    assert gw.call("GET", "/x", who="alice", headers={"host": "legacy.test"}).status == 403
    assert gw.call("GET", "/x", who="bob", headers={"host": "legacy.test"}).status == 200


def test_our_own_token_never_reaches_a_legacy_server(gw: Harness):
    token = gw.ca.token(spiffe("bob"), aud=f"vg://{TD}/endpoint/legacy")
    answer = gw.call("GET", "/x", token=token, headers={"host": "legacy.test"})
    assert answer.status == 200
    assert token not in answer.body.decode()


def test_observe_never_lets_a_promotion_pass_that_nobody_decided(gw: Harness):
    legacy = next(one for one in gw.endpoints() if one.id == LEGACY)
    routes = (Route(method="POST", path="/promote", action="promote"),)
    gw.do(lambda: gw.view.set_endpoints([*gw.endpoints()[:-1], msgspec.structs.replace(legacy, routes=routes)]))
    gw.settled()
    assert gw.call("POST", "/promote", plain=True, headers={"host": "legacy.test"}).status == 401
    assert gw.call("POST", "/promote", who="bob", headers={"host": "legacy.test"}).status == 403
    assert gw.asked[-1].action == "promote"
    assert gw.call("POST", "/other", plain=True, headers={"host": "legacy.test"}).status == 200


@pytest.mark.parametrize("name", ["x-http-method-override", "X-Original-URL"])
def test_a_legacy_server_that_is_enforced_hears_of_no_other_request_than_was_decided(gw: Harness, name: str):
    said = {"host": "legacy.test", name: "/admin"}
    assert name.lower() in {header for header, _ in gw.call("GET", "/x", who="bob", headers=said).json["headers"]}
    gw.do(lambda: gw.view.set_zones([gw.zone, Zone(name="old", trust_domain=TD)]))
    gw.do(lambda: gw.view.set_grants(LEGACY, [gw.grant("bob", LEGACY, action="call")]))
    gw.settled()
    answer = gw.call("GET", "/x", who="bob", headers=said)
    assert answer.status == 200
    assert name.lower() not in {header for header, _ in answer.json["headers"]}


def test_observe_ends_when_the_zone_enforces(gw: Harness):
    gw.do(lambda: gw.view.set_zones([gw.zone, Zone(name="old", trust_domain=TD)]))
    gw.settled()
    assert gw.call("GET", "/x", plain=True, headers={"host": "legacy.test"}).status == 401


def test_only_wrapped_endpoints_are_on_the_plain_listener(gw: Harness):
    assert gw.call("POST", INFER, plain=True, headers={"host": "localhost"}).status == 404


def test_a_dead_pdp_is_503_with_words(gw: Harness):
    gw.do(gw.stop_ask())
    try:
        answer = gw.call("POST", INFER, who="mallory")
        assert (answer.status, answer.json["type"]) == (503, "https://vouchgate.dev/problem/pdp-unavailable")
        assert gw.call("POST", INFER, who="alice").status == 200
    finally:
        gw.do(gw.serve_ask())


def test_a_hung_pdp_is_503_within_the_bound(gw: Harness):
    gw.ask_delay = 5
    began = time.monotonic()
    answer = gw.call("POST", INFER, who="mallory")
    assert (answer.status, answer.json["type"]) == (503, "https://vouchgate.dev/problem/pdp-unavailable")
    assert time.monotonic() - began < 2


def test_a_dead_upstream_is_503_with_words(gw: Harness):
    from pathlib import Path

    path = Path(gw.upstreams["chat"].path)
    hidden = path.with_suffix(".off")
    path.rename(hidden)
    try:
        answer = gw.call(
            "POST", "/chat/v1/chat/completions", who="alice", body=b'{"model":"tiny"}', headers={"content-type": "application/json"}
        )
        assert answer.status in {200, 503}
        gw.do(gw.forget_upstream_connections())
        answer = gw.call(
            "POST", "/chat/v1/chat/completions", who="alice", body=b'{"model":"tiny"}', headers={"content-type": "application/json"}
        )
        assert (answer.status, answer.json["type"]) == (503, "https://vouchgate.dev/problem/upstream-unavailable")
    finally:
        hidden.rename(path)


def test_events_stay_intact_and_end_in_time(gw: Harness):
    connection = gw.connect("alice")
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    assert answer.status == 200
    began, gaps, last = time.monotonic(), [], time.monotonic()
    got = 0
    try:
        while time.monotonic() - began < 6:
            line = answer.readline()
            if not line:
                break
            if line.startswith(b"data: "):
                assert line == b"data: %d\n" % got
                got += 1
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
    except OSError:
        pass
    assert sorted(gaps)[len(gaps) // 2] < 0.1
    assert 2.5 < last - began < 3.5


def test_http2_callers_are_served_the_same(gw: Harness):
    import httpx

    pytest.importorskip("h2")
    with httpx.Client(http2=True, verify=gw.context(gw.identity("alice")), timeout=5) as client:
        answer = client.post(f"https://127.0.0.1:{gw.port}{INFER}")
        assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
        assert client.post(f"https://127.0.0.1:{gw.port}/nowhere").status_code == 404


def test_a_route_that_forgot_its_map_asks(gw: Harness):
    from gateway_harness import ROUTE_TYPE

    from vouchgate.edges.envoy.ads import Resource
    from vouchgate.edges.envoy.messages import packed
    from vouchgate.edges.envoy.routes import route_tables

    table = route_tables(gw.endpoints(), {endpoint.id: slot for slot, endpoint in enumerate(gw.endpoints())}, hosts=gw.settings.hosts)[
        "tls"
    ]
    for host in table.virtual_hosts:
        for route in host.routes:
            route.typed_per_filter_config.pop("map/0", None)
    gw.do(lambda: gw.ads.set_resources(ROUTE_TYPE, {"tls": Resource(packed(table), "forgotten")}))
    gw.settled()
    assert gw.call("POST", INFER, who="alice").status == 403
    assert gw.asked[0].san == spiffe("alice")


def test_a_map_under_another_route_matches_nothing(gw: Harness):
    from gateway_harness import ROUTE_TYPE

    from vouchgate.edges.envoy.ads import Resource
    from vouchgate.edges.envoy.messages import packed
    from vouchgate.edges.envoy.routes import route_tables

    gw.do(lambda: gw.view.set_grants(CHAT, []))
    table = route_tables(gw.endpoints(), {endpoint.id: 0 for endpoint in gw.endpoints()}, hosts=gw.settings.hosts)["tls"]
    gw.do(lambda: gw.ads.set_resources(ROUTE_TYPE, {"tls": Resource(packed(table), "one-slot")}))
    gw.settled()
    body, headers = b'{"model":"tiny"}', {"content-type": "application/json"}
    assert gw.call("POST", INFER, who="alice").status == 200
    assert gw.call("POST", "/chat/v1/chat/completions", who="alice", body=body, headers=headers).status == 403


@pytest.mark.parametrize(
    "name", ["X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-Method-Override", "Forwarded", "X-Real-IP"]
)
def test_no_header_talks_the_upstream_into_another_path_method_or_peer(gw: Harness, name: str):
    answer = gw.call("POST", INFER, who="alice", headers={name: "/secret"})
    assert name.lower() not in {seen for seen, _ in answer.json["headers"]}


def test_a_client_cannot_say_where_it_comes_from(gw: Harness):
    answer = gw.call("POST", INFER, who="alice", headers={"x-forwarded-for": "10.9.8.7"})
    assert "10.9.8.7" not in answer.body.decode()


def test_a_large_body_streams_through_where_it_need_not_be_read(gw: Harness):
    answer = gw.call("POST", INFER, who="alice", body=b"a" * 5_000_000)
    assert (answer.status, answer.json["length"]) == (200, 5_000_000)


def test_many_questions_at_once_are_bounded_and_none_is_allowed(gw: Harness):
    import threading

    gw.ask_delay = 0.05
    statuses: list[int] = []

    def caller() -> None:
        statuses.append(gw.call("POST", INFER, who="mallory").status)

    gw.call("POST", INFER, who="mallory")
    threads = [threading.Thread(target=caller) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 60
    assert set(statuses) <= {403, 503}


def challenges(gw: Harness, *, who=None, headers: dict | None = None) -> list[str]:
    connection = gw.connect(who)
    connection.request("POST", INFER, headers=headers or {})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 401
    return [value for name, value in answer.getheaders() if name.lower() == "www-authenticate"]


def test_a_401_says_how_to_authenticate(gw: Harness):
    realm = f'realm="{DIGITS}"'
    assert challenges(gw) == [f"Bearer {realm}", f'DPoP {realm}, algs="ES256"']
    assert challenges(gw, who=gw.ca.issue(spiffe("a"), spiffe("b"))[:2]) == [f"Bearer {realm}", f'DPoP {realm}, algs="ES256"']
    bad = [f'Bearer {realm}, error="invalid_token"', f'DPoP {realm}, error="invalid_token", algs="ES256"']
    for scheme in ("Bearer", "DPoP"):
        assert challenges(gw, headers={"authorization": f"{scheme} x.y.z"}) == bad


def test_the_pdp_s_own_challenge_stands_and_a_missing_one_is_added(gw: Harness):
    gw.verdict = (401, {"content-type": "application/problem+json", "www-authenticate": 'DPoP error="use_dpop_nonce"'}, b"{}")
    assert challenges(gw, who="mallory") == ['DPoP error="use_dpop_nonce"']
    gw.verdict = (401, {"content-type": "application/problem+json"}, b"{}")
    assert challenges(gw, who="mallory") == [f'Bearer realm="{DIGITS}"']
