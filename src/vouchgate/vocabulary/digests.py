"""Digests: what content is called.

A file's digest is the plain SHA-256 of its bytes, so that every other tool agrees on it. The other kinds hash a structure, not a file;
their text form carries the kind (`sha256-tree:...`) and their preimage starts with a domain tag, so no file can pass for a tree.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from typing import Literal

from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import Noun

DigestKind = Literal["file", "tree", "manifest", "composite"]
_TEXT = re.compile(r"sha256(?:-(tree|manifest|composite))?:([0-9a-f]{64})\Z")


class Digest(Noun, frozen=True, kw_only=True):
    """The name of some content."""

    algorithm: Literal["sha256"] = "sha256"
    value: str
    """64 lower-case hexadecimal digits."""
    kind: DigestKind = "file"
    size: int = 0
    """Bytes of the content (for structures: of all their files); 0 where it is not known."""

    @property
    def text(self) -> str:
        """`sha256:<hex>` for a file, `sha256-<kind>:<hex>` for a structure. Size is not part of the name."""
        return f"sha256:{self.value}" if self.kind == "file" else f"sha256-{self.kind}:{self.value}"


def parse_digest(text: str, *, size: int = 0) -> Digest:
    """Read `sha256:<hex>` or `sha256-tree:<hex>`. Raises `InvalidInput`."""
    match = _TEXT.match(text)
    if not match:
        raise InvalidInput(f"`{text[:100]}` is not a digest", remedy="write sha256:<64 lower-case hexadecimal digits>")
    return Digest(value=match[2], kind=match[1] or "file", size=size)  # type: ignore[arg-type]


def structure_digest(kind: DigestKind, body: bytes, *, size: int = 0) -> Digest:
    """Hash a structure's canonical bytes under its kind's domain tag."""
    if kind == "file":
        raise InvalidInput("a file is hashed as it is", remedy="use `file_digest`")
    tagged = hashlib.sha256(b"vouchgate/" + kind.encode() + b"/v1\x00" + body)
    return Digest(value=tagged.hexdigest(), kind=kind, size=size)


def file_digest(data: bytes) -> Digest:
    """Hash a file's bytes."""
    return Digest(value=hashlib.sha256(data).hexdigest(), size=len(data))


def tree_digest(files: Iterable[tuple[bytes, Digest]]) -> Digest:
    """Name a folder by its files: (relative path with `/`, digest with size), in any order.

    Canonical bytes: for each file in the order of its path's bytes, the path behind its length (64 bits, network order), the SHA-256, the size
    (64 bits). Raises `InvalidInput` where a path stands twice or a digest is no file's.
    """
    body, size, last = bytearray(), 0, None
    for path, digest in sorted(files, key=lambda one: one[0]):
        if path == last or digest.kind != "file":
            raise InvalidInput("a folder names each of its files once", remedy="name it by its files' own digests")
        body += struct.pack("!Q", len(path)) + path + bytes.fromhex(digest.value) + struct.pack("!Q", digest.size)
        size, last = size + digest.size, path
    return structure_digest("tree", bytes(body), size=size)
