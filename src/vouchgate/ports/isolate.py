"""A private mount namespace in which another uid can reach the interpreter and this package, and nothing else of a closed home.

Each of vouchgate's processes has a uid of its own. If the interpreter, the virtual environment or the data directory lies below a folder
that others may not enter (a 0700 home), those uids could not even start. Changing the folder's mode would open it to everybody, so the
process tree gets its own view instead:

1. A wanted folder that is closed itself stands for what it holds now; its entries keep their own modes.
2. unshare the mount namespace and make every mount private (mount_namespaces(7)): nothing on the machine changes.
3. Hold a descriptor on each wanted path.
4. Cover each closed ancestor with an empty 0711 tmpfs, make the wanted paths below it again, and bind the held paths onto them.
5. Make the covers read-only: a file written beside the wanted paths would be gone with the process tree.

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
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_OTHERS_MAY_ENTER = 0o001
MAX_ENTRIES = 4_096
"""Entries of a closed folder that are bound one by one; a mount costs the kernel about 1 KiB."""


def closed_ancestors(paths: Iterable[Path]) -> list[Path]:
    """Topmost folders on the way to `paths` that another uid may not enter."""
    found: set[Path] = set()
    for path in paths:
        for folder in reversed(path.resolve().parents):
            if not folder.stat().st_mode & _OTHERS_MAY_ENTER:
                found.add(folder)
                break
    return sorted(found)


def make_reachable(paths: Iterable[Path], *, kept: Iterable[Path] = ()) -> list[Path]:
    """Do steps 1 to 5 for this process and its children; returns the folders that were covered, empty if none was closed.

    `kept` stays as it is, also where only this process may enter it. Raises `Unsupported` where the kernel refuses.
    """
    whole = {path.resolve() for path in kept}
    wanted = sorted(_opened({path.resolve() for path in paths}) | whole)
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
        links = {path: path.readlink() for path in below if path.is_symlink()}
        below = [path for path in below if path not in links]
        held = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in below]
        _must(libc.mount(b"vouchgate", bytes(cover), b"tmpfs", 0, b"mode=0711,size=4m"), f"cover {cover}")
        for path, descriptor in zip(below, held, strict=True):
            _mount_point(path, cover, is_dir=Path(f"/proc/self/fd/{descriptor}").is_dir())
            _must(libc.mount(f"/proc/self/fd/{descriptor}".encode(), bytes(path), None, _MS_BIND | _MS_REC, None), f"bind {path}")
            os.close(descriptor)
        for path, target in links.items():
            path.symlink_to(target)
        _must(libc.mount(None, bytes(cover), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None), f"make {cover} read-only")
    os.chdir(here if here.exists() else "/")
    return closed


def _opened(wanted: set[Path]) -> set[Path]:
    """Step 1. A closed folder on the way to another wanted one is left to that one. Raises `Unsupported` for too many entries."""
    found: set[Path] = set()
    for path in wanted:
        if not _closed(path):
            found.add(path)
            continue
        held = [entry for entry in path.iterdir() if not (_closed(entry) and any(entry in other.parents for other in wanted))]
        if len(held) > MAX_ENTRIES:
            raise Unsupported(
                f"`{path}` is closed to other users and holds {len(held)} entries", remedy=f"chmod o+x {path}, or use another folder"
            )
        found.update(held)
    return found


def _closed(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.stat().st_mode & _OTHERS_MAY_ENTER


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
