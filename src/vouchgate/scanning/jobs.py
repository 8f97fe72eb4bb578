"""What a scanner process is asked: the words on the socket between whoever scans and the process that reads one artifact.

Rules
1. Whoever asks is trusted, what it passes on is not: names of files are bytes, never paths to open.
2. Files come as descriptors, in batches, each batch with the names of its files; an empty batch ends them.
3. The answer is one `ScanReport`, then `ENDED` and the exit status, which is written by whoever waited for the process, not by itself.
4. A job that `asks` says first what its verdict would rest on (`ASKS`, a length, a `Question`), and goes on only if one byte says `UNKNOWN`.
"""

from __future__ import annotations

from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.wire import Noun

BATCH = 200
"""Descriptors in one message; the kernel takes 253 (unix(7), SCM_RIGHTS)."""
MAX_FILES = 10_000
"""Files of one folder that is one artifact; each is a mapping of its own, of which a process may have 65,530."""
MAX_REPORT_BYTES = 4 * 1024 * 1024
"""Bytes of a report: twenty reasons, 2,000 members and the facts of a model take at most about 2 MiB."""
SNAPSHOT_BYTES = 1024 * 1024
"""A file of up to so many bytes is copied into the process before it is looked at; a larger one is mapped."""
ENDED = b"vgended1"
"""Stands before the exit status, a signed 32-bit integer in network order."""

ASKS = b"vgasks01"
"""Stands before a question's length, an unsigned 32-bit integer in network order."""
MAX_QUESTION_BYTES = 4_096
"""Bytes of a question: a few digests."""
KNOWN, UNKNOWN = b"k", b"u"
"""Whether the verdict is known already."""


class Job(Noun, frozen=True, kw_only=True):
    """One artifact."""

    name: str = ""
    """For display."""
    folder: bool = False
    """The files are one artifact together; else there is exactly one file."""
    deep: bool = True
    """False: neither hashed nor read to the end; the verdict is then never clean."""
    settings: ScanSettings = DEFAULTS
    allowed: dict[str, tuple[Entry, ...]] = {}
    """Names that somebody answers for, by the text of the digest of the one artifact they count for (knowledge/overlay.py)."""

    explain: bool = False
    """Tell each name that was looked up in the knowledge base."""
    asks: bool = False
    """Hash first, and ask whether the verdict is known (rule 4); of a deep job alone."""


class Question(Noun, frozen=True, kw_only=True):
    """What a verdict rests on, as the process that would find it says."""

    digest: Digest
    scanner: str
    knowledge: str
    """Digest of the knowledge base, with what is allowed for this content."""
    settings: str


class Batch(Noun, frozen=True, kw_only=True):
    """The files of the descriptors that came with it, by name inside the folder."""

    names: tuple[bytes, ...] = ()
