"""A throwaway gateway: a real Envoy, the maps and the PDP's own flow over imagined facts, and every case asked with a real certificate.

    through_gateway(vectors, sources, name) -> VectorReport

Steps
1. An authority that lives as long as this run issues the gateway's certificate and each caller's.
2. Maps, revocations and leases are made from the same facts and by the same code as in an installation; the PDP's flow answers what is asked.
3. A case becomes one request by its action's route (an MCP message for a tool). What comes back is the verdict: 2xx without a question to the
   PDP, or with one, or a refusal. An allow that owes an approval is refused until somebody agrees; its verdict is the allow, and what it owes.
   An hour that a case states is the hour of the PDP's clock while it is asked; the credential is as old as it is.
4. A case that no request can bring about (a fact that the file states and this request cannot have, an act that is not asked of the gateway) is
   told apart with its reason, never left out.

Everything listens on unix sockets of a private folder and on one loopback port, and ends with the run.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate import wiring
from vouchgate.edges.envoy import ext_authz
from vouchgate.edges.envoy.ads import AdsServer
from vouchgate.edges.envoy.bootstrap import bootstrap, envoy_binary, flags
from vouchgate.edges.envoy.messages import EXTENSION_TYPE, ROUTE_TYPE
from vouchgate.edges.envoy.publisher import GatewayView
from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.flows.admit_request import Admission, admit, settled
from vouchgate.flows.imagined import Imagined, full_what, full_who, imagine
from vouchgate.flows.seats import grants_of
from vouchgate.flows.try_policy import case_name, decide_case
from vouchgate.identity.ca import load_ca, make_ca
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.approvals import Settled
from vouchgate.vocabulary.decision_vectors import VectorCase, VectorFile, VectorOutcome, VectorReport, Verdict
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.mcp import CALL_TOOL, MCP, METHODS
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import PROBLEM_MEDIA
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

READY_SECONDS = 20.0
"""Seconds for Envoy to start and take everything in, on a machine that does other things too."""
ANSWER_SECONDS = 10.0
END_SECONDS = 5.0
LIFE_SECONDS = 3600
"""Seconds for which certificates live; a run takes a few."""
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
ADDRESS = "127.0.0.1"
"""From where every request comes."""
REFUSED = frozenset({401, 403, 429})
MAX_ANSWER_BYTES = 1024 * 1024
NOBODY_AGREED = Settled(code="approval-needed", reason="nobody agreed to this yet", remedy="ask for an approval")
"""What the control plane says of an approval here: budgets are whole, and nobody has agreed to anything."""


class Authority:
    """Step 1."""

    def __init__(self, trust_domain: str, now: UnixMillis) -> None:
        self._td, self._now, self._key = trust_domain, now, ec.generate_private_key(ec.SECP256R1())
        self.der = make_ca(trust_domain, self._key, now=now, days=1)
        self._ca = load_ca(self.der, trust_domain)
        self.pem = self._ca.public_bytes(serialization.Encoding.PEM).decode()
        self._made: dict[str, tuple[str, str]] = {}

    def issue(self, name: str, dns: tuple[str, ...] = ()) -> tuple[str, str]:
        """Certificate and key, PEM; the same ones for the same caller."""
        if name not in self._made:
            key = ec.generate_private_key(ec.SECP256R1())
            spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            made = issue_x509(
                spki, name, ca=self._ca, ca_key=self._key, trust_domain=self._td, now=self._now, ttl_seconds=LIFE_SECONDS, dns=dns
            )
            leaf = x509.load_der_x509_certificate(made.chain[0]).public_bytes(serialization.Encoding.PEM).decode()
            self._made[name] = (leaf, _pem_of(key))
        return self._made[name]


def _pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def _jwks() -> str:
    """A key that signs nothing: the gateway wants one before it listens."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    point = {
        name: base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode()
        for name, value in (("x", numbers.x), ("y", numbers.y))
    }
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "none", "alg": "ES256", "use": "sig", **point}]})


@dataclass
class Rehearsal:
    """What runs."""

    vectors: VectorFile
    facts: Imagined
    authority: Authority
    folder: Path
    port: int
    now: UnixMillis
    hour: int | None = None
    """The hour (UTC) to which the PDP's clock is turned for a case that states one."""
    asked: list[tuple[Request, Admission]] = field(default_factory=list)
    """What the gateway asked, and the answers, since the last request."""

    async def decide(self, request: Request) -> ext_authz.Answer:
        """What the PDP worker does (edges/processes/pdp.py), without a log to wait for."""
        now = wiring.clock().now()
        if self.hour is not None:
            turned = UnixMillis(now - now % DAY_MS + DAY_MS + self.hour * HOUR_MS)
            since = request.certificate_since and UnixMillis(request.certificate_since + turned - now)
            request, now = msgspec.structs.replace(request, certificate_since=since), turned
        admission = admit(request, self.facts, now, lease_until=UnixMillis(now + LIFE_SECONDS * 1000))
        self.asked.append((request, admission))
        if admission.owed is not None and admission.owed.groups:
            admission = settled(admission, NOBODY_AGREED, request)
        headers = {"x-vg-decision-id": admission.decision.id}
        if admission.problem is None:
            return 200, headers | ({"x-vg-obligations": admission.answer} if admission.answer else {}), b""
        return admission.problem.status, {**headers, "content-type": PROBLEM_MEDIA}, wire.encode(admission.problem)


def through_gateway(vectors: VectorFile, sources: tuple[tuple[str, str], ...], name: str) -> VectorReport:
    """Steps 1 to 4. Raises `Unavailable` where Envoy does not start."""
    return asyncio.run(_through(vectors, sources, name))


async def _through(vectors: VectorFile, sources: tuple[tuple[str, str], ...], name: str) -> VectorReport:
    with tempfile.TemporaryDirectory(prefix="vg") as made:
        folder, now = Path(made), wiring.clock().now()
        facts = imagine(vectors, sources, f"unix:{folder / 'up'}", now)
        port = int(wiring.take_address(f"{ADDRESS}:0", "gateway.listen").rpartition(":")[2])
        house = Rehearsal(vectors, facts, Authority(vectors.trust_domain, now), folder, port, now)
        async with _running(house):
            outcomes = [await _ask(house, case, number) for number, case in enumerate(vectors.cases)]
    counts = [one.status for one in outcomes]
    return VectorReport(
        file=name,
        through="gateway",
        agreed=counts.count("agrees"),
        total=len(outcomes),
        not_requests=counts.count("not-a-request"),
        outcomes=tuple(outcomes),
    )


@contextlib.asynccontextmanager
async def _running(house: Rehearsal) -> AsyncIterator[None]:
    """Step 2, until the gateway took everything in."""
    folder, uid = house.folder, os.getuid()
    settings = GatewaySettings(
        node_id="rehearsal",
        trust_domain=house.facts.trust_domain,
        admin_socket=str(folder / "admin"),
        ads_socket=str(folder / "ads"),
        ext_authz_socket=str(folder / "ask"),
        access_log=str(folder / "log"),
        tls_address=f"tcp:{ADDRESS}:{house.port}",
    )
    rejected: list[str] = []
    server = AdsServer(allowed_uids={uid}, on_rejected=lambda *what: rejected.append(str(what[-1])))
    await server.start(settings.ads_socket)
    view = GatewayView(settings, server, clock=wiring.clock().now, issuer=f"spiffe://{house.facts.trust_domain}")
    asked = await ext_authz.serve(settings.ext_authz_socket, house.decide, allowed_uids={uid})
    upstream = await asyncio.start_unix_server(_upstream, str(folder / "up"))
    leasing = asyncio.create_task(view.run())
    envoy: asyncio.subprocess.Process | None = None
    try:
        _feed(house, view)
        config = folder / "envoy.json"
        config.write_text(json.dumps(bootstrap(settings)))
        with (folder / "envoy.log").open("wb") as log:
            envoy = await asyncio.create_subprocess_exec(str(envoy_binary()), *flags(settings, str(config)), stdout=log, stderr=log)
        await _ready(house, server, view, envoy, rejected)
        yield
    finally:
        if envoy is not None and envoy.returncode is None:
            envoy.kill()
            await asyncio.wait_for(envoy.wait(), END_SECONDS)
        leasing.cancel()
        await server.stop()
        asked.close()
        upstream.close()


def _feed(house: Rehearsal, view: GatewayView) -> None:
    facts, gateway = house.facts, principal(house.facts.trust_domain, "service", "gateway", "rehearsal")
    view.set_zones(facts.zones.values())
    view.set_identity(jwks=_jwks(), bundle=house.authority.pem, svid=house.authority.issue(gateway, ("localhost",)))
    view.set_revocations([one for one in facts.revocations.values() if not one.withdrawn_by], epoch=1)
    view.set_endpoints(facts.endpoints.values())
    for endpoint in facts.endpoints.values():
        granted = [decision for who in facts.registrations for decision in facts.standing((endpoint.id, who), house.now)]
        view.set_grants(endpoint.id, [grant for one in granted if _is_granted(one) for grant in grants_of(one, endpoint)])
    view.resume()


def _is_granted(decision: Any) -> bool:
    """What publish.py puts into a map: an allow that depends on nothing more, and owes nothing (maps.py, rule 3)."""
    return bool(decision.would_be == "allow" and not decision.residual)


async def _ready(house: Rehearsal, server: AdsServer, view: GatewayView, envoy: asyncio.subprocess.Process, rejected: list[str]) -> None:
    end = asyncio.get_running_loop().time() + READY_SECONDS
    while asyncio.get_running_loop().time() < end and envoy.returncode is None and not rejected:
        points = view.status().points
        if server.nodes() and points and points[0].current and not points[0].maps_behind:
            acked = await server.wait_acked(EXTENSION_TYPE, ["revocations", "lease", "jwt"], timeout=1.0)
            routed = await server.wait_acked(ROUTE_TYPE, ["tls"], timeout=1.0)
            if all(acked.values()) and all(routed.values()):
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(ADDRESS, house.port)
                    writer.close()
                    return
        await asyncio.sleep(0.05)
    log = (house.folder / "envoy.log").read_text("utf-8", "replace")[-400:]
    raise Unavailable(f"the throwaway gateway did not get ready: {'; '.join(rejected) or log}", remedy="run `vouchgate doctor`")


async def _upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers everything; a JSON number among it, for what rounds answers."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next((row for row in head.split("\r\n") if row.startswith("content-length:")), "content-length:0")
            await reader.readexactly(int(length.partition(":")[2]))
            body = b'{"answer":0.123456789}'
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    writer.close()


@dataclass(frozen=True)
class _Asked:
    """A case as a request."""

    method: str
    path: str
    body: bytes


async def _ask(house: Rehearsal, case: VectorCase, number: int) -> VectorOutcome:
    """Steps 3 and 4."""
    name = case_name(case, number)
    request = _request_of(house, case)
    if isinstance(request, str):
        return VectorOutcome(name=name, status="not-a-request", verdict=case.expect, expected=case.expect, told=(request,))
    house.asked.clear()
    house.hour = case.context.get("hour")
    status = await _send(house, full_who(house.vectors, case.who), request)
    verdict, told = _verdict(house, case, status)
    return VectorOutcome(name=name, status="differs" if told else "agrees", verdict=verdict, expected=case.expect, told=told)


def _request_of(house: Rehearsal, case: VectorCase) -> _Asked | str:
    """The request, or why there is none."""
    strange = sorted(set(case.context) - {"hour", "method", "path", "source_ip"})
    if strange:
        return f"no request made here has the stated {', '.join(strange)}"
    if case.context.get("source_ip", ADDRESS) != ADDRESS:
        return f"requests made here come from {ADDRESS}"
    if case.expect != "ask" and decide_case(house.vectors, house.facts, case, house.now, ahead=True).residual and not case.context:
        return "the request's own facts decide it, and the case states none"
    what = full_what(house.vectors, case.what)
    endpoint = house.facts.endpoints.get(what) or next(iter(house.facts.endpoints_with(what)), None)
    if endpoint is None:
        return "it is asked of the control plane, not of the gateway"
    found = _routed(endpoint, case)
    if found is None:
        return f"no route of `{endpoint.id.rpartition('/')[2]}` is for `{case.action}`"
    if any(case.context.get(fact, value) != value for fact, value in (("method", found.method), ("path", found.path))):
        return "another method or path than its route's"
    return found


def _routed(endpoint: Endpoint, case: VectorCase) -> _Asked | None:
    routes = {route.action: route for route in endpoint.routes}
    if endpoint.mcp:
        tool = next((tool for tool, name in endpoint.tools.items() if name.rpartition("/")[2] == case.what.rpartition("/")[2]), "")
        method = next((method for method, action in METHODS.items() if action == case.action and "/" in method and "*" not in method), "")
        if not method or (case.action == CALL_TOOL) != bool(tool):
            return None
        params = {"name": tool, "arguments": {}} if tool else {}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return _Asked("POST", endpoint.prefix + routes[MCP].path, body)
    if case.action not in routes:
        return None
    route = routes[case.action]
    segments = ["x" if part.startswith("{") else part for part in route.path.split("/")]
    return _Asked(route.method, endpoint.prefix + "/".join(segments), b"{}" if route.method in ("POST", "PUT", "PATCH") else b"")


async def _send(house: Rehearsal, who: str, request: _Asked) -> int:
    """The status of the answer."""
    context = ssl.create_default_context(cadata=house.authority.pem)
    context.check_hostname = False
    leaf = house.folder / "leaf.pem"
    leaf.write_text("".join(house.authority.issue(who)))
    context.load_cert_chain(leaf)
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(ADDRESS, house.port, ssl=context)
        head = f"{request.method} {request.path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        if request.body:
            head += f"content-type: application/json\r\ncontent-length: {len(request.body)}\r\n"
        writer.write(f"{head}\r\n".encode() + request.body)
        answer = await reader.read(MAX_ANSWER_BYTES)
        writer.close()
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def _verdict(house: Rehearsal, case: VectorCase, status: int) -> tuple[Verdict, tuple[str, ...]]:
    """What the answer says, and what differs."""
    decision = house.asked[-1][1].decision if house.asked else None
    if status != 200 and status not in REFUSED:
        return "deny", (f"the gateway answered {status}",)
    verdict: Verdict = "allow" if status == 200 or (decision is not None and decision.effect == "allow") else "deny"
    if case.expect == "ask" and decision is not None:
        verdict = "ask"
    told = [] if verdict == case.expect else [f"{verdict} (status {status}) where {case.expect} is stated"]
    owed = sorted(f"{one.kind}={one.value}" for one in decision.obligations) if decision is not None and verdict == "allow" else []
    if verdict == "allow" and owed != sorted(case.obligations):
        told.append(f"obligations {', '.join(owed) or 'none'} where {', '.join(case.obligations) or 'none'} are stated")
    return verdict, tuple(told)
