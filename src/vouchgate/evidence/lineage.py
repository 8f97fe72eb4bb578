"""Lineage: which vouches hold, what falls with a revocation, and what its undo restores.

Nodes are vouches and pieces of content. Rules
1. A revocation hits directly: the vouch; all vouches of the key from its log index on; all vouches that have the run, the principal or
   the registration as a subject, or the run in their claims; all scans that a weaker version of the scanner passed; all vouches that have
   the digest as a subject or as an input. What a person once asked for does not fall with the person.
2. With `cascade = downstream` it spreads along three edges, and along nothing else: from a vouch to those that rest on it; from a vouch
   with `inputs` (a derivation: `train`, `import`) to the content it made; from content to every vouch that is about it or made from it.
   With `cascade = self` only the direct hits fall.
3. What a revocation hits depends on the graph alone, never on other revocations. So each fallen vouch keeps the set of revocations it falls
   under, and withdrawing one gives exactly the state in which it had never been made. A vouch that is added later falls at once.
4. Expiry does not spread: a vouch that was made on fresh evidence stays until its own time; policy asks for the evidence itself.
5. A fail beats every pass of the same predicate that is not newer, and a newer one of a weaker tier; it goes on doing so after it expired.
   An inconclusive one neither holds nor beats.
Left to others: verification (only a `VerifiedVouch` is taken), storage, and `credential` and `policy` targets, which no vouch falls under.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vouchgate.vocabulary.errors import Conflict, NotFound
from vouchgate.vocabulary.vouches import TIERS, Outcome, Revocation, Tier, UnixMillis, VerifiedVouch, Vouch, below_scanner

_RANK = {tier: rank for rank, tier in enumerate(TIERS)}


@dataclass(frozen=True)
class Standing:
    """One vouch that counts for a subject now."""

    predicate: str
    tier: Tier
    outcome: Outcome
    vouch_id: str
    not_after: UnixMillis
    issuer_role: str


@dataclass(frozen=True)
class Affected:
    """What falls with a revocation."""

    vouches: frozenset[str]
    digests: frozenset[str]
    """Digest texts of content that the fallen vouches are about, or that is tainted."""
    subjects: frozenset[str]
    """Names (endpoints, runs, principals, artifacts) that the fallen vouches are about."""


class Lineage:
    """The graph of one trust domain. Not shared between threads; `copy` is cheap enough to plan with."""

    def __init__(self) -> None:
        self._vouches: dict[str, Vouch] = {}
        self._index_of: dict[str, int] = {}
        self._resting: dict[str, list[str]] = {}
        """Vouch id -> vouches that rest on it."""
        self._about: dict[str, list[str]] = {}
        """Digest text or name -> vouches with it as a subject."""
        self._from: dict[str, list[str]] = {}
        """Digest text -> vouches with it as an input."""
        self._named: dict[str, list[str]] = {}
        """Run in the claims -> vouches."""
        self._by_key: dict[str, list[str]] = {}
        self._revocations: dict[str, Revocation] = {}
        self._targets: dict[tuple[str, str], list[str]] = {}
        """Kind and target -> standing revocations of it."""
        self._withdrawn: set[str] = set()
        self._content: dict[str, tuple[str, ...]] = {}
        """Vouch id -> digest texts of its subjects."""
        self._names: dict[str, tuple[str, ...]] = {}
        """Vouch id -> names of its subjects."""
        self._makes: dict[str, tuple[str, ...]] = {}
        """Derivation -> digest texts of what it made."""
        self._falls: dict[str, frozenset[str]] = {}
        """Vouch id -> standing revocations under which it falls; no entry for none. The sets are shared between vouches."""
        self._tainted: dict[str, frozenset[str]] = {}
        """Digest text -> standing revocations that name or reach it."""

    @property
    def vouches(self) -> Mapping[str, Vouch]:
        """Every vouch that was added, by id, fallen ones included."""
        return MappingProxyType(self._vouches)

    @property
    def revocations(self) -> Mapping[str, Revocation]:
        """The revocations that stand, by id."""
        return MappingProxyType(self._revocations)

    def add(self, verified: VerifiedVouch, log_index: int) -> None:
        """Take a vouch in; adding it again changes nothing. Raises `NotFound` if what it rests on is not there."""
        vouch = verified.vouch
        if vouch.id in self._vouches:
            return
        for identity in vouch.rests_on:
            if identity not in self._vouches:
                raise NotFound(f"`{identity[:16]}` is not known, and `{vouch.id[:16]}` rests on it", remedy="add the vouches in log order")
        self._link(vouch, log_index)
        for identity in self._hits(vouch):
            self._spread(self._revocations[identity], [vouch.id], [])

    def revoke(self, revocation: Revocation) -> Affected:
        """Let a revocation stand. Raises `Conflict` if one of that id was seen before."""
        if revocation.id in self._revocations or revocation.id in self._withdrawn:
            raise Conflict(f"the revocation `{revocation.id[:64]}` was made before", remedy="make a new one")
        self._revocations[revocation.id] = revocation
        self._targets.setdefault((revocation.target_kind, revocation.target), []).append(revocation.id)
        return self._summary(*self._spread(revocation, self._direct(revocation), _digests_of(revocation)))

    def withdraw(self, revocation_id: str) -> Affected:
        """Undo a revocation; gives what fell under it (some of it may still fall under others). Raises `NotFound`."""
        revocation = self._revocations.get(revocation_id)
        if revocation is None:
            raise NotFound(f"no standing revocation has the id `{revocation_id[:64]}`", remedy="find it in the log: `vouchgate audit show`")
        affected = self._affected_by(revocation)
        del self._revocations[revocation_id]
        self._withdrawn.add(revocation_id)
        self._targets[revocation.target_kind, revocation.target].remove(revocation_id)
        for marks in (self._falls, self._tainted):
            for node in [node for node, reasons in marks.items() if revocation_id in reasons]:
                remaining = marks.pop(node) - {revocation_id}
                if remaining:
                    marks[node] = remaining
        return affected

    def affected(self, revocation: Revocation) -> Affected:
        """What would fall with it, without letting it stand."""
        vouches, digests = self._reach(revocation, self._direct(revocation), _digests_of(revocation))
        return self._summary(vouches, digests)

    def revoked(self, vouch: Vouch) -> str:
        """Id of a standing revocation under which the vouch falls or, if it is not added yet, would fall as the next entry; or nothing."""
        if vouch.id in self._vouches:
            return min(self._falls.get(vouch.id, ()), default="")
        return min(self._hits(vouch), default="")

    def fallen(self) -> Mapping[str, frozenset[str]]:
        """Every fallen vouch with the revocations it falls under."""
        return MappingProxyType(self._falls)

    def tainted(self, digest: str) -> str:
        """Id of a standing revocation that reaches this content, or nothing."""
        return min(self._tainted.get(digest, ()), default="")

    def holding(self, subject: str, now: UnixMillis) -> frozenset[Standing]:
        """What counts for a subject (a name, or a digest's text) at `now`: passes that no fail beats, and fails that no pass cleared."""
        by_predicate: dict[str, list[Vouch]] = {}
        for vouch in self._unrevoked(subject):
            if vouch.not_before <= now:
                by_predicate.setdefault(vouch.predicate_type, []).append(vouch)
        return frozenset(
            Standing(vouch.predicate_type, vouch.tier, vouch.outcome, vouch.id, vouch.expires_at, vouch.issuer_role)
            for vouches in by_predicate.values()
            for vouch in _unbeaten(vouches, now)
        )

    def about(self, subject: str) -> list[Vouch]:
        """Every vouch with this subject (a name, or a digest's text), fallen and expired ones included."""
        return [self._vouches[identity] for identity in self._about.get(subject, ())]

    def copy(self) -> Lineage:
        """An independent lineage with the same content."""
        other = Lineage()
        for name in ("_vouches", "_index_of", "_revocations", "_content", "_names", "_makes", "_falls", "_tainted"):
            setattr(other, name, dict(getattr(self, name)))
        for name in ("_resting", "_about", "_from", "_named", "_by_key", "_targets"):
            setattr(other, name, {key: list(value) for key, value in getattr(self, name).items()})
        other._withdrawn = set(self._withdrawn)
        return other

    def _unrevoked(self, subject: str) -> Iterator[Vouch]:
        for identity in self._about.get(subject, ()):
            if identity not in self._falls:
                yield self._vouches[identity]

    def _link(self, vouch: Vouch, log_index: int) -> None:
        self._vouches[vouch.id] = vouch
        self._index_of[vouch.id] = log_index
        self._content[vouch.id] = tuple(_digests(vouch))
        self._names[vouch.id] = tuple(subject.name for subject in vouch.subjects)
        if "inputs" in vouch.claims:
            self._makes[vouch.id] = self._content[vouch.id]
        self._by_key.setdefault(vouch.issuer_key, []).append(vouch.id)
        for table, names in (
            (self._resting, vouch.rests_on),
            (self._about, _subjects(vouch)),
            (self._from, inputs_of(vouch)),
            (self._named, _runs(vouch)),
        ):
            for name in dict.fromkeys(names):
                table.setdefault(name, []).append(vouch.id)

    def _direct(self, revocation: Revocation) -> list[str]:
        target = revocation.target
        match revocation.target_kind:
            case "vouch":
                return [target] if target in self._vouches else []
            case "key":
                return [one for one in self._by_key.get(target, ()) if self._index_of[one] >= revocation.as_of_index]
            case "digest":
                return [*self._about.get(target, ()), *self._from.get(target, ())]
            case "run":
                return [*self._about.get(target, ()), *self._named.get(target, ())]
            case "principal" | "registration":
                return list(self._about.get(target, ()))
            case "scanner":
                return [one for one, vouch in self._vouches.items() if below_scanner(vouch, target)]
            case _:
                return []

    def _hits(self, vouch: Vouch) -> set[str]:
        """Standing revocations under which a vouch falls that comes after everything else: directly, or by what it is linked to."""
        subjects, inputs, runs = _subjects(vouch), inputs_of(vouch), _runs(vouch)
        targets: list[tuple[str, str]] = [("vouch", vouch.id), ("key", vouch.issuer_key)]
        targets += [("digest", name) for name in (*subjects, *inputs)] + [("run", name) for name in (*subjects, *runs)]
        targets += [(kind, name) for kind in ("principal", "registration") for name in subjects]
        targets += [known for known in self._targets if known[0] == "scanner" and below_scanner(vouch, known[1])]
        hits = {identity for target in targets for identity in self._targets.get(target, ()) if self._reaches_back(identity, vouch)}
        for identity in vouch.rests_on:
            hits.update(one for one in self._falls.get(identity, ()) if self._revocations[one].cascade == "downstream")
        for digest in (*_digests(vouch), *inputs):
            hits.update(one for one in self._tainted.get(digest, ()) if self._revocations[one].cascade == "downstream")
        return hits

    def _reaches_back(self, revocation_id: str, vouch: Vouch) -> bool:
        """False for a key's revocation that begins after this vouch; one that is not logged yet comes after all."""
        revocation = self._revocations[revocation_id]
        index = self._index_of.get(vouch.id, revocation.as_of_index)
        return revocation.target_kind != "key" or index >= revocation.as_of_index

    def _spread(self, revocation: Revocation, vouches: Iterable[str], digests: Iterable[str]) -> tuple[set[str], set[str]]:
        fallen, tainted = self._reach(revocation, vouches, digests)
        alone = frozenset({revocation.id})
        for marks, nodes in ((self._falls, fallen), (self._tainted, tainted)):
            for node in nodes:
                before = marks.get(node)
                marks[node] = alone if before is None else before | alone
        return fallen, tainted

    def _reach(self, revocation: Revocation, vouches: Iterable[str], digests: Iterable[str]) -> tuple[set[str], set[str]]:
        """Breadth-first over the three edges of rule 2; each node is entered once."""
        fallen, tainted = set(vouches), set(digests)
        if revocation.cascade == "self":
            return fallen, tainted
        queue, fresh = set(fallen), set(tainted)
        while queue or fresh:
            reached: set[str] = set()
            for digest in fresh:
                reached.update(self._about.get(digest, ()), self._from.get(digest, ()))
            fresh = set()
            for identity in queue:
                reached.update(self._resting.get(identity, ()))
                fresh.update(self._makes.get(identity, ()))
            fresh -= tainted
            tainted |= fresh
            queue = reached - fallen
            fallen |= queue
        return fallen, tainted

    def _affected_by(self, revocation: Revocation) -> Affected:
        vouches = {identity for identity, reasons in self._falls.items() if revocation.id in reasons}
        return self._summary(vouches, {digest for digest, reasons in self._tainted.items() if revocation.id in reasons})

    def _summary(self, vouches: set[str], digests: set[str]) -> Affected:
        return Affected(
            vouches=frozenset(vouches),
            digests=frozenset(digests.union(*map(self._content.__getitem__, vouches))),
            subjects=frozenset().union(*map(self._names.__getitem__, vouches)),
        )


def _unbeaten(vouches: list[Vouch], now: UnixMillis) -> list[Vouch]:
    """Rule 5, for vouches of one predicate."""
    fails = [one for one in vouches if one.outcome == "fail"]
    passes = [one for one in vouches if one.outcome == "pass"]
    uncleared = [
        fail for fail in fails if not any(one.issued_at > fail.issued_at and _RANK[one.tier] <= _RANK[fail.tier] for one in passes)
    ]
    holding = [
        one
        for one in passes
        if not any(fail.issued_at >= one.issued_at for fail in fails) and not any(_RANK[fail.tier] < _RANK[one.tier] for fail in uncleared)
    ]
    return [one for one in (*holding, *uncleared) if now < one.expires_at]


def _digests(vouch: Vouch) -> list[str]:
    return [subject.digest.text for subject in vouch.subjects if subject.digest is not None]


def _subjects(vouch: Vouch) -> list[str]:
    return [subject.name for subject in vouch.subjects] + _digests(vouch)


def inputs_of(vouch: Vouch) -> list[str]:
    """Digests of what its content was made from; nothing for a vouch that is no derivation."""
    inputs = vouch.claims.get("inputs", ())
    return [text for text in inputs if isinstance(text, str)] if isinstance(inputs, list | tuple) else []


def run_of(vouch: Vouch) -> str:
    """The run that its claims name, or nothing."""
    run = vouch.claims.get("run")
    return run if isinstance(run, str) else ""


def _runs(vouch: Vouch) -> list[str]:
    run = run_of(vouch)
    return [run] if run else []


def _digests_of(revocation: Revocation) -> list[str]:
    return [revocation.target] if revocation.target_kind == "digest" else []
