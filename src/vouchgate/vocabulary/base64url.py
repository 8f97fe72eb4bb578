"""Base64url as JOSE writes it (RFC 7515, section 2): no padding, and one spelling for each value."""

from __future__ import annotations

import base64
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]+\Z")


def b64(raw: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes | None:
    """The bytes of a text; None for nothing, padding, stray bits and other characters, so that nothing signed has two spellings."""
    if not _ALPHABET.match(text) or len(text) % 4 == 1:
        return None
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return raw if b64(raw) == text else None
