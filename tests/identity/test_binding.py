"""The composite binding: one spelling, strict both ways, and readable by whoever reads X.509."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st
from identity_world import BUNDLE, CA, CA_KEY, LEAF_SPKI, NOW, PRINCIPAL, TD

from vouchgate.identity import der
from vouchgate.identity.binding import ATTRIBUTE, EXTENSION, FIELDS, binding_of, read_binding, write_binding
from vouchgate.identity.x509svid import issue_x509, read_x509
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Binding

FULL = Binding(
    model_digest="sha256:" + "a" * 64, lineage_root="b" * 64, run="run-0123456789abcdef", zone="train", stage="fit", inputs="c" * 64
)


def issue(binding: Binding | None):
    return issue_x509(LEAF_SPKI, PRINCIPAL, ca=CA, ca_key=CA_KEY, trust_domain=TD, now=NOW, ttl_seconds=600, binding=binding)


words, hexes = st.from_regex(r"[a-z0-9._-]{1,64}", fullmatch=True), st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
digests = st.builds("{}:{}".format, st.sampled_from(["sha256", "sha256-tree"]), hexes)
bindings = st.builds(
    Binding,
    model_digest=st.just("") | digests,
    lineage_root=st.just("") | hexes,
    run=words,
    zone=st.just("") | words,
    stage=st.just("") | words,
    inputs=st.just("") | hexes,
)


@given(bindings)
def test_what_is_written_is_read(binding):
    data = write_binding(binding)
    assert read_binding(data) == binding
    der.check(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_binding_in_its_one_spelling_or_refused(data):
    with contextlib.suppress(InvalidInput):
        assert write_binding(read_binding(data)) == data


@pytest.mark.parametrize("change", [0x01, 0x20, 0x80])
def test_flipping_any_byte_is_refused_or_says_something_else(change):
    good = write_binding(FULL)
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= change
        try:
            assert read_binding(bytes(changed)) != FULL, position
        except InvalidInput:
            continue


def _value(*fields: bytes) -> bytes:
    kind = der.only(der.only(write_binding(FULL), der.SEQUENCE), der.SEQUENCE)
    oid = kind[: 2 + kind[1]]
    return der.write(0x30, der.write(0x30, oid + der.write(0x31, der.write(0x30, b"".join(fields)))))


@pytest.mark.parametrize(
    "data",
    [
        _value(), _value(der.write(0x83, b"zone"), der.write(0x82, b"run")), _value(der.write(0x82, b"run"), der.write(0x82, b"run")),
        _value(der.write(0x82, b"")), _value(der.write(0x82, b"RUN")), _value(der.write(0x82, b"a" * 65)), _value(der.write(0x86, b"a")),
        _value(der.write(0x0C, b"run")), _value(der.write(0x82, b"r\xc3\xbcn")), _value(der.write(0x81, b"b" * 63)),
        write_binding(FULL) + b"\x00", write_binding(FULL)[:-1], b"\x30\x00", b"", der.write(0x30, b"\x30\x00" * 2),
        write_binding(FULL).replace(b"\x31", b"\x30", 1), b"\x30" * 2_000,
    ],
)  # fmt: skip
def test_another_spelling_is_refused(data):
    with pytest.raises(InvalidInput):
        read_binding(data)


@pytest.mark.parametrize(
    "changes", [{"run": "a b"}, {"run": "x" * 65}, {"model_digest": "sha1:" + "a" * 40}, {"inputs": "A" * 64}, {"zone": "a\n"}]
)
def test_what_is_malformed_is_not_written(changes):
    with pytest.raises(InvalidInput):
        write_binding(Binding(**changes))
    with pytest.raises(InvalidInput):
        issue(Binding(**changes))


def test_it_is_in_the_certificate_and_never_critical():
    made = issue(FULL)
    certificate = x509.load_der_x509_certificate(made.chain[0])
    assert not certificate.extensions.get_extension_for_oid(EXTENSION).critical
    assert binding_of(certificate) == FULL
    assert read_x509(made.chain, BUNDLE, NOW).binding == FULL


@pytest.mark.parametrize("empty", [None, Binding()])
def test_nothing_bound_is_no_extension(empty):
    made = issue(empty)
    assert read_x509(made.chain, BUNDLE, NOW).binding is None
    assert EXTENSION not in [one.oid for one in x509.load_der_x509_certificate(made.chain[0]).extensions]


def test_openssl_reads_the_certificate_and_knows_the_extension(tmp_path):
    """An independent reader: the arc is too large for an extension id of some readers, and stands where none of them looks."""
    path = tmp_path / "leaf.pem"
    path.write_bytes(x509.load_der_x509_certificate(issue(FULL).chain[0]).public_bytes(serialization.Encoding.PEM))
    said = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-text"], capture_output=True, text=True, check=True).stdout
    assert "X509v3 Subject Directory Attributes" in said
    assert all(
        int(arc) < 2**31
        for one in x509.load_der_x509_certificate(issue(FULL).chain[0]).extensions
        for arc in one.oid.dotted_string.split(".")
    )
    assert int(ATTRIBUTE.rpartition(".")[2]) > 2**64
    assert len(FIELDS) == len(Binding.__struct_fields__)


def test_a_leaf_with_a_foreign_attribute_is_refused():
    """Nobody but our signer puts the extension into a certificate of ours."""
    certificate = x509.load_der_x509_certificate(issue(None).chain[0])
    builder = x509.CertificateBuilder(
        issuer_name=certificate.issuer,
        subject_name=certificate.subject,
        public_key=certificate.public_key(),
        serial_number=7,
        not_valid_before=certificate.not_valid_before_utc,
        not_valid_after=certificate.not_valid_after_utc,
    )
    for one in certificate.extensions:
        builder = builder.add_extension(one.value, one.critical)
    builder = builder.add_extension(x509.UnrecognizedExtension(EXTENSION, b"\x30\x00"), critical=False)
    answer = read_x509([builder.sign(CA_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)], BUNDLE, NOW)
    assert isinstance(answer, Denied)
    assert answer.code == "x509-not-an-svid"
