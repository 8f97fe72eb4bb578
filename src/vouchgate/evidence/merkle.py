"""Manifests: what content is, piece by piece, so that one tensor or one changed file is verified or hashed again alone.

Rules
1. A file is parted: a safetensors file into its header and its tensors, any other into one part. A part is hashed in chunks of one size.
2. Roots are Merkle tree hashes (RFC 6962, section 2.1): leaves behind a zero byte, nodes behind a one. A part's root is over its chunks, a file's
   over its parts (name, range, root), the manifest's over its files (path, size, SHA-256, root) in the order of their paths' bytes.
3. The document has one spelling, and is read whole: every path once and relative, every part behind the one before it without a gap, and as many
   chunks as its range has. A manifest that leaves a byte out is no manifest.
4. Stamps (size, times, inode) are what a person may choose to believe instead of reading a file again. They are no content: no root covers them.
Left to others: reading files (flows/measure.py), and who says so (a signature over the document, or a vouch of its digest).
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from vouchgate.vocabulary.digests import Digest, structure_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import Noun, encode

TYPE = "https://vouchgate.dev/manifest/v1"
CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of one chunk: one flipped bit costs a reading of 4 MiB, and 1 TiB has 262,144 chunks (17 MB of digests)."""
MAX_CHUNK_BYTES = 1 << 30
"""Bytes of one chunk of a manifest that is read; a chunk is held in memory."""
MAX_MANIFEST_BYTES = 512 * 1024 * 1024
"""Bytes of the document: 1 TiB in 1,000,000 files stays below."""
MAX_PATH_BYTES = 4096
"""Bytes of one path: PATH_MAX of Linux."""
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_REMEDY = "write the manifest again with `vouchgate digest PATH --manifest OUT`"


class Part(Noun, frozen=True, kw_only=True):
    """A range of a file: a tensor, the header, or all of it."""

    name: str
    """The tensor's name; empty for a header or a file without tensors."""
    begin: int
    end: int
    chunks: tuple[str, ...]
    """SHA-256 of each chunk, in hexadecimal digits."""


class FileEntry(Noun, frozen=True, kw_only=True):
    """One file."""

    path: str
    """Relative, with `/`; empty where the manifest is of one file alone."""
    size: int
    sha256: str
    parts: tuple[Part, ...]


class Stamp(Noun, frozen=True, kw_only=True):
    """What the file system said of a file when it was hashed (rule 4)."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Manifest(Noun, frozen=True, kw_only=True):
    """The document."""

    type: str = TYPE
    chunk_bytes: int = CHUNK_BYTES
    files: tuple[FileEntry, ...]
    stamps: dict[str, Stamp] = {}


class Change(Noun, frozen=True, kw_only=True):
    """How content differs from its manifest."""

    kind: str
    """`added`, `removed` or `changed`."""
    path: str
    part: str = ""
    """The tensor's name, where one tensor differs."""
    begin: int = 0
    end: int = 0
    """The chunk that differs; both 0 where the whole file does."""


_decoder = msgspec.json.Decoder(Manifest)


def chunk_ranges(begin: int, end: int, chunk_bytes: int) -> Iterator[tuple[int, int]]:
    """The chunks of one part."""
    for start in range(begin, end, chunk_bytes):
        yield start, min(start + chunk_bytes, end)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash of the leaves' contents (rule 2), level by level: no recursion, O(n)."""
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        level = [
            hashlib.sha256(b"\x01" + b"".join(level[i : i + 2])).digest() if i + 1 < len(level) else level[i]
            for i in range(0, len(level), 2)
        ]
    return level[0]


def part_root(part: Part) -> bytes:
    """Rule 2."""
    return merkle_root([bytes.fromhex(chunk) for chunk in part.chunks])


def file_root(file: FileEntry) -> bytes:
    """Rule 2."""
    return merkle_root([_sized(part.name) + struct.pack("!QQ", part.begin, part.end) + part_root(part) for part in file.parts])


def manifest_digest(manifest: Manifest) -> Digest:
    """What the manifest is called. Stamps do not count."""
    leaves = [_sized(file.path) + struct.pack("!Q", file.size) + bytes.fromhex(file.sha256) + file_root(file) for file in manifest.files]
    body = struct.pack("!QQ", manifest.chunk_bytes, len(leaves)) + merkle_root(leaves)
    return structure_digest("manifest", body, size=sum(file.size for file in manifest.files))


def content_digest(manifest: Manifest) -> Digest:
    """The file's own digest, or the folder's tree digest."""
    files = [(file.path, Digest(value=file.sha256, size=file.size)) for file in manifest.files]
    if len(files) == 1 and not files[0][0]:
        return files[0][1]
    return tree_digest((path.encode(), digest) for path, digest in files)


def write_manifest(manifest: Manifest) -> bytes:
    """The one spelling. Raises `InvalidInput` for what is no manifest."""
    _check(manifest)
    return encode(manifest)


def read_manifest(data: bytes) -> Manifest:
    """Rule 3. Raises `InvalidInput`."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise InvalidInput(f"the manifest has {len(data)} bytes, the bound is {MAX_MANIFEST_BYTES}", remedy="use larger chunks")
    try:
        manifest = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"the manifest cannot be read: {error}", remedy=_REMEDY) from None
    _check(manifest)
    if encode(manifest) != data:
        raise InvalidInput("the manifest is not in its canonical form", remedy=_REMEDY)
    return manifest


def compare(before: Manifest, now: Manifest) -> tuple[Change, ...]:
    """What is different, in the order of paths; nothing where the content is the same."""
    if before.chunk_bytes != now.chunk_bytes:
        raise InvalidInput("the manifests have chunks of different sizes", remedy="hash with the older manifest's chunk size")
    old, new = {file.path: file for file in before.files}, {file.path: file for file in now.files}
    found: list[Change] = []
    for path in sorted(old.keys() | new.keys(), key=str.encode):
        if path not in new:
            found.append(Change(kind="removed", path=path))
        elif path not in old:
            found.append(Change(kind="added", path=path))
        elif old[path] != new[path]:
            found += _changes(old[path], new[path], before.chunk_bytes)
    return tuple(found)


def compare_part(path: str, before: Part, now: Part, chunk_bytes: int) -> tuple[Change, ...]:
    """The chunks of one range that differ."""
    ranges = chunk_ranges(before.begin, before.end, chunk_bytes)
    return tuple(
        Change(kind="changed", path=path, part=before.name, begin=begin, end=end)
        for (begin, end), old, new in zip(ranges, before.chunks, now.chunks, strict=True)
        if old != new
    )


def find_part(manifest: Manifest, path: str, part: str | None) -> tuple[FileEntry, tuple[Part, ...]]:
    """One file and its parts, or one tensor of it. Raises `InvalidInput` where there is none."""
    file = next((one for one in manifest.files if one.path == path), None)
    parts = () if file is None else tuple(one for one in file.parts if part is None or one.name == part)
    if file is None or (part is not None and not parts):
        what = f"tensor `{(part or '')[:100]}` of `{path[:200]}`" if file else f"file `{path[:200]}`"
        raise InvalidInput(f"the manifest has no {what}", remedy="name one that it has: `vouchgate digest --tree` lists them")
    return file, parts


def _changes(old: FileEntry, new: FileEntry, chunk_bytes: int) -> Iterable[Change]:
    if [(one.name, one.begin, one.end) for one in old.parts] != [(one.name, one.begin, one.end) for one in new.parts]:
        return (Change(kind="changed", path=old.path),)
    found = [
        change for before, now in zip(old.parts, new.parts, strict=True) for change in compare_part(old.path, before, now, chunk_bytes)
    ]
    return found or (Change(kind="changed", path=old.path),)


def _sized(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!Q", len(raw)) + raw


def _check(manifest: Manifest) -> None:
    if manifest.type != TYPE or not 1 <= manifest.chunk_bytes <= MAX_CHUNK_BYTES or not manifest.files:
        raise InvalidInput("the manifest is of another type, has no files, or impossible chunks", remedy=_REMEDY)
    last = None
    for file in manifest.files:
        path = _encoded(file.path)
        if last is not None and path <= last:
            raise InvalidInput(f"`{file.path[:200]}` stands twice in the manifest, or out of order", remedy=_REMEDY)
        if (file.path or len(manifest.files) > 1) and not is_relative(file.path):
            raise InvalidInput(f"`{file.path[:200]!r}` is not a path inside a folder", remedy="rename it, and write the manifest again")
        last = path
        _check_parts(file, manifest.chunk_bytes)
    if not manifest.stamps.keys() <= {file.path for file in manifest.files}:
        raise InvalidInput("the manifest has stamps of files that it does not have", remedy=_REMEDY)


def is_relative(path: str) -> bool:
    """Whether a path stays inside its folder and has one spelling."""
    if not path or len(_encoded(path)) > MAX_PATH_BYTES or "\x00" in path:
        return False
    return all(step not in ("", ".", "..") for step in path.split("/"))


def _check_parts(file: FileEntry, chunk_bytes: int) -> None:
    here, names = 0, set()
    for part in file.parts:
        count = -(-(part.end - part.begin) // chunk_bytes)
        if part.begin != here or part.end < here or len(part.chunks) != count or part.name in names:
            raise InvalidInput(f"the parts of `{file.path[:200]}` overlap, leave a gap or stand twice", remedy=_REMEDY)
        if not all(_HEX.match(chunk) for chunk in part.chunks):
            raise InvalidInput(f"a digest of `{file.path[:200]}` is malformed", remedy=_REMEDY)
        _encoded(part.name)
        here = part.end
        names.add(part.name)
    if here != file.size or not _HEX.match(file.sha256):
        raise InvalidInput(f"the parts of `{file.path[:200]}` are not all of it", remedy=_REMEDY)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"`{text[:200]!a}` is not UTF-8", remedy="rename it") from None
