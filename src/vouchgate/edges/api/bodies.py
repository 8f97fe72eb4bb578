"""What a request to the API may say besides the nouns of vocabulary/answers.py: every field named, unknown ones refused."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from vouchgate.vocabulary.wire import Noun

Short = Annotated[str, Meta(max_length=1024)]
MAX_PAGE = 500
"""Entries of one page; a longer list is read page by page."""


class NoQuery(Noun, frozen=True, kw_only=True):
    """Nothing may be asked."""


class DecisionsQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/decisions"""

    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    before: Annotated[int, Meta(ge=0)] = 0
    effect: Literal["", "allow", "deny", "would-deny"] = ""
    principal: Short = ""
    resource: Short = ""


class WhyQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/why: either `decision`, or the other three."""

    decision: Short = ""
    principal: Short = ""
    action: Short = ""
    resource: Short = ""


class EntriesQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/audit/entries"""

    start: int = -50
    count: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 50


class NamesQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/callers, /api/v1/registrations: by name, those behind `after`; fewer than `limit` are the last."""

    after: Annotated[str, Meta(max_length=512)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class ProofQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/audit/proof"""

    of: Annotated[str, Meta(min_length=1, max_length=1024)]


class ProofOfZonesQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/zones/proof"""

    source: Annotated[str, Meta(min_length=1, max_length=64)]
    target: Annotated[str, Meta(min_length=1, max_length=64)]


class ArtifactQuery(Noun, frozen=True, kw_only=True):
    """PUT /api/v1/artifacts: the body is the file, behind the bundles that came with it."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    zone: Annotated[str, Meta(min_length=1, max_length=64)]
    declare: Short = ""
    """`predicate=value,predicate=value`"""
    kind: Literal["file", "tree"] = "file"
    """`tree`: the body is a folder that is one artifact (vocabulary/tree_frames.py)."""
    signature_bytes: Annotated[int, Meta(ge=0, le=720_000)] = 0
    """So many bytes at the body's beginning are a signature's bundle."""
    provenance_bytes: Annotated[int, Meta(ge=0, le=720_000)] = 0
    """So many bytes behind that are provenance."""


class UnrevokeBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/unrevoke"""

    id: Short
    reason: Short


class IdBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/waivers/agree and /withdraw"""

    id: Short


class FreshQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/zones/drift"""

    fresh: bool = False


class AboutQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/vouches"""

    about: Annotated[str, Meta(min_length=1, max_length=1024)]


class VouchBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/vouches"""

    envelope: Annotated[bytes, Meta(max_length=262_144)]
    """A DSSE envelope as its producer wrote it."""


class SignatureBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/vouches/signature and /api/v1/vouches/provenance"""

    digest: Short
    """Of an artifact that is kept."""
    bundle: Annotated[bytes, Meta(max_length=960_000)]
    """The bundle as the signer's tool wrote it, in base64."""
    by: Short = ""
    """Name of the one signer or builder whose it is meant to be; empty: whoever of the settings it is."""


class UnregisterBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/registrations/remove"""

    principal: Short
    reason: Short


class AssetBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/assets/remove"""

    name: Short
    reason: Short = ""


class NameBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/secrets/rotate, /roll-back and /release, /api/v1/partners/refresh"""

    name: Short


class SecretPartsBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/secrets"""

    name: Short
    parts: dict[str, Annotated[str, Meta(min_length=1, max_length=8192)]]
    admin: bool = False


class ReasonBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/clock/accept"""

    reason: Short


class TokenBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/bootstrap"""

    token: Short


class EnvelopeBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/break-glass"""

    envelope: bytes


class CodeBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/session"""

    code: Annotated[str, Meta(min_length=1, max_length=256)]


class BeginBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/login/begin"""

    provider: Annotated[str, Meta(min_length=1, max_length=64)]
    redirect_uri: Short = ""
    """Where the command line listens; a browser has none to give."""


class FinishBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/login/finish: what the provider's redirect carried."""

    state: Annotated[str, Meta(min_length=1, max_length=4096)]
    code: Annotated[str, Meta(max_length=4096)] = ""
    iss: Short = ""
    error: Short = ""
    binding: Annotated[str, Meta(max_length=256)] = ""
    """What the command line was given when it began; a browser has a cookie."""


class VerifyBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/audit/verify"""

    against: Annotated[str, Meta(max_length=65_536)] = ""


class VersionQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/policy/history: every version, or one with its text."""

    version: Annotated[int, Meta(ge=0, le=999_999_999)] = 0


class RecordsQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/policy/records: from a log index on, or with -1 from the first that is not before `since` (milliseconds)."""

    start: Annotated[int, Meta(ge=-1)] = -1
    since: Annotated[int, Meta(ge=0)] = 0


class LearnQuery(Noun, frozen=True, kw_only=True):
    """GET /api/v1/policy/suggest and /api/v1/policy/privilege"""

    days: Annotated[int, Meta(ge=1, le=3_650)] = 30
    zone: Annotated[str, Meta(max_length=64)] = ""
    principal: Short = ""


class ReplayBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/policy/replay"""

    text: Annotated[str, Meta(max_length=900_000)]
    days: Annotated[int, Meta(ge=1, le=3_650)] = 7


class PolicyBody(Noun, frozen=True, kw_only=True):
    """POST /api/v1/policy/check and /api/v1/policy/apply"""

    text: Annotated[str, Meta(max_length=900_000)]
    reason: Short = ""


class EmptyBody(Noun, frozen=True, kw_only=True):
    """An act without parameters."""
