"""Vouch, Revocation: the signed statements that trust is computed from."""

from __future__ import annotations

from typing import Any, Literal, NewType

from vouchgate.vocabulary.digests import Digest
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


TargetKind = Literal["credential", "principal", "registration", "key", "digest", "vouch", "run", "policy"]


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
