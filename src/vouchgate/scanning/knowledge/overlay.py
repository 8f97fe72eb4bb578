"""Overlay: names that somebody answers for, for one artifact, for a time; over the knowledge base, never in it.

An allowance counts for an artifact only if
1. it names exactly this content by digest, and exactly one class or function by module and qualified name;
2. it is within its time, and its time is `MAX_DAYS` at most;
3. its signer signed nothing else about this content: nobody answers for their own artifact;
4. the name is of no standard library: what the interpreter itself can do is nobody's own class;
5. a function is allowed to be called only with arguments of a named rule, and a class only to be constructed.
What does not count is as if it were not there. Left to others: the signature and its delegation (evidence), which vouches there are (flows).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from vouchgate.scanning.knowledge.entries import Entry, Knowledge, Use
from vouchgate.vocabulary.vouches import UnixMillis, VerifiedVouch
from vouchgate.vocabulary.wire import encode

ALLOW = "allow"
"""The predicate of such a vouch."""
MAX_DAYS = 90
"""Days that an allowance lives at most; long enough for a release, short enough that somebody looks again."""
DAY_MS = 86_400_000
MAX_ALLOWANCES = 200
"""Names allowed for one artifact; a model with more classes of its own is a program."""
_USES: tuple[Use, ...] = ("constructible", "callable")


class Overlay:
    """A knowledge base with what is allowed for one artifact beside it."""

    def __init__(self, base: Knowledge, entries: Iterable[Entry]) -> None:
        self._base = base
        self._own = {(entry.module, entry.name): entry for entry in entries}
        own = encode(sorted(map(encode, self._own.values())))
        self.digest = hashlib.sha256(b"vouchgate/overlay/v1\x00" + bytes.fromhex(base.digest) + own).hexdigest()
        self.version = base.version
        self.fault = base.fault

    def find(self, module: str, name: str) -> Entry | None:
        """What the base knows, and what is allowed beside it."""
        known, own = self._base.find(module, name), self._own.get((module, name))
        if known is None or own is None:
            return known or own
        return replace(
            own,
            uses=tuple(dict.fromkeys((*known.uses, *own.uses))),
            arguments=own.arguments or known.arguments,
            state=own.state or known.state,
            library=known.library,
        )


def overlay(base: Knowledge, vouches: Iterable[VerifiedVouch], digest: str, now: UnixMillis, *, authors: Collection[str]) -> Knowledge:
    """The knowledge for the artifact with this digest (its text form); `authors` are the keys that signed anything else about it."""
    entries = [entry for vouch in vouches if (entry := allowed(vouch, digest, now, authors)) is not None]
    return Overlay(base, entries[:MAX_ALLOWANCES]) if entries else base


def allowed(verified: VerifiedVouch, digest: str, now: UnixMillis, authors: Collection[str]) -> Entry | None:
    """The entry that a vouch allows; None where it does not count here (rules 1 to 5)."""
    vouch = verified.vouch
    about = {subject.digest.text for subject in vouch.subjects if subject.digest is not None}
    in_time = vouch.not_before <= now < vouch.expires_at and vouch.expires_at - vouch.not_before <= MAX_DAYS * DAY_MS
    if vouch.predicate_type != ALLOW or vouch.outcome != "pass" or about != {digest} or not in_time or vouch.issuer_key in authors:
        return None
    claims = {key: value for key, value in vouch.claims.items() if isinstance(value, str)}
    use = next((use for use in _USES if use == claims.get("use")), None)
    if use is None or fault_of(claims.get("module", ""), claims.get("name", ""), use, claims.get("arguments", "")):
        return None
    return Entry(
        module=claims["module"],
        name=claims["name"],
        uses=(use,),
        arguments=claims.get("arguments", ""),
        state=claims.get("state", ""),
        library="allowed",
        reviewer=vouch.issuer_key,
        why=claims.get("why", ""),
    )


def fault_of(module: str, name: str, use: Use, arguments: str) -> str:
    """Why such a name cannot be allowed at all; empty where it can (rules 4 and 5)."""
    parts = [*module.split("."), *name.split(".")]
    if not module or not name or not all(part.isascii() and part.isidentifier() for part in parts):
        return "a name is a module and a class or function in it, written with dots"
    if parts[0] in sys.stdlib_module_names or parts[0] in ("builtins", "__builtin__", "nt", "posix"):
        return f"`{parts[0]}` is of the standard library, and is nobody's own"
    if (use == "callable") != bool(arguments):
        return "what is to be called needs the rule its arguments must fit, and nothing else does"
    return ""
