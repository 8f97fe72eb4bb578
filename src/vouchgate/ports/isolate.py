"""A private mount namespace in which another uid can reach the interpreter and this package, and nothing else of a closed home.

Each of vouchgate's processes has a uid of its own. If the interpreter, the virtual environment or the data directory lies below a folder
that others may not enter (a 0700 home), those uids could not even start. Changing the folder's mode would open it to everybody, so the
process tree gets its own view instead:

1. unshare the mount namespace and make every mount private (mount_namespaces(7)): nothing on the machine changes.
2. Hold a descriptor on each wanted folder.
3. Cover each closed ancestor with an empty 0711 tmpfs, make the wanted paths below it again, and bind the held folders onto them.

The paths stay the same; whatever else the closed folder holds is not there for the process tree. Needs CAP_SYS_ADMIN; without it, the
caller says that processes are not isolated from each other.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from vouchgate.vocabulary.errors import Unsupported

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_OTHERS_MAY_ENTER = 0o001


def closed_ancestors(paths: Iterable[Path]) -> list[Path]:
    """Topmost folders on the way to `paths` that another uid may not enter."""
    found: set[Path] = set()
    for path in paths:
        for folder in reversed(path.resolve().parents):
            if not folder.stat().st_mode & _OTHERS_MAY_ENTER:
                found.add(folder)
                break
    return sorted(found)


def make_reachable(paths: Iterable[Path]) -> list[Path]:
    """Do steps 1 to 3 for this process and its children; returns the folders that were covered, empty if none was closed.

    Raises `Unsupported` where the kernel refuses.
    """
    wanted = sorted({path.resolve() for path in paths})
    wanted = [path for path in wanted if not any(other in path.parents for other in wanted)]
    closed = closed_ancestors(wanted)
    if not closed:
        return []
    here = Path.cwd()
    libc = ctypes.CDLL(None, use_errno=True)
    _must(libc.unshare(_CLONE_NEWNS), "unshare the mount namespace")
    _must(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    for cover in closed:
        below = [path for path in wanted if cover in path.parents]
        held = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in below]
        _must(libc.mount(b"vouchgate", bytes(cover), b"tmpfs", 0, b"mode=0711,size=64k"), f"cover {cover}")
        for path, descriptor in zip(below, held, strict=True):
            _mount_point(path, cover, is_dir=Path(f"/proc/self/fd/{descriptor}").is_dir())
            _must(libc.mount(f"/proc/self/fd/{descriptor}".encode(), bytes(path), None, _MS_BIND | _MS_REC, None), f"bind {path}")
            os.close(descriptor)
    os.chdir(here if here.exists() else "/")
    return closed


def _mount_point(path: Path, cover: Path, *, is_dir: bool) -> None:
    for folder in reversed([parent for parent in path.parents if cover in parent.parents]):
        folder.mkdir(mode=0o711, exist_ok=True)
        folder.chmod(0o711)
    if is_dir:
        path.mkdir(mode=0o711, exist_ok=True)
    else:
        path.touch()


def _must(result: int, what: str) -> None:
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        raise Unsupported(
            f"cannot {what}: {reason}",
            remedy="move the interpreter and the data directory to where every user may enter, or go on without separate users",
        )
