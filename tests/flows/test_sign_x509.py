"""The signer's X.509 purposes: chains, batches, revocation lists and the steps of its authority, each with its own permission and bound."""

from __future__ import annotations

import asyncio

import pytest
from cryptography import x509
from test_sign import CA_KEY, CONTROL, NOW, STRANGER, TD, X509, World

from vouchgate.flows.sign import SignedBefore
from vouchgate.flows.sign_x509 import MAX_BATCH
from vouchgate.flows.x509_state import CaState, RootState
from vouchgate.identity.bundle import make_bundle
from vouchgate.identity.verify import verify_x509
from vouchgate.identity.x509svid import read_x509
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.principals import Binding
from vouchgate.vocabulary.wire import decode, encode

BINDING = {"run": "run-0123456789abcdef", "zone": "train", "stage": "fit"}


def bundle(world: World):
    return make_bundle(TD, x509_authorities=tuple(world.call("public_keys")["x509_authorities"]), jwt_spkis=())


def test_a_chain_and_its_binding_hold_under_the_published_bundle():
    world = World()
    issued = world.call("x509_svid", **X509, binding=BINDING)
    assert len(issued["chain"]) == 2
    assert read_x509(issued["chain"], bundle(world), NOW).binding == Binding(**BINDING)
    assert verify_x509(issued["chain"], bundle(world), NOW).credential_id == issued["serial"]


@pytest.mark.parametrize("binding", [{"run": "A B"}, {"run": 7}, {"unknown": "x"}, "x", [1]])
def test_a_malformed_binding_is_refused(binding):
    with pytest.raises(InvalidInput):
        World().call("x509_svid", **X509, binding=binding)


def test_a_batch_answers_each_request_by_itself():
    world = World()
    said = world.call("x509_svids", requests=[X509, {**X509, "principal": "nobody"}, {**X509, "more": 1}, X509])
    assert [set(one) >= {"code", "reason", "remedy"} for one in said] == [False, True, True, False]
    assert len({one["serial"] for one in said if "serial" in one}) == 2
    assert world.call("x509_svids", requests=[]) == []


@pytest.mark.parametrize("params", [{}, {"requests": 1}, {"requests": [1]}, {"requests": [], "more": 1}])
def test_a_malformed_batch_is_refused(params):
    with pytest.raises(VouchgateError):
        World().call("x509_svids", **params)


def test_a_batch_is_bounded_and_others_get_their_turn():
    world = World()
    with pytest.raises(LimitExceeded):
        world.call("x509_svids", requests=[X509] * (MAX_BATCH + 1))

    async def both() -> list[str]:
        order: list[str] = []

        async def batch() -> None:
            await world.signer.x509_svids(CONTROL, {"requests": [X509] * MAX_BATCH})
            order.append("batch")

        async def health() -> None:
            for _ in range(3):
                await world.signer.health(CONTROL, {})
                await asyncio.sleep(0)
            order.append("health")

        await asyncio.gather(batch(), health())
        return order

    assert asyncio.run(both()) == ["health", "batch"]


def test_a_batch_in_trouble_with_the_clock_issues_nothing():
    world = World()
    world.clock.trouble = "the clock jumped"
    assert all(one["code"] == "unavailable" for one in world.call("x509_svids", requests=[X509] * 3))
    with pytest.raises(Unavailable):
        world.call("ca_step", step="issuer")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("x509_svids", {"requests": [X509]}), ("crl", {"number": 1}), ("ca", {}), ("ca_step", {"step": "issuer"}), ("ca_request", {}),
        ("ca_install", {"chain": [], "root_fingerprint": ""}),
    ],
)  # fmt: skip
def test_a_stranger_is_refused_and_counted(method, params):
    world = World()
    with pytest.raises(NotPermitted):
        world.call(method, STRANGER, **params)
    assert world.call("health")["refused"] == 1


def test_a_purpose_can_be_given_to_somebody_else_alone():
    world = World(own={"crl": frozenset({STRANGER})})
    assert world.call("crl", STRANGER, number=1)["crls"]
    with pytest.raises(NotPermitted):
        world.call("crl", number=2)


def test_a_lists_number_never_falls():
    world = World()
    first = world.call("crl", serials=["21"], number=5)
    assert first["next_update"] > NOW
    assert x509.load_der_x509_crl(first["crl"]).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 5
    world.call("crl", number=5)
    with pytest.raises(Conflict):
        world.call("crl", number=4)
    for bad in ({"number": 0}, {"number": 6, "serials": ["x"]}, {"number": 6, "serials": ["21"] * 10_001}, {}, {"number": "6"}):
        with pytest.raises(VouchgateError):
            world.call("crl", **bad)
    world.call("crl", number=6)


def test_a_rotated_issuer_is_told_and_durable_before_it_signs():
    world = World()
    first = world.call("x509_svid", **X509)
    said = world.call("ca_step", step="issuer")
    assert said["issuer"]["number"] == 2
    second = world.call("x509_svid", **X509)
    assert first["chain"][1] != second["chain"][1]
    assert world.disk.saved[-1].ca.issuers == (1, 2)
    assert all(not isinstance(read_x509(one["chain"], bundle(world), NOW), VouchgateError) for one in (first, second))


def test_what_cannot_be_remembered_is_not_done():
    world = World()
    world.call("x509_svid", **X509)
    world.disk.full = True
    with pytest.raises(OSError, match="space"):
        world.call("ca_step", step="prepare")
    world.disk.full = False
    assert len(world.call("public_keys")["x509_authorities"]) == 1


def test_a_state_from_before_the_authority_is_read():
    old = encode({"trust_domain": TD, "policy_version": 3, "checkpoints": {}, "at": 5})
    before = decode(SignedBefore, old)
    assert before.ca == CaState()
    assert World(before=before).call("x509_svid", **X509)["chain"]


def test_a_root_of_the_state_without_its_key_does_not_start():
    missing = RootState(number=2, status="active", since=NOW)
    with pytest.raises(Exception, match="x509-ca-2"):
        World(before=SignedBefore(trust_domain=TD, ca=CaState(roots=(missing,))))


def test_the_public_key_of_the_ca_is_the_active_roots():
    world = World()
    before = {key["purpose"]: key["key_id"] for key in world.call("public_keys")["keys"]}
    for step in ("prepare", "activate"):
        world.call("ca_step", step=step, force=True)
    after = {key["purpose"]: key["key_id"] for key in world.call("public_keys")["keys"]}
    assert before["x509-ca"] != after["x509-ca"]
    assert before["jwt"] == after["jwt"]
    shown = world.call("public_keys")
    assert shown["x509_ca"] == shown["x509_authorities"][0]


@pytest.mark.parametrize("params", [{"step": "burn"}, {}, {"step": "issuer", "force": "yes"}, {"step": "issuer", "more": 1}])
def test_an_unknown_step_is_refused(params):
    with pytest.raises(InvalidInput):
        World().call("ca_step", **params)


def test_no_private_key_is_in_an_answer():
    world = World()
    secret = CA_KEY.private_numbers().private_value.to_bytes(32, "big")
    answers = [world.call("ca"), world.call("ca_request"), world.call("crl", number=1), world.call("x509_svid", **X509)]
    assert all(secret not in repr(one).encode() and secret.hex() not in repr(one) for one in answers)
    assert "EllipticCurvePrivateKey" not in repr(world.signer._authority.active)
