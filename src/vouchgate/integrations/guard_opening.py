"""The verified opening: a descriptor and the SHA-256 of exactly the bytes that whoever reads it gets.

    opening = Opening(stores=(Store(Path("/var/lib/models"), owners=frozenset({990})),))
    with opening.open(path) as opened:            opened.digest, opened.path, opened.reader()

The three ways, the first that fits
1. `store`: a file beneath a folder of the store that nobody but its owner could change (guard_store.py).
2. `verity`: the kernel holds every read of the file to a digest of its own (fs-verity).
3. `sealed`: anything else is copied once into a memfd, the memfd is sealed against every change, and only then hashed: who opened it for
   writing before the seals (by /proc, as the same user) can write no more, and what was written by then is what is hashed.
A hash is remembered for 1 and 2 alone: by device, inode, size and times of a store's file, by the verity digest. Of 1 the keeper may have noted it,
so that a process that never hashed the file need not. A file anybody else may write is read anew each time, whatever its times say: times can be
set, and a change within one tick of the clock leaves them.
What is handed on is a descriptor, never the name that was asked for: a rename, a link or a mount afterwards changes nothing.
Left to others: whether the content may be loaded (guard_asking.py), folders (guard_views.py). A process of the same user that may trace this
one can change its memory; no opening helps against that.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import mmap
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from vouchgate.integrations.guard_kernel import verity_digest
from vouchgate.integrations.guard_store import READ, Store, Stores
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound

MAX_BYTES = 64 * 1024**3
"""Bytes of one file; what an import takes."""
COPY_BYTES = 16 * 1024**2
"""Copied and hashed at a time."""
MAX_REMEMBERED = 4_096
"""Hashes that are remembered, about 200 bytes each."""
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

How = Literal["store", "verity", "sealed"]


class Opened:
    """A descriptor on verified bytes. Close it, or use it as a context; what was mapped from it stays."""

    def __init__(self, descriptor: int, digest: Digest, how: How, forget: Callable[[], None] | None = None, *, known: bool = False) -> None:
        self.descriptor, self.digest, self.how, self._forget = descriptor, digest, how, forget
        self.known = known
        """Whether it leads to sealed bytes that were opened here before and are still held: what was asked about them stands."""

    @property
    def path(self) -> str:
        """A name for loaders that take no descriptor; it holds while this is open, in this process and its forks."""
        return f"/proc/self/fd/{self.descriptor}"

    def reader(self) -> io.BufferedReader:
        """A file of its own position, which stays readable when this is closed."""
        return io.BufferedReader(io.FileIO(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), closefd=True))

    def again(self) -> Opened:
        """The same bytes under a descriptor of their own, known: what was asked about them stands."""
        return Opened(_again(self.descriptor), self.digest, self.how, known=True)

    def close(self) -> None:
        """Give the descriptor back; harmless the second time."""
        if self.descriptor >= 0:
            if self._forget is not None:
                self._forget()
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Opening:
    """See the module's text. Safe to share between threads; a fork has its own."""

    def __init__(
        self,
        stores: Sequence[Store] = (),
        *,
        decider: Callable[[], int] = lambda: -1,
        max_bytes: int = MAX_BYTES,
        verity: Callable[[int], bytes | None] = verity_digest,
    ) -> None:
        self.stores, self._max_bytes, self._verity = Stores(stores, decider), max_bytes, verity
        self._lock = threading.Lock()
        self._known: OrderedDict[object, Digest] = OrderedDict()
        self._held: dict[tuple[int, int], tuple[Digest, int]] = {}
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """A lock that another thread held while we forked would never be freed here."""
        self._lock = threading.Lock()

    def open(self, path: str | bytes | os.PathLike[str]) -> Opened:
        """The file at `path`. Raises `NotFound`, `InvalidInput`, `LimitExceeded`."""
        name = os.fsdecode(path)
        if not name or "\0" in name:
            raise InvalidInput("a path is empty or holds a NUL", remedy="name a file")
        stored = self.stores.open(name)
        if stored is not None:
            return self._kept(*stored, name)
        try:
            source = os.open(name, READ)
        except OSError as error:
            raise NotFound(f"`{name[:400]}` cannot be opened: {error.strerror}", remedy="name a file that you may read") from None
        try:
            return self._open_source(source, name[:400])
        finally:
            os.close(source)

    def of_descriptor(self, descriptor: int) -> Opened:
        """The whole file behind a descriptor that somebody else opened; its position is neither used nor moved."""
        stored = self.stores.of_descriptor(descriptor)
        if stored is not None:
            return self._kept(*stored, "the open file")
        return self._open_source(descriptor, "the open file")

    def of_bytes(self, data: bytes | bytearray | memoryview) -> Opened:
        """A sealed copy of bytes in memory."""
        made = _Sealing("the bytes in memory")
        return self._hold(made.write(data))

    def held(self, descriptor: int) -> Digest | None:
        """The digest, where the descriptor leads to sealed bytes that this opening made and still holds."""
        facts = os.fstat(descriptor)
        with self._lock:
            found = self._held.get((facts.st_dev, facts.st_ino))
        return found[0] if found is not None and _is_sealed(descriptor) else None

    # -- the three ways

    def _open_source(self, source: int, name: str) -> Opened:
        facts = os.fstat(source)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput(f"`{name}` is not a regular file", remedy="name a file, not a folder, a device or a pipe")
        self._check_size(facts.st_size, name)
        known = self.held(source)
        if known is not None:
            return self._hold((_again(source), known), known=True)
        measured = self._verity(source)
        if measured is not None:
            return self._by_verity(source, measured, facts.st_size)
        return self._hold(_Sealing(name).copy(source, facts.st_size))

    def _kept(self, descriptor: int, store: Store, name: str) -> Opened:
        """Way 1."""
        try:
            facts = os.fstat(descriptor)
            self._check_size(facts.st_size, name)
            key = _version(facts)
            digest = self._remembered(key)
            if digest is None:
                said = self.stores.noted(descriptor, store)
                digest = _hash(descriptor, facts.st_size) if said is None else Digest(value=said, size=facts.st_size)
                if _version(os.fstat(descriptor)) != key:
                    raise InvalidInput(f"`{name[:400]}` changed while it was read", remedy="load it again")
                self._remember(key, digest)
            return Opened(descriptor, digest, "store")
        except BaseException:
            os.close(descriptor)
            raise

    def _by_verity(self, source: int, measured: bytes, size: int) -> Opened:
        """Way 2. The remembered hash belongs to the verity digest, not to a name: the same content elsewhere has it too."""
        key = ("verity", measured, size)
        digest = self._remembered(key)
        descriptor = _again(source)
        try:
            if digest is None:
                digest = _hash(descriptor, size)
                self._remember(key, digest)
            return Opened(descriptor, digest, "verity")
        except BaseException:
            os.close(descriptor)
            raise

    # -- what is remembered

    def _remembered(self, key: object) -> Digest | None:
        with self._lock:
            return self._known.get(key)

    def _remember(self, key: object, digest: Digest) -> None:
        with self._lock:
            self._known[key] = digest
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)

    def _hold(self, made: tuple[int, Digest], *, known: bool = False) -> Opened:
        """Way 3: for as long as a sealed copy is open, it is known by its inode, however it is reached."""
        descriptor, digest = made
        facts = os.fstat(descriptor)
        key = facts.st_dev, facts.st_ino
        with self._lock:
            self._held[key] = digest, self._held.get(key, (digest, 0))[1] + 1
        return Opened(descriptor, digest, "sealed", lambda: self._release(key), known=known)

    def _release(self, key: tuple[int, int]) -> None:
        with self._lock:
            digest, times = self._held[key]
            if times > 1:
                self._held[key] = digest, times - 1
            else:
                del self._held[key]

    def _check_size(self, size: int, name: str) -> None:
        if size > self._max_bytes:
            raise LimitExceeded(f"`{name[:400]}` has {size} bytes, the bound is {self._max_bytes}", remedy="split it into shards")


class _Sealing:
    """Makes one sealed copy; nothing is left where it fails."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._target = os.memfd_create("vouchgate-load", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def copy(self, source: int, size: int) -> tuple[int, Digest]:
        """Of a file that was `size` bytes long when it was opened. Raises `InvalidInput` where it is longer or shorter now."""
        try:
            check_memory(size, self._name)
            copied = _copy(source, self._target, size)
            if copied != size or os.pread(source, 1, size):
                raise InvalidInput(f"`{self._name}` changed while it was read", remedy="wait until it is written, then load it again")
            return self._seal(size)
        except BaseException:
            os.close(self._target)
            raise

    def write(self, data: bytes | bytearray | memoryview) -> tuple[int, Digest]:
        """Of bytes."""
        try:
            view = memoryview(data).cast("B")
            offset = 0
            while offset < len(view):
                offset += os.pwrite(self._target, view[offset : offset + COPY_BYTES], offset)
            return self._seal(len(view))
        except BaseException:
            os.close(self._target)
            raise

    def _seal(self, size: int) -> tuple[int, Digest]:
        """Seals first, hash second; the descriptor that is handed on cannot write."""
        os.fchmod(self._target, 0o400)
        fcntl.fcntl(self._target, fcntl.F_ADD_SEALS, SEALS)
        if os.fstat(self._target).st_size != size:
            raise InvalidInput(f"the copy of `{self._name}` was changed while it was made", remedy="see which process of this user did it")
        descriptor = os.open(f"/proc/self/fd/{self._target}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest = _hash(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._target)
        return descriptor, digest


def _version(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_uid, facts.st_mode


def _is_sealed(descriptor: int) -> bool:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
    except OSError:
        return False


def _again(descriptor: int) -> int:
    """A descriptor of our own on the same file: who closes or moves theirs does not touch ours, and ours cannot write."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def _copy(source: int, target: int, size: int) -> int:
    """At most `size` bytes from the beginning; how many there were."""
    return copy_range(source, target, 0, size)


def copy_range(source: int, target: int, begin: int, size: int) -> int:
    """At most `size` bytes from `begin` to where `target` stands, without moving the source's position; how many there were."""
    offset, end = begin, begin + size
    while offset < end:
        try:
            moved = os.sendfile(target, source, offset, min(COPY_BYTES, end - offset))
        except OSError:
            moved = _copy_once(source, target, offset, end)
        if moved == 0:
            break
        offset += moved
    return offset - begin


def _copy_once(source: int, target: int, offset: int, end: int) -> int:
    """For filesystems that cannot be spliced."""
    part = os.pread(source, min(COPY_BYTES, end - offset), offset)
    written = 0
    while written < len(part):
        written += os.write(target, part[written:])
    return written


def _hash(descriptor: int, size: int) -> Digest:
    """SHA-256 of the first `size` bytes."""
    hashing = hashlib.sha256()
    if size:
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            for offset in range(0, size, COPY_BYTES):
                with view[offset : offset + COPY_BYTES] as part:
                    hashing.update(part)
    return Digest(value=hashing.hexdigest(), size=size)


def check_memory(size: int, name: str) -> None:
    """A copy is memory that cannot be paged back to the file; what does not fit is refused instead of ending the process."""
    if size < COPY_BYTES:
        return
    with Path("/proc/meminfo").open() as file:
        found = dict(line.split(":", 1) for line in file)
    left = int(found["MemAvailable"].split()[0]) * 1024
    if size > left:
        raise LimitExceeded(
            f"`{name}` has {size} bytes, and a sealed copy of it needs as much memory: {left} are left",
            remedy="load it from the store, or turn fs-verity on for it: then it is not copied",
        )
