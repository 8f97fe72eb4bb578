"""`make bench-identity`: identities over the Workload API, as whole processes, each with its entry in the audit log.

1. Issuance: stock gRPC clients fetch certificates over live connections. A core's worth is the count over the processor time of every process
   of the installation, gateway and PDP worker included; every certificate must stand in the log, or the figure is none.
2. Rotation: 100 live streams are told to rotate at once; the figure is the last of them.
3. Registration to SVID: from the administrator's request until a process of that user, which then connects, holds its certificate; and until
   a process that is connected already is given the narrower identity by push. Every registration is of another user.
4. Instrument: a null without a registration issues nothing.
Needs root: workloads are told apart by their users.

Usage: python -m benchmarks.identity [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load.stack import free_port
from benchmarks.load.usage import cpu_ns, memory, tree
from benchmarks.load.workload_client import responses
from benchmarks.rows import FIGURES, Row, emit, median_interval
from vouchgate.edges.cli.client import Client
from vouchgate.ports.rpc import RpcClient
from vouchgate.vocabulary.answers import Readiness
from vouchgate.vocabulary.answers_identities import RegistrationRequest
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.principals import Registration, Selector

LOAD_UID, STRANGER_UID, FIRST_UID = 59_000, 59_001, 60_000
CONNECTIONS, STREAMS = 8, 100
READY_SECONDS = 60.0
SETTINGS = """
trust_domain = "bench.local"
data_dir = "{folder}/data"
root_dir = "{folder}/root"
solo = true
[gateway]
listen = "127.0.0.1:{port}"
[console]
listen = ""
[agent]
requests_per_second = 100000
[limits]
api_requests_per_second = 5000
registrations_per_minute = 100000
[zones.serve]
mode = "enforce"
[[identities]]
name = "load"
kind = "service"
zone = "serve"
uid = {uid}
"""


class House:
    """One installation."""

    def __init__(self) -> None:
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="vgi", dir="/tmp"))
        self.folder.chmod(0o711)
        self.layout = Layout(self.folder / "data")
        self.client = Client(self.layout.api_socket)
        settings = self.folder / "vouchgate.toml"
        settings.write_text(SETTINGS.format(folder=self.folder, port=free_port(), uid=LOAD_UID))
        command = [str(Path(sys.executable).with_name("vouchgate")), "up", "--config", str(settings)]
        with (self.folder / "up.log").open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder, start_new_session=True)
        self._until_ready()
        self.socket = str(self.layout.workload_socket)

    def _until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(VouchgateError):
                if self.client.get(Readiness, "/readyz").ready:
                    return
            time.sleep(0.05)
        raise SystemExit(f"it did not get ready: {(self.folder / 'up.log').read_text()[-2000:]}")

    def register(self, name: str, *selectors: tuple[str, int]) -> None:
        """As an administrator does."""
        wanted = tuple(Selector(type=kind, value=str(value)) for kind, value in selectors)
        self.client.post(Registration, "/api/v1/registrations", RegistrationRequest(kind="job", zone="serve", name=name, selectors=wanted))

    def cpu(self) -> dict[str, int]:
        """Processor time of each process of the installation, in nanoseconds."""
        found: dict[str, int] = {}
        for pid, command in tree(self.process.pid).items():
            words = [word for word in command.split() if word.startswith("vouchgate.edges.processes.")]
            name = words[0].rpartition(".")[2] if words else "gateway" if "envoy" in command else "supervisor"
            found[name] = found.get(name, 0) + cpu_ns(pid)
        return found

    def issued(self) -> int:
        """Certificates that the log says were handed out to workloads, read from the store beside the running processes."""
        from vouchgate.audit import ocsf
        from vouchgate.storage import opening

        store = opening.read_sqlite(self.layout.store, "bench.local")
        try:
            count, size = 0, store.size()
            for first in range(0, size, 1_000):
                for entry in store.entries(first, 1_000):
                    if b"workload-api" in entry:
                        count += ocsf.detail_of(entry)["ok"]
            return count
        finally:
            store.close()

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def client(house: House, what: str, uid: int, *more: object, quiet: bool = False) -> subprocess.Popen[str]:
    """A workload's process."""
    command = [sys.executable, "-m", "benchmarks.load.workload_client", what, house.socket, str(uid), *map(str, more)]
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if quiet else None, text=True, cwd=root)


def issuance(house: House, count: int) -> list[Row]:
    """Rule 1."""
    warm = client(house, "issue", LOAD_UID, CONNECTIONS, 500)
    warm.communicate(timeout=120)
    before, logged, began = house.cpu(), house.issued(), time.monotonic()
    loader = client(house, "issue", LOAD_UID, CONNECTIONS, count)
    out, _ = loader.communicate(timeout=600)
    took, after = time.monotonic() - began, house.cpu()
    done, written = int(out), house.issued() - logged
    used = {name: (after[name] - before.get(name, 0)) / 1e9 for name in after}
    total = sum(used.values())
    per_core = done / total
    each = ", ".join(f"{name} {seconds / done * 1e6:.0f}" for name, seconds in sorted(used.items(), key=lambda one: -one[1]) if seconds)
    stranger = client(house, "issue", STRANGER_UID, 1, 1, quiet=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        stranger.communicate(timeout=20)
    stranger.kill()
    nothing = house.issued() - logged - written
    return [
        Row(name="certificates issued per core and second, with their entries", value=per_core, unit="1/s", goal=">= 1,000",
            met=per_core >= 1_000 and written == done == count, n=done, note=f"microseconds each: {each}; {written} entries"),
        Row(name="certificates issued per second, two cores shared with the clients", value=done / took, unit="1/s", n=done),
        Row(name="null: a user without a registration", value=nothing, unit="issued", goal="found out", met=nothing == 0, n=1),
    ]  # fmt: skip


def rotation(house: House, rounds: int) -> list[Row]:
    """Rule 2."""
    holder = client(house, "hold", LOAD_UID, STREAMS)
    seen: list[tuple[int, int]] = []
    assert holder.stdout is not None
    lines = holder.stdout

    def read() -> None:
        for line in lines:
            number, _, at, _ = line.split()
            seen.append((int(number), int(at)))

    threading.Thread(target=read, daemon=True).start()
    _until(lambda: len({number for number, _ in seen}) == STREAMS)
    control = RpcClient(house.layout.control_socket, "control plane", timeout=30)
    last: list[float] = []
    for _ in range(rounds):
        time.sleep(0.3)
        seen.clear()
        began = time.monotonic_ns()
        control.call("workload.rotate")
        _until(lambda: len({number for number, _ in seen}) == STREAMS)
        last.append((max(at for _, at in seen) - began) / 1e6)
    holder.kill()
    holder.wait()
    value, worst = statistics.median(last), max(last)
    note = f"the last of {STREAMS} streams; worst round {worst:.1f} ms; the client's own work included"
    return [
        Row(name=f"forced rotation of {STREAMS} live streams, median", value=value, unit="ms", goal="< 100", met=value < 100, n=rounds,
            interval=median_interval(last), note=note),
    ]  # fmt: skip


def registration(house: House, count: int) -> list[Row]:
    """Rule 3."""
    fetched, pushed = [], []
    for number in range(count):
        uid = FIRST_UID + number
        with _child(house.socket, uid) as (go, answers):
            began = time.monotonic_ns()
            house.register(f"job-{number}", ("unix:uid", uid))
            os.write(go, b"x")
            fetched.append((_at(answers, f"job-{number}") - began) / 1e6)
            began = time.monotonic_ns()
            house.register(f"narrow-{number}", ("unix:uid", uid), ("unix:gid", uid))
            pushed.append((_at(answers, f"narrow-{number}") - began) / 1e6)
    rows = []
    for name, values in (("to a workload that then connects", fetched), ("to a workload that is connected", pushed)):
        p99 = sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
        rows.append(
            Row(name=f"registration to SVID {name}, p99", value=p99, unit="ms", goal="< 200", met=p99 < 200, n=count,
                note=f"median {statistics.median(values):.1f} ms, worst {max(values):.1f} ms; the administrator's request included")
        )  # fmt: skip
    return rows


@contextlib.contextmanager
def _child(socket: str, uid: int) -> Iterator[tuple[int, Any]]:
    """A process of that user, which connects when it is told to; yields where to tell it and where it answers."""
    tell, told = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.read(tell[0], 1)
            for response in responses(socket):
                os.write(told[1], f"{response.svids[0].spiffe_id} {time.monotonic_ns()}\n".encode())
        finally:
            os._exit(0)
    try:
        with os.fdopen(told[0], "r") as answers:
            os.close(told[1])
            yield tell[1], answers
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(tell[0])
        os.close(tell[1])


def _at(answers: Any, name: str) -> int:
    for line in answers:
        principal, at = line.split()
        if principal.endswith(f"/{name}"):
            return int(at)
    raise SystemExit("the stream ended")


def _until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("it did not happen")
        time.sleep(0.001)


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if os.geteuid() != 0:
        raise SystemExit("this benchmark needs root: workloads are told apart by their users")
    house = House()
    try:
        rows = issuance(house, 2_000 if quick else 20_000)
        rows += rotation(house, 5 if quick else 50)
        rows += registration(house, 20 if quick else 300)
        resident = {name: memory(pid).rss for pid, name in tree(house.process.pid).items() if "processes.agent" in name}
        rows.append(Row(name="agent, resident", value=sum(resident.values()) / 2**20, unit="MiB", n=1))
    finally:
        house.close()
    emit("identity", rows)
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
