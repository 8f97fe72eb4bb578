"""A real Envoy from the wheel, driven by the real ADS and ext_authz servers in a thread, before tiny upstreams on unix sockets.

Tests are synchronous: they feed the view through `Harness.do`, and call the gateway over raw sockets or `http.client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vouchgate.edges.envoy import ext_authz
from vouchgate.edges.envoy.ads import AdsServer
from vouchgate.edges.envoy.bootstrap import bootstrap, envoy_binary, flags
from vouchgate.edges.envoy.log_fields import read_fields
from vouchgate.edges.envoy.messages import EXTENSION_TYPE, ROUTE_TYPE, SECRET_TYPE
from vouchgate.edges.envoy.publisher import GatewayView
from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.vocabulary.decisions import Grant
from vouchgate.vocabulary.places import Endpoint, Route, Zone
from vouchgate.vocabulary.vouches import Revocation

TD = "test.local"
ISSUER = f"spiffe://{TD}"
DIGITS = f"vg://{TD}/endpoint/digits"
CHAT = f"vg://{TD}/endpoint/chat"
LEGACY = f"vg://{TD}/endpoint/legacy"
FAR = 4_000_000_000_000


NO: ext_authz.Answer = (403, {"content-type": "application/problem+json", "x-vg-decision-id": "d-no"}, b'{"from":"pdp"}')
YES: ext_authz.Answer = (200, {"x-vg-decision-id": "d-yes"}, b"")


def revocation(kind: str, target: str, **more: object) -> Revocation:
    values: dict = {
        "id": "r1",
        "trust_domain": TD,
        "target_kind": kind,
        "target": target,
        "reason": "test",
        "requested_by": "ops",
        "made_at": int(time.time() * 1000),
    }
    return Revocation(**(values | more))


def spiffe(name: str, td: str = TD) -> str:
    return f"spiffe://{td}/job/serve/{name}"


def serial_of(pem: str) -> str:
    number = x509.load_pem_x509_certificate(pem.encode()).serial_number
    return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


def respelled(pem: str) -> str:
    """The same certificate with the signature's other spelling, (r, n - s): other bytes, and no key was needed for them."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    made = x509.load_pem_x509_certificate(pem.encode())
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(made.signature)
    signature = b"\x00" + encode_dss_signature(r, order - s)
    body = made.tbs_certificate_bytes + bytes.fromhex("300a06082a8648ce3d040302") + b"\x03" + bytes([len(signature)]) + signature
    return ssl.DER_cert_to_PEM_cert(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Authority:
    """A tiny X.509 and JWT authority."""

    def __init__(self, td: str = TD) -> None:
        self.td = td
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.jwt_key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ca {td}")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{td}")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, *uris: str, seconds: float = 3600, hosts: tuple[str, ...] = (), serial: int = 0) -> tuple[str, str, str]:
        """Certificate PEM, key PEM, fingerprint."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(host) for host in hosts]
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "svid")]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        pem = made.public_bytes(serialization.Encoding.PEM).decode()
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        return pem, key_pem, hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()

    def jwks(self) -> str:
        numbers = self.jwt_key.public_key().public_numbers()
        point = {"x": numbers.x.to_bytes(32, "big"), "y": numbers.y.to_bytes(32, "big")}
        return json.dumps(
            {"keys": [{"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig"} | {n: b64(v) for n, v in point.items()}]}
        )

    def token(
        self, sub: str, aud: object = DIGITS, *, ttl: float = 120, head: dict | None = None, sign: bool = True, **claims: object
    ) -> str:
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        now = int(time.time())
        body = {"iss": ISSUER, "sub": sub, "aud": aud, "exp": int(now + ttl), "iat": now, "jti": os.urandom(8).hex()} | claims
        body = {name: value for name, value in body.items() if value is not None}
        text = b64(json.dumps({"alg": "ES256", "kid": "k1", "typ": "JWT"} | (head or {})).encode()) + "." + b64(json.dumps(body).encode())
        if not sign:
            return text + "."
        r, s = decode_dss_signature(self.jwt_key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return text + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def b64(data: bytes) -> str:
    import base64

    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Upstream:
    """A model server on a unix socket: echoes what it got, or streams events."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: list[dict] = []
        self.delay = 0.0
        self.extra = b""
        """Lines of a header that it adds to its answers."""
        self.answer = b""
        """What it answers instead of the echo, head and all."""
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self) -> asyncio.AbstractServer:
        return await asyncio.start_unix_server(self._connection, self.path)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rows = head[:-4].split("\r\n")
                headers = [(n.lower(), v.strip()) for n, _, v in (row.partition(":") for row in rows)]
                body = await self._body(reader, dict(headers))
                method, path, _ = line.split(" ")
                self.seen.append({"method": method, "path": path, "headers": headers, "body": body})
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.answer:
                    writer.write(self.answer)
                    await writer.drain()
                    continue
                if path.startswith("/stream"):
                    await self._stream(writer)
                    continue
                answer = json.dumps({"path": path, "headers": headers, "length": len(body)}).encode()
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(answer)
                writer.write(head + self.extra + b"\r\n" + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).strip(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        return body

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(200):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")


class Reply:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {self.headers} {self.body[:600]!r}"


class Harness:
    """One gateway with everything around it."""

    def __init__(
        self, *, concurrency: int = 1, lease_seconds: int = 10, start: bool = True, umask: int = -1, log_folder: str = ".", **more: object
    ) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="vg"))
        self.ca, self.partner = Authority(), Authority("partner.local")
        self.port, self.plain_port, self.federated_port, self.egress_port = free_port(), free_port(), free_port(), free_port()
        self.settings = GatewaySettings(
            node_id="gateway-1",
            trust_domain=TD,
            admin_socket=str(self.dir / "admin.sock"),
            ads_socket=str(self.dir / "ads.sock"),
            ext_authz_socket=str(self.dir / "ask.sock"),
            access_log=str(self.dir / log_folder / "access.log"),
            tls_address=f"tcp:127.0.0.1:{self.port}",
            plain_address=f"tcp:127.0.0.1:{self.plain_port}",
            egress_address=f"tcp:127.0.0.1:{self.egress_port}",
            federated_address=f"tcp:127.0.0.1:{self.federated_port}",
            hosts=("localhost", "127.0.0.1"),
            concurrency=concurrency,
            **more,  # type: ignore[arg-type]
        )
        self.umask = umask
        self.zone = Zone(name="serve", trust_domain=TD, lease_seconds=lease_seconds)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.asked: list[ext_authz.Request] = []
        self.verdict: ext_authz.Answer = NO
        self.ask_delay = 0.0
        self.epoch = 0
        self.rejections: list[tuple[str, list, str]] = []
        self.upstreams = {name: Upstream(str(self.dir / f"{name}.up")) for name in ("digits", "chat", "legacy")}
        self.envoy: subprocess.Popen | None = None
        self.do(self._serve())
        if start:
            self.feed()
            self.start_envoy()
            self.ready()

    def do(self, coroutine):
        """Run a coroutine, or a plain function, on the servers' loop."""
        if not asyncio.iscoroutine(coroutine):
            function = coroutine

            async def call():
                return function()

            coroutine = call()
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def _serve(self) -> None:
        self.ads = AdsServer(allowed_uids={os.getuid()}, on_rejected=lambda *what: self.rejections.append(what))
        await self.ads.start(self.settings.ads_socket)
        self.view = GatewayView(self.settings, self.ads, clock=lambda: int(time.time() * 1000), issuer=ISSUER)
        await self.serve_ask()
        self.servers = [await upstream.serve() for upstream in self.upstreams.values()]
        self.leasing = asyncio.create_task(self.view.run())

    async def serve_ask(self) -> None:
        self.ask_server = await ext_authz.serve(self.settings.ext_authz_socket, self._decide, allowed_uids={os.getuid()})

    def leasing_off(self) -> None:
        self.leasing.cancel()

    def leasing_on(self) -> None:
        self.leasing = self.loop.create_task(self.view.run())

    async def stop_ask(self) -> None:
        self.ask_server.close()
        Path(self.settings.ext_authz_socket).unlink()
        ext_authz_connections = [t for t in self.ask_connections() if not t.is_closing()]
        for transport in ext_authz_connections:
            transport.abort()

    def ask_connections(self) -> list:
        """Transports of the PDP's open connections."""
        import gc

        return [made._transport for made in gc.get_objects() if isinstance(made, ext_authz._Connection) and made._transport]

    async def forget_upstream_connections(self) -> None:
        for upstream in self.upstreams.values():
            for writer in list(upstream.open):
                writer.close()
        await asyncio.sleep(0.05)

    async def _decide(self, request: ext_authz.Request) -> ext_authz.Answer:
        self.asked.append(request)
        if self.ask_delay:
            await asyncio.sleep(self.ask_delay)
        return self.verdict

    def endpoints(self) -> list[Endpoint]:
        base = {"trust_domain": TD, "zone": "serve"}
        return [
            Endpoint(
                id=DIGITS,
                upstream=f"unix:{self.upstreams['digits'].path}",
                bearer=True,
                routes=(
                    Route(method="POST", path="/v2/models/digits/infer", action="infer"),
                    Route(method="GET", path="/v2/models/{name}/versions/{version}", action="describe"),
                    Route(method="GET", path="/stream", action="infer", streams=True),
                    Route(method="GET", path="/d5/x", action="infer"),
                ),
                max_stream_seconds=3,
                **base,
            ),
            Endpoint(
                id=CHAT,
                upstream=f"unix:{self.upstreams['chat'].path}",
                model_in_body=True,
                models={"tiny": CHAT, "other": f"vg://{TD}/endpoint/other"},
                prefix="/chat",
                bearer=True,
                routes=(
                    Route(method="POST", path="/v1/chat/completions", action="infer", streams=True),
                    Route(method="GET", path="/v1/models", action="list"),
                ),
                **base,
            ),
            Endpoint(
                id=LEGACY,
                upstream=f"unix:{self.upstreams['legacy'].path}",
                wrapped=True,
                host="legacy.test",
                routes=(),
                trust_domain=TD,
                zone="old",
            ),
        ]

    def grant(self, name: str, endpoint: str = DIGITS, kind: str = "x509", action: str = "infer", **more: object) -> Grant:
        values: dict = {"id": f"g-{name}-{kind}", "decision_id": "d1", "principal": spiffe(name), "credential_kind": kind, "action": action}
        values |= {"resource": endpoint, "pep": "gateway", "epoch": 1, "not_after": FAR}
        return Grant(**(values | more))

    def feed(self) -> None:
        """The usual state: alice by certificate, bob by token, carol by both; revocations empty."""

        def work() -> None:
            self.view.set_zones([self.zone, Zone(name="old", trust_domain=TD, mode="observe", observe_until=FAR)])
            svid = self.ca.issue(spiffe("gateway"), hosts=("localhost",))
            self.view.set_identity(jwks=self.ca.jwks(), bundle=self.ca.pem, svid=svid[:2])
            self.epoch += 1
            self.view.set_revocations([], epoch=self.epoch)
            self.view.set_endpoints(self.endpoints())
            self.view.set_grants(DIGITS, [self.grant("alice"), self.grant("bob", kind="jwt"), self.grant("carol", kind="both")])
            self.view.set_grants(
                CHAT, [self.grant("alice", CHAT), self.grant("alice", CHAT, action="list"), self.grant("bob", CHAT, kind="jwt")]
            )
            self.view.resume()

        self.do(work)

    def settled(self) -> None:
        """Until everything that was fed is enforced."""

        async def wait() -> None:
            names = ["revocations", "revocations/older", "lease", "jwt", "map/0", "map/1", "map/2"]
            assert (await self.ads.wait_acked(EXTENSION_TYPE, names, timeout=3)) == {"gateway-1": True}
            assert (await self.ads.wait_acked(ROUTE_TYPE, ["tls", "plain"], timeout=3)) == {"gateway-1": True}

        self.do(wait())

    def reset(self) -> None:
        """The usual state again."""
        self.asked.clear()
        self.verdict, self.ask_delay = NO, 0.0
        for upstream in self.upstreams.values():
            upstream.seen.clear()
            upstream.delay, upstream.extra, upstream.answer = 0.0, b"", b""
        self.feed()
        self.settled()

    def revoke(self, kind: str, target: str, **more: object) -> None:
        """Revoke, and wait until it is enforced."""

        async def work() -> None:
            self.epoch += 1
            self.view.set_revocations([revocation(kind, target, **more)], epoch=self.epoch)
            assert (await self.view.wait_enforced(timeout=3)) == {"gateway-1": True}

        self.do(work())

    def trust_partners(self, bundles: dict[str, str]) -> None:
        """Set the partners' bundles, and wait until they hold and their listener listens."""
        self.do(lambda: self.view.set_federated_bundles(bundles))
        self.do(self.ads.wait_acked(SECRET_TYPE, ["partner-bundles"], timeout=3))
        self.settled()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.federated_port), timeout=1).close()
                return
            time.sleep(0.01)

    def start_envoy(self) -> None:
        config = self.dir / "envoy.json"
        config.write_text(json.dumps(bootstrap(self.settings)))
        self.log = (self.dir / "envoy.log").open("ab")
        self.envoy = subprocess.Popen(
            [envoy_binary(), *flags(self.settings, str(config))], stdout=self.log, stderr=self.log, umask=self.umask
        )

    def ready(self, seconds: float = 8) -> None:
        """Until an allowed call is answered."""
        until = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < until:
            try:
                last = self.call("POST", "/v2/models/digits/infer", who="alice")
                if last.status == 200:
                    return
            except OSError as error:
                last = error
            time.sleep(0.03)
        raise AssertionError(f"not ready: {last}\n{self.envoy_log()}")

    def envoy_log(self) -> str:
        return (self.dir / "envoy.log").read_text()[-4000:]

    def context(self, pem: tuple[str, str] | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if pem:
            path = self.dir / (hashlib.sha256(pem[0].encode()).hexdigest()[:16] + ".pem")
            if not path.exists():
                path.write_text(pem[0] + pem[1])
            context.load_cert_chain(path)
        return context

    def identity(self, name: str) -> tuple[str, str]:
        path = self.dir / f"{name}.id"
        if not path.exists():
            path.write_text(json.dumps(self.ca.issue(spiffe(name))))
        return tuple(json.loads(path.read_text())[:2])

    def fingerprint(self, name: str) -> str:
        self.identity(name)
        return json.loads((self.dir / f"{name}.id").read_text())[2]

    def serial(self, name: str) -> str:
        """The certificate's serial number as Envoy writes it: whole bytes, lower-case hexadecimal."""
        return serial_of(self.identity(name)[0])

    def connect(
        self, who: str | tuple[str, str] | None = None, *, plain: bool = False, port: int = 0, timeout: float = 5
    ) -> http.client.HTTPConnection:
        if plain:
            return http.client.HTTPConnection("127.0.0.1", self.plain_port, timeout=timeout)
        pem = self.identity(who) if isinstance(who, str) else who
        return http.client.HTTPSConnection("127.0.0.1", port or self.port, context=self.context(pem), timeout=timeout)

    def call(
        self,
        method: str,
        path: str,
        *,
        who=None,
        token: str = "",
        headers: dict | None = None,
        body: bytes | None = None,
        on=None,
        plain: bool = False,
        port: int = 0,
    ) -> Reply:
        connection = on or self.connect(who, plain=plain, port=port)
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        finally:
            if on is None:
                connection.close()

    def raw(self, data: bytes, *, who: str | None = "alice", plain: bool = False, seconds: float = 3) -> bytes:
        """Send bytes as they are; what comes back until the end or the time is up."""
        sock = socket.create_connection(("127.0.0.1", self.plain_port if plain else self.port), timeout=seconds)
        if not plain:
            sock = self.context(self.identity(who) if who else None).wrap_socket(sock)
        with contextlib.closing(sock):
            sock.sendall(data)
            got = b""
            until = time.monotonic() + seconds
            with contextlib.suppress(TimeoutError, OSError):
                while time.monotonic() < until:
                    sock.settimeout(0.2 if got else seconds)
                    part = sock.recv(65536)
                    if not part:
                        break
                    got += part
            return got

    def admin(self, path: str) -> str:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(3)
        sock.connect(self.settings.admin_socket)
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        got = b""
        while part := sock.recv(65536):
            got += part
        sock.close()
        return got.decode("utf-8", "replace")

    def lines(self, seconds: float = 0.4) -> list[dict]:
        """The access log after a flush."""
        time.sleep(seconds)
        return [read_fields(line) for line in Path(self.settings.access_log).read_bytes().splitlines()]

    def end_line(self, answer: Reply) -> dict:
        """The log line of an answer's end."""
        wanted = answer.headers["x-request-id"]
        return next(line for line in self.lines(0.25) if line["id"] == wanted and line["kind"] == "DownstreamEnd")

    def stop_envoy(self, sig: int = signal.SIGTERM) -> None:
        if self.envoy and self.envoy.poll() is None:
            self.envoy.send_signal(sig)
            try:
                self.envoy.wait(8)
            except subprocess.TimeoutExpired:
                self.envoy.kill()
                self.envoy.wait(5)

    def close(self) -> None:
        self.stop_envoy(signal.SIGKILL)

        async def end() -> None:
            self.leasing.cancel()
            await self.ads.stop()
            self.ask_server.close()
            for server in self.servers:
                server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()
        shutil.rmtree(self.dir, ignore_errors=True)
