"""Check settings that parse: what is open by itself, and what is more open than in the settings that they are to replace. All warnings.

    check_settings(new, old=None) -> tuple[CheckFinding, ...]

Findings
1. By themselves: `open-listener` (without TLS, for other machines), `long-lease`, `no-crossings` (several zones, and nothing declared between them).
2. Beside the older ones: `crossing-added`, `crossing-loosened` (asks for fewer vouches), `mode-loosened` (observe in place of enforce),
   `lease-longer`, `endpoint-moved`, `endpoint-loosened`, `asset-moved`, `asset-loosened` (labels or purposes are gone), `identity-widened`.
What is gone, tightened or new under a name of its own is none: it has no rights until a policy names it. What contradicts itself is an error
of the parser (settings_file.py), not a finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from vouchgate.vocabulary.answers_policy import CheckFinding
from vouchgate.vocabulary.crossing_words import expanded, kinds_of
from vouchgate.vocabulary.settings import Settings, host_port, is_loopback

LONG_LEASE_SECONDS = 60
"""Of a lease from which a withdrawn grant outlives the control plane for longer than somebody notices that it is away."""
_Act = tuple[str, str, str, str]
"""(from, to, action, kind)."""


def check_settings(new: Settings, old: Settings | None = None) -> tuple[CheckFinding, ...]:
    """All of them, with the setting that each is about."""
    found = [*_open(new)]
    if old is not None:
        found += [*_crossings(new, old), *_zones(new, old), *_endpoints(new, old), *_assets(new, old), *_identities(new, old)]
    return tuple(found)


def _say(kind: str, text: str, remedy: str) -> CheckFinding:
    return CheckFinding(kind=kind, severity="warning", text=text, remedy=remedy)


def _open(new: Settings) -> Iterator[CheckFinding]:
    plain = new.gateway.plain_listen
    if plain and not is_loopback(host_port(plain)[0]):
        text = f"[gateway] plain_listen takes requests without TLS from other machines, on {plain}"
        yield _say("open-listener", text, "listen on 127.0.0.1, or leave it empty")
    for name, zone in new.zones.items():
        if zone.lease_seconds > LONG_LEASE_SECONDS:
            text = f"[zones.{name}] lease_seconds: the gateway allows for {zone.lease_seconds} s without the control plane"
            yield _say("long-lease", text, f"at most {LONG_LEASE_SECONDS}; 10 is usual")
    if len(new.zones) > 1 and not new.crossings:
        text = f"no crossings are declared, so nothing but single policies divides the {len(new.zones)} zones"
        yield _say("no-crossings", text, "declare `[[crossings]]`, beginning with what `vouchgate zones map` shows")


def _acts(settings: Settings) -> dict[_Act, frozenset[str]]:
    """What passes, and the vouches that each asks for."""
    return {
        (one.source, one.target, action, kind): frozenset(one.vouches)
        for one in settings.crossings
        for action in expanded(one.actions)
        for kind in kinds_of(action) & set(one.kinds)
    }


def _crossings(new: Settings, old: Settings) -> Iterator[CheckFinding]:
    """By pair of zones: what passes now and did not, and what asks for less. Without any crossing everything passes, which is told already."""
    was, now = _acts(old), _acts(new)
    if not was:
        return
    more: dict[tuple[str, str], set[str]] = {}
    fewer: dict[tuple[str, str], set[str]] = {}
    for act, vouches in now.items():
        if act not in was:
            more.setdefault(act[:2], set()).add(act[2])
        elif gone := was[act] - vouches:
            fewer.setdefault(act[:2], set()).update(gone)
    for (source, target), actions in more.items():
        text = f"[[crossings]] from `{source}` to `{target}`: {_listed(actions)} did not pass before"
        yield _say("crossing-added", text, f"leave it out, or see what it opens: `vouchgate zones prove {source} {target}`")
    for (source, target), lost in fewer.items():
        text = f"[[crossings]] from `{source}` to `{target}`: {_listed(lost)} need no longer be vouched for"
        yield _say("crossing-loosened", text, "ask for it again under `vouches`")


def _listed(words: set[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


def _zones(new: Settings, old: Settings) -> Iterator[CheckFinding]:
    for name, zone in new.zones.items():
        was = old.zones.get(name)
        if was is None:
            continue
        if zone.mode == "observe" and was.mode == "enforce":
            text = f"[zones.{name}] mode: it would observe, and enforces now: whoever is refused gets through"
            yield _say("mode-loosened", text, "leave it in enforce")
        if was.lease_seconds < zone.lease_seconds <= LONG_LEASE_SECONDS:
            text = f"[zones.{name}] lease_seconds: {zone.lease_seconds} in place of {was.lease_seconds}"
            yield _say("lease-longer", text, f"keep {was.lease_seconds}")


def _endpoints(new: Settings, old: Settings) -> Iterator[CheckFinding]:
    before = {one.name: one for one in old.endpoints}
    for one in new.endpoints:
        was = before.get(one.name)
        if was is None:
            continue
        if one.zone != was.zone:
            text = f"[[endpoints]] `{one.name}` would be in zone `{one.zone}`, and is in `{was.zone}`: other policies and crossings hold for it"
            yield _say("endpoint-moved", text, f'keep zone = "{was.zone}", or see what changes: `vouchgate zones surface`')
        acts = {(route.method, route.path): route.action for route in was.routes}
        odd = [route for route in one.routes if acts.get((route.method, route.path), route.action) != route.action]
        lost = [key for key in ("asset", "approvals", "labels", "purposes") if getattr(was, key) and not getattr(one, key)]
        lost += [f"action of {route.method} {route.path}" for route in odd] + (["routes"] if one.wrapped and not was.wrapped else [])
        if lost:
            text = f"[[endpoints]] `{one.name}` is held by less than before: {', '.join(lost)}"
            yield _say("endpoint-loosened", text, "take it back, if nobody decided it")


def _assets(new: Settings, old: Settings) -> Iterator[CheckFinding]:
    before = {(one.kind, one.name): one for one in old.assets}
    for one in new.assets:
        was = before.get((one.kind, one.name))
        if was is None:
            continue
        if more := set(one.zones) - set(was.zones):
            text = f"[[assets]] {one.kind} `{one.name}` would be placed in {_listed(more)} too"
            yield _say("asset-moved", text, "move it under policy: `vouchgate assets move`")
        gone = {*was.labels} - {*one.labels} | {*was.purposes} - {*one.purposes}
        widened = {*one.purposes} - {*was.purposes} if was.purposes else set()
        if gone or widened:
            text = f"[[assets]] {one.kind} `{one.name}`: {_listed(gone | widened)} {'is gone' if gone else 'is a purpose more'}, which policies go by"
            yield _say("asset-loosened", text, "keep it as it was")


def _identities(new: Settings, old: Settings) -> Iterator[CheckFinding]:
    before = {(one.kind, one.zone, one.name): one for one in old.identities}
    for one in new.identities:
        was = before.get((one.kind, one.zone, one.name))
        if was is not None and (more := {*one.groups} - {*was.groups}):
            text = f"[[identities]] {one.kind} `{one.name}` in zone `{one.zone}` would be in {_listed(more)} too"
            yield _say("identity-widened", text, "leave the group out, if nobody decided it")
