"""What is plain text: bytes that decode in one way, without characters that steer a terminal or hide what follows.

Rules
1. UTF-8 first; UTF-16 with its byte order mark; else eight-bit Western text, where no byte is a control of any of those encodings.
2. C0 controls other than tab, line feed, form feed and carriage return are no text; neither is DEL. (Vocabularies do hold the Unicode
   format characters, so those are judged only in code: `hidden_in_code`.)
"""

from __future__ import annotations

import codecs
import re

from vouchgate.scanning.sight import Sight

CHUNK_BYTES = 1024**2
"""Bytes of a long text decoded at a time."""
MAX_CONTROL_SHARE = 0.05
"""Share of control characters up to which bytes are still text, only a broken one; machine data has more."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_HIDDEN = re.compile(r"[\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff]")
_WESTERN = frozenset((0x85, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x99, *range(0xA0, 0x100)))
"""Bytes over 0x7F that Western text has: cp1252's quotes and dashes, and Latin-1's letters."""
MAX_WESTERN_SHARE = 0.3
"""Share of bytes over 0x7F in eight-bit Western text; languages written in it have at most about 0.15."""
_MAGIC = (b"PK", b"MZ", b"GIF8", b"BZh", b"Rar!", b"PAR1", b"CBM1", b"GGUF", b"ARROW")
"""First bytes of binary formats that letters follow in no text with bytes over 0x7F right behind them."""
_NO_TEXT = bytes(byte for byte in range(256) if not (0x20 <= byte < 0x7F or byte in b"\t\n\r\f" or byte in _WESTERN))


def encoding_of(sight: Sight) -> str:
    """`utf-8`, `utf-16` or `cp1252`; empty where the bytes, by their first 64 KiB, are no text."""
    head = sight.head
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and len(sight) % 2 == 0:
        return "utf-16" if _mostly_text(head.decode("utf-16", "ignore")) else ""
    if b"\0" in head:
        return ""
    decoded = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        text = decoded.decode(head, final=len(head) == len(sight))
    except UnicodeDecodeError:
        return "cp1252" if _western(head) else ""
    return "utf-8" if _mostly_text(text) else ""


def _western(head: bytes) -> bool:
    """Rule 1; never the broken head of a binary format."""
    high = sum(byte > 0x7F for byte in head)
    magic = next((mark for mark in _MAGIC if head.startswith(mark)), None)
    broken = magic is not None and any(byte > 0x7F for byte in head[len(magic) : len(magic) + 4])
    return head.translate(None, _NO_TEXT) == head and high <= max(len(head) * MAX_WESTERN_SHARE, 1) and not broken


def _mostly_text(text: str) -> bool:
    return len(_CONTROL.findall(text)) <= len(text) * MAX_CONTROL_SHARE


def first_fault(view: memoryview, encoding: str) -> tuple[int, str] | None:
    """Offset (of its chunk at least) and what is there that is no text; None if all of it is. Reads in pieces."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    for begin in range(0, len(view), CHUNK_BYTES):
        piece = bytes(view[begin : begin + CHUNK_BYTES])
        try:
            text = decoder.decode(piece, final=begin + CHUNK_BYTES >= len(view))
        except UnicodeDecodeError as error:
            return begin + error.start, f"bytes that are not {encoding.upper()}"
        match = _CONTROL.search(text)
        if match:
            return begin + len(text[: match.start()].encode(encoding)), f"the control character {match.group()!r}"
    return None


def hidden_in_code(text: str) -> int:
    """Place of the first character that makes code look other than it runs (CVE-2021-42574); -1 if there is none."""
    match = _HIDDEN.search(text.removeprefix("\ufeff"))
    return -1 if match is None else match.start()
