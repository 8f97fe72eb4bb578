"""`make bench-policy-edit`: whether an edit of the policy that touches 10,000 cells moves the time from a revocation to its enforcement.

Rules
1. One installation with 60 endpoints more and 170 callers, so that each edit touches over 10,000 cells; revocations are measured as in
   revocation.py, by the same prober, quiet and with edits turn by turn (interleaved), so that both see the same machine.
2. An edit is another text of the policy file and a reload, as a person does it; a new one begins as soon as the last is in force and decided,
   at most one each `EDIT_SECONDS`. How many were made stands beside.
3. `met` needs p99 with edits below the goal of revocation.py, and no further from the quiet one than `MOVED_MS`.
4. Null: reloads of the same text make no version. Sabotage: a turn that is told to be one with edits, and makes none, is found out.

Usage: python -m benchmarks.policy_edit [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.load.links import Link
from benchmarks.load.prober import Prober, Seen, quantile
from benchmarks.load.product import POLICY, Product, _endpoint
from benchmarks.load.rounds import estimate
from benchmarks.load.stack import Stack, start_models
from benchmarks.revocation import GOAL_MS, TIMEOUT_SECONDS, _subject, _until_allowed
from benchmarks.rows import Row, emit, exit_code

ENDPOINTS, CALLERS = 60, 170
EDIT_SECONDS = 0.5
SETTLE_SECONDS = 30.0
"""The last edit is in force within this."""
MOVED_MS = 10.0
"""A tenth of the goal; below it a difference is the machine's."""
BOUNDS = range(59, 0, -1)
"""Each edit is a text that was not seen before, as far as they reach: nothing that is kept from earlier ones helps."""
TEXTS = tuple(POLICY.replace("context.risk < 60", f"context.risk < {bound}") for bound in BOUNDS)


_numbers = itertools.count()


class Editor(threading.Thread):
    """Edits until it is told to stop."""

    def __init__(self, product: Product, texts: tuple[str, ...] = TEXTS) -> None:
        super().__init__(daemon=True)
        self._product, self._texts, self._over = product, texts, threading.Event()

    def run(self) -> None:
        while not self._over.wait(EDIT_SECONDS):
            edit(self._product, self._texts[next(_numbers) % len(self._texts)])

    def stop(self) -> None:
        self._over.set()
        self.join()


def edit(product: Product, text: str) -> None:
    """Another text, and a reload."""
    path = product.folder / "bench.cedar"
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
    assert product._process is not None
    os.kill(product._process.pid, signal.SIGHUP)


def version(product: Product) -> int:
    """The policy in force."""
    return product.status().policy_version


def turn(product: Product, names: list[str], *, edits: bool) -> tuple[list[Seen], int, Prober]:
    """One revocation of each, quiet or with edits; how many versions were made meanwhile."""
    prober = Prober(partial(Link.unix, product.layout.api_socket))
    subjects = [_subject(product, product.caller(name, None), "credential") for name in names]
    for subject in subjects:
        prober.add(subject)
    _until_allowed(prober, subjects)
    before, editor = version(product), Editor(product) if edits else None
    if editor is not None:
        editor.start()
    seen = []
    for subject in subjects:
        seen.append(prober.revoke(subject, timeout=TIMEOUT_SECONDS))
        prober.run_for(0.02)
    made = version(product) - before
    if editor is not None:
        editor.stop()
    prober.close()
    return seen, made, prober


def measure(product: Product, rounds: int, names: list[str]) -> Iterator[Row]:
    """Rules 1 to 4."""
    found: dict[bool, list[Seen]] = {False: [], True: []}
    edits = idle = late = 0
    for _ in range(rounds):
        for with_edits in (False, True):
            seen, made, _ = turn(product, names, edits=with_edits)
            found[with_edits] += seen
            late += sum(one.late for one in seen)
            edits, idle = (edits + made, idle) if with_edits else (edits, idle + made)
    p99 = {}
    for with_edits, said in ((False, "quiet"), (True, "while policies are edited")):
        values = [one.enforced_ms for one in found[with_edits]]
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            got = estimate(values, quantile(share))
            limit = name == "p99" and with_edits
            yield Row(
                name=f"revocation to enforcement, {said}: {name}", value=got.value, unit="ms", n=got.n, interval=(got.low, got.high),
                goal=f"< {GOAL_MS:g}" if limit else "", met=got.value < GOAL_MS if limit else None,
            )  # fmt: skip
            p99[with_edits, name] = got.value
        yield Row(name=f"revocation to enforcement, {said}: worst", value=max(values), unit="ms", n=len(values))
    for name in ("p50", "p99"):
        moved = p99[True, name] - p99[False, name]
        goal = name == "p99"
        yield Row(name=f"edits move {name} by", value=moved, unit="ms", goal=f"<= {MOVED_MS:g}" if goal else "", met=moved <= MOVED_MS if goal else None,
                  n=len(found[True]))  # fmt: skip
    yield Row(name="let in after a refusal", value=late, unit="", goal="0", met=late == 0, n=2 * len(found[True]))
    cells = (ENDPOINTS + 7) * CALLERS
    yield Row(
        name="edits made meanwhile", value=edits, unit="versions", goal="> 0", met=edits > 0, n=edits, note=f"each touches {cells:,} cells"
    )
    yield Row(
        name="sabotage: a turn without edits is seen as one", value=idle, unit="versions", goal="0", met=idle == 0, n=len(found[False])
    )


def null(product: Product) -> Row:
    """Reloads that change nothing."""
    text = (product.folder / "bench.cedar").read_text()
    deadline, since, before = time.monotonic() + SETTLE_SECONDS, time.monotonic(), version(product)
    while time.monotonic() < deadline and time.monotonic() - since < 4.0:
        time.sleep(0.2)
        if version(product) != before:
            since, before = time.monotonic(), version(product)
    for _ in range(4):
        edit(product, text)
        time.sleep(0.5)
    made = version(product) - before
    return Row(name="null: reloads of the same text make no version", value=made, unit="versions", goal="0", met=made == 0, n=4)


def main(arguments: list[str]) -> int:
    """Run, print, write build/figures/policy_edit.jsonl."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_edit")
    parser.add_argument("--quick", action="store_true", help="fewer revocations, for a look; not for docs/figures.md")
    quick = parser.parse_args(arguments).quick
    with Stack() as stack:
        models = start_models(stack)
        more = "\n".join(_endpoint(f"x{number:03d}", models["0"]) for number in range(ENDPOINTS))
        product = Product(stack, models, more=more).start()
        names = [f"caller-{number:03d}" for number in range(CALLERS)]
        for name in names:
            product.caller(name, ("callers",))
        probed = names[:60] if quick else names[:100]
        rows = [*measure(product, 1 if quick else 5, probed), null(product)]
    emit("policy_edit-quick" if quick else "policy_edit", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
