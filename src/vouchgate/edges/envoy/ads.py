"""The aggregated delta discovery server (xDS transport protocol, "Incremental xDS") that our gateways alone may call.

Rules
1. The peer's uid is read from the kernel when the connection is made; another uid's connection is cut before its first byte is read.
2. What is to be sent is state, not a queue: per node a set of dirty resources, coalescing. The gate resource (revocations) goes first and
   alone, so that no rejection beside it and no large map before it can hold it up; a response is bounded to `MAX_RESPONSE_BYTES`.
   Where the gate names what it relies on (`Resource.after`: the older revocations), a node is told that first, and the gate only when it
   acknowledged it: between the two it never enforces less than before.
3. A resource with a TTL (a lease) is sent, and renewed, only to a node that acknowledged the newest version of the gate. A node that does
   not, loses its leases.
4. A renewal without a body counts only while the body before it is alive: after a rejection, an unanswered message, or a stall, and every
   `FULL_EVERY`-th time, the whole resource is sent.
5. What is withheld is not told to a node that came with a version of it: it keeps that, and its lease runs on unrenewed, until `release`.
   A removal waits likewise. A node that came without is told at once. The gate is never withheld.
6. A rejected response of several resources is sent again one by one, once, so that a good one does not fall with a bad one.

    server = AdsServer(allowed_uids={58004})
    await server.start("/run/ads.sock")
    server.set_resources(EXTENSION_TYPE, {"map/0": Resource(packed(filter), version="7", ttl=10.0)})
    await server.wait_acked(EXTENSION_TYPE, ["map/0"], timeout=1.0)      # {"gateway-1": True}

What the resources mean is publisher.py's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from grpclib.const import Cardinality, Handler
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from vouchgate.edges.envoy.messages import CLUSTER_TYPE, EXTENSION_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE, Message, seconds
from vouchgate.edges.processes.rpc_server import Peer, peer_of

GATE = (EXTENSION_TYPE, "revocations")
MAX_RESPONSE_BYTES = 1024 * 1024
"""Of one response, but for a single larger resource; what a revocation may have to wait behind."""
FULL_EVERY = 6
"""Every so many renewals the body is sent again, so that a state we misjudge heals by itself."""
MAX_NODES = 64
MAX_NAMES = 4096
"""Names that one node may subscribe to."""
_ORDER = {SECRET_TYPE: 0, CLUSTER_TYPE: 1, EXTENSION_TYPE: 2, ROUTE_TYPE: 3, LISTENER_TYPE: 4}
"""What a route needs is sent before the route."""
_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

log = logging.getLogger("vouchgate.ads")
Key = tuple[str, str]
"""Type URL and name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One named resource as it is pushed."""

    value: Message
    """The packed resource (`google.protobuf.Any`)."""
    version: str
    ttl: float | None = None
    """Seconds from receipt; None for no lease."""
    after: tuple[Key, frozenset[str]] | None = None
    """Of the gate: another resource, and the versions of it with which the gate is complete."""


@dataclasses.dataclass(slots=True)
class _Sent:
    """What a node was last told about one resource."""

    version: str
    lapses_at: float
    """Monotonic seconds by which its TTL has run out, had it arrived at once."""
    acked: bool = False
    bodiless: int = 0


@dataclasses.dataclass(slots=True)
class Node:
    """One connected gateway."""

    id: str
    peer: Peer
    connected_at: float
    last_ack: float = 0.0
    """Monotonic seconds of the last acknowledgement; 0 before the first."""
    wildcards: set[str] = dataclasses.field(default_factory=set)
    names: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    brought: set[Key] = dataclasses.field(default_factory=set)
    """What it had when it connected, from whoever told it before."""
    dirty: dict[Key, bool] = dataclasses.field(default_factory=dict)
    """To be sent; True if the body is needed."""
    acked: dict[Key, str] = dataclasses.field(default_factory=dict)
    rejected: dict[Key, str] = dataclasses.field(default_factory=dict)
    """Key -> Envoy's words, until a later version is acknowledged."""
    sent: dict[Key, _Sent] = dataclasses.field(default_factory=dict)
    nonces: dict[str, list[tuple[Key, str]]] = dataclasses.field(default_factory=dict)
    alone: set[Key] = dataclasses.field(default_factory=set)
    wake: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def wants(self, key: Key) -> bool:
        """Whether it subscribed to this resource."""
        return key[0] in self.wildcards or key[1] in self.names.get(key[0], ())


OnRejected = Callable[[str, list[Key], str], None]


class AdsServer:
    """See the module's text. Belongs to one event loop; no method but `start`, `stop` and `wait_acked` waits."""

    def __init__(
        self, *, allowed_uids: Collection[int], on_rejected: OnRejected | None = None, on_change: Callable[[], None] | None = None
    ) -> None:
        self._uids = frozenset(allowed_uids)
        self._on_rejected, self._on_change = on_rejected, on_change
        self._held: dict[Key, Resource] = {}
        self._nodes: dict[str, Node] = {}
        self._nonce = 0
        self._progress = asyncio.Event()
        self._server: _CheckedServer | None = None
        self._withheld: Callable[[Key], bool] | None = None
        self.unleased: set[Key] = set()
        """Sent last without the end that it was to have."""
        self.refused_peers = 0

    async def start(self, path: str) -> None:
        """Listen on a unix socket (the kernel's word on the peer is the check, not the file's mode)."""
        Path(path).unlink(missing_ok=True)
        self._server = _CheckedServer([self], self._admits)
        await self._server.start(path=path)
        Path(path).chmod(0o666)

    async def stop(self) -> None:
        """Close the socket and all streams; every lease runs out by itself."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def nodes(self) -> list[Node]:
        """The connected gateways."""
        return list(self._nodes.values())

    def held(self) -> dict[Key, Resource]:
        """Everything that is to be enforced, as it is now."""
        return dict(self._held)

    @property
    def withholding(self) -> bool:
        """Whether rule 5 applies."""
        return self._withheld is not None

    def version(self, type_url: str, name: str) -> str:
        """The version that is to be enforced; empty if there is none."""
        held = self._held.get((type_url, name))
        return held.version if held else ""

    def set_resources(self, type_url: str, resources: Mapping[str, Resource]) -> None:
        """Hold these resources, beside others of the type; push those whose version is new, renew others that have a TTL."""
        changed, renewed = [], []
        for name, resource in resources.items():
            held = self._held.get((type_url, name))
            if held is None or held.version != resource.version:
                changed.append((type_url, name))
            elif resource.ttl is not None:
                renewed.append((type_url, name))
            self._held[type_url, name] = resource
        self._mark(changed, body=True)
        self._mark(renewed, body=False)

    def heartbeat(self, type_url: str, ttls: Mapping[str, float]) -> None:
        """Renew these for so many seconds; a body goes along only where rule 4 says so."""
        known = {(type_url, name): ttl for name, ttl in ttls.items() if (type_url, name) in self._held}
        for key, ttl in known.items():
            self._held[key] = dataclasses.replace(self._held[key], ttl=ttl)
        self._mark(known, body=False)

    def remove(self, type_url: str, names: Iterable[str]) -> None:
        """Hold these no longer, and tell the nodes (a fetched filter falls back to its denying default within a millisecond)."""
        keys = [(type_url, name) for name in names]
        for key in keys:
            self._held.pop(key, None)
        self._mark(keys, body=True)

    def withhold(self, kept: Callable[[Key], bool]) -> None:
        """Rule 5, for the keys of which this is true, until `release`."""
        self._withheld = kept

    def release(self) -> None:
        """Tell everything that was withheld, as it is now."""
        self._withheld = None
        self._mark((), body=False)

    def acked_version(self, node_id: str, type_url: str, name: str) -> str:
        """The version that a node last acknowledged; empty for none, or for a node that is not connected."""
        node = self._nodes.get(node_id)
        return node.acked.get((type_url, name), "") if node else ""

    def gate_acked(self, node: Node) -> bool:
        """Whether the node enforces the newest revocations."""
        gate = self._held.get(GATE)
        return gate is not None and node.acked.get(GATE) == gate.version and _complete(node, gate)

    async def wait_acked(self, type_url: str, names: Collection[str], *, timeout: float) -> dict[str, bool]:
        """Wait until every connected node acknowledged the current versions of what it subscribed to: node id -> whether it did in time."""
        keys = [(type_url, name) for name in names]

        def done(node: Node) -> bool:
            return all(node.acked.get(key) == held.version for key in keys if (held := self._held.get(key)) and node.wants(key))

        return await self._wait(done, timeout)

    async def wait_gate(self, *, timeout: float) -> dict[str, bool]:
        """Wait until every connected node enforces the newest revocations: node id -> whether it did in time."""
        return await self._wait(self.gate_acked, timeout)

    async def _wait(self, done: Callable[[Node], bool], timeout: float) -> dict[str, bool]:
        until = time.monotonic() + timeout
        while True:
            answer = {node.id: done(node) for node in self._nodes.values()}
            left = until - time.monotonic()
            if all(answer.values()) or left <= 0:
                return answer
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), left)

    def _admits(self, peer: Peer) -> bool:
        if peer.uid in self._uids and len(self._nodes) < MAX_NODES:
            return True
        self.refused_peers += 1
        log.warning("refused uid %d pid %d on the ads socket", peer.uid, peer.pid)
        return False

    def _mark(self, keys: Iterable[Key], *, body: bool) -> None:
        keys = list(keys)
        for node in self._nodes.values():
            for key in keys:
                if node.wants(key):
                    node.dirty[key] = body or node.dirty.get(key, False)
            node.wake.set()

    def _moved(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
        if self._on_change:
            self._on_change()

    def __mapping__(self) -> dict[str, Handler]:
        return {
            _METHOD: Handler(
                self._converse, Cardinality.STREAM_STREAM, discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse
            )
        }

    async def _converse(self, stream: Stream[Any, Any]) -> None:
        first = await stream.recv_message()
        if first is None or not first.node.id:
            return
        node = Node(id=first.node.id, peer=peer_of(stream.peer._transport.get_extra_info("socket")), connected_at=time.monotonic())
        self._nodes[node.id] = node
        log.info("gateway %s connected", node.id)
        sending = asyncio.create_task(self._send_all(stream, node))
        try:
            request = first
            while request is not None:
                self._take(node, request)
                request = await stream.recv_message()
        except (StreamTerminatedError, ConnectionError):
            pass
        finally:
            sending.cancel()
            if self._nodes.get(node.id) is node:
                del self._nodes[node.id]
            log.info("gateway %s disconnected", node.id)
            self._moved()

    def _take(self, node: Node, request: Message) -> None:
        if request.response_nonce:
            self._answered(node, request)
        type_url = request.type_url
        first = type_url not in node.wildcards and type_url not in node.names
        asked = set(request.resource_names_subscribe)
        if (first and not asked) or "*" in asked:
            node.wildcards.add(type_url)
            asked |= {name for kind, name in self._held if kind == type_url}
        names = node.names.setdefault(type_url, set())
        names -= set(request.resource_names_unsubscribe)
        names |= asked - {"*"}
        if len(names) > MAX_NAMES or len(request.initial_resource_versions) > MAX_NAMES:
            raise ConnectionError("too many names")
        node.brought |= {(type_url, name) for name in request.initial_resource_versions}
        gone = {name for name in request.initial_resource_versions if (type_url, name) not in self._held}
        for name in sorted((asked | gone) - {"*"}):
            node.sent.pop((type_url, name), None)
            node.dirty[type_url, name] = True
        node.wake.set()

    def _answered(self, node: Node, request: Message) -> None:
        carried = node.nonces.pop(request.response_nonce, None)
        if carried is None:
            return
        if request.HasField("error_detail"):
            self._rejected(node, carried, request.error_detail.message)
            return
        node.last_ack = time.monotonic()
        for key, version in carried:
            node.acked[key] = version
            node.rejected.pop(key, None)
            node.alone.discard(key)
            sent = node.sent.get(key)
            if sent is not None and sent.version == version:
                sent.acked = True
        node.wake.set()
        self._moved()

    def _rejected(self, node: Node, carried: list[tuple[Key, str]], words: str) -> None:
        log.error("gateway %s rejected %s: %s", node.id, ", ".join(key[1] for key, _ in carried), words[:500])
        for key, _ in carried:
            node.rejected[key] = words
            node.sent.pop(key, None)
            if len(carried) > 1:
                node.alone.add(key)
                node.dirty[key] = True
        if self._on_rejected:
            self._on_rejected(node.id, [key for key, _ in carried], words)
        node.wake.set()
        self._moved()

    async def _send_all(self, stream: Stream[Any, Any], node: Node) -> None:
        try:
            while True:
                await node.wake.wait()
                node.wake.clear()
                while batch := self._batch(node):
                    await stream.send_message(self._response(node, batch))
        except Exception as error:
            # a stream that can no longer be told anything must not look alive: the gateway connects again within a second
            log.error("the stream to gateway %s failed: %s", node.id, type(error).__name__)
            stream.peer._transport.close()

    def _batch(self, node: Node) -> list[Key]:
        """The next response's resources, all of one type; empty if nothing may be sent now."""
        gate = self._held.get(GATE)
        if gate is not None and GATE in node.dirty:
            if _complete(node, gate):
                return [GATE]
            if gate.after and gate.after[0] in node.dirty:
                return [gate.after[0]]
        free, withheld = self.gate_acked(node), self._withheld
        said = [key for key in node.dirty if withheld is None or key == GATE or key not in node.brought or not withheld(key)]
        ready = [key for key in said if free or (held := self._held.get(key)) is None or held.ttl is None]
        if not ready:
            return []
        kind = min({key[0] for key in ready}, key=lambda url: _ORDER.get(url, 9))
        batch: list[Key] = []
        size = 0
        for key in ready:
            if key[0] != kind or (key in node.alone and batch):
                continue
            held = self._held.get(key)
            size += len(held.value.value) if held and node.dirty[key] else 0
            if batch and size > MAX_RESPONSE_BYTES:
                break
            batch.append(key)
            if key in node.alone:
                break
        return batch

    def _response(self, node: Node, batch: list[Key]) -> Message:
        self._nonce += 1
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=batch[0][0], nonce=str(self._nonce))
        carried = []
        for key in batch:
            body = node.dirty.pop(key)
            held = self._held.get(key)
            if held is None:
                response.removed_resources.append(key[1])
                node.acked.pop(key, None)
                node.sent.pop(key, None)
                continue
            carried.append((key, held.version))
            self._add(node, response, key, held, body=body)
        self._noted(response)
        node.nonces[response.nonce] = carried
        while len(node.nonces) > MAX_NAMES:
            node.nonces.pop(next(iter(node.nonces)))
        return response

    def _noted(self, response: Message) -> None:
        """By the message as it goes out: what was to end by itself and was sent without an end. No gateway tells that of what it holds."""
        for one in response.resources:
            key = response.type_url, one.name
            held = self._held.get(key)
            if held is not None and held.ttl is not None and not one.HasField("ttl"):
                self.unleased.add(key)
            else:
                self.unleased.discard(key)
        self.unleased.difference_update((response.type_url, name) for name in response.removed_resources)

    def _add(self, node: Node, response: Message, key: Key, held: Resource, *, body: bool) -> None:
        made = response.resources.add(name=key[1], version=held.version)
        if held.ttl is not None:
            made.ttl.CopyFrom(seconds(held.ttl))
        now = time.monotonic()
        lapses_at = now + (held.ttl or 0.0)
        sent = node.sent.get(key)
        alive = (
            sent is not None
            and held.ttl is not None
            and sent.acked
            and sent.version == held.version
            and now < sent.lapses_at
            and sent.bodiless < FULL_EVERY
        )
        if body or sent is None or not alive:
            made.resource.CopyFrom(held.value)
            node.sent[key] = _Sent(held.version, lapses_at)
        else:
            node.sent[key] = _Sent(held.version, lapses_at, bodiless=sent.bodiless + 1)


def _complete(node: Node, gate: Resource) -> bool:
    return gate.after is None or node.acked.get(gate.after[0]) in gate.after[1]


class _CheckedProtocol(H2Protocol):  # type: ignore[misc]
    """grpclib's protocol, cut off before the first byte where the peer's uid is not listed."""

    owner: _CheckedServer

    def connection_made(self, transport: Any) -> None:
        self._admitted = self.owner.admits(peer_of(transport.get_extra_info("socket")))
        if self._admitted:
            self.owner.transports.add(transport)
            super().connection_made(transport)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._admitted:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._admitted:
            self.owner.transports.discard(self.connection._transport)
            super().connection_lost(exc)


class _CheckedServer(Server):  # type: ignore[misc]
    def __init__(self, handlers: list[Any], admits: Callable[[Peer], bool]) -> None:
        super().__init__(handlers)
        self.admits = admits
        self.transports: set[Any] = set()

    def _protocol_factory(self) -> H2Protocol:
        made = super()._protocol_factory()
        checked = _CheckedProtocol(made.handler, made.config, made.h2_config)
        checked.owner = self
        return checked

    def close(self) -> None:
        super().close()
        for transport in list(self.transports):
            transport.close()
