"""What is left of a grant when the control plane is gone, hung, wrong or cut off."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import time
from collections.abc import Callable

import pytest
from gateway_harness import CHAT, DIGITS, Harness, respelled, serial_of, spiffe

from vouchgate.edges.envoy.ads import Resource
from vouchgate.edges.envoy.maps import lease
from vouchgate.edges.envoy.messages import EXTENSION_TYPE, ROUTE_TYPE, extension, packed
from vouchgate.identity.x509svid import serial_text
from vouchgate.vocabulary.vouches import UnixMillis

pytestmark = pytest.mark.gateway
INFER = "/v2/models/digits/infer"
LEASE_EXPIRED = "https://vouchgate.dev/problem/lease-expired"


def now() -> UnixMillis:
    return UnixMillis(int(time.time() * 1000))


def first_refusal(gw: Harness, connection, seconds: float):
    """Calls on a live connection until one is refused: the answer and when."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = gw.call("POST", INFER, on=connection)
        if answer.status != 200:
            return answer, time.monotonic()
        time.sleep(0.005)
    raise AssertionError("it was never refused")


def test_without_a_control_plane_nothing_is_served(own: Callable[..., Harness]):
    gw = own(start=False)
    gw.do(gw.ads.stop())
    gw.start_envoy()
    time.sleep(1)
    with pytest.raises(OSError, match=r"."):
        gw.call("POST", INFER, who="alice")
    gw.do(gw.ads.start(gw.settings.ads_socket))
    gw.feed()
    gw.ready(4)


def test_leases_are_renewed_on_and_on(own: Callable[..., Harness]):
    gw = own(lease_seconds=1)
    connection = gw.connect("alice")
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert gw.call("POST", INFER, on=connection).status == 200
        time.sleep(0.02)
    assert gw.rejections == []


def test_a_paused_control_plane_leaves_one_lease_and_a_reason(own: Callable[..., Harness]):
    gw = own(lease_seconds=2)
    connection = gw.connect("alice")
    gw.do(lambda: gw.view.pause("the disk is full"))
    began = time.monotonic()
    answer, at = first_refusal(gw, connection, 4)
    assert (answer.status, answer.json["type"]) == (503, LEASE_EXPIRED)
    assert 1.2 < at - began < 2.2
    assert gw.call("POST", INFER, who="mallory").json["type"] == LEASE_EXPIRED
    assert gw.call("POST", INFER).json["type"] == LEASE_EXPIRED
    gw.do(gw.view.resume)
    gw.ready(2)


def test_a_killed_control_plane_leaves_one_lease_and_comes_back(own: Callable[..., Harness]):
    gw = own(lease_seconds=2)
    connection = gw.connect("alice")
    gw.do(gw.ads.stop())
    began = time.monotonic()
    answer, at = first_refusal(gw, connection, 4)
    assert answer.json["type"] == LEASE_EXPIRED
    assert at - began < 2.2
    time.sleep(0.5)
    gw.do(gw.ads.start(gw.settings.ads_socket))
    gw.ready(2)


def test_what_is_withheld_after_a_start_lets_old_grants_run_out_and_strikes_who_is_revoked(own: Callable[..., Harness]):
    gw = own(lease_seconds=3)
    alice, bob = gw.connect("alice"), gw.connect("bob")
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("alice"), gw.grant("bob")]))
    gw.settled()
    assert gw.call("POST", INFER, on=bob).status == 200
    gw.do(gw.ads.stop())
    gw.do(gw.view.withhold)
    gw.do(lambda: gw.view.set_grants(DIGITS, []))
    gw.do(gw.ads.start(gw.settings.ads_socket))
    began = time.monotonic()
    while not gw.do(gw.ads.nodes) and time.monotonic() < began + 2:
        time.sleep(0.01)
    assert gw.call("POST", INFER, on=alice).status == 200, "a map that is not decided was told"
    gw.revoke("principal", spiffe("bob"))
    assert gw.call("POST", INFER, on=bob).json["type"].endswith("/revoked")
    answer, at = first_refusal(gw, alice, 4)
    assert answer.json["type"] == LEASE_EXPIRED
    assert at - began < 3.2, "what is not decided was renewed"
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("alice")]))
    gw.do(gw.view.release)
    gw.ready(2)
    assert gw.call("POST", INFER, who="bob").status == 403


def test_a_stopped_gateway_has_no_lease_when_it_wakes(own: Callable[..., Harness]):
    gw = own(lease_seconds=2)
    connection = gw.connect("alice")
    assert gw.call("POST", INFER, on=connection).status == 200
    gw.do(lambda: gw.view.pause("cut off"))
    gw.envoy.send_signal(signal.SIGSTOP)
    time.sleep(2.2)
    gw.envoy.send_signal(signal.SIGCONT)
    assert gw.call("POST", INFER, on=connection).json["type"] == LEASE_EXPIRED


def test_a_stall_longer_than_the_lease_heals_by_itself(own: Callable[..., Harness]):
    gw = own(lease_seconds=1)
    gw.envoy.send_signal(signal.SIGSTOP)
    time.sleep(2)
    gw.envoy.send_signal(signal.SIGCONT)
    gw.ready(2)


def test_the_absolute_bound_holds_though_every_ttl_is_alive(gw: Harness):
    until = now() + 400
    value = packed(extension("lease", lease({"serve": UnixMillis(until), "old": UnixMillis(until)})))
    gw.do(lambda: gw.view.pause("only this test speaks"))
    gw.do(lambda: gw.ads.set_resources(EXTENSION_TYPE, {"lease": Resource(value, "test", 60.0)}))
    answer, _ = first_refusal(gw, gw.connect("alice"), 2)
    assert answer.json["type"] == LEASE_EXPIRED
    assert -5 < now() - until < 60


def test_a_zone_s_lease_ends_alone(gw: Harness):
    value = packed(extension("lease", lease({"serve": UnixMillis(now() - 1), "old": UnixMillis(now() + 60_000)})))
    gw.do(lambda: gw.view.pause("only this test speaks"))
    gw.do(lambda: gw.ads.set_resources(EXTENSION_TYPE, {"lease": Resource(value, "test", 60.0)}))
    time.sleep(0.05)
    assert gw.call("POST", INFER, who="alice").json["type"] == LEASE_EXPIRED
    assert gw.call("GET", "/x", plain=True, headers={"host": "legacy.test"}).status == 200
    assert gw.call("GET", "/nowhere", who="alice").status == 404


def test_a_grant_ends_at_its_own_time_and_others_go_on(gw: Harness):
    until = now() + 500
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("alice", not_after=until), gw.grant("erin")]))
    gw.settled()
    alice, erin = gw.connect("alice"), gw.connect("erin")
    while (answer := gw.call("POST", INFER, on=alice)).status == 200:
        assert now() < until + 20
        assert gw.call("POST", INFER, on=erin).status == 200
    assert answer.status == 403
    while now() < until + 200:
        assert gw.call("POST", INFER, on=erin).status == 200


def test_a_grant_that_is_renewed_goes_on_without_a_gap(gw: Harness):
    connection = gw.connect("alice")
    for _ in range(4):
        until = now() + 1000
        gw.do(lambda until=until: gw.view.set_grants(DIGITS, [gw.grant("alice", not_after=until)]))
        while now() < until - 550:
            assert gw.call("POST", INFER, on=connection).status == 200


def test_a_grant_ends_at_its_own_time_without_a_control_plane(gw: Harness):
    until = now() + 500
    gw.do(lambda: gw.view.set_grants(DIGITS, [gw.grant("alice", not_after=until)]))
    gw.settled()
    gw.do(lambda: gw.view.pause("gone"))
    gw.do(gw.leasing_off)
    try:
        _, _ = first_refusal(gw, gw.connect("alice"), 2)
        assert now() - until < 120
    finally:
        gw.do(gw.leasing_on)


def test_a_rejected_push_keeps_the_old_map_and_its_neighbours(gw: Harness):
    bad = packed(extension("map/0", lease({})))
    bad.value = bad.value.replace(b"lease_", b"\x00\xff\x00\xff\x00\xff")
    gw.rejections.clear()
    gw.do(lambda: gw.ads.set_resources(EXTENSION_TYPE, {"map/0": Resource(bad, "bad", 10.0)}))
    gw.do(lambda: gw.view.set_grants(CHAT, [gw.grant("erin", CHAT)]))
    deadline = time.monotonic() + 2
    while not gw.rejections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gw.rejections[0][1] == [(EXTENSION_TYPE, "map/0")]
    status = gw.do(gw.view.status).points[0]
    assert list(status.rejected) == ["map/0"]
    assert status.current
    assert gw.call("POST", INFER, who="alice").status == 200
    answer = gw.call(
        "POST", "/chat/v1/chat/completions", who="erin", body=b'{"model":"tiny"}', headers={"content-type": "application/json"}
    )
    assert answer.status == 200
    gw.do(lambda: gw.ads.set_resources(EXTENSION_TYPE, {"map/0": Resource(bad, "bad2", 10.0)}))


def test_a_misspelt_field_is_rejected(gw: Harness):
    """An empty RBAC would allow everything: field 15 is no field of RBAC."""
    value = packed(extension("map/0", lease({})))
    misspelt = extension("map/0", lease({}))
    misspelt.typed_config.value = b"\x7a\x02\x08\x01"
    value = packed(misspelt)
    gw.rejections.clear()
    gw.do(lambda: gw.ads.set_resources(EXTENSION_TYPE, {"map/0": Resource(value, "misspelt", 10.0)}))
    deadline = time.monotonic() + 2
    while not gw.rejections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "unknown fields" in gw.rejections[0][2]
    assert gw.call("POST", INFER, who="mallory").status == 403


def test_a_removed_map_denies_at_once(gw: Harness):
    connection = gw.connect("alice")
    assert gw.call("POST", INFER, on=connection).status == 200
    gw.do(lambda: gw.ads.remove(EXTENSION_TYPE, ["map/0"]))
    answer, _ = first_refusal(gw, connection, 1)
    assert answer.json["type"] == LEASE_EXPIRED
    gw.do(lambda: gw.view.set_grants(DIGITS, []))


def test_no_lease_goes_to_a_point_that_has_not_taken_the_newest_revocations(own: Callable[..., Harness]):
    gw = own(lease_seconds=1)
    broken = extension("revocations", lease({}))
    broken.typed_config.value = b"\x7a\x02\x08\x01"
    gw.do(lambda: gw.ads.set_resources(EXTENSION_TYPE, {"revocations": Resource(packed(broken), "9-bad", 1.0)}))
    answer, _ = first_refusal(gw, gw.connect("alice"), 3)
    assert answer.json["type"] == LEASE_EXPIRED
    assert not gw.do(gw.view.status).points[0].current
    gw.epoch = 20
    gw.do(lambda: gw.view.set_revocations([], epoch=20))
    gw.ready(2)


def test_revoked_on_a_live_connection_by_every_kind_of_target(gw: Harness):
    token = gw.ca.token(spiffe("bob"), jti="token-1")
    other = gw.ca.token(spiffe("bob"), jti="token-2")
    by_certificate = gw.connect("alice")
    cases = [
        ("principal", spiffe("alice"), lambda: gw.call("POST", INFER, on=by_certificate), lambda: gw.call("POST", INFER, token=token)),
        ("registration", spiffe("alice"), lambda: gw.call("POST", INFER, on=by_certificate), lambda: gw.call("POST", INFER, token=token)),
        (
            "credential",
            gw.serial("alice"),
            lambda: gw.call("POST", INFER, on=by_certificate),
            lambda: gw.call("POST", INFER, who=gw.ca.issue(spiffe("alice"))[:2]),
        ),
        ("principal", spiffe("bob"), lambda: gw.call("POST", INFER, token=token), lambda: gw.call("POST", INFER, on=by_certificate)),
        ("credential", "token-1", lambda: gw.call("POST", INFER, token=token), lambda: gw.call("POST", INFER, token=other)),
    ]
    for kind, target, struck, spared in cases:
        assert struck().status == 200
        gw.revoke(kind, target)
        answer = struck()
        assert (answer.status, answer.json["type"]) == (403, "https://vouchgate.dev/problem/revoked"), (kind, target)
        assert "revoked:r1" in answer.json["detail"]
        assert spared().status == 200, (kind, target)
        gw.revoke(kind, target, withdrawn_by="r2")
        assert struck().status == 200


def test_a_revoked_certificate_stays_revoked_under_its_other_spelling(gw: Harness):
    """(r, s) and (r, n - s) are signatures of the same certificate, and whoever holds one can write the other."""
    pem, key, fingerprint = gw.ca.issue(spiffe("alice"))
    other = respelled(pem)
    assert gw.call("POST", INFER, who=(other, key)).status == 200
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(other)).hexdigest() != fingerprint
    gw.revoke("credential", serial_of(pem))
    for spelling in (pem, other):
        assert gw.call("POST", INFER, who=(spelling, key)).json["type"] == "https://vouchgate.dev/problem/revoked"
    assert gw.call("POST", INFER, who="alice").status == 200


@pytest.mark.parametrize("serial", [1, 0x0F, 0x80, 0x0A0B0C, 0xFEDC, 1 << 128, (1 << 159) - 1])
def test_a_serial_number_is_whole_bytes_of_lower_case_hexadecimal(gw: Harness, serial: int):
    pem, key, _ = gw.ca.issue(spiffe("alice"), serial=serial)
    answer = gw.call("POST", INFER, who=(pem, key))
    assert answer.status == 200
    assert gw.end_line(answer)["serial"] == serial_text(serial) == serial_of(pem)
    gw.revoke("credential", serial_text(serial))
    assert gw.call("POST", INFER, who=(pem, key)).status == 403


def test_a_revoked_caller_is_never_asked_about(gw: Harness):
    gw.revoke("principal", spiffe("mallory"))
    assert gw.call("POST", INFER, who="mallory").status == 403
    assert gw.asked == []


def test_an_older_epoch_is_refused(gw: Harness):
    from vouchgate.vocabulary.errors import Conflict

    with pytest.raises(Conflict):
        gw.do(lambda: gw.view.set_revocations([], epoch=gw.epoch - 1))


def test_an_endpoint_is_added_and_withdrawn_without_touching_listeners(gw: Harness):
    connection = gw.connect("alice")
    assert gw.call("POST", INFER, on=connection).status == 200
    version = gw.do(lambda: gw.ads.version("type.googleapis.com/envoy.config.listener.v3.Listener", "tls"))
    more = gw.endpoints()
    extra = type(more[0])(
        id="vg://test.local/endpoint/extra",
        trust_domain="test.local",
        zone="serve",
        upstream=more[0].upstream,
        routes=more[0].routes[:1],
        prefix="/extra",
    )
    gw.do(lambda: gw.view.set_endpoints([*more, extra]))
    gw.do(lambda: gw.view.set_grants(extra.id, [gw.grant("alice", extra.id)]))
    gw.do(gw.ads.wait_acked(ROUTE_TYPE, ["tls"], timeout=2))
    gw.settled()
    # its route may be there a moment before its map; until then it is asked about, and refused
    deadline = time.monotonic() + 5
    while (status := gw.call("POST", "/extra" + INFER, on=connection).status) == 403 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status == 200
    assert gw.upstreams["digits"].seen[-1]["path"] == INFER
    gw.do(lambda: gw.view.set_endpoints(more))
    gw.do(gw.ads.wait_acked(ROUTE_TYPE, ["tls"], timeout=2))
    assert gw.call("POST", "/extra" + INFER, on=connection).status == 404
    assert gw.call("POST", INFER, on=connection).status == 200
    assert gw.do(lambda: gw.ads.version("type.googleapis.com/envoy.config.listener.v3.Listener", "tls")) == version


def test_only_the_listed_uid_may_call_the_servers(own: Callable[..., Harness]):
    import socket

    from vouchgate.edges.envoy import ext_authz
    from vouchgate.edges.envoy.ads import AdsServer

    gw = own(start=False)

    async def strangers() -> tuple[AdsServer, object]:
        ads = AdsServer(allowed_uids={os.getuid() + 1})
        await ads.start(str(gw.dir / "a.sock"))
        return ads, await ext_authz.serve(str(gw.dir / "e.sock"), gw._decide, allowed_uids={os.getuid() + 1})

    ads, ask = gw.do(strangers())
    for name in ("a.sock", "e.sock"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(2)
        client.connect(str(gw.dir / name))
        try:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if name == "a.sock" else b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(100) == b""
        except ConnectionError:
            pass
        client.close()
    assert ads.refused_peers == 1
    gw.do(ads.stop())
    ask.close()
