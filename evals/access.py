"""`make eval-access`: every door of the running example, tried with every kind of defective identity. None may be let in.

    python evals/access.py

1. The example is started as its demo starts it (example.py). Doors are enumerated from what runs: the gateway's own route tables, the API's app,
   the token service's table, every socket, method and file; one that cannot be asked is an error, one that nothing was tried at fails the run.
2. A positive control per door must be let in; where it is not, the refusals of that door prove nothing, and the run fails.
3. Each refusal must be the right one for what is wrong: the problem's type, the OAuth error, the frame's code, the TLS alert.
4. Identities are made by defects.py with cryptography alone; what only vouchgate can sign is asked of it, or signed with a key taken from it.
5. Null and sabotage (access_null.py): where nobody is authenticated everything must be found let in, and where one check is taken out its kinds.
The rows of each variant lie in build/figures/access-variants.jsonl.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]

import access_api  # noqa: E402
import access_gateway  # noqa: E402
import access_null  # noqa: E402
import access_sockets  # noqa: E402
import access_sts  # noqa: E402
from benchmarks.rows import Row, emit, exit_code  # noqa: E402
from example import ADDED, TRUST_DOMAIN, Example, example_routes  # noqa: E402
from tries import ISSUE, Surface, bound, listed  # noqa: E402


def main() -> int:
    """Run, print, write build/figures/access.jsonl; 1 where a goal is missed."""
    if os.geteuid() != 0:
        print("only root can be other users: start it as root", file=sys.stderr)
        return 2
    began = time.monotonic()
    with Example() as house:
        surfaces, rows = evaluate(house)
    # each mostly waits: for its start, for proofs to count, for what was made short to end
    with ThreadPoolExecutor(len(access_null.SABOTAGES)) as pool:
        rows += pool.map(access_null.sabotage, access_null.SABOTAGES)
    rows.append(
        Row(name="access/duration", value=time.monotonic() - began, unit="s", goal="<= 240", met=time.monotonic() - began <= 240, n=1)
    )
    emit("access-variants", [row for surface in surfaces for row in surface.details()])
    emit("access", rows)
    return exit_code(rows)


def evaluate(house: Example) -> tuple[list[Surface[Any]], list[Row]]:
    """Every surface of one installation, and the null."""
    # a uid that nobody knows must reach the doors, so that the refusal is theirs and not the folder's
    house.folder.chmod(0o711)
    table, fixed = access_gateway.routes(house)
    cast = access_gateway.Cast(house, table)
    cast.exchange_all()
    house.bring_secret()
    browser = access_api.Browser(house)
    gateway: Surface[access_gateway.Route] = Surface("gateway", table)
    gateway.notes += [f"answered by itself: {listed(fixed, 12)}"]
    gateway.controls = access_gateway.controls(cast, gateway)
    cast.until_expired()
    gateway.attempt(access_gateway.kinds(cast))
    sts: Surface[access_sts.Resource] = Surface("token service", access_null.sts_doors(house))
    sts.notes += [f"{name} is public: {why}" for name, why in access_sts.public(house).items()]
    sts.attempt(access_sts.kinds(house, cast))
    sts.controls = access_sts.controls(house, cast, sts)
    documents = access_sts.documents(house, cast)
    api: Surface[access_api.Way] = Surface("api", access_api.ways())
    api.notes += [f"{name} is public on the unix socket: {why}" for name, why in access_api.PUBLIC.items()]
    api.attempt(access_api.kinds(house, browser))
    registrar = access_api.registrar(house, access_gateway.lesser_names(), {"going on": cast.right_run, "ended": cast.ended_run})
    tokens = {"digits": cast.tokens["digits"], "expired": cast.short_tokens["digits"]}
    workload = access_sockets.workload(house, tokens)
    processes = access_sockets.surfaces(house)
    access_sockets.attempt(house, processes)
    null = access_null.null(house, cast, browser, tokens)
    # what the administrator and the processes themselves may do changes things: last
    api.controls = access_api.controls(house, browser, list(api.doors))
    access_sockets.controls(house, processes)
    surfaces: list[Surface[Any]] = [gateway, api, registrar, sts, workload, *processes]
    return surfaces, [*totals(surfaces, table), *(row for surface in surfaces for row in surface.rows()), documents, null]


def totals(surfaces: list[Surface[Any]], table: list[access_gateway.Route]) -> Iterator[Row]:
    """What the goal asks for."""
    tried, accepted, wrong = (sum(getattr(one, name) for one in surfaces) for name in ("tried", "accepted", "wrong"))
    doors, reached = sum(len(one.doors) for one in surfaces), sum(len(one.reached) for one in surfaces)
    kinds = [of for of in ISSUE if any(of in one.kinds for one in surfaces)]
    at_routes = [of for of in ISSUE if of in surfaces[0].kinds]
    own, there = example_routes(), {(route.method, route.path) for route in table}
    yield Row(
        name="access/let in",
        value=accepted,
        unit=f"of {tried} tries",
        goal="= 0",
        met=accepted == 0 and tried > 0,
        n=tried,
        interval=bound(accepted, tried),
    )
    yield Row(
        name="access/refused for another reason",
        value=wrong,
        unit=f"of {tried} tries",
        goal="= 0",
        met=wrong == 0 and tried > 0,
        n=tried,
        interval=bound(wrong, tried),
    )
    yield Row(name="access/doors covered", value=reached / doors, unit=f"of {doors} doors", goal="= 1", met=reached == doors, n=doors)
    yield Row(
        name="access/kinds of identity",
        value=len(kinds),
        unit=f"of {len(ISSUE)} kinds",
        goal=">= 12",
        met=len(kinds) >= 12,
        n=len(kinds),
        note=", ".join(kinds),
    )
    yield Row(
        name="access/kinds of identity at the gateway's routes", value=len(at_routes), unit=f"of {len(ISSUE)} kinds", goal=">= 12",
        met=len(at_routes) >= 12, n=len(at_routes), note=", ".join(of for of in ISSUE if of not in at_routes),
    )  # fmt: skip
    yield Row(
        name="access/the example's own routes", value=len(own & there) / len(own), unit=f"of {len(own)} routes of {TRUST_DOMAIN}", goal="= 1",
        met=own <= there, n=len(own), note=f"added here: {', '.join(ADDED)}",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
