"""What an Envoy says of itself on its admin pipe: the whole configuration that it enforces, and how it was started.

Only paths that change nothing are asked for. Whoever may open the pipe asks (mode 0600: the gateway's uid, and root).
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from vouchgate.vocabulary.errors import InvalidInput, Unavailable

ADMIN_SECONDS = 5.0
"""Seconds that an Envoy has to answer."""
MAX_DUMP_BYTES = 64 * 1024 * 1024
"""Bytes of one configuration; 1,024 endpoints of 200 callers each are about as many."""
DUMP, INFO = "/config_dump", "/server_info"
PIECE_BYTES = 128 * 1024
"""Bytes that are parsed at once: about half a millisecond."""
MAX_PIECE_DEPTH = 8
"""Levels that are taken apart; a filter of a dump lies on the fifth."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


async def fetch(socket: str, path: str) -> bytes:
    """The body of one answer. Raises `Unavailable`."""
    try:
        async with asyncio.timeout(ADMIN_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                parts: list[bytes] = []
                size = 0
                while part := await reader.read(1 << 20):
                    parts.append(part)
                    size += len(part)
                    if size > MAX_DUMP_BYTES:
                        raise Unavailable(
                            f"its configuration has over {MAX_DUMP_BYTES} bytes", remedy="put fewer endpoints behind one gateway"
                        )
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Unavailable(
            f"its admin pipe does not answer: {type(error).__name__}", remedy="see whether it runs: `vouchgate status`"
        ) from None
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise Unavailable(f"its admin pipe answers {path} with {status}", remedy="start it with the configuration that was written for it")
    body = b"".join(parts)
    return _dechunked(body) if b"\r\ntransfer-encoding: chunked" in head.lower() else body


def _dechunked(body: bytes) -> bytes:
    """A chunked body in one piece (RFC 9112, section 7.1). Raises `Unavailable`."""
    parts: list[bytes] = []
    at = 0
    while True:
        line = body.find(b"\r\n", at)
        try:
            size = int(body[at:line].split(b";")[0], 16) if line >= 0 else -1
        except ValueError:
            size = -1
        if size < 0 or line + 2 + size > len(body):
            raise Unavailable("its admin pipe's answer is cut off", remedy="read it again")
        if size == 0:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size])
        at = line + 2 + size + 2


def parsed(body: bytes, what: str) -> dict[str, Any]:
    """An answer as an object, taken apart piece by piece: a parser that is handed tens of megabytes holds the interpreter for a tenth of a
    second, and revocations beside it wait. Raises `InvalidInput`."""
    try:
        found = _in_pieces(body, 0)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"the {what} is no JSON object", remedy="read it again")
    return found


def _in_pieces(data: bytes | msgspec.Raw, depth: int) -> Any:
    view = memoryview(data)
    if len(view) <= PIECE_BYTES or depth >= MAX_PIECE_DEPTH:
        return msgspec.json.decode(view)
    match bytes(view[:64]).lstrip()[:1]:
        case b"{":
            return {name: _in_pieces(value, depth + 1) for name, value in _members.decode(view).items()}
        case b"[":
            return [_in_pieces(value, depth + 1) for value in _elements.decode(view)]
    return msgspec.json.decode(view)
