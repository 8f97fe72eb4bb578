"""What the kernel alone can say of a file: a step of a path without links, the kind of its filesystem, its fs-verity digest.

Rules
1. A step is openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS and RESOLVE_NO_XDEV: one name, no link, no mount.
2. A verity digest counts only from a filesystem of the kernel's own (ext4, f2fs, btrfs). Linux hands FS_IOC_MEASURE_VERITY on to the server of
   a FUSE mount too, and that server may be the attacker.
Left to others: what follows from it (guard_opening.py).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

_OPENAT2 = 437
"""The call's number, the same on every architecture."""
_RESOLVE = 0x01 | 0x02 | 0x04 | 0x08
"""RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH (openat2(2))."""
_STATFS_BYTES = 256
"""More than any architecture's `struct statfs` takes; its first long is `f_type` (statfs(2))."""
_VERITY_FILESYSTEMS = frozenset({0xEF53, 0xF2F52010, 0x9123683E})
"""ext4, f2fs, btrfs (statfs(2))."""
_MEASURE_VERITY = 0xC0046686
"""FS_IOC_MEASURE_VERITY: `_IOWR('f', 134, struct fsverity_digest)`."""
_MAX_DIGEST_BYTES = 64
"""SHA-512, the longest that fs-verity knows."""
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def step(folder: int, name: bytes, flags: int) -> int:
    """Open `name` right beneath the folder (rule 1). Raises `OSError`; ENOSYS or EPERM where the kernel or a sandbox has no openat2."""
    how = _How(flags=flags | os.O_CLOEXEC, mode=0, resolve=_RESOLVE)
    opened: int = _libc.syscall(_OPENAT2, folder, ctypes.c_char_p(name), ctypes.byref(how), ctypes.sizeof(how))
    if opened < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return opened


def filesystem_kind(descriptor: int) -> int:
    """`f_type` of the filesystem that a descriptor is on; 0 where it cannot be told."""
    room = (ctypes.c_long * (_STATFS_BYTES // ctypes.sizeof(ctypes.c_long)))()
    return int(room[0]) & 0xFFFFFFFF if _libc.fstatfs(descriptor, ctypes.byref(room)) == 0 else 0


def verity_digest(descriptor: int) -> bytes | None:
    """Algorithm (16 bits) and digest that the kernel holds every read of this file to, or None where fs-verity is off (rule 2)."""
    if filesystem_kind(descriptor) not in _VERITY_FILESYSTEMS:
        return None
    room = bytearray(struct.pack("=HH", 0, _MAX_DIGEST_BYTES) + bytes(_MAX_DIGEST_BYTES))
    try:
        fcntl.ioctl(descriptor, _MEASURE_VERITY, room)
    except OSError:
        return None
    algorithm, size = struct.unpack_from("=HH", room)
    return struct.pack("!H", algorithm) + bytes(room[4 : 4 + size])
