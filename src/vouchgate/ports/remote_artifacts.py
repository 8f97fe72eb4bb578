"""An artifact behind an https address: fetched by ranges into a private file (remote_ranges.py), and scanned there.

Rules
1. Only what `HttpClient` may ask: https (http on this machine alone), checked certificates and addresses, bounded times. Authorities of one's
   own, and a private network, count for the server that was named, never for one that it redirects to.
2. Redirects are followed before anything is fetched, at most `MAX_HOPS`, each target held to rule 1; a signed address behind one is never shown.
3. A structure scan fetches what it needs (remote_structure.py), any other scan the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from urllib.parse import urljoin

from vouchgate.ports.artifact_files import Entry
from vouchgate.ports.http import Answer, Destination, HttpClient, origin_of
from vouchgate.ports.remote_ranges import MAX_REMOTE_BYTES, NO_BODY, RANGE_SECONDS, Fetched, RemoteObject, size_of, strong
from vouchgate.ports.remote_structure import parts_of
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unavailable

MAX_HOPS = 5
"""A model hub redirects to its storage, which may redirect once or twice."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RemotePlace:
    """One address that the user named; asked for once when it is made."""

    is_folder = False

    def __init__(
        self,
        url: str,
        *,
        ca_file: str = "",
        private: bool = False,
        max_bytes: int = MAX_REMOTE_BYTES,
        whole: bool = True,
        fetched: Fetched = lambda count, size: None,
    ) -> None:
        """Raises `InvalidInput`, `NotPermitted`, `Unavailable`, `Unverified`, `LimitExceeded`."""
        self.path, self._whole = url, whole
        self._named = Destination(origin_of(url), ca_file, private)
        target, answer = asyncio.run(self._find(url))
        self._object = RemoteObject(target, size_of(answer.headers, max_bytes), strong(answer.headers.get("etag", "")), self._ask, fetched)
        self._missing = 0

    def entries(self) -> Iterator[Entry]:
        """The one artifact."""
        yield Entry(b"", self._object.size)

    def open(self, name: bytes) -> int:
        """A fresh descriptor on a copy. Raises as the constructor, and `OSError` of the disk."""
        del name
        if self._whole:
            return self._object.whole()
        descriptor, self._missing = parts_of(self._object)
        return descriptor

    def missing(self, name: bytes) -> int:
        """Bytes that the copy opened last lacks."""
        del name
        return self._missing

    def close(self) -> None:
        """Nothing is kept."""

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], max_bytes: int) -> Answer:
        origin = origin_of(url)
        one = self._named if origin == self._named.origin else Destination(origin)
        return await HttpClient([one], total_seconds=RANGE_SECONDS).send(method, url, headers=headers, max_bytes=max_bytes)

    async def _find(self, url: str) -> tuple[str, Answer]:
        """Rule 2."""
        for _ in range(MAX_HOPS + 1):
            answer = await self._ask("HEAD", url, {"accept-encoding": "identity"}, NO_BODY)
            if answer.status not in _REDIRECTS:
                if answer.status != 200:
                    raise Unavailable(
                        f"`{self.path[:200]}` answers with status {answer.status}", remedy="check the address, and whether it needs a login"
                    )
                return url, answer
            url = urljoin(url, answer.headers.get("location", ""))
        raise LimitExceeded(f"`{self.path[:200]}` redirects more than {MAX_HOPS} times", remedy="name the address that answers itself")


def is_remote(path: str) -> bool:
    """Whether what the user named is an address. Raises `InvalidInput` for one that cannot be asked."""
    scheme, colon, _ = path.partition("://")
    if not colon or not scheme.isalnum():
        return False
    if scheme not in ("http", "https", "s3"):
        raise InvalidInput(f"`{scheme[:20]}://` is not an address that can be asked", remedy="use https or s3")
    return True
