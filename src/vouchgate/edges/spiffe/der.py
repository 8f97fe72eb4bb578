"""Certificates that stand one after the other, apart: how the Workload API sends chains and bundles (SPIFFE Workload API, section 5.2.1)."""

from __future__ import annotations

from vouchgate.vocabulary.errors import InvalidInput


def split_der(data: bytes) -> list[bytes]:
    """Each certificate (X.690, section 8.1.3: definite lengths). Raises `InvalidInput` where something is cut off."""
    found: list[bytes] = []
    while data:
        if len(data) < 2:
            raise InvalidInput("a certificate is cut off", remedy="fetch it again")
        first = data[1]
        size = first & 0x7F if first & 0x80 else 0
        length = 2 + size + (int.from_bytes(data[2 : 2 + size], "big") if size else first)
        if size > 4 or length > len(data):
            raise InvalidInput("a certificate is cut off", remedy="fetch it again")
        found.append(data[:length])
        data = data[length:]
    return found
