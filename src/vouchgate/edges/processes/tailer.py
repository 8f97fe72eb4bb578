"""The tailer: reads the gateway's access log and hands it to the control plane, each line exactly once.

`python -m vouchgate.edges.processes.tailer --data-dir DIR`. It keeps nothing: where it goes on is the offset that the control plane stored
with the entries it made.

1. Ask for the offset. 2. Read whole lines from there; a file with another inode follows once the old one is read to its end. A file that is
shorter than what was read of it was cut: that is an entry, and it is read from its start. 3. Shape them, send them with the offsets they
cover, and say how far behind the traffic that is. 4. A refusal because the offset moved means asking again; a control plane that is away means waiting.
A line that cannot be read becomes an entry that says so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO

from vouchgate import wiring
from vouchgate.audit import ocsf
from vouchgate.edges.envoy.access_log import MAX_LINE_BYTES, parse_line
from vouchgate.edges.processes import logs
from vouchgate.flows.shape import SOURCE, Shaped, shape
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.answers_decisions import DecisionLine
from vouchgate.vocabulary.errors import Conflict, InvalidInput, VouchgateError
from vouchgate.vocabulary.layout import Layout

BATCH_BYTES = 256 * 1024
"""Bytes of the log shaped at once: about 250 lines."""
GATHER_SECONDS = 0.15
"""Pause at the end of the file: lines that come meanwhile share a message, a commit and an fsync. One by one they cost more processor time
than the request they tell of; an entry is in the log this much later, and none is lost (the file is Envoy's)."""
ALIVE_SECONDS = 0.5
"""Seconds between words to the control plane."""


class Tailer:
    """One file after the other."""

    def __init__(self, data_dir: Path) -> None:
        self.log = logs.set_up("tailer")
        self.layout = Layout(data_dir)
        self.trust_domain = wiring.load_installation(data_dir).settings.trust_domain
        self.control = wiring.async_rpc(self.layout.control_socket, "control plane", timeout=10.0)
        self.now = wiring.clock().now
        self._file: BinaryIO | None = None
        self._inode = 0
        self._told = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        while not stop.is_set():
            try:
                position = await self.control.call("offset")
                self._let_go()
                await self._follow(position["inode"], position["offset"], stop)
            except Conflict as error:
                self.log.info("reading again from the stored offset: %s", error.reason)
            except VouchgateError as error:
                self.log.warning("waiting for the control plane: %s", error.reason)
                await asyncio.sleep(0.2)

    async def _follow(self, inode: int, offset: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if not self._open(inode):
                await self._alive(0)
                await asyncio.sleep(GATHER_SECONDS)
                continue
            start = offset if self._inode == inode else 0
            if start > self._size():
                await self._send(inode, offset, 0, b"", [self._unreadable(start)])
                inode, offset = self._inode, 0
                continue
            # asked before reading: what the gateway wrote until it began another file is there now
            rotated = self._rotated()
            data = await asyncio.to_thread(self._read, start)
            if rotated and not data and start < self._size():
                data = await asyncio.to_thread(self._rest, start)
            if data:
                await self._send(inode, offset, start, data, self._shaped(start, data))
                inode, offset = self._inode, start + len(data)
                if len(data) < BATCH_BYTES // 2:
                    await asyncio.sleep(GATHER_SECONDS)
                continue
            if rotated:
                self._let_go()
                inode = 0
            await self._alive(0)
            await asyncio.sleep(GATHER_SECONDS)

    def _open(self, inode: int) -> bool:
        """Hold the file that continues at `inode`: the one with that inode while it is there, else the current one."""
        if self._file is not None:
            return True
        folder = self.layout.gateway_logs
        names = sorted((path for path in folder.glob("access.log*") if path.is_file()), key=lambda path: path.name != "access.log")
        for path in names:
            if inode and path.stat().st_ino == inode:
                self._file = path.open("rb")
                self._inode = inode
                return True
        if not self.layout.access_log.exists():
            return False
        self._file = self.layout.access_log.open("rb")
        self._inode = os.fstat(self._file.fileno()).st_ino
        return True

    def _read(self, start: int) -> bytes:
        """Whole lines from `start`; a line over the bound is given up to the bound, so that it cannot stop the log."""
        assert self._file is not None
        self._file.seek(start)
        data = self._file.read(BATCH_BYTES)
        end = data.rfind(b"\n") + 1
        return data[:end] if end else data if len(data) > MAX_LINE_BYTES else b""

    def _rest(self, start: int) -> bytes:
        """A last line without an end, of a file that nobody writes to any more."""
        assert self._file is not None
        self._file.seek(start)
        return self._file.read(BATCH_BYTES)

    def _size(self) -> int:
        assert self._file is not None
        return os.fstat(self._file.fileno()).st_size

    def _rotated(self) -> bool:
        try:
            return self.layout.access_log.stat().st_ino != self._inode
        except FileNotFoundError:
            return False

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    async def _send(self, before: int, offset: int, start: int, data: bytes, shaped: list[Shaped]) -> None:
        lines = [wire.encode(one) for one in shaped]
        await self.control.call("take_lines", lines=lines, before=before, offset=offset, inode=self._inode, end=start + len(data))
        more = start + len(data) < self._size()
        await self._alive(self._behind(shaped) if more else 0)

    def _behind(self, shaped: list[Shaped]) -> int:
        """Milliseconds since the newest of these lines was written."""
        written = max((one.line.at + int(one.line.duration_ms) for one in shaped), default=self.now())
        return max(0, self.now() - written)

    def _shaped(self, start: int, data: bytes) -> list[Shaped]:
        found, at, seen = [], start, self.now()
        for line in data.split(b"\n"):
            if line:
                try:
                    event = parse_line(line, source=SOURCE, inode=self._inode, offset=at, observed_at=seen)
                    found.append(shape(event, self.trust_domain))
                except InvalidInput:
                    found.append(self._unreadable(at))
            at += len(line) + 1
        return found

    def _unreadable(self, at: int) -> Shaped:
        """A line that is cut off (the gateway was killed while it wrote) or foreign."""
        now = self.now()
        entry = ocsf.gap(self.trust_domain, source=f"gateway log at byte {at}", missing=1, since=now, until=now, now=now)
        blank = DecisionLine(
            seq=0, at=now, effect="deny", would_be="deny", mode="enforce", principal="", authenticated=False, action="", resource=""
        )
        return Shaped(entry=entry, line=blank, final=False)

    async def _alive(self, behind_ms: int) -> None:
        if time.monotonic() - self._told > ALIVE_SECONDS:
            await self.control.call("tail_alive", behind_ms=behind_ms)
            self._told = time.monotonic()


async def run(data_dir: Path) -> None:
    """Tail until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tailer = Tailer(data_dir)
    working: asyncio.Task[Any] = asyncio.create_task(tailer.run(stop))
    await asyncio.wait([working, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    working.cancel()
    if working.done() and not working.cancelled() and working.exception():
        raise working.exception()  # type: ignore[misc]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="vouchgate-tailer")
    parser.add_argument("--data-dir", type=Path, required=True)
    asyncio.run(run(parser.parse_args().data_dir))


if __name__ == "__main__":
    main()
