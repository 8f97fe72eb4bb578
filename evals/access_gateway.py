"""The gateway's routes, and every kind of defective identity at them.

1. Routes are those of the running gateway: of each route table in Envoy's configuration dump, under each host, at each listener that uses it.
   A line that cannot be asked is an error, not a gap.
2. A name is proved wrong by itself: certificates with wrong names are signed by our own issuer, whose key is taken from the installation's
   folder, and by the partner's authority, both of which TLS accepts; foreign authorities come beside.
3. What only vouchgate can sign (an exchanged token, a run's) is asked of it, and then used as a thief would.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import defects
from defects import Certificate
from example import PARTNER, TRUST_DOMAIN, Caller, Example, Listener
from installation import read_answer
from tries import Kind, Said, Surface, told

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
SERVE = f"spiffe://{TRUST_DOMAIN}/service/serve"
ALICE = f"{SERVE}/alice"
AGENT = f"spiffe://{TRUST_DOMAIN}/agent/serve/planner"
SHORT_SECONDS = 10
"""Shortest life that can be asked for."""
QUIET_SECONDS = 0.5
"""A TLS alert is there by then."""
PROOF_SECONDS = 20.0
"""After its start a service takes proofs only when it can tell them from ones that were used before (5 s), once it has met the agent."""
TLS_UNKNOWN = told("tls TLSV1_ALERT_UNKNOWN_CA")
TLS_EXPIRED = told("tls SSLV3_ALERT_CERTIFICATE_EXPIRED")
TLS_NAME = told("tls SSLV3_ALERT_CERTIFICATE_UNKNOWN")
"""A certificate that is of a partner's authority, but not of its trust domain."""
BAD_NAME, BAD_TOKEN, REVOKED, DENIED = told("401 bad-name"), told("401 bad-token"), told("403 revoked"), told("403 denied")
WRONG_NAMES: Mapping[str, tuple[str, ...]] = {
    "percent-encoded name": (f"{SERVE}/%61lice",),
    "upper-case name": (f"{SERVE}/Alice",),
    "name in other letters": (f"{SERVE}/%D0%B0lice",),
    "name with a slash behind": (f"{ALICE}/",),
    "name with a query": (f"{ALICE}?x",),
    "name with a dot behind the domain": (f"spiffe://{TRUST_DOMAIN}./service/serve/alice",),
    "upper-case scheme": (f"SPIFFE://{TRUST_DOMAIN}/service/serve/alice",),
    "two names": (ALICE, f"{SERVE}/bob"),
    "the same name twice": (ALICE, ALICE),
    "two names in one": (f"{ALICE},{SERVE}/bob",),
    "the trust domain itself": (f"spiffe://{TRUST_DOMAIN}",),
    "a partner's mark": (f"federated {ALICE}",),
}
"""Names that are nobody's, as our own issuer would sign them."""
BODIES = {
    "infer": json.dumps({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}).encode(),
    "chat": json.dumps({"model": "tiny-1", "messages": [{"role": "user", "content": "count"}]}).encode(),
}


@dataclass(frozen=True)
class Route:
    """One line of one table at one listener."""

    listener: str
    address: tuple[str, int]
    host: str
    endpoint: str
    method: str
    path: str
    action: str
    bearer: bool

    def __str__(self) -> str:
        return f"{self.listener} {self.host} {self.method} {self.path}"

    @property
    def short(self) -> str:
        """The endpoint's name."""
        return self.endpoint.rpartition("/")[2]

    @property
    def url(self) -> str:
        """As a proof of possession names it."""
        return f"https://{self.host}:{self.address[1]}{self.path}"

    @property
    def scope(self) -> str:
        """What a token must be good for here."""
        return f"{self.action}:{'tiny-1' if self.action == 'chat' else self.short}"


@dataclass(frozen=True)
class Shown:
    """What a caller shows."""

    tls: ssl.SSLContext
    headers: Mapping[str, str] = field(default_factory=dict)
    hears: bool = False
    """Whether the handshake is to be refused: then the answer is waited for before anything is sent."""


# --- what there is ----------------------------------------------------------------------------------------------------------------


def dump(house: Example, resource: str) -> list[dict[str, Any]]:
    """A part of Envoy's own account of its configuration."""
    link = http.client.HTTPConnection("localhost", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(house.layout.admin_socket))
    link.request("GET", f"/config_dump?resource={resource}")
    found: list[dict[str, Any]] = json.loads(link.getresponse().read()).get("configs", [])
    return found


def listeners(house: Example) -> list[Listener]:
    """Where the gateway listens, and which table each listener uses."""
    found = []
    for one in dump(house, "dynamic_listeners"):
        listener = one["active_state"]["listener"]
        place = listener["address"]["socket_address"]
        table = re.search(r'"route_config_name": ?"([^"]+)"', json.dumps(listener))
        assert table is not None
        found.append(Listener(listener["name"], (place["address"], int(place["port_value"])), table[1]))
    return found


def routes(house: Example) -> tuple[list[Route], list[str]]:
    """Rule 1: every route that leads somewhere, and every line that answers by itself."""
    tables = {one["route_config"]["name"]: one["route_config"] for one in dump(house, "dynamic_route_configs")}
    found, fixed = [], []
    for listener in listeners(house):
        for virtual in tables[listener.routes].get("virtual_hosts", ()):
            for line in virtual.get("routes", ()):
                host = virtual["domains"][0]
                if "route" in line:
                    found.append(_route_of(listener, host, line))
                else:
                    fixed.append(
                        f"{listener.name} {host} {line['match'].get('prefix') or line['match'].get('path')} {line['direct_response']['status']}"
                    )
    if not found:
        raise RuntimeError("the gateway's tables have no routes")
    return sorted(found, key=str), fixed


def _route_of(listener: Listener, host: str, line: dict[str, Any]) -> Route:
    match, facts = line["match"], line.get("metadata", {}).get("filter_metadata", {}).get("vg", {})
    headers = {one["name"]: one["string_match"]["exact"] for one in match.get("headers", ()) if "exact" in one.get("string_match", {})}
    path = match.get("path") or re.sub(r"\[[^]]*\][^/]*", "x", match.get("safe_regex", {}).get("regex", "")) or match.get("prefix", "")
    if not path or "endpoint" not in facts:
        raise RuntimeError(f"the route `{line.get('name')}` cannot be asked: it is not covered")
    endpoint = facts["endpoint"]
    return Route(
        listener=listener.name, address=listener.address, host=host, endpoint=endpoint, method=headers.get(":method", "GET"), path=path,
        action=facts.get("action", ""), bearer=listener.name == "tls" and not endpoint.endswith("/strict"),
    )  # fmt: skip


# --- asking -----------------------------------------------------------------------------------------------------------------------


def ask(route: Route, shown: Shown, address: tuple[str, int] | None = None) -> Said:
    """One request on a connection of its own."""
    try:
        plain = socket.create_connection(address or route.address, 5)
        with plain, shown.tls.wrap_socket(plain, server_hostname="localhost") as link:
            if shown.hears and address is None:
                _alert(link)
            return send(link, route, shown.headers)
    except ssl.SSLError as error:
        return Said(f"tls {error.reason or 'closed'}")
    except (OSError, ValueError) as error:
        return Said(f"nothing ({type(error).__name__})")


def _alert(link: ssl.SSLSocket) -> None:
    """In TLS 1.3 a client has finished before its certificate is looked at: the refusal comes as its first answer."""
    link.settimeout(QUIET_SECONDS)
    with contextlib.suppress(TimeoutError):
        link.recv(1)
    link.settimeout(5)


def send(link: ssl.SSLSocket, route: Route, headers: Mapping[str, str]) -> Said:
    """One request on an open connection."""
    body = BODIES.get(route.action, b"") if route.method != "GET" else b""
    lines = {"host": route.host, "content-type": "application/json", "content-length": str(len(body)), "connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    link.sendall(f"{route.method} {route.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    answer = read_answer(link)
    problem = str(answer.problem.get("type", "")).rpartition("/")[2]
    if answer.status == 401 and "www-authenticate" not in answer.headers:
        problem += " without a challenge"
    return Said(f"{answer.status} {problem}".strip(), let_in=200 <= answer.status < 300)


# --- who asks ---------------------------------------------------------------------------------------------------------------------


def shown_by(caller: Caller | Certificate) -> ssl.SSLContext:
    """A client that presents this certificate and believes any server."""
    return Certificate(caller.certificate, caller.key).tls


def exchange(house: Example, caller: Caller | None, *, proof: str = "", **form: str) -> tuple[int, dict[str, str]]:
    """POST /token at the token service."""
    asked = {"grant_type": GRANT, "subject_token_type": JWT} | form
    link = http.client.HTTPSConnection(*house.sts, context=shown_by(caller) if caller else defects.stranger(), timeout=10)
    headers = {"content-type": "application/x-www-form-urlencoded"} | ({"dpop": proof} if proof else {})
    link.request("POST", "/token", urlencode(asked), headers)
    answer = link.getresponse()
    status, text = answer.status, answer.read()
    link.close()
    try:
        said: dict[str, str] = json.loads(text)
    except ValueError:
        said = {}
    return status, said


class Cast:
    """Everybody who plays, each as vouchgate or a thief made them."""

    def __init__(self, house: Example, table: list[Route]) -> None:
        self.house, self.table = house, table
        self.begun = time.monotonic()
        self.alice = house.caller("alice")
        self.names = sorted({route.short for route in table if route.bearer})
        self.short = house.caller("short", ttl=SHORT_SECONDS)
        self.live = [(route, self._open(route, self.short)) for route in table if route.listener == "tls"]
        self.short_tokens = {name: house.token("alice", name, ttl=SHORT_SECONDS) for name in self.names}
        self.tokens = {name: house.token("alice", name) for name in self.names}
        self.sts_token = house.issue("service", "alice", "sts")
        self.bob, self.ungrouped = house.caller("bob", None), house.caller("a1ice", ())
        house.befriend("friend")
        self.planner = house.caller("planner", ("agents", "callers"), kind="agent")
        house.issue("person", "ann", "sts", groups=("callers",))
        self.short_subject = house.issue("person", "ann", "sts", ttl=SHORT_SECONDS)
        self.short_actor = house.issue("agent", "planner", "sts", ttl=SHORT_SECONDS)
        self.thief = house.caller("mallory", ("callers",))
        self._revoked()
        self._runs()

    def _open(self, route: Route, caller: Caller) -> ssl.SSLSocket:
        plain = socket.create_connection(route.address, 5)
        return shown_by(caller).wrap_socket(plain, server_hostname="localhost")

    def _revoked(self) -> None:
        house = self.house
        self.gone, self.named, self.left = house.caller("gone"), house.caller("gone-by-name"), house.caller("left")
        self.named_tokens = {name: house.token("gone-by-name", name) for name in self.names}
        self.left_tokens = {name: house.token("left", name) for name in self.names}
        self.one_tokens = {name: house.token("alice", name) for name in self.names}
        self.named_subject = house.issue("service", "gone-by-name", "sts")
        self.one_subject = house.issue("person", "ann", "sts")
        house.revoke(defects.claims(self.one_subject)[1]["jti"], "credential")
        house.client.post(dict, "/api/v1/registrations/remove", {"principal": self.left.principal, "reason": "test"})
        house.revoke(self.gone.credential_id, "credential")
        house.revoke(self.named.principal, "principal")
        for token in self.one_tokens.values():
            house.revoke(defects.claims(token)[1]["jti"], "credential")

    def _runs(self) -> None:
        """Two jobs with runs: one that ended, one on other inputs than what is asked for, and one as it should be."""
        house = self.house
        job = house.caller("fit", ("callers", "runs-only"), kind="job")
        digest = house.digest()
        self.right_run, self.other_run = house.begin(job.principal, (digest,)), house.begin(job.principal)
        self.ended_run = ended = house.begin(job.principal, (digest,))
        self.right, self.other, self.ended = (house.of_run("fit", run) for run in (self.right_run, self.other_run, ended))
        self.other_tokens = {name: house.issue("job", "fit", name, run=self.other_run) for name in self.names}
        self.right_tokens = {name: house.issue("job", "fit", name, run=self.right_run) for name in self.names}
        self.ended_tokens = {name: house.issue("job", "fit", name, run=ended) for name in self.names}
        self.ended_subject = house.issue("job", "fit", "sts", run=ended)
        house.cli("runs", "end", ended, "--reason", "done")

    def exchange_all(self) -> None:
        """Tokens in an agent's hands: bound to its certificate, and to its key."""
        house = self.house
        self.planner_key = defects.key_of(self.planner.key)
        url = f"https://localhost:{house.sts[1]}/token"
        actor = house.issue("agent", "planner", "sts")
        self.bound: dict[tuple[str, str], str] = {}
        self.keyed: dict[tuple[str, str], str] = {}
        wanted = {(route.short, route.scope) for route in self.table if route.listener == "tls"}
        wanted |= {(name, "embed") for name, _ in wanted}
        for endpoint, scope in sorted(wanted):
            form = {
                "subject_token": house.issue("person", "ann", "sts"),
                "resource": f"vg://{TRUST_DOMAIN}/endpoint/{endpoint}",
                "scope": scope,
            }
            self.bound[endpoint, scope] = self._given(lambda form=form: exchange(house, self.planner, **form))  # type: ignore[misc]

            def keyed(form: dict[str, str] = form) -> tuple[int, dict[str, str]]:
                proof = defects.proof(self.planner_key, "POST", url, int(time.time()))
                return exchange(house, None, proof=proof, actor_token=actor, actor_token_type=JWT, **form)

            self.keyed[endpoint, scope] = self._given(keyed)

    @staticmethod
    def _given(make: Callable[[], tuple[int, dict[str, str]]]) -> str:
        end = time.monotonic() + PROOF_SECONDS
        while True:
            status, said = make()
            if status == 200:
                return said["access_token"]
            if time.monotonic() > end:
                raise RuntimeError(f"no token was exchanged: {status} {said}")
            time.sleep(0.2)

    def until_expired(self) -> None:
        """What was made short is over."""
        time.sleep(max(0.0, SHORT_SECONDS + 2.5 - (time.monotonic() - self.begun)))


def _dpop(route: Route, token: str, key: defects.Signing, **changes: Any) -> dict[str, str]:
    at = int(time.time())
    return {"authorization": f"DPoP {token}", "dpop": defects.proof(key, route.method, route.url, at, token, **changes)}


def right(cast: Cast) -> Callable[[Route], Said]:
    """The positive control of a route: a certificate of ours, and where the listener is the partners', one of theirs."""
    partner = cast.house.partner.leaf(cast.house.folder, "friend", [f"spiffe://{PARTNER}/service/friend"])
    return lambda route: ask(
        route, Shown((partner if route.listener == "federated" else Certificate(cast.alice.certificate, cast.alice.key)).tls)
    )


def controls(cast: Cast, surface: Surface[Route]) -> dict[str, Said]:
    """Who may is let in: by certificate at every route; by bearer token, bound token, proof and run where the route takes them."""
    told_all: dict[str, Said] = {}
    friend = right(cast)
    for route in surface.doors:
        end = time.monotonic() + 10
        while not (said := friend(route)).let_in and time.monotonic() < end:
            time.sleep(0.05)
        told_all[str(route)] = said
    others: dict[str, Callable[[Route], Shown]] = {
        "bearer token": lambda route: Shown(defects.stranger(), {"authorization": f"Bearer {cast.tokens[route.short]}"}),
        "token bound to a certificate": lambda route: Shown(
            shown_by(cast.planner), {"authorization": f"Bearer {cast.bound[route.short, route.scope]}"}
        ),
        "token bound to a key": lambda route: Shown(
            defects.stranger(), _dpop(route, cast.keyed[route.short, route.scope], cast.planner_key)
        ),
    }
    for name, shown in others.items():
        doors = [route for route in surface.doors if route.bearer]
        good = 0
        for route in doors:
            end = time.monotonic() + PROOF_SECONDS
            while not (said := ask(route, shown(route))).let_in and time.monotonic() < end:
                time.sleep(0.2)
            good += said.let_in
            if not said.let_in:
                told_all[str(route)] = Said(f"{name}: {said.told}")
        surface.notes.append(f"{name} let in at {good} of {len(doors)}")
    run = [ask(route, Shown(shown_by(cast.right))) for route in surface.doors if route.listener == "tls" and route.short == "digits"]
    surface.notes.append(f"a run on what it declared let in at {sum(one.let_in for one in run)} of {len(run)}")
    return told_all


# --- every kind -------------------------------------------------------------------------------------------------------------------


def kinds(cast: Cast, address: tuple[str, int] | None = None) -> dict[str, Kind[Route]]:
    """Every kind of defective identity; `address` is where the null listens."""
    made: dict[str, Kind[Route]] = {}

    def put(of: str, name: str, shown: Callable[[Route], Shown], expects: frozenset[str], only: Callable[[Route], bool]) -> None:
        made[name] = Kind(of, lambda route: ask(route, shown(route), address), expects, only)

    ours: Callable[[Route], bool] = lambda route: route.listener == "tls"  # noqa: E731
    partners: Callable[[Route], bool] = lambda route: route.listener == "federated"  # noqa: E731
    bearer: Callable[[Route], bool] = lambda route: route.bearer  # noqa: E731
    _certificates(cast, put, ours, partners)
    _tokens(cast, put, bearer, ours)
    _bound_tokens(cast, put, bearer, ours)
    _of_runs(cast, put, ours, bearer)
    if address is None and cast.live:
        made["expired on a live connection"] = Kind("expired", _on_live(cast), told("401 expired-certificate"), ours)
    return made


Put = Callable[[str, str, Callable[[Route], Shown], frozenset[str], Callable[[Route], bool]], None]
Only = Callable[[Route], bool]


def _on_live(cast: Cast) -> Callable[[Route], Said]:
    def late(route: Route) -> Said:
        link = next(link for one, link in cast.live if one == route)
        try:
            with link:
                return send(link, route, {})
        except (OSError, ValueError) as error:
            return Said(f"nothing ({type(error).__name__})")

    return late


def _certificates(cast: Cast, put: Put, ours: Only, partners: Only) -> None:
    folder, house = cast.house.folder, cast.house
    foreign, issuer = defects.Authority.root(f"spiffe://{TRUST_DOMAIN}"), house.authority(cast.alice)

    def certificate(of: str, name: str, one: Certificate | Caller, expects: frozenset[str], only: Only = ours) -> None:
        shown = Shown(shown_by(one), hears=any(word.startswith("tls") for word in expects))
        put(of, name, lambda route: shown, expects, only)

    put("none", "none", lambda route: Shown(defects.stranger()), told("401 anonymous"), ours)
    required = Shown(defects.stranger(), hears=True)
    cookie = Shown(defects.stranger(), {"cookie": f"access_token={cast.tokens['digits']}"})
    put("stolen", "a token in a cookie", lambda route: cookie, told("401 anonymous"), ours)
    put("none", "none, at the partners' listener", lambda route: required, told("tls TLSV13_ALERT_CERTIFICATE_REQUIRED"), partners)
    headers = {
        "x-vg-san": ALICE,
        "x-vg-sub": ALICE,
        "x-forwarded-client-cert": f"URI={ALICE}",
        "x-vg-decision-id": "0" * 32,
        "x-vg-key": "x",
    }
    put("none", "names itself in headers", lambda route: Shown(defects.stranger(), headers), told("401 anonymous"), ours)
    certificate("expired", "expired certificate", cast.short, TLS_EXPIRED)
    certificate("expired", "expired, signed by our issuer", issuer.leaf(folder, "late", [ALICE], days=(-2, -1)), TLS_EXPIRED)
    certificate(
        "wrong domain", "wrong trust domain, foreign authority", foreign.leaf(folder, "od", ["spiffe://other.example/a"]), TLS_UNKNOWN
    )
    certificate(
        "wrong domain",
        "wrong trust domain, our issuer",
        issuer.leaf(folder, "oo", ["spiffe://other.example/service/serve/alice"]),
        BAD_NAME,
    )
    certificate("self-signed", "self-signed", defects.self_signed(folder, "self", [ALICE]), told("tls TLSV1_ALERT_UNKNOWN_CA"))
    certificate("federated impostor", "foreign authority, our name", foreign.leaf(folder, "fo", [ALICE]), TLS_UNKNOWN)
    certificate(
        "federated impostor",
        "partner at our listener",
        house.partner.leaf(folder, "po", [f"spiffe://{PARTNER}/service/friend"]),
        TLS_UNKNOWN,
    )
    certificate("federated impostor", "partner signs our name, at our listener", house.partner.leaf(folder, "pa", [ALICE]), TLS_UNKNOWN)
    for name, names, expects in (
        ("partner signs our name", [ALICE], TLS_NAME),
        ("partner signs a third domain", ["spiffe://other.example/service/friend"], TLS_NAME),
        ("partner signs two names", [f"spiffe://{PARTNER}/service/friend", ALICE], BAD_NAME),
        ("partner signs its name in capitals", [f"spiffe://{PARTNER.upper()}/service/friend"], TLS_NAME),
        ("partner's stranger", [f"spiffe://{PARTNER}/service/stranger"], told("403 not-registered")),
        ("partner's name almost registered", [f"spiffe://{PARTNER}/service/friend1"], told("403 not-registered")),
    ):
        certificate("federated impostor", name, house.partner.leaf(folder, name.replace(" ", "-"), names), expects, partners)
    certificate("federated impostor", "our certificate at the partners' listener", cast.alice, TLS_NAME, partners)
    certificate(
        "expired",
        "partner's, expired",
        house.partner.leaf(folder, "pe", [f"spiffe://{PARTNER}/service/friend"], days=(-2, -1)),
        TLS_NAME,
        partners,
    )
    for name, names in WRONG_NAMES.items():
        certificate("confusable name", f"{name}, our issuer", issuer.leaf(folder, name.replace(" ", "-"), names), BAD_NAME)
    certificate("confusable name", "registered under a like name", cast.ungrouped, DENIED)
    certificate("none", "no name, our issuer", issuer.leaf(folder, "noname", []), told("401 anonymous"))
    certificate("none", "registered nowhere, our issuer", issuer.leaf(folder, "noreg", [f"{SERVE}/nobody"]), DENIED)
    certificate("revoked", "revoked certificate", cast.gone, REVOKED)
    certificate("revoked", "revoked principal", cast.named, REVOKED)
    certificate("revoked", "unregistered since", cast.left, DENIED)


def _tokens(cast: Cast, put: Put, bearer: Only, ours: Only) -> None:
    public = (cast.house.folder / "bundle.pem").read_bytes()
    key = cast.house.jwt_key()

    def token(of: str, name: str, text: Callable[[Route], str], expects: frozenset[str] = BAD_TOKEN, only: Only = bearer) -> None:
        put(of, name, lambda route: Shown(defects.stranger(), {"authorization": f"Bearer {text(route)}"}), expects, only)

    def held(route: Route) -> str:
        return cast.tokens[route.short]

    def other(route: Route) -> str:
        return cast.tokens[next(name for name in cast.names if name != route.short)]

    token("expired", "expired token", lambda route: cast.short_tokens[route.short])
    token("wrong audience", "token for another endpoint", other)
    token("wrong audience", "token for the token service", lambda route: cast.sts_token)
    token(
        "wrong audience",
        "token with another audience, our key",
        lambda route: defects.resigned(held(route), key, aud=["vg://x/endpoint/y"]),
    )
    token(
        "wrong audience",
        "token for two audiences, our key",
        lambda route: defects.resigned(held(route), key, aud=[route.endpoint, "vg://x/endpoint/y"]),
        told("401 jwt-audience"),
    )
    token("wrong audience", "token without an audience, our key", lambda route: defects.resigned(held(route), key, aud=None))
    token(
        "wrong domain",
        "token of another domain, our key",
        lambda route: defects.resigned(held(route), key, sub="spiffe://other.example/service/serve/alice"),
    )
    token("wrong domain", "token of another issuer, our key", lambda route: defects.resigned(held(route), key, iss="https://other.example"))
    token("self-signed", "token without a signature", lambda route: defects.unsigned(held(route)))
    token("self-signed", "token signed by a stranger", lambda route: defects.resigned(held(route)))
    token("self-signed", "token signed with the public key", lambda route: defects.symmetric(held(route), public))
    token("confusable name", "token with another's name", lambda route: defects.edited(held(route), sub=f"{SERVE}/root"))
    token(
        "confusable name", "token with a like name, our key", lambda route: defects.resigned(held(route), key, sub=f"{SERVE}/a1ice"), DENIED
    )
    for name, text, code in (
        ("in capitals", f"{SERVE}/Alice", "not-ours"),
        ("encoded", f"{SERVE}/%61lice", "not-ours"),
        ("with a bar", f"{ALICE}|x", "jwt-subject"),
    ):
        sub = lambda route, text=text: defects.resigned(held(route), key, sub=text)  # noqa: E731
        token("confusable name", f"token with a name {name}, our key", sub, told(f"403 {code}"))
    token("expired", "token made to last", lambda route: defects.edited(held(route), exp=int(time.time()) + 86_400))
    token("expired", "token made to last, our key", lambda route: defects.resigned(held(route), key, exp=int(time.time()) + 86_400))
    token("revoked", "revoked token", lambda route: cast.one_tokens[route.short], REVOKED)
    token("revoked", "token of a revoked principal", lambda route: cast.named_tokens[route.short], REVOKED)
    token("revoked", "token of whoever was unregistered since", lambda route: cast.left_tokens[route.short], DENIED)
    strict: Only = lambda route: ours(route) and not route.bearer  # noqa: E731
    right_one = lambda route: defects.resigned(cast.sts_token, key, aud=[route.endpoint], jti=secrets.token_hex(16))  # noqa: E731
    token("stolen", "token where none is listed", right_one, told("401 bearer-not-listed"), strict)


def _bound_tokens(cast: Cast, put: Put, bearer: Only, ours: Only) -> None:
    used: dict[str, dict[str, str]] = {}
    key, thief = cast.planner_key, defects.key_of(cast.thief.key)

    def bound(route: Route) -> str:
        return cast.bound[route.short, route.scope]

    def keyed(route: Route) -> str:
        return cast.keyed[route.short, route.scope]

    def again(route: Route) -> Shown:
        """What was let in once, to the letter."""
        if str(route) not in used:
            used[str(route)] = _dpop(route, keyed(route), key)
            first = ask(route, Shown(defects.stranger(), used[str(route)]))
            assert first.let_in, f"{route}: the first use of a proof was {first.told}"
        return Shown(defects.stranger(), used[str(route)])

    def put_proof(of: str, name: str, make: Callable[[Route], dict[str, str]], expects: frozenset[str]) -> None:
        put(of, name, lambda route: Shown(defects.stranger(), make(route)), expects, bearer)

    put("replayed", "proof of possession, replayed", again, told("401 dpop-replayed"), bearer)
    invalid = told("401 dpop-invalid")
    put_proof("replayed", "proof for another method", lambda route: _dpop(route, keyed(route), key, htm="DELETE"), invalid)
    put_proof("replayed", "proof for another address", lambda route: _dpop(route, keyed(route), key, htu=f"{route.url}x"), invalid)
    put_proof("replayed", "proof from a while ago", lambda route: _dpop(route, keyed(route), key, iat=int(time.time()) - 120), invalid)
    put_proof("replayed", "proof for another token", lambda route: _dpop(route, keyed(route), key, ath="x" * 43), invalid)
    put_proof("stolen", "token bound to a key, no proof", lambda route: {"authorization": f"DPoP {keyed(route)}"}, invalid)
    unbound = told("401 dpop-unbound")
    put_proof("stolen", "token bound to a key, as a bearer token", lambda route: {"authorization": f"Bearer {keyed(route)}"}, unbound)
    put_proof("stolen", "token bound to a key, the thief's proof", lambda route: _dpop(route, keyed(route), thief), unbound)
    as_bearer = lambda route: {"authorization": f"Bearer {bound(route)}"}  # noqa: E731
    put_proof("stolen", "token bound to a certificate, without it", as_bearer, told("401 jwt-unbound"))
    put_proof(
        "stolen",
        "token bound to a certificate, the thief's proof",
        lambda route: _dpop(route, bound(route), thief),
        told("401 jwt-unbound"),
    )
    put(
        "stolen",
        "token bound to a certificate, with the thief's",
        lambda route: Shown(shown_by(cast.thief), as_bearer(route)),
        told("403 jwt-bound-elsewhere"),
        bearer,
    )
    plain = lambda route: Shown(shown_by(cast.thief), {"authorization": f"Bearer {cast.tokens[route.short]}"})  # noqa: E731
    put("stolen", "another's token beside the thief's certificate", plain, told("403 two-identities"), bearer)

    narrow = told("403 insufficient-scope")
    put(
        "exchanged beyond scope", "scope of another act, bound to a certificate",
        lambda route: Shown(shown_by(cast.planner), {"authorization": f"Bearer {cast.bound[route.short, 'embed']}"}), narrow, bearer,
    )  # fmt: skip
    put_proof(
        "exchanged beyond scope",
        "scope of another act, bound to a key",
        lambda route: _dpop(route, cast.keyed[route.short, "embed"], key),
        narrow,
    )
    wider = lambda route: defects.edited(bound(route), scope="infer describe chat embed")  # noqa: E731
    put(
        "exchanged beyond scope",
        "scope widened",
        lambda route: Shown(shown_by(cast.planner), {"authorization": f"Bearer {wider(route)}"}),
        BAD_TOKEN,
        bearer,
    )
    elsewhere = lambda route: next(text for (name, _), text in sorted(cast.bound.items()) if name != route.short)  # noqa: E731
    put(
        "exchanged beyond scope", "exchanged for another endpoint",
        lambda route: Shown(shown_by(cast.planner), {"authorization": f"Bearer {elsewhere(route)}"}), BAD_TOKEN, ours,
    )  # fmt: skip
    signing = cast.house.jwt_key()
    unmarked = lambda route: defects.resigned(bound(route), signing, vg=None)  # noqa: E731
    put(
        "exchanged beyond scope", "without the mark of its bounds, our key",
        lambda route: Shown(shown_by(cast.planner), {"authorization": f"Bearer {unmarked(route)}"}), told("403 jwt-claims"), bearer,
    )  # fmt: skip


def _of_runs(cast: Cast, put: Put, ours: Only, bearer: Only) -> None:
    of = "other run's token"

    def certificate(name: str, one: Caller, expects: frozenset[str]) -> None:
        put(of, name, lambda route: Shown(shown_by(one)), expects, ours)

    def token(name: str, text: Callable[[Route], str], expects: frozenset[str], caller: Caller | None = None) -> None:
        tls = shown_by(caller) if caller else defects.stranger()
        put(of, name, lambda route: Shown(tls, {"authorization": f"Bearer {text(route)}"}), expects, bearer)

    certificate("certificate of a run that ended", cast.ended, REVOKED)
    certificate("certificate of a run on other inputs", cast.other, DENIED)
    token("token of a run that ended", lambda route: cast.ended_tokens[route.short], REVOKED)
    token("token of a run on other inputs", lambda route: cast.other_tokens[route.short], DENIED)
    token("token that says another run", lambda route: _says(cast.other_tokens[route.short], cast.right_run), BAD_TOKEN)
    signing = cast.house.jwt_key()
    token(
        "token that says another run, our key",
        lambda route: _says(cast.other_tokens[route.short], cast.right_run, signing),
        told("403 run-differs"),
    )
    token("token that forgets its run, our key", lambda route: _forgets(cast.other_tokens[route.short], signing), DENIED)
    token(
        "another's run beside the thief's certificate", lambda route: cast.right_tokens[route.short], told("403 two-identities"), cast.thief
    )


def _says(token: str, run: str, key: defects.Signing | None = None) -> str:
    marked = defects.claims(token)[1]["vg"] | {"run": run}
    return defects.resigned(token, key, vg=marked) if key else defects.edited(token, vg=marked)


def _forgets(token: str, key: defects.Signing) -> str:
    return defects.resigned(token, key, vg=None)


def lesser_names() -> list[str]:
    """Names that a registrar may try to register beside `alice`."""
    return ["Alice", "аlice", "alice\u200b", "alice/", "alice%20", "alice bob", " alice", "alıce", "..", "alice\x00", "ａlice"]
