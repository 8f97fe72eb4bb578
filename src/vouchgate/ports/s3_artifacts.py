"""Artifacts in an s3-compatible store: `s3://bucket/key` is one, `s3://bucket/prefix/` (or a bucket alone) is the folder of all below it.

Rules
1. Requests are signed (AWS Signature Version 4) where there is a key, and plain where there is none; no redirect leaves the endpoint, so that
   a signed request goes nowhere else. Addresses and certificates are held to what `HttpClient` asks for.
2. A bucket is named in the path at an endpoint of one's own, and in the host at AWS's, unless it is said otherwise; a bucket with a dot is
   always named in the path, because no certificate holds for its host.
3. A listing gives size and version of each object; what is fetched is that version (remote_ranges.py).
4. A key is a path in the folder only if it is one: no empty, `.` or `..` step, no NUL. Any other is told, and never opened. An object of no
   bytes whose key ends with `/` is a store's own mark of a folder.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from msgspec import Struct

from vouchgate.ports.artifact_files import Entry
from vouchgate.ports.http import Answer, Destination, HttpClient, origin_of
from vouchgate.ports.remote_ranges import MAX_REMOTE_BYTES, NO_BODY, RANGE_SECONDS, Fetched, RemoteObject, size_of, strong
from vouchgate.ports.remote_structure import parts_of
from vouchgate.protection.sigv4 import encoded, signed_headers
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, NotPermitted, Unavailable

MAX_OBJECTS = 100_000
"""Objects below one prefix; each takes about 400 bytes here."""
MAX_PAGE_BYTES = 8 * 1024**2
"""Bytes of a page of a listing: 1,000 keys of 1,024 bytes, each three characters long, and as much again."""
MAX_TEXT = 16_384
"""Characters of one value of a listing: a key has 1,024 bytes, encoded three times as many."""
DEFAULT_REGION = "us-east-1"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_REGION = re.compile(r"[a-z0-9-]{1,40}\Z")


class S3Access(Struct, frozen=True):
    """Where a store is, and who asks."""

    endpoint: str = ""
    """`https://host[:port]`; empty: AWS."""
    region: str = DEFAULT_REGION
    style: str = ""
    """`path` or `virtual`; empty by rule 2."""
    access_key: str = ""
    """Empty: requests are not signed."""
    secret_key: str = ""
    token: str = ""
    """Of a session."""
    ca_file: str = ""
    private: bool = False


class _Listed(Struct, frozen=True):
    """One object of a listing."""

    key: bytes
    size: int
    version: str


class S3Place:
    """One object or prefix that the user named; asked for, or listed, once when it is made."""

    def __init__(
        self,
        address: str,
        access: S3Access,
        *,
        now: Callable[[], int],
        whole: bool = True,
        fetched: Fetched = lambda count, size: None,
        max_bytes: int = MAX_REMOTE_BYTES,
    ) -> None:
        """Raises `InvalidInput`, `NotFound`, `NotPermitted`, `Unavailable`, `Unverified`, `LimitExceeded`."""
        self.path, self._access, self._now, self._whole, self._fetched = address, access, now, whole, fetched
        bucket, self._key = _apart(address)
        self._base = _base(access, bucket)
        self._client = Destination(origin_of(self._base), access.ca_file, access.private)
        self.is_folder = not self._key or self._key.endswith("/")
        self._objects: dict[bytes, RemoteObject] = {}
        self._missing: dict[bytes, int] = {}
        self._entries = list(self._listed(max_bytes)) if self.is_folder else [self._one(max_bytes)]

    def entries(self) -> Iterator[Entry]:
        """Everything below the prefix; the object itself."""
        yield from self._entries

    def open(self, name: bytes) -> int:
        """A fresh descriptor on a copy. Raises as the constructor, and `OSError` of the disk."""
        found = self._objects[name]
        if self._whole:
            return found.whole()
        descriptor, self._missing[name] = parts_of(found)
        return descriptor

    def missing(self, name: bytes) -> int:
        """Bytes that the copy opened last lacks."""
        return self._missing.get(name, 0)

    def close(self) -> None:
        """Nothing is kept."""

    def _one(self, max_bytes: int) -> Entry:
        url = f"{self._base}/{encoded(self._key, keep=b'/')}"
        answer = asyncio.run(self._ask("HEAD", url, {}, NO_BODY))
        self._check(answer)
        size = size_of(answer.headers, max_bytes)
        self._objects[b""] = RemoteObject(url, size, strong(answer.headers.get("etag", "")), self._ask, self._fetched)
        return Entry(b"", size)

    def _listed(self, max_bytes: int) -> Iterator[Entry]:
        """Rules 3 and 4."""
        prefix, seen = self._key.encode(), set[bytes]()
        for one in self._all():
            name = one.key.removeprefix(prefix)
            if not one.key.startswith(prefix) or name in seen:
                raise Unavailable("the store lists what was not asked for, or one key twice", remedy="list it by other means, and see")
            seen.add(name)
            if one.size == 0 and (not name or name.endswith(b"/")):
                continue
            trouble = "its key is no path in a folder" if _odd(name) else f"it has {one.size} bytes" if one.size > max_bytes else ""
            if not trouble:
                url = f"{self._base}/{encoded(one.key.decode('utf-8', 'replace'), keep=b'/')}"
                self._objects[name] = RemoteObject(url, one.size, one.version, self._ask, self._fetched)
            yield Entry(name, one.size, trouble)

    def _all(self) -> Iterator[_Listed]:
        """ListObjectsV2, page by page."""
        after, count = "", 0
        while True:
            asked = {"encoding-type": "url", "list-type": "2", "max-keys": "1000", "prefix": self._key}
            if after:
                asked["continuation-token"] = after
            query = "&".join(f"{name}={encoded(value)}" for name, value in sorted(asked.items()))
            answer = asyncio.run(self._ask("GET", f"{self._base}/?{query}", {}, MAX_PAGE_BYTES))
            self._check(answer)
            page = _Page(answer.body)
            count += len(page.objects)
            if count > MAX_OBJECTS:
                raise LimitExceeded(f"`{self.path[:200]}` holds more than {MAX_OBJECTS} objects", remedy="scan its folders one by one")
            yield from page.objects
            if not page.next or page.next == after:
                return
            after = page.next

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], max_bytes: int) -> Answer:
        """Rule 1."""
        access = self._access
        sent = {"accept-encoding": "identity", **headers}
        if access.access_key:
            given = {**headers, **({"x-amz-security-token": access.token} if access.token else {})}
            signed = signed_headers(
                method, url, given, b"",
                access_key=access.access_key, secret_key=access.secret_key, region=access.region, service="s3", now=self._now(),
            )  # fmt: skip
            sent |= {name: value for name, value in signed.items() if name != "host"}
        client = HttpClient([self._client], total_seconds=RANGE_SECONDS)
        return await client.send(method, url, headers=sent, max_bytes=max_bytes)

    def _check(self, answer: Answer) -> None:
        """What a status means here. Raises unless it is 200."""
        if answer.status == 200:
            return
        shown, region = self.path[:200], answer.headers.get("x-amz-bucket-region", "")
        if answer.status == 404:
            raise NotFound(f"`{shown}` is not in the store", remedy="check bucket and key; end a prefix with `/` to scan all below it")
        if region and region != self._access.region and _REGION.match(region):
            raise NotPermitted(f"the bucket of `{shown}` lies in another region", remedy=f"--s3-region {region}")
        if answer.status in (401, 403):
            raise NotPermitted(f"the store does not let `{shown}` be read", remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        raise Unavailable(f"`{shown}`: the store answers with status {answer.status}", remedy="check endpoint, region and `--s3-style`")


def _apart(address: str) -> tuple[str, str]:
    """Bucket and key. Raises `InvalidInput`."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not _BUCKET.match(bucket) or ".." in bucket:
        raise InvalidInput(f"`{bucket[:64]}` is no bucket", remedy="write s3://bucket/key")
    if (
        len(key.encode("utf-8", "surrogatepass")) > 1_024
        or "\0" in key
        or (key.rstrip("/") and _odd(key.rstrip("/").encode(errors="replace")))
    ):
        raise InvalidInput(f"`{key[:64]}` is no key that can be asked for", remedy="write s3://bucket/key")
    return bucket, key


def _base(access: S3Access, bucket: str) -> str:
    """The bucket's address (rule 2). Raises `InvalidInput`."""
    if not _REGION.match(access.region):
        raise InvalidInput(f"`{access.region[:64]}` is no region", remedy="as in us-east-1")
    endpoint = (access.endpoint or f"https://s3.{access.region}.amazonaws.com").rstrip("/")
    origin_of(endpoint)
    if "?" in endpoint:
        raise InvalidInput(f"`{endpoint[:100]}` is no endpoint", remedy="write https://host[:port]")
    virtual = access.style == "virtual" or (not access.style and not access.endpoint)
    if not virtual or "." in bucket:
        return f"{endpoint}/{bucket}"
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{bucket}.{host}"


def _odd(name: bytes) -> bool:
    """Rule 4."""
    return b"\0" in name or any(step in (b"", b".", b"..") for step in name.split(b"/"))


class _Page:
    """One page of a listing (ListObjectsV2, API version 2006-03-01). No document type, so nothing of its own is expanded. Raises `Unavailable`."""

    def __init__(self, body: bytes) -> None:
        self.objects: list[_Listed] = []
        self.next = ""
        self._path: list[str] = []
        self._text = ""
        self._values: dict[str, str] = {}
        self._top: dict[str, str] = {}
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._begin, self._end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = self._characters, self._doctype
        try:
            parser.Parse(body, True)
            self._close()
        except (expat.ExpatError, ValueError) as error:
            raise Unavailable(f"the store's listing cannot be read: {str(error)[:100]}", remedy="check the endpoint") from None

    def _close(self) -> None:
        if self._top.get("IsTruncated") == "true":
            self.next = self._top.get("NextContinuationToken", "")
            if not self.next:
                raise ValueError("it is cut off, and does not say where it goes on")

    def _begin(self, name: str, _: Mapping[str, str]) -> None:
        self._path.append(name.rpartition(" ")[2])
        self._text = ""
        if len(self._path) > 8:
            raise ValueError("it is nested too deeply")
        if self._path == ["ListBucketResult", "Contents"]:
            self._values = {}
        elif self._path[0] != "ListBucketResult":
            raise ValueError("it is no listing")

    def _characters(self, text: str) -> None:
        self._text += text
        if len(self._text) > MAX_TEXT:
            raise ValueError("one of its values is too long")

    def _end(self, _: str) -> None:
        path, text, self._text = tuple(self._path), self._text, ""
        self._path.pop()
        if len(path) == 2 and path[1] != "Contents":
            self._top[path[1]] = text
        elif len(path) == 3 and path[1] == "Contents":
            self._values[path[2]] = text
        elif path == ("ListBucketResult", "Contents"):
            self._add()

    def _add(self) -> None:
        key, size = self._values.get("Key", ""), self._values.get("Size", "")
        if not key or not (size.isascii() and size.isdigit() and len(size) <= 18):
            raise ValueError("an object of it has no key or no size")
        self.objects.append(_Listed(unquote_to_bytes(key.replace("+", " ")), int(size), strong(self._values.get("ETag", ""))))

    def _doctype(self, *_: object) -> None:
        raise ValueError("it has a document type")
