"""`make bench-scale`: what 10,000 registrations cost: memory, a registration's way to its first call, a restart, a new PDP worker.

Rules
1. Memory is PSS and RSS of the processes that registrations reach (control plane, PDP worker, agent), from the kernel (load/usage.py), after
   the queue of undecided cells has emptied. The goal counts these processes whole, not what was added.
2. Registrations come over the API, as a registrar's do, with one limit raised: registrations a minute.
3. A registration is in force when its holder's first call is answered 200; the call is made with the certificate that the registration gave.
4. What the control plane shows is asked for while another connection asks for its zones, without a pause: how long that waits is how long
   nothing else of the control plane went on. The same is read with nothing asked beside it.
5. Null: two readings with no registration between them must not differ. Sabotage: registrations that were never made (their requests are
   refused) must show as no growth. Otherwise the run fails.

Usage: python -m benchmarks.scale [--quick]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import generator
from benchmarks.load.client import Target, request, statuses
from benchmarks.load.prober import percentile
from benchmarks.load.product import REGISTRAR_UID, Caller, Product
from benchmarks.load.stack import INFER, Stack, start_models
from benchmarks.load.usage import Memory, memory, tree
from benchmarks.rows import Row, emit, median_interval
from vouchgate.edges.cli.client import Client
from vouchgate.identity.ca import spki_of
from vouchgate.vocabulary.answers import Readiness
from vouchgate.vocabulary.answers_identities import IdentityRequest
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.wire import encode

REGISTRATIONS, QUICK = 10_000, 500
GOAL_MIB = 200.0
"""Control plane, PDP worker and agent together (the issue's figure)."""
FIRST_CALL_GOAL_MS = 200.0
CALLERS, QUICK_CALLERS = 100, 10
LIMITS = "registrations_per_minute = 100000"
HOLDERS = ("control", "pdp", "agent")
SHOWN_PATHS = ("/api/v1/status", "/api/v1/endpoints", "/api/v1/callers", "/api/v1/registrations")
SHOWN = 50
"""Times that each is asked for."""
STALL_GOAL_MS = 20.0
FILL_SECONDS = 600.0
BACK_SECONDS = 120.0
NULL_MIB = 3.0
"""Two readings of an idle process differ by less: the allocator gives back late."""


def main(arguments: list[str]) -> int:
    """Run, print, write build/figures/scale.jsonl; 1 where the figures may not be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer registrations, for a look; not for docs/figures.md")
    quick = parser.parse_args(arguments).quick
    with Stack() as stack:
        product = Product(stack, {"0": start_models(stack)["0"]}, limits=LIMITS).start()
        rows = list(measure(product, QUICK if quick else REGISTRATIONS, QUICK_CALLERS if quick else CALLERS))
    emit("scale-quick" if quick else "scale", rows)
    faults = [row.name for row in rows if row.met is False and row.name.startswith(("null", "sabotage"))]
    for fault in faults:
        print(f"these figures do not count: {fault}", file=sys.stderr)
    return 1 if faults else 0


def measure(product: Product, wanted: int, callers: int) -> Iterator[Row]:
    """Everything, in one installation."""
    product.caller("first", ("callers",))
    settle(product)
    at_first = held(product)
    settle(product)
    again = held(product)
    yield _row("null: memory with nothing registered in between", abs(mib(again) - mib(at_first)), "MiB", f"< {NULL_MIB:g}", 2)
    refused = fill(product, wanted, groups=("role:auditor",))
    settle(product)
    unmade = mib(held(product)) - mib(at_first)
    per_registration = 1024 * unmade / wanted
    yield _row(
        f"sabotage: {wanted:,} registrations that were refused", per_registration, "KiB each", "< 1.5", wanted,
        note=f"answers: {refused[1]}",
    )  # fmt: skip
    yield from memory_rows(product, "0 registrations", goal="")
    before = held(product)
    seconds, answers = fill(product, wanted, groups=("callers",))
    made = answers.get("200", 0)
    yield _row("registrations taken", made / seconds, "/s", "", made, note=f"each with a certificate; answers: {answers}")
    settle(product)
    yield from memory_rows(product, f"{made:,} registrations", goal=f"<= {GOAL_MIB:g}")
    yield _row("memory of one registration", 1024 * (mib(held(product)) - mib(before)) / max(1, made), "KiB", "", made)
    yield from first_call_rows(product, callers, made)
    yield from shown_rows(product, made)
    yield from restart_rows(product, "pdp", made)
    yield from restart_rows(product, "control", made)


def memory_rows(product: Product, when: str, *, goal: str) -> Iterator[Row]:
    """What holds registrations now."""
    found = held(product)
    for role, used in found.items():
        yield _row(f"{role} at {when}: PSS", used.pss / 2**20, "MiB", "", 1)
        yield _row(f"{role} at {when}: RSS", used.rss / 2**20, "MiB", "", 1)
    yield _row(f"{' + '.join(found)} at {when}: PSS", mib(found), "MiB", goal, 1)


def first_call_rows(product: Product, callers: int, there: int) -> Iterator[Row]:
    """From asking for a registration to its holder's first answered call, beside those that are there."""
    registered, called = [], []
    for number in range(callers):
        began = time.monotonic_ns()
        caller = product.caller(f"late-{number:04d}", ("callers",))
        registered.append((time.monotonic_ns() - began) / 1e6)
        wait(lambda target=_target(product, caller): statuses(target)[0] == 200, "a new caller is not let in")  # type: ignore[misc]
        called.append((time.monotonic_ns() - began) / 1e6)
    name = f"registration to first answered call, {there:,} there"
    yield _row(f"registration with its certificate, {there:,} there: p50", percentile(registered, 0.5), "ms", "", callers)
    yield _row(f"{name}: p50", percentile(called, 0.5), "ms", "", callers, interval=median_interval(called))
    yield _row(f"{name}: p99", percentile(called, 0.99), "ms", f"< {FIRST_CALL_GOAL_MS:g}", callers)


class Pinger(threading.Thread):
    """Asks the control plane for next to nothing again and again; how long it waited each time."""

    def __init__(self, product: Product) -> None:
        super().__init__(daemon=True)
        self.client, self.waited, self.ended = Client(product.layout.api_socket), list[float](), threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.002):
            began = time.monotonic()
            self.client.get(object, "/api/v1/zones")
            self.waited.append(1000 * (time.monotonic() - began))

    def stop(self) -> list[float]:
        """Everything that was waited, in milliseconds."""
        self.ended.set()
        self.join()
        return self.waited


def shown_rows(product: Product, there: int) -> Iterator[Row]:
    """Rule 4."""
    alone = Pinger(product)
    time.sleep(SHOWN * 0.02)
    yield _row("the control plane's slowest sign of life, nothing asked beside it", max(waited := alone.stop()), "ms", "", len(waited))
    for path in SHOWN_PATHS:
        pinger, took = Pinger(product), []
        for _ in range(SHOWN):
            began = time.monotonic()
            product.client.get(object, path)
            took.append(1000 * (time.monotonic() - began))
        waited = pinger.stop()
        yield _row(f"GET {path}, {there:,} there: p50", percentile(took, 0.5), "ms", "", len(took))
        yield _row(f"GET {path}, {there:,} there: worst", max(took), "ms", "", len(took))
        yield _row(
            f"GET {path}, {there:,} there: p99 of signs of life meanwhile",
            percentile(waited, 0.99),
            "ms",
            f"< {STALL_GOAL_MS:g}",
            len(waited),
        )


def restart_rows(product: Product, role: str, there: int) -> Iterator[Row]:
    """Kill one process: how long until it does its work again, and what the others' calls and the API see of it."""
    target = _target(product, product.caller("first", None))
    wait(lambda: statuses(target)[0] == 200, "the first caller is not let in")
    old = pid_of(product, role)
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    worst, answers = 0.0, [0, 0]
    while time.monotonic() - began < BACK_SECONDS:
        asked = time.monotonic()
        answers[statuses(target)[0] == 200] += 1
        took = time.monotonic() - asked
        worst = max(worst, _api_seconds(product) if role == "pdp" else took)
        if pid_of(product, role) not in {0, old} and _ready(product):
            break
        time.sleep(0.01)
    seconds = time.monotonic() - began
    yield _row(f"{role} killed: every cell decided again, {there:,} registrations", seconds, "s", "", 1)
    yield _row(
        f"{role} killed: granted calls of the first caller that were refused", answers[0], f"of {sum(answers)}", "<= 0", sum(answers)
    )
    what = "the control plane's slowest answer" if role == "pdp" else "the slowest granted call"
    yield _row(f"{role} killed: {what} meanwhile", 1000 * worst, "ms", "", sum(answers))


def _api_seconds(product: Product) -> float:
    began = time.monotonic()
    _ready(product)
    return time.monotonic() - began


def _ready(product: Product) -> bool:
    try:
        return product.client.get(Readiness, "/readyz").ready
    except VouchgateError:
        return False


def _target(product: Product, caller: Caller) -> Target:
    return Target(name=caller.principal, address=("127.0.0.1", product.port), request=request(f"/d0{INFER}"), tls=caller.context)


def fill(product: Product, wanted: int, *, groups: tuple[str, ...]) -> tuple[float, dict[str, int]]:
    """Send so many registrations, as fast as they are taken: (seconds, status -> count)."""
    stack = product.stack
    out = stack.directory / f"fill-{'-'.join(groups).replace(':', '-')}.json"
    spki = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key())
    name = f"held-{generator.COUNTER.decode()}"
    body = encode(IdentityRequest(kind="service", zone="serve", name=name, groups=groups, form="x509", spki=spki))
    asked = generator.spec(
        request("/api/v1/identities", body=body), out=str(out), connections=16, unix=str(product.layout.api_socket),
        uid=REGISTRAR_UID if os.geteuid() == 0 else 0, counted=True,
    )  # fmt: skip
    path = stack.directory / "fill-spec.json"
    path.write_bytes(asked)
    process = stack.start("fill", [sys.executable, "-m", "benchmarks.load.generator", str(path)])
    wait(lambda: sum(_counts(out).answers.values()) >= wanted, "registrations are not answered", FILL_SECONDS)
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    counts = _counts(out)
    return counts.seconds, counts.answers


def _counts(path: Path) -> generator.Counts:
    if not path.exists() or not path.stat().st_size:
        return generator.Counts(seconds=0.0, answers={})
    try:
        return msgspec.json.decode(path.read_bytes(), type=generator.Counts)
    except msgspec.DecodeError:
        return generator.Counts(seconds=0.0, answers={})


def settle(product: Product) -> None:
    """Until nothing waits to be decided, and the processes are idle."""
    wait(lambda: _ready(product), "cells stay undecided")
    time.sleep(2.0)


def held(product: Product) -> dict[str, Memory]:
    """Memory of each process that holds registrations."""
    return {role: memory(pid_of(product, role)) for role in HOLDERS}


def pid_of(product: Product, role: str) -> int:
    """The process of a role now; 0 while there is none."""
    found = [pid for pid, argv in tree(_root(product)).items() if f"vouchgate.edges.processes.{role} " in f"{argv} "]
    return found[0] if found else 0


def _root(product: Product) -> int:
    return product.stack.roles["vouchgate supervisor"][0]


def mib(found: dict[str, Memory]) -> float:
    """PSS of all, in MiB."""
    return sum(used.pss for used in found.values()) / 2**20


def wait(ready: Callable[[], bool], what: str, seconds: float = BACK_SECONDS) -> None:
    """Raises `RuntimeError` where it does not get ready."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} within {seconds:g} s")
        time.sleep(0.005)


def _row(
    name: str, value: float, unit: str, goal: str, n: int, *, note: str = "", interval: tuple[float, float] | None = None
) -> Row:  # fmt: skip
    met = None
    if goal:
        sign, bound = goal.split(" ")
        met = value <= float(bound) if sign == "<=" else value < float(bound)
    return Row(name=name, value=float(value), unit=unit, goal=goal, met=met, n=n, note=note, interval=interval)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
