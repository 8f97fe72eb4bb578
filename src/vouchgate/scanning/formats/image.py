"""Images by their chunks: PNG, JPEG, GIF, WebP and BMP. The picture itself is left to its decoder; nothing may stand behind or between.

Rules
1. PNG (ISO/IEC 15948, section 5): IHDR first, every chunk's length within the file, its type in letters, its CRC right, IEND last and the end.
2. JPEG (ITU-T T.81, annex B): segments by length, scans up to the next marker, EOI at the end; behind it zeros, or the further
   pictures that a multi-picture index (APP2 `MPF`) announces.
3. GIF (89a): blocks of sub-blocks, the trailer at the end. WebP (RFC 9649): RIFF chunks that fill the file. BMP: the sizes that its header says.
4. A picture that announces more pixels than a bound is a bomb: decoders reserve the room first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from vouchgate.scanning.checksums import crc32
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Refuse, at

NAME = "image"
REMEDY = "save the picture again with an image library"
MAX_PIXELS = 2**28
"""Pixels of one picture: about 1 GiB decoded; Pillow warns at a third of it."""
MAX_CHUNKS = 1_000_000
MAX_PICTURES = 16
"""Pictures in one JPEG file with a multi-picture index."""
_PNG, _RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_WEBP = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "))
_DIB_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def recognise(sight: Sight) -> Claim:
    """The magic numbers."""
    kind = _kind(sight.head)
    return Claim(strength="certain", kind=NAME, because=f"{kind.upper()} picture", above=TEXTS) if kind else NOT_MINE


def _kind(head: bytes) -> str:
    if head.startswith(_PNG):
        return "png"
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == _RIFF and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and len(head) >= 26 and int.from_bytes(head[14:18], "little") in _DIB_HEADERS and head[6:10] == bytes(4):
        return "bmp"
    return ""


def read(sight: Sight, scope: Scope) -> Reading:
    """Every chunk."""
    kind = _kind(sight.head)
    width, height = _READERS[kind](sight.view, scope)
    if width * height > MAX_PIXELS:
        raise _fault("pixels", 0, f"it announces {width} x {height} pixels, the bound is {MAX_PIXELS}")
    return Reading(covered=len(sight), facts={"kind": kind, "width": width, "height": height})


def _png(view: memoryview, scope: Scope) -> tuple[int, int]:
    here, size = len(_PNG), (0, 0)
    for count in range(MAX_CHUNKS):
        if here + 12 > len(view):
            raise _fault("truncated", here, "a chunk ends behind the file")
        length, kind = int.from_bytes(view[here : here + 4]), bytes(view[here + 4 : here + 8])
        if here + 12 + length > len(view) or not kind.isalpha():
            raise _fault("chunk", here, "a chunk's length or type is none")
        if (count == 0) != (kind == b"IHDR") or (kind == b"IHDR" and length != 13):
            raise _fault("header", here, "its header chunk is not the first, or not 13 bytes")
        if kind == b"IHDR":
            size = struct.unpack_from(">II", view, here + 8)
        if scope.deep and crc32(view[here + 4 : here + 8 + length]) != int.from_bytes(view[here + 8 + length : here + 12 + length]):
            raise _fault("crc", here, f"the checksum of the chunk `{kind.decode('ascii', 'replace')}` is wrong")
        here += 12 + length
        if kind == b"IEND":
            _ended(view, here)
            return size
    raise _fault("chunks", here, f"more than {MAX_CHUNKS} chunks")


def _jpeg(view: memoryview, scope: Scope) -> tuple[int, int]:
    del scope
    here, size, several = 0, (0, 0), False
    for _ in range(MAX_PICTURES):
        here, found, announced = _jpeg_picture(view, here)
        size, several = size if size != (0, 0) else found, several or announced
        padding = _zeros(view, here)
        if padding == len(view):
            return size
        if not several or bytes(view[padding : padding + 3]) != b"\xff\xd8\xff":
            break
        here = padding
    raise _fault("trailing", here, f"{len(view) - here} bytes stand behind its end")


def _ended(view: memoryview, here: int) -> None:
    if here != len(view):
        raise _fault("trailing", here, f"{len(view) - here} bytes stand behind its end")


def _zeros(view: memoryview, here: int) -> int:
    """The first byte from `here` on that is not zero."""
    while here < len(view):
        piece = bytes(view[here : here + 65_536])
        left = piece.lstrip(b"\0")
        if left:
            return here + len(piece) - len(left)
        here += len(piece)
    return here


def _jpeg_picture(view: memoryview, begin: int) -> tuple[int, tuple[int, int], bool]:
    """End, width and height, and whether further pictures are announced."""
    here, size, several = begin + 2, (0, 0), False
    for _ in range(MAX_CHUNKS):
        while here + 1 < len(view) and view[here] == 0xFF and view[here + 1] == 0xFF:
            here += 1  # fill bytes (B.1.1.2)
        if here + 2 > len(view) or view[here] != 0xFF:
            raise _fault("marker", here, "a marker is missing")
        marker = view[here + 1]
        here += 2
        if marker == 0xD9:
            return here, size, several
        if marker in _ALONE:
            continue
        length = int.from_bytes(view[here : here + 2])
        if length < 2 or here + length > len(view) or marker == 0xD8:
            raise _fault("segment", here, "a segment's length or place is none")
        if marker in _FRAMES and length >= 7:
            height, width = struct.unpack_from(">HH", view, here + 3)
            size = (width, height)
        several = several or (marker == 0xE2 and bytes(view[here + 2 : here + 6]) == b"MPF\0")
        here += length
        if marker == 0xDA:
            found = _MARKER.search(view, here)
            if found is None:
                raise _fault("truncated", here, "its picture has no end")
            here = found.start()
    raise _fault("chunks", here, f"more than {MAX_CHUNKS} segments")


def _gif(view: memoryview, scope: Scope) -> tuple[int, int]:
    del scope
    if len(view) < 14:
        raise _fault("truncated", 0, "it ends in its header")
    size = struct.unpack_from("<HH", view, 6)
    here = 13 + _table(view[10])
    for _ in range(MAX_CHUNKS):
        if here >= len(view):
            raise _fault("truncated", here, "it has no trailer")
        block = view[here]
        if block == 0x3B:
            _ended(view, here + 1)
            return size
        if block == 0x2C and here + 10 < len(view):
            here = _sub_blocks(view, here + 11 + _table(view[here + 9]))
        elif block == 0x21:
            here = _sub_blocks(view, here + 2)
        else:
            raise _fault("block", here, "a block is of no kind that the format has")
    raise _fault("chunks", here, f"more than {MAX_CHUNKS} blocks")


def _table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _sub_blocks(view: memoryview, here: int) -> int:
    while here < len(view) and view[here]:
        here += 1 + view[here]
    return here + 1


def _webp(view: memoryview, scope: Scope) -> tuple[int, int]:
    del scope
    if int.from_bytes(view[4:8], "little") + 8 != len(view):
        raise _fault("trailing", 4, "the length that its RIFF header says is not the file's")
    here, size = 12, (0, 0)
    while here < len(view):
        kind, length = bytes(view[here : here + 4]), int.from_bytes(view[here + 4 : here + 8], "little")
        if kind not in _WEBP or here + 8 + length > len(view):
            raise _fault("chunk", here, "a chunk's length or type is none of the format's")
        if kind == b"VP8X" and length >= 10:
            size = (int.from_bytes(view[here + 12 : here + 15], "little") + 1, int.from_bytes(view[here + 15 : here + 18], "little") + 1)
        here += 8 + length + length % 2
    if here != len(view):
        raise _fault("truncated", len(view), "its last chunk lacks its padding")
    return size


def _bmp(view: memoryview, scope: Scope) -> tuple[int, int]:
    del scope
    size, offset, header = int.from_bytes(view[2:6], "little"), int.from_bytes(view[10:14], "little"), int.from_bytes(view[14:18], "little")
    if size != len(view) or not 14 + header <= offset <= size:
        raise _fault("size", 2, "the size or the place of its picture that its header says is not the file's")
    if header == 12:
        width, height = struct.unpack_from("<HH", view, 18)
        bits, packing = int.from_bytes(view[24:26], "little"), 0
    else:
        width, height = struct.unpack_from("<ii", view, 18)
        bits, packing = int.from_bytes(view[28:30], "little"), int.from_bytes(view[30:34], "little")
    width, height = abs(width), abs(height)
    rows = ((width * bits + 31) // 32) * 4 * height
    if packing in (0, 3) and not offset + rows <= size <= offset + rows + 4096:
        raise _fault("size", 18, f"its rows take {rows} bytes, {size - offset} are there")
    return width, height


_READERS: dict[str, Callable[[memoryview, Scope], tuple[int, int]]] = {"png": _png, "jpeg": _jpeg, "gif": _gif, "webp": _webp, "bmp": _bmp}


def _fault(rule: str, offset: int, why: str) -> Refuse:
    return Refuse(f"{NAME}:{rule}", at(offset), why, REMEDY)
