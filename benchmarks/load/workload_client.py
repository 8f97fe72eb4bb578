"""A workload that fetches its identity: stock gRPC for load and streams, plain blocking HTTP/2 where one fetch is timed in a forked child.

python -m benchmarks.load.workload_client issue SOCKET UID CONNECTIONS COUNT      fetches COUNT certificates, then prints how many
python -m benchmarks.load.workload_client hold SOCKET UID STREAMS                 prints `stream serial nanoseconds` for each message
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
from cryptography import x509

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vouchgate.edges.spiffe import messages

FETCH = "/SpiffeWorkloadAPI/FetchX509SVID"
HEADER = (("workload.spiffe.io", "true"),)
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
AT_ONCE = 4
"""Calls at once on one connection."""


def _method(channel: Any) -> Any:
    return channel.unary_stream(FETCH, request_serializer=lambda one: one, response_deserializer=messages.X509SVIDResponse.FromString)


async def _issue(path: str, connections: int, count: int) -> int:
    left = iter(range(count))

    async def fetch(method: Any) -> int:
        done = 0
        for _ in left:
            call = method(b"", metadata=HEADER)
            response = await call.read()
            done += bool(response and response.svids[0].x509_svid_key)
            call.cancel()
        return done

    async def connection() -> int:
        async with grpc.aio.insecure_channel(f"unix:{path}", options=OPTIONS) as channel:
            method = _method(channel)
            return sum(await asyncio.gather(*(fetch(method) for _ in range(AT_ONCE))))

    return sum(await asyncio.gather(*(connection() for _ in range(connections))))


async def _hold(path: str, streams: int) -> None:
    async def stream(number: int) -> None:
        async with grpc.aio.insecure_channel(f"unix:{path}", options=OPTIONS) as channel:
            async for response in _method(channel)(b"", metadata=HEADER):
                at = time.monotonic_ns()
                serial = x509.load_der_x509_certificate(response.svids[0].x509_svid).serial_number if number < 0 else 0
                sys.stdout.write(f"{number} {response.svids[0].spiffe_id} {at} {serial}\n")
                sys.stdout.flush()

    await asyncio.gather(*(stream(number) for number in range(streams)))


def responses(path: str) -> Iterator[Any]:
    """One stream, blocking, without a library that a fork would upset."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        connection.initiate_connection()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", FETCH), (":authority", "localhost"), ("te", "trailers")]
        connection.send_headers(1, [*headers, ("content-type", "application/grpc"), *HEADER])
        connection.send_data(1, b"\0\0\0\0\0", end_stream=True)
        sock.sendall(connection.data_to_send())
        data = b""
        while received := sock.recv(65_536):
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    data += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.TrailersReceived | h2.events.StreamEnded | h2.events.StreamReset):
                    return
            sock.sendall(connection.data_to_send())
            while len(data) >= 5 and len(data) >= 5 + (size := struct.unpack("!I", data[1:5])[0]):
                yield messages.X509SVIDResponse.FromString(data[5 : 5 + size])
                data = data[5 + size :]


def main() -> None:
    """See the module's text."""
    what, path, uid, first, *more = sys.argv[1:]
    if os.geteuid() == 0 and int(uid):
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    if what == "issue":
        print(asyncio.run(_issue(path, int(first), int(more[0]))), flush=True)
    else:
        asyncio.run(_hold(path, int(first)))


if __name__ == "__main__":
    main()
