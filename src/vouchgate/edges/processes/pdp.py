"""The PDP worker: decides cells for the control plane, and single requests for the gateway.

`python -m vouchgate.edges.processes.pdp --data-dir DIR`. Listens on pdp/pdp.sock (frames; control and root) and on pdp/ext_authz.sock
(HTTP; the gateway alone); with `[authzen]` for enforcement points of others too (edges/authzen). It holds no key but that of its own
listener and writes no file; a decision leaves after the control plane has it durably in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vouchgate import wiring
from vouchgate.edges.envoy import ext_authz
from vouchgate.edges.processes import logs
from vouchgate.edges.processes.rpc_server import Handler, Peer, serve
from vouchgate.flows.admit_request import settled
from vouchgate.flows.delegation import gateway_origins
from vouchgate.flows.prevalidate import Validator
from vouchgate.flows.replica import LOAD_AT_ONCE, Replica
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.approvals import Settled
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.outcomes import PROBLEM_MEDIA
from vouchgate.vocabulary.requests import Request

if TYPE_CHECKING:
    from vouchgate.edges.authzen.service import Service

RECORD_FOR_OTHERS_SECONDS = 2.0
"""The same for decisions of others' enforcement points, which come in messages of many and stand behind the gateway's."""
RECORD_SECONDS = 0.5
"""A decision that is not in the log by then is not given: below the gateway's own patience."""


def handlers(replica: Replica, validator: Validator | None = None) -> dict[str, Handler]:
    """The frames methods."""
    turn = asyncio.Lock()
    """What changes the facts, one after the other: preparing awaits."""

    async def hello(_: Peer, __: dict[str, Any]) -> Any:
        return replica.hello()

    async def begin(_: Peer, __: dict[str, Any]) -> Any:
        async with turn:
            replica.begin()

    async def load(_: Peer, params: dict[str, Any]) -> Any:
        async with turn:
            read = await replica.prepare(params["changes"], validator, loading=True)
            for first in range(0, len(read), LOAD_AT_ONCE):
                replica.load(read[first : first + LOAD_AT_ONCE])
                await asyncio.sleep(0)

    async def end(_: Peer, params: dict[str, Any]) -> Any:
        async with turn:
            return replica.end(params["epoch"])

    async def apply(_: Peer, params: dict[str, Any]) -> Any:
        async with turn:
            return replica.apply(params["since"], await replica.prepare(params["changes"], validator))

    async def lease(_: Peer, params: dict[str, Any]) -> Any:
        replica.lease(params["milliseconds"])
        return replica.hello()

    async def cells(_: Peer, params: dict[str, Any]) -> Any:
        return await replica.cells_in_turn([(cell[0], cell[1]) for cell in params["cells"]])

    return {"hello": hello, "begin": begin, "load": load, "end": end, "apply": apply, "lease": lease, "cells": cells}


async def run(data_dir: Path) -> None:
    """Serve until SIGTERM."""
    log = logs.set_up("pdp")
    installation = wiring.load_installation(data_dir)
    layout, users = Layout(data_dir), installation.users
    origins = gateway_origins(installation.settings, installation.gateway, installation.plain)
    replica = Replica(installation.settings.trust_domain, installation.fingerprint, wiring.clock().now, origins=origins)
    control = wiring.async_rpc(layout.control_socket, "control plane", timeout=RECORD_SECONDS)

    async def decide(request: Request) -> ext_authz.Answer:
        admission = replica.admit(request)
        recorded = {"decision": wire.encode(admission.decision), "request_id": request.request_id}
        if admission.owed is None:
            await control.call("record_decision", **recorded)
        else:
            said = await control.call("settle_decision", owed=wire.encode(admission.owed), **recorded)
            admission = settled(admission, wire.decode(Settled, said, what="settlement"), request)
        headers = {"x-vg-decision-id": admission.decision.id}
        if admission.problem is None:
            return 200, headers | ({"x-vg-obligations": admission.answer} if admission.answer else {}), b""
        if admission.retry_after:
            headers["retry-after"] = str(admission.retry_after)
        if admission.challenge:
            headers["www-authenticate"] = admission.challenge
        return admission.problem.status, {**headers, "content-type": PROBLEM_MEDIA}, wire.encode(admission.problem)

    own = {users.of("control"), users.own}
    frames = await serve(layout.pdp_socket, handlers(replica, wiring.prover()), allowed_uids=own)
    asked = await ext_authz.serve(str(layout.ext_authz_socket), decide, allowed_uids={users.of("gateway")})
    others: Service | None = None
    if installation.settings.authzen.enabled:
        from vouchgate.edges.authzen.service import Service as AuthzenService

        link = wiring.async_rpc(layout.control_socket, "control plane", timeout=RECORD_FOR_OTHERS_SECONDS)
        others = AuthzenService(installation, layout, replica, link)
        await others.start()
    log.info("ready")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    for server in (frames, asked):
        server.close()
    with contextlib.suppress(Exception):
        if others is not None:
            await others.close()
        await control.close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="vouchgate-pdp")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    if sys.platform != "win32":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(arguments.data_dir))


if __name__ == "__main__":
    main()
