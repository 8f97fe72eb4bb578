"""Scope: what one scan may use and spend, and the way from a container into what it holds.

Rules
1. One budget for a whole artifact, however deep: bytes unpacked, members, nesting. Whoever unpacks pays before the bytes exist.
2. `inner` scans a member exactly as a file is scanned: recognised by content, read by one format, every byte accounted for. Its reasons are
   kept here under its name; a container adds its own to its `Reading`.
3. A member that must be of a certain format says so with `only`; anything else in its place is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from vouchgate.scanning.knowledge.entries import Knowledge
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import MAX_REASONS, Reading, Reason, Refuse

UNPACK_REMEDY = "unpack it yourself, look at what is inside and scan that, or raise the bound in the scan's settings"


@dataclass
class Budget:
    """What is left to spend (rule 1)."""

    unpacked_bytes: int
    members: int


class Inner(NamedTuple):
    """What a member was read as, and what its format made of it."""

    kind: str
    reading: Reading


@dataclass
class Scope:
    """Handed to every format's `read`."""

    settings: ScanSettings
    knowledge: Knowledge
    read_inner: Callable[[str, memoryview, Scope, Collection[str]], tuple[str, Reading]]
    """(name, bytes, scope, only) -> (kind, reading): scan.py's steps 1 to 3, one level further in."""
    plugins: Any
    """The formats asked (catalog.py)."""
    budget: Budget
    deep: bool = True
    """False: only the structure is looked at, checksums over data are not computed; the verdict is then never clean."""
    path: tuple[str, ...] = ()
    """Members on the way here, outermost first."""
    reasons: list[Reason] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    """Member -> the format it was read as, for the facts alone (a rule asks what `inner` gave); the first `MAX_KINDS`."""

    def inner(self, name: str, view: memoryview, *, only: Collection[str] = ()) -> Inner:
        """Scan a member (rule 2). Raises `Refuse` where the budget is spent."""
        if len(self.path) >= self.settings.max_nesting:
            raise Refuse(
                "scan:too-deep",
                f"member `{shown(name)}`",
                f"members lie deeper than {self.settings.max_nesting} within each other",
                UNPACK_REMEDY,
            )
        self.spend_member(name)
        kind, reading = self.read_inner(name, view, self, only)
        if len(self.kinds) < MAX_KINDS:
            self.kinds[self.place(name)] = kind
        return Inner(kind, reading)

    def spend_member(self, name: str) -> None:
        """Pay for one member. Raises `Refuse`."""
        self.budget.members -= 1
        if self.budget.members < 0:
            raise Refuse(
                "scan:too-many-members", f"member `{shown(name)}`", f"more than {self.settings.max_members} members in all", UNPACK_REMEDY
            )

    def spend_bytes(self, name: str, count: int) -> None:
        """Pay for bytes about to be unpacked. Raises `Refuse`."""
        self.budget.unpacked_bytes -= count
        if self.budget.unpacked_bytes < 0:
            bound = self.settings.max_unpacked_bytes
            raise Refuse("scan:bomb", f"member `{shown(name)}`", f"unpacked it would take more than {bound} bytes in all", UNPACK_REMEDY)

    @property
    def here(self) -> str:
        """The whole path of what is being read, `!/` between containers; empty for the artifact itself."""
        return "!/".join(shown(name) for name in self.path)

    def place(self, name: str) -> str:
        """A member's whole path."""
        return "!/".join(shown(one) for one in (*self.path, name))

    def add(self, reasons: Sequence[Reason], member: str) -> None:
        """Keep a member's reasons under its path; once there are `MAX_REASONS`, only heavier ones than are there."""
        for reason in reasons:
            if len(self.reasons) < MAX_REASONS or (
                reason.weight == "refused" and sum(kept.weight == "refused" for kept in self.reasons) < MAX_REASONS
            ):
                self.reasons.append(replace(reason, member=member))


MAX_KINDS = 2_000
"""Members whose format is told."""


def shown(name: str) -> str:
    """A member's name as it may stand in a message: ASCII, 200 characters, no backtick."""
    return name[:200].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'").replace("\n", "\\n")
