"""Start and end vouchgate's own processes.

Rules
1. A child gets exactly the environment, descriptors, uid and working directory that it is given; nothing is inherited by accident.
2. A child dies with its parent (prctl(2), PR_SET_PDEATHSIG, set after the uid is dropped), and sits in a session of its own, so that
   Ctrl-C reaches the parent alone, which ends the tree in order.
3. A child may not dump core nor gain privileges (PR_SET_NO_NEW_PRIVS).
4. Only children started here are ever signalled.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from vouchgate.vocabulary.processes import Spec

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_libc = ctypes.CDLL(None, use_errno=True)
STOP_SECONDS = 5.0
"""A child that has not ended this long after SIGTERM is killed."""


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs a module of this package with this interpreter, ignoring the user's site and environment."""
    return (sys.executable, "-I", "-m", module, *arguments)


def base_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a child: a path, a locale, and what is named."""
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **(extra or {})}


class Child:
    """A running child."""

    def __init__(self, spec: Spec, popen: subprocess.Popen[bytes]) -> None:
        self.spec, self.popen = spec, popen
        self.pid = popen.pid

    def ended(self) -> int | None:
        """Exit status, or None while it runs."""
        return self.popen.poll()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            self.popen.send_signal(signal.SIGCONT)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end; kill it after `seconds`."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()


def start(spec: Spec, *, log: Path) -> Child:
    """Start a child; its output is appended to `log`. Raises OSError where the program cannot be started."""

    parent = os.getpid()

    def settle() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            # it died before it could be watched
            os._exit(1)
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = spec.files if hard == resource.RLIM_INFINITY else min(spec.files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        popen = subprocess.Popen(
            list(spec.argv),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=spec.cwd,
            env=base_environment(spec.env),
            pass_fds=spec.pass_fds,
            start_new_session=True,
            user=spec.uid,
            group=spec.uid,
            extra_groups=None if spec.uid is None else list(spec.groups),
            umask=spec.umask,
            preexec_fn=settle,  # noqa: PLW1509 - the parent starts children from its only thread
        )
    finally:
        os.close(descriptor)
    return Child(spec, popen)
