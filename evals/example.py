"""The example (examples/digits), started as its demo starts it, with what this evaluation adds to its settings, and what is asked of it.

Added, because the example has none of it, and each named in a row: an endpoint that lists no bearer tokens, a partner's trust domain in a file,
a secret, a policy for runs, for exchanges in the chat's zone and for that secret, and a rate of administrative requests that does not hide refusals behind 429.
"""

from __future__ import annotations

import http.server
import importlib.util
import json
import socket
import ssl
import sys
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]

import defects  # noqa: E402
from installation import TRUST_DOMAIN, Caller, Installation  # noqa: E402
from provider import Hub  # noqa: E402
from provider import handler as provider_handler  # noqa: E402

from vouchgate import wiring  # noqa: E402
from vouchgate.edges.cli.client import Client  # noqa: E402
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity, RunOutcome, RunRequest  # noqa: E402
from vouchgate.vocabulary.layout import Layout, Users  # noqa: E402

LEASE_SECONDS = 10
PARTNER = "partner.example"
CALLBACK = "http://127.0.0.1/callback"
SECRET = "hf_" + "s" * 30
AUDITOR_UID, REVOKED_UID, ENDED_UID, ACTOR_UID = 58_801, 58_802, 58_803, 58_804
"""Unix users that are administrators of little, or no longer, and one that may act for callers."""
ADDED = (
    "endpoint `strict`",
    "[[federation]] `partner`",
    "[[secrets]] `x`",
    "[[oidc]] `staff`",
    "[[sts.clients]] `client`",
    "policy `access`",
    "[limits] api_requests_per_second",
)
"""What is not the example's own."""
MORE = """
[limits]
api_requests_per_second = 5000

[[endpoints]]
name = "strict"
zone = "serve"
upstream = "server:digits"
prefix = "/strict"
routes = [{{ method = "GET", path = "/v2/models/digits", action = "describe" }}]

[[policies]]
path = "{folder}/access.cedar"

[[federation]]
name = "partner"
trust_domain = "partner.example"
profile = "file"
bundle_file = "{folder}/partner.json"

[[oidc]]
name = "staff"
issuer = "https://localhost:{port}"
client_id = "vouchgate"
groups = {{ team = "callers" }}
ca_file = "{folder}/hub.pem"
private_network = true

[[sts.clients]]
id = "client"
redirects = ["http://127.0.0.1/callback"]

[[secrets]]
name = "x"
rotator = "hugging-face-token"
rotate_days = 0
config = {{ account = "example", url = "https://localhost:{port}", ca_file = "{folder}/hub.pem", private = "yes" }}
"""
POLICY = """// A run of these reads what it declared, and nothing else.
@id("access-runs-read-what-they-declared")
forbid (principal in Group::"runs-only", action, resource)
unless { context has declared && context.declared };

@id("access-exchange-in-the-chats-zone")
permit (principal in Group::"callers", action == Action::"exchange", resource is Endpoint in Zone::"agents")
when { context has depth && context.depth <= 2 };

@id("access-custodians-may-have-keys")
permit (principal in Group::"role:key-custodian", action == Action::"release-key", resource);
"""


def demo() -> ModuleType:
    """The example's own script."""
    spec = importlib.util.spec_from_file_location("digits_demo", ROOT / "examples" / "digits" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def example_routes() -> set[tuple[str, str]]:
    """(method, path) of every route that the example's settings list."""
    found = tomllib.loads((ROOT / "examples" / "digits" / "vouchgate.toml").read_text(encoding="utf-8"))
    return {(route["method"], route["path"]) for endpoint in found["endpoints"] for route in endpoint.get("routes", ())}


class Quiet(http.server.ThreadingHTTPServer):
    """A peer that hangs up is no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent."""


def serve_tls(handler: type[http.server.BaseHTTPRequestHandler], certificate: defects.Certificate) -> http.server.ThreadingHTTPServer:
    """A server on a free port of 127.0.0.1, in a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    server = Quiet(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Example(Installation):
    """`with Example() as house`; `command` replaces `vouchgate` (a sabotaged one)."""

    def __init__(self, command: list[str] | None = None) -> None:
        script = demo()
        script.LEASE_SECONDS = LEASE_SECONDS
        script.VOUCHGATE = command or script.VOUCHGATE
        self.partner = defects.Authority.root(f"spiffe://{PARTNER}")
        self.example = script.Installation(self._change)
        super().__init__(folder=self.example.folder)
        self.settings, self.data, self.output = self.example.settings, self.example.data, self.example.log
        self.process = self.example.process
        self.layout, self.client = Layout(self.data), Client(Layout(self.data).api_socket)

    def _change(self, text: str) -> str:
        """Runs before the example is started."""
        folder = Path(tomllib.loads(text)["data_dir"]).parent
        (folder / "access.cedar").write_text(POLICY, encoding="utf-8")
        (folder / "partner.json").write_text(json.dumps(self.partner.bundle()), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            text = text.replace("[gateway]\n", f'[gateway]\nfederated_listen = "127.0.0.1:{free.getsockname()[1]}"\n')
        web = defects.Authority.root()
        (folder / "hub.pem").write_bytes(web.chain[0].public_bytes(serialization.Encoding.PEM))
        hub = Hub()
        self.hub = serve_tls(provider_handler(hub), web.leaf(folder, "hub-server", [], host="localhost"))
        hub.origin = f"https://localhost:{self.hub.server_port}"
        text = text.replace("[sts]\n", "[sts]\nrequests_per_second = 500\n")
        return text + MORE.format(folder=folder, port=self.hub.server_port)

    def start(self, **_: Any) -> Installation:
        """It was started by the example's script."""
        self.until_ready()
        return self

    def close(self) -> None:
        """As the example's script ends it."""
        self.example.end()
        self.hub.shutdown()
        self.hub.server_close()

    @property
    def sts(self) -> tuple[str, int]:
        """Where the token service listens."""
        host, _, port = json.loads((self.data / "vouchgate.json").read_text())["sts"].rpartition(":")
        return host, int(port)

    def authority(self, caller: Caller) -> defects.Authority:
        """Our own issuer with its key, as a thief of the signer's folder would have it: only names are wrong in what it signs here."""
        return defects.Authority.of_chain(caller.certificate, sorted((self.layout.signer / "keys").glob("*.key")))

    def jwt_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that signs tokens, taken like `authority`'s."""
        key = serialization.load_der_private_key((self.layout.signer / "keys" / "jwt.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def issue(self, kind: str, name: str, audience: str, *, groups: tuple[str, ...] | None = None, ttl: int = 0, run: str = "") -> str:
        """A JWT-SVID."""
        asked = IdentityRequest(kind=kind, zone="serve", name=name, groups=groups, form="jwt", audience=audience, ttl_seconds=ttl, run=run)
        return self.client.post(IssuedIdentity, "/api/v1/identities", asked).token

    @property
    def users(self) -> Users:
        """Which uid each process has."""
        return wiring.load_installation(self.data).users

    @property
    def server_uid(self) -> int:
        """Of the first model server."""
        return self.users.server(0)

    def administer(self, uid: int, *roles: str, expires_at: int = 0) -> str:
        """Another administrator; its name."""
        selector = {"type": "unix:uid", "value": str(uid)}
        asked = {"kind": "person", "zone": "system", "name": f"uid-{uid}", "groups": list(roles), "selectors": [selector]}
        asked |= {"expires_at": expires_at} if expires_at else {}
        return str(self.client.post(dict, "/api/v1/registrations", asked)["principal"])

    def bring_secret(self) -> None:
        """The one secret, proved and in use."""
        self.client.post(dict, "/api/v1/secrets", {"name": "x", "parts": {"token": SECRET}})
        self.until(lambda: self.client.get(list, "/api/v1/secrets")[0]["version"], 20, "the secret did not come into use")

    def befriend(self, name: str) -> None:
        """A registration of ours that stands for a partner's workload."""
        selector = {"type": "federated:spiffe_id", "value": f"spiffe://{PARTNER}/service/{name}"}
        asked = {"kind": "service", "zone": "federated-partner", "name": name, "groups": ["callers"], "selectors": [selector]}
        self.client.post(dict, "/api/v1/registrations", asked)

    def digest(self) -> str:
        """Of the model that is served."""
        found = self.client.get(list, "/api/v1/endpoints")
        return str(next(one["endpoint"]["model_digest"] for one in found if one["endpoint"]["id"].endswith("/digits")))

    def begin(self, principal: str, inputs: tuple[str, ...] = ()) -> str:
        """A run."""
        return self.client.post(RunOutcome, "/api/v1/runs", RunRequest(principal=principal, stage="evaluate", inputs=inputs)).run.id

    def of_run(self, name: str, run: str) -> Caller:
        """A certificate that is bound to a run."""
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        asked = IdentityRequest(kind="job", zone="serve", name=name, form="x509", spki=spki, run=run)
        issued = self.client.post(IssuedIdentity, "/api/v1/identities", asked)
        certificate, private = self.folder / f"{run}.pem", self.folder / f"{run}.key"
        certificate.write_text(issued.certificates)
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return Caller(name, issued.principal, issued.credential_id, certificate, private, self.tls(certificate, private))


@dataclass(frozen=True)
class Listener:
    """One of the gateway's listeners."""

    name: str
    address: tuple[str, int]
    routes: str


__all__ = ["TRUST_DOMAIN", "Example", "Listener"]
