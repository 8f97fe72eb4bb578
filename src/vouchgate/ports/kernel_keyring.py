"""The Linux kernel's keyring of this uid (keyrings(7), keyctl(2)): a secret that outlives processes, and dies with the machine's boot.

Rules
1. Secrets lie in the user keyring of the calling uid, which the kernel never swaps, and which another uid cannot reach.
2. A process whose session keyring is its own (systemd gives each service one) possesses nothing of the user keyring until it is linked in, so
   it is linked first.
3. What the kernel refuses is told as `Unavailable`: containers often forbid these calls.
"""

from __future__ import annotations

import ctypes
import os
import platform

from vouchgate.vocabulary.errors import InvalidInput, Unavailable

_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}
"""add_key and keyctl, by machine."""
_USER, _SESSION = -4, -3
_JOIN, _LINK, _UNLINK, _SEARCH, _READ, _SET_PERMISSION = 1, 8, 9, 10, 11, 5
_POSSESSOR_ALL = 0x3F000000
MAX_SECRET_BYTES = 1024
"""Bytes of a secret; ours have 32."""
_libc = ctypes.CDLL(None, use_errno=True)
_REMEDY = "allow the calls add_key and keyctl, or give the passphrase as a credential file: `[keys] passphrase_file`"


def remember(description: str, secret: bytes | bytearray) -> None:
    """Keep a secret for this uid until the machine ends. Raises `Unavailable`."""
    if not 0 < len(secret) <= MAX_SECRET_BYTES:
        raise InvalidInput(f"a secret of {len(secret)} bytes cannot be kept", remedy=f"give 1 to {MAX_SECRET_BYTES} bytes")
    _possess()
    add_key, _ = _numbers()
    buffer = (ctypes.c_char * len(secret)).from_buffer(bytearray(secret))
    try:
        key = _libc.syscall(add_key, b"user", description.encode(), buffer, ctypes.c_size_t(len(secret)), _USER)
    finally:
        ctypes.memset(buffer, 0, len(secret))
    if key < 0:
        raise _refused()
    if _keyctl(_SET_PERMISSION, key, _POSSESSOR_ALL) < 0:
        raise _refused()


def recall(description: str) -> bytearray | None:
    """The secret, or None where there is none (after a boot). Raises `Unavailable`."""
    _possess()
    key = _keyctl(_SEARCH, _USER, b"user", description.encode(), 0)
    if key < 0:
        _hold_absent()
        return None
    buffer = (ctypes.c_char * MAX_SECRET_BYTES)()
    size = _keyctl(_READ, key, buffer, ctypes.c_size_t(MAX_SECRET_BYTES))
    if size < 0:
        _hold_absent()
        return None
    found = bytearray(memoryview(buffer)[: min(size, MAX_SECRET_BYTES)])
    ctypes.memset(buffer, 0, MAX_SECRET_BYTES)
    return found


def forget(description: str) -> None:
    """Remove the secret; nothing where there is none. Raises `Unavailable`."""
    _possess()
    key = _keyctl(_SEARCH, _USER, b"user", description.encode(), 0)
    if key < 0:
        _hold_absent()
    elif _keyctl(_UNLINK, key, _USER) < 0:
        raise _refused()


_ABSENT = {126, 127, 128, 129, 2}
"""ENOKEY, EKEYEXPIRED, EKEYREVOKED, EKEYREJECTED, ENOENT (errno.h)."""


def _hold_absent() -> None:
    """Raise unless the kernel only said that there is no such key."""
    if ctypes.get_errno() not in _ABSENT:
        raise _refused()


def _possess() -> None:
    """Rule 2."""
    if _keyctl(_LINK, _USER, _SESSION) < 0 and _keyctl(_JOIN, None) >= 0:
        # the session keyring was inherited of another uid: one of our own can be linked to
        _keyctl(_LINK, _USER, _SESSION)


def _keyctl(operation: int, *arguments: object) -> int:
    _, number = _numbers()
    ctypes.set_errno(0)
    return int(_libc.syscall(number, operation, *arguments))


def _numbers() -> tuple[int, int]:
    known = _CALLS.get(platform.machine())
    if known is None:
        raise Unavailable(f"the kernel's keyring is not known on `{platform.machine()}`", remedy=_REMEDY)
    return known


def _refused() -> Unavailable:
    return Unavailable(f"the kernel's keyring refuses: {os.strerror(ctypes.get_errno())}", remedy=_REMEDY)
