"""A trust domain with keys, one endpoint's map, and real servers: uvicorn in a thread, the control plane's frames in another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vouchgate.edges.processes.rpc_server import serve
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.jwtsvid import issue_jwt
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary.decisions import Grant
from vouchgate.vocabulary.leased import LeasedMap
from vouchgate.vocabulary.places import Route
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.wire import to_plain

TD = "test.local"
ENDPOINT = f"vg://{TD}/endpoint/digits"
ALICE = f"spiffe://{TD}/service/serving/alice"
BOB = f"spiffe://{TD}/service/serving/bob"
NOW = int(time.time()) * 1000
INFER = "/v2/models/digits/infer"


class Domain:
    """Keys, and what they sign."""

    def __init__(self) -> None:
        self.ca_key, self.jwt_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.ca_der = make_ca(TD, self.ca_key, now=NOW, days=30)
        self.ca = x509.load_der_x509_certificate(self.ca_der)
        self.bundle = write_jwks(make_bundle(TD, x509_authorities=(self.ca_der,), jwt_spkis=(spki_of(self.jwt_key.public_key()),)))

    def token(
        self, who: str = ALICE, *, audience: str = ENDPOINT, now: int = NOW, ttl: int = 300, jti: str = "token-0001", **more: str
    ) -> str:
        kid = key_id(spki_of(self.jwt_key.public_key()))
        return issue_jwt(who, audience, key=self.jwt_key, kid=kid, trust_domain=TD, now=now, ttl_seconds=ttl, jti=jti, **more).token

    def certificate(self, who: str = ALICE, *, now: int = NOW, dns: tuple[str, ...] = ()) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        issued = issue_x509(
            spki_of(key.public_key()), who, ca=self.ca, ca_key=self.ca_key, trust_domain=TD, now=now, ttl_seconds=3600, dns=dns
        )
        return issued.chain[0], key


@pytest.fixture(scope="session")
def domain() -> Domain:
    return Domain()


def grant(who: str = ALICE, **more: Any) -> Grant:
    fields: dict[str, Any] = {
        "id": f"g-{who[-5:]}", "decision_id": "d-1", "principal": who, "credential_kind": "jwt", "action": "infer", "resource": ENDPOINT,
        "pep": "in_process", "epoch": 1, "not_after": NOW + 3_600_000,
    }  # fmt: skip
    return Grant(**{**fields, **more})


@pytest.fixture
def leased(domain: Domain) -> Callable[..., LeasedMap]:
    def make(**more: Any) -> LeasedMap:
        fields: dict[str, Any] = {
            "trust_domain": TD, "endpoint": ENDPOINT, "epoch": 1, "now": NOW, "lease_ms": 10_000, "bearer": True,
            "routes": (
                Route(method="POST", path=INFER, action="infer"),
                Route(method="GET", path="/v2/models/{name}/ready", action="read"),
                Route(method="POST", path="/v1/chat", action="infer", streams=True),
            ),
            "grants": (grant(), grant(credential_kind="x509", id="g-x509"), grant(action="read", id="g-read")),
            "bundle": domain.bundle,
        }  # fmt: skip
        return LeasedMap(**{**fields, **more})

    return make


class TlsProtocol(HttpToolsProtocol):
    """uvicorn with the ASGI TLS extension (version 0.2), which it does not have of its own."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        secured: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        if secured is not None:
            der = secured.getpeercert(binary_form=True)
            chain = [ssl.DER_cert_to_PEM_cert(der)] if der else []
            self.scope["extensions"] = {"tls": {"server_cert": None, "client_cert_chain": chain, "client_cert_error": None}}


@contextlib.contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:
    """A real uvicorn on a free loopback port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, lifespan="off", log_level="critical", http=TlsProtocol, ws="none", **options)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def tls_files(domain: Domain) -> Iterator[Callable[..., tuple[str, str, str]]]:
    """Write a certificate with its key, beside the CA: `(certificate, key, ca)` paths."""
    folder = Path(tempfile.mkdtemp(prefix="vg"))

    def write(who: str, *, dns: tuple[str, ...] = ()) -> tuple[str, str, str]:
        der, key = domain.certificate(who, dns=dns)
        name = os.urandom(4).hex()
        paths = folder / f"{name}.pem", folder / f"{name}.key", folder / "ca.pem"
        paths[0].write_text(ssl.DER_cert_to_PEM_cert(der))
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        paths[2].write_text(ssl.DER_cert_to_PEM_cert(domain.ca_der))
        return str(paths[0]), str(paths[1]), str(paths[2])

    yield write
    shutil.rmtree(folder)


class Control:
    """The control plane's side of `FramesSource`: real frames over a real socket, its answers set by the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leased: LeasedMap | None = None
        self.calls: list[dict[str, Any]] = []
        self.lost = 0
        self.refuse_record = False
        self.pulls = 0
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        handlers = {"in_process.pull": self._pull, "in_process.record": self._record}
        self._server = self._loop.run_until_complete(serve(self.path, handlers, allowed_uids={os.getuid()}))
        self._up.set()
        self._loop.run_forever()

    def start(self) -> Control:
        self._thread.start()
        assert self._up.wait(5)
        return self

    def put(self, leased: LeasedMap) -> None:
        self.leased = leased
        self._loop.call_soon_threadsafe(self._changed.set)

    async def _pull(self, _peer: Any, params: dict[str, Any]) -> Any:
        self.pulls += 1
        if self.leased is None or self.leased.epoch == params["epoch"]:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(params["wait_ms"], 200) / 1000)
        assert self.leased is not None
        return to_plain(self.leased)

    async def _record(self, _peer: Any, params: dict[str, Any]) -> Any:
        if self.refuse_record:
            raise RuntimeError("the log is full")
        self.calls += msgspec.to_builtins(params["calls"])
        self.lost += params["lost"]
        return {}

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
            await asyncio.sleep(0.05)

        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()


@pytest.fixture
def control() -> Iterator[Control]:
    folder = Path(tempfile.mkdtemp(prefix="vg"))
    made = Control(folder / "c.sock").start()
    yield made
    made.stop()
    shutil.rmtree(folder)
