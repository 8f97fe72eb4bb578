"""An artifact behind an https address: fetched by ranges into a private file that is never linked anywhere, and scanned there.

Rules
1. Only what `HttpClient` may ask: https (http on this machine alone), checked certificates and addresses, no private network, bounded times.
2. Redirects are followed before anything is fetched, at most `MAX_HOPS`, each target held to rule 1; a signed address behind one is never shown.
3. The answer to the first question fixes size and version (RFC 9110, sections 8.6 and 8.8.3). Each range is asked for under that version
   (`If-Match`), and must be exactly the range asked for, of a whole of that size; anything else ends it.
4. What is scanned and hashed is the copy, so that a server which shows every asker something else gains nothing: the digest names the copy.
5. A server without ranges is read only where the whole fits into one range.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin

from vouchgate.ports.artifact_files import Entry
from vouchgate.ports.http import Answer, Destination, HttpClient, origin_of
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

MAX_REMOTE_BYTES = 64 * 1024**3
"""Bytes of one artifact, as of a local one."""
RANGE_BYTES = 8 * 1024**2
"""Bytes asked for at once: held in memory, and lost where the line breaks."""
MAX_HOPS = 5
"""A model hub redirects to its storage, which may redirect once or twice."""
RANGE_SECONDS = 60.0
"""For one range: 140 KiB/s; slower is not waited for."""
RESERVE_BYTES = 256 * 1024**2
"""Bytes left free where the copy lies."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")
REMEDY = "download it by other means and scan the file"


class RemotePlace:
    """One address that the user named; asked for once when it is made."""

    is_folder = False

    def __init__(self, url: str, *, ca_file: str = "", private: bool = False, max_bytes: int = MAX_REMOTE_BYTES) -> None:
        """Raises `InvalidInput`, `NotPermitted`, `Unavailable`, `Unverified`, `LimitExceeded`."""
        self.path, self._ca_file, self._private = url, ca_file, private
        self._target, answer = asyncio.run(self._find(url))
        self._size = _size(answer, max_bytes)
        etag = answer.headers.get("etag", "")
        self._version = etag if etag and not etag.startswith("W/") else ""

    def entries(self) -> Iterator[Entry]:
        """The one artifact."""
        yield Entry(b"", self._size)

    def open(self, name: bytes) -> int:
        """A fresh descriptor on a whole copy. Raises as the constructor, and `OSError` of the disk."""
        del name
        with tempfile.TemporaryFile() as copy:
            room = os.fstatvfs(copy.fileno())
            if room.f_bavail * room.f_frsize < self._size + RESERVE_BYTES:
                raise Unavailable(f"there is no room for a copy of {self._size} bytes", remedy="set TMPDIR to a larger disk")
            asyncio.run(self._fetch(copy.fileno()))
            return os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Nothing is kept."""

    def _client(self, url: str) -> HttpClient:
        one = Destination(origin_of(url), self._ca_file, self._private)
        return HttpClient([one], total_seconds=RANGE_SECONDS)

    async def _find(self, url: str) -> tuple[str, Answer]:
        """Rule 2."""
        for _ in range(MAX_HOPS + 1):
            answer = await self._client(url).send("HEAD", url, headers={"accept-encoding": "identity"})
            if answer.status not in _REDIRECTS:
                if answer.status != 200:
                    raise Unavailable(
                        f"`{self.path[:200]}` answers with status {answer.status}", remedy="check the address, and whether it needs a login"
                    )
                return url, answer
            url = urljoin(url, answer.headers.get("location", ""))
        raise LimitExceeded(f"`{self.path[:200]}` redirects more than {MAX_HOPS} times", remedy="name the address that answers itself")

    async def _fetch(self, into: int) -> None:
        client, begin = self._client(self._target), 0
        while begin < self._size:
            end = min(begin + RANGE_BYTES, self._size)
            headers = {"range": f"bytes={begin}-{end - 1}", "accept-encoding": "identity"}
            if self._version:
                headers["if-match"] = self._version
            answer = await client.get(self._target, headers=headers, max_bytes=RANGE_BYTES)
            part = self._part(answer, begin, end)
            left = memoryview(part)
            while left:
                left = left[os.write(into, left) :]
            begin += len(part)

    def _part(self, answer: Answer, begin: int, end: int) -> bytes:
        """Rule 3 and 5."""
        etag = answer.headers.get("etag", "")
        if answer.status == 412 or (self._version and etag and etag != self._version):
            raise Unavailable("it was replaced while it was fetched", remedy="scan it again")
        if answer.status == 200 and begin == 0 and len(answer.body) == self._size:
            return answer.body
        found = _CONTENT_RANGE.match(answer.headers.get("content-range", ""))
        told = tuple(int(number) for number in found.groups()) if found else ()
        if answer.status != 206 or told != (begin, end - 1, self._size) or len(answer.body) != end - begin:
            raise Unavailable(f"its server does not give the bytes {begin} to {end} when asked for them", remedy=REMEDY)
        return answer.body


def _size(answer: Answer, bound: int) -> int:
    length = _plain_number(answer.headers)
    if length is None:
        raise Unavailable("its server does not say how many bytes it has", remedy=REMEDY)
    if length > bound:
        raise LimitExceeded(f"it has {length} bytes, the bound is {bound}", remedy=REMEDY)
    return length


def _plain_number(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def is_remote(path: str) -> bool:
    """Whether what the user named is an address. Raises `InvalidInput` for one that cannot be asked."""
    scheme, colon, _ = path.partition("://")
    if not colon or not scheme.isalnum():
        return False
    if scheme not in ("http", "https"):
        raise InvalidInput(
            f"`{scheme[:20]}://` is not an address that can be asked", remedy="use https, or a signed https address of the object"
        )
    return True
