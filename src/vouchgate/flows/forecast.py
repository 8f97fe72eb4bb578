"""Forecast: what will be refused because time passes, and what renews each.

1. Nothing is guessed: a copy of the facts is built from the records, as a replica is, and its clock is put forward, from one end of something
   to the next; at each the cells that it touches are decided again. What turned from allow to deny there is what that end refuses.
2. What renews itself while vouchgate runs is held on imagined renewals: a `serves` vouch of the supervisor, credentials of live registrations. It
   is listed apart, as what would be refused were the process that renews it gone.
3. Ends that no cell shows are listed beside: a CA, the TrustRoot, a partner's bundle, a secret.
4. The request's own facts are unknown, as in maps: a cell that is asked about stays one.
5. At most `MAX_DECISIONS` decisions and `MAX_SECONDS`; where that cuts off, cells that were seen called come first, and it is said.
It runs beside the event loop, on the copy alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from vouchgate.evidence.lineage import Lineage, Standing
from vouchgate.flows import start
from vouchgate.flows.context import Context
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_cells import Cell
from vouchgate.identity.ca import load_ca
from vouchgate.vocabulary.answers_identities import PartnerState
from vouchgate.vocabulary.answers_zones import Forecast, Lapse
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.names import principal_parts
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.vouches import UnixMillis, Vouch

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Horizon = Literal["24h", "7d", "30d"]
HORIZONS: dict[Horizon, int] = {"24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
RENEWED_LIFE_MS = HOUR_MS
"""A vouch of the supervisor that lives no longer than this is one that it renews while the server runs."""
MAX_DECISIONS = 200_000
MAX_SECONDS = 20.0
"""Seconds of processor time for one forecast, on a thread beside the loop."""
MAX_MOMENTS = 2_000
"""Ends looked at one by one; where there are more, those of one stretch count as one."""
MAX_CALLERS = 20
"""Callers named with one end."""
MAX_LAPSES = 1_000
FAR = UnixMillis(2**53)

Asked = tuple[str, str, str]
"""Caller, action, resource."""


class AheadLineage(Lineage):
    """Rule 2: what the supervisor renews holds on, as it did at `begun`."""

    def __init__(self, begun: UnixMillis) -> None:
        super().__init__()
        self.begun = begun

    def holding(self, subject: str, now: UnixMillis) -> frozenset[Standing]:
        """As ever, and what renews itself."""
        found = {one for one in super().holding(subject, now) if not self.renews(one.vouch_id)}
        kept = {one for one in super().holding(subject, min(now, self.begun)) if self.renews(one.vouch_id)}
        return frozenset(found | {_lasting(one) for one in kept})

    def renews(self, vouch_id: str) -> bool:
        """Whether the supervisor renews it."""
        return renews_itself(self.vouches[vouch_id])


def _lasting(one: Standing) -> Standing:
    return Standing(one.predicate, one.tier, one.outcome, one.vouch_id, FAR, one.issuer_role)


def renews_itself(vouch: Vouch) -> bool:
    """Rule 2, of one vouch."""
    return vouch.predicate_type == "serves" and vouch.issuer_role == "supervisor" and vouch.expires_at - vouch.issued_at <= RENEWED_LIFE_MS


class Ahead(Facts):
    """Facts whose time can be put forward."""

    def __init__(self, trust_domain: str, fingerprint: str, begun: UnixMillis) -> None:
        self._begun = begun
        super().__init__(trust_domain, fingerprint)

    def _new_lineage(self) -> Lineage:
        return AheadLineage(self._begun)


@dataclass
class Seen:
    """What was seen called, copied from the traffic: cell -> calls."""

    calls: dict[Asked, int] = field(default_factory=dict)


@dataclass
class _End:
    """Something that ends, and what turned there."""

    kind: str
    subject: str
    title: str
    at: UnixMillis
    command: str
    detail: str = ""
    turned: set[Asked] = field(default_factory=set)


async def forecast(context: Context, partners: Sequence[PartnerState]) -> Forecast:
    """Rules 1 to 5."""
    begun = time.monotonic()
    now = context.clock.now()
    seen = Seen({cell: count.allowed for cell, count in context.traffic.cells.items() if count.allowed})
    facts = Ahead(context.trust_domain, context.facts.fingerprint, now)

    def ahead() -> tuple[Walk, int]:
        for sequenced in start.snapshot(context.store, now):
            facts.apply(sequenced, now)
        walk = Walk(facts, now, seen)
        walk.run()
        return walk, len(walk.allowed)

    walk, allowed = await asyncio.to_thread(ahead)
    lapses = [*walk.lapses(), *_beside(context, facts, partners, now), *_by_itself(facts, now, walk)]
    lapses.sort(key=lambda one: (one.renews_itself, one.at))
    refused: dict[str, int] = {
        name: len({cell for cell, at in walk.turned_at.items() if at <= now + span}) for name, span in HORIZONS.items()
    }
    return Forecast(
        at=now,
        allowed=allowed,
        refused=refused,
        lapses=tuple(lapses[:MAX_LAPSES]),
        cut_off=walk.cut_off,
        took_ms=round(1000 * (time.monotonic() - begun), 1),
    )


class Walk:
    """Rule 1, over one copy of the facts."""

    def __init__(self, facts: Facts, now: UnixMillis, seen: Seen) -> None:
        self.facts, self.now, self.seen = facts, now, seen
        self.allowed: set[Asked] = set()
        self.turned_at: dict[Asked, UnixMillis] = {}
        self.cut_off = ""
        self._ends: list[_End] = []
        self._made = 0
        self._most = MAX_DECISIONS // 2
        self._until = time.monotonic() + MAX_SECONDS / 2
        self._allowed: dict[Cell, set[Asked]] = {}
        self._before = now

    def run(self) -> None:
        """Decide now, then at each end."""
        for cell in self._cells():
            if not self._spend():
                break
            self._allowed[cell] = {_asked(cell, one) for one in self.facts.standing(cell, self.now) if one.effect == "allow"}
        self.allowed = {asked for some in self._allowed.values() for asked in some}
        self._most, self._until = self._made + MAX_DECISIONS // 2, time.monotonic() + MAX_SECONDS / 2
        moments = sorted({end.at for end in self._coming()})
        for at in _coarser(moments):
            self._at(UnixMillis(at))

    def _cells(self) -> list[Cell]:
        """Those that were seen called first."""
        called = {(resource, caller) for caller, _, resource in self.seen.calls}
        return sorted(self.facts.all_cells(), key=lambda cell: (cell not in called, cell))

    def _spend(self) -> bool:
        """Half of what may be spent goes to the present, half to what comes, so that neither eats up the other."""
        if self._made >= self._most or time.monotonic() > self._until:
            self.cut_off = f"stopped after {self._made} decisions: cells that nobody was seen to call were left out"
            return False
        self._made += 1
        return True

    def _coming(self) -> list[_End]:
        """Everything that ends within the longest horizon."""
        last = self.now + HORIZONS["30d"]
        self._ends = [
            end
            for end in (*_vouches(self.facts, self.now), *_registrations(self.facts), *_observed(self.facts))
            if self.now < end.at <= last
        ]
        self._ends.sort(key=lambda end: end.at)
        return self._ends

    def _at(self, at: UnixMillis) -> None:
        """Put the time forward, decide again what that touches, and say which of the ends did it."""
        ended = [end for end in self._ends if end.at <= at and end.at > self._before]
        touched = set(self.facts.advance(at))
        gone = {end.subject for end in ended if end.kind == "registration"}
        zones = {end.subject for end in ended if end.kind == "observe"}
        for cell in self._allowed:
            endpoint = self.facts.endpoints.get(cell[0])
            if cell[1] in gone or (endpoint is not None and endpoint.zone in zones):
                touched.add(cell)
        for cell in touched & self._allowed.keys():
            if not self._spend():
                return
            self._decide(cell, at, ended)
        self._before = at

    def _decide(self, cell: Cell, at: UnixMillis, ended: Sequence[_End]) -> None:
        there = self.facts.registration_of(cell[1], at) is not None
        made = {_asked(cell, one): one for one in self.facts.standing(cell, at)} if there else {}
        for asked in self._allowed[cell] - self.turned_at.keys():
            decision = made.get(asked)
            if decision is None or decision.effect != "allow":
                self.turned_at[asked] = at
                _blamed(asked, decision, ended).turned.add(asked)

    def lapses(self) -> Iterator[Lapse]:
        """Every end that refuses somebody."""
        for end in self._ends:
            if end.turned:
                names = sorted({asked[0] for asked in end.turned}, key=lambda name: (-self._calls_of(name, end), name))
                yield Lapse(
                    kind=end.kind,  # type: ignore[arg-type]
                    subject=end.subject,
                    title=end.title,
                    at=end.at,
                    within=_within(end.at - self.now),
                    refused=len(end.turned),
                    callers=tuple(names[:MAX_CALLERS]),
                    calls=sum(self.seen.calls.get(asked, 0) for asked in end.turned),
                    command=end.command,
                    detail=end.detail,
                )

    def _calls_of(self, name: str, end: _End) -> int:
        return sum(self.seen.calls.get(asked, 0) for asked in end.turned if asked[0] == name)


def _asked(cell: Cell, one: Decision) -> Asked:
    return cell[1], one.action, one.resource


def _blamed(asked: Asked, decision: Decision | None, ended: Sequence[_End]) -> _End:
    """Which of the ends refuses this: what the decision misses, else who or where it is."""
    missing = {(one.predicate, one.subject) for one in decision.missing} if decision else set()
    by_name = {one.predicate for one in decision.missing} if decision else set()
    for fits in (
        lambda end: end.kind in ("vouch", "waiver") and (end.title.split(" ")[0], end.subject) in missing,
        lambda end: end.kind == "registration" and end.subject == asked[0],
        lambda end: end.kind in ("vouch", "waiver") and end.title.split(" ")[0] in by_name,
        lambda end: end.kind == "observe",
    ):
        for end in ended:
            if fits(end):
                return end
    return ended[-1]


def _coarser(moments: list[UnixMillis]) -> list[UnixMillis]:
    """At most `MAX_MOMENTS`: of each stretch its last."""
    step = -(-len(moments) // MAX_MOMENTS) or 1
    return moments[step - 1 :: step] + (moments[-1:] if len(moments) % step else [])


def _within(left: int) -> Horizon:
    return next(name for name, span in HORIZONS.items() if left <= span)


# --- what ends ---------------------------------------------------------------------------------------------------------------------


def _vouches(facts: Facts, now: UnixMillis) -> Iterator[_End]:
    for vouch in facts.lineage.vouches.values():
        if vouch.outcome != "pass" or vouch.expires_at <= now or renews_itself(vouch):
            continue
        for subject in vouch.subjects:
            waives = str(vouch.claims.get("control", "")) if vouch.predicate_type == "waiver" else ""
            what = waives.partition("@")[0] or vouch.predicate_type
            yield _End(
                kind="waiver" if waives else "vouch",
                subject=subject.name,
                title=f"{what} {'is no longer waived' if waives else 'lapses'}",
                at=vouch.expires_at,
                command=_renewal(vouch, subject.name, waives),
                detail=f"{vouch.method.tool} said it, {vouch.tier}",
            )


def _renewal(vouch: Vouch, subject: str, waives: str) -> str:
    """The command that makes this evidence again."""
    name = subject.rpartition("/")[2]
    if waives:
        return f"vouchgate waive {waives} --for {name} --until DATE --why REASON"
    if vouch.predicate_type in ("scan", "structure", "import") and "/artifact/" in subject:
        return f"vouchgate import FILE  # the file whose digest is {name}"
    if vouch.predicate_type == "serves":
        return "vouchgate up  # reports again what its endpoints serve"
    return f"vouchgate vouch add FILE  # a new `{vouch.predicate_type}` statement about {subject}"


def _registrations(facts: Facts) -> Iterator[_End]:
    for one in facts.registrations.values():
        if one.expires_at:
            yield _End("registration", one.principal, "the registration ends", one.expires_at, _register_again(one))


def _register_again(one: Registration) -> str:
    parts = principal_parts(one.principal)
    chosen = "".join(f" --selector {selector.type}={selector.value}" for selector in one.selectors)
    groups = "".join(f" --group {group}" for group in one.groups)
    return f"vouchgate identity register {parts.kind} {parts.zone} {parts.name}{chosen}{groups} --for SECONDS"


def _observed(facts: Facts) -> Iterator[_End]:
    for zone in facts.zones.values():
        if zone.mode == "observe":
            title = f"observe ends: {zone.name} enforces"
            yield _End("observe", zone.name, title, zone.observe_until, f"vouchgate adopt {zone.name} --plan")


# --- rules 2 and 3 ----------------------------------------------------------------------------------------------------------------


def _by_itself(facts: Facts, now: UnixMillis, walk: Walk) -> Iterator[Lapse]:
    """Rule 2, listed."""
    for vouch in facts.lineage.vouches.values():
        if renews_itself(vouch) and vouch.expires_at > now and vouch.outcome == "pass":
            subject = vouch.subjects[0].name
            cells = [asked for asked in walk.allowed if asked[2] == subject]
            yield Lapse(
                kind="serves", subject=subject, title="what it serves is said again and again", at=vouch.expires_at, within="24h", refused=len(cells),
                callers=tuple(sorted({asked[0] for asked in cells})[:MAX_CALLERS]), calls=sum(walk.seen.calls.get(asked, 0) for asked in cells),
                renews_itself=True, detail="the supervisor renews it while the server runs",
            )  # fmt: skip
    live = sum(1 for name in facts.registrations if facts.registration_of(name, now) is not None)
    if live:
        lives = [one.svid_ttl_seconds for one in facts.registrations.values()]
        yield Lapse(
            kind="identity", subject=f"{live} registrations", title="certificates end within their life and are fetched anew",
            at=UnixMillis(now + 1000 * min(lives)), within="24h", renews_itself=True, detail="the agent renews them at half of their life",
        )  # fmt: skip


def _beside(context: Context, facts: Facts, partners: Sequence[PartnerState], now: UnixMillis) -> Iterator[Lapse]:
    """Rule 3."""
    last = now + HORIZONS["30d"]
    bundle, root = facts.bundle, facts.trust_root
    for number, der in enumerate(bundle.x509_authorities if bundle else ()):
        end = UnixMillis(int(load_ca(der, context.trust_domain).not_valid_after_utc.timestamp()) * 1000)
        if number == 0 and end <= last:
            yield _line(
                "ca",
                "x509-ca",
                "the CA ends: no identity is issued after it",
                end,
                now,
                "vouchgate admin ca-rotate prepare --reason renewal",
            )
    if root is not None and root.expires_at <= last:
        title = "the TrustRoot ends: nothing new is believed after it, what renews itself included"
        yield _line("trust-root", "trust-root", title, root.expires_at, now, "vouchgate admin renew-trust --root-key FILE")
    for one in partners:
        if 0 < one.stale_at <= last:
            title = f"the bundle of {one.name} is too old: its {one.callers} callers are refused"
            yield _line("partner", one.name, title, one.stale_at, now, f"vouchgate federation list --refresh {one.name}", one.problem)
    for secret in facts.secrets.values():
        if secret.problem:
            yield _line(
                "secret", secret.name, "its rotation stands still", now, now, f"vouchgate secrets rotate {secret.name}", secret.problem
            )


def _line(kind: str, subject: str, title: str, at: UnixMillis, now: UnixMillis, command: str, detail: str = "") -> Lapse:
    within = _within(max(0, at - now))
    return msgspec.convert(
        {"kind": kind, "subject": subject, "title": title, "at": at, "within": within, "command": command, "detail": detail}, Lapse
    )
