"""Somebody is refused more different things in a day than a benign caller is: probing, enumerating, a stolen identity feeling its way.

Rules
1. What counts is a refused cell (action and resource) seen for the first time in a window of five minutes by one subject, so a client
   that retries one refused call is not a burst, and a batch that is read twice counts once.
2. For a benign subject the count N of a window is assumed to satisfy E[GAIN ** N | past] <= exp((GAIN - 1) * BENIGN), as every count
   that a Poisson of mean BENIGN dominates does. The factor GAIN ** N * exp(-(GAIN - 1) * BENIGN) of a window is then an e-value given the
   past, and the product of those since any window is an e-process. The day's value is the average of those products over all windows of
   the day as the start (one that has not begun counts 1), so a burst late in the day is not outweighed by the calm before it.
3. By Ville's inequality the day's value of a benign subject reaches 1 / ALARM_BOUND with probability at most ALARM_BOUND. A window pays
   its exponential when it begins, so looking within a window never shows more than its end and the bound holds for every look.
4. One finding a subject and day. Subjects without a verified identity are counted apart, by address, and never push out the verified.
5. Order is the gateway's: an event of a window that the subject has left is counted as late, and not weighed.

What it cannot see: one new refused cell a window, for ever; two a window are found after about an hour and a half, eight at once.
The bound is as good as BENIGN: recalibrate it on whole principals of the deployment before findings are acted on without a person.
Left to others: exactly-once delivery (flows/observe_traffic), risk, and what is done about it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vouchgate.behaviour.detectors import Detector
from vouchgate.vocabulary.events import Event, Finding
from vouchgate.vocabulary.vouches import UnixMillis

NAME, VERSION, UNIT = "denied-burst", "1", "principal-day"
DAY_MS = 24 * 3600 * 1000
WINDOW_MS = 5 * 60 * 1000
"""Milliseconds; long enough that a client's retries fall into one, short enough that a quick sweep fills one."""
WINDOWS = DAY_MS // WINDOW_MS
BENIGN = 0.5
"""New refused cells a window and benign subject: six an hour, a person who clicks where they may not."""
GAIN = 8.0
"""How many times BENIGN the burst is that is found soonest; eight new refused cells within one window alarm."""
ALARM_BOUND = 0.001
"""Probability that a benign subject alarms within a day."""
BUDGET = f"{NAME}/{UNIT}/{ALARM_BOUND}"
MAX_CELLS = 64
"""Different cells kept of one window; far more than alarm."""
MAX_SUBJECTS = 20_000
"""Subjects kept of each sort (verified, not verified); beyond it the one that was refused longest ago is forgotten."""
MAX_EVENTS = 3
"""Events that a finding names (contracts, "Nouns")."""
MAX_SUBJECT = 256
"""Characters of a subject; the longest SPIFFE id of ours is shorter."""
MAX_VALUE = 1e100
"""Ceiling of what is kept of a value that has long alarmed; a number without bound would stop being one."""
EARLY_MS = 5_000
"""An event said to be later than it was seen by more than this is taken to be of when it was seen."""
VALID_ACCOUNTS, ACTIVE_SCANNING = "AML.T0012", "AML.T0006"

_PRICE = math.exp(-(GAIN - 1) * BENIGN)
_SHARE = 1 / WINDOWS


@dataclass(frozen=True)
class Track:
    """One subject's day so far."""

    day: int
    window: int
    """Of the day, from 0."""
    running: float
    """Sum of the products of the windows that have begun, each at its share of the average."""
    cells: frozenset[bytes] = frozenset()
    counted: int = 0
    events: tuple[str, ...] = ()
    alarmed: bool = False

    @property
    def value(self) -> float:
        """The day's e-value (rule 2)."""
        return self.running + (WINDOWS - self.window - 1) * _SHARE


@dataclass(frozen=True)
class State:
    """All subjects, the one that was refused longest ago first."""

    verified: dict[str, Track] = field(default_factory=dict)
    unverified: dict[str, Track] = field(default_factory=dict)
    late: int = 0
    forgotten: int = 0


def start() -> State:
    """Nobody was refused yet."""
    return State()


def step(state: State, batch: Sequence[Event]) -> tuple[State, tuple[Finding, ...]]:
    """Weigh a batch of events."""
    tracks = {True: dict(state.verified), False: dict(state.unverified)}
    late, forgotten = state.late, state.forgotten
    found: list[Finding] = []
    for event in batch:
        subject = _subject(event)
        if event.outcome != "denied" or event.phase != "end" or not subject:
            continue
        known = tracks[event.authenticated]
        track = _moved(known.get(subject), _when(event))
        if track is None:
            late += 1
            continue
        known.pop(subject, None)
        known[subject] = track = _counted(track, event)
        if track.value >= 1 / ALARM_BOUND and not track.alarmed:
            found.append(_finding(subject, track, event))
            known[subject] = replace(track, alarmed=True)
        if len(known) > MAX_SUBJECTS:
            del known[next(iter(known))]
            forgotten += 1
    return State(verified=tracks[True], unverified=tracks[False], late=late, forgotten=forgotten), tuple(found)


def _subject(event: Event) -> str:
    """Rule 4: a verified or declared name, or else the address without its port, which changes with every connection."""
    if event.principal:
        return event.principal[:MAX_SUBJECT]
    host = event.peer.rpartition(":")[0] or event.peer
    return f"peer:{host[:MAX_SUBJECT]}" if host and not event.authenticated else ""


def _when(event: Event) -> int:
    seen = int(event.observed_at)
    return int(event.occurred_at) if event.occurred_at <= seen + EARLY_MS else seen


def _moved(track: Track | None, at: int) -> Track | None:
    """The track in the window of `at`; None where the subject has left that window (rule 5)."""
    day, window = at // DAY_MS, at % DAY_MS // WINDOW_MS
    if track is None or day > track.day:
        return Track(day=day, window=window, running=_passed(0.0, window + 1))
    if (day, window) < (track.day, track.window):
        return None
    steps = window - track.window
    return replace(track, window=window, running=_passed(track.running, steps), cells=frozenset()) if steps else track


def _passed(running: float, windows: int) -> float:
    """That many windows begin: each adds its share as a start, and everything that has begun pays the price of the window."""
    kept: float = _PRICE**windows
    return running * kept + _SHARE * _PRICE * (1 - kept) / (1 - _PRICE)


def _counted(track: Track, event: Event) -> Track:
    target = event.resource or str(event.detail.get("path", ""))
    cell = hashlib.sha256(f"{event.action}\0{target}".encode("utf-8", "replace")).digest()[:8]
    if cell in track.cells or len(track.cells) >= MAX_CELLS:
        return track
    named = f"{event.source}/{event.source_epoch}/{event.source_seq}"
    events = (*track.events, named)[-MAX_EVENTS:]
    return replace(
        track, running=min(track.running * GAIN, MAX_VALUE), cells=track.cells | {cell}, counted=track.counted + 1, events=events
    )


def _finding(subject: str, track: Track, event: Event) -> Finding:
    ends = (track.day + 1) * DAY_MS
    named = hashlib.sha256(f"{NAME}\0{VERSION}\0{subject}\0{event.authenticated}\0{track.day}".encode("utf-8", "replace"))
    return Finding(
        id=named.hexdigest(),
        kind=NAME,
        subject=subject,
        detector=NAME,
        detector_version=VERSION,
        unit=UNIT,
        baseline_id=f"assumed:{BENIGN}-new-refused-cells-in-{WINDOW_MS // 1000}-s",
        statistic=float(track.counted),
        e_or_p_value=track.value,
        budget_id=BUDGET,
        severity="high" if event.authenticated else "medium",
        authenticated_basis=event.authenticated,
        events=track.events,
        technique=VALID_ACCOUNTS if event.authenticated else ACTIVE_SCANNING,
        clears_when="the next UTC day ends without another finding of this kind, or a responder closes it",
        expires_at=UnixMillis(ends + DAY_MS),
    )


DETECTOR = Detector(
    name=NAME,
    version=VERSION,
    unit=UNIT,
    budget_id=BUDGET,
    techniques=frozenset({VALID_ACCOUNTS, ACTIVE_SCANNING}),
    start=start,
    step=step,
    summary="one subject is refused unusually many different things; at most one benign subject-day in a thousand alarms",
)
