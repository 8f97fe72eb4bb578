"""The passphrase or PIN: read from a descriptor, used, overwritten; and what the signer does about its memory.

Rules
1. A secret comes over a descriptor that was handed down, never as an argument, in the environment or by a name. A file or memfd is read from
   its beginning, so that the same descriptor serves every start of the signer.
2. It is read into a `bytearray` and overwritten when it was used. Copies that Python, OpenSSL or a token's module made cannot be overwritten:
   the process gives up core dumps and being read (signer.py, rule 1), and locks its memory where it may.
3. A passphrase opens nothing by itself: scrypt (RFC 7914) makes a key of it, with `N` = 2^17, r = 8, p = 1 (128 MiB, about half a second:
   what OWASP's password storage page asks for; a guess costs as much). Parameters below that are refused, so that a changed file cannot
   make guessing cheap; parameters above `MAX_COST` are refused, so that it cannot take all memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import stat
from pathlib import Path

from vouchgate.vocabulary.errors import InvalidInput, NotPermitted
from vouchgate.vocabulary.wire import Noun

MAX_SECRET_BYTES = 1024
"""Bytes of a passphrase or PIN."""
MIN_PASSPHRASE_BYTES = 12
"""Bytes of a new passphrase: with scrypt's price, shorter ones are found."""
MIN_COST, MAX_COST = 2**17, 2**20
"""scrypt's N: 128 MiB and 1 GiB at r = 8."""
BLOCK, LANES = 8, 1
KEY_BYTES = 32
WRONG_SECRET = 4
"""Exit code of a signer that was given a wrong passphrase or PIN, or none where it needs one; told apart so that a person may type again."""
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK = 14
_libc = ctypes.CDLL(None, use_errno=True)


class WrongSecret(NotPermitted):
    """The passphrase or PIN does not open the keys, or is missing."""

    exit_code = WRONG_SECRET


class Cost(Noun, frozen=True, kw_only=True):
    """Parameters of scrypt, kept beside what it made."""

    n: int = MIN_COST
    r: int = BLOCK
    p: int = LANES


def read_secret(descriptor: int, what: str = "passphrase") -> bytearray:
    """The secret behind a descriptor, without one line end. Raises `InvalidInput` where it is empty, too long or cannot be read."""
    buffer = bytearray(MAX_SECRET_BYTES + 2)
    try:
        size = _fill(descriptor, buffer)
    except OSError as error:
        wipe(buffer)
        raise InvalidInput(f"the {what} cannot be read: {error.strerror}", remedy=f"hand the {what} down as a file") from None
    for end in (0x0A, 0x0D):
        if size and buffer[size - 1] == end:
            size -= 1
    secret = bytearray(memoryview(buffer)[:size])
    wipe(buffer)
    if not 0 < size <= MAX_SECRET_BYTES:
        wipe(secret)
        raise InvalidInput(f"the {what} is empty or has more than {MAX_SECRET_BYTES} bytes", remedy=f"write the {what} alone into its file")
    return secret


def _fill(descriptor: int, buffer: bytearray) -> int:
    seekable = stat.S_ISREG(os.fstat(descriptor).st_mode)
    size = 0
    with memoryview(buffer) as view:
        while size < len(buffer):
            part = view[size:]
            got = os.preadv(descriptor, [part], size) if seekable else os.readv(descriptor, [part])
            if not got:
                break
            size += got
    return size


def wipe(secret: bytearray) -> None:
    """Overwrite what was used."""
    secret[:] = bytes(len(secret))


def check_new(passphrase: bytearray) -> None:
    """Raise `InvalidInput` for a new passphrase that can be guessed."""
    if len(passphrase) < MIN_PASSPHRASE_BYTES or len(set(passphrase)) < 5:
        raise InvalidInput(
            f"the new passphrase is shorter than {MIN_PASSPHRASE_BYTES} bytes, or repeats itself", remedy="use six words chosen by dice"
        )


def derive(passphrase: bytearray, salt: bytes, cost: Cost) -> bytearray:
    """Rule 3. Raises `InvalidInput` for parameters out of bounds."""
    if not MIN_COST <= cost.n <= MAX_COST or cost.n & (cost.n - 1) or cost.r != BLOCK or cost.p != LANES:
        raise InvalidInput(
            "the parameters of scrypt are out of bounds", remedy="restore `seal.json` from the backup of the signer's folder"
        )
    room = 128 * cost.n * cost.r + 2**20
    return bytearray(hashlib.scrypt(passphrase, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=room, dklen=KEY_BYTES))


def lock_memory() -> str:
    """Keep this process's memory out of swap where that is allowed; says what came of it."""
    if not _swaps():
        return "no swap on this machine"
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if resource.RLIM_INFINITY not in (soft, hard) and not _may_lock():
        return f"memory may be swapped out: RLIMIT_MEMLOCK is {hard} bytes"
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return f"memory may be swapped out: {os.strerror(ctypes.get_errno())}"
    return "memory is locked"


def _swaps() -> bool:
    try:
        return len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:
        return True


def _may_lock() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_IPC_LOCK & 1)
