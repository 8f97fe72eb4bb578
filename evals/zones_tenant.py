"""One tenant for the evaluation of zones: an installation with a service, a dataset and a key in every zone of the lifecycle, and a worker in each.

Every worker's role lets it do everything everywhere, as roles of grown systems do; what keeps it in its zone are the declared crossings alone.
Each zone's server knows a word of its own: whoever gets the word got in. `bare` is the same servers on loopback hosts of their own without anything
in front, which is what enforcement off means for whoever goes around the gateway.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]

import defects  # noqa: E402
from example import serve_tls  # noqa: E402
from installation import Answer, Caller, Installation  # noqa: E402
from provider import Hub  # noqa: E402
from provider import handler as provider_handler  # noqa: E402

from vouchgate.edges.cli.client import Client  # noqa: E402
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity  # noqa: E402
from vouchgate.vocabulary.errors import VouchgateError  # noqa: E402

ZONES = ("ingest", "prepare", "train", "evaluate", "register", "serve", "agents")
FIRST_UID = 58_900
"""Unix users of the workers."""
CALLS = {
    ("prepare", "ingest"), ("train", "prepare"), ("evaluate", "register"), ("train", "register"), ("serve", "register"), ("agents", "serve"),
}  # fmt: skip
"""(from, to): a call of the service."""
READS = {("prepare", "ingest"), ("train", "prepare"), ("evaluate", "prepare"), ("serve", "register")}
"""(from, to): reading the dataset."""
KEYS = {("serve", "register"), ("train", "prepare")}
"""(from, to): having the key."""

HEAD = """trust_domain = "{td}"
data_dir = "{folder}/d"
root_dir = "{folder}/r"
solo = true

[gateway]
listen = "127.0.0.1:0"
plain_listen = "127.0.0.1:0"

[console]
listen = ""

[limits]
api_requests_per_second = 5000

[[policies]]
path = "{folder}/roles.cedar"
"""
ROLES = """@id("workers-may-call") permit (principal in Group::"workers", action == Action::"infer", resource is Endpoint);
@id("workers-may-read") permit (principal in Group::"workers", action == Action::"read", resource is Dataset);
@id("workers-may-have-keys") permit (principal in Group::"workers", action == Action::"release-key", resource);
"""
ZONE = """
[zones.{zone}]

[[endpoints]]
name = "service-{zone}"
zone = "{zone}"
command = ["{{python}}", "{server}", "--word", "{word}", "--fd", "{{fd}}", "--allow-uid", "{{gateway_uid}}"]
bearer = true
routes = [{{ method = "POST", path = "/{zone}/service", action = "infer" }}]

[[endpoints]]
name = "data-{zone}"
zone = "{zone}"
upstream = "server:service-{zone}"
bearer = true
asset = "dataset/set-{zone}"
routes = [{{ method = "GET", path = "/{zone}/data", action = "read" }}]

[[assets]]
name = "set-{zone}"
kind = "dataset"
zones = ["{zone}"]

[[secrets]]
name = "key-{zone}"
rotator = "hugging-face-token"
rotate_days = 0
config = {{ account = "example", url = "https://localhost:{hub}", ca_file = "{folder}/hub.pem", private = "yes" }}

[[assets]]
name = "key-{zone}"
kind = "key"
zones = ["{zone}"]

[[identities]]
name = "worker"
kind = "service"
zone = "{zone}"
groups = ["workers"]
uid = {uid}
"""
CROSSING = '\n[[crossings]]\nfrom = "{source}"\nto = "{target}"\nactions = ["{action}"]\nkinds = ["{kind}"]\n'


def crossings() -> str:
    """The declared ones as settings."""
    listed = [(CALLS, "infer", "endpoint"), (READS, "read", "dataset"), (KEYS, "release-key", "key")]
    made = [
        CROSSING.format(source=one, target=other, action=action, kind=kind)
        for pairs, action, kind in listed
        for one, other in sorted(pairs)
    ]
    return "".join(made)


@dataclass(frozen=True)
class Worker:
    """A compromised identity: its certificate, its key, its unix user."""

    tenant: str
    zone: str
    uid: int
    caller: Caller


class Tenant(Installation):
    """`with Tenant("north.example", 0) as north`; with `held=False` nothing is declared, so zones hold nobody."""

    def __init__(self, td: str, number: int, *, held: bool = True, more: str = "") -> None:
        super().__init__()
        self.td, self.number, self.held = td, number, held
        self.words = {zone: f"{td}-{zone}-{secrets.token_hex(8)}" for zone in ZONES}
        self.folder.chmod(0o711)
        web = defects.Authority.root()
        (self.folder / "hub.pem").write_bytes(web.chain[0].public_bytes(serialization.Encoding.PEM))
        hub = Hub()
        self.hub = serve_tls(provider_handler(hub), web.leaf(self.folder, "hub-server", [], host="localhost"))
        hub.origin = f"https://localhost:{self.hub.server_port}"
        (self.folder / "roles.cedar").write_text(ROLES, encoding="utf-8")
        zones = [
            ZONE.format(zone=zone, server=ROOT / "evals" / "zones_server.py", word=self.words[zone], hub=self.hub.server_port, folder=self.folder,
                        uid=self.uid(zone))
            for zone in ZONES
        ]  # fmt: skip
        text = HEAD.format(td=td, folder=self.folder) + "".join(zones) + (crossings() if held else "") + more
        self.settings.write_text(text, encoding="utf-8")
        self.workers: dict[str, Worker] = {}
        self.bare: dict[str, tuple[str, int]] = {}
        self._bare: list[subprocess.Popen[bytes]] = []

    def uid(self, zone: str) -> int:
        """Of the worker of a zone."""
        return FIRST_UID + self.number * 20 + ZONES.index(zone)

    def key(self, zone: str) -> str:
        """What the zone's key is."""
        return f"hf_{self.words[zone].encode().hex()[:40]}"

    def furnish(self) -> None:
        """Keys are brought and proved, workers get their certificates."""
        for zone in ZONES:
            self.client.post(dict, "/api/v1/secrets", {"name": f"key-{zone}", "parts": {"token": self.key(zone)}})
        self.until(lambda: all(one["version"] for one in self.client.get(list, "/api/v1/secrets")), 60, "the keys did not come into use")
        for zone in ZONES:
            self.workers[zone] = Worker(self.td, zone, self.uid(zone), self._certified(zone))

    def _certified(self, zone: str) -> Caller:
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        asked = IdentityRequest(kind="service", zone=zone, name="worker", form="x509", spki=spki)
        issued = self.client.post(IssuedIdentity, "/api/v1/identities", asked)
        certificate, private = self.folder / f"{zone}.pem", self.folder / f"{zone}.key"
        certificate.write_text(issued.certificates)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(pem)
        self._bundle.write_text(issued.bundle)
        # a thief believes any server: that he is refused must be the gateway's doing
        return Caller("worker", issued.principal, issued.credential_id, certificate, private, defects.Certificate(certificate, private).tls)

    def jwt(self, zone: str, endpoint: str) -> str:
        """A token of the zone's worker for an endpoint of its own tenant."""
        audience = f"vg://{self.td}/endpoint/{endpoint}"
        asked = IdentityRequest(kind="service", zone=zone, name="worker", groups=None, form="jwt", audience=audience)
        return self.client.post(IssuedIdentity, "/api/v1/identities", asked).token

    def ask(self, zone: str, what: str, *, worker: Worker | None = None, headers: dict[str, str] | None = None) -> Answer:
        """A request through this tenant's gateway."""
        method = "POST" if what == "service" else "GET"
        body = b"{}" if method == "POST" else b""
        return self.call(worker.caller if worker else None, f"/{zone}/{what}", method=method, body=body, headers=headers)

    def beside(self) -> None:
        """The same servers without anything in front, each zone on a loopback host of its own."""
        for place, zone in enumerate(ZONES):
            host = f"127.{77 + self.number}.{place + 1}.1"
            with socket.create_server((host, 0)) as free:
                port = free.getsockname()[1]
            self.bare[zone] = (host, port)
            command = [sys.executable, str(ROOT / "evals" / "zones_server.py"), "--word", self.words[zone], "--tcp", f"{host}:{port}"]
            self._bare.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        end = time.monotonic() + 20
        for address in self.bare.values():
            while not _listens(address):
                if time.monotonic() > end:
                    raise RuntimeError(f"nothing listens on {address}")
                time.sleep(0.02)

    def close(self) -> None:
        """The servers too."""
        for process in self._bare:
            process.kill()
            process.wait(5)
        super().close()
        self.hub.shutdown()
        self.hub.server_close()


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except OSError:
        return False
    return True


def as_uid(uid: int, acts: Iterable[tuple[str, Callable[[], str]]]) -> dict[str, str]:
    """One child that becomes this uid and does them all; what each got, empty where it got nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            got = {name: _quietly(act) for name, act in acts}
            with os.fdopen(writing, "w") as stream:
                json.dump(got, stream)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return {str(name): str(got) for name, got in json.loads(text or "{}").items()}


def _quietly(act: Callable[[], str]) -> str:
    try:
        return act()
    except (OSError, VouchgateError, ValueError):
        return ""


def release(api: Path, name: str) -> str:
    """Ask a control plane for a key, as whoever this process is."""
    answer: dict[str, Any] = Client(api).post(dict, "/api/v1/secrets/release", {"name": name})
    return json.dumps(answer)


def over_unix(path: Path, target: str) -> str:
    """Past the gateway: the server's own socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(3)
        link.connect(str(path))
        return _asked(link, target)


def over_tcp(address: tuple[str, int], target: str) -> str:
    """Past where a gateway would be."""
    with socket.create_connection(address, 3) as link:
        return _asked(link, target)


def _asked(link: socket.socket, target: str) -> str:
    link.sendall(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    made = b""
    while piece := link.recv(65_536):
        made += piece
    return made.decode("latin-1")
