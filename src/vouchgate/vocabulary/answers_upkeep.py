"""Answers about an installation as a whole: making it, looking it over, backing it up, restoring it."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class BackupOutcome(Noun, frozen=True, kw_only=True):
    """A backup that was written."""

    path: str
    size: int
    digest: str
    log_size: int
    epoch: int


class DoctorCheck(Noun, frozen=True, kw_only=True):
    """One thing that `doctor` looked at."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str = ""


class InitOutcome(Noun, frozen=True, kw_only=True):
    """What `init` made."""

    settings: str
    data_dir: str
    root_dir: str
    root_fingerprint: str
    bootstrap_token: str = ""
    bootstrap_until: UnixMillis = UnixMillis(0)
    solo: bool = False


class RestoreOutcome(Noun, frozen=True, kw_only=True):
    """What `restore` put back."""

    log_size: int
    epoch: int
    revocations_replayed: int = 0
    detail: str = ""
