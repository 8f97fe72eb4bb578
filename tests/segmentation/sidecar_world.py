"""Services of two tenants behind real sidecars that the exporter wrote: each Envoy asks a small SDS server of its own for its certificate.

with Tenant("a.local") as one: one.call("train", "digits") == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

sys.path.insert(0, str(Path(__file__).parents[1] / "edges" / "envoy"))

from gateway_harness import Authority, Upstream, free_port

from vouchgate.edges.envoy.bootstrap import envoy_binary
from vouchgate.segmentation.catalog import export
from vouchgate.segmentation.plan import Flow, Gateway, Plan, Service, Sidecars
from vouchgate.vocabulary.places import Endpoint, Route, Zone

INFER = "/v2/models/digits/infer"
ROUTES = (
    Route(method="POST", path="/v2/models/{name}/infer", action="infer"),
    Route(method="GET", path="/v2/models/digits", action="describe"),
)
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
ZONES = ("train", "serve", "data")
FLOWS = (Flow(source="train", target="serve", actions=("infer",)), Flow(source="serve", target="data"))
SERVICES = {"digits": "serve", "lake": "data"}
DECLARED = {("train", "digits"), ("serve", "lake")}


class Secrets:
    """What the agent says to one Envoy, as edges/spiffe/sds.py does: whole state, once."""

    def __init__(self, chain: str, key: str, roots: str) -> None:
        certificate = common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(inline_string=chain), private_key=base_pb2.DataSource(inline_string=key)
        )
        trusted = common_pb2.CertificateValidationContext(trusted_ca=base_pb2.DataSource(inline_string=roots))
        self.made = {
            "default": secret_pb2.Secret(name="default", tls_certificate=certificate),
            "ROOTCA": secret_pb2.Secret(name="ROOTCA", validation_context=trusted),
        }

    def __mapping__(self) -> dict[str, Handler]:
        kinds = discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
        return {"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets": Handler(self._stream, Cardinality.STREAM_STREAM, *kinds)}

    async def _stream(self, stream: Any) -> None:
        request = await stream.recv_message()
        response = discovery_pb2.DiscoveryResponse(type_url=SECRET, version_info="1", nonce="1")
        for name in request.resource_names:
            response.resources.append(any_pb2.Any(type_url=SECRET, value=self.made[name].SerializeToString()))
        await stream.send_message(response)
        while await stream.recv_message() is not None:
            pass


def plan(td: str, folder: Path, ports: dict[str, int], **more: Any) -> Plan:
    """Two services, two flows."""
    endpoints = tuple(
        Endpoint(id=f"vg://{td}/endpoint/{name}", trust_domain=td, zone=zone, upstream=f"unix:{folder}/{name}.up", routes=ROUTES)
        for name, zone in SERVICES.items()
    )
    services = tuple(
        Service(
            endpoint=f"vg://{td}/endpoint/{name}", principal=f"spiffe://{td}/server/{zone}/{name}", listen=f"tcp:127.0.0.1:{ports[name]}"
        )
        for name, zone in SERVICES.items()
    )
    made = {
        "trust_domain": td,
        "zones": tuple(Zone(name=zone, trust_domain=td) for zone in ZONES),
        "endpoints": endpoints,
        "flows": FLOWS,
        "gateway": Gateway(namespace="vouchgate", labels={"app": "gateway"}, ports=(8443,)),
        "sidecars": Sidecars(services=services, run_dir=str(folder), agent_socket=f"{folder}/agent.sock"),
    }
    return Plan(**(made | more))


class Tenant:
    """See the module's text."""

    def __init__(self, td: str) -> None:
        self.td, self.ca = td, Authority(td)
        self.folder = Path(tempfile.mkdtemp(prefix="vgs", dir="/tmp"))
        self.ports = {name: free_port() for name in SERVICES}
        self.plan = plan(td, self.folder, self.ports)
        self.running: list[subprocess.Popen[bytes]] = []
        self.agents: list[Server] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.upstreams = {name: Upstream(str(self.folder / f"{name}.up")) for name in SERVICES}

    def __enter__(self) -> Tenant:
        try:
            return self._begin()
        except BaseException:
            self.__exit__()
            raise

    def _begin(self) -> Tenant:
        self.thread.start()
        for upstream in self.upstreams.values():
            self.do(upstream.serve())
        for name, content in export("envoy", self.plan).documents.items():
            self.start(name.removesuffix(".json"), json.loads(content))
        for port in self.ports.values():
            until(lambda port=port: listens(port))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.kill()
            process.wait(5)
        if self.thread.is_alive():
            self.do(self._end())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(5)
            self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _end(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def start(self, name: str, document: dict[str, Any]) -> None:
        """One Envoy, with an agent that knows it by its socket."""
        kind, _, rest = name.partition("-")
        who = f"spiffe://{self.td}/server/{SERVICES[rest]}/{rest}" if kind == "sidecar" else f"spiffe://{self.td}/job/{rest}/caller"
        chain, key, _ = self.ca.issue(who)
        agent = self.folder / f"{name}.agent"
        self.do(self._agent(Secrets(chain, key, self.ca.pem), agent))
        text = json.dumps(document).replace(f"{self.folder}/agent.sock", str(agent))
        path = self.folder / f"{name}.json"
        path.write_text(text)
        flags = ("--reject-unknown-dynamic-fields", "--disable-hot-restart", "--concurrency", "1", "-l", "error")
        flush = ("--file-flush-min-size-kb", "0", "--file-flush-interval-msec", "100")
        command = [str(envoy_binary()), "-c", str(path), *flags, *flush]
        self.running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(self.folder / f"{name}.err").open("wb")))

    async def _agent(self, secrets: Secrets, path: Path) -> None:
        self.agents.append(Server([secrets]))
        await self.agents[-1].start(path=str(path))

    def context(self, *names: str, ca: Authority | None = None, seconds: float = 3600) -> ssl.SSLContext:
        """A client with a certificate of these names."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        if names:
            chain, key, _ = (ca or self.ca).issue(*names, seconds=seconds)
            path = self.folder / "client.pem"
            path.write_text(chain + key)
            made.load_cert_chain(path)
        return made

    def caller(self, zone: str) -> str:
        return f"spiffe://{self.td}/job/{zone}/someone"


def request(
    port: int, tls: ssl.SSLContext | None, *, method: str = "POST", path: str = INFER, headers: dict[str, str] | None = None
) -> int:
    """The status; 0 where the connection was refused or cut."""
    made = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=tls)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    )
    return _ask(made, method, path, headers)


def by_pipe(path: Path, target: str = INFER, headers: dict[str, str] | None = None) -> int:
    made = http.client.HTTPConnection("service", timeout=5)
    made.sock = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        made.sock.connect(str(path))
        return _ask(made, "POST", target, headers)
    made.close()
    return 0


def _ask(made: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str] | None) -> int:
    try:
        made.request(method, path, body=b"{}" if method == "POST" else None, headers=headers or {})
        answer = made.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        made.close()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def until(check: Any, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
