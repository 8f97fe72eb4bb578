"""Workloads of partners on the federated listener: a partner's authority can mint its own names, and nobody else's."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from gateway_harness import CHAT, DIGITS, TD, Authority, Harness, spiffe

from vouchgate.vocabulary.errors import InvalidInput, InvalidName, LimitExceeded

pytestmark = pytest.mark.gateway
INFER = "/v2/models/digits/infer"
FOREIGN = "spiffe://partner.local/ns/prod/sa/Trainer"
ALIAS = f"spiffe://{TD}/service/federated-partner.local/trainer"


def expired(authority: Authority) -> str:
    """The authority's certificate, as it would be had it ended yesterday."""
    old = authority.certificate
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer).public_key(authority.key.public_key())
    made = made.serial_number(5).not_valid_before(now - datetime.timedelta(days=3)).not_valid_after(now - datetime.timedelta(days=1))
    for extension in old.extensions:
        made = made.add_extension(extension.value, extension.critical)
    return made.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def second() -> Authority:
    return Authority("second.local")


@pytest.fixture
def fed(gw: Harness, second: Authority) -> Harness:
    gw.trust_partners({"partner.local": gw.partner.pem, "second.local": second.pem})

    def work() -> None:
        gw.view.set_federated_names({FOREIGN: ALIAS})
        gw.view.set_grants(DIGITS, [gw.grant("alice"), gw.grant("trainer", principal=ALIAS), gw.grant("t", principal=ALIAS, kind="both")])

    gw.do(work)
    gw.settled()
    return gw


def call(gw: Harness, identity: tuple | None, **more):
    return gw.call("POST", INFER, who=identity[:2] if identity else None, port=gw.federated_port, **more)


def test_a_partner_s_workload_has_the_grants_of_its_alias(fed: Harness):
    answer = call(fed, fed.partner.issue(FOREIGN))
    assert answer.status == 200
    assert fed.asked == []
    assert fed.end_line(answer)["san"] == FOREIGN


def test_another_of_the_partner_s_workloads_is_asked_under_its_own_name(fed: Harness):
    assert call(fed, fed.partner.issue(FOREIGN + "2")).status == 403
    (asked,) = fed.asked
    assert (asked.federated, asked.san, asked.subject) == (FOREIGN + "2", "", "")


@pytest.mark.parametrize("name", [spiffe("alice"), ALIAS, "spiffe://second.local/ns/prod/sa/Trainer", "spiffe://unknown.local/x"])
def test_a_partner_cannot_mint_our_names_nor_another_partner_s(fed: Harness, name: str):
    with pytest.raises(OSError, match=r"."):
        call(fed, fed.partner.issue(name))
    assert fed.asked == []


@pytest.mark.parametrize(
    "names",
    [
        (FOREIGN, spiffe("alice")),
        (spiffe("alice"), FOREIGN),
        (FOREIGN, "spiffe://partner.local/other"),
        (FOREIGN, FOREIGN),
        (FOREIGN, f"federated {FOREIGN}"),
        (),
    ],
)
def test_a_certificate_with_other_than_one_name_is_refused(fed: Harness, names: tuple[str, ...]):
    identity = fed.partner.issue(*names, hosts=() if names else ("partner.local",))
    try:
        answer = call(fed, identity)
    except OSError:
        answer = None
    assert answer is None or (answer.status, answer.json["title"]) == (401, "bad name")
    assert fed.asked == []


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://PARTNER.local/ns/prod/sa/Trainer",
        "SPIFFE://partner.local/ns/prod/sa/Trainer",
        "spiffe://partner.local",
        "spiffe://partner.local/",
        "spiffe://partner.local//ns/prod/sa/Trainer",
        "spiffe://partner.local/ns/prod/sa/Trainer/",
        "spiffe://partner.local/ns/%70rod/sa/Trainer",
        "spiffe://partner.local:443/ns/prod/sa/Trainer",
        "spiffe://user@partner.local/ns/prod/sa/Trainer",
        "spiffe://partner.local/ns/prod/sa/Trainer?x",
        f"spiffe://partner.local@{TD}/job/serve/alice",
        f"spiffe://partner.local/x|-|-|{spiffe('alice')}",
        "spiffe://partner.local/ns/prod,sa/Trainer",
        f"federated {FOREIGN}",
    ],
)
def test_odd_spellings_of_a_name_are_refused(fed: Harness, name: str):
    try:
        answer = call(fed, fed.partner.issue(name))
    except OSError:
        return
    assert (answer.status, answer.json["title"]) == (401, "bad name")
    assert fed.asked == []


def test_our_own_workloads_have_no_business_there(fed: Harness):
    for identity in (fed.identity("alice"), fed.ca.issue(FOREIGN), fed.ca.issue(f"federated {FOREIGN}")):
        with pytest.raises(OSError, match=r"."):
            call(fed, identity)


def test_nobody_comes_in_without_a_certificate_token_or_not(fed: Harness):
    for token in ("", fed.ca.token(spiffe("bob"))):
        with pytest.raises(OSError, match=r"."):
            call(fed, None, token=token)


def test_a_token_counts_for_nothing_there(fed: Harness):
    for sub in (ALIAS, spiffe("bob"), FOREIGN):
        answer = call(fed, fed.partner.issue(FOREIGN), token=fed.ca.token(sub))
        assert answer.status == 200
        assert "authorization" not in {name for name, _ in answer.json["headers"]}
        fed.asked.clear()
        assert call(fed, fed.partner.issue(FOREIGN + "2"), token=fed.ca.token(sub)).status == 403
        assert (fed.asked[0].subject, fed.asked[0].token_id, fed.asked[0].beyond) == ("", "", False)


def test_a_partner_s_certificate_is_none_at_our_own_listener(fed: Harness):
    for name in (FOREIGN, spiffe("alice"), f"federated {FOREIGN}"):
        with pytest.raises(OSError, match=r"."):
            fed.call("POST", INFER, who=fed.partner.issue(name)[:2])


def test_not_even_our_own_authority_mints_a_federated_name(fed: Harness):
    answer = fed.call("POST", INFER, who=fed.ca.issue(f"federated {FOREIGN}")[:2])
    assert answer.status in {401, 403}
    assert fed.upstreams["digits"].seen == []


def test_a_bundle_that_is_taken_away_ends_new_and_live_connections(fed: Harness, second: Authority):
    identity = fed.partner.issue(FOREIGN)
    live = fed.connect(identity[:2], port=fed.federated_port)
    assert call(fed, identity, on=live).status == 200
    fed.trust_partners({"second.local": second.pem})
    answer = call(fed, identity, on=live)
    assert (answer.status, answer.json["title"]) == (401, "bad name")
    with pytest.raises(OSError, match=r"."):
        call(fed, identity)
    fed.trust_partners({})
    assert_refused(fed, identity)


def assert_refused(gw: Harness, identity: tuple) -> None:
    try:
        answer = call(gw, identity)
    except OSError:
        return
    assert answer.status == 401


def test_an_expired_bundle_vouches_for_nobody(fed: Harness):
    fed.trust_partners({"partner.local": expired(fed.partner)})
    with pytest.raises(OSError, match=r"."):
        call(fed, fed.partner.issue(FOREIGN))


def test_a_rotated_bundle_holds_the_old_and_the_new_authority(fed: Harness):
    fresh = Authority("partner.local")
    fed.trust_partners({"partner.local": fed.partner.pem + fresh.pem})
    assert {call(fed, fed.partner.issue(FOREIGN)).status, call(fed, fresh.issue(FOREIGN)).status} == {200}
    fed.trust_partners({"partner.local": fresh.pem})
    assert call(fed, fresh.issue(FOREIGN)).status == 200
    with pytest.raises(OSError, match=r"."):
        call(fed, fed.partner.issue(FOREIGN))


def test_revoking_the_alias_or_the_certificate_strikes_at_once(fed: Harness):
    identity = fed.partner.issue(FOREIGN, serial=0x1234ABCD)
    live = fed.connect(identity[:2], port=fed.federated_port)
    for kind, target in (("principal", ALIAS), ("registration", ALIAS), ("credential", "1234abcd")):
        assert call(fed, identity, on=live).status == 200
        fed.revoke(kind, target)
        answer = call(fed, identity, on=live)
        assert (answer.status, answer.json["title"]) == (403, "revoked")
        fed.do(lambda: fed.view.set_revocations([], epoch=fed.epoch))
        fed.settled()


def test_no_partner_is_one_of_our_own(fed: Harness):
    fed.do(lambda: fed.view.set_federated_names({FOREIGN: spiffe("alice")}))
    fed.settled()
    assert call(fed, fed.partner.issue(FOREIGN)).status == 403
    assert fed.asked[0].federated == FOREIGN


def test_a_name_that_is_no_longer_known_is_asked(fed: Harness):
    fed.do(lambda: fed.view.set_federated_names({}))
    fed.settled()
    assert call(fed, fed.partner.issue(FOREIGN)).status == 403
    assert fed.asked[0].federated == FOREIGN


def test_observed_and_wrapped_endpoints_are_not_there(fed: Harness):
    answer = fed.call("GET", "/x", who=fed.partner.issue(FOREIGN)[:2], port=fed.federated_port, headers={"host": "legacy.test"})
    assert answer.status == 404
    assert fed.upstreams["legacy"].seen == []


def test_a_grant_of_another_endpoint_is_none(fed: Harness):
    fed.do(lambda: fed.view.set_grants(DIGITS, [fed.grant("trainer", CHAT, principal=ALIAS)]))
    fed.settled()
    assert call(fed, fed.partner.issue(FOREIGN)).status == 403


def test_what_is_no_partner_is_refused_before_it_is_trusted(gw: Harness):
    for name, error in ((TD, InvalidInput), ("PARTNER.local", InvalidName), ("", InvalidName), ("a/b", InvalidName)):
        with pytest.raises(error):
            gw.view.set_federated_bundles({name: gw.partner.pem})
    with pytest.raises(LimitExceeded):
        gw.view.set_federated_bundles({f"p{number}": gw.partner.pem for number in range(65)})
