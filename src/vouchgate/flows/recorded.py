"""Recorded decisions out of the audit log: what a request was, who made it, what was answered, and because of which policies.

Rules
1. A record is the end of a request at an enforcement point; what decided it stands in an entry of its own (a grant's decision, or the decision
   point's answer), which is looked up by its id. So a request that the gateway let pass by itself is a record like any other.
2. A decision about something else than the use of an endpoint (an import, a key, an exchange) has no such end: the decision is the record.
3. What no policy decided is left out and counted by why: nobody's requests, revoked callers, what the gateway refused by itself, budgets, and
   refusals of a credential before a policy was asked.
4. An entry that was shortened for its size has lost names; it is left out (`shortened`) and never guessed.
5. Nothing is kept between pages but what the store has.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from vouchgate.audit import ocsf
from vouchgate.flows.context import Reads
from vouchgate.policy.recorded import NOT_RECORDED, Recorded
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.places import Endpoint, resource_of

MAX_DECISIONS = 20_000
"""Decisions at hand by id while a page is read; about 20 MB."""
SLACK_MS = 120_000
"""Milliseconds by which entries may stand out of the order of their times: a request is logged when it ends."""
MAX_WITHOUT_TIME = 16
"""Entries looked at for one that has a time; each of ours has."""
_MARKS = ("anonymous", "bad-name", "revoked", "jwt_authn", "lua", "rbac", "direct_response", "ext_authz_error")
"""What the gateway says where it refused by itself, as `flows/shape.py` reads it."""
_DECIDED_BY_USE = frozenset({"infer", "chat", "embed", "describe", "call", "read-resource", "get-prompt", "complete", "call-tool", "use"})
"""Actions whose requests end at an enforcement point (rule 2)."""


class _Meta(msgspec.Struct):
    event_code: str
    is_truncated: bool = False


class _Ours(msgspec.Struct):
    vouchgate: msgspec.Raw = msgspec.Raw(b"null")


class _Entry(msgspec.Struct):
    metadata: _Meta
    unmapped: _Ours
    time: int = 0


class _Time(msgspec.Struct):
    time: int


class _Event(msgspec.Struct):
    """What a record takes of an `Event`."""

    occurred_at: int
    principal: str = ""
    authenticated: bool = False
    action: str = ""
    resource: str = ""
    decision_id: str = ""
    grant_id: str = ""
    outcome: str = ""
    peer: str = ""
    detail: dict[str, Any] = {}


class _Risk(msgspec.Struct, frozen=True):
    value: int = 0


class _Decided(msgspec.Struct):
    """Likewise of a `Decision`."""

    id: str
    effect: str
    would_be: str
    principal: str
    action: str
    resource: str
    evaluated_at: int
    mode: str = "enforce"
    facts_digest: str = ""
    facts: dict[str, Any] | None = None
    actors: tuple[str, ...] = ()
    risk: _Risk = _Risk()
    determining: tuple[str, ...] = ()


_entry = msgspec.json.Decoder(_Entry)
_time = msgspec.json.Decoder(_Time)
_event = msgspec.json.Decoder(_Event)
_decision = msgspec.json.Decoder(_Decided)
assert set(_Decided.__struct_fields__) <= set(Decision.__struct_fields__)


class LogReader:
    """Reads a stretch of the log. `endpoints` names the thing behind a model or a tool where no decision says it."""

    def __init__(self, store: Reads, endpoints: dict[str, Endpoint]) -> None:
        self._store, self._endpoints = store, endpoints
        self._decisions: OrderedDict[str, _Decided | None] = OrderedDict()
        self.left_out: dict[str, int] = {}

    def page(self, start: int, count: int) -> tuple[list[Recorded], int]:
        """(records, index behind the last entry that was read)."""
        rows = self._store.entries(start, count)
        read = [one for one in map(self._read, rows) if one is not None]
        for ours in read:
            if isinstance(ours, _Decided):
                self._remember(ours.id, ours)
        made = [self._record(ours) for ours in read]
        return [one for one in made if one is not None], start + len(rows)

    def _read(self, row: bytes) -> _Event | _Decided | None:
        try:
            entry = _entry.decode(row)
            kind = entry.metadata.event_code
            if entry.metadata.is_truncated and kind in ("request-end", "decision"):
                self._leave_out("shortened")
            elif kind == "request-end":
                return _event.decode(entry.unmapped.vouchgate)
            elif kind == "decision":
                return _decision.decode(entry.unmapped.vouchgate)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._leave_out("unreadable")
        return None

    def _leave_out(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1

    def _record(self, ours: _Event | _Decided) -> Recorded | None:
        made = self._of_request(ours) if isinstance(ours, _Event) else self._of_decision(ours)
        if isinstance(made, str):
            if made:
                self._leave_out(made)
            return None
        return made

    def _of_request(self, event: _Event) -> Recorded | str:
        """A record, or why there is none (rule 3)."""
        key = event.decision_id or event.grant_id.partition(".")[0]
        decided = self._decision_of(key) if key else None
        refused = _refused(decided) if decided is not None else ""
        detail = event.detail
        who = decided.principal if decided is not None else str(detail.get(ocsf.ACTS_AS) or event.principal)
        if refused or not who:
            return refused or "anonymous"
        if event.outcome == "denied" and decided is None:
            said = str(detail.get("details", ""))
            return next((mark for mark in _MARKS if mark in said), "gateway")
        endpoint = self._endpoints.get(event.resource)
        thing = decided.resource if decided is not None else event.resource
        if decided is None and endpoint is not None:
            thing = resource_of(endpoint, model=str(detail.get("model", "")), tool=str(detail.get("tool", ""))) or event.resource
        host = event.peer.rpartition(":")[0].strip("[]") or event.peer
        return Recorded(
            time=event.occurred_at,
            principal=who,
            action=event.action,
            resource=thing,
            effect="deny" if event.outcome == "denied" else "allow",
            observed=str(detail.get("map", "")).startswith("observe:") or (decided is not None and decided.effect != decided.would_be),
            by=decided.determining if decided is not None else (),
            decision=key,
            actors=decided.actors if decided is not None else (),
            risk=decided.risk.value if decided is not None else 0,
            authenticated=event.authenticated,
            credential=_credential(event),
            source_ip=host if host.replace(".", "").isdigit() or ":" in host else None,
            method=str(detail.get("method", ""))[:16],
            path=str(detail.get("path", ""))[:8192],
            **_facts_of(decided),
        )

    def _of_decision(self, decided: _Decided) -> Recorded | str:
        if decided.action in _DECIDED_BY_USE:
            return ""
        refused = _refused(decided)
        if refused:
            return refused
        return Recorded(
            time=decided.evaluated_at,
            principal=decided.principal,
            action=decided.action,
            resource=decided.resource,
            effect="allow" if decided.effect == "allow" else "deny",
            observed=decided.effect != decided.would_be,
            by=decided.determining,
            decision=decided.id,
            actors=decided.actors,
            risk=decided.risk.value,
            **_facts_of(decided),
        )

    def _decision_of(self, key: str) -> _Decided | None:
        if key in self._decisions:
            self._decisions.move_to_end(key)
            return self._decisions[key]
        found = None
        for index in self._store.find_entries(key)[:1]:
            read = self._read(self._store.entries(index, 1)[0])
            found = read if isinstance(read, _Decided) else None
        self._remember(key, found)
        return found

    def _remember(self, key: str, decided: _Decided | None) -> None:
        self._decisions[key] = decided
        if len(self._decisions) > MAX_DECISIONS:
            self._decisions.popitem(last=False)


def _facts_of(decided: _Decided | None) -> dict[str, Any]:
    """What the access log does not hold; a decision that says it says all of it. Of a chain it says the subject's alone, so that stays open."""
    if decided is None or decided.facts is None or decided.actors:
        return {}
    return {"whole": True} | {name: value for name, value in decided.facts.items() if name in NOT_RECORDED}


def _refused(decided: _Decided) -> str:
    """Why no policy made this decision, or nothing."""
    if any(one.startswith("revocation:") for one in decided.determining):
        return "revoked"
    if any(one.startswith("budget") for one in decided.determining):
        return "budget"
    return "" if decided.facts_digest else "credential"


def _credential(event: _Event) -> str:
    certificate, token = bool(event.detail.get("serial")), bool(event.detail.get("sub"))
    return "both" if certificate and token else "jwt" if token else "x509" if event.authenticated else "declared"


def start_of(store: Reads, since: int) -> int:
    """Index of the first entry that may be later than `since`, by halving; entries without a time make it earlier, never later."""
    low, high = 0, store.size()
    while low < high:
        middle = (low + high) // 2
        time = _time_near(store, middle, high)
        if time is not None and time < since - SLACK_MS:
            low = middle + 1
        else:
            high = middle
    return low


def _time_near(store: Reads, index: int, end: int) -> int | None:
    """Of this entry, or of the next that has one."""
    for row in store.entries(index, min(MAX_WITHOUT_TIME, end - index)):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _time.decode(row).time
    return None


def records_since(reader: LogReader, start: int, since: int, count: int) -> tuple[Sequence[Recorded], int]:
    """A page without what was before `since`."""
    found, after = reader.page(start, count)
    return [one for one in found if one.time >= since], after
