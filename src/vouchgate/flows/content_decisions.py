"""Whether content may be used now, decided for whoever asks before it uses it: what a gate's question and a load have in common.

1. What is asked about is a digest, never a name or a path; policy decides on the artifact of that digest, with what the asker tells of the use.
2. Revoked content is refused whatever policy says. Content for a zone lies in that zone, where crossings are declared.
3. What owes something (a step-up, an approval) is met by nobody here, so it denies; observing lets nothing pass.
4. An allow may be relied on for `HOLD_MS`, and never longer than the decision holds.
Left to others: who asks, how often (each flow has a bucket of its own), and the entries of the log.
"""

from __future__ import annotations

from collections.abc import Iterable

from vouchgate.flows.assets import check_served
from vouchgate.flows.context import Context
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.names import resource

HOLD_MS = 1_000
"""Milliseconds: what is withdrawn is withdrawn everywhere within a second."""
MAX_WORD = 64
"""Characters of a word that tells of the use, `purpose` for instance."""


def check_words(words: Iterable[str], most: int = MAX_WORD) -> None:
    """Plain words of at most so many characters. Raises `InvalidInput`."""
    for word in words:
        if len(word) > most or not word.isprintable():
            raise InvalidInput(f"`{word[:MAX_WORD]}` is no plain text", remedy=f"give at most {most} printable characters")


def decide(context: Context, caller: Caller, act: str, digest: Digest, **told: str) -> Decision:
    """Rule 1; what is told as nothing is not told."""
    name = resource(context.trust_domain, "artifact", digest.text)
    facts = {word: value for word, value in told.items() if value}
    return context.facts.decide(caller.principal, act, name, context.clock.now(), facts=facts, mode="enforce")


def allows(decision: Decision) -> bool:
    """Rule 3."""
    return decision.effect == "allow" and decision.would_be == "allow" and not decision.residual and not decision.obligations


def lack(context: Context, digest: Digest, zone: str) -> tuple[str, str] | None:
    """Rule 2: (why not, remedy). Without a zone nothing is asked about crossings."""
    tainted = context.facts.lineage.tainted(digest.text)
    if tainted:
        return f"`{digest.text[:23]}` was revoked", f"use other content, or: `vouchgate revoke --undo {tainted}`"
    if zone:
        try:
            check_served(context.facts, zone, digest.text)
        except Conflict as error:
            return error.reason, error.remedy
    return None


def hold_ms(context: Context, decision: Decision) -> int:
    """Rule 4, of an allow."""
    return max(0, min(HOLD_MS, decision.not_after - context.clock.now()))
