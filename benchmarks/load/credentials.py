"""Credentials of the plain hop and the peers: a CA, a server certificate, a client SVID, an ES256 token. Never used by vouchgate itself."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
import time
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TOKEN_SECONDS = 300
"""The longest life that an endpoint accepts."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Files in one directory, and the signing key of tokens."""

    directory: Path
    jwt_key: ec.EllipticCurvePrivateKey
    jwt_kid: str = "bench"

    def file(self, name: str) -> str:
        """Path of `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`."""
        return str(self.directory / name)

    def context(self, *, client: bool = True) -> ssl.SSLContext:
        """A client's TLS context, with or without the client certificate."""
        return client_context(self.file("ca.pem"), *((self.file("client.pem"), self.file("client.key")) if client else ()))

    def token(self, subject: str, audience: str, *, seconds: int = TOKEN_SECONDS) -> str:
        """A JWT-SVID signed with ES256 (RFC 7518, section 3.4)."""
        now = int(time.time())
        head = _b64(json.dumps({"alg": "ES256", "kid": self.jwt_kid, "typ": "JWT"}).encode())
        claims = {"sub": subject, "aud": [audience], "iat": now, "exp": now + seconds, "jti": f"bench-{now}"}
        signed = f"{head}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self.jwt_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def client_context(ca: str, certificate: str = "", key: str = "") -> ssl.SSLContext:
    """TLS as a caller of the gateway speaks it: the server is known by its CA, not by its host name (SPIFFE has no host names)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


def make(directory: Path, *, subject: str = "spiffe://test.local/service/serving/bench") -> Credentials:
    """Write a CA, a server and a client certificate into `directory`."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench ca")])
    ca = (
        _builder(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    (directory / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    _leaf(directory, "server", [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], ca_name, ca_key)
    _leaf(directory, "client", [x509.UniformResourceIdentifier(subject)], ca_name, ca_key)
    return Credentials(directory=directory, jwt_key=ec.generate_private_key(ec.SECP256R1()))


def _leaf(directory: Path, name: str, names: list[x509.GeneralName], issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = (
        _builder(subject, issuer, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(usage, critical=False)
    )
    (directory / f"{name}.pem").write_bytes(builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / f"{name}.key").write_bytes(private)
    (directory / f"{name}.key").chmod(0o600)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
    return builder.not_valid_after(now + datetime.timedelta(days=1))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
