"""Compressed streams, unpacked piece by piece with every piece paid for first: gzip, zlib, bzip2, xz, lzma, LZ4 frames, Zstandard frames.

Rules
1. A stream is a whole number of frames of one kind (gzip members, xz streams ...), and ends with the last: readers that stop at the first frame and
   readers that go on must find no difference but more of the same. Padding, skippable frames and anything else behind a frame are refused.
2. Headers hold nothing that unpacking does not need, but a plain name and comment; no dictionary from elsewhere.
3. Bytes are paid for before they exist (`Scope.spend_bytes`); one stream is at most `max_unpacked_member`, and at most `MAX_RATIO` times its packed
   size once it is over `RATIO_FLOOR`.
4. Checksums inside the stream are checked by its decompressor.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

from vouchgate.scanning.scope import UNPACK_REMEDY, Scope
from vouchgate.scanning.verdict import Refuse, at

MAX_RATIO = 1_100
"""Bytes that one packed byte may become: gzip and zlib end at 1,032."""
RATIO_FLOOR = 64 * 1024**2
"""Bytes below which the ratio does not matter: xz packs an array of zeros 7,000 to 1."""
MAX_WINDOW = 256 * 1024**2
"""Bytes that a decompressor may keep in memory beside its output; the strongest ordinary levels need 128 MiB."""
PIECE = 1024**2
"""Bytes unpacked in one step."""
FIRST_FEED = 8_192
"""Packed bytes fed to a frame's decompressor at first."""
MAX_FRAMES = 100_000
"""Frames of one stream; bgzip writes one per 64 KiB."""
PEEK = 65_536
"""Packed bytes looked at to recognise a stream without a magic number."""
REMEDY = "compress the file again with an ordinary tool (`gzip`, `xz`, `zstd`), or leave it as it is"

GZIP, BZIP2, XZ, LZMA, LZ4, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x5d\0\0", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"
_MAGIC = {GZIP: "gzip", BZIP2: "bzip2", XZ: "xz", LZ4: "lz4", ZSTD: "zstd"}


def packer_of(head: bytes) -> str:
    """What the first bytes are packed with; empty if with nothing known. zlib and lzma have no magic number: they are unpacked a little."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic) and (name != "bzip2" or _is_bzip2(head)):
            return name
    if head.startswith(LZMA) and _starts(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_WINDOW), head):
        return "lzma"
    # RFC 1950, section 2.2: method 8, window at most 32 KiB, check bits
    if len(head) > 2 and head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib" if _starts(zlib.decompressobj(), head) else ""
    return ""


def _is_bzip2(head: bytes) -> bool:
    """The level, then the first block's magic number or the last one's: digits of pi or of its root."""
    return head[3:4] in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90")


def _starts(unpacker: Any, head: bytes) -> bool:
    try:
        return bool(unpacker.decompress(head[:PEEK], PEEK))
    except (zlib.error, lzma.LZMAError, MemoryError):
        return False


def unpack(view: memoryview, packer: str, scope: Scope, rule: str) -> memoryview:
    """All that the stream holds. Raises `Refuse`."""
    output = _Output(view, scope, rule)
    try:
        _UNPACK[packer](view, output)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, IndexError):
        output.refuse("damaged", 0, f"its {packer} stream is damaged")
    return memoryview(output.found).toreadonly()


class _Output:
    """What is unpacked so far, and what it may cost (rule 3)."""

    def __init__(self, view: memoryview, scope: Scope, rule: str) -> None:
        self.found = bytearray()
        self._scope, self._rule, self._packed, self._frames, self._paid = scope, rule, len(view), 0, 0

    def room(self) -> int:
        """How many bytes may come next, paid for; what did not come is kept for the next time."""
        want = len(self.found) + PIECE
        bound = self._scope.settings.max_unpacked_member
        if want > bound + PIECE or (want > RATIO_FLOOR + PIECE and want - PIECE > MAX_RATIO * self._packed):
            raise Refuse(
                f"{self._rule}:bomb", at(0), f"{self._packed} bytes become more than {want - PIECE}; the bound is {bound}", UNPACK_REMEDY
            )
        if want > self._paid:
            self._scope.spend_bytes("unpacked", want - self._paid)
            self._paid = want
        return PIECE

    def frame(self) -> None:
        """One more frame begins."""
        self._frames += 1
        if self._frames > MAX_FRAMES:
            self.refuse("too-many-frames", 0, f"it has more than {MAX_FRAMES} frames")

    def refuse(self, name: str, offset: int, why: str) -> NoReturn:
        """End the reading."""
        raise Refuse(f"{self._rule}:{name}", at(offset), why, REMEDY)


def _frames(
    make: Callable[[], Any], check: Callable[[memoryview, int, _Output], int], *, several: bool
) -> Callable[[memoryview, _Output], None]:
    """Unpack frame after frame with decompressors of the standard library. `check` gives where the compressed part of a frame begins."""

    def unpack_all(view: memoryview, output: _Output) -> None:
        here = 0
        while here < len(view):
            if here and not several:
                output.refuse("trailing-bytes", here, "bytes stand behind its only frame")
            output.frame()
            here = _one(make(), view, check(view, here, output), output)

    return unpack_all


def _one(unpacker: Any, view: memoryview, here: int, output: _Output) -> int:
    """One frame from `here`; where it ends. What is fed grows with the frame, so that a million small ones are not read a million times."""
    portion = FIRST_FEED
    while not unpacker.eof:
        feed = memoryview(getattr(unpacker, "unconsumed_tail", b""))
        if feed.nbytes == 0 and getattr(unpacker, "needs_input", True):
            feed = view[here : here + portion]
            here += len(feed)
            portion = min(portion * 2, PIECE)
        piece = unpacker.decompress(feed, output.room())
        output.found += piece
        if feed.nbytes == 0 and not piece and not unpacker.eof:
            output.refuse("truncated", here, "it ends in the middle of its stream")
    return here - len(unpacker.unused_data or b"")


def _plain(magic: bytes) -> Callable[[memoryview, int, _Output], int]:
    def check(view: memoryview, here: int, output: _Output) -> int:
        if view[here : here + len(magic)] != magic:
            output.refuse("trailing-bytes", here, "bytes that are no further frame stand behind its stream")
        return here

    return check


def _gzip_header(view: memoryview, here: int, output: _Output) -> int:
    """RFC 1952, section 2.3: magic, method 8, flags, time, two bytes, then as flagged: extra, name, comment, checksum of the header."""
    head = view[here : here + 10]
    if head[:2] != GZIP or len(head) != 10:
        output.refuse("trailing-bytes", here, "bytes that are no further member stand behind its stream")
    if head[2] != 8 or head[3] & 0xE0:
        output.refuse("header", here, "its header names a method or flags that gzip does not have")
    _check_gzip_fields(view, here, head[3], output)
    return here


_EXTRA, _NAME, _COMMENT = 4, 8, 16
MAX_GZIP_TEXT = 4_096
"""Bytes of a name or comment in a gzip header."""


def _check_gzip_fields(view: memoryview, here: int, flags: int, output: _Output) -> None:
    end = here + 10
    if flags & _EXTRA:
        length = int.from_bytes(view[end : end + 2], "little")
        if length != 6 or bytes(view[end + 2 : end + 6]) != b"BC\2\0":  # SAM specification, section 4.1: bgzip's block size
            output.refuse("header", here, "its header holds an extra field, which nothing reads")
        end += 2 + length
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            text, nul, _ = bytes(view[end : end + MAX_GZIP_TEXT]).partition(b"\0")
            if not nul or not text.decode("latin-1").isprintable():
                output.refuse("header", here, "the name or comment in its header is no plain text")
            end += len(text) + 1


def _zstd(view: memoryview, output: _Output) -> None:
    """Frame by frame, each cut out by its own structure first, so that what the library reads is exactly one frame."""
    zstandard = _library("zstandard", output)
    here = 0
    while here < len(view):
        output.frame()
        end = _zstd_end(view, here, output)
        reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(view[here:end], read_across_frames=False)
        _drain(reader.read, output, zstandard.ZstdError)
        here = end


def _drain(read: Callable[[int], bytes], output: _Output, error: type[Exception]) -> None:
    try:
        while piece := read(output.room()):
            output.found += piece
    except error:
        output.refuse("damaged", 0, "its stream is damaged, or needs more memory than it may")


def _zstd_end(view: memoryview, here: int, output: _Output) -> int:
    """RFC 8878, section 3.1.1: magic, descriptor, window, dictionary, content size, then blocks of 3 bytes of header, then a checksum."""
    if view[here : here + 4] != ZSTD:
        output.refuse("trailing-bytes", here, "bytes that are no further frame stand behind its stream")
    flags = view[here + 4]
    single, checksum, dictionary = flags >> 5 & 1, flags >> 2 & 1, flags & 3
    if dictionary or flags & 0b1000:
        output.refuse("header", here, "its frame needs a dictionary that is not in it, or uses a reserved bit")
    size_bytes = (1 if single else 0, 2, 4, 8)[flags >> 6]
    here += 5 + (not single) + size_bytes
    last = 0
    while not last:
        header = int.from_bytes(view[here : here + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if here + 3 > len(view) or kind == 3:
            output.refuse("truncated", here, "it ends in the middle of a frame, or holds a block of no defined kind")
        here += 3 + (1 if kind == 1 else size)
    end = here + 4 * checksum
    if end > len(view):
        output.refuse("truncated", here, "it ends in the middle of a frame")
    return end


def _lz4(view: memoryview, output: _Output) -> None:
    frame = _library("lz4.frame", output)
    magic, here = _plain(LZ4), 0
    while here < len(view):
        output.frame()
        magic(view, here, output)
        if view[here + 4] & 0b11 or view[here + 4] >> 6 != 1:  # LZ4 Frame Format 1.6.4, "FLG byte": version, reserved bit, dictionary
            output.refuse("header", here, "its frame needs a dictionary that is not in it, or is of another version")
        try:
            here = _one(frame.LZ4FrameDecompressor(), view, here, output)
        except RuntimeError:
            output.refuse("damaged", here, "its lz4 stream is damaged")


def _library(name: str, output: _Output) -> Any:
    """An optional library; without it nothing is known of the content."""
    try:
        if name == "zstandard":
            import zstandard

            return zstandard
        import lz4.frame

        return lz4.frame
    except ImportError:
        raise Refuse(
            "compressed:no-library", at(0), f"reading it needs the `{name}` library", "`pip install 'vouchgate[scan]'`", "incomplete"
        ) from None


def _new_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW)


def _new_lzma() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_WINDOW)


_UNPACK: dict[str, Callable[[memoryview, _Output], None]] = {
    "gzip": _frames(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), _gzip_header, several=True),
    "zlib": _frames(zlib.decompressobj, _plain(b""), several=False),
    "bzip2": _frames(bz2.BZ2Decompressor, _plain(BZIP2), several=True),
    "xz": _frames(_new_xz, _plain(XZ), several=True),
    "lzma": _frames(_new_lzma, _plain(b""), several=False),
    "lz4": _lz4,
    "zstd": _zstd,
}
