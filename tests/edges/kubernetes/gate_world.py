"""A cluster's side of the gate: certificates, the gate as its own process, and an API server's requests over TLS."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


class Authority:
    """A CA and the files that it issued into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._issue(name, self.key, self.key, ca=True)
        self.pem = folder / f"{name}.pem"
        self.pem.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _issue(self, name: str, key: Any, signer: Any, *, ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = subject if ca else self.certificate.subject
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(START).not_valid_after(END)
        made = made.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return made.sign(signer, hashes.SHA256())

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(self._issue(name, key, self.key, ca=False).public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return certificate, secret


class Cluster:
    """What an API server says to a webhook."""

    def __init__(self, port: int, ca: Path, client: tuple[Path, Path] | None) -> None:
        self.port = port
        self.context = ssl.create_default_context(cafile=str(ca))
        if client is not None:
            self.context.load_cert_chain(*client)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=30)

    def ask(self, data: bytes, path: str = "/admit?timeout=10s", media: str = "application/json") -> tuple[int, Any]:
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request("POST", path, data, {"content-type": media})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if answer.status == 200 else text.decode()


@contextlib.contextmanager
def serving(api: Path, certificate: Path, key: Path, *more: str) -> Iterator[int]:
    """The gate as a process; its port."""
    command = [sys.executable, "-m", "vouchgate.edges.cli.main", "gate", "kubernetes", "serve", "--socket", str(api)]
    command += ["--certificate", str(certificate), "--key", str(key), "--listen", "127.0.0.1:0", *more]
    gate = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert gate.stderr is not None
    try:
        line = gate.stderr.readline()
        assert "listens on 127.0.0.1:" in line, line + gate.stderr.read()
        yield int(line.rpartition(":")[2])
    finally:
        gate.terminate()
        gate.wait(20)
        gate.stderr.close()
