"""A CA above ours: what it returned is held to everything before a leaf is signed, and its other CAs count for nothing afterwards."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from identity_world import LEAF_SPKI, NOW, OTHER_KEY, PRINCIPAL, TD

from vouchgate.identity.bundle import make_bundle, parse_jwks, write_jwks
from vouchgate.identity.ca import instant, load_ca, make_request, spki_of
from vouchgate.identity.upstream import check_upstream, read_pem_chain
from vouchgate.identity.x509svid import X509Facts, issue_x509, read_x509
from vouchgate.vocabulary.errors import InvalidInput, Unverified, VouchgateError
from vouchgate.vocabulary.outcomes import Denied

OURS, ROOT, BETWEEN = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
RSA = rsa.generate_private_key(65537, 2048)
DAY = 86_400_000


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) if text else x509.Name([])


def ca(subject, key, issuer, by, *, length=None, uri="", days=300, begin=NOW - DAY, usage=True, sign=True, crl=True, eku=None, nc=None,
       unknown=False, critical=True, is_ca=True, digest=None, aki=None):  # fmt: skip
    public = key.public_key()
    builder = (
        x509.CertificateBuilder(named(issuer), named(subject), public, x509.random_serial_number())
        .not_valid_before(instant(begin))
        .not_valid_after(instant(begin + days * DAY))
        .add_extension(x509.BasicConstraints(is_ca, length if is_ca else None), critical=critical)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((aki or by).public_key()), critical=False)
    )
    if usage:
        names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
                 "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
        wanted = {"key_cert_sign": sign, "crl_sign": crl}
        builder = builder.add_extension(x509.KeyUsage(**{name: wanted.get(name, False) for name in names}), critical=True)
    if uri:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
    if eku:
        builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
    if nc:
        builder = builder.add_extension(nc, critical=True)
    if unknown:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00"), critical=True
        )
    return builder.sign(by, digest or hashes.SHA256()).public_bytes(serialization.Encoding.DER)


ROOT_DER = ca("corporate root", ROOT, "corporate root", ROOT, length=2)
BETWEEN_DER = ca("corporate issuing", BETWEEN, "corporate root", ROOT, length=1)
OURS_DER = ca("ours", OURS, "corporate issuing", BETWEEN, length=0, uri=f"spiffe://{TD}")


def digest(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex()


def check(*chain: bytes, fingerprint: str = "", now: int = NOW, td: str = TD):
    return check_upstream(
        chain, spki=spki_of(OURS.public_key()), trust_domain=td, root_fingerprint=fingerprint or digest(chain[-1]), now=now
    )


def refused(*chain: bytes, kind: type[VouchgateError] = InvalidInput, **more) -> str:
    with pytest.raises(kind) as caught:
        check(*chain, **more)
    assert caught.value.remedy
    return caught.value.reason


def test_a_chain_that_holds_gives_what_leaves_carry():
    done = check(OURS_DER, BETWEEN_DER, ROOT_DER)
    assert done.chain == (OURS_DER, BETWEEN_DER)
    assert done.warnings == ()
    colons = ":".join(digest(ROOT_DER)[at : at + 2] for at in range(0, 64, 2)).upper()
    assert check(OURS_DER, BETWEEN_DER, ROOT_DER, fingerprint=colons).chain == done.chain


def test_an_rsa_corporate_ca_is_good_enough():
    root = ca("rsa root", RSA, "rsa root", RSA, usage=False)
    assert check(ca("ours", OURS, "rsa root", RSA, length=0), root).chain[0]


def test_the_request_says_what_is_asked_for():
    made = x509.load_der_x509_csr(make_request(TD, OURS))
    assert made.is_signature_valid
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    uris = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [f"spiffe://{TD}"]


def test_the_root_is_the_one_whose_fingerprint_a_person_gave():
    refused(OURS_DER, BETWEEN_DER, ROOT_DER, kind=Unverified, fingerprint="ab" * 32)
    refused(OURS_DER, BETWEEN_DER, ROOT_DER, kind=Unverified, fingerprint="ab")
    refused(OURS_DER, BETWEEN_DER, kind=Unverified)  # not self-signed, though the fingerprint fits
    fake = ca("corporate root", OTHER_KEY, "corporate root", OTHER_KEY)
    refused(OURS_DER, BETWEEN_DER, fake, kind=Unverified)
    pretended = ca("corporate root", ROOT, "corporate root", OTHER_KEY)
    refused(OURS_DER, BETWEEN_DER, pretended, kind=Unverified)


@pytest.mark.parametrize(
    ("chain", "kind"),
    [
        ((ca("x", OTHER_KEY, "corporate issuing", BETWEEN, length=0), BETWEEN_DER, ROOT_DER), Unverified),
        ((OURS_DER, ROOT_DER), Unverified),
        ((BETWEEN_DER, OURS_DER, ROOT_DER), Unverified),
        ((ca("ours", OURS, "corporate issuing", OTHER_KEY, length=0), BETWEEN_DER, ROOT_DER), Unverified),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, aki=OTHER_KEY), BETWEEN_DER, ROOT_DER), Unverified),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, uri="spiffe://partner.local"), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, uri=PRINCIPAL), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, is_ca=False), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, sign=False), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, crl=False), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, usage=False), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, critical=False), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, unknown=True), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, eku=[ExtendedKeyUsageOID.SERVER_AUTH]), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, begin=NOW + DAY), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, begin=NOW - 9 * DAY, days=5), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((ca("ours", OURS, "corporate issuing", BETWEEN, length=0, days=1), BETWEEN_DER, ROOT_DER), InvalidInput),
        ((OURS_DER, ca("corporate issuing", BETWEEN, "corporate root", ROOT, length=0), ROOT_DER), InvalidInput),
        ((OURS_DER, BETWEEN_DER, ca("corporate root", ROOT, "corporate root", ROOT, length=1)), InvalidInput),
        ((OURS_DER, ca("corporate issuing", BETWEEN, "corporate root", ROOT, is_ca=False), ROOT_DER), InvalidInput),
        ((OURS_DER, ca("corporate issuing", BETWEEN, "corporate root", ROOT, begin=NOW - 9 * DAY, days=5), ROOT_DER), InvalidInput),
        ((OURS_DER,), InvalidInput),
        ((OURS_DER, *[BETWEEN_DER] * 6, ROOT_DER), InvalidInput),
        ((b"junk", BETWEEN_DER, ROOT_DER), InvalidInput),
        ((OURS_DER, b"\x30\x00", ROOT_DER), InvalidInput),
    ],
)  # fmt: skip
def test_a_chain_with_one_fault_is_refused(chain, kind):
    refused(*chain, kind=kind)


def test_sha_1_and_short_rsa_keys_are_refused():
    short = rsa.generate_private_key(65537, 1024)
    root = ca("weak", short, "weak", short)
    assert "weak" in refused(ca("ours", OURS, "weak", short, length=0), root)
    der = ca("sha1", RSA, "sha1", RSA)
    old = x509.load_der_x509_certificate(der)
    algorithm = bytes.fromhex("300d06092a864886f70d01010b0500")
    body = old.tbs_certificate_bytes.replace(algorithm, bytes.fromhex("300d06092a864886f70d0101050500"))
    signature = RSA.sign(body, padding.PKCS1v15(), hashes.SHA1())
    inner = (
        body + bytes.fromhex("300d06092a864886f70d0101050500") + b"\x03\x82" + (len(signature) + 1).to_bytes(2, "big") + b"\x00" + signature
    )
    made = b"\x30\x82" + len(inner).to_bytes(2, "big") + inner
    refused(ca("ours", OURS, "sha1", RSA, length=0), made, kind=VouchgateError)


@pytest.mark.parametrize(
    ("permitted", "excluded", "good"),
    [
        ([TD], None, True), ([".local"], None, True), (["partner.local"], None, False), ([f".{TD}"], None, False), (None, [TD], False),
        (None, [".local"], False), (None, ["partner.local"], True), ([TD], [TD], False), (["partner.local", TD], None, True),
    ],
)  # fmt: skip
def test_name_constraints_that_forbid_our_ids_are_refused(permitted, excluded, good):
    uris = [[x509.UniformResourceIdentifier(name) for name in names] if names else None for names in (permitted, excluded)]
    between = ca("corporate issuing", BETWEEN, "corporate root", ROOT, length=1, nc=x509.NameConstraints(*uris))
    if good:
        assert check(OURS_DER, between, ROOT_DER).chain
    else:
        assert "forbids" in refused(OURS_DER, between, ROOT_DER)


def test_what_is_allowed_but_worth_knowing_is_said():
    dns = ca("corporate issuing", BETWEEN, "corporate root", ROOT, length=1, nc=x509.NameConstraints([x509.DNSName("corp.test")], None))
    assert any("DNS" in one for one in check(OURS_DER, dns, ROOT_DER).warnings)
    short = ca("ours", OURS, "corporate issuing", BETWEEN, length=0, days=20)
    assert any("18 more days" in one or "19 more days" in one for one in check(short, BETWEEN_DER, ROOT_DER).warnings)
    longer = ca("ours", OURS, "corporate issuing", BETWEEN)
    assert any("longer path" in one for one in check(longer, BETWEEN_DER, ca("corporate root", ROOT, "corporate root", ROOT)).warnings)


def test_a_corporate_sub_ca_cannot_mint_our_names():
    """The attack: the corporate CA signs another sub-CA, whoever holds that signs our ids, and sends everything up to the root along."""
    bundle = make_bundle(TD, x509_authorities=(OURS_DER,), jwt_spkis=())
    ours = load_ca(OURS_DER, TD)
    good = issue_x509(LEAF_SPKI, PRINCIPAL, ca=ours, ca_key=OURS, trust_domain=TD, now=NOW, ttl_seconds=600, above=(OURS_DER, BETWEEN_DER))
    assert isinstance(read_x509(good.chain, bundle, NOW), X509Facts)
    assert isinstance(read_x509(good.chain[:1], bundle, NOW), X509Facts)
    for subject in ("ours", "sibling"):
        sibling = ca(subject, OTHER_KEY, "corporate issuing", BETWEEN, length=0, uri=f"spiffe://{TD}")
        stolen = issue_x509(LEAF_SPKI, PRINCIPAL, ca=load_ca(sibling, TD), ca_key=OTHER_KEY, trust_domain=TD, now=NOW, ttl_seconds=600)
        for above in ((), (sibling,), (sibling, BETWEEN_DER), (sibling, BETWEEN_DER, ROOT_DER), (OURS_DER, sibling, BETWEEN_DER)):
            answer = read_x509([stolen.chain[0], *above], bundle, NOW)
            assert isinstance(answer, Denied)
            assert answer.code == "x509-untrusted"


def test_the_corporate_ca_itself_cannot_mint_our_names():
    bundle = make_bundle(TD, x509_authorities=(OURS_DER,), jwt_spkis=())
    for key, der in ((BETWEEN, BETWEEN_DER), (ROOT, ROOT_DER)):
        stolen = issue_x509(LEAF_SPKI, PRINCIPAL, ca=load_ca(der, TD), ca_key=key, trust_domain=TD, now=NOW, ttl_seconds=600)
        assert isinstance(read_x509([*stolen.chain, BETWEEN_DER, ROOT_DER][:5], bundle, NOW), Denied)


def test_the_bundle_of_a_ca_below_another_can_be_written_and_read():
    bundle = make_bundle(TD, x509_authorities=(OURS_DER,), jwt_spkis=())
    assert parse_jwks(write_jwks(bundle), TD) == bundle


def test_a_pem_file_is_read_in_its_order():
    pem = b"".join(
        x509.load_der_x509_certificate(one).public_bytes(serialization.Encoding.PEM) for one in (OURS_DER, BETWEEN_DER, ROOT_DER)
    )
    assert read_pem_chain(pem) == (OURS_DER, BETWEEN_DER, ROOT_DER)
    for junk in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"x" * 300_000):
        with pytest.raises(InvalidInput):
            read_pem_chain(junk)


def test_readers_outside_who_trust_the_corporate_root_can_verify():
    """What is handed out with a leaf leads up to the corporate root, for those who trust it on purpose."""
    done = check(OURS_DER, BETWEEN_DER, ROOT_DER)
    made = issue_x509(
        LEAF_SPKI, PRINCIPAL, ca=load_ca(OURS_DER, TD), ca_key=OURS, trust_domain=TD, now=NOW, ttl_seconds=600, above=done.chain
    )
    store = x509.verification.Store([x509.load_der_x509_certificate(ROOT_DER)])
    leaf, *others = (x509.load_der_x509_certificate(one) for one in made.chain)
    verifier = x509.verification.PolicyBuilder().store(store).time(datetime.datetime.fromtimestamp(NOW / 1000, tz=datetime.UTC))
    assert verifier.build_client_verifier().verify(leaf, others).chain[-1].subject == named("corporate root")
