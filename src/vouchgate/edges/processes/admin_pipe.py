"""The supervisor's side of reading the gateway back: it alone may open the admin pipe beside the gateway itself. It hands on compressed bytes, and
reads nothing of what a gateway says; the control plane compares (drift_reader.py)."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from vouchgate.edges.envoy.admin import DUMP, INFO, fetch
from vouchgate.edges.processes.rpc_server import Handler, Peer


def read_back_handler(admin_socket: str) -> Handler:
    """Method `read_back` of the supervisor."""

    async def read_back(_: Peer, __: dict[str, Any]) -> Any:
        dump, info = await fetch(admin_socket, DUMP), await fetch(admin_socket, INFO)
        return {"dump": await asyncio.to_thread(zlib.compress, dump, 1), "info": zlib.compress(info, 1)}

    return read_back
