"""A control plane is asked what it holds about a model, about what the model was made from, and about what that was made from.

Steps
1. Ask about the model's digest, and about each of its files with weights: a file may have been taken in alone.
2. Ask about every input that an answer names, once each, until there is none left. What was made from itself ends there too.
3. A lineage beyond the bounds ends it: half a lineage looks like a short one. A vouch about several pieces of content is told of the first that was asked
   about.
4. The document is asked again: which of its vouches the control plane no longer lets stand, and which it has now and had not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

import msgspec

from vouchgate.evidence.bom.document import Model
from vouchgate.evidence.bom.lineage import AGAINST, HELD, MAX_TEXT, OPEN, Vouched
from vouchgate.evidence.bom.read import ReadBom
from vouchgate.flows.describe_artifact import Difference
from vouchgate.vocabulary.answers import VouchState
from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.vouches import Outcome, Tier

MAX_CONTENTS = 2_000
"""Pieces of content that are asked about: one run declares at most some hundred inputs, and each question is a millisecond."""
MAX_ANSWER = 500
"""Vouches of one answer (take_vouch.py, MAX_LISTED): as many may be only the newest of more."""
_STANDING: Mapping[str, str] = {"holds": HELD, "expiring": HELD, "failed": AGAINST, "revoked": AGAINST}

Ask = Callable[[str], tuple[VouchState, ...]]
"""The vouches about a digest, the newest first."""


def lineage(ask: Ask, digests: Iterable[str]) -> tuple[Vouched, ...]:
    """Steps 1 to 3, in the order of ids. Raises `LimitExceeded`, and what asking raises."""
    found: dict[str, Vouched] = {}
    waiting = deque(dict.fromkeys(digests))
    asked = set(waiting)
    while waiting:
        digest = waiting.popleft()
        for one in _about(ask, digest):
            found.setdefault(one.id, one)
            for name in one.inputs:
                if name not in asked:
                    asked.add(name)
                    waiting.append(name)
        if len(asked) > MAX_CONTENTS:
            raise LimitExceeded(
                f"the model was made from more than {MAX_CONTENTS} pieces of content", remedy="describe what it was made from"
            )
    return tuple(found[name] for name in sorted(found))


def with_lineage(model: Model, ask: Ask) -> Model:
    """The model with what is held about it; raises what `lineage` does."""
    weights = {one.path for one in model.weights}
    alone = [f"sha256:{file.sha256}" for file in model.files if model.folder and file.path in weights]
    return msgspec.structs.replace(model, vouches=lineage(ask, [model.digest, *alone]), asked=True)


def compare_lineage(bom: ReadBom, ask: Ask) -> list[Difference]:
    """Step 4: a vouch that only ended by its own time is no difference, nor is one about other content."""
    if bom.subject is None:
        return []
    asked = dict.fromkeys([bom.subject.said("digest"), *(one.about for one in bom.vouches)])
    then, here = {one.id: one for one in bom.vouches}, {one.id: one for one in lineage(ask, asked)}
    found = []
    for name in sorted(then.keys() | here.keys(), key=lambda one: ((then.get(one) or here[one]).predicate, one)):
        before, after = then.get(name), here.get(name)
        one = after or before
        assert one is not None
        label = f"{one.predicate} {name[:16]}"
        if after is None:
            found.append(Difference(kind="missing", what="vouch", name=label, told="the control plane has no such vouch"))
        elif after.standing == AGAINST and (before is None or before.standing != AGAINST):
            found.append(Difference(kind="changed" if before else "added", what="vouch", name=label, told=after.told))
        elif before is not None and (before.standing == AGAINST) > (after.standing == AGAINST):
            found.append(Difference(kind="changed", what="vouch", name=label, told="it stood against the content, and no longer does"))
        elif before is not None and _signed(before) != _signed(after):
            found.append(
                Difference(kind="changed", what="vouch", name=label, told="the document says of it what the control plane does not")
            )
    return found


def _signed(one: Vouched) -> tuple[object, ...]:
    """What cannot change of a vouch."""
    return one.predicate, one.about, one.outcome, one.tier, one.role, one.key, one.tool, one.issued_at, one.expires_at, one.inputs, one.run


def _about(ask: Ask, digest: str) -> Iterable[Vouched]:
    """Step 3."""
    states = ask(parse_digest(digest).text)
    if len(states) >= MAX_ANSWER:
        raise LimitExceeded(f"`{digest[:30]}` has {MAX_ANSWER} vouches or more", remedy="describe it without --control")
    for one in states:
        if one.id:
            yield _vouched(one, digest)


def _vouched(one: VouchState, digest: str) -> Vouched:
    standing = _STANDING.get(one.state, OPEN)
    outcome: Outcome = one.outcome or "inconclusive"
    tier: Tier = one.tier or "inferred"
    return Vouched(
        id=one.id,
        predicate=_plain(one.predicate),
        about=digest,
        standing=standing,
        told="" if standing == HELD else _plain(one.detail or one.state),
        outcome=outcome,
        tier=tier,
        role=_plain(one.issuer_role),
        key=_plain(one.issuer_key),
        tool=_plain(one.tool),
        issued_at=one.issued_at,
        expires_at=one.expires_at,
        inputs=tuple(sorted({parse_digest(name).text for name in one.inputs})),
        run=_plain(one.run),
        rests_on=tuple(sorted(set(one.rests_on))),
    )


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)[:MAX_TEXT]
