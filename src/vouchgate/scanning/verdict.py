"""Verdict: what a scan of some bytes says, and why.

Rules
1. `clean` needs no reason against and every byte explained by the format's structure; anything less is not clean.
2. A reason names where, which rule, why it matters and what to do; it is written for the person who owns the artifact.
3. A verdict binds to content, not to a name: `name` is for display and never decides.
"""

from __future__ import annotations

from typing import Any, Literal

from vouchgate.scanning.asked import AskedName
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.wire import Noun

Outcome = Literal["clean", "refused", "review", "incomplete"]
"""`review`: nothing acts by itself, a person must look. `incomplete`: the scan did not get to the end, so nothing is known."""
Weight = Literal["refused", "review", "incomplete"]

SCANNER_VERSION = "2"
"""Rises whenever a rule changes, so that claims made by a weaker rule can be found."""
MAX_REASONS = 20
"""Reasons kept in one verdict; one is enough to refuse, twenty are enough to repair."""


class Reason(Noun, frozen=True, kw_only=True):
    """One thing that speaks against the artifact."""

    rule: str
    """Stable name, `<format>:<rule>`."""
    where: str
    """`offset <n>`, a member's name, or a node."""
    why: str
    remedy: str
    weight: Weight = "refused"
    member: str = ""
    """Path of the member inside a folder or archive, `!/` between containers; empty for the artifact itself. `where` is a place in it."""


class Reading(Noun, frozen=True, kw_only=True):
    """What one format's plug-in made of the bytes."""

    covered: int = 0
    """Bytes that the structure explains."""
    reasons: tuple[Reason, ...] = ()
    facts: dict[str, Any] = {}
    """Plain values for the `structure` vouch: counts, sizes, versions."""


class Verdict(Noun, frozen=True, kw_only=True):
    """The answer of `scan`."""

    outcome: Outcome
    format: str
    """`safetensors`, `onnx`, a pickle-family container, `polyglot` or `unknown`."""
    name: str = ""
    size: int
    covered: int = 0
    reasons: tuple[Reason, ...] = ()
    facts: dict[str, Any] = {}
    scanner_version: str = SCANNER_VERSION
    settings_digest: str = ""
    knowledge_version: int = 0
    knowledge_digest: str = ""
    """Of the knowledge base that was asked, user list included."""
    members: dict[str, str] = {}
    """Members of a folder or archive and the format each was read as; the first 2,000."""


class Refuse(Exception):
    """Raised inside a format's plug-in to end its reading; `scan` turns it into a verdict."""

    def __init__(self, rule: str, where: str, why: str, remedy: str, weight: Weight = "refused") -> None:
        super().__init__(why)
        self.reason = Reason(rule=rule, where=where, why=why, remedy=remedy, weight=weight)


def at(offset: int) -> str:
    """A place in the bytes, for `Reason.where`."""
    return f"offset {offset}"


def outcome_of(reading: Reading, size: int) -> Outcome:
    """Rule 1: the heaviest reason, and never clean on incomplete coverage."""
    weights = {reason.weight for reason in reading.reasons}
    if "refused" in weights:
        return "refused"
    if "incomplete" in weights or reading.covered != size:
        return "incomplete"
    return "review" if weights else "clean"


class ScanReport(Noun, frozen=True, kw_only=True):
    """What the scanner process says about one file: its verdict, and the digest of the very bytes it read."""

    verdict: Verdict
    digest: Digest
    confinement: tuple[str, ...] = ()
    """What held the process while it read: `seccomp`, `no-network`, `own-uid`."""
    names: tuple[AskedName, ...] = ()
    """Names that were looked up, where the job wanted to be explained."""

    @property
    def size(self) -> int:
        """Bytes read."""
        return self.digest.size

    @property
    def format(self) -> str:
        """The format that the content is."""
        return self.verdict.format


def unfinished(name: str, size: int, why: str, remedy: str) -> Verdict:
    """The verdict where the scan itself did not end: nothing is known, so nothing is clean."""
    reason = Reason(rule="scan:unfinished", where="whole artifact", why=why, remedy=remedy, weight="incomplete")
    return Verdict(outcome="incomplete", format="unknown", name=name, size=size, reasons=(reason,))
