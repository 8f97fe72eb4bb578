"""What was used: allowed requests counted by caller, action and thing, by hour and by network, so that any part of the time can be looked at alone.

usage = Usage(); usage.take(records); usage.cells[principal, action, resource] -> CellUse
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vouchgate.policy.recorded import DAY_MS, HOUR_MS, Recorded, address_of
from vouchgate.vocabulary.errors import LimitExceeded

Cell = tuple[str, str, str]
MAX_CELLS = 500_000
"""Cells that are told apart; about 500 MB with their hours."""
MAX_NAME_CHARACTERS = 2_048
"""Characters of a name that is counted; a longer one is nobody's."""
HOURS_PER_DAY = DAY_MS // HOUR_MS


@dataclass(slots=True)
class CellUse:
    """Use of one cell: (hour since 1970, network) -> requests."""

    at: dict[tuple[int, str], int] = field(default_factory=dict)
    by: set[str] = field(default_factory=set)
    """Policies that allowed it."""
    first: int = 0
    last: int = 0

    def requests(self, begin: int, end: int) -> int:
        """From one hour to before another."""
        return sum(count for (hour, _), count in self.at.items() if begin <= hour < end)

    def days(self, begin: int, end: int) -> frozenset[int]:
        """Days on which it was used."""
        return frozenset(hour // HOURS_PER_DAY for hour, _ in self.at if begin <= hour < end)

    def within(self, begin: int, end: int) -> Iterator[tuple[int, str, int]]:
        """(hour, network, requests)"""
        return ((hour, network, count) for (hour, network), count in self.at.items() if begin <= hour < end)


class Usage:
    """See the module's text."""

    def __init__(self) -> None:
        self.cells: dict[Cell, CellUse] = {}
        self.requests = 0
        self.first = 0
        self.last = 0
        self._networks: dict[str, str] = {}

    def take(self, records: Iterable[Recorded]) -> None:
        """Count these. Raises `LimitExceeded`."""
        for record in records:
            if record.effect != "allow" or len(record.principal) > MAX_NAME_CHARACTERS or len(record.resource) > MAX_NAME_CHARACTERS:
                continue
            cell = (record.principal, record.action, record.resource)
            use = self.cells.get(cell)
            if use is None:
                if len(self.cells) >= MAX_CELLS:
                    raise LimitExceeded(f"more than {MAX_CELLS} cells were used", remedy="look at a shorter time, or at one zone")
                use = self.cells[cell] = CellUse(first=record.time, last=record.time)
            place = (record.time // HOUR_MS, self._network(record.source_ip))
            use.at[place] = use.at.get(place, 0) + 1
            use.by.update(record.by)
            use.first, use.last = min(use.first, record.time), max(use.last, record.time)
            self.first = min(self.first or record.time, record.time)
            self.last = max(self.last, record.time)
            self.requests += 1

    def _network(self, address: str | None) -> str:
        if not address:
            return ""
        found = self._networks.get(address)
        if found is None:
            if len(self._networks) > MAX_CELLS:
                self._networks.clear()
            found = self._networks[address] = network_of(address)
        return found


def network_of(address: str) -> str:
    """`10.1.2.0/24` or `2001:db8:1:2::/64`; empty for what is no address."""
    known = address_of(address)
    if known is None:
        return ""
    if known.version == 4:
        return f"{'.'.join(str(known.address >> shift & 255) for shift in (24, 16, 8))}.0/24"
    groups = [f"{known.address >> shift & 0xFFFF:x}" for shift in (112, 96, 80, 64)]
    return f"{':'.join(groups)}::/64"
