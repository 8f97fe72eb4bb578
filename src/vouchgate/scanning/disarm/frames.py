"""What the disarming process and whoever started it say to each other over two pipes.

Messages of the process: a kind, two numbers, and for some kinds bytes.
    BYTES    length, 0      these bytes come next in the output
    COPY     begin, length  this span of the artifact comes next in the output
    SIDECAR  length, 0      these bytes come next in the sidecar
    DONE     length, 0      the report (JSON); the output is complete, and a line on the process's input says that it is written
    HELD     length, 0      the last word: what became of comparing the written file with what was recovered (JSON)
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<BQQ")
BYTES, COPY, SIDECAR, DONE, HELD = 1, 2, 3, 4, 5
MAX_BYTES = 64 * 1024**2
"""Bytes of one BYTES or SIDECAR message; pieces of tensors have 16 MiB."""
MAX_REPORT_BYTES = 4 * 1024**2
"""Bytes of a report: 200 dropped things and a few numbers."""


def head(kind: int, first: int, second: int = 0) -> bytes:
    """The fixed part of a message."""
    return HEAD.pack(kind, first, second)
