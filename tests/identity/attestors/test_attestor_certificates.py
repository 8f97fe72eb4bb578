"""Certificates of a foreign CA with proof of possession, and join tokens."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from attestor_world import NONCE, NOW, OURS, SECONDS, certificate, der, ec_key, ed_key, jwk, jwks, name, pem, rsa_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vouchgate.identity.attestors import Attested, JoinToken, Trust
from vouchgate.identity.catalog import attest
from vouchgate.identity.foreign_certificates import spiffe_id
from vouchgate.identity.join_tokens import make_join_token
from vouchgate.identity.possession import challenge, prove, proves
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied

ROOT = certificate("Corp Root", ec_key("root"), ca=True)
MIDDLE = certificate("Corp Issuing", ec_key("middle"), (ROOT, ec_key("root")), ca=True, path_length=0)
ISSUER = (MIDDLE, ec_key("middle"))
SOURCE = Trust(name="x509pop", trust_domain=OURS, authorities=(der(ROOT),))
URI = x509.UniformResourceIdentifier
FOREIGN = "partner.example"


def leaf(key=None, issuer=ISSUER, **more) -> x509.Certificate:
    return certificate("host.corp.example", key or ec_key("leaf"), issuer, **({"sans": (x509.DNSName("host.corp.example"),)} | more))


def shown(
    one: x509.Certificate,
    *others: x509.Certificate,
    key=None,
    source: Trust = SOURCE,
    now: int = NOW,
    nonce: str = NONCE,
    message: bytes | None = None,
):
    said = challenge(OURS, nonce, der(one)) if message is None else message
    given = {"certificates": pem(one, *others), "signature": base64.b64encode(prove(key or ec_key("leaf"), said)).decode()}
    return attest("x509-pop", given, source, now, NONCE)


def code(answer: Attested | Denied) -> str:
    return answer.code if isinstance(answer, Denied) else "holds"


@pytest.mark.parametrize("key", [ec_key("leaf"), rsa_key("leaf"), ec_key("leaf384", ec.SECP384R1), ec_key("leaf521", ec.SECP521R1)])
def test_a_corporate_certificate_and_its_key_are_an_identity(key):
    made = leaf(
        key, sans=(x509.DNSName("host.corp.example"), x509.IPAddress(ipaddress.ip_address("10.0.0.1")), x509.RFC822Name("a@corp.example"))
    )
    answer = shown(made, MIDDLE, key=key)
    assert isinstance(answer, Attested), answer
    said = {(one.type, one.value) for one in answer.selectors}
    assert said == {
        ("x509pop:subject:cn", "host.corp.example"), ("x509pop:subject:o", "Corp"), ("x509pop:san:dns", "host.corp.example"),
        ("x509pop:san:ip", "10.0.0.1"), ("x509pop:san:email", "a@corp.example"), ("x509pop:ca", ROOT.fingerprint(hashes.SHA256()).hex()),
        ("x509pop:ca", MIDDLE.fingerprint(hashes.SHA256()).hex()),
    }  # fmt: skip
    assert answer.replay_key == NONCE and answer.expires_at > NOW


def test_a_certificate_without_an_alternative_name_or_extended_usage_holds_as_corporate_cas_write_them():
    assert code(shown(leaf(sans=(), ekus=None), MIDDLE)) == "holds"
    assert code(shown(leaf(ekus=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)), MIDDLE)) == "holds"
    assert code(shown(leaf(), source=Trust(name="x509pop", trust_domain=OURS, authorities=(der(MIDDLE),)))) == "holds"
    assert code(shown(leaf(issuer=(ROOT, ec_key("root"))))) == "holds"


def test_two_sources_never_speak_for_each_other():
    named = Trust(name="legacy", trust_domain=OURS, authorities=(der(ROOT),))
    answer = shown(leaf(), MIDDLE, source=named)
    assert {one.type.partition(":")[0] for one in answer.selectors} == {"x509pop.legacy"}


EVIL_ROOT = certificate("Corp Root", ec_key("evil"), ca=True)
NOT_CA = leaf(ec_key("notca"))
CONSTRAINED = certificate(
    "Constrained", ec_key("constrained"), (ROOT, ec_key("root")), ca=True,
    extra=((x509.NameConstraints(permitted_subtrees=[x509.DNSName("lab.corp.example")], excluded_subtrees=None), True),),
)  # fmt: skip
DEEP = certificate("Too deep", ec_key("deep"), (MIDDLE, ec_key("middle")), ca=True)


@pytest.mark.parametrize(
    ("chain", "wanted"),
    [
        ((leaf(),), "x509-untrusted"), ((certificate("self", ec_key("leaf")),), "x509-untrusted"),
        ((leaf(issuer=(EVIL_ROOT, ec_key("evil"))), EVIL_ROOT), "x509-untrusted"), ((leaf(issuer=(EVIL_ROOT, ec_key("evil"))), MIDDLE, ROOT), "x509-untrusted"),
        ((leaf(issuer=(NOT_CA, ec_key("notca"))), NOT_CA, MIDDLE), "x509-untrusted"), ((leaf(end=SECONDS - 1), MIDDLE), "x509-untrusted"),
        ((leaf(begin=SECONDS + 60), MIDDLE), "x509-untrusted"), ((leaf(issuer=(CONSTRAINED, ec_key("constrained"))), CONSTRAINED), "x509-untrusted"),
        ((leaf(issuer=(DEEP, ec_key("deep"))), DEEP, MIDDLE), "x509-untrusted"), ((MIDDLE,), "x509-not-a-client"), ((ROOT,), "x509-not-a-client"),
        ((leaf(ekus=(ExtendedKeyUsageOID.SERVER_AUTH,)), MIDDLE), "x509-not-a-client"), ((leaf(ekus=(ExtendedKeyUsageOID.CODE_SIGNING,)), MIDDLE), "x509-not-a-client"),
        ((leaf(signing=False), MIDDLE), "x509-not-a-client"), ((leaf(), *[MIDDLE] * 6), "x509-bounds"),
        ((leaf(extra=((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)), MIDDLE), "x509-untrusted"),
    ],
)  # fmt: skip
def test_a_path_that_does_not_hold_is_refused(chain, wanted):
    assert code(shown(*chain)) == wanted


def test_a_weak_key_is_refused():
    weak = rsa_key("weak", 1024)
    assert code(shown(leaf(weak), MIDDLE, key=weak)) == "x509-no-possession"
    assert not proves(weak.public_key(), b"m", prove(weak, b"m"))


def test_ed25519_proves_possession():
    assert proves(ed_key().public_key(), b"m", prove(ed_key(), b"m")) and not proves(ed_key().public_key(), b"n", prove(ed_key(), b"m"))
    assert code(shown(leaf(ed_key()), MIDDLE, key=ed_key())) == "holds"


def test_without_the_key_a_certificate_is_public_knowledge():
    made = leaf()
    assert code(shown(made, MIDDLE, key=ec_key("thief"))) == "x509-no-possession"
    assert code(shown(made, MIDDLE, nonce="b3RoZXItbm9uY2Utb2YtYmVmb3Jl")) == "x509-no-possession"
    assert code(shown(made, MIDDLE, message=challenge("other.example", NONCE, der(made)))) == "x509-no-possession"
    assert code(shown(made, MIDDLE, message=challenge(OURS, NONCE, der(MIDDLE)))) == "x509-no-possession"
    assert code(shown(made, MIDDLE, message=NONCE.encode())) == "x509-no-possession"
    old = rsa_key("leaf").sign(challenge(OURS, NONCE, der(made)), padding.PKCS1v15(), hashes.SHA256())
    assert not proves(rsa_key("leaf").public_key(), challenge(OURS, NONCE, der(made)), old), "PKCS#1 v1.5 is not taken"
    assert not proves(object(), b"m", b"s") and not proves(ec_key("leaf").public_key(), b"m", b"")


def test_what_is_not_a_certificate_or_a_signature_is_refused():
    good = {"certificates": pem(leaf(), MIDDLE), "signature": "AAAA"}
    for changes in ({"certificates": ""}, {"certificates": "x"}, {"certificates": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
                    {"certificates": "é"}, {"signature": "é"}, {"signature": "A"}, {"signature": "AA AA"}):  # fmt: skip
        assert code(attest("x509-pop", good | changes, SOURCE, NOW, NONCE)) in ("x509-malformed", "x509-bounds")
    assert code(attest("x509-pop", good, SOURCE, NOW, NONCE)) == "x509-no-possession"
    for nonce in ("", "short", "x" * 200, "nonce with é" * 3):
        assert code(attest("x509-pop", good, SOURCE, NOW, nonce)) == "not-attestable"
    with pytest.raises(InvalidInput):
        attest("x509-pop", good, Trust(name="x", trust_domain=OURS), NOW, NONCE)


def foreign(*uris: str, issuer: str = FOREIGN, ours: str = OURS):
    return shown(
        leaf(sans=tuple(URI(uri) for uri in uris)),
        MIDDLE,
        source=Trust(name="x509pop", trust_domain=ours, issuer=issuer, authorities=(der(ROOT),)),
    )


def test_a_spire_or_istio_certificate_is_its_foreign_id():
    answer = foreign(f"spiffe://{FOREIGN}/ns/train/sa/trainer")
    assert ("x509pop:spiffe", f"spiffe://{FOREIGN}/ns/train/sa/trainer") in {(one.type, one.value) for one in answer.selectors}


def test_a_foreign_bundle_is_where_its_authorities_come_from():
    root = certificate("SPIRE", ec_key("spire"), ca=True, sans=(URI(f"spiffe://{FOREIGN}"),))
    said = jwk(ec_key("spire"), "", use="x509-svid", x5c=[base64.b64encode(der(root)).decode()])
    bundle = jwks({name: value for name, value in said.items() if name != "kid"})
    source = Trust(name="x509pop", trust_domain=OURS, issuer=FOREIGN, keys=bundle)
    made = leaf(issuer=(root, ec_key("spire")), sans=(URI(f"spiffe://{FOREIGN}/a"),))
    assert code(shown(made, source=source)) == "holds" and code(shown(leaf(), MIDDLE, source=source)) == "x509-untrusted"


@pytest.mark.parametrize(
    ("uris", "more", "wanted"),
    [
        ((f"spiffe://{OURS}/service/prod/api",), {}, "foreign-names-us"), ((f"spiffe://{OURS}/service/prod/api",), {"issuer": ""}, "foreign-names-us"),
        ((f"SPIFFE://{OURS.upper()}/service/prod/api",), {}, "foreign-names-us"), ((f"spiffe://{FOREIGN}/a", f"spiffe://{OURS}/b"), {}, "foreign-names-us"),
        ((f"spiffe://{OURS}/a",), {"issuer": OURS}, "foreign-names-us"),
        (("spiffe://other.example/a",), {}, "x509-other-domain"), ((f"spiffe://{FOREIGN}/a", f"spiffe://{FOREIGN}/b"), {}, "x509-other-domain"),
        (("https://partner.example/a",), {}, "x509-other-domain"), ((f"spiffe://{FOREIGN}@{OURS}/a",), {}, "x509-other-domain"),
    ],
)  # fmt: skip
def test_a_foreign_ca_never_mints_our_names_nor_a_third_domains(uris, more, wanted):
    assert code(foreign(*uris, **more)) == wanted


def test_without_our_own_name_no_foreign_name_is_believed():
    assert spiffe_id(leaf(sans=(URI(f"spiffe://{FOREIGN}/a"),)), "", FOREIGN).code == "foreign-names-us"


def test_a_source_that_stands_for_no_domain_makes_no_foreign_id():
    answer = foreign(f"spiffe://{FOREIGN}/a", issuer="")
    assert isinstance(answer, Attested) and not any(one.type == "x509pop:spiffe" for one in answer.selectors)


def test_a_subject_with_control_characters_makes_no_selector():
    odd = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin\0x"), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "ml")])
    answer = shown(leaf(names=odd), MIDDLE)
    assert isinstance(answer, Attested)
    assert [one.value for one in answer.selectors if one.type.startswith("x509pop:subject")] == ["ml"]
    assert name("x")


TOKEN, KEPT = make_join_token(b"\1" * 32, NOW, 600)


def join(token: str, *kept: JoinToken, now: int = NOW):
    return attest("join-token", {"token": token}, Trust(name="join", join_tokens=kept), now)


def test_a_join_token_is_known_by_its_hash_alone():
    answer = join(TOKEN, JoinToken(sha256="0" * 64, expires_at=NOW * 2), KEPT)
    assert [(one.type, one.value) for one in answer.selectors] == [("join:token", KEPT.sha256)]
    assert answer.replay_key == KEPT.sha256 and answer.expires_at == NOW + 600_000
    assert TOKEN[4:] not in repr(answer) and TOKEN[4:] not in repr(KEPT)


def test_a_join_token_that_is_wrong_late_or_malformed_is_refused():
    assert code(join(TOKEN)) == code(join(TOKEN, KEPT, now=NOW + 600_000)) == "join-token-unknown"
    other, _ = make_join_token(b"\2" * 32, NOW, 600)
    for token in (other, TOKEN[:-1], TOKEN + "A", TOKEN.lower(), KEPT.sha256, "", TOKEN + "\n", " " + TOKEN):
        assert code(join(token, KEPT)) == "join-token-unknown"


@pytest.mark.parametrize(("random", "life"), [(b"", 60), (b"x" * 31, 60), (b"x" * 33, 60), (b"x" * 32, 0), (b"x" * 32, 86_401)])
def test_a_weak_or_long_lived_join_token_is_not_made(random, life):
    with pytest.raises(InvalidInput):
        make_join_token(random, NOW, life)
