"""The agent: the SPIFFE Workload API and Envoy's secret discovery for the processes of this machine.

`python -m vouchgate.edges.processes.agent --data-dir DIR`. Listens on agent/workload.sock (gRPC; everybody) and on agent/agent.sock (frames;
the control plane and root). It holds no signing key and decides nothing: the control plane has the supervisor look at the process that the
agent names, matches, signs and records. What it holds of a workload is the key that it made for a live stream of that workload.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import time
from pathlib import Path
from typing import Any

from vouchgate import wiring
from vouchgate.edges.processes import logs
from vouchgate.edges.processes.rpc_server import Handler, Peer, serve
from vouchgate.edges.processes.withhold import withhold_memory
from vouchgate.edges.spiffe.asking import Known, Questions
from vouchgate.edges.spiffe.live import Streams
from vouchgate.edges.spiffe.serving import Bounds, WorkloadServer
from vouchgate.edges.spiffe.workload_api import Desk, WorkloadApi
from vouchgate.flows.workload_refusals import Refusal, Refusals
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout

CONTROL_SECONDS = 10.0
"""How long the control plane may take for a batch: longer than its own patience with the signer."""
TELL_SECONDS = 0.2
"""Pause in which refusals gather before the control plane is told of them."""
COLLECT_EVERY = 20_000
"""Objects after which the garbage collector looks: a request makes about a thousand, nearly all freed without it."""
KEEP_TOLD = 256
"""Refusals of one message."""

log = logging.getLogger("vouchgate.agent")


class Agent:
    """One agent, put together."""

    def __init__(self, control: Any, kernel: Any, *, bounds: Bounds | None = None) -> None:
        self.questions, self.known, self.streams = Questions(control), Known(control), Streams()
        self.desk = Desk(self.questions, self.known, self.streams)
        self._refusals = Refusals(time.monotonic)
        self._telling = asyncio.Event()
        self.server = WorkloadServer(self._services(), kernel, self._refused, bounds=bounds)
        self.server.on_gone = lambda caller: self.questions.gone(caller.name)
        self.desk.server = self.server

    def _services(self) -> list[Any]:
        services: list[Any] = [WorkloadApi(self.desk)]
        with contextlib.suppress(ImportError):
            from vouchgate.edges.spiffe.sds import SecretDiscovery

            services.append(SecretDiscovery(self.desk))
        return services

    def _refused(self, uid: int, pid: int, code: str, reason: str) -> None:
        if self._refusals.note(Refusal(uid=uid, pid=pid, code=code, reason=reason)):
            self._telling.set()

    def handlers(self) -> dict[str, Handler]:
        """The frames methods."""

        async def poke(_: Peer, params: dict[str, Any]) -> Any:
            if params["state"]:
                await self.known.renew()
            self.streams.wake("rotate", params["rotate"])
            self.streams.wake("check", params["check"])
            if params["rotate_all"]:
                self.streams.wake_all("rotate", spread=True)
            elif params["check_all"]:
                self.streams.wake_all("check", spread=True)
            return {"streams": len(self.streams)}

        async def health(_: Peer, __: dict[str, Any]) -> Any:
            return {"connections": len(self.server.callers), "streams": len(self.streams), "refused": self._refusals.total}

        return {"poke": poke, "health": health}

    async def run(self) -> None:
        """Tell the control plane what was refused here, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._telling.wait(), 5.0)
            self._telling.clear()
            self._refusals.overdue()
            told = self._refusals.take()
            for first in range(0, len(told), KEEP_TOLD):
                part = [wire.to_plain(one) | {"times": times} for one, times in told[first : first + KEEP_TOLD]]
                try:
                    await self.questions.tell_refused(part)
                except VouchgateError as error:
                    log.warning("%d refusals could not be told: %s", len(part), error.reason)
            await asyncio.sleep(TELL_SECONDS)


async def run(data_dir: Path) -> None:
    """Serve until SIGTERM."""
    installation = wiring.load_installation(data_dir)
    layout, users = Layout(data_dir), installation.users
    control = wiring.async_rpc(layout.control_socket, "control plane", timeout=CONTROL_SECONDS)
    bounds = Bounds(requests_per_second=installation.settings.agent.requests_per_second)
    agent = Agent(control, wiring.kernel(), bounds=bounds)
    frames = await serve(layout.agent_socket, agent.handlers(), allowed_uids={users.of("control"), users.own})
    await agent.server.listen(layout.workload_socket)
    telling = asyncio.create_task(agent.run())
    log.info("ready")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    frames.close()
    agent.server.close()
    telling.cancel()
    with contextlib.suppress(Exception):
        await control.close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="vouchgate-agent")
    parser.add_argument("--data-dir", type=Path, required=True)
    data_dir = parser.parse_args().data_dir
    logs.set_up("agent")
    logging.getLogger("grpclib").setLevel(logging.CRITICAL)
    withhold_memory()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 20)
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(run(data_dir))


if __name__ == "__main__":
    main()
