"""`vouchgate status`: what needs a person first, then what runs, what is refused, and how fresh the evidence is."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import ago, duration, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import Need, Status
from vouchgate.vocabulary.answers_decisions import EndpointState
from vouchgate.vocabulary.wire import Noun

SUMMARY = "what is running, what is refused, what needs you"
NEED_MARK = {"act": "bad", "soon": "warn", "note": "note"}
KEYS = {
    "file": "in files, 0600: a copy of the disk is a copy of the keys",
    "passphrase": "in files under a passphrase",
    "keyring": "in files under a passphrase, which the kernel's keyring stands in for until the machine ends",
    "pkcs11": "in a PKCS #11 token",
}
POINT_MARK = {"current": "good", "behind": "warn", "rejected": "bad", "unreachable": "bad"}


class _Whole(Noun, frozen=True, kw_only=True):
    status: Status
    endpoints: tuple[EndpointState, ...]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where something must be done now."""
    status = session.client.get(Status, "/api/v1/status")
    endpoints = session.client.get(tuple[EndpointState, ...], "/api/v1/endpoints")
    if not session.json(_Whole(status=status, endpoints=endpoints)):
        _show(session, status, endpoints)
    return 1 if any(need.severity == "act" for need in status.needs) else 0


def _show(session: Session, status: Status, endpoints: tuple[EndpointState, ...]) -> None:
    show, now = session.printer, status.now
    show.line(show.paint(f"{status.trust_domain}", "bold") + f"  vouchgate {status.version}, up {duration(now - status.started_at)}")
    for need in status.needs:
        _show_need(session, need)
    show.line()
    show.field("gateway", *(address for address in (status.gateway, status.plain) if address))
    show.field("console", status.console)
    show.field("calls", f"{status.allowed} allowed, {status.denied} denied, {status.would_deny} would be denied by enforcing")
    show.field("policy", f"version {status.policy_version}, epoch {status.epoch}")
    show.field("log", f"{status.log_size} entries, {status.witness.statement or 'no witness'}")
    if status.keys:
        show.field("keys", KEYS.get(status.keys, status.keys))
    if not status.zones_hold:
        show.field("zones", "no crossing is declared: zones hold nobody (`vouchgate zones map`)")
    if status.solo:
        show.field("solo", "one person may author and approve the same change")
    if not status.isolated:
        show.field("uids", "the processes share one uid: they are not isolated from each other")
    show.line()
    for point in status.points:
        lease = f", lease for {duration(point.lease_until - now)}" if point.lease_until > now else ""
        show.marked(
            POINT_MARK[point.state], f"{point.id.ljust(12)} {point.state}, epoch {point.epoch}{lease} {point.detail}".rstrip(), indent=2
        )
    for process in status.processes:
        if process.state != "running":
            show.marked("bad", f"{process.name.ljust(12)} {process.state} {process.detail}".rstrip(), indent=2)
    show.line()
    rows = [
        (short_name(state.endpoint.id), state.endpoint.zone, state.mode, state.verdict, state.endpoint.digest_tier or "unknown", _vouches(state),
         str(state.callers), str(state.allowed), str(state.denied), ago(state.last_call_at, now))
        for state in endpoints
    ]  # fmt: skip
    show.table(("endpoint", "zone", "mode", "verdict", "digest", "vouches", "callers", "allowed", "denied", "last call"), rows)


def _vouches(state: EndpointState) -> str:
    holding = sum(vouch.state in ("holds", "expiring") for vouch in state.vouches)
    return f"{holding} of {len(state.vouches) or len(state.missing)} hold"


def _show_need(session: Session, need: Need) -> None:
    show = session.printer
    show.marked(NEED_MARK[need.severity], need.title + (f": {need.detail}" if need.detail else ""))
    show.command("", need.command)
