"""Two installations, two trust domains, side by side: exported sidecars hold between the example and a second service, with certificates that
each installation's agent gives to each sidecar's own user; and what somebody changes at the gateway or a sidecar is found within seconds."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import INFER_PATH, Installation

from vouchgate.edges.envoy.bootstrap import envoy_binary

ECHO = """
import http.server, os, socket, socketserver, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = self.headers.get("x-forwarded-client-cert", "-").encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST
    def log_message(self, *_): pass
    def address_string(self): return "unix"
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
os.umask(0o177)
Server(sys.argv[1], Answer).serve_forever()
"""
"""A service of the user's own, on a unix socket that its user alone may open."""
MORE = """
[[endpoints]]
name = "lake"
zone = "data"
upstream = "unix:{run}/lake.up"
routes = [{{ method = "POST", path = "/read", action = "read" }}]

[[endpoints]]
name = "mirror"
zone = "serve"
upstream = "unix:{run}/mirror.up"
prefix = "/mirror"
routes = [
  {{ method = "POST", path = "/v2/models/digits/infer", action = "infer" }},
  {{ method = "GET", path = "/v2/models/digits", action = "describe" }},
]

[zones.data]
[zones.train]

[[crossings]]
from = "train"
to = "serve"
actions = ["infer"]

[[crossings]]
from = "serve"
to = "data"
actions = ["read"]

[[identities]]
name = "lake"
kind = "server"
zone = "data"
uid = {lake}

[[identities]]
name = "mirror"
kind = "server"
zone = "serve"
uid = {mirror}

[[identities]]
name = "job"
kind = "job"
zone = "train"
uid = {job}
"""
SIDECARS = {"sidecar-lake": "lake", "sidecar-mirror": "mirror", "calls-train": "job"}
PATHS = {"lake": "/read", "mirror": INFER_PATH}
DECLARED = {("train", "mirror"), ("serve", "lake"), ("serve", "mirror"), ("data", "lake")}
"""Crossings, and each zone into itself."""


class Tenant:
    """One installation, its services and their sidecars, each as a user of its own."""

    def __init__(self, domain: str, first_uid: int, first_port: int) -> None:
        self.domain, self.uids = domain, {name: first_uid + number for number, name in enumerate(("lake", "mirror", "job"))}
        self.folder = Path(tempfile.mkdtemp(prefix="vgt", dir="/tmp"))
        self.run = self.folder / "run"
        self.run.mkdir(mode=0o777)
        self.run.chmod(0o1777)
        self.folder.chmod(0o711)
        self.house = Installation(more=MORE.format(run=self.run, **self.uids), top=f"uid_base = {first_uid + 100}")
        text = self.house.settings.read_text()
        policy = self.folder / "digits.cedar"
        policy.write_text((Path(__file__).parents[2] / "examples/digits/digits.cedar").read_text().replace("example.local", domain))
        text = text.replace('path = "' + str(Path(__file__).parents[2] / "examples/digits/digits.cedar"), f'path = "{policy}')
        self.house.settings.write_text(text.replace("example.local", domain))
        self.first_port = first_port
        self.running: list[subprocess.Popen[bytes]] = []
        self.ports: dict[str, int] = {}

    def begin(self) -> None:
        """`vouchgate up` and the services, without waiting: the tenants start side by side."""
        self.house.start(ready=False)
        self.house.folder.chmod(0o711)
        for name in ("lake", "mirror"):
            self._serve(name)

    def sidecars(self) -> None:
        """Export, and start what was written, each as its user."""
        self.house.until_ready()
        self.export()
        for name, user in SIDECARS.items():
            flags = ("--reject-unknown-dynamic-fields", "--disable-hot-restart", "--concurrency", "1", "-l", "error")
            self._start(user, [str(envoy_binary()), "-c", str(self.folder / "out" / f"{name}.json"), *flags])
        for name in ("lake", "mirror"):
            self.house.until(lambda name=name: _open(self.ports[name]), 20, f"the sidecar of {name} did not open")

    def export(self) -> None:
        """`vouchgate zones export`, as a user does it."""
        said = self.house.cli("zones", "export", "--to", "envoy", "-o", str(self.folder / "out"), *self.options)
        assert said.returncode == 0, said.stderr
        for name in ("lake", "mirror"):
            document = json.loads((self.folder / "out" / f"sidecar-{name}.json").read_text())
            (listener,) = [one for one in document["static_resources"]["listeners"] if one["name"] == "in"]
            self.ports[name] = listener["address"]["socket_address"]["port_value"]

    @property
    def options(self) -> tuple[str, ...]:
        return ("--listen", f"127.0.0.1:{self.first_port}", "--run-dir", str(self.run))

    def _start(self, user: str, command: list[str]) -> None:
        uid = self.uids[user]
        with (self.folder / "started.log").open("ab") as log:
            self.running.append(subprocess.Popen(command, user=uid, group=uid, extra_groups=[], stdout=log, stderr=log))

    def _serve(self, name: str) -> None:
        """Its Python may lie in a closed home: loaded as root, its socket given to its user."""
        path = self.run / f"{name}.up"
        self.running.append(subprocess.Popen([sys.executable, "-c", ECHO, str(path)], stderr=subprocess.DEVNULL))
        self.house.until(path.exists, 10, f"{name} did not begin")
        os.chown(path, self.uids[name], self.uids[name])

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(5)
        self.house.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def context(self, zone: str, ttl: int = 0) -> ssl.SSLContext:
        """A client with a certificate of that zone, issued by this installation."""
        folder = self.folder / f"{zone}-{ttl}"
        if not folder.exists() or ttl:
            said = self.house.cli(
                "identity", "issue", "job", zone, "someone", "--group", "visitors", "-o", str(folder), *(("--ttl", str(ttl)) if ttl else ())
            )
            assert said.returncode == 0, said.stderr
        made = ssl.create_default_context(cafile=str(folder / "bundle.pem"))
        made.check_hostname = False
        made.load_cert_chain(folder / "svid.pem", folder / "key.pem")
        return made

    def trusting(self, other: Tenant, zone: str) -> ssl.SSLContext:
        """This tenant's certificate, shown to the other one's service, whose authorities it takes for the test."""
        made = self.context(zone)
        made.load_verify_locations(other.folder / f"{zone}-0" / "bundle.pem")
        return made


def _open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def ask(port: int, tls: ssl.SSLContext | None, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body; 0 where the connection was refused or cut."""
    link = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=tls)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    )
    return _answer(link, path, headers)


def by_pipe(path: Path, target: str) -> tuple[int, str]:
    link = http.client.HTTPConnection("service", timeout=5)
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.connect(str(path))
    return _answer(link, target, None)


def _answer(link: http.client.HTTPConnection, path: str, headers: dict[str, str] | None) -> tuple[int, str]:
    try:
        link.request("POST", path, body=b"{}", headers=headers or {})
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        link.close()


@pytest.fixture(scope="module")
def tenants() -> Iterator[tuple[Tenant, Tenant]]:
    if os.geteuid() != 0:
        pytest.skip("needs root: each sidecar is a user of its own, and earns its identity by that")
    north, south = Tenant("north.local", 61_000, 21_443), Tenant("south.local", 62_000, 22_443)
    try:
        for one in (north, south):
            one.begin()
        for one in (north, south):
            one.sidecars()
            for zone in ("train", "serve", "data"):
                one.context(zone)
        yield north, south
    finally:
        for one in (north, south):
            one.end()


def test_declared_flows_pass_and_every_other_pair_of_zones_and_tenants_is_refused(tenants):
    tried = set()
    for mine, theirs in itertools.product(tenants, tenants):
        for zone, name in itertools.product(("train", "serve", "data"), PATHS):
            status, body = ask(theirs.ports[name], mine.trusting(theirs, zone), PATHS[name])
            expected = mine is theirs and (zone, name) in DECLARED
            assert (status == 200) is expected, (mine.domain, zone, theirs.domain, name, status)
            if expected:
                assert f"URI=spiffe://{mine.domain}/job/{zone}/someone" in body
            tried.add((mine.domain, theirs.domain, zone, name))
    assert len(tried) == 24


def test_a_users_own_calls_go_out_under_its_identity(tenants):
    for one in tenants:
        assert by_pipe(one.run / "calls-train.to.mirror", INFER_PATH) == (200, by_pipe(one.run / "calls-train.to.mirror", INFER_PATH)[1])
        assert f"URI=spiffe://{one.domain}/job/train/job" in by_pipe(one.run / "calls-train.to.mirror", INFER_PATH)[1]
        assert f"URI=spiffe://{one.domain}/server/serve/mirror" in by_pipe(one.run / "sidecar-mirror.to.lake", "/read")[1]
        assert by_pipe(one.run / "sidecar-mirror.to.lake", "/write")[0] == 403


def test_without_the_right_certificate_nothing_passes(tenants):
    north, south = tenants
    port = north.ports["mirror"]
    anonymous = ssl.create_default_context(cafile=str(north.folder / "train-0/bundle.pem"))
    anonymous.check_hostname = False
    assert ask(port, None, INFER_PATH)[0] == 0, "plaintext"
    assert ask(port, anonymous, INFER_PATH)[0] == 0, "no certificate"
    spoof = {"x-forwarded-client-cert": f"URI=spiffe://{north.domain}/job/train/someone", "x-vg-principal": "root"}
    assert ask(port, north.context("data"), INFER_PATH, spoof)[0] == 0, "headers name nobody"
    assert ask(port, south.trusting(north, "train"), INFER_PATH, spoof)[0] == 0
    short = north.context("train", 10)
    assert ask(port, short, INFER_PATH)[0] == 200
    ends = time.time() + 12
    while time.time() < ends and ask(port, short, INFER_PATH)[0] == 200:
        time.sleep(0.5)
    assert ask(port, short, INFER_PATH)[0] == 0, "expired"


def test_the_service_itself_is_open_to_its_sidecars_user_alone(tenants):
    north, _ = tenants
    probe = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ntry:\n s.connect(sys.argv[1])\nexcept PermissionError:\n sys.exit(13)\nsys.exit(0)"
    for path in (north.run / "lake.up", north.run / "sidecar-mirror.to.lake", north.run / "sidecar-lake.admin"):
        for user, expected in (("job", 13), (path.name.partition(".")[0].removeprefix("sidecar-"), 0)):
            code = _as_user(north.uids[user], probe, str(path))
            assert code == expected, (path.name, user, code)


def _as_user(uid: int, program: str, argument: str) -> int:
    """In a child that drops to the user after Python was loaded."""
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        sys.argv = ["-", argument]
        code = 99
        try:
            exec(program, {})
        except SystemExit as end:
            code = int(end.code or 0)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_what_somebody_changes_is_found(tenants):
    """At the exported documents, at a running sidecar, and nothing where nothing was changed."""
    north, _ = tenants
    out = north.folder / "out"
    look = ("zones", "drift", "--sidecars", str(out), *north.options)
    assert north.house.cli(*look).returncode == 0
    assert north.house.cli("zones", "export", "--to", "envoy", "--diff", str(out), *north.options).returncode == 0
    path = out / "sidecar-lake.json"
    kept = path.read_text()
    path.write_text(kept.replace('"require_client_certificate": true', '"require_client_certificate": false'))
    (out / "sidecar-other.json").write_text(kept)
    (out / "calls-train.json").unlink()
    said = north.house.cli(*look, "--json")
    points = {one["point"]: {drift["kind"] for drift in one["drifts"]} for one in json.loads(said.stdout)["points"] if one["drifts"]}
    assert said.returncode == 1
    assert points == {"sidecar-lake": {"different"}, "sidecar-other": {"extra"}, "calls-train": {"missing"}}
    assert north.house.cli("zones", "export", "--to", "envoy", "--diff", str(out), *north.options).returncode == 1
    (out / "sidecar-other.json").unlink()
    north.export()


def test_a_gateway_that_is_started_otherwise_is_an_alarm(tenants):
    """Somebody replaces what the gateway is started with, and restarts it: `status` says so by itself, and the log."""
    house = tenants[0].house
    assert house.cli("zones", "drift").returncode == 0
    bootstrap = house.layout.bootstrap
    kept = bootstrap.read_bytes()
    changed = json.loads(kept)
    del changed["admin"]["allow_paths"]
    owner = bootstrap.stat()
    bootstrap.write_bytes(json.dumps(changed).encode())
    os.chown(bootstrap, owner.st_uid, owner.st_gid)
    house.send("gateway", signal.SIGKILL)
    house.until(lambda: any(one.kind == "drift" and "admin" in one.title for one in house.status().needs), 20, "no alarm")
    assert house.cli("zones", "drift").returncode == 1
    bootstrap.write_bytes(kept)
    os.chown(bootstrap, owner.st_uid, owner.st_gid)
    house.send("gateway", signal.SIGKILL)
    house.until(lambda: not any(one.kind == "drift" for one in house.status().needs), 20, "the alarm stands")
    verbs = [entry.summary for entry in house.entries() if "drift" in entry.summary]
    assert len(verbs) >= 2
