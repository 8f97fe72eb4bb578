"""What the kernel says of a process: who is at the other end of a unix socket, and what runs there (unix(7), proc(5), pidfd_open(2)).

Rules
1. `peer` takes a pidfd of the caller at accept (SO_PEERPIDFD; pidfd_open(2) on kernels before 6.5, where a process number may have been used
   again in between). While `alive(pidfd)`, the number is that process's; so it is asked after `look`, not only before.
2. `look` reads through one descriptor of `/proc/<pid>`, which stays with the process whatever its number becomes, and reads what can change
   twice: a process that starts another program meanwhile is looked at again, and then refused.
3. The executable is what the kernel runs (`/proc/<pid>/exe`): of a script, its interpreter; of a deleted or replaced file, the old one. Its
   hash is kept by device, inode, size, modification and change time, and never for a file that changed a moment ago.
4. The path of the executable is told only where the process sees the same mounts as this machine's first process or as the collector:
   elsewhere any user can put any file at any path.
5. A file is opened only on a local filesystem that is mounted in one of those two views: a filesystem that a user made (FUSE) could hold the
   reader for ever. Size and bytes hashed for one user in a minute are bounded. Without a hash there is no `unix:sha256`, and no more.
6. Nothing is read that the process writes: no command line, no environment, no name.
7. A process that cannot be looked at (it changes all the time, it is one of the kernel's) is told as such, so that its caller refuses it; it
   never keeps others from being looked at.
The caller checks that the user is the one that the socket named.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import socket
import stat
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vouchgate.identity.cgroup_paths import looks_contained
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported, Unverified

SO_PEERPIDFD = 77
"""Option of a unix socket (asm-generic/socket.h, Linux 6.5)."""
MAX_PID = 2**22
"""Largest process number (proc(5), pid_max)."""
MAX_EXE_BYTES = 512 * 1024 * 1024
"""Bytes of an executable that is hashed; Envoy, the largest here, has about 150 MiB."""
MAX_HASHED_PER_MINUTE = 1024 * 1024 * 1024
"""Bytes hashed for one user in a minute, about half a second of one core; files whose hash is known are free."""
MAX_HASHED_FOR_ALL = 4 * MAX_HASHED_PER_MINUTE
"""Bytes hashed in a minute for everybody but root."""
MAX_PROC_BYTES = 1024 * 1024
"""Bytes read of one file of /proc; only a process in very many groups or mounts has more."""
MAX_KNOWN = 1_024
"""Hashes that are kept."""
MAX_GROUPS = 1_024
"""Supplementary groups that are told; a process with more is told without them."""
SETTLED_NS = 2_000_000_000
"""Nanoseconds since the last change after which a file's times tell one content from another."""
_WINDOW_SECONDS = 60.0
_CHUNK = 1024 * 1024
_PF_KTHREAD = 0x00200000
_LOCAL = frozenset({
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "overlay", "ramfs", "rootfs", "squashfs", "tmpfs", "virtiofs",
    "xfs", "zfs",
})  # fmt: skip


SlurmFacts = Callable[[Sequence[str]], dict[str, Any]]
"""What Slurm says of a process in these cgroups, nothing for one in no step (ports/slurm.py). Raises `Unavailable`."""


class Peer(NamedTuple):
    """The process that connected."""

    pid: int
    uid: int
    gid: int
    pidfd: int
    """The caller closes it."""


def peer(connection: socket.socket) -> Peer:
    """Who is at the other end of an accepted unix socket. Raises `Unverified` where it is gone or not visible here."""
    try:
        pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid <= 0:
            raise ProcessLookupError
        return Peer(pid, uid, gid, _pidfd(connection, pid))
    except OSError:
        raise Unverified("the process that connected is gone, or of another process namespace", remedy="connect again") from None


def _pidfd(connection: socket.socket, pid: int) -> int:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD, 4)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return os.pidfd_open(pid)
    descriptor = int(struct.unpack("i", raw)[0])
    os.set_inheritable(descriptor, False)
    return descriptor


def alive(pidfd: int) -> bool:
    """Whether the process still runs; a zombie does not."""
    polled = select.poll()
    polled.register(pidfd, select.POLLIN)
    return not polled.poll(0)


def look(pid: int) -> dict[str, dict[str, Any]] | None:
    """`Collector.look` of this process's one collector, which asks no Slurm."""
    return _collector().look(pid)


@cache
def _collector() -> Collector:
    return Collector()


class Collector:
    """Looks at processes; keeps the hashes of executables. Not shared between threads."""

    def __init__(
        self, *, slurm: SlurmFacts | None = None, steady: Callable[[], float] = time.monotonic, proc: Path = Path("/proc")
    ) -> None:
        self._slurm, self._steady, self._proc = slurm, steady, proc
        self._hashes: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._minute = steady()
        self._spent: Counter[int] = Counter()
        """Bytes hashed for each user in the minute that began then."""
        self._booted_at = _booted_at(proc)
        # A collector that is in a container itself cannot tell its own container's groups from another's.
        self._on_host = not _named_contained((proc / "self" / "cgroup").read_text("utf-8").splitlines())

    def look(self, pid: int) -> dict[str, dict[str, Any]] | None:
        """The facts for each attestor that maps them, or None where there is no such process any more (rule 7). Raises `InvalidInput`."""
        try:
            facts = self.facts(pid)
        except NotFound:
            return None
        except (Conflict, Unverified) as error:
            return {"unix-process": {"unread": error.reason}}
        found = dict.fromkeys(("unix-process", "container", "systemd-unit"), facts)
        return found | self._of_slurm(facts)

    def _of_slurm(self, facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
        if self._slurm is None:
            return {}
        try:
            job = self._slurm(facts["cgroups"])
        except Unavailable as error:
            job = {"slurm_unread": error.reason}
        return {"slurm": facts | job} if job else {}

    def facts(self, pid: int) -> dict[str, Any]:
        """Facts of a process.

        `pid uid gid real_uid real_gid contained started_at` (milliseconds since the epoch), `cgroups` (lines), and where they are known
        `groups`, `cgroup` (version 2), `exe_path`, `exe_sha256`, or `exe_unread` with the reason. `real_uid` differs from `uid` where any of
        the process's users does; `contained` says that it is in a process namespace below the collector's, or in a group named like a
        container's. Raises `NotFound` where it is
        gone, `Unverified` for a kernel thread or a thread, `Conflict` where it changes.
        """
        if isinstance(pid, bool) or not isinstance(pid, int) or not 0 < pid <= MAX_PID:
            raise InvalidInput("that is no process number", remedy="give the number that the socket's peer has")
        try:
            folder = os.open(self._proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise _gone(pid) from None
        try:
            return self._look(pid, folder)
        except (ProcessLookupError, FileNotFoundError):
            raise _gone(pid) from None
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise Unverified(f"process {pid} cannot be looked at: {type(error).__name__}", remedy="run the collector as root") from None
        finally:
            os.close(folder)

    def _look(self, pid: int, folder: int) -> dict[str, Any]:
        for _ in range(2):
            before = self._said(pid, folder)
            try:
                held = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
            except PermissionError:
                return before | {"exe_unread": "denied"}
            try:
                exe = self._executable(folder, held, before["uid"])
                if self._said(pid, folder) == before and _still(folder, held):
                    return before | exe
            finally:
                os.close(held)
        raise Conflict(f"process {pid} changed while it was looked at", remedy="attest again")

    def _said(self, pid: int, folder: int) -> dict[str, Any]:
        status, numbers = _status(folder), _stat(folder)
        if status["Tgid"] != status["Pid"] or int(numbers[6]) & _PF_KTHREAD:
            raise Unverified(f"process {pid} is a thread, or one of the kernel", remedy="attest a process")
        if numbers[0] in ("Z", "X"):
            raise ProcessLookupError
        uids, gids = ([int(one) for one in status[name].split()] for name in ("Uid", "Gid"))
        lines = _read(folder, "cgroup").decode("utf-8").splitlines()
        facts: dict[str, Any] = {
            "pid": pid, "uid": uids[1], "gid": gids[1], "real_uid": _other(uids), "real_gid": _other(gids), "cgroups": lines,
            "contained": len(status["NSpid"].split()) > 1 or (self._on_host and _named_contained(lines)),
            "started_at": self._booted_at + int(numbers[19]) * 1000 // os.sysconf("SC_CLK_TCK"),
        }  # fmt: skip
        groups = status["Groups"].split()
        unified = [line[3:] for line in lines if line.startswith("0::")]
        return facts | ({"groups": groups} if len(groups) <= MAX_GROUPS else {}) | ({"cgroup": unified[0]} if unified else {})

    def _executable(self, folder: int, held: int, uid: int) -> dict[str, Any]:
        """Rules 3 to 5."""
        path = os.readlink("exe", dir_fd=folder)
        views = [self._proc / one for one in ("1", "self")]
        found: dict[str, Any] = {}
        told = not path.endswith(" (deleted)") and path.startswith("/") and path.isprintable() and len(path) <= 4096
        if told and _mounts_seen(folder) in [_namespace(view) for view in views]:
            found["exe_path"] = path
        return found | (self._hashed(held, uid) if _local(folder, held, views) else {"exe_unread": "filesystem"})

    def _hashed(self, held: int, uid: int) -> dict[str, Any]:
        try:
            descriptor = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:
            return {"exe_unread": "denied"}
        try:
            said = os.fstat(descriptor)
            known = self._hashes.get(_identity(said))
            if known:
                self._hashes.move_to_end(_identity(said))
                return {"exe_sha256": known}
            if not stat.S_ISREG(said.st_mode) or said.st_size > MAX_EXE_BYTES or not self._may_spend(uid, said.st_size):
                return {"exe_unread": "size"}
            digest = _hash(descriptor, said.st_size)
            if digest is None or _identity(os.fstat(descriptor)) != _identity(said):
                return {"exe_unread": "changed"}
            self._keep(said, digest)
            return {"exe_sha256": digest}
        finally:
            os.close(descriptor)

    def _may_spend(self, uid: int, size: int) -> bool:
        if self._steady() - self._minute >= _WINDOW_SECONDS:
            self._minute, self._spent = self._steady(), Counter()
        # A user may have 65,536 others (subuid(5)), so all of them together are bounded too; root's programs are not theirs to crowd out.
        others = self._spent.total() - self._spent[0]
        if self._spent[uid] + size > MAX_HASHED_PER_MINUTE or (uid and others + size > MAX_HASHED_FOR_ALL):
            return False
        self._spent[uid] += size
        return True

    def _keep(self, said: os.stat_result, digest: str) -> None:
        if time.clock_gettime_ns(time.CLOCK_REALTIME) - max(said.st_ctime_ns, said.st_mtime_ns) < SETTLED_NS:
            return
        self._hashes[_identity(said)] = digest
        while len(self._hashes) > MAX_KNOWN:
            self._hashes.popitem(last=False)


def _identity(said: os.stat_result) -> tuple[int, ...]:
    return said.st_dev, said.st_ino, said.st_size, said.st_mtime_ns, said.st_ctime_ns


def _still(folder: int, held: int) -> bool:
    """Whether the process still runs the file that is held. A file of another mount is another; it is not asked what it is."""
    again = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
    try:
        return _mount(again) == _mount(held)
    finally:
        os.close(again)


def _mount(descriptor: int) -> str:
    info = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    return "".join(line for line in info.splitlines(keepends=True) if line.startswith(("mnt_id:", "ino:")))


def _hash(descriptor: int, size: int) -> str | None:
    hashed, left = hashlib.sha256(), size
    while left > 0:
        part = os.read(descriptor, min(_CHUNK, left))
        if not part:
            return None
        hashed.update(part)
        left -= len(part)
    return hashed.hexdigest()


def _named_contained(lines: list[str]) -> bool:
    try:
        return looks_contained(lines)
    except InvalidInput as error:
        raise ValueError(error.reason) from None


def _other(ids: list[int]) -> int:
    """Of real, effective, saved and filesystem id the first that is not the effective one, or that."""
    return next((one for one in ids if one != ids[1]), ids[1])


def _status(folder: int) -> dict[str, str]:
    lines = _read(folder, "status").decode("utf-8", "replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _stat(folder: int) -> list[str]:
    # The name stands in brackets and may hold anything, so the numbers begin after the last one.
    return _read(folder, "stat").rpartition(b")")[2].decode("ascii").split()


def _read(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        parts = bytearray()
        while part := os.read(descriptor, 65_536):
            parts += part
            if len(parts) > MAX_PROC_BYTES:
                raise ValueError(name)
        return bytes(parts)
    finally:
        os.close(descriptor)


def _local(folder: int, held: int, views: list[Path]) -> bool:
    """Rule 5. Which mount the file is on is asked of the kernel, not of the filesystem."""
    mount = next(line.split()[1] for line in _mount(held).splitlines() if line.startswith("mnt_id:"))
    own = {line[0]: line for line in _mounts(_read(folder, "mountinfo"))}
    if mount not in own or own[mount][2] not in _LOCAL:
        return False
    return any(own[mount][1] in {line[1] for line in _mounts_of(view)} for view in views)


def _mounts_of(view: Path) -> list[tuple[str, str, str]]:
    try:
        descriptor = os.open(view, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return _mounts(_read(descriptor, "mountinfo"))
    except (OSError, ValueError):
        return []
    finally:
        os.close(descriptor)


def _mounts(text: bytes) -> list[tuple[str, str, str]]:
    """Id, device and type of each mount (proc_pid_mountinfo(5)); blanks in paths are escaped there."""
    found: list[tuple[str, str, str]] = []
    for line in text.decode("utf-8", "replace").splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        found.append((fields[0], fields[2], tail.split(" ")[0]))
    return found


def _mounts_seen(folder: int) -> str | None:
    try:
        return os.readlink("ns/mnt", dir_fd=folder)
    except PermissionError:
        return None


def _namespace(view: Path) -> str:
    try:
        return (view / "ns" / "mnt").readlink().as_posix()
    except OSError:
        return ""


def _booted_at(proc: Path) -> int:
    try:
        lines = (proc / "stat").read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("btime ")) * 1000
    except (OSError, StopIteration, ValueError):
        raise Unsupported("this system does not tell when it was started", remedy="mount proc at /proc") from None


def _gone(pid: int) -> NotFound:
    return NotFound(f"process {pid} is gone", remedy="connect again")
