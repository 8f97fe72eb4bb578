"""A tar archive that every reader reads alike, or none at all: ustar, pax and GNU long names.

Rules (POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format")
1. Every block is a header with the right checksum, or a member's data with zeros behind it up to 512 bytes; two blocks of zeros end the archive and
   nothing but zeros follows.
2. Fields are numbers or texts with nothing hidden behind their end. A member has one name: a pax header's, a GNU long name, or its own.
3. A pax header holds known keys once each. A size in it differs from the member's own only where the member's own field is too small for it:
   readers that skip one of both would take data for headers.
4. A member is a file or a folder: no link, no device, no sparse file, no second volume.
5. A zip whose end record lies in the archive lies whole in one member, whose reader then finds the same zip: headers hide none.
6. Names are plain relative paths, each only once (member_names.py); `./` in front is left out, as every program does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from vouchgate.scanning.member_names import Names, fault_of
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.verdict import Refuse, at
from vouchgate.scanning.zip_listing import END_BYTES, MAX_COMMENT
from vouchgate.scanning.zip_records import END as ZIP_END
from vouchgate.vocabulary.wire import Noun

BLOCK = 512
MAX_PAX_BYTES = 1024**2
"""Bytes of one pax header or long name; real ones have about 200."""
HEADERS_A_MEMBER = 2
"""Headers counted for each member that is allowed: its own, and one that lengthens its name or says its times."""
OCTAL_LIMIT = 8**11
"""First size that a header's own 11 octal digits cannot say."""
ZEROS = bytes(1024**2)
REMEDY = (
    "write the archive again with an ordinary tool (`tar --format=pax --hard-dereference`, Python's `tarfile`), files and folders alone"
)
_USTAR, _GNU, _OLD = b"ustar\x0000", b"ustar  \x00", bytes(8)
_NAME, _SIZE, _SUM, _LINK, _MAGIC = slice(0, 100), slice(124, 136), slice(148, 156), slice(157, 257), slice(257, 265)
_OWNERS, _PREFIX = (slice(265, 297), slice(297, 329)), slice(345, 500)
_NUMBERS = (slice(100, 108), slice(108, 116), slice(116, 124), slice(136, 148))
"""Mode, owners and time."""
_DEVICES = (slice(329, 337), slice(337, 345))
_GNU_TIMES, _GNU_REST = slice(345, 369), slice(369, 512)
_TYPE = 156


class Member(Noun, frozen=True, kw_only=True):
    """One member."""

    name: str
    size: int
    header_at: int
    """Of its own header; those that only lengthen its name come before."""
    data_at: int
    is_folder: bool


@dataclass(frozen=True)
class Tar:
    """An archive whose structure holds."""

    view: memoryview
    members: tuple[Member, ...]
    covered: int

    @property
    def files(self) -> tuple[Member, ...]:
        """The members that are no folders."""
        return tuple(member for member in self.members if not member.is_folder)

    def content(self, member: Member) -> memoryview:
        """A member's bytes."""
        return self.view[member.data_at : member.data_at + member.size]


def is_tar(view: memoryview) -> bool:
    """Whether the first block is a header by its checksum; a tar of nothing has none."""
    return len(view) >= BLOCK and _sum_of(bytes(view[:BLOCK])) is not None


def open_tar(view: memoryview, scope: Scope, rule: str) -> Tar:
    """The archive's members, as every reader sees them. `rule` is what its reasons begin with. Raises `Refuse`."""
    members = tuple(_Walk(view, scope, rule).members())
    _check_zips(view, members, rule)
    return Tar(view=view, members=members, covered=len(view))


def _check_zips(view: memoryview, members: tuple[Member, ...], rule: str) -> None:
    """Rule 5. Readers of zips look at the last 64 KiB (APPNOTE 4.3.16)."""
    begin = max(0, len(view) - END_BYTES - MAX_COMMENT)
    tail, found = bytes(view[begin:]), -1
    last = [member for member in members if member.data_at + member.size > begin]
    while (found := tail.find(ZIP_END, found + 1)) >= 0:
        here = begin + found
        if not any(member.data_at <= here and here + END_BYTES <= member.data_at + member.size for member in last):
            raise Refuse(
                f"{rule}:hidden-zip", at(here), "a zip's end record lies in a header: some programs open the file as that zip", REMEDY
            )


def listed(view: memoryview, bound: int) -> list[tuple[str, memoryview]]:
    """Names and bytes of the first files, as far as they make sense; for recognising alone."""
    found: list[tuple[str, memoryview]] = []
    here = 0
    while len(found) < bound and here + BLOCK <= len(view):
        block = bytes(view[here : here + BLOCK])
        size = _octal(block[_SIZE])
        if _sum_of(block) is None or size is None:
            break
        if block[_TYPE : _TYPE + 1] in (b"0", b"\0"):
            name = block[_NAME].rstrip(b"\0").decode("utf-8", "backslashreplace").removeprefix("./")
            found.append((name, view[here + BLOCK : here + BLOCK + size]))
        here += BLOCK + size + -size % BLOCK
    return found


@dataclass
class _Coming:
    """What headers before a member say of it."""

    path: str | None = None
    size: int | None = None
    begun: bool = False


@dataclass
class _Walk:
    view: memoryview
    scope: Scope
    rule: str
    _names: Names = field(default_factory=Names)

    def members(self) -> Iterator[Member]:
        here, count, coming = 0, 0, _Coming()
        while True:
            block = self._block(here)
            if block == ZEROS[:BLOCK]:
                break
            count += 1
            if count > HEADERS_A_MEMBER * self.scope.settings.max_members:
                self._refuse("too-many-members", here, f"it has more than {self.scope.settings.max_members} members")
            kind, size = self._header(block, here)
            if kind in b"xgL":
                self._extended(kind, self._data(here, size, MAX_PAX_BYTES), coming, here)
            else:
                member = self._member(block, kind, here, size, coming)
                size, coming = member.size, _Coming()
                self._data(here, size, None)
                if member.name:
                    yield member
            here += BLOCK + size + -size % BLOCK
        self._end(here, coming)

    def _block(self, here: int) -> bytes:
        block = bytes(self.view[here : here + BLOCK])
        if len(block) != BLOCK:
            self._refuse("truncated", here, "it ends without the two blocks of zeros that end an archive")
        return block

    def _end(self, here: int, coming: _Coming) -> None:
        if coming.begun:
            self._refuse("truncated", here, "a header that lengthens the next member's is followed by none")
        rest = self.view[here:]
        if len(rest) < 2 * BLOCK or len(rest) % BLOCK:
            self._refuse("truncated", here, "it does not end with two whole blocks of zeros")
        if not _zeros(rest):
            self._refuse("trailing-bytes", here, "something other than zeros stands behind its end: some programs read on there")

    def _data(self, here: int, size: int, bound: int | None) -> memoryview:
        """A header's data; what fills its last block is zeros."""
        begin = here + BLOCK
        if bound is not None and size > bound:
            self._refuse("header-size", here, f"a header that lengthens another has {size} bytes, the bound is {bound}")
        if begin + size + -size % BLOCK > len(self.view):
            self._refuse("truncated", here, f"a member of {size} bytes runs over the end of the archive")
        if not _zeros(self.view[begin + size : begin + size + -size % BLOCK]):
            self._refuse("padding", here, "bytes that are no zeros stand between a member's end and the next header")
        return self.view[begin : begin + size]

    def _header(self, block: bytes, here: int) -> tuple[int, int]:
        """Type and size (rules 1 and 2)."""
        if _sum_of(block) != "unsigned":
            self._refuse("checksum", here, "a header's checksum does not hold")
        magic = block[_MAGIC]
        if magic not in (_USTAR, _GNU, _OLD):
            self._refuse("header", here, "a header is neither ustar's nor GNU's")
        self._check_fields(block, magic, here)
        size = _number(block[_SIZE])
        if size is None:
            self._refuse("header", here, "a header's size is no number")
        return block[_TYPE] or ord("0"), size

    def _check_fields(self, block: bytes, magic: bytes, here: int) -> None:
        if any(block[part] != bytes(8) and _number(block[part]) is None for part in (*_NUMBERS, *_DEVICES)):
            self._refuse("header", here, "a header's field is no number")
        texts = [_NAME, _LINK, *_OWNERS] + ([_PREFIX] if magic == _USTAR else [])
        if any(block[part].rstrip(b"\0").find(b"\0") >= 0 for part in texts):
            self._refuse("header", here, "something stands behind the end of a header's text")
        rest = block[500:] if magic == _USTAR else block[_GNU_REST] if magic == _GNU else block[_PREFIX.start :]
        times = block[_GNU_TIMES] if magic == _GNU else b""
        if rest.strip(b"\0") or times.strip(b"01234567 \0"):
            self._refuse("header", here, "a header holds something where its format has nothing")

    def _extended(self, kind: int, data: memoryview, coming: _Coming, here: int) -> None:
        """Headers that say something of the next member, or (`g`) of all of them."""
        if kind == ord("L"):
            raw = bytes(data)
            if not raw.endswith(b"\0") or b"\0" in raw[:-1]:
                self._refuse("long-name", here, "a long name does not end with its only NUL")
            self._set_path(coming, raw[:-1], here)
            return
        for key, value in self._records(bytes(data), here):
            if key in ("path", "size") and kind == ord("x"):
                self._set(coming, key, value, here)
            elif not _plain_key(key):
                self._refuse("pax", here, f"a pax header holds `{shown(key)}`, which changes what a member is, or which no reader knows")
        coming.begun = coming.begun or kind == ord("x")

    def _set(self, coming: _Coming, key: str, value: bytes, here: int) -> None:
        if key == "path":
            self._set_path(coming, value, here)
        elif not value.isdigit() or len(value) > 20:
            self._refuse("pax", here, "a pax header's size is no number")
        else:
            coming.size = int(value)

    def _set_path(self, coming: _Coming, raw: bytes, here: int) -> None:
        if coming.path is not None or b"\0" in raw:
            self._refuse("long-name", here, "a member is given two long names, or one with a NUL in it")
        coming.path, coming.begun = self._text(raw, here), True

    def _records(self, data: bytes, here: int) -> Iterator[tuple[str, bytes]]:
        """`length key=value newline`, the length counting all of it (pax Header Block)."""
        seen: set[str] = set()
        begin = 0
        while begin < len(data):
            digits, space, _ = data[begin : begin + 12].partition(b" ")
            end = begin + int(digits) if digits.isdigit() else -1
            key, equals, value = data[begin + len(digits) + 1 : max(end - 1, 0)].partition(b"=")
            if not space or not equals or not key or end > len(data) or data[end - 1 : end] != b"\n":
                self._refuse("pax", here, "a pax header's record is damaged")
            name = self._text(key, here)
            if name in seen:
                self._refuse("pax", here, f"a pax header holds `{shown(name)}` twice")
            seen.add(name)
            yield name, value
            begin = end

    def _member(self, block: bytes, kind: int, here: int, size: int, coming: _Coming) -> Member:
        """Rules 3, 4 and 5."""
        name = coming.path if coming.path is not None else self._own_name(block, here)
        if coming.size is not None and coming.size != size:
            if coming.size < OCTAL_LIMIT:
                self._refuse("size", here, "its pax header and its own header state two sizes, and readers differ in which one they take")
            size = coming.size
        if kind not in b"05":
            what = _KINDS.get(kind, f"of type {kind:#04x}, which cannot be read")
            self._refuse("special-file", here, f"member `{shown(name)}` is {what}")
        is_folder = kind == ord("5") or name.endswith("/")
        if block[_LINK].strip(b"\0") or (is_folder and size):
            self._refuse(
                "special-file", here, f"member `{shown(name)}` is a file or folder, and yet has a link's target or a folder's bytes"
            )
        plain = name.removeprefix("./").removesuffix("/")
        if is_folder and plain in ("", "."):
            plain = ""
        else:
            self._check_name(plain, here, is_folder=is_folder)
        return Member(name=plain, size=size, header_at=here, data_at=here + BLOCK, is_folder=is_folder)

    def _check_name(self, name: str, here: int, *, is_folder: bool) -> None:
        why = fault_of(name, self.scope.settings.max_name_bytes)
        if why:
            self._refuse("name", here, f"member `{shown(name)}`: {why}")
        why = self._names.add(name, is_folder=is_folder)
        if why:
            self._refuse("duplicate-name", here, f"member `{shown(name)}`: {why}, and readers differ in which one they take")

    def _own_name(self, block: bytes, here: int) -> str:
        name = block[_NAME].rstrip(b"\0")
        prefix = block[_PREFIX].rstrip(b"\0") if block[_MAGIC] == _USTAR else b""
        return self._text(prefix + b"/" + name if prefix else name, here)

    def _text(self, raw: bytes, here: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self._refuse("name", here, "a name is not UTF-8, so readers differ in what it is")

    def _refuse(self, name: str, here: int, why: str) -> NoReturn:
        raise Refuse(f"{self.rule}:{name}", at(here), why, REMEDY)


_KINDS = {
    ord("1"): "a hard link", ord("2"): "a symbolic link", ord("3"): "a device", ord("4"): "a device", ord("6"): "a named pipe",
    ord("S"): "a sparse file", ord("M"): "the rest of a member of another volume", ord("K"): "a link with a long target",
}  # fmt: skip
_PLAIN_KEYS = frozenset(
    {
        "atime",
        "ctime",
        "mtime",
        "uid",
        "gid",
        "uname",
        "gname",
        "comment",
        "LIBARCHIVE.creationtime",
        "SCHILY.dev",
        "SCHILY.ino",
        "SCHILY.nlink",
    }
)
_PLAIN_PREFIXES = ("LIBARCHIVE.xattr.com.apple.", "SCHILY.xattr.com.apple.")
"""What macOS notes beside a file: where it came from."""


def _plain_key(key: str) -> bool:
    """Whether a pax key says only who, when and where from."""
    return key in _PLAIN_KEYS or key.startswith(_PLAIN_PREFIXES)


def _sum_of(block: bytes) -> str | None:
    """Which sum of the header's bytes, its own field counted as spaces, it states: the standard's, that of old writers, or none."""
    stated = _octal(block[_SUM])
    rest = block[: _SUM.start] + b" " * 8 + block[_SUM.stop :]
    total = sum(rest)
    if stated is None or not block[_SUM].strip(b" \0"):
        return None
    if stated == total:
        return "unsigned"
    return "signed" if stated == total - 256 * sum(byte > 127 for byte in rest) else None


def _octal(raw: bytes) -> int | None:
    """Octal digits, spaces before, spaces and NULs behind; nothing else."""
    digits = raw.lstrip(b" ").rstrip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _number(raw: bytes) -> int | None:
    """Octal, or GNU's binary form: the first bit set, then a number that is not negative."""
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    return _octal(raw)


def _zeros(view: memoryview) -> bool:
    return all(view[begin : begin + len(ZEROS)] == ZEROS[: len(view) - begin] for begin in range(0, len(view), len(ZEROS)))
