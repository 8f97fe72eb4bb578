"""vouchgate itself, as a user starts it: one `vouchgate up` on a settings file, everything else over its API.

Nothing is switched off for a measurement. One limit is raised, requests of one administrator, because one does here what many do in a
year, and so that a flood reaches what it floods. The model servers are the run's own delay server, reached over the same unix sockets as
the plain hop reaches them.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.load.client import PAYLOAD, Target, request
from benchmarks.load.credentials import client_context, write_key
from benchmarks.load.stack import INFER, Stack, free_port
from benchmarks.load.usage import tree
from vouchgate.edges.cli.client import Client
from vouchgate.identity.ca import spki_of
from vouchgate.vocabulary.answers import AuditPage, Readiness, Status
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout

TRUST_DOMAIN = "bench.local"
REGISTRAR_UID = 58_900
"""Under root, the principal that floods the control plane with registrations is another user than the responder, as in life."""
READY_SECONDS = 60.0
PAGE = 500
SETTINGS = """
trust_domain = "{domain}"
data_dir = "{data}"
root_dir = "{root}"
solo = true

[gateway]
listen = "127.0.0.1:{port}"
hosts = ["localhost", "127.0.0.1"]

[console]
listen = "127.0.0.1:{console}"

[limits]
api_requests_per_second = 5000
{limits}

[zones.serve]
mode = "enforce"

{administrators}
{endpoints}
[[policies]]
path = "{policy}"
"""
ADMINISTRATOR = '[[administrators]]\nname = "{name}"\nuid = {uid}\nroles = [{roles}]\n'
ENDPOINT = """
[[endpoints]]
name = "{name}"
zone = "serve"
upstream = "unix:{upstream}"
prefix = "/{name}"
bearer = true
max_stream_seconds = {stream_seconds}
{more}
[[endpoints.routes]]
method = "POST"
path = "{path}"
action = "{action}"
streams = {streams}
"""
POLICY = """
@id("bench-callers-may-use")
permit (principal in Group::"callers", action in [Action::"infer", Action::"chat"], resource is Endpoint in Zone::"serve")
when { context.risk < 60 };
"""
STREAM_SECONDS = 5
"""`max_stream_seconds` of the streaming endpoint, so that a run does not wait for the default of 120 s."""
CHAT = "/v1/chat/completions"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An identity with a key, as its holder keeps it."""

    principal: str
    credential_id: str
    certificate: str
    key: str
    context: ssl.SSLContext


class Product:
    """One installation, running."""

    def __init__(self, stack: Stack, models: Mapping[str, str], *, limits: str = "", more: str = "") -> None:
        """`limits`: more lines of the table [limits]; `more`: more tables."""
        self.stack, self._limits, self._more = stack, limits, more
        self.folder = stack.directory / "vg"
        self.folder.mkdir(mode=0o711)
        self.port = free_port()
        self.layout = Layout(self.folder / "data")
        self._settings = self.folder / "vouchgate.toml"
        self._settings.write_text(self._text(models))
        self._process: subprocess.Popen[bytes] | None = None
        self._counted, self._allowed = 0, 0
        self.ready_seconds = 0.0
        self.client = Client(self.layout.api_socket)
        self._bundle = self.folder / "bundle.pem"

    def _text(self, models: Mapping[str, str]) -> str:
        policy = self.folder / "bench.cedar"
        policy.write_text(POLICY)
        own = [("bench", os.getuid(), '"registrar", "responder", "auditor"')]
        if os.geteuid() == 0:
            own.append(("busy", REGISTRAR_UID, '"registrar"'))
        endpoints = [_endpoint(f"d{delay}", path) for delay, path in models.items()]
        endpoints += [_endpoint(f"e{delay}", path, model=f"d{delay}") for delay, path in models.items()]
        endpoints.append(_endpoint("chat", models["0"], path=CHAT, action="chat", streams=True, stream_seconds=STREAM_SECONDS))
        return SETTINGS.format(
            domain=TRUST_DOMAIN,
            data=self.folder / "data",
            root=self.folder / "root",
            port=self.port,
            console=free_port(),
            policy=policy,
            limits=self._limits,
            administrators="\n".join(ADMINISTRATOR.format(name=name, uid=uid, roles=roles) for name, uid, roles in own),
            endpoints="\n".join(endpoints) + self._more,
        )

    def start(self) -> Product:
        """Start it; ready is when `/readyz` says so. Raises `NotReady`."""
        began = time.monotonic()
        command = [str(Path(sys.executable).with_name("vouchgate")), "up", "--config", str(self._settings)]
        self._process = self.stack.start("vouchgate", command)
        self.stack.wait("vouchgate", self._ready, READY_SECONDS)
        self.ready_seconds = time.monotonic() - began
        del self.stack.roles["vouchgate"]
        for pid, argv in tree(self._process.pid).items():
            self.stack.roles.setdefault(_role(argv), []).append(pid)
        return self

    def _ready(self) -> bool:
        try:
            return self.client.get(Readiness, "/readyz").ready
        except VouchgateError:
            return False

    @property
    def pids(self) -> list[int]:
        """Every process of the tree."""
        assert self._process is not None
        return list(tree(self._process.pid))

    def status(self) -> Status:
        """The control plane's own account."""
        return self.client.get(Status, "/api/v1/status")

    def caller(self, name: str, groups: tuple[str, ...] | None) -> Caller:
        """An X.509-SVID with a fresh key; `groups` registers, None takes the registration that is there."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self._issue(name, form="x509", spki=spki_of(key.public_key()), groups=groups)
        certificate, private = self.folder / f"{issued.credential_id}.pem", self.folder / f"{issued.credential_id}.key"
        certificate.write_text(issued.certificates)
        write_key(private, key)
        self._bundle.write_text(issued.bundle)
        context = client_context(str(self._bundle), str(certificate), str(private))
        return Caller(
            principal=issued.principal, credential_id=issued.credential_id, certificate=str(certificate), key=str(private), context=context
        )

    def token(self, name: str, endpoint: str) -> str:
        """A JWT-SVID for one endpoint."""
        return self._issue(name, form="jwt", audience=endpoint, groups=None).token

    def _issue(self, name: str, **fields: object) -> IssuedIdentity:
        asked = IdentityRequest(kind="service", zone="serve", name=name, **fields)  # type: ignore[arg-type]
        return self.client.post(IssuedIdentity, "/api/v1/identities", asked)

    @property
    def anonymous(self) -> ssl.SSLContext:
        """TLS without a certificate."""
        return client_context(str(self._bundle))

    @property
    def bundle(self) -> str:
        """File of the trust domain's CAs; there after the first caller."""
        return str(self._bundle)

    def recorded(self, principal: str) -> int:
        """How many of a caller's allowed calls the audit log holds: its entries are read, no counter is believed."""
        while True:
            page = self.client.get(AuditPage, "/api/v1/audit/entries", start=self._counted, count=PAGE)
            for entry in page.entries:
                seen = entry.body.get("unmapped", {}).get("vouchgate", {})
                ours = entry.kind == "request-end" and isinstance(seen, dict)
                self._allowed += ours and seen.get("principal") == principal and seen.get("outcome") == "allowed"
            self._counted += len(page.entries)
            if len(page.entries) < PAGE:
                return self._allowed


def _endpoint(
    name: str, upstream: str, *, model: str = "", path: str = INFER, action: str = "infer", streams: bool = False, stream_seconds: int = 120
) -> str:
    more = f'model_in_body = true\nmodels = {{ digits = "{model}" }}' if model else ""
    told = "true" if streams else "false"
    return ENDPOINT.format(name=name, upstream=upstream, stream_seconds=stream_seconds, more=more, path=path, action=action, streams=told)


def _role(argv: str) -> str:
    """A short name for a process of the tree by its command line: the program's name, or the module that Python runs."""
    program, _, rest = argv.partition(" ")
    words = {Path(program).name, *(word.rpartition(".")[2] for word in rest.split() if word.startswith("vouchgate."))}
    known = words & {"envoy", "tailer", "witness", "signer", "pdp", "control", "scanner"}
    return f"vouchgate {known.pop()}" if known else "vouchgate supervisor"


NAMED_PAYLOAD = PAYLOAD.replace(b'{"id":"bench"', b'{"model":"digits","id":"bench"', 1)
"""The same inference with the member that names the model, for endpoints that read it."""


def everything_on(product: Product, caller: Caller, delay: str) -> Target:
    """Certificate and token at once, the model named in the body. A later feature that is on by default belongs here."""
    bearer = {"authorization": f"Bearer {product.token('allowed', f'e{delay}')}"}
    data = request(f"/e{delay}{INFER}", headers=bearer, body=NAMED_PAYLOAD)
    return Target(name=f"everything/{delay}", address=("127.0.0.1", product.port), request=data, tls=caller.context)


def offer_rows(product: Product, delays: Mapping[str, str]) -> None:
    """Put the rows' targets, guards and record into the stack."""
    stack, address = product.stack, ("127.0.0.1", product.port)
    allowed, denied = product.caller("allowed", ("callers",)), product.caller("denied", ())

    def renew() -> None:
        for delay in delays:
            path, name = f"/d{delay}{INFER}", f"jwt/{delay}"
            bearer = {"authorization": f"Bearer {product.token('allowed', f'd{delay}')}"}
            stack.targets[name] = Target(name=name, address=address, request=request(path, headers=bearer), tls=product.anonymous)
            stack.targets[f"everything/{delay}"] = everything_on(product, allowed, delay)

    for delay in delays:
        name = f"x509/{delay}"
        stack.targets[name] = Target(name=name, address=address, request=request(f"/d{delay}{INFER}"), tls=allowed.context)
    guard: Callable[[str, ssl.SSLContext], Target] = lambda who, tls: Target(  # noqa: E731
        name=f"guard {who}", address=address, request=request(f"/d0{INFER}"), tls=tls
    )
    stack.guards["vouchgate"] = (
        guard("allowed", allowed.context),
        guard("denied", denied.context),
        guard("anonymous", product.anonymous),
    )
    stack.recorded["vouchgate"] = lambda: product.recorded(allowed.principal)
    stack.renewals.append(renew)
    stack.wait("vouchgate", lambda: stack.probe("vouchgate").allowed == 200)
