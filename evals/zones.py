"""`make eval-zones`: a compromised worker in every zone of two tenants tries every other zone's service, data and key. As root.

    python evals/zones.py

1. Two installations run side by side (zones_tenant.py). Each worker's role permits everything everywhere; declared crossings alone hold it.
2. A try got in only if it returned the word, or the key, that its target alone knows. It counts only if its twin got in: the same request where
   nothing is declared, or for what goes around the gateway, and for the other tenant's things, the same servers with nothing in front.
3. Every declared flow, and every zone within itself, must work in each of the ways that count for it.
4. Null: the twins, which must all get in. Sabotage: one crossing too many is declared behind the evaluation's back, which must be found.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]

from benchmarks.rows import Row, emit, exit_code, share_interval  # noqa: E402
from zones_tenant import CALLS, CROSSING, KEYS, READS, ZONES, Tenant, as_uid, over_tcp, over_unix, release  # noqa: E402

NAMES = ("north.example", "south.example")
FLOWS = {"service": CALLS, "data": READS, "key": KEYS}
PAPER = "the paper's figure is 0.762 of lateral movements failing"
BEHIND = CROSSING.format(source="ingest", target="serve", action="infer", kind="endpoint")
"""What nobody declared to the evaluation."""


@dataclass(frozen=True)
class Try:
    """One way from a worker to a thing. Tenants by number."""

    way: str
    """`certificate`, `token`, `spoofed`, `own user`, `server's socket`, `plain`."""
    source: tuple[int, str]
    target: tuple[int, str]
    thing: str

    @property
    def within(self) -> bool:
        """Whether both are of one tenant."""
        return self.source[0] == self.target[0]

    @property
    def declared(self) -> bool:
        """Whether a crossing, or the zone itself, lets it pass this way."""
        if not self.within or self.way in ("server's socket", "plain"):
            return False
        return self.source[1] == self.target[1] or (self.source[1], self.target[1]) in FLOWS[self.thing]


def tries() -> Iterator[Try]:
    """Everybody to everything, in every way that there is for it."""
    everywhere = [(number, zone) for number in range(len(NAMES)) for zone in ZONES]
    for source in everywhere:
        for target in everywhere:
            for thing in ("service", "data"):
                for way in ("certificate", "token", "spoofed", "plain"):
                    yield Try(way, source, target, thing)
            yield Try("own user", source, target, "key")
            if source != target:
                yield Try("server's socket", source, target, "service")


def attempt(tenants: Sequence[Tenant], one: Try) -> bool:
    """Whether it got what the target alone knows."""
    ours, theirs = tenants[one.source[0]], tenants[one.target[0]]
    zone, worker = one.target[1], ours.workers[one.source[1]]
    word = theirs.key(zone) if one.thing == "key" else theirs.words[zone]
    match one.way:
        case "certificate":
            said = theirs.ask(zone, one.thing, worker=worker).body.decode("latin-1")
        case "spoofed":
            said = theirs.ask(zone, one.thing, worker=worker, headers=_lies(theirs, zone)).body.decode("latin-1")
        case "token":
            said = theirs.ask(zone, one.thing, headers={"authorization": f"Bearer {_token(ours, theirs, one)}"}).body.decode("latin-1")
        case "plain":
            method = "POST" if one.thing == "service" else "GET"
            lies = "".join(f"{name}: {value}\r\n" for name, value in _lies(theirs, zone).items())
            head = f"{method} /{zone}/{one.thing} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n{lies}\r\n"
            said = theirs.raw(None, head.encode(), plain=True).body.decode("latin-1")
        case "own user":
            said = _as(worker.uid, lambda: release(theirs.layout.api_socket, f"key-{zone}"))
        case _:
            said = _as(worker.uid, lambda: over_unix(theirs.layout.upstream_socket(f"service-{zone}"), f"/{zone}/service"))
    return word in said


def _as(uid: int, act: Callable[[], str]) -> str:
    return as_uid(uid, [("got", act)])["got"]


def _lies(theirs: Tenant, zone: str) -> dict[str, str]:
    """Headers that say: I am the target's own worker."""
    name = theirs.workers[zone].caller.principal
    return {
        "x-forwarded-client-cert": f"By=spiffe://{theirs.td}/system/control/gateway;URI={name}",
        "x-vg-san": name,
        "x-vg-sub": name,
        "x-vg-decision-id": "0" * 32,
        "x-envoy-original-path": f"/{zone}/service",
    }


_tokens: dict[tuple[str, str, str], str] = {}


def _token(ours: Tenant, theirs: Tenant, one: Try) -> str:
    """The worker's token for an endpoint of that name; at the other tenant's gateway that is a token of a foreign authority."""
    endpoint = f"{one.thing}-{one.target[1]}"
    key = (ours.td, one.source[1], endpoint)
    if key not in _tokens:
        _tokens[key] = ours.jwt(one.source[1], endpoint)
    return _tokens[key]


def twin(opened: Sequence[Tenant], one: Try) -> bool:
    """The same with enforcement off (rule 2)."""
    if one.within and one.way in ("certificate", "token", "spoofed", "own user"):
        return attempt(opened, one)
    theirs = opened[one.target[0]]
    said = _as(opened[one.source[0]].uid(one.source[1]), lambda: over_tcp(theirs.bare[one.target[1]], f"/{one.target[1]}/{one.thing}"))
    return theirs.words[one.target[1]] in said


def run(tenants: Sequence[Tenant], act: Callable[[Sequence[Tenant], Try], bool], listed: Sequence[Try]) -> dict[Try, bool]:
    """All of them, the progress on one line."""
    found: dict[Try, bool] = {}
    began = time.monotonic()
    for number, one in enumerate(listed, 1):
        found[one] = act(tenants, one)
        if number % 200 == 0 or number == len(listed):
            rate = number / (time.monotonic() - began)
            sys.stdout.write(f"\r{number} of {len(listed)}, {rate:.0f} a second, {(len(listed) - number) / rate:.0f} s left   ")
            sys.stdout.flush()
    sys.stdout.write("\n")
    return found


def started(held: bool, more: str = "") -> list[Tenant]:
    """Both tenants, furnished; ended where one does not come up."""
    made = [Tenant(name, number, held=held, more=more if number == 0 else "") for number, name in enumerate(NAMES)]
    try:
        for tenant in made:
            tenant.start()
            tenant.furnish()
    except BaseException:
        end(made)
        raise
    return made


def end(tenants: Sequence[Tenant]) -> None:
    """All of them."""
    with ThreadPoolExecutor(len(tenants)) as pool:
        list(pool.map(Tenant.close, tenants))
    _tokens.clear()


def main() -> int:
    """Run, print, write build/figures/eval-zones.jsonl; 1 where a goal is missed."""
    if os.geteuid() != 0:
        sys.stderr.write("only root can be other users: start it as root\n")
        return 2
    listed = list(tries())
    held = started(True)
    try:
        got = run(held, attempt, listed)
    finally:
        end(held)
    opened = started(False)
    try:
        for tenant in opened:
            tenant.beside()
        twins = run(opened, twin, listed)
    finally:
        end(opened)
    rows = [*rows_of(got, twins), sabotage()]
    emit("eval-zones", rows)
    return exit_code(rows)


def rows_of(got: dict[Try, bool], twins: dict[Try, bool]) -> list[Row]:
    """What the two runs say."""
    counted = [one for one in got if not one.declared and twins[one]]
    left_out = [one for one in got if not one.declared and not twins[one]]
    declared = [one for one in got if one.declared]
    moved = [one for one in counted if got[one]]
    rows = [
        Row(name="zones/lateral movements that got in", value=len(moved), unit=f"of {len(counted)} tries", goal="= 0", met=not moved,
            n=len(counted), interval=share_interval(len(moved), len(counted)), note=f"{PAPER}; left out, since the twin failed: {len(left_out)}"),
        Row(name="zones/declared flows that work", value=sum(got[one] for one in declared), unit=f"of {len(declared)}",
            goal=f"= {len(declared)}", met=all(got[one] for one in declared), n=len(declared), note="each zone within itself included"),
        Row(name="zones/null: twins that got in", value=sum(twins.values()) / len(twins), unit="share", goal="= 1", met=all(twins.values()),
            n=len(twins), note="the same tries with nothing declared, or with nothing in front"),
    ]  # fmt: skip
    for way in sorted({one.way for one in counted}):
        for within in (True, False):
            these = [one for one in counted if one.way == way and one.within is within]
            if these:
                name = f"zones/{way}, {'within a tenant' if within else 'from the other tenant'}"
                failed = sum(not got[one] for one in these)
                rows.append(
                    Row(name=name, value=failed, unit=f"refused of {len(these)}", n=len(these), interval=share_interval(failed, len(these)))
                )
    for one in moved[:20]:
        sys.stdout.write(f"got in: {one}\n")
    for one in (one for one in declared if not got[one]):
        sys.stdout.write(f"does not work: {one}\n")
    return rows


def sabotage() -> Row:
    """Rule 4."""
    tenant = Tenant(NAMES[0], 0, more=BEHIND)
    with tenant:
        tenant.furnish()
        listed = [one for one in tries() if one.source[0] == one.target[0] == 0 and one.way == "certificate" and not one.declared]
        found = [one for one in listed if attempt([tenant], one)]
    seen = [one for one in found if (one.source[1], one.target[1], one.thing) == ("ingest", "serve", "service")]
    return Row(
        name="zones/sabotage: one crossing that nobody declared", value=len(found), unit="found", goal=">= 1", met=bool(seen), n=len(listed)
    )


if __name__ == "__main__":
    sys.exit(main())
