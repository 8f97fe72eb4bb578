"""Revocation lists: what RFC 5280, section 5, asks of them, by a reader that is not ours."""

from __future__ import annotations

import datetime
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from identity_world import CA, CA_KEY, LEAF_SPKI, NOW, OTHER_KEY, PRINCIPAL, TD

from vouchgate.identity.ca import instant, make_ca
from vouchgate.identity.crl import MAX_NUMBER, MAX_SERIALS, NEXT_UPDATE_SECONDS, make_crl, serial_number
from vouchgate.identity.x509svid import issue_x509, serial_text
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded


def crl(*serials: str, number: int = 7, now: int = NOW):
    return x509.load_der_x509_crl(make_crl(serials, issuer=CA, key=CA_KEY, number=number, now=now))


def test_a_list_follows_the_standard():
    made = crl("21", "0ff1ce", "21")
    assert made.is_signature_valid(CA.public_key())
    assert not made.is_signature_valid(OTHER_KEY.public_key())
    assert made.issuer == CA.subject
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    authority = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == CA.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert made.next_update_utc - made.last_update_utc == datetime.timedelta(seconds=NEXT_UPDATE_SECONDS)
    assert made.last_update_utc == instant(NOW)
    assert sorted(one.serial_number for one in made) == [0x21, 0x0FF1CE]
    assert not any(extension.critical for extension in made.extensions)


def test_an_empty_list_says_that_nothing_is_revoked():
    assert list(crl()) == []


def test_openssl_refuses_a_leaf_that_the_list_names(tmp_path):
    now = int(datetime.datetime.now(datetime.UTC).timestamp()) * 1000
    root = x509.load_der_x509_certificate(make_ca(TD, CA_KEY, now=now, days=2))
    leaf = issue_x509(LEAF_SPKI, PRINCIPAL, ca=root, ca_key=CA_KEY, trust_domain=TD, now=now, ttl_seconds=600)
    (tmp_path / "leaf.pem").write_bytes(x509.load_der_x509_certificate(leaf.chain[0]).public_bytes(serialization.Encoding.PEM))
    (tmp_path / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    answers = []
    for serials in ([], [leaf.serial]):
        made = x509.load_der_x509_crl(make_crl(serials, issuer=root, key=CA_KEY, number=1, now=now))
        (tmp_path / "list.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        argv = ["openssl", "verify", "-crl_check", "-CAfile", "root.pem", "-CRLfile", "list.pem", "leaf.pem"]
        answers.append(subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False))
    assert answers[0].returncode == 0, answers[0].stderr
    assert "certificate revoked" in answers[1].stderr


@pytest.mark.parametrize("text", ["", "0", "00", "0021", "21 ", "0x21", "AB", "abc", "-1", "g1", "80" + "00" * 19, "11" * 21, "²2"])
def test_what_is_no_serial_is_refused(text):
    with pytest.raises(InvalidInput):
        crl(text)


@pytest.mark.parametrize("number", [1, 0x21, 0xFF, 2**159 - 1])
def test_a_serial_is_read_as_it_is_written(number):
    assert serial_number(serial_text(number)) == number


@pytest.mark.parametrize("number", [0, -1, MAX_NUMBER + 1])
def test_a_number_out_of_bounds_is_refused(number):
    with pytest.raises(InvalidInput):
        crl(number=number)


def test_a_list_is_bounded():
    most = [f"01{number:08x}" for number in range(MAX_SERIALS)]
    assert len(make_crl(most, issuer=CA, key=CA_KEY, number=1, now=NOW)) < 500_000
    with pytest.raises(LimitExceeded):
        crl(*most, "02")
