"""Sight: some bytes and what several formats want to know of them, worked out once and only if asked.

Rules
1. Everything here is a fact about the bytes; no name, and nothing the bytes say of themselves, is taken on trust.
2. What is cached is small: no member is unpacked, no text beyond `MAX_TEXT_BYTES` is decoded.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from vouchgate.scanning import zip_listing
from vouchgate.scanning.pickle_opcodes import Walk, walk

HEAD_BYTES = 65_536
"""Bytes that `head` holds: enough for every magic number, header and first line."""
MAX_TEXT_BYTES = 64 * 1024**2
"""Bytes that are decoded as text: the largest tokenizers have about 35 MB."""
NO_JSON = object()
"""What `json` is where the bytes are no JSON document (None is one)."""


class Sight:
    """One artifact's, or one member's, bytes. Not for sharing between threads."""

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def __len__(self) -> int:
        return len(self.view)

    @cached_property
    def head(self) -> bytes:
        """The first `HEAD_BYTES`."""
        return bytes(self.view[:HEAD_BYTES])

    @cached_property
    def text(self) -> str | None:
        """All of it as UTF-8 (a byte order mark is kept), None where it is not, or is over `MAX_TEXT_BYTES`, or holds a NUL."""
        if len(self.view) > MAX_TEXT_BYTES or b"\0" in self.head:
            return None
        try:
            text = bytes(self.view).decode("utf-8")
        except UnicodeDecodeError:
            return None
        return None if "\0" in text else text

    @cached_property
    def json(self) -> Any:
        """The one JSON document that the bytes are, else `NO_JSON`. Duplicate keys are found by whoever reads, not here."""
        head = self.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if head not in (b"{", b"[") or self.text is None:
            return NO_JSON
        try:
            return json.loads(self.text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            return NO_JSON

    @cached_property
    def pickled(self) -> Walk:
        """What a walk over pickle opcodes from the first byte sees."""
        return walk(self.view)

    @cached_property
    def zip_directory(self) -> tuple[int, int] | None:
        """Begin and end of a zip's central directory, wherever it begins; (0, 0) for a zip that cannot be listed; None for no zip."""
        return zip_listing.directory_of(self.view)

    @cached_property
    def zip_members(self) -> tuple[zip_listing.Member, ...]:
        """The entries of that directory, as far as they make sense; for recognising alone."""
        found = self.zip_directory
        return () if found is None else tuple(zip_listing.members(self.view, *found))

    @cached_property
    def zip_names(self) -> frozenset[str]:
        """Names of those entries."""
        return frozenset(member.name for member in self.zip_members)
