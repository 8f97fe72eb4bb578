"""Spec and Folder: what the process tree is made of."""

from __future__ import annotations

from vouchgate.vocabulary.wire import Noun


class Spec(Noun, frozen=True, kw_only=True):
    """A process to start, and as whom."""

    name: str
    argv: tuple[str, ...]
    uid: int | None = None
    """Numeric user and group; None keeps the caller's."""
    groups: tuple[int, ...] = ()
    pass_fds: tuple[int, ...] = ()
    env: dict[str, str] = {}
    cwd: str = "/"
    umask: int = 0o077
    files: int = 4096
    """RLIMIT_NOFILE."""


class Folder(Noun, frozen=True, kw_only=True):
    """A folder of the data directory with its owner and mode."""

    path: str
    mode: int
    uid: int | None = None
    gid: int | None = None
