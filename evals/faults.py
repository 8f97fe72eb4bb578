"""`make eval-faults`: kill and stop every process of a running installation at random points under load, and hold what it promised.

    python evals/faults.py [--kills 200] [--seed 1] [--isolate auto]

Load: an allowed caller, an anonymous one, and callers that were revoked, all without a pause; beside each fault a caller is registered and
revoked. Faults: SIGKILL, or SIGSTOP for 0.1 to 4 s and then SIGCONT or SIGKILL, of signer, witness, control plane, PDP worker, gateway, tailer,
both model servers, and the supervisor (the whole tree is then started again on the same data directory).
Held, at the end and after every tenth fault:
1. No anonymous call and no call of an acknowledged revocation's caller is answered by the model.
2. Every acknowledged revocation stands.
3. Every line of the gateway's log is in the audit log exactly once, and every answered call is a line, but for those answered at most 100 ms
   before a SIGKILL of the gateway; each such kill is an entry of its own.
4. The log verifies.
5. After each fault an allowed call is answered again; how long that took is printed.
Null: the same checks on a run's records with one allowed answer put under a revoked caller must fail, and so must a log with one line taken away.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system")]

from benchmarks.rows import Row, emit, exit_code  # noqa: E402
from installation import CORE, SERVERS, Answer, Caller, Installation, mine  # noqa: E402

from vouchgate.edges.envoy.log_fields import read_fields  # noqa: E402
from vouchgate.vocabulary.errors import VouchgateError  # noqa: E402

LOST_SECONDS = 0.1
"""Envoy's flush interval: what a SIGKILL of the gateway may lose."""
RECOVER_SECONDS = 45.0
SETTLE_SECONDS = 15.0
"""What the tailer may need after the last fault: a restart and the backlog."""
CHECK_EVERY = 10
TARGETS = (*CORE, *SERVERS, "supervisor")
PAUSE = 0.004
"""Seconds between calls of one load thread: about 100 calls a second in all, so that the log can be read whole."""


@dataclass
class Seen:
    """What callers saw."""

    answered: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Request id -> (when, status)."""
    wrong: list[str] = field(default_factory=list)
    revoked: dict[str, str] = field(default_factory=dict)
    """Principal -> id of its acknowledged revocation."""
    gateway_kills: list[float] = field(default_factory=list)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)


class Load(threading.Thread):
    """One caller without a pause, until stopped."""

    def __init__(self, house: Installation, seen: Seen, who: str, caller: Caller | None, *, allowed: bool) -> None:
        super().__init__(daemon=True)
        self.house, self.seen, self.who, self.caller, self.allowed = house, seen, who, caller, allowed
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(PAUSE):
            answer = self.house.infer(self.caller, timeout=3.0)
            note(self.seen, self.who, answer, allowed=self.allowed)


def note(seen: Seen, who: str, answer: Answer, *, allowed: bool) -> None:
    """One answer beside what may be."""
    seen.calls[f"{who} {answer.status}"] += 1
    request_id = answer.headers.get("x-request-id", "")
    if request_id:
        seen.answered[request_id] = (time.time(), answer.status)
    if answer.status == 200 and not allowed:
        seen.wrong.append(f"{who} was let in at {time.time():.3f}, request {request_id}")


class Campaign:
    """One installation, its load, and its faults."""

    def __init__(self, house: Installation, seed: int) -> None:
        self.house, self.seen, self.chance = house, Seen(), random.Random(seed)
        self.loads: list[Load] = []
        self.entries: list[tuple[str, dict[str, object]]] = []
        self.read = 0
        self.problems: list[str] = []
        self.killed = self.stopped = 0

    def load(self, who: str, caller: Caller | None, *, allowed: bool) -> None:
        """Begin calling."""
        self.loads.append(Load(self.house, self.seen, who, caller, allowed=allowed))
        self.loads[-1].start()

    def revoke_new(self, number: int) -> None:
        """Register, use, revoke; the acknowledgement may be lost to the fault, then it is asked for again."""
        caller = self.persist(lambda: self.house.caller(f"r{number}"))
        made = self.persist(lambda: self.house.revoke(caller.principal, "principal"))
        assert made.revocation is not None
        late = [one for one in made.points if one.outcome != "enforced"]
        if late:
            time.sleep(max(0.0, max(one.at for one in late) / 1000 - time.time()))
        self.seen.revoked[caller.principal] = made.revocation.id
        for load in [one for one in self.loads if one.who == "revoked"][:-1]:
            load.ended.set()
            self.loads.remove(load)
        self.load("revoked", caller, allowed=False)

    @staticmethod
    def persist(act):  # type: ignore[no-untyped-def]
        """Try again while the control plane is away."""
        until = time.monotonic() + RECOVER_SECONDS
        while True:
            try:
                return act()
            except VouchgateError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def fault(self, number: int) -> str:
        """One fault, and the way back from it."""
        name = TARGETS[number % len(TARGETS)] if number < 2 * len(TARGETS) else self.chance.choice(TARGETS)
        beside = threading.Thread(target=self.revoke_new, args=(number,), daemon=True)
        beside.start()
        time.sleep(self.chance.uniform(0, 0.3))
        how = self.chance.choice(("kill", "kill", "stop-cont", "stop-kill"))
        began = time.monotonic()
        with contextlib.suppress(KeyError, ProcessLookupError):
            self._strike(name, how)
        if name == "supervisor" and how != "stop-cont":
            self._again()
        took = (
            self.house.until(lambda: self._back(name, began), RECOVER_SECONDS, f"after {how} of {name}: no way back")
            and time.monotonic() - began
        )
        beside.join(RECOVER_SECONDS)
        if beside.is_alive():
            self.problems.append(f"after {how} of {name}: a revocation did not get through")
        self.seen.recovery.setdefault(name, []).append(took)
        return f"{name:<10} {how:<9} back after {took:6.2f} s"

    def _strike(self, name: str, how: str) -> None:
        if how != "kill":
            self.stopped += 1
            self.house.send(name, signal.SIGSTOP)
            time.sleep(self.chance.uniform(0.1, 4.0))
        if how == "stop-cont":
            self.house.send(name, signal.SIGCONT)
            return
        if name == "gateway":
            self.seen.gateway_kills.append(time.time())
        pids = self.house.pids() if name == "supervisor" else []
        self.house.send(name, signal.SIGKILL)
        self.killed += 1
        if name == "supervisor":
            assert self.house.process is not None
            self.house.process.wait(10)
            self.house.until(
                lambda: not [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _lives(pid)],
                15,
                "the tree outlived its supervisor",
            )

    def _again(self) -> None:
        self.house.output.write_bytes(b"")
        self.house.start(ready=False)
        self.house.until_ready(RECOVER_SECONDS)

    def _back(self, name: str, began: float) -> bool:
        answer = self.house.infer(self.caller, timeout=3.0)
        note(self.seen, "allowed", answer, allowed=True)
        return answer.status == 200 and self.house.ready()

    # -- what must hold

    def check(self) -> None:
        """Rules 1 to 4, with the load paused so that the log can come to rest."""
        self.problems += self.seen.wrong
        self.seen.wrong = []
        paused, self.loads = self.loads, []
        for load in paused:
            load.ended.set()
        for load in paused:
            load.join(5)
        lines = self.settled()
        report = self.house.audited()
        if not report.ok:
            self.problems.append(f"the log does not verify: {report.problems}")
        standing = {str(body.get("id")) for kind, body in self.entries if kind == "revocation"}
        self.problems += [f"the revocation of {who} is not in the log" for who, one in self.seen.revoked.items() if one not in standing]
        self.problems += judge(lines, self.entries, self.seen)
        for who in list(self.seen.revoked)[-3:]:
            said = self.house.cli("why", who.rpartition("/")[2], "infer", "digits", "--json")
            if '"allow"' in said.stdout and '"effect":"allow"' in said.stdout.replace(" ", ""):
                self.problems.append(f"{who} is allowed after its revocation")
        for load in paused:
            self.load(load.who, load.caller, allowed=load.allowed)

    def settled(self) -> list[bytes]:
        """The lines of the gateway's log, once the audit log has them all or has had the time for it."""
        until, lines = time.monotonic() + SETTLE_SECONDS, gateway_lines(self.house)
        while time.monotonic() < until:
            self.entries += [(one.kind, mine(one)) for one in self.house.entries(self.read)]
            self.read = len(self.entries)
            lines = gateway_lines(self.house)
            if not judge(lines, self.entries, self.seen):
                break
            time.sleep(0.5)
        return lines

    def run(self, kills: int) -> None:
        """The whole campaign."""
        self.caller = self.house.caller("alice")
        self.house.until(lambda: self.house.infer(self.caller).status == 200, 10)
        self.load("allowed", self.caller, allowed=True)
        self.load("allowed", self.caller, allowed=True)
        self.load("anonymous", None, allowed=False)
        number = -1
        while self.killed < kills:
            number += 1
            told = self.fault(number)
            print(f"{number + 1:4} {told}", flush=True)
            if (number + 1) % CHECK_EVERY == 0 or self.killed >= kills:
                self.check()
                print(
                    f"     {len(self.seen.answered)} answers, {self.read} entries, {len(self.seen.revoked)} revocations, "
                    f"{len(self.problems)} problems",
                    *self.problems[-3:],
                    sep="\n     ",
                    flush=True,
                )
        for load in self.loads:
            load.ended.set()


def gateway_lines(house: Installation) -> list[bytes]:
    """Every line that the gateway wrote, rotated files first."""
    files = sorted(house.layout.gateway_logs.glob("access.log*"), key=lambda path: path.stat().st_mtime)
    return [line for path in files for line in path.read_bytes().splitlines()]


def judge(lines: list[bytes], entries: list[tuple[str, dict[str, object]]], seen: Seen) -> list[str]:
    """Rule 3: what does not hold between the gateway's lines, the audit log and what callers saw."""
    written: Counter[tuple[str, str]] = Counter()
    for line in lines:
        with contextlib.suppress(ValueError):
            row = read_fields(line)
            written[row["id"], "end" if row["kind"] == "DownstreamEnd" else "start"] += 1
    logged = Counter(
        (str(body.get("request_id")), kind.removeprefix("request-")) for kind, body in entries if kind in ("request-end", "request-start")
    )
    found = [
        f"{key} is {logged[key]} times in the audit log, {count} times in the gateway's"
        for key, count in written.items()
        if logged[key] != count
    ]
    found += [f"{key} is in the audit log and not in the gateway's" for key in logged if key not in written]
    ended = {key[0] for key in logged if key[1] == "end"}
    for request_id, (at, status) in seen.answered.items():
        if request_id not in ended and not any(at - 0.05 <= kill <= at + LOST_SECONDS + 0.1 for kill in seen.gateway_kills):
            found.append(f"the answer {status} to {request_id} at {at:.3f} is not in the log")
    gaps = sum(kind == "gap" for kind, _ in entries)
    if gaps < len(seen.gateway_kills):
        found.append(f"{len(seen.gateway_kills)} kills of the gateway, {gaps} gaps in the log")
    return found[:20]


def unlogged(campaign: Campaign) -> int:
    """Answers that are in no log, all of them from the last moment of a killed gateway (`judge` holds that)."""
    ended = {str(body.get("request_id")) for kind, body in campaign.entries if kind == "request-end"}
    return sum(request_id not in ended for request_id in campaign.seen.answered)


def sabotaged(campaign: Campaign) -> list[bool]:
    """Whether the checks find a line taken out of the audit log, and an answer that is in no log."""
    lines = gateway_lines(campaign.house)
    ends = [number for number, (kind, _) in enumerate(campaign.entries) if kind == "request-end"]
    without = campaign.entries[: ends[-1]] + campaign.entries[ends[-1] + 1 :]
    unlogged = Seen(answered={"no-such-request": (0.0, 200)})
    let_in = Seen()
    note(let_in, "revoked", Answer(200), allowed=False)
    return [bool(judge(lines, without, campaign.seen)), bool(judge(lines, campaign.entries, unlogged)), bool(let_in.wrong)]


def rows(campaign: Campaign, minutes: float) -> list[Row]:
    """The figures."""
    times = sorted(value for values in campaign.seen.recovery.values() for value in values)
    let_in = sum("let in" in one or "is allowed" in one for one in campaign.problems)
    calls = len(campaign.seen.answered)
    found = [
        Row(
            name="faults/let-in",
            value=let_in,
            unit="calls",
            goal="= 0",
            met=let_in == 0,
            n=calls,
            note=f"0 of n bounds the rate at {3 / max(1, calls):.1g} (95%)",
        ),
        Row(
            name="faults/broken-promises",
            value=len(campaign.problems) - let_in,
            unit="",
            goal="= 0",
            met=len(campaign.problems) == let_in,
            n=campaign.killed + campaign.stopped,
        ),
        Row(
            name="faults/kills",
            value=campaign.killed,
            unit="SIGKILL",
            goal=">= 200",
            met=campaign.killed >= 200,
            n=campaign.killed,
            note=f"{minutes:.1f} minutes",
        ),
        Row(
            name="faults/stops", value=campaign.stopped, unit="SIGSTOP", n=campaign.stopped, note="0.1 to 4 s each, then SIGCONT or SIGKILL"
        ),
        Row(
            name="faults/unlogged",
            value=unlogged(campaign),
            unit="answers",
            n=calls,
            note=f"within {LOST_SECONDS} s of one of {len(campaign.seen.gateway_kills)} SIGKILLs of the gateway",
        ),
        Row(name="faults/recovery-worst", value=times[-1], unit="s", n=len(times), note="a stop is part of it: up to 4 s"),
        Row(name="faults/sabotage", value=sum(sabotaged(campaign)), unit="of 3 found", goal="= 3", met=all(sabotaged(campaign)), n=3),
    ]
    for name, values in sorted(campaign.seen.recovery.items()):
        values.sort()
        found.append(
            Row(
                name=f"faults/recovery/{name}",
                value=values[len(values) // 2],
                unit="s median",
                n=len(values),
                note=f"worst {values[-1]:.2f} s",
            )
        )
    return found


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="kill and stop every process at random points under load")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--isolate", default="auto")
    options = parser.parse_args()
    began = time.monotonic()
    with Installation(isolate=options.isolate) as house:
        campaign = Campaign(house, options.seed)
        campaign.run(options.kills)
        made = rows(campaign, (time.monotonic() - began) / 60)
    emit("faults", made)
    for problem in campaign.problems:
        print(problem)
    return exit_code(made)


if __name__ == "__main__":
    sys.exit(main())
