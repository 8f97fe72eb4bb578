"""Runs the real server (uvicorn's protocol, both listeners) around the in-memory surface, in a thread with its own event loop."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from surface_memory import MemorySurface

from vouchgate.edges.api.app import build_app
from vouchgate.edges.api.server import ApiServer


class Served:
    """`with Served() as api:` gives `api.socket`, `api.port` and `api.surface`. `hurry` makes the clock of the rates run faster."""

    def __init__(
        self, surface: MemorySurface | None = None, *, port: int = 0, live_clock: bool = False, hurry: float = 100_000.0, **options: Any
    ) -> None:
        self.surface = surface or MemorySurface()
        self.folder = Path(tempfile.mkdtemp(prefix="vg"))
        self.socket = self.folder / "api.sock"
        self.spool = self.folder / "spool"
        self.spool.mkdir(mode=0o700)
        self.port = port
        self._options = {"requests_per_second": 10_000.0, **options}
        self._live_clock = live_clock
        self._hurry = hurry
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _now(self) -> int:
        if self._live_clock:
            self.surface.now = int(time.time() * 1000)
        return self.surface.now

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.server = ApiServer()
        app = build_app(
            self.surface,
            spool=self.spool,
            now=self._now,
            monotonic=lambda: time.monotonic() * self._hurry,
            console_hosts=self.server.console_hosts,
            **self._options,
        )

        async def start() -> None:
            await self.server.listen_unix(app, self.socket)
            await self.server.listen_console(app, "127.0.0.1", self.port)
            self.port = self.server.port
            self._ready.set()

        self.loop.create_task(start())
        self.loop.run_forever()

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def add(self, **changes: Any) -> None:
        async def add() -> None:
            self.surface.add(**changes)

        self.call(add())

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(10), "the server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
        shutil.rmtree(self.folder)
