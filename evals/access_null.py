"""What must be found out: the same tries where nobody is authenticated, and in an installation in which one check was taken out.

1. Null: servers of our own in the place of each surface let everybody in; every kind must be found let in.
2. Sabotage: the installed package is copied, one check is replaced in the copy, and the example is started from it. The kinds that the check
   is for must be found let in, and fail the run. A replacement that does not fit the text any more is an error.
"""

from __future__ import annotations

import http.server
import shutil
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import access_api
import access_gateway
import access_sockets
import access_sts
import defects
import msgspec
from access_gateway import Cast, Route
from benchmarks.rows import Row
from example import ROOT, Example, Quiet, serve_tls
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from tries import Said, Surface, listed


class _Open(http.server.BaseHTTPRequestHandler):
    """Lets everybody in."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_PUT = do_DELETE = do_GET

    def address_string(self) -> str:
        """A unix socket's peer has none."""
        return ""

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class _OpenFrames(socketserver.BaseRequestHandler):
    """Answers every frame."""

    def handle(self) -> None:
        self.request.recv(65_536)
        body = msgspec.msgpack.encode((1, True, {}))
        self.request.sendall(len(body).to_bytes(4, "big") + body)


class _OpenGrpc(socketserver.BaseRequestHandler):
    """Answers every gRPC request."""

    def handle(self) -> None:
        server = H2Connection(H2Configuration(client_side=False))
        server.initiate_connection()
        self.request.sendall(server.data_to_send())
        while data := self.request.recv(65_536):
            for event in server.receive_data(data):
                if isinstance(event, StreamEnded):
                    server.send_headers(
                        event.stream_id, [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")], end_stream=True
                    )
            self.request.sendall(server.data_to_send())


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that hangs up is no news."""


@contextmanager
def _listening(path: Path, handler: type[Any]) -> Iterator[Path]:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    server = _Unix(str(path), handler)
    path.chmod(0o666)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()
        path.unlink()


def null(house: Example, cast: Cast, browser: access_api.Browser, tokens: Mapping[str, str]) -> Row:
    """Rule 1: each kind once."""
    folder = house.folder / "null"
    tls = serve_tls(_Open, defects.self_signed(house.folder, "open-server", ["https://localhost"]))
    plain = Quiet(("127.0.0.1", 0), _Open)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    where = ("127.0.0.1", tls.server_port)
    made: list[Surface[Any]] = [Surface("gateway", cast.table), Surface("sts", sts_doors(house)), Surface("api", access_api.ways())]
    try:
        made[0].attempt(access_gateway.kinds(cast, where), once=True)
        made[1].attempt(access_sts.kinds(house, cast, where), once=True)
        with _listening(folder / "api.sock", _Open) as path:
            made[2].attempt(access_api.kinds(house, browser, path=path, address=("127.0.0.1", plain.server_port)), once=True)
        with _listening(folder / "workload.sock", _OpenGrpc) as path:
            made.append(access_sockets.workload(house, tokens, path))
        made += _other(house, folder)
    finally:
        for server in (tls, plain):
            server.shutdown()
            server.server_close()
    found, tried = sum(one.accepted for one in made), sum(one.tried for one in made)
    missed = [f"{one.name}: {name}" for one in made for name, outcome in one.outcomes.items() if not outcome.accepted]
    return Row(
        name="access/null: nobody is authenticated", value=found, unit=f"of {tried} found let in", goal=f"= {tried}",
        met=found == tried and not missed, n=tried,
        note=", ".join(f"{one.name} {one.accepted} of {one.tried}" for one in made) + (f"; not found: {listed(missed)}" if missed else ""),
    )  # fmt: skip


def sts_doors(house: Example) -> list[access_sts.Resource]:
    """The resources that are not for everybody."""
    return [one for one in access_sts.resources() if str(one) not in access_sts.public(house)]


def _other(house: Example, folder: Path) -> list[Surface[Any]]:
    """One method of a socket of one process, one of a socket of several, one other socket, one file."""
    frames, others = access_sockets.sockets(house)
    file = folder / "open-file"
    file.write_bytes(b"x")
    file.chmod(0o644)
    wanted = [next(one for one in frames if one.name == "signer.sock"), next(one for one in frames if one.rightful == "server")]
    admin = next(one for one in others if one.path.endswith("admin.sock"))
    with ExitStack() as open_now:
        for name, handler in (("signer.sock", _OpenFrames), ("control.sock", _OpenFrames), ("admin.sock", _Open)):
            open_now.enter_context(_listening(folder / name, handler))
        made: list[Surface[Any]] = [
            Surface("frames", [access_sockets.Place(str(folder / one.name), one.method, one.name) for one in wanted]),
            Surface("sockets", [access_sockets.Place(str(folder / "admin.sock"), "", admin.name)]),
            Surface("files", [access_sockets.Place(str(file), "", "a file")]),
        ]
        access_sockets.attempt(house, made)
    return made


# --- sabotage ---------------------------------------------------------------------------------------------------------------------


Edit = tuple[str, str, str]
"""File of the package, what is there, what takes its place."""


@dataclass(frozen=True)
class Sabotage:
    """One check, taken out, wherever it is made."""

    name: str
    of: str
    """The kinds that must be found let in."""
    edits: tuple[Edit, ...]


SABOTAGES = (
    Sabotage("proofs are not remembered", "replayed", (("identity/dpop.py", "        if name in self._until:\n", "        if False:\n"),)),
    Sabotage(
        "any audience is taken", "wrong audience",
        (
            ("edges/envoy/tokens.py", "        provider.audiences.append(endpoint.id)\n", ""),
            ("flows/admit_request.py", "    if request.subject and request.audience != request.endpoint:\n", "    if False:\n"),
        ),
    ),
    Sabotage(
        "scopes are not looked at", "exchanged beyond scope",
        (("flows/delegation.py", "    if caller.scopes is None:\n        return True\n", "    return True\n"),),
    ),
)  # fmt: skip


@contextmanager
def _package(one: Sabotage) -> Iterator[list[str]]:
    """A copy of the package with the check taken out, under an interpreter of its own; the command that starts it."""
    folder = Path(tempfile.mkdtemp(prefix="vg-sabotage", dir="/tmp"))
    folder.chmod(0o755)
    try:
        site = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        shutil.copytree(ROOT / "src" / "vouchgate", site / "vouchgate", ignore=shutil.ignore_patterns("__pycache__"))
        for name, old, new in one.edits:
            file = site / "vouchgate" / name
            text = file.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise RuntimeError(f"the sabotage `{one.name}` does not fit `{name}` any more")
            file.write_text(text.replace(old, new), encoding="utf-8")
        (site / "all.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n", encoding="utf-8")
        (folder / "bin").mkdir()
        (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
        (folder / "pyvenv.cfg").write_text(
            f"home = {Path(sys.executable).resolve().parent}\ninclude-system-site-packages = false\n", encoding="utf-8"
        )
        yield [str(folder / "bin" / "python"), "-I", "-m", "vouchgate.edges.cli.main"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sabotage(one: Sabotage) -> Row:
    """Rule 2."""
    with _package(one) as command, Example(command) as house:
        house.folder.chmod(0o711)
        table = [route for route in access_gateway.routes(house)[0] if route.host == "localhost"]
        cast = Cast(house, table)
        cast.exchange_all()
        surface: Surface[Route] = Surface("gateway", table)
        control = access_gateway.controls(cast, surface)
        surface.attempt({name: kind for name, kind in access_gateway.kinds(cast).items() if kind.of == one.of})
    shut = [name for name, said in control.items() if not said.let_in]
    return Row(
        name=f"access/sabotage: {one.name}", value=surface.accepted, unit=f"of {surface.tried} found let in", goal="> 0",
        met=surface.accepted > 0 and not shut, n=surface.tried,
        note=f"`{one.of}`: " + listed(sorted({f"{name}" for name, outcome in surface.outcomes.items() if outcome.accepted})) + (f"; controls refused: {listed(shut)}" if shut else ""),
    )  # fmt: skip


__all__ = ["SABOTAGES", "Said", "null", "sabotage"]
