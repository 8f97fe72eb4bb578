"""What a replay, a suggestion or a table of privileges is worked out from: recorded decisions page by page, and one picture of the entities.

    page(context, start, since) -> RecordedPage       a stretch of the log as lines of the export format; reads only
    picture(context) -> Picture                       entities and policy as they are at this moment, safe to be read in another thread
    snapshot(context) -> PolicySnapshot               the same for another process

The work itself is done by whoever asked, in its own process (edges/cli/recorded_files.py), or beside the event loop (flows/suggest.py).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from vouchgate.flows.context import Context
from vouchgate.flows.recorded import LogReader, records_since, start_of
from vouchgate.policy.catalog import BASE
from vouchgate.policy.compile import CompiledPolicies
from vouchgate.policy.recorded import Recorded, write_records
from vouchgate.policy.world import World
from vouchgate.vocabulary.answers_policy import PolicySnapshot, RecordedPage, Standing
from vouchgate.vocabulary.errors import LimitExceeded, Unavailable
from vouchgate.vocabulary.names import resource_parts
from vouchgate.vocabulary.places import Endpoint, asks
from vouchgate.vocabulary.vouches import UnixMillis

PAGE = 2_000
"""Log entries of one page: about 40 ms to read, 600 KB to send."""
MAX_SNAPSHOT_BYTES = 11 * 1024 * 1024
"""Compressed bytes of the entities, so that the answer stays below the bound of a document in base64; about 400,000 callers."""
MOVES = ("ingest", "read", "transform", "label", "train", "fine-tune", "evaluate", "import", "admit", "promote", "export", "deploy")
"""What is done with things that were placed (the schema's group `move`)."""
_KEY_ACTS = ("release-key", "sign")


@dataclass(frozen=True)
class Picture:
    """One moment. Nobody changes it."""

    trust_domain: str
    now: UnixMillis
    world: World
    policies: CompiledPolicies
    asks: tuple[tuple[str, str], ...]
    standing: tuple[Standing, ...]


async def page(context: Context, start: int, since: int) -> RecordedPage:
    """Records from a log index on, or with `start` below zero from the first that is not before `since`."""
    store, endpoints = context.store, dict(context.facts.endpoints)
    return await asyncio.to_thread(_page, context, LogReader(store, endpoints), start, since)


def _page(context: Context, reader: LogReader, start: int, since: int) -> RecordedPage:
    first = start_of(context.store, since) if start < 0 else start
    records, after = records_since(reader, first, since, PAGE)
    lines = write_records(records).decode()
    return RecordedPage(lines=lines, records=len(records), next=after, end=context.store.size(), left_out=reader.left_out)


def recorded(context: Context, endpoints: dict[str, Endpoint], since: int, most: int) -> Iterator[list[Recorded]]:
    """Everything since then, for a thread beside the event loop; at most `most` records."""
    reader = LogReader(context.store, endpoints)
    at, end, seen = start_of(context.store, since), context.store.size(), 0
    while at < end and seen < most:
        found, at = records_since(reader, at, since, PAGE)
        seen += len(found)
        yield list(found)


def picture(context: Context) -> Picture:
    """Raises `Unavailable` before a policy is loaded."""
    facts = context.facts
    if facts.policies is None:
        raise Unavailable("no policy is loaded yet", remedy="wait until the control plane is ready")
    placed = [asset for asset in facts.assets.values() if asset.zones]
    can = [pair for endpoint in facts.endpoints.values() for pair in asks(endpoint)]
    for asset in placed:
        can += [(action, str(asset.id)) for action in (_KEY_ACTS if resource_parts(asset.id).kind == "key" else MOVES)]
    return Picture(
        trust_domain=context.trust_domain,
        now=context.clock.now(),
        world=facts.world.still(),
        policies=facts.policies,
        asks=tuple(dict.fromkeys(can)),
        standing=tuple(_standing(context)),
    )


def _standing(context: Context) -> Iterator[Standing]:
    facts = context.facts
    revoked = {
        one.target for one in facts.revocations.values() if not one.withdrawn_by and one.target_kind in ("principal", "registration")
    }
    for name in sorted(revoked.union(facts.risks).intersection(facts.registrations)):
        risk, revocation = facts.risks.get(name), facts.revocation_of(name)
        if (risk is not None and risk.value) or revocation is not None:
            yield Standing(
                principal=name,
                risk=risk.value if risk else 0,
                reasons=risk.reasons if risk else (),
                revoked=revocation.reason if revocation else "",
            )


async def snapshot(context: Context) -> PolicySnapshot:
    """Raises `LimitExceeded` for more entities than one answer holds."""
    made, policy = picture(context), context.facts.policy
    entities = await asyncio.to_thread(lambda: zlib.compress(made.world.to_cedar_json().encode(), 1))
    if len(entities) > MAX_SNAPSHOT_BYTES:
        raise LimitExceeded("there are more entities than one answer holds", remedy="suggest for one zone in the console")
    return PolicySnapshot(
        trust_domain=made.trust_domain,
        made_at=made.now,
        policy_version=policy.version if policy else 0,
        policy_digest=made.policies.digest,
        sources=policy.sources if policy else (),
        beside=beside(made.policies, tuple(name for name, _ in policy.sources) if policy else ()),
        entities=entities,
        asks=made.asks,
        standing=made.standing,
        log_size=context.store.size(),
    )


def beside(policies: CompiledPolicies, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What is compiled beside the files of these names and the base policy."""
    found: dict[str, list[str]] = {}
    for one in policies.source.policies:
        if one.source not in names and one.source != f"{BASE}.cedar":
            found.setdefault(one.source, []).append(one.text)
    return tuple((name, "\n".join(texts)) for name, texts in found.items())
