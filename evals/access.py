"""`make eval-access`: every route of a running installation, tried with every kind of defective identity. None may be let in.

    python evals/access.py

1. Routes are enumerated from the gateway's own route table (Envoy's configuration dump) and from the API's tables, never listed here; one that
   cannot be asked counts as uncovered, and the run fails.
2. A positive control per route must be let in; where it is not, the refusals of that route prove nothing, and the run fails.
3. Each refusal must be one of those that its defect may meet (`Defect.expects`: status and problem type; 0 is a refused TLS handshake).
4. Kinds of identity that the installation cannot be given are rows of their own, `missing`, never skipped.
5. Null: the same tries against a server that authenticates nobody must be found out.
Identities are made by defects.py; what only vouchgate can sign (a certificate that expires, one that is revoked) is asked of it.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]

import defects  # noqa: E402
from benchmarks.rows import Row, emit, exit_code  # noqa: E402
from installation import TRUST_DOMAIN, Caller, Installation, read_answer  # noqa: E402

from vouchgate.edges.api.app import ACTS, READS  # noqa: E402

ALICE = f"spiffe://{TRUST_DOMAIN}/service/serve/alice"
NOBODY_UID = 65_534
BAD_REQUEST, NOT_FOUND = 400, 404
REFUSED_IN_ANSWER = 499
"""Our word for a 200 whose body is a refusal (RFC 6749, section 5.2, as the API tells it)."""
PUBLIC = {"GET /api/v1/token": "where the token service is and what it is called; nothing of it is secret"}
"""Reads that are for everybody who reaches the socket, each with why; they stand in the row."""
SHORT_SECONDS = 10
"""Shortest life that can be asked for."""
NEVER = frozenset({(401, ""), (403, "")})
TLS_REFUSED = frozenset({(0, "")})
UNREGISTER = "/api/v1/registrations/remove"
MISSING = {
    "replayed proof of possession": "DPoP is asked for by the token service alone",
    "stolen bound token": "a token that is bound to a certificate comes from the token service alone",
    "exchanged beyond its scope": "tokens with a scope come from the token service alone",
    "another run's token": "tokens of runs come from the token service alone",
}
"""Kinds that this eval cannot make yet, and why."""
STRICT = """
[[endpoints]]
name = "strict"
zone = "serve"
upstream = "server:digits"
prefix = "/strict"
routes = [{ method = "GET", path = "/v2/models/digits", action = "describe" }]
"""
BODIES = {
    "infer": json.dumps({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}).encode(),
    "chat": json.dumps({"model": "tiny-1", "messages": [{"role": "user", "content": "count"}]}).encode(),
}


@dataclass(frozen=True)
class Route:
    """One line of the gateway's table."""

    endpoint: str
    method: str
    path: str
    action: str
    bearer: bool

    @property
    def name(self) -> str:
        """For a row."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Defect:
    """One way of not being who may call: what is shown, and with which refusals that may be met."""

    tls: ssl.SSLContext
    expects: frozenset[tuple[int, str]] = NEVER
    token: Callable[[Route], str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    only: Callable[[Route], bool] = lambda route: True
    """Routes for which this is a defect at all."""


@dataclass
class Outcome:
    """What came of one defect over all routes."""

    tried: int = 0
    accepted: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Run, print, write build/figures/access.jsonl; 1 where a goal is missed."""
    with Installation(lease=10, more=STRICT) as house:
        rows = list(evaluate(house))
    emit("access", rows)
    return exit_code(rows)


def evaluate(house: Installation) -> Iterator[Row]:
    """All rows."""
    # a uid that nobody knows must reach the socket, so that the refusal is the API's and not the folder's
    house.folder.chmod(0o711)
    house.caller("alice")
    table = routes(house)
    defective = make(house)
    controls = control(house, table)
    yield Row(
        name="access/controls", value=len(controls) / len(table), unit="routes let the positive control in", goal="= 1",
        met=len(controls) == len(table), n=len(table), note="; ".join(sorted({one.name for one in table} - controls)),
    )  # fmt: skip
    tried: set[str] = set()
    total = accepted = 0
    for kind, defect in defective.items():
        outcome = attempt(house.gateway, defect, table)
        tried |= {route.name for route in table if defect.only(route)}
        total, accepted = total + outcome.tried, accepted + len(outcome.accepted)
        yield _defect_row(kind, outcome)
    yield Row(
        name="access/routes covered", value=len(tried) / len(table), unit="share", goal="= 1", met=len(tried) == len(table), n=len(table),
        note=", ".join(sorted(tried)),
    )  # fmt: skip
    yield Row(
        name="access/accepted", value=accepted, unit=f"of {total}", goal="= 0", met=accepted == 0, n=total,
        interval=(0.0, 3 / total) if not accepted else None, note=f"0 of n bounds the rate at {3 / total:.2g} (95%)",
    )  # fmt: skip
    yield from api_rows(house)
    missing = MISSING if _can_unregister() else {**MISSING, "unregistered since": "the API removes no registration"}
    yield from (Row(name=f"access/missing/{kind}", value=0, unit="tries", n=0, note=f"missing: {why}") for kind, why in missing.items())
    yield null(defective, table)


def _defect_row(kind: str, outcome: Outcome) -> Row:
    told = ", ".join(f"{count} x {answer}" for answer, count in sorted(outcome.answers.items()))
    wrong = f"; wrong reason: {'; '.join(outcome.wrong[:3])}" if outcome.wrong else ""
    return Row(
        name=f"access/{kind}", value=len(outcome.accepted), unit=f"of {outcome.tried} accepted", goal="= 0",
        met=bool(outcome.tried) and not outcome.accepted and not outcome.wrong, n=outcome.tried, note=told + wrong,
    )  # fmt: skip


# --- what there is ----------------------------------------------------------------------------------------------------------------


def routes(house: Installation) -> list[Route]:
    """Every route of the running gateway that leads to an endpoint."""
    link = http.client.HTTPConnection("localhost", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(house.layout.admin_socket))
    link.request("GET", "/config_dump?resource=dynamic_route_configs")
    found: dict[tuple[str, str], Route] = {}
    for dumped in json.loads(link.getresponse().read())["configs"]:
        for host in dumped["route_config"].get("virtual_hosts", ()):
            for line in host.get("routes", ()):
                facts = line.get("metadata", {}).get("filter_metadata", {}).get("vg", {})
                if "route" in line:
                    made = _route_of(line, facts)
                    found[made.method, made.path] = made
    if not found:
        raise RuntimeError("the gateway's table has no routes")
    return sorted(found.values(), key=lambda route: route.name)


def _route_of(line: dict[str, object], facts: dict[str, str]) -> Route:
    match = json.loads(json.dumps(line["match"]))
    headers = {one["name"]: one["string_match"]["exact"] for one in match.get("headers", ())}
    path = match.get("path") or re.sub(r"\[[^]]*\][^/]*", "x", match.get("safe_regex", {}).get("regex", "")) or match.get("prefix", "")
    if not path or "endpoint" not in facts:
        raise RuntimeError(f"the route `{line.get('name')}` cannot be asked: it is not covered")
    endpoint = facts["endpoint"]
    bearer = not endpoint.endswith("/strict")
    return Route(endpoint=endpoint, method=headers.get(":method", "GET"), path=path, action=facts.get("action", ""), bearer=bearer)


# --- who asks ---------------------------------------------------------------------------------------------------------------------


def make(house: Installation) -> dict[str, Defect]:
    """Every kind of defective identity."""
    folder, td = house.folder, TRUST_DOMAIN
    short = house.caller("short", ttl=SHORT_SECONDS)
    gone, named = house.caller("gone"), house.caller("gone-by-name")
    ungrouped = house.caller("ungrouped", ())
    short_tokens = {name: house.token("alice", name, ttl=SHORT_SECONDS) for name in ("digits", "chat")}
    made = time.monotonic()
    gone_tokens = {name: house.token("gone-by-name", name) for name in ("digits", "chat")}
    left = house.caller("left") if _can_unregister() else None
    if left is not None:
        house.client.post(dict, UNREGISTER, {"principal": left.principal, "reason": "test"})
    house.revoke(gone.credential_id, "credential")
    house.revoke(named.principal, "principal")
    tokens = {name: house.token("alice", name) for name in ("digits", "chat")}
    public = (folder / "bundle.pem").read_bytes()

    def minted(name: str, uris: list[str], **more: object) -> Defect:
        return Defect(defects.mint(folder, name, uris, **more).tls, TLS_REFUSED)  # type: ignore[arg-type]

    def bearer(change: Callable[[str], str], held: Mapping[str, str] = tokens) -> Defect:
        return Defect(
            defects.stranger(), token=lambda route: change(held.get(_short(route), tokens["digits"])), only=lambda route: route.bearer
        )

    kinds = {
        "none": Defect(defects.stranger()),
        "names itself in headers": Defect(
            defects.stranger(),
            headers={"x-vg-san": ALICE, "x-vg-sub": ALICE, "x-forwarded-client-cert": f"URI={ALICE}", "x-vg-decision-id": "0" * 32},
        ),
        "expired certificate": Defect(_shown(short), NEVER | TLS_REFUSED),
        "wrong trust domain": minted("other-domain", ["spiffe://other.example/service/serve/alice"]),
        "federated impostor": minted("impostor", [ALICE]),
        "self-signed": minted("self-signed", [ALICE], own_authority=False),
        "foreign and expired": minted("foreign-expired", [ALICE], days=(-3, -2)),
        "confusable name": minted("confusable", [f"spiffe://{td}/service/serve/%D0%B0lice"]),
        "two names": minted("two-names", [ALICE, f"spiffe://{td}/service/serve/bob"]),
        "revoked certificate": Defect(_shown(gone)),
        "revoked principal": Defect(_shown(named)),
        "registered without a group": Defect(_shown(ungrouped)),
        "expired token": bearer(lambda token: token, short_tokens),
        "token of a revoked principal": bearer(lambda token: token, gone_tokens),
        "token for another audience": Defect(
            defects.stranger(),
            token=lambda route: tokens["chat" if _short(route) == "digits" else "digits"],
            only=lambda route: route.bearer,
        ),
        "token without a signature": bearer(defects.unsigned),
        "token signed by a stranger": bearer(defects.resigned),
        "token with another's name": bearer(lambda token: defects.edited(token, sub=f"spiffe://{td}/service/serve/root")),
        "token made to last": bearer(lambda token: defects.edited(token, exp=int(time.time()) + 86_400)),
        "token signed with the public key": bearer(lambda token: defects.symmetric(token, public)),
        "token where none is listed": Defect(defects.stranger(), token=lambda route: tokens["digits"], only=lambda route: not route.bearer),
    }
    if left is not None:
        kinds["unregistered since"] = Defect(_shown(left))
    time.sleep(max(0.0, SHORT_SECONDS + 1.5 - (time.monotonic() - made)))
    return kinds


def _can_unregister() -> bool:
    return any(path == UNREGISTER for path, *_ in ACTS)


def _shown(caller: Caller) -> ssl.SSLContext:
    return defects.Certificate(caller.certificate, caller.key).tls


def _short(route: Route) -> str:
    return route.endpoint.rpartition("/")[2]


def control(house: Installation, table: list[Route]) -> set[str]:
    """The routes that let in who may call."""
    alice = house.caller("alice", None)
    good = Defect(alice.tls)
    found = set()
    for route in table:
        house.until(lambda route=route: ask(house.gateway, good, route)[0] not in {0, 401, 403, 503}, 10, f"{route.name} lets nobody in")  # type: ignore[misc]
        found.add(route.name)
    return found


# --- asking -----------------------------------------------------------------------------------------------------------------------


def attempt(address: tuple[str, int], defect: Defect, table: list[Route]) -> Outcome:
    """Try every route."""
    outcome = Outcome()
    for route in table:
        if not defect.only(route):
            continue
        status, problem = ask(address, defect, route)
        outcome.tried += 1
        outcome.answers[f"{status} {problem}".strip()] += 1
        if status not in {0, 401, 403}:
            outcome.accepted.append(f"{route.name}: {status}")
        elif status not in {expected for expected, _ in defect.expects}:
            outcome.wrong.append(f"{route.name}: {status} {problem}")
    return outcome


def ask(address: tuple[str, int], defect: Defect, route: Route) -> tuple[int, str]:
    """(status, problem type); status 0 where there was no connection."""
    body = BODIES.get(route.action, b"") if route.method != "GET" else b""
    lines = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    token = {"authorization": f"Bearer {defect.token(route)}"} if defect.token else {}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **defect.headers, **token}.items())
    try:
        with socket.create_connection(address, 5) as plain, defect.tls.wrap_socket(plain, server_hostname="localhost") as link:
            link.sendall(f"{route.method} {route.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            answer = read_answer(link)
    except (OSError, ValueError):
        return 0, ""
    return answer.status, str(answer.problem.get("type", "")).rpartition("/")[2]


# --- the API ----------------------------------------------------------------------------------------------------------------------


def api_rows(house: Installation) -> Iterator[Row]:
    """Every read and act of the API, by a uid that nobody knows, and over TCP without a session or with one that nobody gave."""
    acts = {path: _least(kind) for path, kind, *_ in ACTS}
    table = [("GET", path) for path, *_ in READS] + [("POST", path) for path in acts]
    console = house.status().console
    address = console.removeprefix("http://").strip("/").rpartition(":")
    browser = (address[0], int(address[2]))
    kinds: dict[str, Callable[[str, str], int]] = {
        "console without a session": lambda method, path: _tcp(browser, method, path, {}),
        "console with a made-up session": lambda method, path: _tcp(browser, method, path, {"cookie": f"vouchgate={'0' * 43}"}),
        "console under another name": lambda method, path: _tcp(browser, method, path, {"host": "evil.example"}),
    }
    if os.geteuid() == 0:
        kinds["a uid that nobody knows"] = lambda method, path: _as_nobody(house, method, path, acts.get(path, {}))
    for kind, tried in kinds.items():
        answers = {f"{method} {path}": tried(method, path) for method, path in table}
        refusals = {BAD_REQUEST, NOT_FOUND, REFUSED_IN_ANSWER, 401, 403, 429}
        let_in = [name for name, status in answers.items() if status not in refusals and name not in PUBLIC]
        unread = [name for name, status in answers.items() if status in {BAD_REQUEST, NOT_FOUND} and "name" not in kind]
        told = ", ".join(f"{count} x {status}" for status, count in sorted(Counter(answers.values()).items()))
        told += "".join(f"; {name} is public: {why}" for name, why in PUBLIC.items() if answers.get(name) == 200)
        told += f"; refused before anybody asked who it is: {', '.join(unread)}" if unread else ""
        yield Row(
            name=f"access/api: {kind}", value=len(let_in), unit=f"of {len(table)} accepted", goal="= 0", met=not let_in, n=len(table),
            note=f"{told}; {'; '.join(let_in[:5])}".rstrip("; "),
        )  # fmt: skip
    known = sum(_unix(house, method, path) not in {0, 401, 403} for method, path in table if method == "GET")
    reads = sum(method == "GET" for method, _ in table)
    yield Row(name="access/api: controls", value=known / reads, unit="share of reads", goal="= 1", met=known == reads, n=reads)


def _tcp(address: tuple[str, int], method: str, path: str, headers: dict[str, str]) -> int:
    link = http.client.HTTPConnection(*address, timeout=5)
    origin = {"origin": f"http://{address[0]}:{address[1]}", "content-type": "application/json"}
    link.request(method, path, b"{}" if method == "POST" else None, origin | headers)
    status = link.getresponse().status
    link.close()
    time.sleep(0.06)
    return status


def _least(kind: Any) -> dict[str, Any]:
    """The smallest body of a type, so that what is refused is whoever sends it."""
    fields = msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]
    return {one.encode_name: _least_value(one.type) for one in fields if one.required}


def _least_value(kind: Any) -> Any:
    match kind:
        case msgspec.inspect.StructType():
            return _least(kind.cls)
        case msgspec.inspect.LiteralType():
            return kind.values[0]
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            return kind.ge or 1
        case msgspec.inspect.BoolType():
            return False
        case msgspec.inspect.StrType():
            return "x" * max(1, kind.min_length or 1)
        case msgspec.inspect.BytesType():
            return ""
        case msgspec.inspect.DictType():
            return {}
        case msgspec.inspect.UnionType():
            return _least_value(kind.types[0])
        case _:
            return []


def _unix(house: Installation, method: str, path: str, body: Mapping[str, Any] = MappingProxyType({})) -> int:
    link = http.client.HTTPConnection("localhost", timeout=5)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.settimeout(5)
    link.sock.connect(str(house.layout.api_socket))
    try:
        link.request(method, path, json.dumps(dict(body)) if method == "POST" else None, {"content-type": "application/json"})
        answer = link.getresponse()
        said = answer.read()
        return REFUSED_IN_ANSWER if answer.status == 200 and _refuses(said) else answer.status
    except OSError:
        return 0
    finally:
        link.close()


def _refuses(body: bytes) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and bool(said.get("error")) and not said.get("access_token")


def _as_nobody(house: Installation, method: str, path: str, body: Mapping[str, Any]) -> int:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY_UID)
            os.setuid(NOBODY_UID)
            os.write(write, str(_unix(house, method, path, body)).encode())
        finally:
            os._exit(0)
    os.close(write)
    told = os.read(read, 8)
    os.close(read)
    os.waitpid(child, 0)
    return int(told or b"0")


# --- the null ---------------------------------------------------------------------------------------------------------------------


class _Open(http.server.BaseHTTPRequestHandler):
    """Lets everybody in."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def null(defective: Mapping[str, Defect], table: list[Route]) -> Row:
    """The same tries, against a server that asks for no identity: they must be found let in, every one."""
    own = next(iter(Path(cert) for cert in _server_files()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, own.with_suffix(".key"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Open)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    outcomes = [attempt(("127.0.0.1", server.server_port), defect, table) for defect in defective.values()]
    server.shutdown()
    server.server_close()
    found, tried = sum(len(one.accepted) for one in outcomes), sum(one.tried for one in outcomes)
    return Row(
        name="access/null: nobody is authenticated",
        value=found,
        unit=f"of {tried} found let in",
        goal=f"= {tried}",
        met=found == tried,
        n=tried,
    )


def _server_files() -> list[Path]:
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    return [defects.mint(folder, "open-server", ["https://localhost"], own_authority=False).certificate]


if __name__ == "__main__":
    sys.exit(main())
