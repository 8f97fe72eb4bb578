"""What the publisher keeps of each cell: its newest decisions, without what ten thousand cells have in common; and whose grants are in a map.

Rules
1. Decisions of different callers that say the same share one object; a cell keeps what is its own: id, end, epoch.
2. A map has so many seats. Who has one keeps it while its grants hold; who finds none waits, and is asked about at each call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from vouchgate.flows.facts_cells import Cell
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.vouches import UnixMillis

GATEWAY = "gateway"
"""Name of the enforcement point in grants."""
HOLE = "\x00"
"""Where shared words name the caller; no name and no policy's id has it."""
_NOBODY: Mapping[str, tuple[Kept, ...]] = {}
MIN_SHARED = 1_024
"""Shared decisions that are kept before unused ones are looked for."""


class Kept:
    """What is a cell's own of one decision."""

    __slots__ = ("epoch", "id", "look_at", "looked_for", "not_after", "said")

    def __init__(self, said: Decision, decision: Decision) -> None:
        self.said, self.id = said, bytes.fromhex(decision.id)
        self.not_after, self.epoch = decision.not_after, decision.evidence_epoch
        self.look_at = self.looked_for = 0

    def decision(self, caller: str) -> Decision:
        """The decision again, without the digest of the facts and the time, which the log has."""
        said = self.said
        return msgspec.structs.replace(
            said,
            id=self.id.hex(),
            principal=caller,
            reason=said.reason.replace(HOLE, caller),
            remedy=said.remedy.replace(HOLE, caller),
            not_after=UnixMillis(self.not_after),
            evidence_epoch=self.epoch,
        )


class Alike:
    """Callers of one endpoint of whom the same is decided."""

    __slots__ = ("count", "said")

    def __init__(self, made: Sequence[Kept]) -> None:
        self.said = tuple(one.said for one in made)
        """Kept as long as the group is: its ids name nothing else."""
        self.count = 0


class StandingDecisions:
    """Rule 1: cell -> its newest decisions, one for each action and model."""

    def __init__(self) -> None:
        self._cells: dict[str, dict[str, tuple[Kept, ...]]] = {}
        """Endpoint -> caller -> what is kept."""
        self._alike: dict[str, dict[tuple[int, ...], Alike]] = {}
        """Endpoint -> ids of shared decisions -> the callers of whom exactly these are kept."""
        self._shared: dict[Decision, Decision] = {}
        self._shared_bound = MIN_SHARED
        self._count = 0
        self.allowed = 0
        """Cells of which a decision is an allow."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Cell]:
        return ((endpoint_id, caller) for endpoint_id, callers in self._cells.items() for caller in callers)

    def items(self) -> Iterator[tuple[Cell, tuple[Kept, ...]]]:
        """Every cell."""
        return (((endpoint_id, caller), made) for endpoint_id, callers in self._cells.items() for caller, made in callers.items())

    def of(self, cell: Cell) -> tuple[Kept, ...]:
        """What is kept of a cell."""
        return self._cells.get(cell[0], _NOBODY).get(cell[1], ())

    def cells_of(self, endpoint_id: str) -> list[Cell]:
        """The cells of an endpoint."""
        return [(endpoint_id, caller) for caller in self._cells.get(endpoint_id, ())]

    def decisions_of(self, cell: Cell) -> list[Decision]:
        """The newest decisions of a cell."""
        return [one.decision(cell[1]) for one in self.of(cell)]

    def said(self, resources: Collection[str]) -> Iterator[tuple[str, Decision]]:
        """Each caller's decision on one of these, as it is shared: it names no caller and no end."""
        for callers in self._cells.values():
            for caller, made in callers.items():
                for one in made:
                    if one.said.resource in resources:
                        yield caller, one.said

    def alike(self, endpoint_id: str) -> Iterator[tuple[tuple[Decision, ...], int]]:
        """An endpoint's decisions, as they are shared, and how many callers have just these: as many steps as there are kinds of callers."""
        return ((one.said, one.count) for one in self._alike.get(endpoint_id, {}).values())

    def said_of(self, caller: str) -> Iterator[Decision]:
        """A caller's decisions, as they are shared."""
        for callers in self._cells.values():
            for one in callers.get(caller, ()):
                yield one.said

    def put(self, cell: Cell, news: Sequence[Decision]) -> Sequence[Decision]:
        """Take newer decisions; those that say something new. One that says the same keeps its id, with its new end and epoch."""
        old = self.of(cell)
        made = tuple(Kept(self._share(one), one) for one in news)
        same = len(old) == len(made) and all(_same(one.said, two.said) for one, two in zip(old, made, strict=True))
        for one, two in zip(old, made, strict=False):
            if same:
                two.id, two.said = one.id, one.said
            two.looked_for = one.looked_for
        self.drop(cell)
        self._cells.setdefault(cell[0], {})[cell[1]] = made
        self._alike.setdefault(cell[0], {}).setdefault(_ids(made), Alike(made)).count += 1
        self._count += 1
        self.allowed += _allows(made)
        return () if same else news

    def drop(self, cell: Cell) -> None:
        """Forget a cell."""
        old = self._cells.get(cell[0], {}).pop(cell[1], None)
        self._count -= old is not None
        if old is not None:
            group = self._alike[cell[0]]
            group[_ids(old)].count -= 1
            if not group[_ids(old)].count:
                del group[_ids(old)]
        self.allowed -= _allows(old or ())

    def drop_endpoint(self, endpoint_id: str) -> None:
        """Forget an endpoint's cells."""
        for cell in self.cells_of(endpoint_id):
            self.drop(cell)
        self._cells.pop(endpoint_id, None)
        self._alike.pop(endpoint_id, None)

    def _share(self, decision: Decision) -> Decision:
        nobody = msgspec.structs.replace(
            decision,
            id="",
            principal="",
            reason=decision.reason.replace(decision.principal, HOLE),
            remedy=decision.remedy.replace(decision.principal, HOLE),
            facts_digest="",
            evidence_epoch=0,
            not_after=UnixMillis(0),
            evaluated_at=UnixMillis(0),
        )
        if len(self._shared) > self._shared_bound:
            used = {id(one.said) for _, made in self.items() for one in made}
            self._shared = {one: one for one in self._shared if id(one) in used}
            self._shared_bound = max(MIN_SHARED, 2 * len(self._shared))
        return self._shared.setdefault(nobody, nobody)


class Seats:
    """Rule 2, for one endpoint."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[Cell, tuple[Grant, ...]] = {}
        self._waiting: dict[Cell, None] = {}
        self._count = 0

    def __contains__(self, cell: object) -> bool:
        return cell in self._taken

    @property
    def waiting(self) -> int:
        """Cells with grants that found no seat."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether whoever comes now waits."""
        return bool(self._waiting) or self._count >= self._most

    def grants(self) -> list[Grant]:
        """What goes into the map, the oldest seat first."""
        return [grant for grants in self._taken.values() for grant in grants]

    def put(self, cell: Cell, grants: Sequence[Grant]) -> Literal["same", "gained", "lost", "full"]:
        """What that does to the map: `lost` where something is no longer granted."""
        old = self._taken.get(cell, ())
        if not grants:
            self._waiting.pop(cell, None)
            return "lost" if self.remove(cell) else "same"
        if self._count - len(old) + len(grants) > self._most:
            self._waiting[cell] = None
            return "lost" if self._take_away(cell) else "full"
        self._waiting.pop(cell, None)
        self._taken[cell] = tuple(grants)
        self._count += len(grants) - len(old)
        if {_meaning(one) for one in old} - {_meaning(one) for one in grants}:
            return "lost"
        return "same" if old == tuple(grants) else "gained"

    def remove(self, cell: Cell) -> bool:
        """Whether it had a seat."""
        self._waiting.pop(cell, None)
        return self._take_away(cell)

    def _take_away(self, cell: Cell) -> bool:
        old = self._taken.pop(cell, None)
        self._count -= len(old or ())
        return old is not None

    def drop(self, stale: Callable[[Cell, int], bool]) -> None:
        """Take away every seat whose grants are stale, given the epoch at which they were decided."""
        for cell in [cell for cell, grants in self._taken.items() if any(stale(cell, one.epoch) for one in grants)]:
            self._take_away(cell)

    def next_waiting(self) -> Cell | None:
        """Who waits longest, if there may be a seat."""
        return next(iter(self._waiting), None) if self._count < self._most else None


def _meaning(grant: Grant) -> tuple[object, ...]:
    """What a map lets through for it."""
    return grant.credential_kind, grant.thumbprint, grant.action, grant.resource, grant.condition, grant.obligations


def grants_of(decision: Decision, endpoint: Endpoint) -> list[Grant]:
    """One grant for each kind of credential that the endpoint accepts."""
    kinds = ("x509", "jwt", "both") if endpoint.bearer else ("x509",)
    return [
        Grant(
            id=f"{decision.id}.{kind[0]}",
            decision_id=decision.id,
            principal=decision.principal,
            credential_kind=kind,  # type: ignore[arg-type]
            action=decision.action,
            resource=decision.resource,
            model_digest=endpoint.model_digest,
            pep=GATEWAY,
            epoch=decision.evidence_epoch,
            not_after=decision.not_after,
            obligations=decision.obligations,
        )
        for kind in kinds
    ]


def unnamed(words: str) -> str:
    """Shared words for whoever asks about no caller in particular."""
    return words.replace(f"`{HOLE}`", "").replace(HOLE, "").replace("  ", " ")


def cell_digest(decision: Decision) -> str:
    """What makes two decisions of a cell the same for whoever reads the log."""
    parts = (decision.effect, decision.residual, decision.would_be, decision.mode, decision.policy_digest, decision.determining)
    text = repr((*parts, decision.vouches_used, decision.missing, decision.errors, decision.obligations, decision.risk))
    return hashlib.sha256(text.encode()).hexdigest()


def _same(old: Decision, new: Decision) -> bool:
    return old is new or (old.action, old.resource, cell_digest(old)) == (new.action, new.resource, cell_digest(new))


def _ids(made: Sequence[Kept]) -> tuple[int, ...]:
    return tuple(id(one.said) for one in made)


def _allows(made: Sequence[Kept]) -> bool:
    return any(one.said.effect == "allow" for one in made)
