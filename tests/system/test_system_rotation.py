"""A provider's key that workloads never hold: made, proved, injected, turned under load, and turned on after a kill -9."""

from __future__ import annotations

import datetime
import ipaddress
import json
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from installation import Installation

from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.secrets import SecretLine

sys.path.insert(0, str(Path(__file__).parents[1] / "protection" / "rotators"))
from owners import Llm

pytestmark = pytest.mark.system
OVERLAP = 2
POLICY = """@id("callers-may-call-the-provider")
permit (principal in Group::"callers", action == Action::"call", resource == Endpoint::"vg://example.local/endpoint/provider");
@id("dora-may-read-it")
permit (principal in Group::"key-readers", action == Action::"release-key", resource == System::"vg://example.local/system/secret.llm");
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def web_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost, chain and key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "provider.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return path


class Provider(Llm):
    """The provider of the rotators' tests, over TLS; it remembers which keys were shown at /v1/chat/completions and what else came along."""

    def __init__(self, certificate: Path) -> None:
        super().__init__()
        self.shown: list[str] = []
        self.refused = 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path != "/v1/chat/completions":
            return super().answer(method, path, headers, body)
        key = headers.get("authorization", "").removeprefix("Bearer ")
        good = any(key == known for _, known in self.accounts.values())
        self.shown.append(key)
        self.refused += not good
        return (200, b'{"choices":[]}') if good else (401, b"{}")


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Installation, Provider, int]]:
    folder = Path(tempfile.mkdtemp(prefix="vgp", dir="/tmp"))
    folder.chmod(0o755)
    certificate = web_certificate(folder)
    certificate.chmod(0o644)
    provider, port = Provider(certificate), free_port()
    policy = folder / "provider.cedar"
    policy.write_text(POLICY)
    more = f"""
[[policies]]
path = "{policy}"

[[secrets]]
name = "llm"
rotator = "openai-service-account"
config = {{ url = "{provider.url}", project = "proj_1", ca_file = "{certificate}" }}
overlap_seconds = {OVERLAP}

[[egress]]
name = "provider"
zone = "serve"
prefix = "/llm"
upstream = "{provider.url}"
ca_file = "{certificate}"
secret = "llm"
routes = [{{ method = "POST", path = "/v1/chat/completions", action = "call" }}]
"""
    # a lease longer than a busy machine's start of the control plane: what lapses without one is not what is tested here
    house = Installation(more=more, lease=20)
    text = house.settings.read_text().replace(
        'plain_listen = "127.0.0.1:0"', f'plain_listen = "127.0.0.1:0"\negress_listen = "127.0.0.1:{port}"'
    )
    house.settings.write_text(text)
    with house:
        yield house, provider, port
    provider.close()
    shutil.rmtree(folder)


def ask(house: Installation, port: int, tls: ssl.SSLContext, **headers: str) -> int:
    link = HTTPSConnection("127.0.0.1", port, context=tls, timeout=10)
    try:
        link.request("POST", "/llm/v1/chat/completions", json.dumps({"model": "m"}), {"content-type": "application/json", **headers})
        return link.getresponse().status
    finally:
        link.close()


def line(house: Installation) -> SecretLine:
    return house.client.get(tuple[SecretLine, ...], "/api/v1/secrets")[0]


def act(house: Installation, path: str, **body: Any) -> SecretLine:
    return house.client.post(SecretLine, f"/api/v1/secrets{path}", {"name": "llm", **body})


def test_from_the_first_key_over_a_turn_under_load_and_a_kill(place: tuple[Installation, Provider, int]) -> None:
    house, provider, port = place
    tls = house.caller("dora").tls
    assert ask(house, port, tls) >= 400 and provider.shown == []

    act(house, "", parts={"api_key": "admin-key"}, admin=True)
    act(house, "/rotate")
    house.until(lambda: line(house).state == "steady", 20, "the first key")
    house.until(lambda: ask(house, port, tls, authorization="Bearer stolen") == 200, 10, "the key is injected")
    first = provider.shown[-1]
    assert first in [key for _, key in provider.accounts.values()]

    stop, seen = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            seen.append(ask(house, port, tls))
            time.sleep(0.01)

    calling = threading.Thread(target=load)
    calling.start()
    try:
        act(house, "/rotate")
        house.until(lambda: line(house).version == 2, 20, "the second key")
        house.send("control", signal.SIGKILL)
        house.until(house.ready, 30, "the control plane is back")
        house.until(lambda: line(house).state == "steady", 30, "the old key is retired")
    finally:
        stop.set()
        calling.join()
    assert set(seen) == {200} and provider.refused == 0, (set(seen), provider.refused)
    assert first not in [key for _, key in provider.accounts.values()] and len(provider.accounts) == 1
    assert provider.shown[-1] != first and "stolen" not in provider.shown


def test_nobody_else_passes_and_nothing_of_the_key_is_written_down(place: tuple[Installation, Provider, int]) -> None:
    house, provider, port = place
    house.until(lambda: line(house).state == "steady", 30, "a key is in use")
    asked = len(provider.shown)
    assert ask(house, port, house.caller("stranger", ("visitors",)).tls) == 403
    assert len(provider.shown) == asked
    with pytest.raises(NotPermitted):
        house.client.post(dict[str, str], "/api/v1/secrets/release", {"name": "llm"})
    keys = [key.encode() for _, key in provider.accounts.values()]
    written = [path for path in house.data.rglob("*") if path.is_file() and path.stat().st_size < 50_000_000]
    for path in written:
        content = path.read_bytes()
        assert not any(b"Bearer " + key in content or b'"' + key + b'"' in content for key in keys), path
        assert b"admin-key" not in content, path
