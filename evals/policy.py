"""`make eval-policy`: suspicious requests that static roles would permit, beside honest work; and what least privilege suggested from traffic costs.

    python evals/policy.py [--quick]

Suspicious requests (policy_office.py over organisation.py)
1. Four weeks of honest work teach, two weeks are counted: honest requests, and every kind of theft on each of their days, in order of time.
2. Caught means denied, or stepped up: refused until a younger credential is shown. A thief whose stolen credential is young enough passes, and
   counts as not caught.
3. Met uses the bound of the interval: of thefts Wilson's, of honest requests a bootstrap over members, since one member's bad day is many requests.
4. The generator is frozen by its digest; seeds that figures are made from were not used while policies were written.
5. Null: static roles alone. Sabotage: each kind's check taken out; what it is for must then be missed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "evals")]

import organisation  # noqa: E402
import policy_suggest  # noqa: E402
from benchmarks.rows import Row, emit, exit_code, share_interval  # noqa: E402
from organisation import KINDS, benign, suspicious  # noqa: E402
from policy_office import SABOTAGES, Office  # noqa: E402

GENERATOR = "0511b9833bb27f37961274e9fb58d08e101208b4f5b48167b7a65412beeb485b"
"""SHA-256 of organisation.py as it was before any policy was tuned."""
TUNING_SEEDS, SEEDS = (1, 2, 3), (101, 102)
LEARN_DAYS, COUNT_DAYS = 28, 14
EACH = 10
"""Thefts of every kind on each counted day."""
GOAL_CAUGHT, GOAL_BENIGN = 0.95, 0.01
RESAMPLES = 1_000


@dataclass
class Counted:
    """What came of one organisation."""

    caught: Counter[str] = field(default_factory=Counter)
    thefts: Counter[str] = field(default_factory=Counter)
    by_member: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Variant:
    """One organisation behind vouchgate, whole or with one check taken out."""

    seed: int
    size: int
    without: str = ""
    """Kind of theft whose check is taken out."""


def run(variant: Variant) -> Counted:
    """Learn, then count."""
    began = time.monotonic()
    org = organisation.organisation(variant.seed, variant.size)
    office = Office(
        org,
        without=SABOTAGES.get(variant.without, ""),
        risk_counts=variant.without != "risk",
        runs_count=variant.without != "stolen-run-token",
    )
    rng = random.Random(f"eval/{variant.seed}")
    for ask in benign(org, 0, LEARN_DAYS, rng):
        office.ask(ask)
    made = Counted()
    for day in range(LEARN_DAYS, LEARN_DAYS + COUNT_DAYS):
        for ask in sorted([*benign(org, day, 1, rng), *suspicious(org, day, EACH, rng)], key=lambda one: one.at):
            outcome = office.ask(ask)
            if ask.label == "benign":
                made.by_member.setdefault(ask.who, Counter())[outcome] += 1
            else:
                made.thefts[ask.label] += 1
                made.caught[ask.label] += outcome != "allowed"
    made.seconds = time.monotonic() - began
    return made


def by_members(members: Sequence[Counter[str]], outcome: str) -> tuple[float, float]:
    """95% bootstrap over members of the share of requests with this outcome."""
    chance, drawn = random.Random(1), []
    pairs = [(one[outcome], one.total()) for one in members]
    for _ in range(RESAMPLES):
        sample = chance.choices(pairs, k=len(pairs))
        drawn.append(sum(one[0] for one in sample) / max(1, sum(one[1] for one in sample)))
    drawn.sort()
    return drawn[int(RESAMPLES * 0.025)], drawn[int(RESAMPLES * 0.975)]


def rows_of(counts: Sequence[Counted]) -> list[Row]:
    """The figures of the whole product."""
    caught, thefts = sum((one.caught for one in counts), Counter[str]()), sum((one.thefts for one in counts), Counter[str]())
    rows = []
    for kind in ("", *KINDS):
        found, of = (caught[kind], thefts[kind]) if kind else (caught.total(), thefts.total())
        interval = share_interval(found, of)
        rows.append(
            Row(
                name=f"suspicious/{kind or 'all kinds'}",
                value=found / of,
                unit="share denied or stepped up",
                goal="" if kind else f">= {GOAL_CAUGHT}",
                met=None if kind else interval[0] >= GOAL_CAUGHT,
                n=of,
                interval=interval,
                note=f"{found} of {of}; the paper's figure for suspicious requests is 0.834" if not kind else f"{found} of {of}",
            )
        )
    members = [member for one in counts for member in one.by_member.values()]
    for outcome, goal in (("denied", GOAL_BENIGN), ("stepped-up", None)):
        interval = by_members(members, outcome)
        found, of = sum(one[outcome] for one in members), sum(one.total() for one in members)
        rows.append(
            Row(
                name=f"suspicious/honest requests {outcome}",
                value=found / of,
                unit="share",
                goal=f"<= {goal}" if goal else "",
                met=interval[1] <= goal if goal else None,
                n=of,
                interval=interval,
                note=f"{found} of {of}, {len(members)} members; none excluded",
            )
        )
    return rows


def null(seed: int, size: int) -> Row:
    """Static roles: every suspicious request is one that they permit."""
    org, rng = organisation.organisation(seed, size), random.Random(f"eval/{seed}")
    asks = [ask for day in range(LEARN_DAYS, LEARN_DAYS + COUNT_DAYS) for ask in suspicious(org, day, EACH, rng)]
    stopped = sum(not org.may(ask.who, ask.action, ask.thing) for ask in asks)
    return Row(name="suspicious/null: static roles", value=stopped / len(asks), unit="share denied", goal=f"< {GOAL_CAUGHT}",
               met=stopped / len(asks) < GOAL_CAUGHT, n=len(asks), note=f"{stopped} of {len(asks)}")  # fmt: skip


def sabotage(kind: str, counted: Counted) -> Row:
    """Without its check a kind must be missed."""
    found, of = counted.caught[kind], counted.thefts[kind]
    return Row(name=f"suspicious/sabotage: nothing checks {kind}", value=found / of, unit="share denied or stepped up", goal=f"< {GOAL_CAUGHT}",
               met=found / of < GOAL_CAUGHT, n=of, interval=share_interval(found, of), note=f"{found} of {of}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write build/figures/eval-policy.jsonl; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python evals/policy.py")
    parser.add_argument("--quick", action="store_true", help="a tuning seed, and few members; not for figures")
    quick = parser.parse_args(arguments).quick
    digest = hashlib.sha256(Path(organisation.__file__).read_bytes()).hexdigest()
    if digest != GENERATOR:
        sys.stderr.write(f"organisation.py is not the one that was frozen ({digest})\n")
        return 1
    seeds, size, small = (TUNING_SEEDS[:1], 60, 40) if quick else (SEEDS, 300, 80)
    honest = [Variant(seed, size) for seed in seeds]
    broken = [Variant(seeds[0], small, without=kind) for kind in KINDS]
    with ProcessPoolExecutor(2) as pool:
        counts = []
        for variant, counted in zip((*honest, *broken), pool.map(run, (*honest, *broken)), strict=True):
            sys.stdout.write(f"{variant}: {counted.seconds:.0f} s\n")
            counts.append(counted)
        suggested = policy_suggest.rows(pool, quick=quick)
    rows = [*rows_of(counts[: len(honest)]), null(seeds[0], size)]
    rows += [sabotage(variant.without, counted) for variant, counted in zip(broken, counts[len(honest) :], strict=True)]
    rows += suggested
    emit("eval-policy", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
