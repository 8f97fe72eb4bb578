"""Defective identities, made with nothing but `cryptography`: certificates of foreign and self-made authorities, tokens that nobody signed.

Nothing here is vouchgate's: a generator that shared its code with what it tests would share its mistakes.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import secrets
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
Signing = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in files."""

    certificate: Path
    key: Path

    @property
    def tls(self) -> ssl.SSLContext:
        """A client that presents it and believes any server: what the server believes is the question."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.certificate, self.key)
        return context


def stranger() -> ssl.SSLContext:
    """A client without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A CA with its key: one of our own making, or one whose key was taken."""

    def __init__(self, key: Signing, issuer: x509.Name, chain: Sequence[x509.Certificate]) -> None:
        self.key, self.issuer, self.chain = key, issuer, tuple(chain)

    @classmethod
    def root(cls, uri: str = "") -> Authority:
        """A new root; `uri` is the trust domain's SPIFFE id (X.509-SVID, section 2)."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        name = _name("another authority")
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + 3 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if uri:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        return cls(key, name, [builder.sign(key, hashes.SHA256())])

    @classmethod
    def of_chain(cls, certificate: Path, keys: Iterable[Path]) -> Authority:
        """The issuer of a certificate, with the one of these key files that is its own."""
        issuer = x509.load_pem_x509_certificates(certificate.read_bytes())[1:]
        for file in keys:
            key = serialization.load_der_private_key(file.read_bytes(), None)
            if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == issuer[0].public_key():
                return cls(key, issuer[0].subject, issuer)
        raise ValueError("none of the keys is the issuer's")

    def bundle(self) -> dict[str, Any]:
        """A SPIFFE bundle with this root (SPIFFE Trust Domain and Bundle, section 4)."""
        numbers = self.chain[0].public_key().public_numbers()  # type: ignore[union-attr]
        assert isinstance(numbers, ec.EllipticCurvePublicNumbers)
        der = base64.b64encode(self.chain[0].public_bytes(serialization.Encoding.DER)).decode()
        key = {"use": "x509-svid", "kty": "EC", "crv": "P-256", "x": _number(numbers.x), "y": _number(numbers.y), "x5c": [der]}
        return {"keys": [key], "spiffe_sequence": 1, "spiffe_refresh_hint": 300}

    def leaf(
        self, folder: Path, file: str, names: Sequence[str], *, days: tuple[float, float] = (-1, 1), ca: bool = False, host: str = ""
    ) -> Certificate:
        """A certificate with these URI names, valid between these days from now; with `ca` one that may sign others, with `host` a server's."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        begins, ends = now + days[0] * DAY, min(now + days[1] * DAY, self.chain[0].not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(file))
            .issuer_name(self.issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(_usage(ca=ca), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if not ca:
            usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        known: list[x509.GeneralName] = [x509.UniformResourceIdentifier(name) for name in names]
        known += [x509.DNSName(host)] if host else []
        if known:
            builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        return _kept(folder, file, [builder.sign(self.key, hashes.SHA256()), *self.chain], key)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _number(value: int) -> str:
    return _part(value.to_bytes(32, "big"))


def _kept(folder: Path, file: str, chain: Sequence[x509.Certificate], key: Signing) -> Certificate:
    made = Certificate(folder / f"{file}.pem", folder / f"{file}.key")
    made.certificate.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return made


def self_signed(folder: Path, file: str, names: Sequence[str], days: tuple[float, float] = (-1, 1)) -> Certificate:
    """A certificate that is its own authority."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(file))
        .issuer_name(_name(file))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _kept(folder, file, [made], key)


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _read(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def claims(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, unverified."""
    head, body, _ = token.split(".")
    return _read(head), _read(body)


def unsigned(token: str) -> str:
    """The same claims, `alg` none (RFC 8725, section 2.1)."""
    _, body = claims(token)
    return f"{_part(json.dumps({'alg': 'none', 'typ': 'JWT'}).encode())}.{_part(json.dumps(body).encode())}."


def _compact(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def signed(header: dict[str, Any], body: dict[str, Any], key: Signing) -> str:
    """A compact JWS with ES256 (RFC 7518, section 3.4)."""
    text = f"{_part(_compact(header))}.{_part(_compact(body))}"
    first, second = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_part(first.to_bytes(32, 'big') + second.to_bytes(32, 'big'))}"


def resigned(token: str, key: Signing | None = None, **changes: Any) -> str:
    """The claims, changed, under the same key id, signed with a key of ours, or with one that was taken. A None takes a claim out."""
    head, body = claims(token)
    body = {name: value for name, value in (body | changes).items() if value is not None}
    return signed(head, body, key or ec.generate_private_key(ec.SECP256R1()))


def thumbprint(pem: Path) -> str:
    """Of the first certificate, as a token's confirmation names it (RFC 8705, section 3.1)."""
    return _part(x509.load_pem_x509_certificates(pem.read_bytes())[0].fingerprint(hashes.SHA256()))


def key_of(pem: Path) -> Signing:
    """A private key from its file."""
    key = serialization.load_pem_private_key(pem.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def public_jwk(key: Signing) -> dict[str, Any]:
    """RFC 7518, section 6.2.1."""
    numbers = key.public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": _number(numbers.x), "y": _number(numbers.y)}


def proof(key: Signing, method: str, url: str, at: int, token: str = "", **changes: Any) -> str:
    """A proof of possession (RFC 9449, section 4.2), at `at` seconds."""
    body: dict[str, Any] = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": at}
    if token:
        body["ath"] = _part(hashlib.sha256(token.encode()).digest())
    return signed({"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk(key)}, body | changes, key)


def edited(token: str, **changes: Any) -> str:
    """The claims changed under the old signature."""
    head, _, signature = token.split(".")
    return f"{head}.{_part(json.dumps(claims(token)[1] | changes).encode())}.{signature}"


def symmetric(token: str, public: bytes) -> str:
    """Signed with HMAC over a public key that everybody has (RFC 8725, section 2.1)."""
    head, body = claims(token)
    text = f"{_part(json.dumps(head | {'alg': 'HS256'}).encode())}.{_part(json.dumps(body).encode())}"
    return f"{text}.{_part(hmac.new(public, text.encode(), hashlib.sha256).digest())}"
