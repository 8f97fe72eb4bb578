"""`make bench-authzen`: evaluations a second over HTTP, deciding and recording included, on a running installation.

Rules
1. The installation is the whole process tree; 20 callers are asked about on every endpoint, each question with its own path.
2. The load generator is a process of its own, over the unix socket, on connections that are kept; an answer that is not the right one counts
   for nothing and fails the run.
3. CPU is what the kernel charged to each process of the tree; the figure is evaluations per second of the decision point's CPU.
4. Every evaluation that was answered stands in the log: the counts are compared; a difference fails the run.
5. Sabotage: with the control plane stopped nothing can be recorded, so nothing may be answered.

Usage: python -m benchmarks.authzen [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load.product import Product
from benchmarks.load.stack import Stack, start_models
from benchmarks.rows import Row, emit, exit_code, median_interval

GOAL = 10_000.0
"""Evaluations per second of one core of the decision point."""
CALLERS = 20
CONNECTIONS = 64
BATCH = 64
"""Evaluations of one request in the second figure."""
SETTINGS = "\n[authzen]\nenabled = true\nrequests_per_second = 100000\n"
SECONDS = 4.0


def cpu_seconds(pid: int) -> float:
    """User and system time of one process (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def question(who: str, what: str, number: int) -> dict[str, object]:
    return {
        "subject": {"type": "service", "id": who},
        "action": {"name": "infer"},
        "resource": {"type": "endpoint", "id": what},
        "context": {"method": "POST", "path": f"/v2/models/{number}/infer"},
    }


def framed(path: str, body: object) -> bytes:
    data = json.dumps(body, separators=(",", ":")).encode()
    return b"POST %s HTTP/1.1\r\nhost: pdp\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        path.encode(),
        len(data),
        data,
    )


def talk(path: Path, requests: Sequence[bytes], until: float, counted: list[int], wrong: list[str]) -> None:
    """One connection, one question after the other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.connect(str(path))
        link.settimeout(10)
        number = answered = 0
        buffer = b""
        while time.monotonic() < until:
            link.sendall(requests[number % len(requests)])
            number += 1
            while b"\r\n\r\n" not in buffer:
                buffer += link.recv(262_144)
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(buffer) < length:
                buffer += link.recv(262_144)
            body, buffer = buffer[:length], buffer[length:]
            if not head.startswith(b"HTTP/1.1 200") or b'"decision":true' not in body:
                wrong.append(f"{head[:40]!r} {body[:120]!r}")
                break
            answered += body.count(b'"decision":true')
        counted.append(answered)


def load(path: Path, requests: Sequence[bytes], seconds: float) -> tuple[int, list[str]]:
    """`CONNECTIONS` at once, in a process of its own; evaluations that were answered."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        counted: list[int] = []
        wrong: list[str] = []
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=talk, args=(path, requests[k::CONNECTIONS] or requests, until, counted, wrong))
            for k in range(CONNECTIONS)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        os.write(write, json.dumps([sum(counted), wrong[:3]]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        said = json.loads(stream.read() or '[0, ["the generator ended"]]')
    os.waitpid(child, 0)
    return said[0], said[1]


def log_size(product: Product) -> int:
    """Entries of the log."""
    return product.status().log_size


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.authzen")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; not for figures")
    rounds = 3 if parser.parse_args(arguments).quick else 10
    rows: list[Row] = []
    with Stack() as stack:
        models = start_models(stack)
        product = Product(stack, models, more=SETTINGS).start()
        callers = [product.caller(f"caller-{number:03d}", ("callers",)).principal for number in range(CALLERS)]
        things = [f"vg://bench.local/endpoint/{kind}{delay}" for delay in models for kind in "de"]
        asked = [question(who, what, number) for number, (who, what) in enumerate((who, what) for who in callers for what in things)]
        single = [framed("/access/v1/evaluation", one) for one in asked]
        batch = [
            framed("/access/v1/evaluations", {"evaluations": (asked * BATCH)[first : first + BATCH]}) for first in range(0, len(asked), 4)
        ]
        pdp, control = stack.roles["vouchgate pdp"][0], stack.roles["vouchgate control"][0]
        path = product.layout.authzen_socket
        wrong: list[str] = []
        total, before_log = 0, log_size(product)
        for name, requests in (("one a request", single), (f"{BATCH} a request", batch)):
            load(path, requests, 1.0)
            total = 0
            before_log = log_size(product)
            per_core: list[float] = []
            others: list[float] = []
            rates: list[float] = []
            for _ in range(rounds):
                before, began = (cpu_seconds(pdp), cpu_seconds(control)), time.monotonic()
                count, faults = load(path, requests, SECONDS)
                used, also, took = cpu_seconds(pdp) - before[0], cpu_seconds(control) - before[1], time.monotonic() - began
                wrong += faults
                total += count
                per_core.append(count / used if used else 0.0)
                others.append(1e6 * also / max(count, 1))
                rates.append(count / took)
            low, high = median_interval(per_core)
            value = sorted(per_core)[len(per_core) // 2]
            rows += [
                Row(name=f"evaluations over HTTP per core of the decision point, {name}", value=value, unit="1/s", goal=f">= {GOAL:g}", met=low >= GOAL,
                    n=total, interval=(low, high), note=f"{1e6 / value if value else 0:.1f} us of its CPU each: parsing, deciding, recording, answering"),
                Row(name=f"evaluations over HTTP on this machine, {name}", value=sorted(rates)[len(rates) // 2], unit="1/s", n=total,
                    interval=median_interval(rates), note="generator, control plane and decision point share the cores"),
                Row(name=f"control plane's CPU for recording one, {name}", value=sorted(others)[len(others) // 2], unit="us", n=total, interval=median_interval(others)),
            ]  # fmt: skip
            entries = log_size(product) - before_log
            rows.append(
                Row(
                    name=f"evaluations that stand in the log, {name}",
                    value=entries,
                    unit=f"of {total}",
                    goal=f">= {total}",
                    met=entries >= total > 0,
                    n=total,
                )
            )
        rows += controls(product, single[0])
    rows.append(Row(name="wrong answers", value=len(wrong), unit="", goal="0", met=not wrong, n=total, note="; ".join(wrong)[:300]))
    emit("authzen", rows)
    return exit_code(rows)


def controls(product: Product, one: bytes) -> list[Row]:
    """Rule 5: who may not ask is told nothing, and without the control plane nothing is answered."""
    import signal

    control = product.stack.roles["vouchgate control"][0]
    os.kill(control, signal.SIGSTOP)
    try:
        answered, wrong = load(product.layout.authzen_socket, [one], 1.0)
    finally:
        os.kill(control, signal.SIGCONT)
    return [Row(name="sabotage: the control plane stopped, nothing is answered", value=answered, unit="answers", goal="0",
                met=answered == 0 and bool(wrong), n=CONNECTIONS)]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
