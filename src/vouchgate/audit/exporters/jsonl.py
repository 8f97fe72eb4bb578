"""JSON lines: every entry verbatim on a line of its own, so that each line's hash is still the one in the log."""

from __future__ import annotations

from vouchgate.vocabulary.errors import InvalidInput

NAME = "jsonl"
SUFFIX = ".jsonl"


def render(index: int, entry: bytes) -> bytes:
    """The entry and a newline. Raises `InvalidInput` where it could not be told apart from two lines."""
    if b"\n" in entry or b"\r" in entry:
        raise InvalidInput(f"entry {index} holds a line break", remedy="it was not written by vouchgate: run `vouchgate audit verify`")
    return entry + b"\n"
