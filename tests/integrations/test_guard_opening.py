"""The verified opening under attack: whatever is done to the file, the bytes that are handed on are the bytes that were hashed."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vouchgate.integrations import guard_kernel, guard_opening, guard_store
from vouchgate.integrations.guard_opening import SEALS, Opened, Opening
from vouchgate.integrations.guard_store import Store
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound

KEEPER = 61_234
"""Uid of the store's owner: nobody on the machine."""
GOOD, EVIL = b"good" * 5_000, b"evil" * 5_000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def told(opened: Opened) -> None:
    """What every test ends with: the digest is that of the bytes, by path, by reader and by descriptor."""
    by_path = Path(opened.path).read_bytes()
    with opened.reader() as file:
        assert file.read() == by_path
    assert opened.digest.value == sha(by_path)
    assert opened.digest.size == len(by_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(GOOD)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A store as an installation has it: the keeper's folder, the keeper's read-only file named by its digest."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o755)
    (folder / sha(GOOD)).write_bytes(GOOD)
    (folder / sha(GOOD)).chmod(0o444)
    os.chown(folder / sha(GOOD), KEEPER, KEEPER)
    os.chown(folder, KEEPER, KEEPER)
    yield folder
    os.chown(folder, os.geteuid(), os.getegid())


def of_store(folder: Path) -> Opening:
    return Opening((Store(folder, frozenset({KEEPER})),))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- sealed copies


def test_write_through_a_descriptor_that_was_open_before(model: Path) -> None:
    with model.open("r+b") as writer, Opening().open(model) as opened:
        writer.write(EVIL)
        writer.flush()
        told(opened)
        assert Path(opened.path).read_bytes() == GOOD


def test_rename_over_the_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(EVIL)
    with Opening().open(model) as opened:
        (tmp_path / "other").rename(model)
        told(opened)
        assert Path(opened.path).read_bytes() == GOOD


def test_write_through_a_hard_link(model: Path, tmp_path: Path) -> None:
    os.link(model, tmp_path / "link")
    with Opening().open(model) as opened:
        (tmp_path / "link").write_bytes(EVIL)
        told(opened)
        assert Path(opened.path).read_bytes() == GOOD


def test_times_that_were_set_back_hide_nothing(model: Path) -> None:
    opening = Opening()
    before = model.stat()
    with opening.open(model) as opened:
        assert opened.digest.value == sha(GOOD)
    model.write_bytes(EVIL)
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    with opening.open(model) as opened:
        assert opened.digest.value == sha(EVIL)
        told(opened)


def test_a_link_that_turns_while_it_is_opened(model: Path, tmp_path: Path) -> None:
    other, link, done = tmp_path / "other", tmp_path / "link", threading.Event()
    other.write_bytes(EVIL)
    link.symlink_to(model)

    def turn() -> None:
        while not done.is_set():
            for target in (other, model):
                (tmp_path / "next").symlink_to(target)
                (tmp_path / "next").rename(link)

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        opening = Opening()
        for _ in range(200):
            with opening.open(link) as opened:
                told(opened)
    finally:
        done.set()
        turning.join()


def test_a_file_that_is_written_all_the_time(model: Path) -> None:
    done = threading.Event()

    def write() -> None:
        with model.open("r+b", buffering=0) as file:
            while not done.is_set():
                for data in (EVIL, GOOD):
                    os.pwrite(file.fileno(), data, 0)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(200):
            with Opening().open(model) as opened:
                told(opened)
    finally:
        done.set()
        writing.join()


def test_a_mapping_that_is_written_through(model: Path) -> None:
    import mmap

    with model.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped, Opening().open(model) as opened:
        mapped[: len(EVIL)] = EVIL
        told(opened)
        assert Path(opened.path).read_bytes() == GOOD


@pytest.mark.parametrize("way", ["write", "truncate", "grow", "map", "unseal"])
def test_a_sealed_copy_cannot_be_changed_by_its_own_user(model: Path, way: str) -> None:
    import mmap

    with Opening().open(model) as opened:
        Path(opened.path).chmod(0o600)
        with pytest.raises((PermissionError, OSError)):
            writer = os.open(opened.path, os.O_RDWR)
            try:
                if way == "write":
                    os.pwrite(writer, EVIL, 0)
                elif way == "truncate":
                    os.ftruncate(writer, 1)
                elif way == "grow":
                    os.ftruncate(writer, len(GOOD) + 1)
                elif way == "map":
                    mmap.mmap(writer, len(GOOD))
                else:
                    fcntl.fcntl(writer, fcntl.F_ADD_SEALS, 0)
            finally:
                os.close(writer)
        told(opened)


def test_who_writes_into_the_copy_before_it_is_sealed_writes_what_is_hashed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the same user finds the copy under /proc before the seals."""
    copy, writers = guard_opening._copy, []

    def attacked(source: int, target: int, size: int) -> int:
        moved = copy(source, target, size)
        writers.append(os.open(f"/proc/self/fd/{target}", os.O_RDWR))
        os.pwrite(writers[0], EVIL, 0)
        return moved

    monkeypatch.setattr(guard_opening, "_copy", attacked)
    with Opening().open(model) as opened:
        with pytest.raises(PermissionError):
            os.pwrite(writers[0], GOOD, 0)
        assert opened.digest.value == sha(EVIL)
        told(opened)
    os.close(writers[0])


@pytest.mark.parametrize("change", ["grow", "shrink"])
def test_a_file_that_changes_its_length_while_it_is_read(model: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    copy = guard_opening._copy

    def attacked(source: int, target: int, size: int) -> int:
        os.truncate(model, size + 1 if change == "grow" else size - 1)
        return copy(source, target, size)

    monkeypatch.setattr(guard_opening, "_copy", attacked)
    before = descriptors()
    with pytest.raises(InvalidInput, match="changed while it was read"):
        Opening().open(model)
    assert descriptors() == before


def test_files_that_cannot_be_spliced(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", never)
    with Opening().open(model) as opened:
        assert opened.digest.value == sha(GOOD)
        told(opened)


@pytest.mark.parametrize("what", ["fifo", "folder", "device", "socket"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, what: str) -> None:
    import socket

    path = tmp_path / "thing"
    with socket.socket(socket.AF_UNIX) as listening:
        if what == "fifo":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        elif what == "device":
            path = Path("/dev/zero")
        else:
            listening.bind(str(path))
        with pytest.raises((InvalidInput, NotFound)):
            Opening().open(path)


def test_bounds_and_names(model: Path, tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded, match="the bound is 10"):
        Opening(max_bytes=10).open(model)
    for name in ("", "a\0b"):
        with pytest.raises(InvalidInput):
            Opening().open(name)
    with pytest.raises(NotFound):
        Opening().open(tmp_path / "absent")
    (tmp_path / "empty").touch()
    with Opening().open(tmp_path / "empty") as opened:
        told(opened)


def test_a_copy_that_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(LimitExceeded, match="are left"):
        Opening(max_bytes=1 << 46).open(path)


def test_bytes_in_memory_and_descriptors_of_others(model: Path) -> None:
    opening = Opening()
    data = bytearray(GOOD)
    with opening.of_bytes(data) as opened:
        data[:4] = b"evil"
        assert opened.digest.value == sha(GOOD)
        told(opened)
    with model.open("rb") as file:
        file.seek(7)
        with opening.of_descriptor(file.fileno()) as opened:
            assert (opened.digest.value, os.lseek(file.fileno(), 0, os.SEEK_CUR)) == (sha(GOOD), file.tell())


def test_a_sealed_copy_is_known_again_while_it_is_held_and_not_afterwards(model: Path) -> None:
    opening = Opening()
    first = opening.open(model)
    with opening.open(first.path) as again:
        assert (again.how, again.digest) == ("sealed", first.digest)
        assert os.fstat(again.descriptor).st_ino == os.fstat(first.descriptor).st_ino
        first.close()
        assert opening.held(again.descriptor) == again.digest
    assert opening._held == {}


def test_somebody_elses_memfd_is_never_taken_for_ours(model: Path) -> None:
    opening = Opening()
    theirs = os.memfd_create("theirs", os.MFD_ALLOW_SEALING)
    os.write(theirs, GOOD)
    assert opening.held(theirs) is None
    with opening.of_descriptor(theirs) as opened:
        os.pwrite(theirs, EVIL, 0)
        assert fcntl.fcntl(opened.descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
        told(opened)
    os.close(theirs)


def test_many_openings_leak_nothing(model: Path) -> None:
    opening = Opening()
    with opening.open(model):
        before = descriptors()
    for _ in range(3_000):
        with opening.open(model) as opened, opened.reader():
            pass
    assert descriptors() == before - 1
    assert (len(opening._held), len(opening._known)) == (0, 0)


def test_threads_share_an_opening(model: Path) -> None:
    opening, wrong = Opening(), []

    def work() -> None:
        for _ in range(100):
            with opening.open(model) as opened:
                if Path(opened.path).read_bytes() != GOOD or opened.digest.value != sha(GOOD):
                    wrong.append(opened.digest)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (wrong, opening._held) == ([], {})


def test_a_fork_loads_what_was_opened_before_it_even_while_the_lock_was_held(model: Path) -> None:
    opening = Opening()
    with opening.open(model) as opened:
        opening._lock.acquire()
        child = os.fork()
        if child == 0:
            with opening.open(opened.path) as again:
                os._exit(0 if again.digest.value == sha(GOOD) and Path(opened.path).read_bytes() == GOOD else 1)
        opening._lock.release()
        assert os.waitpid(child, 0)[1] == 0


# -- the store


@as_root
def test_a_store_file_is_hashed_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening, path = of_store(store), store / sha(GOOD)
    with opening.open(path) as opened:
        assert opened.how == "store"
        told(opened)
    monkeypatch.setattr(guard_opening, "_hash", None)
    with opening.open(path) as opened:
        assert (opened.how, opened.digest.value) == ("store", sha(GOOD))


@as_root
def test_a_file_that_takes_the_place_of_a_store_file_is_hashed_anew(store: Path) -> None:
    opening, path = of_store(store), store / sha(GOOD)
    opening.open(path).close()
    times = path.stat()
    (store / "new").write_bytes(EVIL)
    (store / "new").chmod(0o444)
    os.chown(store / "new", KEEPER, KEEPER)
    os.utime(store / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    (store / "new").rename(path)
    with opening.open(path) as opened:
        assert (opened.how, opened.digest.value) == ("store", sha(EVIL))


@as_root
def test_a_store_file_that_was_opened_survives_a_rename(store: Path) -> None:
    with of_store(store).open(store / sha(GOOD)) as opened:
        (store / "new").write_bytes(EVIL)
        (store / "new").rename(store / sha(GOOD))
        told(opened)


def _writable(path: Path) -> None:
    path.chmod(0o644)


def _owned_by_us(path: Path) -> None:
    os.chown(path, os.geteuid(), 0)


def _owned_by_another(path: Path) -> None:
    os.chown(path, KEEPER + 1, 0)


def _linked(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def _folder_writable(path: Path) -> None:
    path.parent.chmod(0o777)


def _folder_of_another(path: Path) -> None:
    os.chown(path.parent, KEEPER + 1, 0)


def _above_writable(path: Path) -> None:
    path.parent.parent.chmod(0o777)


def _folder_linked(path: Path) -> None:
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.symlink_to("aside")


@as_root
@pytest.mark.parametrize(
    "spoil",
    [
        _writable, _owned_by_us, _owned_by_another, _linked, _folder_writable, _folder_of_another, _above_writable, _folder_linked,
    ],
)  # fmt: skip
def test_what_does_not_lie_in_the_store_as_it_must_is_copied_instead(store: Path, spoil: object) -> None:
    path = store / sha(GOOD)
    spoil(path)  # type: ignore[operator]
    with of_store(store).open(path) as opened:
        assert opened.how == "sealed"
        told(opened)


@as_root
def test_the_store_of_our_own_user_is_none(store: Path) -> None:
    os.chown(store / sha(GOOD), os.geteuid(), 0)
    with Opening((Store(store, frozenset({os.geteuid()})),)).open(store / sha(GOOD)) as opened:
        assert opened.how == "sealed"


@as_root
def test_paths_that_lead_out_of_the_store(store: Path, model: Path) -> None:
    for path in (store / "../model.bin", store / "." / ".." / "model.bin"):
        with of_store(store).open(path) as opened:
            assert opened.how == "sealed"


@as_root
def test_without_openat2_everything_is_copied(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(guard_store, "step", missing)
    with of_store(store).open(store / sha(GOOD)) as opened:
        assert opened.how == "sealed"


MOUNTS = """
import ctypes, os, subprocess, sys
from pathlib import Path
sys.path[:0] = {path!r}
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None):
    sys.exit(77)
from vouchgate.integrations.guard_opening import Opening, Store
base, kind = Path(sys.argv[1]), sys.argv[2]
store, name = base / "store", sys.argv[3]
opening = Opening((Store(store, frozenset({{{keeper}}})),))
opened = opening.open(store / name)
(base / "evil").write_bytes(b"evil" * 5000)
if kind == "bind":
    failed = libc.mount(bytes(base / "evil"), bytes(store / name), None, 4096, None)
else:
    for made in ("upper", "work"):
        (base / "over" / made).mkdir(parents=True)
    if libc.mount(b"tmpfs", bytes(base / "over"), b"tmpfs", 0, None):
        sys.exit(77)
    for made in ("upper", "work"):
        (base / "over" / made).mkdir()
    (base / "over/upper" / name).write_bytes(b"evil" * 5000)
    told = f"lowerdir={{store}},upperdir={{base}}/over/upper,workdir={{base}}/over/work".encode()
    failed = libc.mount(b"overlay", bytes(store), b"overlay", 0, told)
if failed:
    sys.exit(77)
assert (store / name).read_bytes() == b"evil" * 5000
import hashlib
for one in (opened, opening.open(store / name)):
    assert hashlib.sha256(Path(one.path).read_bytes()).hexdigest() == one.digest.value, one.how
assert Path(opened.path).read_bytes() == b"good" * 5000
assert one.how == "sealed", one.how
"""


@as_root
@pytest.mark.parametrize("kind", ["bind", "overlay"])
def test_a_mount_over_the_file_during_the_load(store: Path, tmp_path: Path, kind: str) -> None:
    script = MOUNTS.format(path=[path for path in sys.path if path], keeper=KEEPER)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), kind, sha(GOOD)], check=False, capture_output=True, text=True, timeout=60
    )
    if done.returncode == 77:
        pytest.skip(f"this machine does not let root make a {kind} mount")
    assert done.returncode == 0, done.stderr


# -- fs-verity


def test_a_verity_digest_is_remembered_and_another_one_is_not(model: Path) -> None:
    """The kernel's answer is a value here; where it comes from is the next test's."""
    measured = {"now": b"\0\1" + b"m" * 32}
    opening = Opening(verity=lambda _: measured["now"])
    with opening.open(model) as opened:
        assert (opened.how, opened.digest.value) == ("verity", sha(GOOD))
    model.write_bytes(EVIL)
    measured["now"] = b"\0\1" + b"n" * 32
    with opening.open(model) as opened:
        assert (opened.how, opened.digest.value) == ("verity", sha(EVIL))


def test_a_filesystem_that_answers_for_itself_has_no_verity(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FUSE hands the question on to its server: what it says counts for nothing."""

    def lying(descriptor: int, request: int, room: bytearray) -> int:
        room[:4] = (1).to_bytes(2, sys.byteorder) + (32).to_bytes(2, sys.byteorder)
        return 0

    monkeypatch.setattr(guard_kernel.fcntl, "ioctl", lying)
    with model.open("rb") as file:
        monkeypatch.setattr(guard_kernel, "filesystem_kind", lambda _: 0xEF53)
        assert guard_kernel.verity_digest(file.fileno()) == b"\0\1" + bytes(32)
        monkeypatch.setattr(guard_kernel, "filesystem_kind", lambda _: 0x65735546)
        assert guard_kernel.verity_digest(file.fileno()) is None


def test_the_kernel_measures_a_file_with_verity(tmp_path: Path) -> None:
    path = tmp_path / "measured"
    path.write_bytes(GOOD)
    with path.open("rb") as file:
        # FS_IOC_ENABLE_VERITY with struct fsverity_enable_arg: version 1, SHA-256, blocks of 4096 bytes
        argument = (ctypes.c_uint32 * 32)(1, 1, 4096)
        try:
            fcntl.ioctl(file.fileno(), 0x40806685, bytes(argument))
        except OSError as error:
            pytest.skip(f"fs-verity is off on the filesystem of the tests: {error.strerror}")
    with Opening().open(path) as opened:
        assert opened.how == "verity"
        told(opened)


def test_the_kind_of_a_filesystem_is_the_kernels_word() -> None:
    with Path("/proc/self/maps").open() as file:
        assert guard_kernel.filesystem_kind(file.fileno()) == 0x9FA0
