"""What can change: every fact that a decision rests on, as one tagged union.

A change is data. The sequencer gives it an epoch and commits it with its log entry; the facts apply it; the PDP worker's replica applies the
same bytes. Each change says which record of the store holds it, so the newest change per record is the whole state: a restart replays
records, not history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from vouchgate.vocabulary.approvals import Approval
from vouchgate.vocabulary.decisions import Risk
from vouchgate.vocabulary.habits import Habit
from vouchgate.vocabulary.places import Asset, Crossing, Endpoint, Zone
from vouchgate.vocabulary.principals import Registration
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.secrets import Secret
from vouchgate.vocabulary.sources import TrustSource
from vouchgate.vocabulary.trust import SignedTrustRoot
from vouchgate.vocabulary.vouches import Revocation, UnixMillis
from vouchgate.vocabulary.wire import Noun


class TrustRootAdopted(Noun, frozen=True, kw_only=True, tag="trust-root"):
    """A TrustRoot with a higher version."""

    signed: SignedTrustRoot


class KeysPublished(Noun, frozen=True, kw_only=True, tag="keys"):
    """The signer's public side: trust bundle and JWT keys, as every verifier needs them."""

    bundle: bytes
    """SPIFFE trust bundle, JWKS JSON."""
    sequence: int


class PolicyActivated(Noun, frozen=True, kw_only=True, tag="policy"):
    """A signed policy set; versions only rise."""

    version: int
    sources: tuple[tuple[str, str], ...]
    """(name, text) of each file, in order; the base pack is always loaded before them."""
    digest: str
    envelope: bytes
    """Signed policy statement over version and digest, naming author and approver."""
    author: str
    approver: str
    applied_at: UnixMillis


class ZonePut(Noun, frozen=True, kw_only=True, tag="zone"):
    """A zone, its mode and its lease."""

    zone: Zone


class EndpointPut(Noun, frozen=True, kw_only=True, tag="endpoint"):
    """An endpoint behind the gateway."""

    endpoint: Endpoint


class EndpointRemoved(Noun, frozen=True, kw_only=True, tag="endpoint-removed"):
    """An endpoint that is gone."""

    id: str


class AssetPut(Noun, frozen=True, kw_only=True, tag="asset"):
    """Something was placed, or moved."""

    asset: Asset


class AssetRemoved(Noun, frozen=True, kw_only=True, tag="asset-removed"):
    """Something lies nowhere any more."""

    id: str
    was: Asset | None = None
    """Where it lay, and what it held: taken away and placed anew it is still that."""


class CrossingsPut(Noun, frozen=True, kw_only=True, tag="crossings"):
    """Everything that may pass between zones; where it is empty, zones hold nobody."""

    crossings: tuple[Crossing, ...]


class RegistrationPut(Noun, frozen=True, kw_only=True, tag="registration"):
    """Which facts earn which identity, and its groups."""

    registration: Registration


class RegistrationRemoved(Noun, frozen=True, kw_only=True, tag="registration-removed"):
    """A registration that is gone: nothing is issued for it any more."""

    principal: str


class RunPut(Noun, frozen=True, kw_only=True, tag="run"):
    """A run that began or ended."""

    run: Run


class SourcePut(Noun, frozen=True, kw_only=True, tag="source"):
    """Keys of somebody outside, as fetched."""

    source: TrustSource


class SourceRemoved(Noun, frozen=True, kw_only=True, tag="source-removed"):
    """Keys that count no longer."""

    name: str


class SecretPut(Noun, frozen=True, kw_only=True, tag="secret"):
    """Where the rotation of somebody else's secret stands; sealed."""

    secret: Secret


class VouchAdded(Noun, frozen=True, kw_only=True, tag="vouch"):
    """A signed statement; whoever applies it verifies it."""

    id: str
    envelope: bytes
    log_index: int = 0


class Revoked(Noun, frozen=True, kw_only=True, tag="revocation"):
    """A revocation, standing or withdrawn."""

    revocation: Revocation


class HabitPut(Noun, frozen=True, kw_only=True, tag="habit"):
    """When and from where a caller usually calls, as of the days before today."""

    habit: Habit


class RiskSet(Noun, frozen=True, kw_only=True, tag="risk"):
    """What is known against a principal or a model."""

    subject: str
    risk: Risk


class CredentialIssued(Noun, frozen=True, kw_only=True, tag="credential"):
    """A credential that was handed out; nothing secret."""

    id: str
    principal: str
    kind: str
    not_after: UnixMillis
    audience: str = ""
    run: str = ""
    """Run with which it dies, or nothing."""
    parents: tuple[str, ...] = ()
    """Credential ids from which it was derived: a revoked parent strikes it too."""
    actors: tuple[str, ...] = ()
    """Who acts with it on the principal's behalf."""


class SettingPut(Noun, frozen=True, kw_only=True, tag="setting"):
    """A small named fact of the control plane: a used-up token, an approval that waits."""

    key: str
    value: str


class ApprovalPut(Noun, frozen=True, kw_only=True, tag="approval"):
    """A request that waits for people, as it stands now."""

    approval: Approval


Change = (
    TrustRootAdopted
    | KeysPublished
    | PolicyActivated
    | ZonePut
    | EndpointPut
    | EndpointRemoved
    | AssetPut
    | AssetRemoved
    | CrossingsPut
    | RegistrationPut
    | RegistrationRemoved
    | RunPut
    | SourcePut
    | SourceRemoved
    | SecretPut
    | VouchAdded
    | Revoked
    | RiskSet
    | HabitPut
    | CredentialIssued
    | SettingPut
    | ApprovalPut
)
ORDER = (
    "trust-root",
    "keys",
    "source",
    "policy",
    "zone",
    "crossings",
    "endpoint",
    "asset",
    "registration",
    "habit",
    "run",
    "vouch",
    "revocation",
    "risk",
    "secret",
    "setting",
    "approval",
)
"""Record kinds in the order in which a restart replays them: roots before what is verified against them. Credentials are looked up, not
replayed."""

_decoder = msgspec.json.Decoder(Change)


_RECORDS: dict[type, tuple[str, Callable[[Any], str]]] = {
    TrustRootAdopted: ("trust-root", lambda _: "current"),
    KeysPublished: ("keys", lambda _: "current"),
    SourcePut: ("source", lambda change: change.source.name),
    SourceRemoved: ("source", lambda change: change.name),
    SecretPut: ("secret", lambda change: change.secret.name),
    PolicyActivated: ("policy", lambda change: f"{change.version:09d}"),
    ZonePut: ("zone", lambda change: change.zone.name),
    EndpointPut: ("endpoint", lambda change: change.endpoint.id),
    EndpointRemoved: ("endpoint", lambda change: change.id),
    AssetPut: ("asset", lambda change: change.asset.id),
    AssetRemoved: ("asset", lambda change: change.id),
    CrossingsPut: ("crossings", lambda _: "current"),
    RegistrationPut: ("registration", lambda change: change.registration.principal),
    RegistrationRemoved: ("registration", lambda change: change.principal),
    RunPut: ("run", lambda change: change.run.id),
    VouchAdded: ("vouch", lambda change: change.id),
    Revoked: ("revocation", lambda change: change.revocation.id),
    HabitPut: ("habit", lambda change: change.habit.principal),
    RiskSet: ("risk", lambda change: change.subject),
    CredentialIssued: ("credential", lambda change: change.id),
    SettingPut: ("setting", lambda change: change.key),
    ApprovalPut: ("approval", lambda change: change.approval.id),
}
"""Change -> (kind, key) of the record that holds it; the newest change of a record is its state."""


def record_of(change: Change) -> tuple[str, str]:
    """(kind, key) of the record that holds this change."""
    kind, key = _RECORDS[type(change)]
    return kind, key(change)


def decode_record(kind: str, data: bytes) -> Change:
    """Read a record. A restore writes the revocations that were handed in as plain revocations (storage/backup.py)."""
    try:
        return decode_change(data)
    except msgspec.ValidationError:
        if kind != "revocation":
            raise
        return Revoked(revocation=msgspec.json.decode(data, type=Revocation))


def decode_change(data: bytes) -> Change:
    """Read a change that this product wrote. Raises msgspec.ValidationError for anything else."""
    change: Change = _decoder.decode(data)
    return change
