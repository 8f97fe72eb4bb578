"""What is rendered from grants, revocations and routes, without an Envoy."""

from __future__ import annotations

import json

import msgspec
import pytest
from gateway_harness import CHAT, DIGITS, TD, revocation, spiffe
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.edges.envoy.bootstrap import bootstrap, envoy_binary, flags
from vouchgate.edges.envoy.clusters import cluster
from vouchgate.edges.envoy.filters import BEYOND, CALLER_STATE
from vouchgate.edges.envoy.listener import listeners
from vouchgate.edges.envoy.maps import MAX_ENTRIES_PER_MAP, allow_map, revocation_map
from vouchgate.edges.envoy.messages import address
from vouchgate.edges.envoy.routes import path_pattern, route_tables
from vouchgate.edges.envoy.settings import GatewaySettings, slot_count
from vouchgate.vocabulary.decisions import Grant, Obligation
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Endpoint, Route

SETTINGS = GatewaySettings(node_id="g", trust_domain=TD, admin_socket="/a", ads_socket="/b", ext_authz_socket="/c", access_log="/d")
ENDPOINT = Endpoint(
    id=DIGITS, trust_domain=TD, zone="serve", upstream="unix:/u", routes=(Route(method="GET", path="/x", action="infer"),), bearer=True
)


def grant(**more: object) -> Grant:
    values: dict = {
        "id": "g1",
        "decision_id": "d",
        "principal": spiffe("a"),
        "credential_kind": "x509",
        "action": "infer",
        "resource": DIGITS,
    }
    return Grant(**(values | {"pep": "g", "epoch": 1, "not_after": 9} | more))


def keys(endpoint: Endpoint, *grants: Grant) -> set[str]:
    return set(allow_map(endpoint, grants, observe=False)[0].matcher.matcher_tree.exact_match_map.map) - {"-"}


@given(st.lists(st.sampled_from(["a", "b", "c|d", "-", "e,f"]), min_size=1, max_size=5), st.sampled_from(["x509", "jwt", "both"]))
def test_a_key_has_ten_fields_and_names_its_endpoint(names: list[str], kind: str):
    for key in keys(ENDPOINT, *(grant(principal=f"spiffe://{TD}/job/z/{name.replace('|', '')}", credential_kind=kind) for name in names)):
        assert key.count("|") == 9
        assert key.startswith(DIGITS + "|infer|-|")


def test_no_key_is_the_anonymous_one():
    assert not [
        key
        for key in keys(ENDPOINT, grant(), grant(credential_kind="jwt"), grant(credential_kind="both"))
        if key.endswith("|-|-|-|-|-|-|-")
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"condition": "per_request"},
        {"obligations": (Obligation(kind="redaction", value="x"),)},
        {"credential_kind": "declared"},
        {"resource": CHAT},
        {"credential_kind": "jwt", "thumbprint": "ab" * 32},
        {"credential_kind": "both", "thumbprint": "ab" * 32},
        {"thumbprint": "ab" * 32},
    ],
)
def test_what_must_be_asked_is_in_no_map(change: dict):
    assert keys(ENDPOINT, grant(**change)) == set()


@pytest.mark.parametrize("kind", ["x509", "jwt", "both"])
def test_no_entry_has_a_claim_beyond_the_plain_ones(kind: str):
    made = keys(ENDPOINT, grant(credential_kind=kind))
    assert made
    assert all(key.split("|")[6:] == ["-"] * len(BEYOND) for key in made)


def test_a_token_alone_needs_a_bearer_endpoint():
    import msgspec

    strict = msgspec.structs.replace(ENDPOINT, bearer=False)
    assert keys(strict, grant(credential_kind="jwt")) == set()


def test_a_model_s_grant_is_keyed_by_every_name_it_has():
    chat = Endpoint(
        id=CHAT,
        trust_domain=TD,
        zone="s",
        upstream="unix:/u",
        routes=(),
        model_in_body=True,
        models={"tiny": CHAT, "small": CHAT, "other": DIGITS},
    )
    assert {key.split("|")[2] for key in keys(chat, grant(resource=CHAT))} == {"tiny", "small"}
    assert {key.split("|")[2] for key in keys(chat, grant(resource=DIGITS))} == {"other"}


def test_a_map_is_bounded_and_says_what_it_left_out():
    many = [grant(id=f"g{number}", principal=spiffe(f"n{number}")) for number in range(MAX_ENTRIES_PER_MAP + 7)]
    message, overflow = allow_map(ENDPOINT, many, observe=False)
    assert (len(message.matcher.matcher_tree.exact_match_map.map), overflow) == (MAX_ENTRIES_PER_MAP, 7)


@pytest.mark.parametrize("action", ["promote", "sign", "release-key", "approve", "waive", "administer:revoke"])
def test_what_observe_never_lets_through_is_asked_in_an_observed_map_too(action: str):
    routes = (*ENDPOINT.routes, Route(method="POST", path="/models", action=action))
    made, _ = allow_map(msgspec.structs.replace(ENDPOINT, routes=routes), [grant()], observe=True)
    by_action = made.matcher.on_no_match.matcher
    assert by_action.matcher_tree.input.name == "vg.action"
    assert set(by_action.matcher_tree.exact_match_map.map) == {action}
    refused = str(by_action.matcher_tree.exact_match_map.map[action])
    assert "anonymous" in refused and "ask" in refused and "observe" not in refused
    assert "observe:" in str(by_action.on_no_match)
    assert "vg.action" in CALLER_STATE


def test_an_observed_map_has_no_anonymous_refusal():
    assert "anonymous" not in str(allow_map(ENDPOINT, [grant()], observe=True)[0])
    assert "anonymous" in str(allow_map(ENDPOINT, [grant()], observe=False)[0])
    assert "anonymous" in str(allow_map(ENDPOINT, [], observe=False)[0])


def test_a_withdrawn_revocation_is_in_no_map():
    assert "zed" in str(revocation_map([revocation("principal", "zed")], trust_domain=TD))
    assert "zed" not in str(revocation_map([revocation("principal", "zed", withdrawn_by="r2")], trust_domain=TD))
    assert "zed" not in str(revocation_map([revocation("digest", "zed")], trust_domain=TD))


def test_names_are_read_once_and_both_maps_strike():
    for struck in ([], [revocation("principal", "zed")], [revocation("credential", "zed")]):
        newer, older = (str(revocation_map(struck, trust_domain=TD, names=names)) for names in (True, False))
        assert ("bad-name" in newer, "bad-name" in older) == (True, False)
        assert ("zed" in newer, "zed" in older) == (bool(struck), bool(struck))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "/a//b",
        "/a/../b",
        "/./a",
        "/a b",
        "/a%2f",
        "/{A}",
        "/{a}{b}",
        "/a{b}",
        "/*",
        "/a?b",
        "/a#b",
        "/a;b",
        "/\u00e9",
        "/" + "a" * 600,
    ],
)
def test_a_path_that_cannot_be_listed(path: str):
    with pytest.raises(InvalidInput):
        path_pattern(path)


@pytest.mark.parametrize("method", ["", "get", "GET,POST", "*", "G E T", "X" * 30])
def test_a_method_that_cannot_be_listed(method: str):
    import msgspec

    bad = msgspec.structs.replace(ENDPOINT, routes=(Route(method=method, path="/x", action="infer"),))
    with pytest.raises(InvalidInput):
        route_tables([bad], {DIGITS: 0}, hosts=["localhost"])


@pytest.mark.parametrize("text", ["", "unix:", "unix:x", "tcp:", "tcp:h", "tcp:h:0", "tcp:h:70000", "tcp::1", "http://h:1", "tcp:h:x"])
def test_an_upstream_that_is_no_address(text: str):
    with pytest.raises(InvalidInput):
        address(text)


def test_a_named_host_is_resolved_and_a_literal_is_not():
    import msgspec

    kinds = {
        text: cluster(msgspec.structs.replace(ENDPOINT, upstream=text)).type
        for text in ("tcp:models.internal:80", "tcp:10.0.0.1:80", "tcp:[::1]:80", "unix:/x")
    }
    assert list(kinds.values()) == [1, 0, 0, 0]


@pytest.mark.parametrize(("endpoints", "slots"), [(0, 8), (8, 8), (9, 16), (100, 128)])
def test_slots_double(endpoints: int, slots: int):
    assert slot_count(endpoints) == slots


def test_tls_is_1_3_without_resumption_and_with_an_optional_certificate():
    from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

    made = listeners(SETTINGS, 8)
    assert set(made) == {"tls"}
    context = tls_pb2.DownstreamTlsContext.FromString(made["tls"].filter_chains[0].transport_socket.typed_config.value)
    assert context.disable_stateless_session_resumption and context.disable_stateful_session_resumption
    assert not context.require_client_certificate.value
    assert context.common_tls_context.tls_params.tls_minimum_protocol_version == 4


def test_the_bootstrap_is_json_without_policy_and_the_flags_are_strict():
    text = json.dumps(bootstrap(SETTINGS))
    assert "DELTA_GRPC" in text
    assert "rbac" not in text
    assert {"--reject-unknown-dynamic-fields", "--disable-hot-restart"} <= set(flags(SETTINGS, "/x"))
    given = flags(SETTINGS, "/x")
    assert given[given.index("--file-flush-min-size-kb") + 1] == "0"
    assert envoy_binary().is_file()
