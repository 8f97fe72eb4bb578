"""Signed documents of AWS and Azure, and the CMS reader below them."""

from __future__ import annotations

import base64
import json

import pytest
from attestor_world import (
    NOW,
    SECONDS,
    as_aws,
    attested,
    certificate,
    cms,
    der,
    document,
    instant,
    open_ended,
    rsa_key,
    taken_apart,
    value,
)  # fmt: skip
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.identity.attestors import Attested, Trust
from vouchgate.identity.catalog import attest
from vouchgate.identity.signed_documents import holds, read_signed
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied

AWS_KEY, REGION = rsa_key("aws"), certificate("us-west-2", rsa_key("aws"), ekus=None, end=SECONDS + 10**7)
AWS = Trust(name="aws", trust_domain="test.local", authorities=(der(REGION),))
NO_CERTIFICATES = (pkcs7.PKCS7Options.NoCerts,)
DIGITS = "1234567890"


def encoded(raw: bytes) -> str:
    return base64.encodebytes(raw).decode()


def rsa2048(said: dict, *, key=AWS_KEY, signer=REGION, form=as_aws, options=NO_CERTIFICATES, digest=None) -> str:
    return encoded(form(cms(json.dumps(said, indent=2).encode(), signer, key, options=options, digest=digest)))


def aws(said: dict | None = None, *, now: int = NOW, source: Trust = AWS, given_: dict | None = None, **more):
    return attest("aws-instance", given_ or {"rsa2048": rsa2048(said or document(), **more)}, source, now)


def code(answer: Attested | Denied) -> str:
    return answer.code if isinstance(answer, Denied) else "holds"


def test_an_instance_is_told_by_its_document():
    for form in (as_aws, bytes):
        answer = aws(form=form)
        assert {one.type: one.value for one in answer.selectors} == {
            "aws:account": "123456789012", "aws:region": "us-west-2", "aws:instance": "i-1234567890abcdef0", "aws:image": "ami-5fb8c835",
            "aws:type": "t2.micro", "aws:zone": "us-west-2b",
        }  # fmt: skip
        assert answer.replay_key == f"123456789012:us-west-2:i-1234567890abcdef0:{(SECONDS - 120) * 1000}"
        assert answer.expires_at == (SECONDS - 120 + 900) * 1000, "from then on its age refuses it"
    assert code(aws(digest=hashes.SHA384())) == code(aws(options=(*NO_CERTIFICATES, pkcs7.PKCS7Options.NoAttributes))) == "holds"


def test_a_detached_signature_needs_the_document_beside_it():
    said = json.dumps(document()).encode()
    detached = encoded(cms(said, REGION, AWS_KEY, options=(*NO_CERTIFICATES, pkcs7.PKCS7Options.DetachedSignature)))
    assert code(aws(given_={"rsa2048": detached, "document": said.decode()})) == "holds"
    assert code(aws(given_={"rsa2048": detached})) == "aws-signature"
    assert code(aws(given_={"rsa2048": detached, "document": said.decode() + " "})) == "aws-signature"
    other = json.dumps(document(accountId="666666666666"))
    assert code(aws(given_={"rsa2048": rsa2048(document()), "document": other})) == "aws-signature"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"accountId": None}, "aws-document"), ({"instanceId": 5}, "aws-document"), ({"pendingTime": "yesterday"}, "aws-document"), ({"newField": "x"}, "aws-document"),
        ({"pendingTime": instant(SECONDS - 901).strftime("%Y-%m-%dT%H:%M:%SZ")}, "aws-age"), ({"pendingTime": instant(SECONDS + 61).strftime("%Y-%m-%dT%H:%M:%SZ")}, "aws-age"),
        ({"pendingTime": instant(SECONDS + 5).strftime("%Y-%m-%dT%H:%M:%SZ")}, "holds"), ({"region": ["us-west-2"]}, "aws-document"),
    ],
)  # fmt: skip
def test_a_document_that_is_old_or_says_something_else_is_refused(changes, wanted):
    assert code(aws(document(**changes))) == wanted


def test_only_a_recorded_certificate_signs_for_aws():
    thief = rsa_key("thief")
    same_name = certificate("us-west-2", thief, ekus=None, end=SECONDS + 10**7, serial=REGION.serial_number)
    assert code(aws(key=thief, signer=same_name)) == "aws-signature"
    assert code(aws(key=thief, signer=certificate("evil", thief), options=())) == "aws-signature", "what is embedded is not trusted"
    late = certificate("us-west-2", AWS_KEY, ekus=None, end=SECONDS - 5)
    assert code(aws(signer=late, source=Trust(name="aws", authorities=(der(late),)))) == "aws-signature"
    assert code(aws(source=Trust(name="aws"))) == "aws-signature"
    with pytest.raises(InvalidInput):
        aws(source=Trust(name="aws", authorities=(b"x",)))
    small = rsa_key("small", 1024)
    tiny = certificate("tiny", small, ekus=None)
    assert code(aws(key=small, signer=tiny, source=Trust(name="aws", authorities=(der(tiny),)))) == "aws-signature"


@pytest.mark.parametrize(
    "text", ["", "x", "AAAA", "é", encoded(b"\x30\x80"), encoded(b"\x30\x03\x02\x01\x01"), "!" * 60_000, encoded(b"\x30" + b"\x80" * 900)]
)
def test_what_is_not_signed_data_is_refused(text):
    assert code(aws(given_={"rsa2048": text})) == "aws-signature"


@settings(max_examples=150)
@given(st.data())
def test_flipping_any_byte_of_a_signed_document_is_noticed(data):
    raw = bytearray(as_aws(cms(json.dumps(document()).encode(), REGION, AWS_KEY, options=NO_CERTIFICATES)))
    place, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    raw[place] ^= 1 << bit
    answer = aws(given_={"rsa2048": encoded(bytes(raw))})
    if isinstance(answer, Attested):
        # Versions and algorithm parameters are outside of what is signed, and choose nothing.
        assert answer.selectors == aws().selectors


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_get_a_typed_answer(raw):
    with pytest.raises(InvalidInput):
        read_signed(raw)


def test_the_reader_is_bounded():
    bomb = b"\x30\x80" * 40
    for raw in (bomb, bomb + b"\0\0" * 40, b"\x30\x84\xff\xff\xff\xff", b"\x30\x85\x01\x01\x01\x01\x01", value(0x30, *[b"\x05\x00"] * 3000), b"\x1f\x01\x00",
                b"\x04\x80\x00\x00", b"\0" * 49_153):  # fmt: skip
        with pytest.raises(InvalidInput):
            read_signed(raw)


def rebuilt(change) -> bytes:
    """A signed document with one part of its signer changed."""
    kind, wrapped = taken_apart(cms(b"{}", REGION, AWS_KEY, options=NO_CERTIFICATES))
    version, digests, content, signers = taken_apart(taken_apart(wrapped)[0])
    parts = change(taken_apart(taken_apart(signers)[0]))
    made = parts if isinstance(parts, bytes) else value(0x31, value(0x30, *parts))
    return value(0x30, kind, value(0xA0, value(0x30, version, digests, content, made)))


def swapped(parts: list[bytes], place: int, new: bytes) -> list[bytes]:
    return [*parts[:place], new, *parts[place + 1 :]]


SHA1, RSA, PSS = (
    value(0x06, bytes.fromhex("2b0e03021a")),
    value(0x06, bytes.fromhex("2a864886f70d010101")),
    value(0x06, bytes.fromhex("2a864886f70d01010a")),
)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: value(0x31), lambda p: value(0x31, value(0x30, *p), value(0x30, *p)), lambda p: swapped(p, 2, value(0x30, SHA1)), lambda p: swapped(p, 4, value(0x30, PSS)),
        lambda p: swapped(p, 4, value(0x30, RSA, value(0x30))), lambda p: p[:5], lambda p: [*p, value(0xA2)], lambda p: swapped(p, 3, value(0xA0)),
        lambda p: swapped(p, 3, value(0xA0, *taken_apart(p[3]), taken_apart(p[3])[0])), lambda p: swapped(p, 3, value(0xA0, *taken_apart(p[3])[1:])),
        lambda p: swapped(p, 3, open_ended(0xA0, *taken_apart(p[3]))), lambda p: swapped(p, 1, value(0x30, taken_apart(p[1])[0])),
        lambda p: swapped(p, 5, value(0x03, b"\0")),
    ],
)  # fmt: skip
def test_a_signer_that_is_not_exactly_one_is_not_read(change):
    assert read_signed(rebuilt(lambda parts: parts)).content == b"{}"
    with pytest.raises(InvalidInput):
        read_signed(rebuilt(change))


def test_signed_attributes_cover_the_content():
    parsed = read_signed(rebuilt(lambda parts: parts))
    assert holds(parsed, b"{}", [REGION]) is REGION and holds(parsed, b"[]", [REGION]) is None
    without = read_signed(rebuilt(lambda parts: [*parts[:3], *parts[4:]]))
    assert holds(without, b"{}", [REGION]) is None, "the attributes were signed, not the content"
    assert holds(without, parsed.attributes, [REGION]) is REGION, "which is why the content must be a document"


ROOT_KEY, LEAF_KEY = rsa_key("digicert"), rsa_key("metadata")
ROOT = certificate("DigiCert", ROOT_KEY, ca=True)
MIDDLE = certificate("Microsoft Azure TLS", rsa_key("middle"), (ROOT, ROOT_KEY), ca=True, path_length=0)
AZURE = Trust(name="azure", trust_domain="test.local", authorities=(der(ROOT), der(MIDDLE)))


def signer(*hosts: str, key=LEAF_KEY, issuer=(MIDDLE, rsa_key("middle")), **more) -> x509.Certificate:
    return certificate(hosts[0], key, issuer, sans=tuple(x509.DNSName(host) for host in hosts), **more)


LEAF = signer("eastus.metadata.azure.com")


def azure(
    said: dict | None = None,
    *,
    leaf: x509.Certificate = LEAF,
    key=LEAF_KEY,
    source: Trust = AZURE,
    now: int = NOW,
    nonce: str = DIGITS,
    others=(),
    **more,
):
    signed = cms(json.dumps(said or attested(DIGITS)).encode(), leaf, key, *others)
    return attest("azure-instance", {"signature": encoded(signed), "encoding": "pkcs7"} | more, source, now, nonce)


def test_a_machine_is_told_by_its_attested_document():
    answer = azure()
    assert {one.type: one.value for one in answer.selectors} == {
        "azure:subscription": "8d10da13-8125-4ba9-a717-bf7490507b3d", "azure:vm": "d3e0e374-fda6-4649-bbc9-7f20dc379f34", "azure:sku": "22_04-lts",
    }  # fmt: skip
    assert answer.replay_key.endswith(f":{DIGITS}") and answer.expires_at == (SECONDS + 21_595) * 1000
    planned = azure(attested(DIGITS, plan={"name": "p", "product": "q", "publisher": "r"}))
    assert ("azure:plan_publisher", "r") in {(one.type, one.value) for one in planned.selectors}
    assert code(azure(leaf=signer("metadata.azure.com"))) == code(azure(leaf=signer("*.metadata.azure.com"))) == "holds"
    assert code(azure(source=Trust(name="azure", authorities=(der(ROOT),)), others=(MIDDLE,))) == "holds"
    china = Trust(name="azure", authorities=AZURE.authorities, host="metadata.azure.cn")
    assert code(azure(leaf=signer("metadata.azure.cn"), source=china)) == "holds" and code(azure(source=china)) == "azure-signature"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"nonce": "0000000000"}, "azure-stale"), ({"nonce": None}, "azure-document"), ({"vmId": None}, "azure-document"), ({"surprise": "x"}, "azure-document"),
        ({"timeStamp": None}, "azure-document"), ({"timeStamp": {"createdOn": "x", "expiresOn": "y"}}, "azure-document"), ({"plan": []}, "azure-document"),
        ({"plan": {"x": "y"}}, "azure-document"), ({"timeStamp": {"createdOn": "11/28/18 00:16:17 -0000", "expiresOn": "11/28/18 06:16:17 -0000"}}, "azure-stale"),
        ({"timeStamp": {"createdOn": "11/28/35 00:16:17 -0000", "expiresOn": "11/28/35 06:16:17 -0000"}}, "azure-stale"), ({"subscriptionId": 1}, "azure-document"),
    ],
)  # fmt: skip
def test_an_attested_document_of_another_time_or_attempt_is_refused(changes, wanted):
    assert code(azure(attested(**({"nonce": DIGITS} | changes)))) == wanted


def test_only_microsofts_path_and_name_sign_for_azure():
    thief = rsa_key("thief")
    evil = certificate("DigiCert", thief, ca=True)
    cases = [
        (signer("metadata.azure.com", key=thief, issuer=(evil, thief)), thief), (signer("evilmetadata.azure.com"), LEAF_KEY), (signer("www.example.com"), LEAF_KEY),
        (signer("metadata.azure.com.evil.example"), LEAF_KEY), (signer("metadata.azure.com", end=SECONDS - 5), LEAF_KEY), (certificate("self", LEAF_KEY), LEAF_KEY),
    ]  # fmt: skip
    assert {code(azure(leaf=leaf, key=key)) for leaf, key in cases} == {"azure-signature"}
    assert code(azure(encoding="jwt")) == "azure-signature" and code(azure(signature="x")) == "azure-signature"
    detached = encoded(cms(json.dumps(attested(DIGITS)).encode(), LEAF, LEAF_KEY, options=(pkcs7.PKCS7Options.DetachedSignature,)))
    assert code(azure(signature=detached)) == "azure-signature"
    bare = encoded(cms(json.dumps(attested(DIGITS)).encode(), LEAF, LEAF_KEY, options=NO_CERTIFICATES))
    assert code(azure(signature=bare)) == "azure-signature"


@pytest.mark.parametrize("nonce", ["", "123", "12345678901", "12345abcde", "١٢٣٤٥٦٧٨٩٠"])
def test_an_attempt_without_its_ten_digits_is_refused(nonce):
    assert code(azure(nonce=nonce)) == "not-attestable"
