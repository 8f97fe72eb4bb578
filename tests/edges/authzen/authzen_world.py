"""The AuthZEN edge served on a unix socket over facts in memory; the log is a list, the clock and the lease are the test's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from flows_world import FINGERPRINT, NOW, TD, HandClock, registration
from test_facts import WORLD, Held

from vouchgate.edges.authzen.desk import Desk
from vouchgate.edges.authzen.recording import Recorder
from vouchgate.edges.authzen.server import Listeners
from vouchgate.flows.applications import Application, ApplicationFiles, compile_application
from vouchgate.flows.changes import Change, RegistrationPut
from vouchgate.flows.evaluate_for import Evaluations
from vouchgate.flows.replica import Replica
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import Unavailable
from vouchgate.vocabulary.names import principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import decode

POINT = principal(TD, "service", "serve", "api-gateway")
EXAMPLE = Path(__file__).parents[3] / "examples" / "authzen"
BASE = "https://pdp.test.local"
POINTS = ("role:enforcement-point",)
_SHARED: dict[str, Held] = {}


def example() -> Application:
    """The to-do list of the example."""
    return compile_application(
        ApplicationFiles(
            name="todo",
            schema=(EXAMPLE / "todo.cedarschema").read_text(),
            policies=(("todo.cedar", (EXAMPLE / "todo.cedar").read_text()),),
            entities=(EXAMPLE / "entities.json").read_text(),
        )
    )


class Stand:
    """One desk with its socket."""

    def __init__(
        self, *changes: Change, applications: Mapping[str, Application] | None = None, groups: tuple[str, ...] = POINTS, fresh: bool = False
    ) -> None:
        """`fresh`: facts of its own, for a test that changes them; else all share one."""
        point = RegistrationPut(registration=registration(POINT, groups=groups, uid=os.getuid()))
        own = fresh or changes or groups != POINTS
        self.held = Held(*WORLD, point, *changes) if own or not _SHARED else _SHARED["held"]
        if not own:
            _SHARED["held"] = self.held
        self.clock = HandClock()
        self.replica = Replica(TD, FINGERPRINT, self.clock.now)
        self.replica.facts = self.held.facts
        self.replica.lease_until = UnixMillis(NOW + 3_600_000)
        self.evaluations = Evaluations(self.replica, applications)
        self.log: list[tuple[Decision, str]] = []
        self.broken = ""
        self.gate: asyncio.Event | None = None
        self.per_second = 1_000_000
        self.base = BASE

    async def record(self, decisions: list[bytes], asked_by: list[str]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise Unavailable(self.broken, remedy="start it")
        self.log += [(decode(Decision, one), who) for one, who in zip(decisions, asked_by, strict=True)]

    @property
    def decisions(self) -> list[Decision]:
        """What was decided for the point, without whether it may ask."""
        return [one for one, _ in self.log if not one.action.startswith("administer:")]

    def run(self, story: Callable[[Client], Awaitable[None]], *, seconds: float = 30.0) -> None:
        """Serve while the story is told."""

        async def main() -> None:
            folder = Path(tempfile.mkdtemp(prefix="vg"))
            self.desk = Desk(
                self.evaluations, Recorder(self.record), soon=asyncio.get_running_loop().call_soon, monotonic=time.monotonic, base=self.base,
                per_second=self.per_second,
            )  # fmt: skip
            anonymous = Denied(code="anonymous", reason="the caller presented no X.509-SVID", remedy="call with mTLS")
            self.listeners = Listeners(self.desk, by_uid=self.evaluations.by_uid, by_chain=lambda tls: lambda: anonymous)
            await self.listeners.listen_unix(folder / "s")
            client = Client(folder / "s")
            try:
                await asyncio.wait_for(story(client), seconds)
            finally:
                client.close()
                await self.listeners.close()
                shutil.rmtree(folder)

        asyncio.run(main())


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        assert self.status == 200, (self.status, self.body)
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class Client:
    """A point on the socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[1].is_closing():
            self._streams = await asyncio.open_unix_connection(str(self.path))
        return self._streams

    async def post(self, path: str, body: Any, headers: str = "content-type: application/json\r\n") -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.raw(f"POST {path} HTTP/1.1\r\nhost: pdp\r\n{headers}content-length: {len(data)}\r\n\r\n".encode() + data)

    async def get(self, path: str) -> Answer:
        return await self.raw(f"GET {path} HTTP/1.1\r\nhost: pdp\r\n\r\n".encode())

    async def evaluate(self, body: Any, application: str = "") -> bool:
        found = (
            await self.post(f"/applications/{application}/access/v1/evaluation" if application else "/access/v1/evaluation", body)
        ).json
        assert type(found["decision"]) is bool
        return bool(found["decision"])

    async def raw(self, data: bytes) -> Answer:
        _, writer = await self.streams()
        writer.write(data)
        return await self.hear()

    async def hear(self) -> Answer:
        reader, writer = await self.streams()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        found = Answer(int(head[0].split(" ")[1]), headers, await reader.readexactly(int(headers["content-length"])))
        if headers.get("connection") == "close":
            writer.close()
        return found

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
