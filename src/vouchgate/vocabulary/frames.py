"""Length-prefixed MessagePack frames: what vouchgate's own processes speak over unix sockets.

A frame is 4 bytes big-endian length, then MessagePack. A request is `[id, method, params]`, an answer `[id, ok, body]`; with `ok` false
the body is `{code, reason, remedy}`. Nothing outside this product reads it. The peer is known by SO_PEERCRED, not by the frame.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vouchgate.vocabulary.errors import InvalidInput

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Bytes of one frame, so that a hostile length does not allocate more."""
HEADER_BYTES = 4

_encoder = msgspec.msgpack.Encoder()
_request = msgspec.msgpack.Decoder(tuple[int, str, dict[str, Any]])
_answer = msgspec.msgpack.Decoder(tuple[int, bool, Any])


def frame(value: Any) -> bytes:
    """One frame. Raises `InvalidInput` over the bound."""
    body = _encoder.encode(value)
    if len(body) > MAX_FRAME_BYTES:
        raise InvalidInput(f"a message of {len(body)} bytes is over the bound of {MAX_FRAME_BYTES}", remedy="send it in parts")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_length(header: bytes) -> int:
    """Length that a frame header announces. Raises `InvalidInput` over the bound."""
    length = int.from_bytes(header, "big")
    if len(header) != HEADER_BYTES or length > MAX_FRAME_BYTES:
        raise InvalidInput(
            f"a frame announces {length} bytes, the bound is {MAX_FRAME_BYTES}", remedy="the peer does not speak this protocol"
        )
    return length


def read_request(body: bytes) -> tuple[int, str, dict[str, Any]]:
    """`(id, method, params)`. Raises `InvalidInput`."""
    try:
        return _request.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInput(f"the frame is not a request: {error}", remedy="the peer does not speak this protocol") from None


def read_answer(body: bytes) -> tuple[int, bool, Any]:
    """`(id, ok, body)`. Raises `InvalidInput`."""
    try:
        return _answer.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidInput(f"the frame is not an answer: {error}", remedy="the peer does not speak this protocol") from None
