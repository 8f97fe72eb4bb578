"""The client, over plain HTTP against the real server and over TLS that demands a certificate."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from example_servers import DIGITS

ANSWER = {"outputs": [{"name": "label", "data": [4]}, {"name": "probabilities", "data": [0.01, 0.9]}]}


def client(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", DIGITS / "client.py", *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_against_the_real_server(trained: Path) -> None:
    command = [sys.executable, DIGITS / "model_server.py", "--model", trained / "model.onnx", "--tcp", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(",")[2].strip(" )\n"))
        done = client("--url", f"http://127.0.0.1:{port}")
        assert (done.returncode, done.stdout[:8]) == (0, "digit 0 "), done.stderr
        done = client("--url", f"http://127.0.0.1:{port}", "--model", "other")
        assert done.returncode == 1
        assert "not here" in done.stdout
        assert json.loads(client("--url", f"http://127.0.0.1:{port}", "--json").stdout)["model_name"] == "digits"
    finally:
        process.terminate()
        process.communicate(timeout=5)


class Certificates:
    """A CA, a server and a caller, as PEM files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca = self._sign("ca", self.ca_key, ca=True)
        for name in ("server", "caller"):
            key = ec.generate_private_key(ec.SECP256R1())
            self._write(f"{name}.crt", self._sign(name, key).public_bytes(serialization.Encoding.PEM))
            form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            self._write(f"{name}.key", key.private_bytes(*form))
        self._write("bundle.pem", self.ca.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        names = x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(f"spiffe://test.local/service/serve/{name}"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca_key.public_key()), critical=False)
        )
        if not ca:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.ca_key, hashes.SHA256())

    def _write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)


class Gateway(http.server.BaseHTTPRequestHandler):
    """Answers like the gateway: with a problem document where the caller shows no certificate and no token."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        known = bool(self.connection.getpeercert()) or self.headers.get("authorization") == "Bearer a.b.c"  # type: ignore[attr-defined]
        document = ANSWER if known else {"title": "denied", "detail": "no identity", "remedy": "ask for a certificate"}
        content = json.dumps(document).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("certificates")
    Certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    context.load_verify_locations(folder / "bundle.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()


def test_with_a_certificate_with_a_token_and_with_neither(gateway: tuple[str, Path]) -> None:
    url, folder = gateway
    bundle = ("--url", url, "--bundle", str(folder / "bundle.pem"))
    done = client(*bundle, "--cert", str(folder / "caller.crt"), "--key", str(folder / "caller.key"))
    assert (done.returncode, done.stdout) == (0, "digit 4 (probability 0.900)\n"), done.stderr
    (folder / "token").write_text("a.b.c\n")
    assert client(*bundle, "--token-file", str(folder / "token")).returncode == 0
    done = client(*bundle)
    assert done.returncode == 1
    assert "no identity" in done.stdout
    assert "ask for a certificate" in done.stdout


def test_a_gateway_of_another_trust_domain_is_not_talked_to(gateway: tuple[str, Path], tmp_path: Path) -> None:
    Certificates(tmp_path)
    done = client("--url", gateway[0], "--bundle", str(tmp_path / "bundle.pem"))
    assert done.returncode == 3
    assert "certificate verify failed" in done.stderr.lower()


def test_usage_errors() -> None:
    assert client().returncode == 2
    assert client("--url", "https://127.0.0.1:1", "--cert", "x").returncode == 2
    assert client("--url", "http://127.0.0.1:1").returncode == 3
