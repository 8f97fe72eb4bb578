"""What the processes listen on and hold: frames, sockets, files, memory, and the Workload API, each tried as every uid that may not.

1. Sockets and files are those that are found below the data directory while the installation runs; one that nobody here knows how to ask is an
   error. Methods are those of the processes' own tables.
2. A process that was taken over is a defective identity: it is tried as every other process' uid, besides one that nobody knows.
3. `error` to a stranger would mean that the request was worked on before anybody asked who sends it: only `not-permitted` is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import msgspec
from access_api import NOBODY
from defects import edited, unsigned
from example import TRUST_DOMAIN, Example
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamReset, TrailersReceived
from tries import Kind, Said, Surface, told

from vouchgate import wiring
from vouchgate.edges.processes import agent, control_rpc, pdp, signer, sts, tree, witness
from vouchgate.vocabulary.layout import OFFSETS

SECONDS = 5.0
"""Patience with one door."""
RIGHTFUL: tuple[tuple[str, str, str], ...] = (
    ("control.sock", "workload.rotate", "supervisor"), ("control.sock", "workload.", "agent"), ("control.sock", "sts.", "sts"),
    ("control.sock", "in_process.", "server"), ("control.sock", "offset", "tailer"), ("control.sock", "take_lines", "tailer"),
    ("control.sock", "tail_alive", "tailer"), ("control.sock", "record_decision", "pdp"), ("control.sock", "", "supervisor"),
    ("ext_authz.sock", "", "gateway"), ("admin.sock", "", "gateway"), ("ads.sock", "", "gateway"), ("server.sock", "", "gateway"),
    ("", "", "control"),
)  # fmt: skip
"""Socket, what the method begins with, and the one process that may; the first line that fits (docs/architecture.md, "Processes")."""
OPEN_SOCKETS = {"api.sock": "a surface of its own", "workload.sock": "a surface of its own"}
PUBLIC_FILES = {
    "trust-root.json": "what evidence is verified with",
    "vouchgate.json": "where things listen",
    "supervisor/gateway-running": "since when the gateway runs",
}
HTTP = b"GET /config_dump HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
ADS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@dataclass(frozen=True)
class Place:
    """A socket, or one method of it; a file, or a process' memory."""

    path: str
    method: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.method}".strip()

    @property
    def rightful(self) -> str:
        """Whose it is to ask."""
        return next(who for end, begin, who in RIGHTFUL if self.path.endswith(end) and self.method.startswith(begin))


def tables(house: Example) -> dict[str, Iterable[str]]:
    """Rule 1: the methods of each frames socket, from the tables that serve them."""
    stand_in = MagicMock()
    return {
        "signer.sock": signer.handlers(stand_in, stand_in, stand_in),
        "control.sock": control_rpc.handlers(stand_in),
        "pdp.sock": pdp.handlers(stand_in),
        "witness.sock": witness.handlers(stand_in),
        "agent.sock": _agent().handlers(),
        "sts.sock": sts.outbound(*[wiring.load_installation(house.data), MagicMock()][: len(inspect.signature(sts.outbound).parameters)]),
        "supervisor.sock": tree.Tree._handlers(stand_in),
    }


def _agent() -> agent.Agent:
    """An agent that serves nobody; it is made inside an event loop of its own."""

    async def made() -> agent.Agent:
        return agent.Agent(MagicMock(), MagicMock())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(made())).result()


def found(house: Example, wanted: Callable[[int], bool]) -> list[Path]:
    """Everything of a kind below the data directory, and below the one of the offline root."""
    return sorted(path for folder in (house.data, house.folder / "root") for path in folder.rglob("*") if wanted(path.lstat().st_mode))


def sockets(house: Example) -> tuple[list[Place], list[Place]]:
    """(methods of frames sockets, other sockets)."""
    methods = tables(house)
    frames, others = [], []
    for path in found(house, stat.S_ISSOCK):
        name = str(path.relative_to(house.folder))
        if path.name in methods:
            frames += [Place(str(path), method, path.name) for method in sorted(methods[path.name])]
        elif path.name in {"ext_authz.sock", "admin.sock", "ads.sock", "server.sock"}:
            others.append(Place(str(path), "", name))
        elif path.name not in OPEN_SOCKETS:
            raise RuntimeError(f"the socket `{name}` cannot be asked: it is not covered")
    return frames, others


def files(house: Example) -> list[Place]:
    """Files that are somebody's, and the memory of each process."""
    kept = [path for path in found(house, stat.S_ISREG) if str(path.relative_to(house.folder)).removeprefix("data/") not in PUBLIC_FILES]
    processes = house.processes()
    return [
        *(Place(str(path), "", str(path.relative_to(house.folder))) for path in kept),
        *(Place(f"/proc/{pid}/mem", "", f"memory of {name}") for name, pid in sorted(processes.items())),
    ]


# --- asking -----------------------------------------------------------------------------------------------------------------------


def frame(path: str, method: str) -> Said:
    """One frame (vocabulary/frames.py: four bytes of length, MessagePack)."""
    body = msgspec.msgpack.encode((1, method, {}))
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(SECONDS)
            link.connect(path)
            with contextlib.suppress(BrokenPipeError):
                # whoever may not is told so before anything is read
                link.sendall(len(body).to_bytes(4, "big") + body)
            length = int.from_bytes(_exactly(link, 4), "big")
            _, good, said = msgspec.msgpack.decode(_exactly(link, length))
    except OSError as error:
        return Said(f"nothing ({type(error).__name__})")
    return Said("answered", let_in=True) if good else Said(str(said["code"]))


def _exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def knock(path: str) -> Said:
    """Connect and say something."""
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(SECONDS)
            link.connect(path)
            link.sendall(ADS if path.endswith("ads.sock") else HTTP)
            answer = link.recv(400)
    except PermissionError:
        return Said("no permission")
    except OSError:
        return Said("hung up")
    return Said("answered", let_in=True) if answer else Said("hung up")


def read(path: str) -> Said:
    """Open for reading."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        return Said("no permission")
    except OSError as error:
        return Said(f"nothing ({type(error).__name__})")
    return Said("opened", let_in=True)


def as_uid(uid: int, act: Callable[[Place], Said], places: Iterable[Place]) -> dict[str, Said]:
    """One child that becomes this uid and tries them all."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = {str(place): act(place) for place in places}
            with os.fdopen(writing, "w") as stream:
                json.dump({name: [one.told, one.let_in] for name, one in said.items()}, stream)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return {name: Said(*one) for name, one in json.loads(text or "{}").items()}


def people(house: Example) -> dict[str, int]:
    """Rule 2."""
    users = house.users
    return {
        "a stranger": NOBODY,
        **{name: users.of(name) for name in OFFSETS},
        "server": users.server(0),
        "another server": users.server(1),
    }


def kinds(
    house: Example, places: list[Place], act: Callable[[Place], Said], expects: frozenset[str], may: Callable[[Place], Iterable[str]]
) -> dict[str, Kind[Place]]:
    """One kind for every uid that may not everywhere."""
    made: dict[str, Kind[Place]] = {}
    for who, uid in people(house).items():
        own = {str(place) for place in places if who in may(place)}
        tried = [place for place in places if str(place) not in own]
        if not tried:
            continue
        said: dict[str, Said] = {}

        def ask(place: Place, uid: int = uid, tried: list[Place] = tried, said: dict[str, Said] = said) -> Said:
            if not said:
                said.update(as_uid(uid, act, tried))
            return said.get(str(place), Said("nothing (the child broke)"))

        of = "none" if uid == NOBODY else "stolen"
        made[f"as {who}"] = Kind(of, ask, expects, lambda place, own=own: str(place) not in own)  # type: ignore[misc]
    return made


def owners(house: Example) -> Callable[[Place], Iterable[str]]:
    """Who a file belongs to, and whose group may read it; nobody has the memory of a process but the root."""
    names = {uid: name for name, uid in people(house).items()}

    def of(place: Place) -> Iterable[str]:
        if place.path.startswith("/proc/"):
            return [
                name
                for name in names.values()
                if place.name == f"memory of {name}" or ("server" in name and place.name in ("memory of digits", "memory of chat"))
            ]
        facts = Path(place.path).stat()
        group = [names.get(facts.st_gid, "")] if facts.st_mode & stat.S_IRGRP else []
        return [names.get(facts.st_uid, ""), *group]

    return of


def rightful(place: Place) -> Iterable[str]:
    """Who may ask; each server for its own endpoint alone, which a request without one does not name."""
    return ("server", "another server") if place.rightful == "server" else (place.rightful,)


def surfaces(house: Example) -> list[Surface[Place]]:
    """All doors of this file but the Workload API's."""
    frames, others = sockets(house)
    made = [Surface("frames", frames), Surface("sockets", others), Surface("files", files(house))]
    made[1].notes += [f"{name}: {why}" for name, why in OPEN_SOCKETS.items()]
    made[2].notes += [f"{name} is for everybody: {why}" for name, why in PUBLIC_FILES.items()]
    return made


def attempt(house: Example, made: list[Surface[Place]]) -> None:
    """As every uid."""
    acts: tuple[tuple[Callable[[Place], Said], frozenset[str], Callable[[Place], Iterable[str]]], ...] = (
        (lambda place: frame(place.path, place.method), told("not-permitted"), rightful),
        (lambda place: knock(place.path), told("no permission", "hung up"), rightful),
        (lambda place: read(place.path), told("no permission"), owners(house)),
    )
    for surface, (act, expects, may) in zip(made, acts, strict=True):
        surface.attempt(kinds(house, list(surface.doors), act, expects, may))
    other = {"endpoint": f"vg://{TRUST_DOMAIN}/endpoint/chat"}
    made[0].attempt(
        {
            "a server for another's endpoint": Kind(
                "wrong audience",
                lambda place: as_uid(house.server_uid, lambda one: frame_of(one, other), [place])[str(place)],
                told("not-permitted"),
                lambda place: place.rightful == "server",
            )
        }
    )


def controls(house: Example, surfaces: list[Surface[Place]]) -> None:
    """Who may is let in; last of all, since some of the methods act."""
    uids = people(house) | {"supervisor": 0}
    frames, others, kept = surfaces
    for place in frames.doors:
        if place.rightful != "server":
            said = as_uid(uids[place.rightful], lambda one: frame(one.path, one.method), [place])[str(place)]
            frames.controls[str(place)] = Said(said.told, let_in=said.told != "not-permitted" and not said.told.startswith("nothing"))
        else:
            frames.controls[str(place)] = in_process(house, place)
    for place in others.doors:
        others.controls[str(place)] = as_uid(uids[place.rightful], lambda one: knock(one.path), [place])[str(place)]
    for place in kept.doors:
        memory = place.path.startswith("/proc/")
        uid = 0 if memory else Path(place.path).stat().st_uid
        kept.controls[str(place)] = as_uid(uid, lambda one: read(one.path), [place])[str(place)]


def in_process(house: Example, place: Place) -> Said:
    """A server for its own endpoint."""
    return as_uid(house.server_uid, lambda one: frame_of(one, {"endpoint": f"vg://{TRUST_DOMAIN}/endpoint/digits"}), [place])[str(place)]


def frame_of(place: Place, params: dict[str, Any]) -> Said:
    """A frame with parameters: anything but `not-permitted` is past the check."""
    body = msgspec.msgpack.encode((1, place.method, params))
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(SECONDS)
        link.connect(place.path)
        link.sendall(len(body).to_bytes(4, "big") + body)
        _, good, said = msgspec.msgpack.decode(_exactly(link, int.from_bytes(_exactly(link, 4), "big")))
    code = "answered" if good else str(said["code"])
    return Said(code, let_in=code != "not-permitted")


# --- the Workload API -------------------------------------------------------------------------------------------------------------

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
UIDS = {"known": 58_811, "revoked": 58_812, "left": 58_813, "other hash": 58_814, "tied": 58_815, "ended": 58_816, "other path": 58_817}
"""Unix users with a registration each, by what is wrong with it."""


def workload_methods() -> list[Place]:
    """Every method of the agent's services, from its own table."""
    services = _agent()._services()
    return [Place("", path, "workload.sock") for service in services for path in sorted(service.__mapping__())]


def _text(number: int, *values: str) -> bytes:
    """Fields of a protobuf message that are strings (Protocol Buffers, "Length-Delimited Records")."""
    return b"".join(bytes([number << 3 | 2]) + _length(len(value.encode())) + value.encode() for value in values)


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 127 | 128]) + _length(size >> 7)


def message(method: str, *, subject: str = "", token: str = "", audience: str = "x") -> bytes:
    """What a well-formed request of the method says."""
    name = method.rpartition("/")[2]
    if name == "FetchJWTSVID":
        return _text(1, audience) + (_text(2, subject) if subject else b"")
    if name == "ValidateJWTSVID":
        return _text(1, audience) + _text(2, token or "a.b.c")
    if "Secret" in method:
        delta = name.startswith("Delta")
        return _text(2 if delta else 4, SECRET_TYPE) + _text(3, "default")
    return b""


def call(path: str, method: str, body: bytes, headers: Mapping[str, str]) -> Said:
    """One gRPC request: the first message or the status that ends it."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    head = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    client.send_headers(1, list({**head, **headers}.items()))
    client.send_data(1, b"\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(SECONDS)
            link.connect(path)
            link.sendall(client.data_to_send())
            while data := link.recv(65_536):
                for event in client.receive_data(data):
                    if isinstance(event, DataReceived):
                        return Said("a message", let_in=True)
                    if isinstance(event, ResponseReceived | TrailersReceived):
                        status = dict(event.headers).get("grpc-status")
                        if status is not None:
                            return Said(f"grpc {status}", let_in=status == "0")
                    if isinstance(event, StreamReset | ConnectionTerminated):
                        return Said("reset")
                link.sendall(client.data_to_send())
    except OSError as error:
        return Said(f"nothing ({type(error).__name__})")
    return Said("hung up")


def workload(house: Example, tokens: Mapping[str, str], path: Path | None = None) -> Surface[Place]:
    """The Workload API: whose process asks is what is wrong, or what it shows."""
    where = str(path or house.layout.workload_socket)
    surface = Surface("workload api", workload_methods())
    if path is None:
        _register(house)
    header = {"workload.spiffe.io": "true"}

    def by(uid: int, headers: Mapping[str, str] = header, **said: str) -> Callable[[Place], Said]:
        return lambda place: as_uid(uid, lambda one: call(where, one.method, message(one.method, **said), headers), [place])[str(place)]

    denied, malformed = told("grpc 7"), told("grpc 3")
    jwt: Callable[[Place], bool] = lambda place: place.method.endswith("/FetchJWTSVID")  # noqa: E731
    validate: Callable[[Place], bool] = lambda place: place.method.endswith("/ValidateJWTSVID")  # noqa: E731
    # Envoy's secret discovery asks for no header (edges/spiffe/sds.py)
    spiffe: Callable[[Place], bool] = lambda place: place.method.startswith("/SpiffeWorkloadAPI/")  # noqa: E731
    made: dict[str, Kind[Place]] = {
        "a process without a registration": Kind("none", by(NOBODY), denied),
        "without the security header": Kind("none", by(UIDS["known"], {}), malformed, spiffe),
        "a revoked principal's process": Kind("revoked", by(UIDS["revoked"]), denied),
        "unregistered since": Kind("revoked", by(UIDS["left"]), denied),
        "another executable than the registered": Kind("stolen", by(UIDS["other hash"]), denied),
        "another path than the registered": Kind("confusable name", by(UIDS["other path"]), denied),
        "two registrations that tie": Kind("confusable name", by(UIDS["tied"]), denied),
        "a registration that ended": Kind("expired", by(UIDS["ended"]), denied),
        "one of our own processes": Kind("stolen", by(house.users.of("pdp")), denied),
        "asks for another's name": Kind(
            "confusable name", by(UIDS["known"], subject=f"spiffe://{TRUST_DOMAIN}/service/serve/alice"), denied, jwt
        ),
        "asks for another domain's name": Kind("wrong domain", by(UIDS["known"], subject="spiffe://other.example/service/a"), denied, jwt),
    }
    held = tokens["digits"]
    for of, name, said in (
        ("wrong audience", "a token for another audience", {"token": held, "audience": "vg://x/endpoint/y"}),
        ("expired", "an expired token", {"token": tokens["expired"], "audience": f"vg://{TRUST_DOMAIN}/endpoint/digits"}),
        ("self-signed", "a token without a signature", {"token": unsigned(held), "audience": f"vg://{TRUST_DOMAIN}/endpoint/digits"}),
        (
            "confusable name",
            "a token with another's name",
            {"token": edited(held, sub=f"spiffe://{TRUST_DOMAIN}/service/serve/root"), "audience": f"vg://{TRUST_DOMAIN}/endpoint/digits"},
        ),
    ):
        made[f"shows {name}"] = Kind(of, by(UIDS["known"], **said), malformed, validate)
    good = {"token": held, "audience": f"vg://{TRUST_DOMAIN}/endpoint/digits"}
    if path is None:
        surface.controls = {str(place): _until(lambda place=place: by(UIDS["known"], **good)(place)) for place in surface.doors}  # type: ignore[misc]
    surface.attempt(made)
    return surface


def _until(ask: Callable[[], Said]) -> Said:
    end = time.monotonic() + SECONDS
    while not (said := ask()).let_in and time.monotonic() < end:
        time.sleep(0.05)
    return said


def _register(house: Example) -> None:
    def put(name: str, key: str, *more: tuple[str, str], **fields: Any) -> str:
        selectors = [{"type": "unix:uid", "value": str(UIDS[key])}, *({"type": kind, "value": value} for kind, value in more)]
        asked = {"kind": "service", "zone": "serve", "name": name, "selectors": selectors, **fields}
        return str(house.client.post(dict, "/api/v1/registrations", asked)["principal"])

    put("w-known", "known")
    house.revoke(put("w-revoked", "revoked"), "principal")
    house.client.post(dict, "/api/v1/registrations/remove", {"principal": put("w-left", "left"), "reason": "test"})
    put("w-hash", "other hash", ("unix:sha256", "0" * 64))
    put("w-path", "other path", ("unix:path", "/usr/bin/pythоn"))
    put("w-tied-1", "tied", ("unix:gid", str(UIDS["tied"])))
    put("w-tied-2", "tied", ("unix:sha256", hashlib.sha256(Path(sys.executable).resolve().read_bytes()).hexdigest()))
    put("w-ended", "ended", expires_at=int(time.time() * 1000) + 2_000)
    time.sleep(2.1)
