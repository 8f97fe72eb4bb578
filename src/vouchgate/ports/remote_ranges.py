"""One object behind an address, fetched by ranges into a private file that is never linked anywhere.

Rules
1. Size and version are fixed before anything is fetched (RFC 9110, sections 8.6 and 8.8.3). Each range is asked for under that version
   (`If-Match`), and must be exactly the range asked for, of a whole of that size; anything else ends it.
2. What is scanned and hashed is the copy, so that a server which shows every asker something else gains nothing: the digest names the copy.
3. A server without ranges is read only where the whole fits into one range.
4. A partial copy has the object's size, and zeros where nothing was fetched; who opens one knows how much is missing.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from vouchgate.ports.http import Answer
from vouchgate.vocabulary.errors import LimitExceeded, Unavailable

MAX_REMOTE_BYTES = 64 * 1024**3
"""Bytes of one artifact, as of a local one."""
RANGE_BYTES = 8 * 1024**2
"""Bytes asked for at once: held in memory, and lost where the line breaks."""
RANGE_SECONDS = 60.0
"""For one range: 140 KiB/s; slower is not waited for."""
AT_ONCE = 16
"""Small ranges asked for at once."""
SMALL_RANGE = 128 * 1024
"""Bytes of a small range: sixteen take 2 MiB of memory."""
RESERVE_BYTES = 256 * 1024**2
"""Bytes left free where the copy lies."""
NO_BODY = 10**18
"""Bound of an answer to HEAD, whose length is that of what it does not send."""
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")
REMEDY = "download it by other means and scan the file"

Ask = Callable[[str, str, Mapping[str, str], int], Awaitable[Answer]]
"""(method, address, headers, bytes of the answer at most) -> answer. Raises what asking raises."""
Fetched = Callable[[int, int], None]
"""Told of each range: bytes that came, and bytes of the whole."""


@dataclass(frozen=True)
class RemoteObject:
    """What is fetched, and how its server is asked."""

    url: str
    size: int
    version: str
    """A strong entity tag with its quotes; empty where there is none."""
    ask: Ask
    fetched: Fetched

    def whole(self) -> int:
        """A fresh descriptor on a whole copy. Raises `Unavailable`, what asking raises, and `OSError` of the disk."""
        with Copy(self) as copy:
            copy.need((0, self.size))
            return copy.again()


class Copy:
    """A private file with the parts that were asked for; the rest of it is zeros."""

    def __init__(self, of: RemoteObject) -> None:
        self.of, self.here = of, 0
        self._parts: list[tuple[int, int]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        os.ftruncate(self._file.fileno(), of.size)

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def need(self, *ranges: tuple[int, int]) -> None:
        """Have these bytes fetched, as far as they are not. Raises as `RemoteObject.whole`."""
        wanted: list[tuple[int, int]] = []
        for begin, end in _joined([(max(0, begin), min(end, self.of.size)) for begin, end in ranges]):
            wanted += _without(begin, end, self._parts)
        count = sum(last - first for first, last in wanted)
        room = os.fstatvfs(self._file.fileno())
        if room.f_bavail * room.f_frsize < count + RESERVE_BYTES:
            raise Unavailable(f"there is no room for a copy of {count} bytes", remedy="set TMPDIR to a larger disk")
        if wanted:
            asyncio.run(self._fetch(wanted))
        self._parts = _joined([*self._parts, *wanted])

    def read(self, begin: int, end: int) -> bytes:
        """These bytes, fetched if they were not."""
        begin, end = max(0, begin), min(end, self.of.size)
        self.need((begin, end))
        return os.pread(self._file.fileno(), max(0, end - begin), begin)

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """All of it for reading; what is fetched meanwhile appears in it. Not for an object of no bytes."""
        with mmap.mmap(self._file.fileno(), self.of.size, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            yield view

    def again(self) -> int:
        """A fresh read-only descriptor on it, which outlives this object."""
        return os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    async def _fetch(self, wanted: list[tuple[int, int]]) -> None:
        """In order; small ranges several at once, because each waits for the line and not for the bytes."""
        spans = [(begin, min(begin + RANGE_BYTES, last)) for first, last in wanted for begin in range(first, last, RANGE_BYTES)]
        room = asyncio.Semaphore(AT_ONCE if all(end - begin <= SMALL_RANGE for begin, end in spans) else 1)

        async def one(begin: int, end: int) -> None:
            async with room:
                await self._range(begin, end)

        await asyncio.gather(*(one(*span) for span in spans))

    async def _range(self, begin: int, end: int) -> None:
        headers = {"range": f"bytes={begin}-{end - 1}", "accept-encoding": "identity"}
        if self.of.version:
            headers["if-match"] = self.of.version
        answer = await self.of.ask("GET", self.of.url, headers, RANGE_BYTES)
        part, left = self._part(answer, begin, end), 0
        while left < len(part):
            left += os.pwrite(self._file.fileno(), memoryview(part)[left:], begin + left)
        self.here += len(part)
        self.of.fetched(len(part), self.of.size)

    def _part(self, answer: Answer, begin: int, end: int) -> bytes:
        """Rules 1 and 3."""
        of, etag = self.of, answer.headers.get("etag", "")
        if answer.status == 412 or (of.version and etag and etag != of.version):
            raise Unavailable("it was replaced while it was fetched", remedy="scan it again")
        if answer.status == 200 and begin == 0 and end == of.size and len(answer.body) == of.size:
            return answer.body
        found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
        told = tuple(int(number) for number in found.groups()) if found else ()
        if answer.status != 206 or told != (begin, end - 1, of.size) or len(answer.body) != end - begin:
            raise Unavailable(f"its server does not give the bytes {begin} to {end} when asked for them", remedy=REMEDY)
        return answer.body


def size_of(headers: Mapping[str, str], bound: int = MAX_REMOTE_BYTES) -> int:
    """What an answer says of the whole's length. Raises `Unavailable`, `LimitExceeded`."""
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Unavailable("its server does not say how many bytes it has", remedy=REMEDY)
    if int(text) > bound:
        raise LimitExceeded(f"it has {int(text)} bytes, the bound is {bound}", remedy=REMEDY)
    return int(text)


def strong(etag: str) -> str:
    """A strong entity tag as it is; empty for a weak or missing one (RFC 9110, section 8.8.1)."""
    return etag if etag and not etag.startswith("W/") else ""


def _without(begin: int, end: int, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of a range lies in none of the sorted, apart `parts`."""
    left: list[tuple[int, int]] = []
    for first, last in parts:
        if first < end and last > begin:
            if begin < first:
                left.append((begin, first))
            begin = max(begin, last)
    return [*left, (begin, end)] if begin < end else left


def _joined(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(part for part in parts if part[0] < part[1]):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
