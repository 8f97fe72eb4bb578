"""X.509-SVID: what is issued, and one failure a case of what is presented (X509-SVID sections 2 to 5; RFC 5280)."""

from __future__ import annotations

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from identity_world import BUNDLE, CA, CA_DER, CA_KEY, LEAF_KEY, LEAF_SPKI, NOW, OTHER_KEY, PRINCIPAL, TD

from vouchgate.identity.bundle import TrustBundle, make_bundle
from vouchgate.identity.ca import instant, load_ca, make_ca, spki_of
from vouchgate.identity.x509svid import X509Facts, issue_x509, read_x509
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.outcomes import Denied


def issue(**changes):
    wanted = {"ca": CA, "ca_key": CA_KEY, "trust_domain": TD, "now": NOW, "ttl_seconds": 3600} | changes
    return issue_x509(wanted.pop("spki", LEAF_SPKI), wanted.pop("principal", PRINCIPAL), **wanted)


USAGE = {"digital_signature": True, "content_commitment": False, "key_encipherment": False, "data_encipherment": False, "key_agreement": False,
             "key_cert_sign": False, "crl_sign": False, "encipher_only": False, "decipher_only": False}  # fmt: skip


def leaf(*, uris=(PRINCIPAL,), names=(), san_critical=True, san=True, ca=False, usage=None, usage_critical=True, eku=None, subject=(), key=None,
         signer=CA_KEY, issuer=None, begin=NOW - 1000, end=NOW + 3_600_000, unknown=False) -> bytes:  # fmt: skip
    """A certificate that follows every rule but those that the caller breaks."""
    public = (key or LEAF_KEY).public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in subject]))
        .issuer_name(issuer or CA.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(instant(begin))
        .not_valid_after(instant(end))
    )
    if san:
        general = [x509.UniformResourceIdentifier(uri) for uri in uris] + list(names)
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=san_critical)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage is not False:
        builder = builder.add_extension(x509.KeyUsage(**(USAGE | (usage or {}))), critical=usage_critical)
    if eku is not False:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage(eku or [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    authority = CA.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
    if unknown:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00"), critical=True
        )
    made = builder.sign(signer, hashes.SHA256())
    while decode_dss_signature(made.signature)[1] > ORDER // 2:
        made = builder.sign(signer, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_a_revoked_certificate_cannot_be_respelled():
    """(r, n - s) signs the same certificate under another SHA-256; OpenSSL accepts it, the reader here must not."""
    certificate = x509.load_der_x509_certificate(issue().chain[0])
    r, s = decode_dss_signature(certificate.signature)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = encode_dss_signature(r, ORDER - s)
    body = certificate.tbs_certificate_bytes + algorithm + b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
    respelled = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    x509.load_der_x509_certificate(respelled).verify_directly_issued_by(CA)
    refused(respelled, code="x509-not-an-svid")


def refused(*chain: bytes, code: str, bundle: TrustBundle = BUNDLE, now: int = NOW) -> None:
    answer = read_x509(chain, bundle, now)
    assert isinstance(answer, Denied), answer
    assert answer.code == code, answer
    assert answer.remedy


def test_an_issued_leaf_follows_the_standard():
    issued = issue(dns=["localhost", "model.test.local"])
    certificate = x509.load_der_x509_certificate(issued.chain[0])
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.value.get_values_for_type(x509.UniformResourceIdentifier) == [PRINCIPAL]
    assert san.value.get_values_for_type(x509.DNSName) == ["localhost", "model.test.local"]
    assert san.critical
    assert not certificate.subject.rdns
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not (usage.value.key_cert_sign or usage.value.crl_sign or usage.value.key_agreement or usage.value.key_encipherment)
    eku = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert set(eku.value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert int(issued.serial, 16) == certificate.serial_number
    assert read_x509(issued.chain, BUNDLE, NOW) == X509Facts(PRINCIPAL, issued.serial, issued.thumbprint, issued.not_after)


def test_the_ca_follows_the_standard():
    uris = CA.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [f"spiffe://{TD}"]
    basic = CA.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=1)
    usage = CA.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature


def test_openssl_accepts_the_chain(tmp_path):
    """An independent implementation handshakes with what we issue, in both directions."""
    issued = issue(dns=["localhost"], ttl_seconds=86_000, now=int(datetime.datetime.now(datetime.UTC).timestamp()) * 1000,
                   ca=(fresh := load_ca(make_ca(TD, CA_KEY, now=int(datetime.datetime.now(datetime.UTC).timestamp()) * 1000, days=2), TD)))  # fmt: skip
    cert, key, root = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "r.pem"
    cert.write_text(ssl.DER_cert_to_PEM_cert(issued.chain[0]))
    root.write_bytes(fresh.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(LEAF_KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)]
    for context in contexts:
        context.load_cert_chain(cert, key)
        context.load_verify_locations(root)
        context.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = contexts[0].wrap_bio(to_server, to_client, server_side=True)
    client = contexts[1].wrap_bio(to_client, to_server, server_hostname="localhost")
    done = set()
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    assert done == {client, server}
    assert ("URI", PRINCIPAL) in server.getpeercert()["subjectAltName"]


@pytest.mark.parametrize(
    "changes",
    [
        {"principal": f"spiffe://{TD}"}, {"principal": f"spiffe://{TD}/"}, {"principal": "spiffe://other.local/service/prod/a"},
        {"principal": f"spiffe://{TD}/service/prod/a/b"}, {"principal": f"https://{TD}/service/prod/a"}, {"principal": PRINCIPAL + "\x00"},
        {"ttl_seconds": 1}, {"ttl_seconds": 86_401}, {"ttl_seconds": -1}, {"dns": ["a"] * 9}, {"dns": ["*.test.local"]}, {"dns": ["UPPER"]},
        {"dns": [""]}, {"dns": ["a..b"]}, {"dns": ["a\x00b"]}, {"dns": ["-a"]}, {"dns": ["spiffe://x"]}, {"spki": b""}, {"spki": b"\x30\x00"},
        {"spki": LEAF_SPKI + b"\x00"}, {"spki": LEAF_SPKI[:-1]}, {"spki": b"\x00" * 10_000},
        {"now": NOW + 40 * 86_400_000},
    ],
)  # fmt: skip
def test_what_must_not_be_issued_is_not(changes):
    with pytest.raises(VouchgateError):
        issue(**changes)


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()]
)
def test_another_kind_of_key_is_not_certified(key):
    with pytest.raises(InvalidInput):
        issue(spki=key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def test_a_compressed_point_is_not_certified():
    """One key, one encoding: bindings compare bytes."""
    point = LEAF_KEY.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    spki = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    assert isinstance(serialization.load_der_public_key(spki), ec.EllipticCurvePublicKey)
    with pytest.raises(InvalidInput):
        issue(spki=spki)


def test_a_leaf_never_outlives_its_ca():
    issued = issue(now=NOW + 30 * 86_400_000 - 3_600_000, ttl_seconds=86_400)
    assert issued.not_after <= int(CA.not_valid_after_utc.timestamp()) * 1000


def test_the_hand_made_leaf_of_these_tests_is_good():
    assert isinstance(read_x509([leaf()], BUNDLE, NOW), X509Facts)
    assert isinstance(read_x509([leaf(eku=False)], BUNDLE, NOW), X509Facts | Denied)
    assert isinstance(read_x509([leaf(subject=("x",), san_critical=False)], BUNDLE, NOW), X509Facts)


@pytest.mark.parametrize(
    "changes",
    [
        {"uris": (PRINCIPAL, f"spiffe://{TD}/service/prod/other")}, {"uris": (PRINCIPAL, PRINCIPAL)}, {"uris": (PRINCIPAL, "https://x.test")},
        {"uris": ()  , "names": (x509.DNSName("x"),)}, {"san": False}, {"uris": (f"spiffe://{TD}",)}, {"uris": (f"spiffe://{TD}/",)},
        {"uris": ("spiffe://partner.local/service/prod/a",)}, {"uris": (f"spiffe://{TD}/service/prod/%61",)}, {"uris": (f"SPIFFE://{TD}/service/prod/a",)},
        {"uris": (f"spiffe://{TD}/service/prod/a?x",)}, {"uris": (f"spiffe://{TD}/service/prod/a#x",)}, {"uris": (f"spiffe://u@{TD}/service/prod/a",)},
        {"uris": (f"spiffe://{TD}:1/service/prod/a",)}, {"uris": (f"spiffe://{TD}/service/../a",)}, {"uris": (f"spiffe://{TD}/x\x00/prod/a",)},
        {"names": (x509.RFC822Name("a@b.test"),)}, {"names": (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),)},
        {"ca": True}, {"usage": False}, {"usage_critical": False}, {"usage": {"digital_signature": False, "key_agreement": True}},
        {"usage": {"key_cert_sign": True}}, {"usage": {"crl_sign": True}}, {"eku": [ExtendedKeyUsageOID.CLIENT_AUTH]},
        {"eku": [ExtendedKeyUsageOID.SERVER_AUTH]}, {"eku": [ExtendedKeyUsageOID.CODE_SIGNING]}, {"san_critical": False},
        {"key": ec.generate_private_key(ec.SECP384R1())}, {"key": rsa.generate_private_key(65537, 2048)},
    ],
)  # fmt: skip
def test_a_leaf_that_breaks_one_rule_is_refused(changes):
    refused(leaf(**changes), code="x509-not-an-svid")


@pytest.mark.parametrize(
    "changes",
    [{"signer": OTHER_KEY}, {"begin": NOW + 5000, "end": NOW + 9000}, {"issuer": x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])}, {"unknown": True}],
)  # fmt: skip
def test_a_leaf_that_no_ca_of_ours_stands_behind_is_refused(changes):
    refused(leaf(**changes), code="x509-untrusted")


def test_an_expired_leaf_says_so():
    refused(leaf(end=NOW - 500), code="x509-expired")
    refused(*issue().chain, code="x509-expired", now=NOW + 3_600_000)


def test_a_self_signed_leaf_and_the_ca_itself_are_refused():
    refused(leaf(signer=LEAF_KEY), code="x509-untrusted")
    refused(CA_DER, code="x509-not-an-svid")


def test_a_leaf_cannot_sign_a_leaf():
    """Path length 0, and a leaf is no CA: a stolen workload key mints nothing."""
    name = x509.Name([])
    refused(leaf(signer=LEAF_KEY, issuer=name), leaf(), code="x509-untrusted")


def test_a_ca_cannot_sign_a_further_ca():
    """pathLenConstraint 0 (RFC 5280, section 4.2.1.9)."""
    middle_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")])
    usage = x509.KeyUsage(**(USAGE | {"digital_signature": False, "key_cert_sign": True, "crl_sign": True}))
    middle = (
        x509.CertificateBuilder().subject_name(middle_name).issuer_name(CA.subject).public_key(OTHER_KEY.public_key()).serial_number(7)
        .not_valid_before(instant(NOW - 5000)).not_valid_after(instant(NOW + 9_000_000))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(CA_KEY.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(OTHER_KEY.public_key()), critical=False)
        .sign(CA_KEY, hashes.SHA256())
    )  # fmt: skip
    refused(leaf(signer=OTHER_KEY, issuer=middle_name), middle.public_bytes(serialization.Encoding.DER), code="x509-untrusted")


def test_a_partner_ca_cannot_mint_our_ids():
    """One bundle per trust domain; the leaf must be of the bundle's."""
    partner_key = ec.generate_private_key(ec.SECP256R1())
    partner_der = make_ca("partner.local", partner_key, now=NOW, days=3)
    partner = make_bundle("partner.local", x509_authorities=(partner_der,), jwt_spkis=())
    stolen = leaf(signer=partner_key, issuer=load_ca(partner_der, "partner.local").subject)
    refused(stolen, code="x509-not-an-svid", bundle=partner)
    refused(stolen, code="x509-untrusted")


def test_chains_out_of_bounds_are_refused():
    good = issue().chain[0]
    refused(code="x509-bounds")
    refused(*[good] * 6, code="x509-bounds")
    refused(good + b"\x00" * 20_000, code="x509-bounds")


@pytest.mark.parametrize("junk", [b"", b"\x00", b"\x30\x80", b"-----BEGIN CERTIFICATE-----", b"\x30\x82\xff\xff" + b"\x00" * 50])
def test_junk_is_refused(junk):
    refused(junk, code="x509-malformed")
    refused(issue().chain[0], junk, code="x509-malformed")


def test_trailing_bytes_are_refused():
    refused(issue().chain[0] + b"\x00", code="x509-malformed")


def test_an_empty_bundle_trusts_nobody():
    refused(*issue().chain, code="x509-untrusted", bundle=TrustBundle(trust_domain=TD))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("change", [0x01, 0x20, 0x80, 0xFF])
def test_flipping_any_byte_of_the_leaf_is_refused(change):
    good = issue().chain[0]
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= change
        assert isinstance(read_x509([bytes(changed)], BUNDLE, NOW), Denied), position


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("change", [0x01, 0x80])
def test_flipping_any_byte_of_a_ca_gives_a_typed_error_or_another_ca(change):
    for position in range(len(CA_DER)):
        changed = bytearray(CA_DER)
        changed[position] ^= change
        try:
            load_ca(bytes(changed), TD)
        except InvalidInput:
            continue
        foreign = TrustBundle(trust_domain=TD, x509_authorities=(bytes(changed),))
        assert isinstance(read_x509(issue().chain, foreign, NOW), Denied | X509Facts)


@given(st.binary(max_size=400))
def test_any_bytes_get_a_typed_answer(data):
    assert isinstance(read_x509([data], BUNDLE, NOW), Denied)


@pytest.mark.parametrize(("domain", "days"), [("UPPER", 3), ("", 3), ("a b", 3), (TD, 0), (TD, 10**6)])
def test_a_ca_out_of_bounds_is_not_made(domain, days):
    with pytest.raises(InvalidInput):
        make_ca(domain, CA_KEY, now=NOW, days=days)


def test_what_is_no_ca_of_the_domain_is_not_loaded():
    for der, domain in ((CA_DER, "other.local"), (issue().chain[0], TD), (b"", TD), (CA_DER + b"x", TD)):
        with pytest.raises(InvalidInput):
            load_ca(der, domain)


def test_two_cas_of_one_domain_are_told_apart():
    """Renewal: the old certificate's leaves hold under the renewed one of the same key, and not under another key's."""
    renewed = make_ca(TD, CA_KEY, now=NOW + 1000, days=60)
    foreign = make_ca(TD, OTHER_KEY, now=NOW, days=60)
    assert isinstance(read_x509(issue().chain, make_bundle(TD, x509_authorities=(renewed,), jwt_spkis=()), NOW + 2000), X509Facts)
    refused(*issue().chain, code="x509-untrusted", bundle=make_bundle(TD, x509_authorities=(foreign,), jwt_spkis=()))
    assert spki_of(CA_KEY.public_key()) != spki_of(OTHER_KEY.public_key())
