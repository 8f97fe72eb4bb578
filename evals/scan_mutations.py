"""Damaged copies of good and bad files: truncated, bits flipped, bytes doubled, dropped, spliced, lengths set to extremes. Standard library alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

EXTREMES = (b"\xff" * 8, b"\x00" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7), b"\xff\xff\xff\x7f")
MAX_BYTES = 200_000
"""Larger files are left out: what is damaged is structure, not weights."""


def mutated(files: Sequence[Path], count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """(what was done, suffix of the file, its bytes), `count` of them."""
    draw = random.Random(seed)
    bodies = [(path, path.read_bytes()) for path in files if 0 < path.stat().st_size <= MAX_BYTES]
    for index in range(count):
        path, body = bodies[index % len(bodies)]
        how = ("cut", "flip", "flips", "drop", "double", "extreme", "splice", "swap")[draw.randrange(8)]
        yield how, path.suffix, _damage(how, body, bodies[draw.randrange(len(bodies))][1], draw)


def _damage(how: str, body: bytes, other: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(body)) if draw.random() < 0.5 else min(int(draw.expovariate(1 / 64)), len(body) - 1)
    size = min(draw.choice((1, 2, 4, 8, 64)), len(body) - at)
    match how:
        case "cut":
            return body[: draw.randrange(1, len(body))] if len(body) > 1 else body
        case "flip":
            return body[:at] + bytes([body[at] ^ (1 << draw.randrange(8))]) + body[at + 1 :]
        case "flips":
            changed = bytearray(body)
            for _ in range(max(1, len(body) // 200)):
                changed[draw.randrange(len(body))] = draw.randrange(256)
            return bytes(changed)
        case "drop":
            return body[:at] + body[at + size :]
        case "double":
            return body[: at + size] + body[at:]
        case "extreme":
            what = draw.choice(EXTREMES)
            return body[:at] + what + body[at + len(what) :]
        case "splice":
            return body[:at] + other[draw.randrange(len(other)) :]
        case _:
            there = draw.randrange(len(body))
            return body[:at] + body[there : there + size] + body[at + size :]
