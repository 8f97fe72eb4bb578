"""The knowledge base that ships with this build: read and verified once, and closed where it cannot be.

Where it does not verify, no name is known, and `fault` says why: a scan then ends `incomplete`, never clean.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from vouchgate.scanning.knowledge.base import Base, read
from vouchgate.scanning.knowledge.entries import Knowledge, Nothing
from vouchgate.vocabulary.errors import Unverified


class Unreadable(Nothing):
    """Knows nothing, because what ships did not verify."""

    def __init__(self, fault: str) -> None:
        self.fault = fault


@cache
def shipped() -> Knowledge:
    """It. Never raises."""
    try:
        return shipped_base()
    except Unverified as error:
        return Unreadable(error.reason)


def shipped_base() -> Base:
    """It, for those who show or compare it. Raises `Unverified`."""
    return read(shipped_files())


def shipped_files() -> dict[str, bytes]:
    """The bytes as they lie in the package, by file name."""
    folder = files("vouchgate.scanning.knowledge") / "data"
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith(".json")}
