"""Two whole installations, ours and a partner's: bundles fetched both ways, callers let in under our names for them, and everything taken away."""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime
import http.client
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from installation import INFER, INFER_PATH, TRUST_DOMAIN, Answer, Caller, Installation, read_answer
from spiffe import SpiffeId, TrustDomain, WorkloadApiClient, X509Source
from spiffetls import ListenOptions, dial, listen
from spiffetls.mode import ServerTlsMode
from spiffetls.tlsconfig.authorize import authorize_id

from vouchgate.edges.cli.keys import dpop_proof
from vouchgate.identity.bundle import make_bundle, write_jwks
from vouchgate.identity.ca import make_ca, spki_of
from vouchgate.vocabulary.answers import Need
from vouchgate.vocabulary.answers_decisions import CallerState, DecisionPage, Explanation
from vouchgate.vocabulary.answers_identities import PartnerState, RegistrationRequest
from vouchgate.vocabulary.principals import FOREIGN_ID, Registration, Selector
from vouchgate.vocabulary.vouches import UnixMillis

PARTNER, SECOND = "partner.test", "second.test"
SHOP = f"spiffe://{PARTNER}/service/serve/shop"
ALIAS = f"spiffe://{TRUST_DOMAIN}/service/federated-partner/shop"
MILL = f"spiffe://{TRUST_DOMAIN}/service/serve/mill"
WITHIN = 1.0
"""Seconds within which what was taken away is refused on a live connection."""
STS_OFFSET = 9
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER


class Web:
    """A small authority of the web, and bundle endpoints under it that do not behave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        self.times = now - datetime.timedelta(minutes=5), now + datetime.timedelta(days=1)
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a small authority of the web")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.ca = self._signed(self.key, self.name, basic, x509.SubjectAlternativeName([x509.DNSName("ca.test")]))
        self.ca_file = folder / "web-ca.pem"
        self.ca_file.write_bytes(self.ca.public_bytes(PEM))
        self.certificate, self.private = folder / "web.pem", folder / "web.key"
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = self._signed(
            key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), x509.BasicConstraints(ca=False, path_length=None), names
        )
        self.certificate.write_bytes(leaf.public_bytes(PEM))
        self.private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        self.private.chmod(0o600)
        self.bodies: dict[str, bytes] = {}
        self.server = self._serve()
        self.port = self.server.server_address[1]

    def _signed(self, key: Any, subject: x509.Name, basic: x509.BasicConstraints, names: x509.SubjectAlternativeName) -> x509.Certificate:
        made = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number(), *self.times)
        made = made.add_extension(basic, critical=True).add_extension(names, critical=False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False).sign(
            self.key, hashes.SHA256()
        )

    def _serve(self) -> ThreadingHTTPServer:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = web.bodies.get(self.path, b"")
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    # a drop at a time, for longer than anybody waits
                    for number in range(200 if self.path == "/slow" else 0):
                        self.wfile.write(body[number : number + 1])
                        time.sleep(0.1)
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.private)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


class Authority:
    """A CA with its key, ours to misuse."""

    def __init__(self, key: Any, certificate: x509.Certificate) -> None:
        self.key, self.certificate = key, certificate

    @classmethod
    def stolen(cls, house: Installation) -> Authority:
        """What lies in an installation's signer folder."""
        (private,) = house.layout.signer.rglob("x509-ca*.key")
        key = serialization.load_der_private_key(private.read_bytes(), None)
        return cls(key, x509.load_der_x509_certificate(private.with_suffix(".crt").read_bytes()))

    @classmethod
    def fresh(cls, domain: str) -> Authority:
        """One of our own."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = UnixMillis(int(time.time() * 1000))
        return cls(key, x509.load_der_x509_certificate(make_ca(domain, key, now=now, days=300)))

    def bundle(self, domain: str, *, sequence: int = 1, hint: int = 60) -> bytes:
        jwt = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
        made = make_bundle(domain, x509_authorities=(self.certificate.public_bytes(DER),), jwt_spkis=(jwt,), sequence=sequence)
        return write_jwks(replaced(made, refresh_seconds=hint))

    def mint(self, pair: Pair, *names: str) -> Caller:
        """A leaf with these URI names."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        made = x509.CertificateBuilder(
            self.certificate.subject,
            x509.Name([]),
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(seconds=30),
            now + datetime.timedelta(hours=1),
        )
        uris = [x509.UniformResourceIdentifier(name) for name in names]
        made = made.add_extension(x509.SubjectAlternativeName(uris), critical=True)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        pair.minted += 1
        certificate, private = pair.folder / f"minted-{pair.minted}.pem", pair.folder / f"minted-{pair.minted}.key"
        certificate.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(PEM))
        private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return Caller("minted", names[0], "", certificate, private, pair.ours.tls(certificate, private))


def replaced(noun: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(noun, **changes)


@dataclass
class Pair:
    """Two installations, and what stands around them."""

    folder: Path
    ours: Installation
    partner: Installation
    door: Installation
    """Ours, by its federated listener."""
    web: Web
    second: Authority
    sts_port: int
    minted: int = 0
    base: dict[str, str] = field(default_factory=dict)

    def federate(self, house: Installation, *entries: str) -> str:
        """Other partners from now on, by SIGHUP; what `up` says to that."""
        base = self.base.setdefault(str(house.settings), house.settings.read_text().partition("# partners")[0])
        house.settings.write_text(base + "# partners\n" + "\n".join(entries))
        before = house.said().count("reloaded")
        house.send("supervisor", signal.SIGHUP)
        house.until(lambda: house.said().count("reloaded") > before, 10, "it was not reloaded")
        return house.said().splitlines()[-1]

    def states(self) -> dict[str, PartnerState]:
        return {one.name: one for one in self.ours.client.get(tuple[PartnerState, ...], "/api/v1/partners")}

    def refresh(self, name: str = "partner", house: Installation | None = None) -> PartnerState:
        return (house or self.ours).client.post(PartnerState, "/api/v1/partners/refresh", {"name": name}, timeout=30)

    def needs(self) -> dict[str, Need]:
        return {one.subject: one for one in self.ours.status().needs if one.kind == "partner"}

    def shop(self) -> Caller:
        """A workload of the partner with a fresh certificate of the partner's."""
        made = self.partner.caller("shop", ("shops",))
        return replace(made, tls=self.ours.tls(made.certificate, made.key))

    def register(self, *groups: str, house: Installation | None = None, **fields: Any) -> Registration:
        """The alias of the shop, or what `fields` say."""
        wanted = {
            "kind": "service",
            "zone": "federated-partner",
            "name": "shop",
            "selectors": (Selector(type=FOREIGN_ID, value=SHOP),),
            "groups": groups,
        } | fields
        return (house or self.ours).client.post(Registration, "/api/v1/registrations", RegistrationRequest(**wanted))

    def knows(self, groups: tuple[str, ...] = ("callers",)) -> Caller:
        """The shop, let in."""
        if "partner" not in self.states():
            self.federate(self.ours, over_spiffe(self), second_partner(self))
        self.register(*groups)
        caller = self.shop()
        self.ours.until(lambda: self.door.infer(caller).status == 200, 10, "the partner's workload was not let in")
        return caller


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def entry(name: str, domain: str, **fields: str) -> str:
    lines = [f'name = "{name}"', f'trust_domain = "{domain}"', *(f'{key} = "{value}"' for key, value in fields.items())]
    return "[[federation]]\n" + "\n".join(lines) + "\n"


def fetch_bundle(house: Installation) -> bytes:
    """`/bundle`, as anybody gets it."""
    port = int(json.loads((house.data / "vouchgate.json").read_text())["sts"].rpartition(":")[2])
    link = http.client.HTTPSConnection("127.0.0.1", port, context=house.tls(), timeout=5)
    link.request("GET", "/bundle")
    body = link.getresponse().read()
    link.close()
    return body


def ask(link: socket.socket) -> Answer:
    """One call on a connection that stays; status 0 where it is gone."""
    content = json.dumps(INFER).encode()
    head = f"POST {INFER_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    try:
        link.sendall(head.encode() + content)
        return read_answer(link)
    except (OSError, ValueError):
        return Answer(0)


def by_web(pair: Pair, name: str, path: str = "", **fields: str) -> str:
    url = f"https://localhost:{pair.web.port}/{path or name}"
    return entry(name, f"{name}.test", url=url, ca_file=str(pair.web.ca_file), **fields)


def over_spiffe(pair: Pair, **fields: str) -> str:
    first = pair.folder / "partner.json"
    if not first.exists():
        first.write_bytes(fetch_bundle(pair.partner))
    said = {
        "profile": "https_spiffe",
        "url": f"https://127.0.0.1:{pair.sts_port}/bundle",
        "spiffe_id": f"spiffe://{PARTNER}/system/sts/sts",
        "bundle_file": str(first),
    }
    return entry("partner", fields.pop("domain", PARTNER), **(said | fields))


def second_partner(pair: Pair) -> str:
    if not (pair.folder / "second.json").exists():
        (pair.folder / "second.json").write_bytes(pair.second.bundle(SECOND))
    return entry("second", SECOND, profile="file", bundle_file=str(pair.folder / "second.json"))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
    folder.chmod(0o755)
    web = Web(folder)
    sts_port, federated = free_port(), free_port()
    if os.geteuid() == 0:
        os.chown(web.private, 61_000 + STS_OFFSET, -1)
    for name in ("ours", "partner"):
        (folder / name).mkdir()
    token_source = f'\n[[sts.sources]]\nname = "partner"\nattestor = "spiffe-jwt"\nissuer = "{PARTNER}"\n'
    ours = Installation(folder=folder / "ours", lease=10, more=f'\n[sts]\nlisten = "127.0.0.1:0"\n{token_source}')
    listening = f'\n[sts]\nlisten = "127.0.0.1:{sts_port}"\nweb_certificate = "{web.certificate}"\nweb_key = "{web.private}"\n'
    partner = Installation(folder=folder / "partner", top="uid_base = 61000\n", more=listening)
    partner.settings.write_text(partner.settings.read_text().replace(f'trust_domain = "{TRUST_DOMAIN}"', f'trust_domain = "{PARTNER}"'))
    door = copy.copy(ours)
    pair = Pair(folder, ours, partner, door, web, Authority.fresh(SECOND), sts_port)
    # at the start there are partners that do not answer, and one that needs nobody's answer
    bad = [by_web(pair, name) for name in ("garbage", "older", "replaced", "slow")]
    down = entry("down", "down.test", url=f"https://localhost:{free_port()}/", ca_file=str(web.ca_file))
    stranger = entry("stranger", "stranger.test", url=f"https://localhost:{web.port}/older")
    text = ours.settings.read_text().replace("[gateway]\n", f'[gateway]\nfederated_listen = "127.0.0.1:{federated}"\n')
    ours.settings.write_text(text + "# partners\n" + "\n".join([*bad, down, stranger, second_partner(pair)]))
    web.bodies = {
        "/garbage": b"<html>not here</html>",
        "/older": Authority.fresh("older.test").bundle("older.test", sequence=5),
        "/replaced": Authority.fresh(TRUST_DOMAIN).bundle(TRUST_DOMAIN),
        "/slow": Authority.fresh("slow.test").bundle("slow.test"),
    }
    try:
        with ThreadPoolExecutor(2) as both:
            for starting in [both.submit(one.start) for one in (ours, partner)]:
                starting.result()
        for one in (ours, partner):
            one.caller("warden")
        door.gateway, door._bundle = ("127.0.0.1", federated), ours._bundle
        yield pair
    finally:
        for one in (ours, partner):
            one.close()
        web.server.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def test_partners_that_do_not_answer_keep_nobody_from_serving_and_wait_for_a_person(pair: Pair) -> None:
    alice = pair.ours.caller("alice")
    pair.ours.until(lambda: pair.ours.infer(alice).status == 200, 10)
    pair.ours.until(lambda: all(one.problem for name, one in pair.states().items() if name not in ("older", "second", "slow")), 15)
    states = pair.states()
    assert {name for name, one in states.items() if one.state == "trusted"} == {"older", "second"}
    for name, words in (
        ("garbage", "violates"), ("down", "does not accept connections"), ("replaced", TRUST_DOMAIN), ("stranger", "does not hold"),
    ):  # fmt: skip
        assert words in states[name].problem, states[name]
        assert pair.needs()[name].severity == "act"
    assert "second" not in pair.needs()
    shown = pair.ours.cli("federation", "list")
    assert shown.returncode == 1
    assert all(f"{name}: " in shown.stdout for name in ("garbage", "down", "replaced", "stranger")), shown.stdout
    minted = pair.second.mint(pair, f"spiffe://{SECOND}/x")
    assert pair.door.infer(minted).problem["title"] == "not registered", "who needs no answer is there"


def test_a_replay_of_an_older_bundle_changes_nothing(pair: Pair) -> None:
    before = pair.refresh("older")
    assert (before.state, before.sequence) == ("trusted", 5)
    pair.web.bodies["/older"] = Authority.fresh("older.test").bundle("older.test", sequence=4)
    after = pair.refresh("older")
    assert (after.state, after.sequence) == ("trusted", 5)
    assert "sequence 4" in after.problem
    need = pair.needs()["older"]
    assert need.severity == "soon" and "refused in 23 h" in need.detail, need


def test_a_partner_that_a_reload_names_is_fetched_over_its_own_svid(pair: Pair) -> None:
    said = pair.federate(pair.ours, over_spiffe(pair, spiffe_id=f"spiffe://{PARTNER}/system/sts/other"), second_partner(pair))
    assert said.strip() == "reloaded"
    refused = pair.refresh()
    assert refused.state == "refused" and "is not spiffe://" in refused.problem, refused
    pair.federate(pair.ours, over_spiffe(pair), second_partner(pair))
    state = pair.refresh()
    assert (state.state, state.problem, state.profile) == ("trusted", "", "https_spiffe")
    assert set(pair.states()) == {"partner", "second"}, "who is not named any more is gone"
    assert pair.ours.cli("federation", "list").returncode == 0
    assert pair.needs() == {}


def test_a_workload_of_the_partner_is_let_in_under_our_name_for_it_alone(pair: Pair) -> None:
    shop = pair.shop()
    unknown = pair.door.infer(shop)
    assert (unknown.status, unknown.problem["title"]) == (403, "not registered"), unknown
    pair.register("visitors")
    pair.ours.until(lambda: pair.door.infer(shop).problem.get("title") == "denied", 10, "the policy was not asked")
    shop = pair.knows()
    explained = pair.ours.client.get(Explanation, "/api/v1/why", principal=SHOP, action="infer", resource="digits")
    assert (explained.decision.principal, explained.decision.effect) == (ALIAS, "allow")

    def callers() -> dict[str, CallerState]:
        return {str(one.principal): one for one in pair.ours.client.get(tuple[CallerState, ...], "/api/v1/callers")}

    pair.ours.until(lambda: callers()[ALIAS].allowed >= 1, 5, "nobody counted the call")
    assert pair.ours.client.get(tuple[PartnerState, ...], "/api/v1/partners")[0].callers == 1
    lines = pair.ours.client.get(DecisionPage, "/api/v1/decisions", limit=50).decisions
    assert (ALIAS, SHOP, "allow") in {(line.principal, line.federated, line.effect) for line in lines}
    logged = [one for one in pair.ours.entries() if ALIAS in one.summary or SHOP in one.summary]
    assert any(ALIAS in one.summary and SHOP in one.summary for one in logged), logged[-3:]
    assert ALIAS in pair.ours.cli("identity", "list").stdout


def refused_within(link: socket.socket, seconds: float = WITHIN) -> Answer:
    """Calls on a live connection until one is refused, or the time is over."""
    end = time.monotonic() + seconds
    while (answer := ask(link)).status == 200:
        assert time.monotonic() < end, "it was still let in"
        time.sleep(0.01)
    return answer


def test_what_is_taken_away_is_refused_on_the_live_connection(pair: Pair) -> None:
    shop = pair.knows()
    with pair.door.connect(shop) as link:
        assert ask(link).status == 200
        made = pair.ours.revoke(ALIAS)
        assert ask(link).problem["title"] == "revoked"
        assert made.revocation is not None
        pair.ours.undo(made.revocation.id)
    pair.ours.until(lambda: pair.door.infer(shop).status == 200, 10)
    with pair.door.connect(shop) as link:
        assert ask(link).status == 200
        pair.ours.client.post(Registration, "/api/v1/registrations/remove", {"principal": ALIAS, "reason": "gone"})
        assert refused_within(link).problem["title"] == "not registered"
    shop = pair.knows()
    with pair.door.connect(shop) as link:
        assert ask(link).status == 200
        serial = x509.load_pem_x509_certificates(shop.certificate.read_bytes())[0].serial_number
        pair.ours.revoke(f"{serial:x}".zfill(40), "credential")
        assert ask(link).problem["title"] == "revoked"
        assert pair.door.infer(pair.shop()).status == 200, "the other certificates go on"


def test_a_partner_that_is_no_longer_named_is_refused_and_comes_back(pair: Pair) -> None:
    shop = pair.knows()
    with pair.door.connect(shop) as link:
        assert ask(link).status == 200
        pair.federate(pair.ours, second_partner(pair))
        assert refused_within(link).status in (0, 401, 403)
    assert pair.door.infer(shop).status in (0, 401, 403)
    pair.federate(pair.ours, over_spiffe(pair), second_partner(pair))
    pair.ours.until(lambda: pair.door.infer(shop).status == 200, 10, "it did not come back")
    broken = pair.federate(pair.ours, over_spiffe(pair, domain=TRUST_DOMAIN), second_partner(pair))
    assert "not reloaded" in broken and "our own" in broken
    assert pair.door.infer(shop).status == 200, "a mistake changes nothing"
    pair.federate(pair.ours, over_spiffe(pair), second_partner(pair))


def test_https_web_is_verified_by_its_own_authorities(pair: Pair) -> None:
    url = f"https://localhost:{pair.sts_port}/bundle"
    pair.federate(pair.ours, entry("partner", PARTNER, url=url), second_partner(pair))
    assert "does not hold" in pair.refresh().problem, "the system's authorities do not know it"
    pair.federate(pair.ours, entry("partner", PARTNER, url=url, ca_file=str(pair.web.ca_file)), second_partner(pair))
    state = pair.refresh()
    assert (state.state, state.problem, state.profile) == ("trusted", "", "https_web")
    pair.federate(pair.ours, over_spiffe(pair), second_partner(pair))
    assert pair.refresh().problem == ""


def test_each_listener_has_its_own_callers(pair: Pair) -> None:
    shop, alice = pair.knows(), pair.ours.caller("alice")
    pair.ours.until(lambda: pair.ours.infer(alice).status == 200, 10)
    assert pair.ours.infer(shop).status == 0, "a partner's certificate is none at our own listener"
    assert pair.door.infer(alice).status == 0, "ours is none at the partners'"
    assert pair.door.infer(None).status == 0


def test_a_partners_authority_in_other_hands_mints_its_own_names_and_no_other(pair: Pair) -> None:
    pair.knows()
    stolen = Authority.stolen(pair.partner)
    assert pair.door.infer(stolen.mint(pair, SHOP)).status == 200, "that it can"
    ours, second = f"spiffe://{TRUST_DOMAIN}/service/serve/alice", f"spiffe://{SECOND}/x"
    for names in (
        (ours,), (ALIAS,), (second,), (f"federated {SHOP}",), (SHOP, ours), (ours, SHOP), (SHOP, second), (SHOP, SHOP),
        (f"spiffe://{PARTNER}",), (f"spiffe://{PARTNER.upper()}/service/serve/shop",),
    ):  # fmt: skip
        for house in (pair.door, pair.ours):
            answer = house.infer(stolen.mint(pair, *names))
            assert answer.status in (0, 401), (names, answer)
    assert pair.door.infer(pair.second.mint(pair, SHOP)).status == 0, "nor does the other partner mint this one's"


@contextlib.contextmanager
def calling(pair: Pair, caller: Caller) -> Iterator[tuple[list[Caller], list[Answer]]]:
    """Calls without a pause, by whoever is in the first list; the second is told of every one that was not let in."""
    stop, who, failures, calls = threading.Event(), [caller], list[Answer](), [0]

    def call() -> None:
        while not stop.is_set():
            answer = pair.door.infer(who[0])
            calls[0] += 1
            if answer.status != 200:
                failures.append(answer)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield who, failures
    finally:
        stop.set()
        thread.join(10)
    assert calls[0] > 10


def rotate(pair: Pair, step: str) -> None:
    said = pair.partner.cli("admin", "ca-rotate", step, "--force", "--reason", "a rehearsal")
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_partners_root_is_replaced_without_a_refused_call(pair: Pair) -> None:
    old = pair.knows()
    sequences = [pair.states()["partner"].sequence]
    with calling(pair, old) as (who, failures):
        for step in ("prepare", "activate"):
            rotate(pair, step)
            sequences.append(pair.refresh().sequence)
        who[0] = pair.shop()
        time.sleep(0.2)
        rotate(pair, "retire")
        sequences.append(pair.refresh().sequence)
        time.sleep(0.2)
    assert failures == []
    assert sequences == sorted(set(sequences)), "each step is followed by its sequence"
    pair.ours.until(lambda: pair.door.infer(old).status != 200, 5, "the old root still vouches")


def workload(house: Installation) -> str:
    return f"unix://{house.layout.workload_socket}"


def served(source: X509Source, peer: str) -> tuple[str, Callable[[], str]]:
    """A server that speaks mTLS once; where it listens, and what it heard."""
    options = ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(SpiffeId(peer)))
    listening, heard = listen("127.0.0.1:0", source, options), list[str]()

    def serve() -> None:
        connection, _ = listening.accept()
        try:
            connection.do_handshake()
            heard.append(connection.recv(100).decode())
            connection.sendall(b"delivered")
            connection.shutdown()
        except Exception as error:
            heard.append(type(error).__name__)
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def said() -> str:
        thread.join(5)
        return heard[0] if heard else ""

    return f"127.0.0.1:{listening.getsockname()[1]}", said


@pytest.mark.filterwarnings("ignore::DeprecationWarning:spiffetls", "ignore::DeprecationWarning:OpenSSL")
def test_workloads_of_both_sides_verify_each_other_by_the_federated_bundles(pair: Pair) -> None:
    pair.knows()
    (pair.folder / "ours.json").write_bytes(fetch_bundle(pair.ours))
    assert (
        pair.federate(pair.partner, entry("us", TRUST_DOMAIN, profile="file", bundle_file=str(pair.folder / "ours.json"))) == "  reloaded"
    )
    assert pair.refresh("us", pair.partner).state == "trusted"
    uid = (Selector(type="unix:uid", value=str(os.getuid())),)
    mill = {"zone": "serve", "name": "mill", "selectors": uid}
    pair.register(**mill)
    with WorkloadApiClient(workload(pair.ours), default_timeout=10) as client:
        assert {str(one.trust_domain) for one in client.fetch_x509_bundles().bundles} == {TRUST_DOMAIN}
        assert {str(one.trust_domain) for one in client.fetch_jwt_bundles().bundles} == {TRUST_DOMAIN}
        pair.register(**mill, federates_with=(PARTNER,))
        assert {str(one.trust_domain) for one in client.fetch_x509_bundles().bundles} == {TRUST_DOMAIN, PARTNER}
        keys = client.fetch_jwt_bundles().get_bundle_for_trust_domain(TrustDomain(PARTNER))
        assert keys is not None and keys.jwt_authorities
        context = client.fetch_x509_context()
        assert str(context.default_svid.spiffe_id) == MILL
        foreign = context.x509_bundle_set.get_bundle_for_trust_domain(TrustDomain(PARTNER))
        assert foreign is not None and foreign.x509_authorities
    pair.register(house=pair.partner, zone="serve", name="shop", selectors=uid, federates_with=(TRUST_DOMAIN,))
    with X509Source(socket_path=workload(pair.ours)) as mine, X509Source(socket_path=workload(pair.partner)) as theirs:
        address, said = served(theirs, MILL)
        link = dial(address, mine, authorize_fn=authorize_id(SpiffeId(SHOP)))
        link.sendall(b"flour")
        assert link.recv(100) == b"delivered"
        assert said() == "flour"
        address, _ = served(theirs, MILL)
        with pytest.raises(Exception, match=r"."):
            dial(address, mine, authorize_fn=authorize_id(SpiffeId(f"spiffe://{PARTNER}/service/serve/other"))).sendall(b"x")

        def known() -> bool:
            return mine.get_bundle_for_trust_domain(TrustDomain(PARTNER)) is not None

        pair.register(**mill)
        pair.ours.until(lambda: not known(), 5, "it kept the partner's bundle")
        pair.register(**mill, federates_with=(PARTNER,))
        pair.ours.until(known, 5, "it was not given the partner's bundle")
        pair.federate(pair.ours, second_partner(pair))
        pair.ours.until(lambda: not known(), 5, "it kept the bundle of one that is no partner any more")


def attest(pair: Pair, token: str, key: ec.EllipticCurvePrivateKey) -> tuple[int, dict[str, Any]]:
    host, _, port = json.loads((pair.ours.data / "vouchgate.json").read_text())["sts"].rpartition(":")
    link = http.client.HTTPSConnection(host, int(port), context=pair.ours.tls(), timeout=10)
    link.request("GET", "/nonce")
    nonce = json.loads(link.getresponse().read())["nonce"]
    spki = base64.b64encode(spki_of(key.public_key())).decode()
    body = {"attestor": "spiffe-jwt", "source": "partner", "evidence": {"token": token}, "nonce": nonce, "spki": spki}
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    proof = dpop_proof(pem, "POST", f"https://localhost:{port}/attest", time.time_ns() // 1_000_000, nonce=nonce)
    link.request("POST", "/attest", json.dumps(body), {"content-type": "application/json", "dpop": proof})
    answer = link.getresponse()
    said = json.loads(answer.read())
    link.close()
    return answer.status, said


def test_a_foreign_token_earns_an_identity_of_ours_once(pair: Pair) -> None:
    pair.knows()
    port = json.loads((pair.ours.data / "vouchgate.json").read_text())["sts"].rpartition(":")[2]
    uid = (Selector(type="unix:uid", value=str(os.getuid())),)
    pair.register(house=pair.partner, zone="serve", name="shop", selectors=uid)
    pair.register("callers", zone="serve", name="visitor", selectors=(Selector(type="spiffe.partner:id", value=SHOP),))
    with WorkloadApiClient(workload(pair.partner), default_timeout=10) as client:
        token = client.fetch_jwt_svid(audience={f"https://localhost:{port}"}).token
        elsewhere = client.fetch_jwt_svid(audience={"https://elsewhere.test"}).token
    key = ec.generate_private_key(ec.SECP256R1())
    made: tuple[int, dict[str, Any]] = (0, {})

    def earned() -> bool:
        nonlocal made
        made = attest(pair, token, key)
        return made[0] == 200

    # for some seconds after its start the service cannot tell a proof from one that was used before
    pair.ours.until(earned, 15, "nothing was earned", pause=0.3)
    assert made[1]["principal"] == f"spiffe://{TRUST_DOMAIN}/service/serve/visitor", made
    for bad in (token, elsewhere, token[:-4] + "AAAA"):
        status, said = attest(pair, bad, key)
        assert status in (400, 401, 403), said


def test_a_slow_partner_was_given_up_and_kept_nobody_waiting(pair: Pair) -> None:
    pair.federate(pair.ours, by_web(pair, "slow"), by_web(pair, "older"), second_partner(pair))
    pair.web.bodies["/older"] = Authority.fresh("older.test").bundle("older.test", sequence=9)
    began = time.monotonic()
    pair.ours.until(lambda: pair.states()["older"].sequence == 9, 5, "the other one had to wait")
    assert time.monotonic() - began < 5
    assert pair.states()["slow"].state == "refused"


def test_partners_callers_are_served_through_a_kill_of_the_control_plane_and_after_one_of_the_gateway(pair: Pair) -> None:
    shop = pair.knows()
    with calling(pair, shop) as (_, failures):
        pair.ours.send("control", signal.SIGKILL)
        pair.ours.until(lambda: not pair.ours.ready(), 5)
        pair.ours.until(pair.ours.ready, 20)
        time.sleep(0.3)
    assert failures == []
    assert pair.states()["partner"].state == "trusted"
    pair.ours.send("gateway", signal.SIGKILL)
    pair.ours.until(lambda: pair.door.infer(shop).status == 200, 20, "it did not come back")
