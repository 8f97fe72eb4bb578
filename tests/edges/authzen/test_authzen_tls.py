"""The whole service beside a control plane of the test: HTTPS with X.509-SVIDs, renewal, applications that come, go and are broken."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from authzen_world import EXAMPLE, POINT, Answer, Client, Stand
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flows_world import ALICE, DIGITS, KEYS, NOW, TD, revoked

from vouchgate import wiring
from vouchgate.edges.authzen import service as module
from vouchgate.edges.authzen.service import Service
from vouchgate.flows.applications import ApplicationFiles
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.layout import Layout, Users
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_authzen import AuthzenSettings
from vouchgate.vocabulary.wire import decode, encode

STRANGE_CA = ec.generate_private_key(ec.SECP256R1())
WHOLE = {"subject": {"type": "service", "id": ALICE}, "action": {"name": "infer"}, "resource": {"type": "endpoint", "id": DIGITS}}


def svid(name: str, spki: bytes, *, ca: ec.EllipticCurvePrivateKey = KEYS.ca, dns: tuple[str, ...] = ()) -> tuple[bytes, ...]:
    der = KEYS.ca_certificate if ca is KEYS.ca else make_ca(TD, ca, now=NOW, days=300)
    issuer = x509.load_der_x509_certificate(der)
    made = issue_x509(spki, name, ca=issuer, ca_key=ca, trust_domain=TD, now=NOW, ttl_seconds=3600, dns=dns)
    return tuple(made.chain)


class Control:
    """Certifies and records."""

    def __init__(self) -> None:
        self.log: list[Decision] = []
        self.certificates = 0

    async def call(self, method: str, /, **params: Any) -> Any:
        if method == "record_decisions":
            self.log += [decode(Decision, one) for one in params["decisions"]]
            return {}
        assert method == "authzen.certificate"
        self.certificates += 1
        chain = svid(f"spiffe://{TD}/system/pdp/pdp", params["spki"], dns=("localhost",))
        return {"chain": list(chain), "bundle": ssl.DER_cert_to_PEM_cert(KEYS.ca_certificate), "seconds": 3600}

    async def close(self) -> None:
        return None


class Https(Client):
    """A point with a certificate, or without."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(Path())
        self._port, self._tls = port, context

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[1].is_closing():
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost")
        return self._streams


def context(name: str = "", *, ca: ec.EllipticCurvePrivateKey = KEYS.ca) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(KEYS.ca_certificate))
    if name:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        chain = wiring.pem_chain(svid(name, spki_of(key.public_key()), ca=ca)).encode()
        with tempfile.NamedTemporaryFile() as file:
            file.write(chain + pem)
            file.flush()
            made.load_cert_chain(file.name)
    return made


def run(stand: Stand, story: Callable[[Service, Control, Layout], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> Control:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    control = Control()

    async def main() -> None:
        folder = Path(tempfile.mkdtemp(prefix="vg"))
        layout = Layout(folder)
        layout.pdp.mkdir()
        installation = wiring.Installation(
            settings=Settings(trust_domain=TD, authzen=AuthzenSettings(enabled=True, listen="127.0.0.1:0")), fingerprint="", isolated=False,
            users=Users(base=None, own=os.getuid()), gateway="", authzen="127.0.0.1:0", log_key="", signed_root=b"",
        )  # fmt: skip
        service = Service(installation, layout, stand.replica, control)
        await service.start()
        try:
            async with asyncio.timeout(5):
                while not service.listeners.port:
                    await asyncio.sleep(0.005)
                await story(service, control, layout)
        finally:
            await service.close()
            shutil.rmtree(folder)

    asyncio.run(main())
    return control


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS looks at the real clock: the certificates of the tests are of the time at which the tests stand."""
    real = ssl.SSLContext.load_verify_locations

    def load(self: ssl.SSLContext, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **named)
        self.verify_flags = ssl.VerifyFlags(
            int(self.verify_flags) | 0x200000
        )  # X509_V_FLAG_NO_CHECK_TIME; when a certificate ends is the SVID's own check

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load)


async def ask(service: Service, tls: ssl.SSLContext) -> Answer:
    client = Https(service.listeners.port, tls)
    try:
        return await client.post("/access/v1/evaluation", WHOLE)
    finally:
        client.close()


def test_an_svid_of_a_point_is_answered_and_every_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(service: Service, control: Control, layout: Layout) -> None:
        assert (await ask(service, context(POINT))).json["decision"] is True
        assert (await ask(service, context())).status == 401
        assert (await ask(service, context(ALICE))).status == 403
        assert (await ask(service, context(principal(TD, "service", "serve", "stranger")))).status == 403
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await ask(service, context(POINT, ca=STRANGE_CA))

    stand = Stand()
    control = run(stand, story, monkeypatch)
    assert [one.action for one in control.log].count("infer") == 1


def test_an_open_connection_ends_with_its_certificate_and_with_its_revocation(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(fresh=True)

    async def story(service: Service, control: Control, layout: Layout) -> None:
        client, other = Https(service.listeners.port, context(POINT)), Https(service.listeners.port, context(POINT))
        for one in (client, other):
            assert (await one.post("/access/v1/evaluation", WHOLE)).status == 200
        serial = next(name for _, name in service._evaluations._allowed)
        assert stand.held.put(revoked("credential", serial))
        statuses = sorted([(await one.post("/access/v1/evaluation", WHOLE)).status for one in (client, other)])
        assert statuses == [200, 403]
        stand.clock.at = NOW + 3_600_000
        stand.replica.lease_until += 7_200_000  # type: ignore[assignment]
        assert [(await one.post("/access/v1/evaluation", WHOLE)).status for one in (client, other)] == [401, 401]
        client.close()
        other.close()

    run(stand, story, monkeypatch)


def test_applications_come_are_replaced_and_a_broken_one_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rick = "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs"
    body = {"subject": {"type": "user", "id": rick}, "action": {"name": "can_read_todos"}, "resource": {"type": "todo", "id": "1"}}

    def files(policies: str) -> bytes:
        schema, entities = (EXAMPLE / "todo.cedarschema").read_text(), (EXAMPLE / "entities.json").read_text()
        return encode([ApplicationFiles(name="todo", schema=schema, policies=(("todo.cedar", policies),), entities=entities)])

    async def story(service: Service, control: Control, layout: Layout) -> None:
        client = Client(layout.authzen_socket)

        async def until(status: int, decision: bool | None = None) -> None:
            while True:
                answer = await client.post("/applications/todo/access/v1/evaluation", body)
                if answer.status == status and (decision is None or answer.json["decision"] is decision):
                    return
                await asyncio.sleep(0.01)

        await until(404)
        for policies, wanted in (
            ((EXAMPLE / "todo.cedar").read_text(), True),
            ("nonsense", True),
            ('@id("none") forbid (principal, action, resource);', False),
        ):
            wiring.write_atomic(layout.applications, files(policies))
            await until(200, wanted)
            await asyncio.sleep(0.05)
            await until(200, wanted)
        client.close()

    run(Stand(), story, monkeypatch)


def test_a_new_root_brings_a_new_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(fresh=True)

    async def story(service: Service, control: Control, layout: Layout) -> None:
        before = control.certificates
        bundle = stand.replica.facts.bundle
        assert bundle is not None
        stand.replica.facts.bundle = msgspec.structs.replace(bundle, sequence=99)
        while control.certificates == before:
            await asyncio.sleep(0.005)
        assert (await ask(service, context(POINT))).json["decision"] is True

    run(stand, story, monkeypatch)


def test_the_certificate_of_the_listener_names_the_decision_point(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(service: Service, control: Control, layout: Layout) -> None:
        client = Https(service.listeners.port, context(POINT))
        _, writer = await client.streams()
        leaf = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{TD}/system/pdp/pdp"]
        client.close()

    run(Stand(), story, monkeypatch)
