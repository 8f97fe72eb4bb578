"""`make bench-gateway`: what an allowed call costs, beside the plain hop, the model called directly, a Python proxy and the in-process point.

Rules (contracts, "Figures cannot be bent")
1. One caller on one keep-alive connection; the same client code, request and model process in every row; rounds interleaved.
2. The plain hop is the same Envoy, one worker, router filter only, no log, no TLS: the goal pays for TLS too. The hop with TLS stands beside.
3. A family of rows counts only if it protects (allowed 200, without a grant 403, without identity refused) and if its audit record holds
   every call that was answered; otherwise the run fails.
4. Null: the plain hop, held to rule 3, must be found not to protect. Sabotage: the same point with enforcement off (observe), and a
   record with one call missing, must be found too. If any passes, the run fails.
5. Processor time is the whole tree's, counted in a block of its own after the log has been read, idle time subtracted.

Usage: python -m benchmarks.gateway [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load import stack as stacks
from benchmarks.load.client import Connection
from benchmarks.load.credentials import Credentials, Probe
from benchmarks.load.product import Product, offer_rows
from benchmarks.load.rounds import Estimate, Table, added, estimate, interleave, ratio
from benchmarks.load.stack import Stack
from benchmarks.load.usage import cpu_ns, memory
from benchmarks.rows import Row, emit

FAMILIES = {"vouchgate": ("x509", "jwt", "everything"), "peer": ("peer-x509", "peer-jwt"), "asgi": ("asgi-x509", "asgi-jwt")}
"""Family -> its rows; a family is guarded and recorded as one."""
GOALS = (
    # row, beside, delay in ms, goal
    ("x509", "plain", "5", 1.05), ("jwt", "plain", "5", 1.05),
    ("x509", "direct", "5", 1.11), ("jwt", "direct", "5", 1.11),
    ("x509", "direct", "50", 1.02), ("jwt", "direct", "50", 1.02),
    ("everything", "direct", "5", 1.15), ("everything", "direct", "50", 1.05),
    ("asgi-jwt", "asgi-bare", "5", 1.01), ("asgi-x509", "asgi-bare+tls", "5", 1.01),
)  # fmt: skip
CPU_SHARE_GOAL = 10.0
"""Percent of a model that computes for 5 ms."""
SAID = {
    "x509": "vouchgate, X.509-SVID", "jwt": "vouchgate, JWT-SVID", "everything": "vouchgate, everything on",
    "plain": "plain hop", "plain+tls": "plain hop with TLS", "direct": "direct", "asgi-bare": "the same server bare",
    "asgi-bare+tls": "the same server bare, TLS", "asgi-jwt": "in process (ASGI), JWT-SVID", "asgi-x509": "in process (ASGI), X.509-SVID",
    "peer-x509": "Starlette + httpx, X.509-SVID", "peer-jwt": "Starlette + httpx, JWT-SVID",
}  # fmt: skip
CPU_BLOCKS = 3
IDLE_SECONDS = 2.0
"""Two of the gateway's heartbeats and checkpoints, so that what idling costs is an average."""
SETTLE_SECONDS = 1.0
"""Earlier calls are in the record by then."""
RECORD_WAIT_SECONDS = 10.0
"""The record may lag behind traffic by 5 s before leases stop; twice that is waited for here."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds and calls a round, by delay; and seconds of calling in a block of CPU accounting."""

    rounds: int
    calls: Mapping[str, int]
    cpu_seconds: float


QUICK = Plan(rounds=8, calls={"0": 60, "5": 20, "50": 5}, cpu_seconds=0.5)
FULL = Plan(rounds=30, calls={"0": 100, "5": 30, "50": 5}, cpu_seconds=1.5)


def main(arguments: list[str]) -> int:
    """Run, print, write build/figures/gateway.jsonl; 1 where the figures may not be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look; not for docs/figures.md")
    parser.add_argument("--peers-only", action="store_true", help="leave vouchgate out, to look at the instruments alone")
    asked = parser.parse_args(arguments)
    plan = QUICK if asked.quick else FULL
    with Stack() as stack:
        product = build(stack, with_product=not asked.peers_only)
        faults = [f"{family}: {fault}" for family in _present(stack) for fault in stack.probe(family).faults()]
        tables = {}
        for delay in plan.calls:
            tables[delay], missing = _phase(stack, delay, plan)
            faults += missing
        rows = [*latency_rows(tables), *cpu_rows(stack, plan), *tree_rows(product), *guard_rows(stack)]
        faults += [f"{row.name}: not found" for row in rows[-3:] if not row.met]
    emit("gateway-quick" if asked.quick or asked.peers_only else "gateway", rows)
    for fault in faults:
        print(f"these figures do not count: {fault}", file=sys.stderr)
    return 1 if faults else 0


def build(stack: Stack, *, with_product: bool = True) -> Product | None:
    """Everything that is compared, on one machine at one time."""
    models = stacks.start_models(stack)
    credentials = Credentials(stack.directory)
    stacks.start_plain_hop(stack, models, credentials)
    stacks.start_peer(stack, models, credentials)
    stacks.start_asgi(stack, credentials)
    stacks.start_asgi(stack, credentials, mode="observe")
    if with_product:
        product = Product(stack, models).start()
        offer_rows(product, models)
        return product
    return None


def _present(stack: Stack) -> list[str]:
    return [family for family in FAMILIES if family in stack.guards]


def _phase(stack: Stack, delay: str, plan: Plan) -> tuple[Table, list[str]]:
    """The rounds at one delay, and what is missing in the records."""
    stack.renew()
    targets = {name.rpartition("/")[0]: target for name, target in stack.targets.items() if name.endswith(f"/{delay}")}
    time.sleep(SETTLE_SECONDS)
    before = {family: stack.recorded[family]() for family in _present(stack)}
    table = interleave(targets, rounds=plan.rounds, calls=plan.calls[delay])
    faults = []
    for family, count in before.items():
        made = sum(table.calls.get(name, 0) for name in FAMILIES[family])
        held = _recorded(stack, family, count + made) - count
        faults += record_faults(family, made, held)
    faults += [f"{SAID[name]} failed {failed} calls at {delay} ms" for name, failed in table.failures.items() if failed]
    return table, faults


def record_faults(family: str, made: int, held: int) -> list[str]:
    """Every answered call must be in the record, once."""
    return [] if held == made else [f"{family}: {made} calls were answered, the record holds {held}"]


def _recorded(stack: Stack, family: str, wanted: int) -> int:
    deadline = time.monotonic() + RECORD_WAIT_SECONDS
    while (held := stack.recorded[family]()) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def latency_rows(tables: Mapping[str, Table]) -> Iterator[Row]:
    """The ratios that have a goal, then every median, then what each adds to the direct call."""
    for name, base, delay, goal in GOALS:
        if tables[delay].paired(name, base):
            found = ratio(tables[delay], name, base)
            yield _row(f"{SAID[name]}, {delay} ms model / {SAID[base]}", found, "x", f"<= {goal}", found.value <= goal)
    for delay, table in tables.items():
        for name, said in SAID.items():
            if table.column(name):
                yield _row(f"{said}, {delay} ms model: median", estimate(table.column(name)), "us")
        for name, said in SAID.items():
            if name != "plain" and table.paired(name, "plain"):
                yield _row(f"{said}, {delay} ms model: beyond the plain hop", added(table, name, "plain"), "us")


def cpu_rows(stack: Stack, plan: Plan) -> Iterator[Row]:
    """Processor time of each hop's processes per 1,000 calls, and as a share of what a model that computes for 5 ms uses itself."""
    stack.renew()
    for name, roles in (("plain", ["plain hop"]), ("peer-x509", ["peer"]), *((row, stack.tree_roles) for row in FAMILIES["vouchgate"])):
        if f"{name}/burn" not in stack.targets:
            continue
        for delay in ("0", "5"):
            yield from _cpu(stack, name, delay, roles, plan)
        used = cpu_us_per_call(stack, f"{name}/burn", [*roles, "model"], plan.cpu_seconds)
        share = estimate([100 * sum(block[role] for role in roles) / block["model"] for block in used])
        goal = f"<= {CPU_SHARE_GOAL:g}" if name in FAMILIES["vouchgate"] else ""
        yield _row(f"{SAID[name]}: CPU as a share of a 5 ms model's own", share, "%", goal, share.value <= CPU_SHARE_GOAL if goal else None)


def _cpu(stack: Stack, name: str, delay: str, roles: Sequence[str], plan: Plan) -> Iterator[Row]:
    used = cpu_us_per_call(stack, f"{name}/{delay}", roles, plan.cpu_seconds)
    whole = estimate([sum(block.values()) for block in used])
    parts = {role: statistics.median(block[role] for block in used) for role in roles}
    shares = ", ".join(f"{role.removeprefix('vouchgate ')} {value:.0f}" for role, value in sorted(parts.items(), key=lambda part: -part[1]))
    row = _row(f"{SAID[name]}, {delay} ms model: CPU per 1,000 calls", whole, "ms")
    yield msgspec.structs.replace(row, note=shares if len(roles) > 1 else "")


def cpu_us_per_call(stack: Stack, name: str, roles: Sequence[str], seconds: float) -> list[dict[str, float]]:
    """Microseconds of processor time per call by role, in each block, less what the role uses when nobody calls."""
    connection, found = Connection(stack.targets[name]), []
    connection.call()
    time.sleep(SETTLE_SECONDS)
    idle = _per_second(stack, roles, IDLE_SECONDS)
    for _ in range(CPU_BLOCKS):
        began, before, calls = time.monotonic(), _used(stack, roles), 0
        while time.monotonic() < began + seconds:
            connection.call()
            calls += 1
        time.sleep(SETTLE_SECONDS)
        elapsed, after = time.monotonic() - began, _used(stack, roles)
        found.append({role: (after[role] - before[role] - idle[role] * elapsed) / calls / 1e3 for role in roles})
    connection.close()
    return found


def _used(stack: Stack, roles: Sequence[str]) -> dict[str, int]:
    return {role: sum(map(cpu_ns, stack.roles[role])) for role in roles}


def _per_second(stack: Stack, roles: Sequence[str], seconds: float) -> dict[str, float]:
    """Nanoseconds a second of idling."""
    before = _used(stack, roles)
    time.sleep(seconds)
    return {role: (after - before[role]) / seconds for role, after in _used(stack, roles).items()}


def tree_rows(product: Product | None) -> Iterator[Row]:
    """Start to ready, and what the tree holds in memory after the load."""
    if product is None:
        return
    seconds = product.ready_seconds
    yield Row(name="start to ready, first start", value=seconds, unit="s", goal="<= 5", met=seconds <= 5, n=1, interval=None)
    used = [memory(pid) for pid in product.pids]
    pss, rss = (sum(getattr(one, kind) for one in used) / 2**20 for kind in ("pss", "rss"))
    yield Row(name="resident memory of the tree (PSS)", value=pss, unit="MiB", goal="<= 300", met=pss <= 300, n=len(used), interval=None)
    yield Row(name="resident memory of the tree (sum of RSS)", value=rss, unit="MiB", goal="", met=None, n=len(used), interval=None)


def guard_rows(stack: Stack) -> list[Row]:
    """The null and the sabotages: `met` says that each was found out."""
    hop = stack.targets["plain/0"]
    null = Probe(*(stacks.statuses(hop)[0] for _ in range(3))).faults()
    sabotage = stack.probe("asgi in observe").faults()
    made, held = 100, 99
    return [
        _found("null: the plain hop is found not to protect", null),
        _found("sabotage: enforcement off is found", sabotage),
        _found("sabotage: one call missing in the record is found", record_faults("sabotage", made, held)),
    ]


def _found(name: str, faults: list[str]) -> Row:
    return Row(name=name, value=float(len(faults)), unit="faults", goal=">= 1", met=bool(faults), n=1, interval=None)


def _row(name: str, found: Estimate, unit: str, goal: str = "", met: bool | None = None) -> Row:
    return Row(name=name, value=found.value, unit=unit, goal=goal, met=met, n=found.n, interval=(found.low, found.high))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
