"""A signature or a builder's provenance becomes evidence about what is kept: the control plane verifies it, and vouches for what it found.

1. The act is decided as handing in any vouch is; a caller hands in a bounded number a minute, each of bounded size.
2. The artifact is in the store. Every byte of it is read and held against what was signed, never against what somebody said of it.
3. The bundle is held against each signer (builder) of the settings, or against the one that is named. The first for whom it holds is vouched for;
   where it holds for none, that is recorded and answered with the reason of the nearest one.
4. The vouch says who, by which kind of proof, and the bundle's own digest. It lives as the settings say, never longer than the policy of vouches lets it.
5. The same bundle for the same signer is no change while its vouch counts and is not about to end.
A signature says who answers for the bytes. It is no verdict on them: policies ask for `scan` beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from vouchgate.evidence.merkle import content_digest
from vouchgate.evidence.statement import read_vouch
from vouchgate.flows import allowances_standing
from vouchgate.flows.administer import act_entry, authorise
from vouchgate.flows.context import Buckets, Context
from vouchgate.flows.measure import Measuring, measure
from vouchgate.flows.revoke import enforced
from vouchgate.flows.signers import Certified, Differs, Files, certify, certify_build
from vouchgate.flows.stored_place import Kept, StoredPlace
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.digests import Digest, parse_digest
from vouchgate.vocabulary.errors import InvalidInput, InvalidSettings, LimitExceeded, NotFound, Unverified
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.vouches import Method, Subject, Vouch
from vouchgate.vocabulary.wire import to_plain

MAX_BUNDLE_BYTES = 720_000
"""Bytes of a bundle that is handed in; in base64 it fits a request's body. A model of about 4,000 files."""
PER_MINUTE = 60
"""Signatures that one caller hands in: each reads a whole model."""
DAY_MS = 86_400_000
RENEW_BEFORE_MS = 7 * DAY_MS
"""A vouch that ends sooner is made again (rule 5)."""
SIGNATURE, PROVENANCE = "signature", "provenance"
MAX_TEXT = 4_096
"""Characters of a claim (vocabulary/fields.py)."""

_buckets = Buckets(PER_MINUTE)


async def take_signature(
    context: Context, caller: Caller, kept: Kept, files: Files, digest: str, bundle: bytes, by: str = ""
) -> VouchTaken:
    """Rules 1 to 5 for a signature on a model; `by` names the signer. Raises `NotPermitted`, `LimitExceeded`, `NotFound`, `InvalidInput`."""
    return await vouch_for(context, caller, kept, files, await _enter(context, caller, digest, bundle), bundle, SIGNATURE, by)


async def take_provenance(
    context: Context, caller: Caller, kept: Kept, files: Files, digest: str, bundle: bytes, by: str = ""
) -> VouchTaken:
    """The same for a builder's provenance."""
    return await vouch_for(context, caller, kept, files, await _enter(context, caller, digest, bundle), bundle, PROVENANCE, by)


async def vouch_for(
    context: Context, caller: Caller, kept: Kept, files: Files, wanted: Digest, bundle: bytes, predicate: str, by: str = ""
) -> VouchTaken:
    """Rules 2 to 5, for whoever decided rule 1: an import hands in what it staged (`StagedContent`), before anything is decided about it."""
    now, started = context.clock.now(), time.monotonic()

    def find() -> tuple[Certified | None, str, str]:
        if predicate == PROVENANCE:
            contents = _contents(kept, wanted)
            builds = [(one.name, partial(certify_build, one, files, bundle, contents, now)) for one in context.settings.builders]
            return _first(builds, by, predicate)
        with closing(StoredPlace(kept, wanted)) as place:
            signs = [(one.name, partial(certify, one, files, bundle, place, wanted, now)) for one in context.settings.signers]
            return _first(signs, by, predicate)

    return await _answer(context, caller, wanted, bundle, predicate, await asyncio.to_thread(find), started)


async def _enter(context: Context, caller: Caller, digest: str, bundle: bytes) -> Digest:
    """Rule 1."""
    await authorise(context, caller, "vouch")
    who = caller.principal.principal.id
    if not _buckets.take(f"{context.trust_domain} {who}"):
        raise LimitExceeded(f"`{who}` handed in {PER_MINUTE} signatures within a minute", remedy="send them more slowly")
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise InvalidInput(f"the bundle has {len(bundle)} bytes, the bound is {MAX_BUNDLE_BYTES}", remedy="sign fewer files at once")
    return parse_digest(digest)


def _contents(kept: Kept, digest: Digest) -> dict[str, str]:
    """Rule 2: path -> SHA-256 of every file, read just now."""
    with closing(StoredPlace(kept, digest)) as place:
        found = measure(place, Measuring(tensors=False))
    if content_digest(found).text != digest.text:
        raise NotFound("what is kept is no longer what its digest says", remedy="import the artifact again")
    return {file.path: file.sha256 for file in found.files}


def _first(tries: Sequence[tuple[str, Callable[[], Certified]]], by: str, what: str) -> tuple[Certified | None, str, str]:
    """Rule 3: what holds, or why nothing does with its remedy."""
    table = "signers" if what == SIGNATURE else "builders"
    tries = [one for one in tries if not by or one[0] == by]
    if not tries:
        named = f"the settings name no {table[:-1]} `{by[:64]}`" if by else f"the settings name no {table}: nobody's {what} counts here"
        return None, named, f"add [[{table}]] to vouchgate.toml"
    faults = []
    for name, attempt in tries:
        try:
            return attempt(), "", ""
        except (Unverified, InvalidInput, InvalidSettings) as error:
            faults.append((isinstance(error, Differs), isinstance(error, Unverified), f"for `{name}`: {error.reason}", error.remedy))
    *_, why, remedy = max(faults, key=lambda fault: fault[:2])
    return None, why if len(tries) == 1 else f"it holds for none of {len(tries)} {table}; {why}", remedy


async def _answer(
    context: Context,
    caller: Caller,
    digest: Digest,
    bundle: bytes,
    predicate: str,
    found: tuple[Certified | None, str, str],
    started: float,
) -> VouchTaken:
    """Rules 3 to 5."""
    certified, why, remedy = found
    name = resource(context.trust_domain, "artifact", digest.text)
    if certified is None:
        entry = act_entry(context, caller, "add-vouch", name, "denied", {"predicate": predicate, "why": "unverified", "reason": why[:500]})
        await context.sequencer.submit(caller.principal.principal.id, (), [entry])
        return VouchTaken(taken=False, why="unverified", reason=why, remedy=remedy)
    claims = _claims(certified, bundle, predicate)
    standing = _standing(context, name, predicate, claims)
    if standing is not None:
        return _taken(standing, why="known")
    signed = await context.signer.call("vouch", **_request(context, Subject(name=name, digest=digest), predicate, certified, claims))
    vouch = read_vouch(signed["envelope"]).vouch
    changes, entries = allowances_standing.coming_in(context.facts, vouch, signed["envelope"], context.clock.now())
    entries.append(act_entry(context, caller, "add-vouch", name, "done", {"vouch": vouch.id, "predicate": predicate, "by": certified.name}))
    await context.sequencer.submit(caller.principal.principal.id, changes, entries)
    return _taken(vouch, points=await enforced(context, started))


def _standing(context: Context, name: str, predicate: str, claims: dict[str, Any]) -> Vouch | None:
    """Rule 5."""
    lineage, until = context.facts.lineage, context.clock.now() + RENEW_BEFORE_MS
    for vouch in lineage.about(name):
        mine = vouch.predicate_type == predicate and vouch.outcome == "pass" and vouch.claims == claims
        if mine and vouch.expires_at > until and not lineage.revoked(vouch):
            return vouch
    return None


def _claims(found: Certified, bundle: bytes, predicate: str) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "identity": found.identity[:MAX_TEXT],
        "bundle": hashlib.sha256(bundle).hexdigest(),
        "authors": list(found.authors),
    }
    claims |= {"signer": found.name, "kind": found.kind} if predicate == SIGNATURE else {"builder": found.name, **found.provenance}
    optional = {"issuer": found.issuer, "signed_at": found.signed_at, "root": found.root, "log": found.log, "log_index": found.log_index}
    return claims | {key: value for key, value in optional.items() if value}


def _request(context: Context, subject: Subject, predicate: str, found: Certified, claims: dict[str, Any]) -> dict[str, Any]:
    """Rule 4, as the signer takes it."""
    now = context.clock.now()
    return {
        "role": "importer",
        "predicate_type": predicate,
        "predicate_version": 1,
        "subjects": [to_plain(subject)],
        "outcome": "pass",
        "not_before": now,
        "expires_at": now + found.days * DAY_MS,
        "tier": "verified",
        "method": to_plain(Method(tool=f"vouchgate-{predicate}", version="1")),
        "claims": claims,
    }


def _taken(vouch: Vouch, *, why: str = "", points: tuple[Any, ...] = ()) -> VouchTaken:
    return VouchTaken(
        taken=True,
        id=vouch.id,
        predicate=vouch.predicate_type,
        subjects=tuple(one.name for one in vouch.subjects),
        expires_at=vouch.expires_at,
        why=why,
        points=points,
    )
