"""Secrets that lie in files: read only where nobody else can read them.

Rules
1. A regular file with one link, owned by this process's uid, 0600 or narrower; anything wider is refused, never corrected, because a secret that
   others could read must be replaced.
2. Nothing follows a symbolic link in the last step; at most `MAX_BYTES`; one final line break is not part of the secret.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vouchgate.vocabulary.errors import NotPermitted, Unavailable

MAX_BYTES = 16 * 1024
"""Bytes of a secret: a private key as PEM has about 1 KiB."""


def read_secret(path: Path) -> bytes:
    """The secret. Raises `NotPermitted` for a file that others can read, `Unavailable` for one that is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Unavailable(
            f"the secret file `{path.name}` cannot be opened: {error.strerror}", remedy=f"make it 0600 and owned by uid {os.geteuid()}"
        ) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1 or facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o177:
            raise NotPermitted(
                f"the secret file `{path.name}` is not a 0600 file of uid {os.geteuid()}",
                remedy=f"if nobody else read it: chown {os.geteuid()} and chmod 600; otherwise replace the secret",
            )
        data = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES or not data.strip():
        raise Unavailable(f"the secret file `{path.name}` is empty or too large", remedy="write the secret into it, and nothing else")
    return data.removesuffix(b"\n").removesuffix(b"\r")
