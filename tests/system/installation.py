"""One whole installation as a user starts it: `vouchgate up` on a settings file of its own, on free ports, in a short temporary folder.

    with Installation(isolate="auto", lease=2) as house:
        alice = house.caller("alice")
        assert house.infer(alice).status == 200
        house.send("control", signal.SIGKILL)
        house.until(lambda: house.infer(alice).status == 200, 20)

Rules
1. Everything goes the way a user goes: settings file, `vouchgate up`, the API's socket, TLS to the gateway.
2. The tree that was started here, and nothing else, is ended: by Ctrl-C, then each process of it by its id.
3. Processes are found by their parent, not by their name.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.edges.cli.client import Client
from vouchgate.vocabulary.answers import (
    AdoptOutcome,
    AdoptRequest,
    Approved,
    AuditPage,
    AuditReport,
    ImportOutcome,
    Readiness,
    RevokeOutcome,
    RevokeRequest,
    Status,
    WrapOutcome,
    WrapRequest,
)
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "digits"
MODEL = ROOT / "build" / "digits" / "model.onnx"
TRUST_DOMAIN = "example.local"
START_SECONDS = 40.0
"""Two cores shared with other tests; the product's own goal is 5 s."""
STOP_SECONDS = 15.0
PIXELS = [0.0] * 64
INFER = {"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": PIXELS}]}
INFER_PATH = "/v2/models/digits/infer"
CHAT_PATH = "/v1/chat/completions"
CORE = ("signer", "witness", "control", "pdp", "gateway", "tailer")
SERVERS = ("digits", "chat")

SETTINGS = """trust_domain = "example.local"
data_dir = "{data}"
root_dir = "{root}"
solo = true
{top}

[gateway]
listen = "127.0.0.1:0"
plain_listen = "127.0.0.1:0"

[console]
listen = "127.0.0.1:0"

[processes]
isolate = "{isolate}"

[limits]
api_requests_per_second = 5000

[zones.serve]
lease_seconds = {lease}

[zones.agents]
lease_seconds = {lease}

[[policies]]
path = "{policy}"

[[endpoints]]
name = "digits"
zone = "serve"
command = ["{{python}}", "{example}/model_server.py", "--model", "{{model}}", "--name", "digits", "--fd", "{{fd}}", "--allow-uid", "{{gateway_uid}}"]
model = "{model}"
bearer = true
routes = [
  {{ method = "POST", path = "/v2/models/digits/infer", action = "infer" }},
  {{ method = "GET", path = "/v2/models/digits", action = "describe" }},
]

[[endpoints]]
name = "chat"
zone = "agents"
command = ["{{python}}", "{example}/chat_server.py", "--fd", "{{fd}}", "--allow-uid", "{{gateway_uid}}"]
bearer = true
model_in_body = true
models = {{ "tiny-1" = "tiny-1", "tiny-2" = "tiny-2" }}
routes = [{{ method = "POST", path = "/v1/chat/completions", action = "chat", streams = true }}]

[[endpoints]]
name = "tiny-1"
zone = "agents"
upstream = "server:chat"

[[endpoints]]
name = "tiny-2"
zone = "agents"
upstream = "server:chat"
{more}
"""


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where nothing did."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> dict[str, Any]:
        """The body as JSON, or nothing."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.body)
            if isinstance(found, dict):
                return found
        return {}


@dataclass(frozen=True)
class Caller:
    """An identity with its key, as its holder keeps it."""

    name: str
    principal: str
    credential_id: str
    certificate: Path
    key: Path
    tls: ssl.SSLContext


class Installation:
    """See the module's text."""

    def __init__(
        self, *, isolate: str = "auto", lease: int = 2, top: str = "", more: str = "", folder: Path | None = None, model: Path = MODEL
    ) -> None:
        self.made = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
        self.data = self.folder / "d"
        self.layout = Layout(self.data)
        self.settings = self.folder / "v.toml"
        self.settings.write_text(
            SETTINGS.format(
                data=self.data,
                root=self.folder / "r",
                isolate=isolate,
                lease=lease,
                example=EXAMPLE,
                model=model,
                policy=EXAMPLE / "digits.cedar",
                top=top,
                more=more,
            )
        )
        self.client = Client(self.layout.api_socket)
        self.process: subprocess.Popen[bytes] | None = None
        self.output = self.folder / "up.log"
        self._callers = 0
        self._seen: dict[int, str] = {}
        self._bundle = self.folder / "bundle.pem"
        self.gateway = self.plain = ("", 0)

    # -- life

    def start(self, *, prefix: tuple[str, ...] = (), ready: bool = True) -> Installation:
        """`vouchgate up`, until it says that it is ready."""
        command = [*prefix, str(Path(sys.executable).with_name("vouchgate")), "up", "--config", str(self.settings)]
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, start_new_session=True
            )
        if ready:
            self.until_ready()
        return self

    def until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until the control plane says ready, and read where things listen."""

        def ready() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"`vouchgate up` ended with {self.process.returncode}:\n{self.said()}\n{self.logged()}")
            return self.ready()

        self.until(ready, seconds, "the installation did not get ready")
        self.until(lambda: b"Ctrl-C ends" in self.output.read_bytes(), seconds, "`up` did not announce itself")
        status = self.client.get(Status, "/api/v1/status")
        self.gateway, self.plain = _address(status.gateway), _address(status.plain)

    def ready(self) -> bool:
        """The control plane's own word on everything."""
        try:
            return self.client.get(Readiness, "/readyz").ready
        except VouchgateError:
            return False

    def said(self) -> str:
        """What `up` printed."""
        return self.output.read_text("utf-8", "replace")

    def logged(self, name: str = "") -> str:
        """The end of the logs."""
        found = []
        for path in sorted(self.layout.logs.glob(f"{name or '*'}.jsonl")):
            found.append(f"-- {path.name}\n{path.read_text('utf-8', 'replace')[-1500:]}")
        return "\n".join(found)

    def stop(self, how: int = signal.SIGINT, seconds: float = STOP_SECONDS) -> float:
        """End the tree by a signal to its first process; seconds until nothing of it was left."""
        assert self.process is not None
        began, pids = time.monotonic(), [self.process.pid, *self.pids()]
        if self.process.poll() is None:
            self.process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() - began < seconds:
            time.sleep(0.01)
        took = time.monotonic() - began
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process, self._seen = None, {}
        assert not left, f"{len(left)} processes of the tree outlived it by {seconds} s"
        return took

    def close(self) -> None:
        """End whatever runs, and remove the folder."""
        if self.process is not None:
            for pid in [self.process.pid, *self.pids()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            try:
                self.stop()
            finally:
                self._remove()
        else:
            self._remove()

    def _remove(self) -> None:
        if self.made:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Installation:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def until(check: Callable[[], Any], seconds: float, what: str = "it did not happen", pause: float = 0.02) -> float:
        """Ask again until it is true; seconds that it took."""
        began = time.monotonic()
        while not check():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"{what} within {seconds} s")
            time.sleep(pause)
        return time.monotonic() - began

    # -- processes

    def processes(self) -> dict[str, int]:
        """Name -> pid of the supervisor's children."""
        assert self.process is not None
        found = {}
        for pid in _children(self.process.pid):
            name = _role(_argv(pid))
            if name:
                found[name] = pid
        return found

    def pids(self) -> list[int]:
        """Every descendant."""
        assert self.process is not None
        waiting, found = [self.process.pid], []
        while waiting:
            new = _children(waiting.pop())
            found += new
            waiting += new
        return found

    def send(self, name: str, number: int) -> int:
        """Signal one process of the tree; its pid."""
        assert self.process is not None
        pid = self.process.pid if name == "supervisor" else self.processes()[name]
        os.kill(pid, number)
        return pid

    # -- acts

    def caller(self, name: str = "alice", groups: tuple[str, ...] | None = ("callers",), *, kind: str = "service", ttl: int = 0) -> Caller:
        """Register and issue a certificate for a key made here."""
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        asked = IdentityRequest(kind=kind, zone="serve", name=name, groups=groups, form="x509", spki=spki, ttl_seconds=ttl)
        issued = self.client.post(IssuedIdentity, "/api/v1/identities", asked)
        self._callers += 1
        certificate, private = self.folder / f"{name}-{self._callers}.pem", self.folder / f"{name}-{self._callers}.key"
        certificate.write_text(issued.certificates)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(pem)
        self._bundle.write_text(issued.bundle)
        return Caller(name, issued.principal, issued.credential_id, certificate, private, self.tls(certificate, private))

    def token(self, name: str = "alice", endpoint: str = "digits", ttl: int = 0) -> str:
        """A JWT-SVID."""
        audience = f"vg://{TRUST_DOMAIN}/endpoint/{endpoint}"
        asked = IdentityRequest(kind="service", zone="serve", name=name, groups=None, form="jwt", audience=audience, ttl_seconds=ttl)
        return self.client.post(IssuedIdentity, "/api/v1/identities", asked).token

    def tls(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """A client's context; without a certificate, an anonymous one's. There after the first caller."""
        context = ssl.create_default_context(cafile=str(self._bundle))
        context.check_hostname = False
        if certificate:
            context.load_cert_chain(certificate, key)
        return context

    def revoke(self, target: str, kind: str = "") -> RevokeOutcome:
        """Withdraw; the answer is the acknowledgement."""
        return self.client.post(RevokeOutcome, "/api/v1/revoke", RevokeRequest(kind=kind, target=target, reason="test"))  # type: ignore[arg-type]

    def undo(self, revocation: str) -> Approved:
        """Undo a revocation."""
        return self.client.post(Approved, "/api/v1/unrevoke", {"id": revocation, "reason": "test"})

    def adopt(self, zone: str, to: str) -> AdoptOutcome:
        """Move a zone or plan it."""
        return self.client.post(AdoptOutcome, "/api/v1/adopt", AdoptRequest(zone=zone, to=to, reason="test"))  # type: ignore[arg-type]

    def wrap(self, name: str, upstream: str, zone: str = "") -> WrapOutcome:
        """Put a legacy server behind the gateway."""
        return self.client.post(WrapOutcome, "/api/v1/wrap", WrapRequest(name=name, upstream=upstream, zone=zone))

    def take_in(self, path: Path) -> ImportOutcome:
        """`vouchgate import`."""
        with path.open("rb") as stream:
            return self.client.send_file(ImportOutcome, "/api/v1/artifacts", stream, path.stat().st_size, name=path.name, zone="serve")

    def status(self) -> Status:
        """The control plane's account."""
        return self.client.get(Status, "/api/v1/status")

    def entries(self, start: int = 0) -> list[Any]:
        """Every entry of the audit log from `start`."""
        found: list[Any] = []
        while True:
            page = self.client.get(AuditPage, "/api/v1/audit/entries", start=start + len(found), count=500)
            found += page.entries
            if len(page.entries) < 500:
                return found

    def audited(self) -> AuditReport:
        """Recompute the log."""
        return self.client.post(AuditReport, "/api/v1/audit/verify", {"against": ""}, timeout=120)

    def cli(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The command line against this installation."""
        command = [str(Path(sys.executable).with_name("vouchgate")), *arguments, "--config", str(self.settings)]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=timeout, cwd=self.folder, stdin=subprocess.DEVNULL
        )

    # -- calls

    def call(
        self,
        caller: Caller | None,
        path: str = INFER_PATH,
        *,
        method: str = "POST",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 5.0,
    ) -> Answer:
        """One request on a connection of its own; status 0 where the connection was refused, reset or silent."""
        content = json.dumps(INFER).encode() if body is None else body
        lines = {"host": "localhost", "content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in (lines | (headers or {})).items())
        return self.raw(caller, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content, timeout=timeout)

    def infer(self, caller: Caller | None, **more: Any) -> Answer:
        """The example's inference."""
        return self.call(caller, INFER_PATH, **more)

    def bearer(self, token: str, path: str = INFER_PATH, **more: Any) -> Answer:
        """A call that a token alone identifies."""
        return self.call(None, path, headers={"authorization": f"Bearer {token}"}, **more)

    def raw(self, caller: Caller | None, data: bytes, *, timeout: float = 5.0, plain: bool = False) -> Answer:
        """Bytes as they are; the first answer."""
        try:
            with self.connect(caller, timeout, plain=plain) as link:
                link.sendall(data)
                return read_answer(link)
        except (OSError, ValueError):
            return Answer(0)

    def connect(self, caller: Caller | None, timeout: float = 5.0, *, plain: bool = False) -> socket.socket:
        """A connection to the gateway, TLS finished."""
        sock = socket.create_connection(self.plain if plain else self.gateway, timeout)
        try:
            if plain:
                return sock
            return (caller.tls if caller else self.tls()).wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise


def read_answer(link: socket.socket) -> Answer:
    """One HTTP/1.1 answer: by its length, its chunks, or to the end. Raises OSError, ValueError."""
    with link.makefile("rb") as stream:
        first = stream.readline(65536).split(b" ", 2)
        if len(first) < 2:
            return Answer(0)
        headers: dict[str, str] = {}
        while (line := stream.readline(65536).strip()) and len(headers) < 200:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(_chunks(stream))
        elif "content-length" in headers:
            body = stream.read(int(headers["content-length"]))
        else:
            body = stream.read()
        return Answer(int(first[1]), headers, body)


def _chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline().split(b";")[0] or b"0", 16):
        yield stream.read(size)
        stream.readline()


def mine(entry: Any) -> dict[str, Any]:
    """vouchgate's own part of an OCSF entry."""
    found = entry.body.get("unmapped", {}).get("vouchgate", {})
    return found if isinstance(found, dict) else {}


def part(token: str, number: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a token."""
    text = token.split(".")[number]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition("//")[2].rpartition(":")
    return host, int(port)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += [int(one) for one in (task / "children").read_text().split()]
    return [one for one in found if _runs(one)]


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def _role(argv: list[str]) -> str:
    words = [word.rpartition(".")[2] for word in argv if word.startswith("vouchgate.edges.processes.")]
    if words:
        return words[0]
    if "--name" in argv and any(word.endswith("model_server.py") for word in argv):
        return argv[argv.index("--name") + 1]
    if any(word.endswith("chat_server.py") for word in argv):
        return "chat"
    return "gateway" if argv and "envoy" in Path(argv[0]).name else ""
