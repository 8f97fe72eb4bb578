"""Vouch, Revocation: the signed statements that trust is computed from."""

from __future__ import annotations

from typing import Any, Literal, NewType

from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import TrustDomain
from vouchgate.vocabulary.wire import Noun

UnixMillis = NewType("UnixMillis", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""
Outcome = Literal["pass", "fail", "inconclusive"]
Tier = Literal["verified", "rederived", "cooperative", "declared", "inferred"]
"""How a claim is known, strongest first: observed by us on the bytes; recomputed by us from a copy; told by a cooperating tool that holds
an identity; told by a person or configuration; guessed from traffic or files."""
TIERS: tuple[Tier, ...] = ("verified", "rederived", "cooperative", "declared", "inferred")


class Subject(Noun, frozen=True, kw_only=True):
    """What a vouch is about: content (with digest) or a name (identity, endpoint, dataset)."""

    name: str
    """A `vg://` or `spiffe://` name."""
    digest: Digest | None = None


class Method(Noun, frozen=True, kw_only=True):
    """How the claim was made, so that a weakness found in a tool finds every claim that rests on it."""

    tool: str
    version: str
    knowledge_version: str = ""
    settings_digest: str = ""


class Vouch(Noun, frozen=True, kw_only=True):
    """A signed statement: who says what about which digest or identity, until when, resting on which other vouches."""

    id: str
    """Lower-case hexadecimal SHA-256 of the DSSE pre-authentication encoding."""
    trust_domain: TrustDomain
    predicate_type: str
    """Short name of the catalog, for example `scan`; on the wire `https://vouchgate.dev/predicate/<name>/v<version>`."""
    predicate_version: int
    subjects: tuple[Subject, ...]
    outcome: Outcome
    issuer_key: str
    """Key id: lower-case hexadecimal SHA-256 of the DER SubjectPublicKeyInfo."""
    issuer_role: str
    issued_at: UnixMillis
    not_before: UnixMillis
    expires_at: UnixMillis
    rests_on: tuple[str, ...] = ()
    tier: Tier = "declared"
    method: Method
    claims: dict[str, Any] = {}


class SignedVouch(Noun, frozen=True, kw_only=True):
    """A vouch beside the DSSE envelope it was read from; not yet verified."""

    vouch: Vouch
    envelope: bytes


class VerifiedVouch(Noun, frozen=True, kw_only=True):
    """A vouch whose signature, delegation and time window were verified. Proof as a type: only `evidence.verify` may construct it; a
    test walks the source tree and holds that."""

    vouch: Vouch
    verified_at: UnixMillis
    trust_root_version: int


TargetKind = Literal["credential", "principal", "registration", "key", "digest", "vouch", "run", "policy", "scanner"]
"""`scanner`: the text of `scanner_target`; what a weaker one of that tool passed."""


class Revocation(Noun, frozen=True, kw_only=True):
    """Withdraws a target, and with `cascade = downstream` all that rests on it."""

    id: str
    trust_domain: TrustDomain
    target_kind: TargetKind
    target: str
    cascade: Literal["self", "downstream"] = "downstream"
    as_of_index: int = 0
    """Log index from which statements fall; for a key, vouches logged before it stay."""
    reason: str
    requested_by: str
    approved_by: str = ""
    made_at: UnixMillis
    withdrawn_by: str = ""
    """Id of the signed statement that undid it; empty while it stands."""


def scanner_target(method: Method) -> str:
    """How a revocation names a scanner: tool, version and knowledge version. What it passed by less falls. Raises `InvalidInput`."""
    ranks = _ranks(method)
    if ranks is None or " " in method.tool:
        raise InvalidInput("the scanner does not say its versions", remedy="install it again")
    return f"{method.tool} {ranks[0]} {ranks[1]}"


def below_scanner(vouch: Vouch, target: str) -> bool:
    """Whether a vouch is a pass by a weaker version of the scanner that `target` names; one whose versions cannot be read is."""
    tool, _, least = target.partition(" ")
    if vouch.outcome == "fail" or vouch.method.tool != tool or vouch.predicate_type not in ("scan", "structure"):
        return False
    wanted = _numbers(least.split(" "))
    ranks = _ranks(vouch.method)
    return len(wanted) == 2 and (ranks is None or ranks[0] < wanted[0] or ranks[1] < wanted[1])


def _ranks(method: Method) -> tuple[int, int] | None:
    numbers = _numbers([method.version, method.knowledge_version.partition(" ")[0] or "0"])
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) <= 9]
