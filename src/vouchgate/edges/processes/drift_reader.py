"""Reads the gateway back for the control plane: the supervisor asks (admin_pipe.py), the control plane compares, off its event loop."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Sequence

from vouchgate.edges.envoy.admin import MAX_DUMP_BYTES, parsed
from vouchgate.edges.envoy.ads import AdsServer
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
            dump, info = parsed(_inflated(said["dump"]), "configuration dump"), parsed(_inflated(said["info"]), "server information")
            try:
                found, count = drifts(POINT, dump, info, held, self._settings, self._compared)
            except NOT_READ:
                raise InvalidInput("what the gateway says of itself is no dump of an Envoy", remedy="restart it") from None
            # after a start it may keep what it had, until that was decided again
            found = [one for one in found if not (withheld and one.kind in ("stale", "extra", "missing"))]
            return found + unleased + unsound(POINT, held, endpoints, self._settings), count

        return await asyncio.to_thread(compare)


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, MAX_DUMP_BYTES)
    except zlib.error:
        raise InvalidInput("what the supervisor sent cannot be unpacked", remedy="restart vouchgate") from None
    if not unpacker.eof:
        raise InvalidInput(f"the configuration has over {MAX_DUMP_BYTES} bytes", remedy="put fewer endpoints behind one gateway")
    return found
