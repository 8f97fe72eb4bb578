"""The control plane's API, over its unix socket and over the console's TCP, with every kind of caller that may not.

1. Doors are the routes of the app itself, method by method (edges/api/app.py builds them), so that none can be left out here.
2. What is open to a browser without a session is the guard's own list; such a door is tried on the unix socket only where it decides anything.
3. A body or query is the least that is well formed: what is refused is the caller. A refusal must come before anything is looked up: 404
   or 409 to somebody who may not ask would say what is there.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import defects
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from example import ACTOR_UID, AUDITOR_UID, ENDED_UID, REVOKED_UID, Example
from starlette.routing import Route as AppRoute
from tries import Kind, Said, Surface, told

from vouchgate.edges.api import bodies, guard
from vouchgate.edges.api.app import ACTS, READS, Api
from vouchgate.edges.api.sessions import COOKIE, CSRF_HEADER

NOBODY = 65_534
PAUSE_SECONDS = 0.055
"""Between requests of nobody in particular on TCP: twenty a second are answered."""
QUERIES: Mapping[str, type] = {path: kind for path, kind, _ in READS} | {"/api/v1/artifacts": bodies.ArtifactQuery}
BODIES: Mapping[str, type] = {path: kind for path, kind, _ in ACTS} | {
    "/api/v1/session": bodies.CodeBody,
    "/api/v1/login/begin": bodies.BeginBody,
    "/api/v1/login/finish": bodies.FinishBody,
    "/api/v1/backup": bodies.EmptyBody,
}
ASKED = {"/api/v1/why": {"principal": "alice", "resource": "digits"}, "/api/v1/artifacts": {"zone": "serve", "name": "x"}}
"""Where the least query asks for nothing."""
PUBLIC = {
    "GET /api/v1/token": "where the token service is and what it is called",
    "POST /api/v1/token": "an exchange is decided as such; a refusal is an answer",
    "GET /api/v1/whoami": "tells a caller its own name",
    "GET /api/v1/login": "the providers' names, for the login page",
    "POST /api/v1/login/begin": "begins a login",
    "POST /api/v1/login/finish": "ends a login; what it takes is the provider's proof",
    "GET /healthz": "whether the process is alive",
    "GET /readyz": "whether it is ready",
    "GET /api/v1/session": "tells a session itself",
    "POST /api/v1/session": "takes a code; is not for the unix socket",
    "DELETE /api/v1/session": "ends the session that it is shown",
    "GET /": "a page without data",
    "GET /login": "a page without data",
    "GET /login/callback": "a page without data",
    "GET /assets/{name}": "scripts and styles",
}
"""Doors that any local user may knock at, with the reason; each is named in the row."""
BY_PROOF = frozenset({"POST /api/v1/bootstrap", "POST /api/v1/break-glass", "POST /api/v1/session", "POST /api/v1/login/finish"})
"""Doors that let in a proof, not a caller: the root is refused at them without one, for want of it."""
NOT_PERMITTED, NOT_LOGGED_IN = told("403 not-permitted"), told("401 not-logged-in")


@dataclass(frozen=True)
class Way:
    """One method of one route."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def public(self) -> bool:
        """Whether any local user may."""
        return str(self) in PUBLIC

    @property
    def open(self) -> bool:
        """Rule 2."""
        return self.path in guard.OPEN or self.path.startswith(guard.OPEN_PREFIX) or self.path == "/"

    @property
    def acts(self) -> bool:
        """Whether it may change something."""
        return self.method not in guard.SAFE_METHODS

    @property
    def target(self) -> str:
        """Path with the least query."""
        query = ASKED.get(self.path) or least(QUERIES[self.path]) if self.path in QUERIES else {}
        made = "&".join(f"{name}={value}" for name, value in query.items())
        return self.path.replace("{name}", "console.css") + (f"?{made}" if made else "")

    @property
    def body(self) -> bytes | None:
        """The least body."""
        if not self.acts:
            return None
        return b"x" if self.method == "PUT" else json.dumps(least(BODIES[self.path]) if self.path in BODIES else {}).encode()


@dataclass
class Api_:
    """What callers show."""

    headers: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = None


def ways() -> list[Way]:
    """Rule 1."""
    routes = Api(None, None, Path("/nowhere"), 0, 0, time.monotonic).routes()  # type: ignore[arg-type]
    found = [
        Way(method, route.path) for route in routes if isinstance(route, AppRoute) for method in (route.methods or ()) if method != "HEAD"
    ]
    listed = {("GET", path) for path, *_ in READS} | {("POST", path) for path, *_ in ACTS}
    missing = listed - {(way.method, way.path) for way in found}
    if missing or len(found) != len(routes) + sum(
        len((route.methods or set()) - {"HEAD"}) - 1 for route in routes if isinstance(route, AppRoute)
    ):
        raise RuntimeError(f"some of the API's routes cannot be asked: {missing}")
    return sorted(set(found), key=str)


@cache
def least(kind: Any) -> dict[str, Any]:
    """The smallest body of a type."""
    fields = msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]
    return {one.encode_name: _least(one.type) for one in fields if one.required}


def _least(kind: Any) -> Any:
    match kind:
        case msgspec.inspect.StructType():
            return least(kind.cls)
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
            return _least(kind.types[0])
        case _:
            return []


# --- asking -----------------------------------------------------------------------------------------------------------------------


def _said(link: http.client.HTTPConnection, way: Way, headers: Mapping[str, str], body: bytes | None = None) -> Said:
    kind = {"content-type": "application/json"} if way.acts and way.method != "PUT" else {}
    try:
        link.request(way.method, way.target, way.body if body is None else body, {**kind, **headers})
        answer = link.getresponse()
        stream = answer.headers.get("content-type", "").startswith("text/event-stream")
        text = b"" if stream else answer.read()
    except (OSError, http.client.HTTPException) as error:
        return Said(f"nothing ({type(error).__name__})")
    finally:
        link.close()
    refused = _refused(text) if answer.status == 200 else ""
    let_in = answer.status < 400 and answer.status != 303 and not refused
    return Said(f"{answer.status} {refused or _problem(text)}".strip(), let_in=let_in)


def _refused(text: bytes) -> str:
    """The code of an exchange that was refused: an answer, not a problem."""
    try:
        said = json.loads(text)
    except ValueError:
        return ""
    return str(said["error"]) if isinstance(said, dict) and said.get("error") and not said.get("access_token") else ""


def _problem(text: bytes) -> str:
    try:
        said = json.loads(text)
    except ValueError:
        return ""
    return str(said.get("type", "")).rpartition("/")[2] if isinstance(said, dict) else ""


def unix(path: Path, way: Way, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Said:
    """As whoever runs this."""
    link = http.client.HTTPConnection("localhost", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.settimeout(10)
    try:
        link.sock.connect(str(path))
    except OSError as error:
        return Said(f"nothing ({type(error).__name__})")
    return _said(link, way, headers or {}, body)


def tcp(address: tuple[str, int], way: Way, headers: Mapping[str, str]) -> Said:
    """As a browser's page on the console's own origin would, unless `headers` say otherwise."""
    time.sleep(PAUSE_SECONDS)
    own = {"host": f"{address[0]}:{address[1]}", "origin": f"http://{address[0]}:{address[1]}"}
    return _said(http.client.HTTPConnection(*address, timeout=10), way, {**own, **headers})


def as_uid(uid: int, act: Callable[[], Said]) -> Said:
    """What happens when another uid does it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = act()
            os.write(write, json.dumps([said.told, said.let_in]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return Said(*json.loads(text)) if text else Said("nothing (the child broke)")


# --- who asks ---------------------------------------------------------------------------------------------------------------------


class Browser:
    """Sessions of the console: one that stands, one that was ended, and the code that opened it."""

    def __init__(self, house: Example) -> None:
        self.house = house
        house.administer(AUDITOR_UID, "role:auditor")
        house.administer(ENDED_UID, "role:registrar", expires_at=int(time.time() * 1000) + 2_000)
        house.revoke(house.administer(REVOKED_UID, "role:registrar"), "principal")
        host, _, port = house.status().console.removeprefix("http://").strip("/").rpartition(":")
        self.address = host, int(port)
        self.cookie, self.csrf, _ = self._log_in()
        self.over, self.over_csrf, self.code = self._log_in()
        tcp(self.address, Way("DELETE", "/api/v1/session"), {"cookie": f"{COOKIE}={self.over}", CSRF_HEADER: self.over_csrf})

    def _log_in(self) -> tuple[str, str, str]:
        code = self.house.client.post(dict, "/api/v1/login-code", {})["code"]
        link = http.client.HTTPConnection(*self.address, timeout=10)
        origin = {"origin": f"http://{self.address[0]}:{self.address[1]}", "content-type": "application/json"}
        link.request("POST", "/api/v1/session", json.dumps({"code": code}), origin)
        answer = link.getresponse()
        said = json.loads(answer.read())
        cookie = answer.headers["set-cookie"].partition(";")[0].partition("=")[2]
        return cookie, said["csrf"], code


def kinds(house: Example, browser: Browser, *, path: Path | None = None, address: tuple[str, int] | None = None) -> dict[str, Kind[Way]]:
    """Every kind; `path` and `address` are where the null listens."""
    socket_path, console = path or house.layout.api_socket, address or browser.address
    asked: Callable[[Way], bool] = lambda way: not way.public  # noqa: E731
    closed: Callable[[Way], bool] = lambda way: not way.open  # noqa: E731
    acting: Callable[[Way], bool] = lambda way: way.acts and not way.open  # noqa: E731
    session = {"cookie": f"{COOKIE}={browser.cookie}", CSRF_HEADER: browser.csrf}
    made: dict[str, Kind[Way]] = {}

    def by_unix(of: str, name: str, expects: frozenset[str], *, uid: int = NOBODY, **headers: str) -> None:
        made[f"unix socket: {name}"] = Kind(of, lambda way: as_uid(uid, lambda: unix(socket_path, way, headers)), expects, asked)

    def by_tcp(
        of: str, name: str, headers: Mapping[str, str], expects: frozenset[str] = NOT_LOGGED_IN, only: Callable[[Way], bool] = closed
    ) -> None:
        made[f"console: {name}"] = Kind(of, lambda way: tcp(console, way, headers), expects, only)

    if os.geteuid() == 0:
        unverified = told("403 unverified") | NOT_PERMITTED
        by_unix("none", "a uid that nobody knows", unverified)
        by_unix("none", "a uid that names itself in headers", unverified, **{"x-forwarded-user": "root", "x-vg-uid": "0", "x-vg-san": "x"})
        by_unix("wrong audience", "the gateway's uid", unverified, uid=house.users.of("gateway"))
        by_unix("wrong audience", "a model server's uid", unverified, uid=house.server_uid)
        by_unix("stolen", "a browser's session, shown by another uid", NOT_LOGGED_IN, authorization=f"Bearer {browser.cookie}")
        by_unix("self-signed", "a made-up session", NOT_LOGGED_IN, authorization=f"Bearer {'0' * 43}")
        by_unix("none", "another scheme than a session's", NOT_LOGGED_IN, authorization="Basic cm9vdDo=")
        by_unix("revoked", "a session that was ended", NOT_LOGGED_IN, authorization=f"Bearer {browser.over}")
        by_unix("revoked", "a registrar who was revoked", unverified, uid=REVOKED_UID)
        by_unix("expired", "an administrator whose registration ended", unverified, uid=ENDED_UID)
        by_unix("exchanged beyond scope", "an auditor, beyond reading", NOT_PERMITTED, uid=AUDITOR_UID)
        name = "unix socket: an auditor, beyond reading"
        made[name] = Kind(
            "exchanged beyond scope", made[name].ask, unverified, lambda way: asked(way) and way.acts and way.path not in READING
        )
        _exchanges(house, made, socket_path)
    by_tcp("none", "no session", {})
    by_tcp("self-signed", "a made-up session", {"cookie": f"{COOKIE}={'0' * 43}"})
    by_tcp("revoked", "a session that was ended", {"cookie": f"{COOKIE}={browser.over}", CSRF_HEADER: browser.over_csrf})
    by_tcp(
        "confusable name",
        "two sessions in one cookie",
        {"cookie": f"{COOKIE}={browser.cookie}; {COOKIE}={browser.over}", CSRF_HEADER: browser.csrf},
    )
    by_tcp("stolen", "a session in a header that is the unix socket's", {"authorization": f"Bearer {browser.cookie}"})
    by_tcp("wrong domain", "a session under another host", session | {"host": "evil.example"}, told("400 invalid-input"), lambda way: True)
    by_tcp("wrong domain", "a session from another origin", session | {"origin": "http://evil.example"}, NOT_PERMITTED, acting)
    by_tcp("stolen", "a session without its CSRF token", {"cookie": f"{COOKIE}={browser.cookie}"}, NOT_PERMITTED, acting)
    by_tcp("wrong audience", "a session with another's CSRF token", session | {CSRF_HEADER: browser.over_csrf}, NOT_PERMITTED, acting)
    replayed = lambda way: _code(console, way, browser.code)  # noqa: E731
    made["console: a code that was used"] = Kind(
        "replayed", replayed, told("403 unverified"), lambda way: str(way) == "POST /api/v1/session"
    )
    made["console: a code that nobody gave"] = Kind(
        "self-signed", lambda way: _code(console, way, "x" * 22), told("403 unverified"), lambda way: str(way) == "POST /api/v1/session"
    )  # fmt: skip
    return made


def _exchanges(house: Example, made: dict[str, Kind[Way]], path: Path) -> None:
    """A stolen token, exchanged on this machine's socket by a user whom nobody lets act for anybody."""
    form = _form(house.issue("service", "alice", "sts"))
    only: Callable[[Way], bool] = lambda way: str(way) == "POST /api/v1/token"  # noqa: E731
    for of, name, uid, changes, code in (
        ("stolen", "a stranger exchanges a stolen token", NOBODY, {}, "access-denied"),
        ("revoked", "a revoked registrar exchanges a stolen token", REVOKED_UID, {}, "access-denied"),
        ("expired", "one whose registration ended exchanges a stolen token", ENDED_UID, {}, "access-denied"),
        ("exchanged beyond scope", "an auditor exchanges a stolen token", AUDITOR_UID, {}, "access-denied"),
        ("wrong audience", "a token that is for an endpoint", NOBODY, {"subject_token": house.token("alice", "digits")}, "invalid-grant"),
    ):
        body = json.dumps({"form": form | changes}).encode()
        ask = lambda way, uid=uid, body=body: as_uid(uid, lambda: unix(path, way, body=body))  # noqa: E731
        made[f"unix socket: {name}"] = Kind(of, ask, told(f"200 {code}"), only)


READING = frozenset({"/api/v1/audit/verify", "/api/v1/policy/check", "/api/v1/login-code", "/api/v1/backup"})
"""Acts that the policy schema counts as reading (`administer-read`), which is an auditor's."""


def _code(address: tuple[str, int], way: Way, code: str) -> Said:
    time.sleep(PAUSE_SECONDS)
    link = http.client.HTTPConnection(*address, timeout=10)
    origin = {"origin": f"http://{address[0]}:{address[1]}", "content-type": "application/json"}
    link.request(way.method, way.path, json.dumps({"code": code}), origin)
    answer = link.getresponse()
    text = answer.read()
    return Said(f"{answer.status} {_problem(text)}".strip(), let_in=answer.status < 400)


def registrar(house: Example, names: list[str], runs: Mapping[str, str]) -> Surface[str]:
    """What a registrar of ours can make of names that look like another's, and of another's run: nothing."""
    surface = Surface("registrar", REGISTRAR)

    def ask(door: str, **changes: str) -> Said:
        body = {"kind": "service", "zone": "serve", "name": "plain", "groups": []}
        more = {"form": "jwt", "audience": "digits"} if door == REGISTRAR[1] else {}
        return _post(house, door.partition(" ")[2], body | more | changes)

    wrong = told("400 invalid-name")
    issues: Callable[[str], bool] = lambda door: door == REGISTRAR[1]  # noqa: E731
    kinds = {f"the name {name!a}": Kind("confusable name", lambda door, name=name: ask(door, name=name), wrong) for name in names}  # type: ignore[misc]
    kinds |= {
        "another zone within the zone": Kind("confusable name", lambda door: ask(door, zone="serve/service"), wrong),
        "another trust domain": Kind("wrong domain", lambda door: ask(door, zone="serve/../../other.example"), wrong),
        "one of our own processes": Kind("confusable name", lambda door: ask(door, kind="system"), told("400 invalid-input"), issues),
        "a kind that is none": Kind("confusable name", lambda door: ask(door, kind="Service"), wrong),
        "for an endpoint that is not there": Kind(
            "wrong audience", lambda door: ask(door, audience="nowhere"), told("404 not-found"), issues
        ),
        "under another's run": Kind("other run's token", lambda door: ask(door, run=runs["going on"]), told("403 not-permitted"), issues),
        "under a run that ended": Kind(
            "other run's token",
            lambda door: ask(door, kind="job", name="fit", groups=None, run=runs["ended"]),
            told("409 conflict"),
            issues,
        ),
    }
    surface.controls = {door: ask(door) for door in REGISTRAR}
    surface.attempt(kinds)
    return surface


REGISTRAR = ("POST /api/v1/registrations", "POST /api/v1/identities")


def _post(house: Example, path: str, body: Mapping[str, Any]) -> Said:
    link = http.client.HTTPConnection("localhost", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(house.layout.api_socket))
    link.request("POST", path, json.dumps(dict(body)), {"content-type": "application/json"})
    answer = link.getresponse()
    text = answer.read()
    link.close()
    return Said(f"{answer.status} {_problem(text)}".strip(), let_in=answer.status < 400)


def controls(house: Example, browser: Browser, doors: list[Way]) -> dict[str, Said]:
    """The administrator passes every door: whatever is answered, it is not that it may not. Acts are tried last, since they act."""
    found = {}
    session = {"cookie": f"{COOKIE}={browser.cookie}", CSRF_HEADER: browser.csrf}
    for way in sorted(doors, key=lambda way: (way.acts, way.method == "DELETE", way.path != "/api/v1/audit/verify", str(way))):
        if way.path == "/api/v1/session":
            said = tcp(browser.address, way, session if way.method != "POST" else {})
        elif way.open:
            said = tcp(browser.address, way, {})
        elif str(way) == "POST /api/v1/token":
            said = _exchanged(house, way)
        else:
            said = unix(house.layout.api_socket, way)
        shut = said.told.startswith(("403", "401", "nothing")) or (said.told.startswith("200 ") and not said.let_in)
        found[str(way)] = Said(said.told, let_in=not shut or (str(way) in BY_PROOF and said.told == "403 unverified"))
    return found


def _exchanged(house: Example, way: Way) -> Said:
    """A local user who may act for somebody does, with a key of its own."""
    house.administer(ACTOR_UID, "callers")
    url = json.loads(unix_text(house, "/api/v1/token"))["url"]
    form = _form(house.issue("service", "alice", "sts"))
    proof = defects.proof(ec.generate_private_key(ec.SECP256R1()), "POST", url, int(time.time()))
    body = json.dumps({"form": form, "proof": proof}).encode()
    return as_uid(ACTOR_UID, lambda: unix(house.layout.api_socket, way, body=body))


def unix_text(house: Example, path: str) -> bytes:
    """GET, as whoever runs this."""
    link = http.client.HTTPConnection("localhost", timeout=10)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(house.layout.api_socket))
    link.request("GET", path)
    return link.getresponse().read()


def _form(subject: str) -> dict[str, str]:
    grant, jwt = "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:token-type:jwt"
    return {"grant_type": grant, "subject_token_type": jwt, "resource": "digits", "scope": "infer:digits", "subject_token": subject}
