"""Takes every power from the current process that reading an already mapped file does not need. Linux, x86-64 and arm64.

Rules
1. Resource limits first (resource(2)): address space, CPU seconds, no new processes, no file growth, few descriptors, no core.
2. No new privileges, not dumpable (so not traceable by others of the same uid), dies with its parent (prctl(2)).
3. An empty network namespace where the kernel allows it.
4. seccomp(2) last, for every thread at once: only the calls that compute, allocate, read and write what is open. Every other call fails
   with EPERM, so threads must be there before. A machine on which the filter cannot be set is refused: the caller reports the scan as
   incomplete.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from functools import cache

from vouchgate.vocabulary.errors import Unsupported

MEMORY_BYTES = 2 * 1024**3
"""Address space beyond the mapped file: the interpreter takes about 100 MiB, a header of 16 MiB of JSON about 500."""
CPU_SECONDS = 600
"""Hashing runs at about 1 GB/s, reading at about a million fields a second."""
DESCRIPTORS = 16
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)

_ARCHITECTURES: dict[str, tuple[int, tuple[int, ...]]] = {
    # audit architecture; read, write, close, fstat, lseek, mmap, mprotect, munmap, brk, rt_sigaction, rt_sigprocmask, rt_sigreturn,
    # mremap, madvise, nanosleep, getpid, exit, futex, sched_yield, clock_gettime, clock_nanosleep, exit_group, sigaltstack, getrandom, rseq
    "x86_64": (0xC000003E, (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 35, 39, 60, 202, 24, 228, 230, 231, 131, 318, 334)),
    "aarch64": (0xC00000B7, (63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 101, 172, 93, 98, 124, 113, 115, 94, 132, 278, 293)),
}  # fmt: skip
_MMAP = {"x86_64": 9, "aarch64": 222}
_MPROTECT = {"x86_64": 10, "aarch64": 226}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_PROT_EXEC = 4
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_NUMBER_AT, _ARCHITECTURE_AT, _PROTECTION_AT = 0, 4, 16 + 8 * 2


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def limit(mapped_bytes: int) -> None:
    """Rules 1 and 2."""
    for what, value in (
        (resource.RLIMIT_AS, mapped_bytes + MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (bound, bound))
    die_with_parent()
    close_to_others()


def die_with_parent() -> None:
    """Rule 2, where the parent's thread that made this process lives as long as it should."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def close_to_others() -> None:
    """Rule 2 for a process that outlives the thread that started it."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> bool:
    """Rule 3; whether the kernel allowed it."""
    return any(int(_libc.unshare(flags)) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def forbid_calls() -> None:
    """Rule 4. Raises `Unsupported`."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise Unsupported(f"there is no call filter for `{machine}`", remedy="scan on x86-64 or arm64 Linux")
    program = _filter(machine)
    described = _Program(len(program) // 8, program)
    # 0 is done; a positive number is the thread that could not be brought under the filter (seccomp(2), SECCOMP_FILTER_FLAG_TSYNC)
    if _libc.syscall(_SECCOMP[machine], _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(described)) != 0:
        why = os.strerror(ctypes.get_errno())
        raise Unsupported(f"the call filter cannot be set: {why}", remedy="use a kernel with CONFIG_SECCOMP_FILTER")


@cache
def _filter(machine: str) -> bytes:
    """A classic BPF program: another architecture kills, memory is never made executable, listed calls pass, the rest fail."""
    architecture, allowed = _ARCHITECTURES[machine]

    def step(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    listed = [number for number in allowed if number not in (_MMAP[machine], _MPROTECT[machine])]
    steps = [
        step(_LOAD, 0, 0, _ARCHITECTURE_AT),
        step(_JUMP_EQUAL, 1, 0, architecture),
        step(_RETURN, 0, 0, _KILL),
        step(_LOAD, 0, 0, _NUMBER_AT),
    ]
    for index, number in enumerate(listed):
        steps.append(step(_JUMP_EQUAL, len(listed) - index + 6, 0, number))
    steps += [
        step(_JUMP_EQUAL, 2, 0, _MMAP[machine]),
        step(_JUMP_EQUAL, 1, 0, _MPROTECT[machine]),
        step(_RETURN, 0, 0, _FAIL),
        step(_LOAD, 0, 0, _PROTECTION_AT),
        step(_JUMP_SET, 0, 1, _PROT_EXEC),
        step(_RETURN, 0, 0, _FAIL),
        step(_RETURN, 0, 0, _ALLOW),
        step(_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(steps)
