"""A sealed copy of a file: the bytes that were hashed are the bytes that are read, whoever owned the file.

Rules
1. The file is opened once (no symbolic link in the last step, regular files only) and read once, into a memfd, hashed on the way.
2. The memfd is sealed against writing, growing and shrinking (memfd_create(2), fcntl(2) F_ADD_SEALS) before its digest is compared.
3. The descriptor, not a path, is handed to whoever loads the model.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from pathlib import Path

from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified

CHUNK_BYTES = 1024 * 1024
"""Read at a time; large enough for the disk, small enough for the cache."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_copy(path: Path, expected: Digest | None = None) -> tuple[int, Digest]:
    """(descriptor of the sealed copy, its digest). Raises `Unverified` where the digest is not the expected one."""
    try:
        # a pipe in the place of the file must not hold us up
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be opened: {error.strerror}", remedy="name a regular file that can be read") from None
    target = -1
    try:
        facts = os.fstat(source)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput(f"`{path}` is not a regular file", remedy="name a regular file")
        target = os.memfd_create("vouchgate-model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        digest = _copy(source, target, facts.st_size)
        if digest.size != facts.st_size:
            raise InvalidInput(f"`{path}` changed while it was read", remedy="wait until it is written, then name it again")
        fcntl.fcntl(target, fcntl.F_ADD_SEALS, _SEALS)
        if expected is not None and digest.text != expected.text:
            raise Unverified(f"`{path}` is {digest.text}, not {expected.text}", remedy="import the file again; it was changed")
        os.fchmod(target, 0o444)
        return target, digest
    except BaseException:
        if target >= 0:
            os.close(target)
        raise
    finally:
        os.close(source)


def _copy(source: int, target: int, bound: int) -> Digest:
    """Everything there is; of a file that grows meanwhile one byte over `bound`, so that it shows."""
    hashing, size = hashlib.sha256(), 0
    while chunk := os.read(source, min(CHUNK_BYTES, bound + 1 - size)):
        hashing.update(chunk)
        size += len(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
    return Digest(value=hashing.hexdigest(), size=size)
