"""The control plane's side of the in-process point, for its row alone: renews one map's lease and writes every call it is sent to a file.

Usage: python -m benchmarks.load.map_server SOCKET MAP LOG
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.load.credentials import now_ms
from vouchgate.edges.processes.rpc_server import serve
from vouchgate.vocabulary.leased import LeasedMap
from vouchgate.vocabulary.wire import decode, encode, to_plain

LEASE_MS = 10_000
"""The product's default."""


async def main(socket: str, leased: str, log: str) -> None:
    """Serve until told to end."""
    held = decode(LeasedMap, Path(leased).read_bytes())

    async def pull(_: Any, params: dict[str, Any]) -> Any:
        if params["epoch"] == held.epoch:
            await asyncio.sleep(params["wait_ms"] / 1000)
        return to_plain(msgspec.structs.replace(held, now=now_ms(), lease_ms=LEASE_MS))

    async def record(_: Any, params: dict[str, Any]) -> Any:
        with Path(log).open("ab") as file:
            file.write(b"".join(encode(call) + b"\n" for call in params["calls"]))
        return {}

    server = await serve(Path(socket), {"in_process.pull": pull, "in_process.record": record}, allowed_uids={os.getuid()})
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
