"""Secrets that others own: a database's password, a provider's key. Kept sealed, rotated with an overlap, never shown in a list.

A secret has at most three versions at once
    current    what is used
    following  made at the owner, not yet proved
    previous   still valid at the owner while its users move over
Left to others: sealing (protection/secretbox.py), making and retiring at the owner (protection/rotators), the order of steps
(flows/rotate_secret.py).
"""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

SecretState = Literal["empty", "steady", "making", "proving", "overlapping", "retiring", "waiting"]
"""`empty`: nobody has brought it yet; `waiting`: a person must act at the owner (`problem` says what)."""
MAX_SECRET_BYTES = 16_384
"""Bytes of one credential: a cloud account's key file is the largest kind."""


class SealedVersion(Noun, frozen=True, kw_only=True):
    """One version; the bytes open under the control plane's key alone, bound to name and number."""

    number: int
    """Rises with each version of the secret."""
    sealed: bytes
    made_at: UnixMillis


class Secret(Noun, frozen=True, kw_only=True):
    """A secret and where its rotation stands."""

    name: str
    rotator: str
    state: SecretState = "empty"
    admin: SealedVersion | None = None
    """What vouchgate shows to the owner to make and retire credentials."""
    current: SealedVersion | None = None
    following: SealedVersion | None = None
    previous: SealedVersion | None = None
    changed_at: UnixMillis = UnixMillis(0)
    """When `state` was entered."""
    problem: str = ""
    """Why the last step failed, or what a person must do; never a part of a secret."""
    tries: int = 0
    """Failures of the present step."""


class SecretLine(Noun, frozen=True, kw_only=True):
    """A secret as an administrator sees it: everything but its bytes."""

    name: str
    rotator: str
    state: SecretState
    version: int
    """Of what is used; 0 for none."""
    age_ms: int
    rotates_at: UnixMillis
    """0: never by itself."""
    overlap_until: UnixMillis
    """When the previous version is retired; 0 where there is none."""
    problem: str
