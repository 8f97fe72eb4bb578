"""What the formats share that hold pickles: run one with its dialect, and say whether it ends where it must.

Recognising is pickle_opcodes.py, running is pickles/machine.py; here is only how their answers become reasons.
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning.pickle_opcodes import walk
from vouchgate.scanning.pickles.machine import Ran
from vouchgate.scanning.verdict import MAX_REASONS, Reason, at

ANY_TEXT = (
    "text",
    "csv",
    "yaml",
    "json",
    "notebook",
    "python-source",
    "xml",
    "pmml",
    "openvino",
    "hugging-face",
    "tokenizer",
    "xgboost",
    "lightgbm",
)
"""Formats of text that a pickle of protocol 0 can be too; what it imports runs whatever else it is."""
REMEDY = "write the file again with the library it came from; one file, one object"


def trailing(view: memoryview, end: int) -> Reason:
    """Bytes behind the last STOP that belong to nothing."""
    more = walk(view, end)
    what = f"another pickle, which imports {', '.join(more.imports)}" if more.imports else f"{len(view) - end} bytes that belong to nothing"
    return Reason(rule="pickle:trailing-bytes", where=at(end), why=f"behind the end of the pickle stands {what}", remedy=REMEDY)


def facts(ran: Ran) -> dict[str, Any]:
    """Of one pickle, for the verdict."""
    return {
        "protocol": ran.protocol,
        "opcodes": ran.steps,
        "names": sorted({name.full for name in ran.names})[:MAX_NAMES_TOLD],
    }


MAX_NAMES_TOLD = 200
"""Names told in a verdict's facts."""


def most(reasons: list[Reason]) -> tuple[Reason, ...]:
    """As many as a verdict keeps."""
    return tuple(reasons[:MAX_REASONS])
