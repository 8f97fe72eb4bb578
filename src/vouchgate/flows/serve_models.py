"""Which bytes an endpoint serves: the supervisor that opened them says so, in the control plane's log, for as long as it goes on saying so.

1. The model named in the settings is imported like any other file, by the supervisor's own identity.
2. The supervisor opens the admitted bytes, seals them, hands them to the server, and reports endpoint, digest and process.
3. That becomes a `serves` vouch of tier `verified`, resting on the artifact's `import` vouch, short-lived; the supervisor renews it while
   the process lives.
An endpoint whose server vouchgate did not start, or that names no file, is `declared`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from vouchgate.audit import ocsf
from vouchgate.evidence.statement import read_vouch
from vouchgate.flows.assets import check_served, place_imported
from vouchgate.flows.changes import VouchAdded
from vouchgate.flows.context import Context
from vouchgate.flows.units import SERVES_SECONDS
from vouchgate.identity.verify import peer_uid
from vouchgate.vocabulary.answers import Caller, ImportOutcome, ImportRequest
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound
from vouchgate.vocabulary.names import principal, resource
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import Method, Subject
from vouchgate.vocabulary.wire import to_plain

RENEW_BEFORE_MS = 7 * 86_400_000
"""Milliseconds before a scan ends at which a start scans again."""


class Surface(Protocol):
    """The part of the control plane that imports."""

    context: Context

    async def import_artifact(self, caller: Caller, request: ImportRequest) -> ImportOutcome: ...


def supervisor_caller(context: Context, pid: int) -> Caller:
    """The supervisor as an administrator of one thing: importing what the settings name."""
    name = principal(context.trust_domain, "system", "control", "supervisor")
    registration = context.facts.registrations[name]
    who = peer_uid(context.place.own_uid, Principal(id=name, groups=registration.groups), context.clock.now())
    return Caller(principal=who, how="uid", peer=f"uid:{context.place.own_uid} pid:{pid}")


async def import_model(system: Surface, staged: str, digest: str, name: str, zone: str, pid: int) -> ImportOutcome:
    """Step 1, on a file of the staging folder; content whose evidence still holds is not read again. Raises what importing raises."""
    if not staged.isalnum() or len(staged) != 32:
        raise InvalidInput("that is not a staged file", remedy="stage it first")
    context = system.context
    path = Path(context.settings.data_dir) / "control/staging" / staged
    known = admitted_before(context, digest, zone)
    kept = Path(context.settings.data_dir) / "control/artifacts" / parse_digest(digest).value
    if known is not None and kept.is_file():
        path.unlink(missing_ok=True)
        await place_imported(context, supervisor_caller(context, pid), known.resource, zone)
        return known
    try:
        return await _import(system, str(path), name, zone, pid)
    finally:
        path.unlink(missing_ok=True)


def admitted_before(context: Context, digest: str, zone: str) -> ImportOutcome | None:
    """The outcome for content that was imported before, while all its evidence holds for longer than `RENEW_BEFORE_MS`."""
    name, now = resource(context.trust_domain, "artifact", digest), context.clock.now()
    held = {one.predicate: one for one in context.facts.lineage.holding(name, now) if one.outcome == "pass"}
    if any(one not in held or held[one].not_after < now + RENEW_BEFORE_MS for one in ("scan", "structure", "import")):
        return None
    reason = "it was admitted before, and its evidence holds"
    return ImportOutcome(admitted=True, digest=digest, size=0, format="", resource=name, zone=zone, reason=reason)


async def _import(system: Surface, path: str, name: str, zone: str, pid: int) -> ImportOutcome:
    context = system.context
    return await system.import_artifact(supervisor_caller(context, pid), ImportRequest(path=path, name=name, zone=zone))


async def vouch_serving(context: Context, params: dict[str, Any]) -> str:
    """Step 3: `endpoint` (name), `digest`, `tier`, `pid`, `uid`. Raises `NotFound`, and `Conflict` for revoked content."""
    endpoint_id = resource(context.trust_domain, "endpoint", params["endpoint"])
    if endpoint_id not in context.facts.endpoints:
        raise NotFound(f"there is no endpoint `{params['endpoint'][:64]}`", remedy="name it in vouchgate.toml")
    digest = parse_digest(params["digest"])
    tainted = context.facts.lineage.tainted(digest.text)
    if tainted:
        raise Conflict(
            f"`{params['endpoint'][:64]}` serves content that was revoked",
            remedy=f"serve another model, or: `vouchgate revoke --undo {tainted}`",
        )
    if params["tier"] != "declared":  # what is declared stands for a line of the settings; no content was looked at that could lie anywhere
        check_served(context.facts, context.facts.endpoints[endpoint_id].zone, digest.text)
    artifact = resource(context.trust_domain, "artifact", digest.text)
    now = context.clock.now()
    holding = context.facts.lineage.holding(artifact, now)
    rests_on = sorted(one.vouch_id for one in holding if one.predicate == "import" and one.outcome == "pass")[:1]
    said = await context.signer.call(
        "vouch",
        role="supervisor",
        predicate_type="serves",
        predicate_version=1,
        subjects=[to_plain(Subject(name=endpoint_id, digest=digest))],
        outcome="pass",
        not_before=now,
        expires_at=now + SERVES_SECONDS * 1000,
        rests_on=rests_on,
        tier=params["tier"],
        method=to_plain(Method(tool="vouchgate-supervisor", version="1")),
        claims={"model": artifact, "pid": params["pid"], "uid": params["uid"], "observed": params["observed"]},
    )
    vouch = read_vouch(said["envelope"]).vouch
    entries = [Append(entry=ocsf.vouch(vouch, now=now), label=vouch.id)]
    await context.sequencer.submit("system:supervisor", [VouchAdded(id=vouch.id, envelope=said["envelope"])], entries)
    return vouch.id
