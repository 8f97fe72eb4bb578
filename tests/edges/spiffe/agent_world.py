"""The agent on a real socket in front of a control plane in memory; the clients are real processes or threads of the stock libraries.

    async with agent_world() as house:
        await house.register(uid=os.getuid())
        svid = await house.thread(lambda: house.client().fetch_x509_svid())

What a process looks like is the test's to say (`house.facts`), by default its real uid; who connected, the kernel says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from flows_world import TD, World, make_world, registration, running

from vouchgate.audit import ocsf
from vouchgate.edges.processes.agent import Agent
from vouchgate.edges.processes.agent_rpc import handlers
from vouchgate.edges.processes.rpc_server import Peer
from vouchgate.edges.spiffe.serving import Bounds
from vouchgate.flows.changes import RegistrationPut
from vouchgate.flows.sequence import Sequenced
from vouchgate.flows.workload import Workloads
from vouchgate.flows.workload_push import Push
from vouchgate.flows.workload_state import State
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.principals import Selector

NAME = principal(TD, "service", "serve", "alice")
SO_PEERPIDFD = 77


@dataclass
class KernelPeer:
    pid: int
    uid: int
    pidfd: int


class Kernel:
    """The kernel itself, as ports/attest.py asks it."""

    def __init__(self) -> None:
        self.alive_says: bool | None = None

    def peer(self, sock: Any) -> KernelPeer:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return KernelPeer(pid, uid, sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))

    def alive(self, pidfd: int) -> bool:
        if self.alive_says is not None:
            return self.alive_says
        return not select.select([pidfd], [], [], 0)[0]


class Wire:
    """A peer's handlers, reached as frames reach them; `away` makes it unreachable."""

    def __init__(self, methods: Callable[[], dict[str, Any]]) -> None:
        self._methods, self.away, self.calls, self.delay = methods, "", list[tuple[str, Any]](), 0.0

    async def call(self, method: str, /, **params: Any) -> Any:
        self.calls.append((method, params))
        await asyncio.sleep(self.delay)
        if self.away:
            raise Unavailable(self.away, remedy="start it")
        given = msgspec.msgpack.decode(msgspec.msgpack.encode(params))
        made = await self._methods()[method](Peer(os.getpid(), os.getuid(), os.getgid()), given)
        return msgspec.msgpack.decode(msgspec.msgpack.encode(made))


@dataclass
class House:
    """See the module's text."""

    world: World
    folder: Path
    kernel: Kernel = field(default_factory=Kernel)
    facts: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    """Pid -> what the supervisor says of it; a pid that is not named is what it is."""
    looks: list[list[int]] = field(default_factory=list)
    workloads: Any = None
    state: Any = None
    push: Any = None
    agent: Any = None
    to_control: Any = None
    to_agent: Any = None

    @property
    def address(self) -> str:
        return f"unix://{self.folder / 'workload.sock'}"

    async def look(self, pids: Sequence[int]) -> list[Any]:
        self.looks.append(list(pids))
        await asyncio.sleep(0)
        return [self.facts[pid] if pid in self.facts else self._real(pid) for pid in pids]

    def _real(self, pid: int) -> dict[str, Any] | None:
        try:
            return {"unix-process": {"uid": Path(f"/proc/{pid}").stat().st_uid, "gid": 0}}
        except OSError:
            return None

    async def register(self, name: str = NAME, uid: int = -1, **changes: Any) -> None:
        """A registration that this test's own processes earn."""
        uid = os.getuid() if uid < 0 else uid
        selectors = changes.pop("selectors", (Selector(type="unix:uid", value=str(uid)),))
        await self.world.put(RegistrationPut(registration=registration(name, selectors=selectors, **changes)))

    def client(self) -> Any:
        """A stock client."""
        from spiffe import WorkloadApiClient

        return WorkloadApiClient(self.address, default_timeout=10)

    async def thread(self, work: Callable[[], Any]) -> Any:
        """Run a blocking client beside the agent."""
        return await asyncio.to_thread(work)

    async def until(self, done: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for something to happen."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "it did not happen"
            await asyncio.sleep(0.005)

    def refusals(self) -> list[str]:
        """Reasons of the recorded refusals."""
        found = []
        for entry in self.world.entries():
            if entry.startswith(b"{"):
                detail = ocsf.detail_of(entry)
                if isinstance(detail, dict) and detail.get("ok") is False:
                    found.append(detail["reason"])
        return found

    def issued(self) -> list[str]:
        """Credential ids that the log says were handed out to workloads."""
        found = []
        for entry in self.world.entries():
            if entry.startswith(b"{"):
                detail = ocsf.detail_of(entry)
                if isinstance(detail, dict) and detail.get("ok") is True and detail.get("reason") == "issued":
                    found.append(detail["credential_id"])
        return found


@contextlib.asynccontextmanager
async def agent_world(*, bounds: Bounds | None = None, world: World | None = None) -> AsyncIterator[House]:
    """Everything, running."""
    world = world or make_world()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vgw") as folder:
        house = House(world, Path(folder))
        world.clock.at = int(time.time() * 1000)
        house.workloads = Workloads(world.context, house.look)
        house.state = State(world.context)
        control = SimpleNamespace(
            users=SimpleNamespace(of=lambda name: os.getuid(), own=os.getuid()),
            workloads=house.workloads, workload_state=house.state, context=world.context,
        )  # fmt: skip
        house.to_control = Wire(lambda: handlers(control))
        house.agent = Agent(house.to_control, house.kernel, bounds=bounds)
        house.to_agent = Wire(house.agent.handlers)
        house.push = control.workload_push = Push(world.context, house.workloads, house.to_agent, house.state)
        told = world.context.sequencer._tell

        def tell(batch: Sequence[Sequenced]) -> None:
            told(batch)
            house.push.tell(batch)

        world.context.sequencer._tell = tell
        async with running(world, publishing=False):
            tasks = [asyncio.create_task(house.push.run()), asyncio.create_task(house.agent.run())]
            await house.agent.server.listen(house.folder / "workload.sock")
            try:
                yield house
                assert not any(task.done() for task in tasks)
            finally:
                house.agent.server.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
