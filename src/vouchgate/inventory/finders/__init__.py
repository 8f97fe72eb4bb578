"""One file per finder: which AI assets some facts show.

A file here defines `FINDER = Finder(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vouchgate.vocabulary.wire import Noun

HEAD_BYTES = 4096
"""Bytes of a file's beginning that a port hands in: enough for every magic number and the first name in a zip archive."""


class FileFact(Noun, frozen=True, kw_only=True):
    """A file as a port saw it, without following links."""

    path: str
    head: bytes
    """Its first bytes, at most HEAD_BYTES."""
    size: int


class Asset(Noun, frozen=True, kw_only=True):
    """Something of an AI system."""

    kind: Literal["model", "weights", "dataset", "code-bearing"]
    """`code-bearing`: opening it with its usual reader may run what it holds."""
    format: str
    path: str
    size: int
    certain: bool
    """Whether the bytes leave no other reading that we know."""
    because: str
    """What was seen, for a person."""
    disguised: bool = False
    """Its name's ending belongs to another format, so a program that goes by names opens it wrongly."""
    finder: str


@dataclass(frozen=True)
class Finder:
    """A way to tell assets."""

    name: str
    version: int
    find: Callable[[FileFact], Asset | None]
    summary: str = ""
    """One line for the catalog."""
