"""Reads the gateway back for the control plane: the supervisor asks (admin_pipe.py), the control plane compares, off its event loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vouchgate.edges.envoy.admin import MAX_DUMP_BYTES, parsed
from vouchgate.edges.envoy.ads import AdsServer, Key, Resource
from vouchgate.edges.envoy.readback import NOT_READ, Compared, drifts, unsound
from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.flows.context import Remote
from vouchgate.vocabulary.answers_zones import Drift
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Endpoint

POINT = "gateway"


class GatewayReader:
    """The control plane's side; called as a `Read` of flows/drift.py."""

    def __init__(self, supervisor: Remote, ads: AdsServer, settings: GatewaySettings, endpoints: Callable[[], Iterable[Endpoint]]) -> None:
        self._supervisor, self._ads, self._settings, self._endpoints = supervisor, ads, settings, endpoints
        self._compared = Compared()
        self._last: tuple[bytes, list[Endpoint], tuple[list[Drift], list[Drift], int]] | None = None
        """What was read last, what it was held to, and what came of it: nothing of it is taken apart again while neither side changed."""

    async def __call__(self) -> tuple[Sequence[Drift], int]:
        said = await self._supervisor.call("read_back")
        held, endpoints, withheld = self._ads.held(), list(self._endpoints()), self._ads.withholding
        unleased = [
            Drift(
                point=POINT,
                kind="unleased",
                what=f"filter {name}",
                detail="it was sent without an end, and would outlive the control plane",
            )
            for _, name in sorted(self._ads.unleased)
        ]

        def compare() -> tuple[list[Drift], int]:
            read, info = _inflated(said["dump"]), parsed(_inflated(said["info"]), "server information")
            seen = _digest(read, info, held)
            if self._last is not None and self._last[:2] == (seen, endpoints):
                found, wrong, count = self._last[2]
            else:
                try:
                    found, count = drifts(POINT, parsed(read, "configuration dump"), info, held, self._settings, self._compared)
                except NOT_READ:
                    raise InvalidInput("what the gateway says of itself is no dump of an Envoy", remedy="restart it") from None
                wrong = unsound(POINT, held, endpoints, self._settings)
                self._last = seen, endpoints, (found, wrong, count)
            # after a start it may keep what it had, until that was decided again
            return [one for one in found if not (withheld and one.kind in ("stale", "extra", "missing"))] + unleased + wrong, count

        return await asyncio.to_thread(compare)


def _digest(dump: bytes, info: dict[str, Any], held: Mapping[Key, Resource]) -> bytes:
    """Both sides in one; how long the gateway has been up is left out."""
    made = hashlib.sha256(dump)
    made.update(json.dumps({name: value for name, value in info.items() if not name.startswith("uptime")}, sort_keys=True).encode())
    for key in sorted(held):
        made.update(f"\0{key}\0{held[key].version}\0{held[key].ttl}".encode())
        made.update(hashlib.sha256(held[key].value.value).digest())
    return made.digest()


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, MAX_DUMP_BYTES)
    except zlib.error:
        raise InvalidInput("what the supervisor sent cannot be unpacked", remedy="restart vouchgate") from None
    if not unpacker.eof:
        raise InvalidInput(f"the configuration has over {MAX_DUMP_BYTES} bytes", remedy="put fewer endpoints behind one gateway")
    return found
