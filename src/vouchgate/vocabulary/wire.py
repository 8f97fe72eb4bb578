"""One way to turn a noun into bytes and back: JSON by msgspec, refusing unknown fields.

`encode` is deterministic (fields in declaration order, mapping keys sorted), so its bytes may be hashed. Bounds are checked before the
parser runs: a document over `MAX_DOCUMENT_BYTES` is refused unread.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from vouchgate.vocabulary.errors import InvalidInput

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Bytes of one encoded noun; the largest real one is an allow-map of 2,000 grants (about 1.5 MiB)."""

T = TypeVar("T")
_encoder = msgspec.json.Encoder(order="deterministic")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


class Noun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every noun: frozen, fields by name, unknown fields refused."""


def encode(value: Any) -> bytes:
    """Deterministic JSON of a noun or of plain values."""
    return _encoder.encode(value)


def decode(kind: type[T], data: bytes | str, *, what: str = "document") -> T:
    """Parse `data` as `kind`. Raises `InvalidInput` naming the field that is wrong."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidInput(f"the {what} has {len(data)} bytes, the bound is {MAX_DOCUMENT_BYTES}", remedy="send a smaller document")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the {what} cannot be read: {error}", remedy=f"correct the {what} and send it again") from None


def to_plain(value: Any) -> Any:
    """The noun as dictionaries, lists, strings and numbers."""
    return msgspec.to_builtins(value, order="deterministic")


def from_plain(kind: type[T], value: Any, *, what: str = "document") -> T:
    """The noun from plain values. Raises `InvalidInput` naming the field that is wrong."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the {what} cannot be read: {error}", remedy=f"correct the {what} and send it again") from None
