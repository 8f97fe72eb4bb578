"""Defective identities, made with nothing but `cryptography`: certificates of foreign and self-made authorities, tokens that nobody signed.

Nothing here is vouchgate's: a generator that shared its code with what it tests would share its mistakes.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


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


def mint(folder: Path, file: str, names: Sequence[str], *, own_authority: bool = True, days: tuple[int, int] = (-1, 1)) -> Certificate:
    """A client certificate with these URI names, of an authority of our own (or signed by itself), valid between these days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1()) if own_authority else key
    issuer = _name("another authority") if own_authority else _name(file)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(file))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=not own_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names]), critical=False)
    )
    leaf = builder.sign(authority, hashes.SHA256())
    chain = leaf.public_bytes(serialization.Encoding.PEM)
    if own_authority:
        root = (
            x509.CertificateBuilder()
            .subject_name(issuer)
            .issuer_name(issuer)
            .public_key(authority.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )
        chain += root.public_bytes(serialization.Encoding.PEM)
    made = Certificate(folder / f"{file}.pem", folder / f"{file}.key")
    made.certificate.write_bytes(chain)
    made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return made


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


def resigned(token: str, **changes: Any) -> str:
    """The claims, changed, under the same key id, signed with a key of ours."""
    head, body = claims(token)
    text = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(body | changes).encode())}"
    der = ec.generate_private_key(ec.SECP256R1()).sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    first, second = utils.decode_dss_signature(der)
    return f"{text}.{_part(first.to_bytes(32, 'big') + second.to_bytes(32, 'big'))}"


def edited(token: str, **changes: Any) -> str:
    """The claims changed under the old signature."""
    head, _, signature = token.split(".")
    return f"{head}.{_part(json.dumps(claims(token)[1] | changes).encode())}.{signature}"


def symmetric(token: str, public: bytes) -> str:
    """Signed with HMAC over a public key that everybody has (RFC 8725, section 2.1)."""
    head, body = claims(token)
    text = f"{_part(json.dumps(head | {'alg': 'HS256'}).encode())}.{_part(json.dumps(body).encode())}"
    return f"{text}.{_part(hmac.new(public, text.encode(), hashlib.sha256).digest())}"
