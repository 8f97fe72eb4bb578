"""The knowledge base that ships with this build."""

from __future__ import annotations

from vouchgate.scanning.knowledge.entries import Knowledge, Nothing


def shipped() -> Knowledge:
    """It, read and verified once."""
    return Nothing()
