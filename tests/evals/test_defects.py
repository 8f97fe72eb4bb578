"""Defective identities are what they are called, and share no code with what they are tried at."""

from __future__ import annotations

import ast
import datetime
import json
from pathlib import Path

import defects
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

EVALS = Path(defects.__file__).parent
NAME = "spiffe://example.local/service/serve/alice"


@pytest.mark.parametrize("file", ["defects.py", "tries.py", "provider.py"])
def test_a_generator_imports_nothing_of_ours(file: str) -> None:
    tree = ast.parse((EVALS / file).read_text())
    named = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    named += [one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names]
    assert not [name for name in named if name.partition(".")[0] == "vouchgate"]


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.UniformResourceIdentifier)


def test_an_authority_signs_any_names(tmp_path: Path) -> None:
    authority = defects.Authority.root("spiffe://other.example")
    made = authority.leaf(tmp_path, "one", [NAME, NAME + "x"], days=(-2, -1))
    leaf, root = x509.load_pem_x509_certificates(made.certificate.read_bytes())
    leaf.verify_directly_issued_by(root)
    assert names(leaf) == [NAME, NAME + "x"]
    assert leaf.not_valid_after_utc < datetime.datetime.now(datetime.UTC)
    assert made.tls is not None
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_stolen_issuers_key_is_found_by_its_certificate(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    authority = defects.Authority.root()
    held = authority.leaf(tmp_path, "held", [NAME])
    for name, key in (("a", ec.generate_private_key(ec.SECP256R1())), ("b", authority.key)):
        (tmp_path / f"{name}.key").write_bytes(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    taken = defects.Authority.of_chain(held.certificate, [tmp_path / "a.key", tmp_path / "b.key"])
    leaf, issuer = x509.load_pem_x509_certificates(taken.leaf(tmp_path, "forged", [NAME]).certificate.read_bytes())
    leaf.verify_directly_issued_by(issuer)
    with pytest.raises(ValueError, match="issuer"):
        defects.Authority.of_chain(held.certificate, [tmp_path / "a.key"])


def test_a_self_signed_certificate_is_its_own_authority(tmp_path: Path) -> None:
    (made,) = x509.load_pem_x509_certificates(defects.self_signed(tmp_path, "self", [NAME]).certificate.read_bytes())
    made.verify_directly_issued_by(made)


def test_tokens_are_bent_as_they_say() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    token = defects.signed({"alg": "ES256"}, {"sub": NAME, "aud": "a"}, key)
    assert defects.claims(defects.unsigned(token)) == ({"alg": "none", "typ": "JWT"}, {"aud": "a", "sub": NAME})
    assert defects.claims(defects.edited(token, sub="b"))[1]["sub"] == "b"
    assert defects.edited(token, sub="b").rpartition(".")[2] == token.rpartition(".")[2], "under the old signature"
    assert defects.claims(defects.resigned(token, key, aud=None))[1] == {"sub": NAME}
    assert defects.claims(defects.symmetric(token, b"public"))[0]["alg"] == "HS256"
    verify(token, key)
    verify(defects.resigned(token, key, sub="b"), key)
    with pytest.raises(InvalidSignature):
        verify(defects.resigned(token), key)


def test_a_proof_is_signed_by_the_key_that_it_names() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first, second = (defects.proof(key, "POST", "https://a/b", 1_000, "token", htm="GET") for _ in range(2))
    header, body = defects.claims(first)
    assert header["jwk"] == defects.public_jwk(key)
    assert (body["htm"], body["htu"], body["iat"], len(body["ath"])) == ("GET", "https://a/b", 1_000, 43)
    assert body["jti"] != defects.claims(second)[1]["jti"]
    verify(first, key)


def test_a_bundle_names_its_root() -> None:
    said = json.loads(json.dumps(defects.Authority.root("spiffe://other.example").bundle()))
    assert [key["use"] for key in said["keys"]] == ["x509-svid"]


def verify(token: str, key: ec.EllipticCurvePrivateKey) -> None:
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    text, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.public_key().verify(der, text.encode(), ec.ECDSA(hashes.SHA256()))
