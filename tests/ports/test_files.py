"""Files whose owner, mode and durability matter: what stands in the way, and what a kill leaves behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vouchgate.ports import files
from vouchgate.ports.files import free_bytes, make_folders, read_small, write_atomic
from vouchgate.vocabulary.errors import Conflict, InvalidInput
from vouchgate.vocabulary.processes import Folder

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def folder(path: Path, mode: int = 0o711, uid: int | None = None) -> Folder:
    return Folder(path=str(path), mode=mode, uid=uid, gid=uid)


def test_a_folder_gets_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_folders([folder(tmp_path / "a"), folder(tmp_path / "a" / "b", 0o2750)])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o2750


def test_a_folder_that_was_opened_up_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o777)
    (tmp_path / "a").chmod(0o777)
    make_folders([folder(tmp_path / "a", 0o700)])
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


@pytest.mark.parametrize("what", ["file", "link to a folder", "dangling link", "pipe"])
def test_what_stands_where_a_folder_should_be_is_refused_and_left_alone(what: str, tmp_path: Path) -> None:
    there, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    if what == "file":
        there.write_text("mine")
    elif what == "pipe":
        os.mkfifo(there)
    else:
        there.symlink_to(elsewhere if what == "link to a folder" else tmp_path / "nothing")
    with pytest.raises(Conflict, match="should be a folder"):
        make_folders([folder(there, 0o700)])
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
    assert not (tmp_path / "nothing").exists()


@root_only
def test_root_gives_a_folder_to_its_process(tmp_path: Path) -> None:
    make_folders([folder(tmp_path / "a", uid=58_001)])
    assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == (58_001, 58_001)


@root_only
def test_somebody_elses_folder_is_refused_by_who_is_not_root(tmp_path: Path) -> None:
    theirs = tmp_path / "a"
    theirs.mkdir(mode=0o755)
    os.chown(theirs, 58_001, 58_001)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setuid(58_002)
            os.geteuid()
            make_folders([folder(theirs)])
        except Conflict as error:
            code = 0 if "58001" in str(error) else 2
        finally:
            os._exit(code)
    path = tmp_path
    while path != Path("/tmp") and path.parent != path:
        path.chmod(0o755)
        path = path.parent
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 1}
    if status == 1:
        pytest.skip("the other user cannot reach this folder")


def test_a_written_file_has_its_bytes_and_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    before = os.umask(0)
    try:
        write_atomic(path, b"one")
        write_atomic(path, b"two", mode=0o644)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "a").symlink_to(victim)
    write_atomic(tmp_path / "a", b"new")
    assert victim.read_bytes() == b"untouched"
    assert not (tmp_path / "a").is_symlink()


def test_two_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    texts = [bytes([65 + number]) * 200_000 for number in range(6)]
    writers = [threading.Thread(target=write_atomic, args=(path, text)) for text in texts]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert path.read_bytes() in texts
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    program = (
        "import sys; from pathlib import Path; from vouchgate.ports.files import write_atomic\n"
        "print('go', flush=True)\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    write_atomic(Path(sys.argv[1]), bytes([n % 250]) * 400_000)\n"
    )
    write_atomic(path, b"\0" * 400_000)
    for pause in (0.003, 0.011, 0.02):
        child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        data = path.read_bytes()
        assert len(data) == 400_000
        assert len(set(data)) == 1


def test_a_small_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    assert read_small(path, "key", bound=10) == b"x" * 10
    with pytest.raises(InvalidInput, match="at most 9 bytes"):
        read_small(path, "key", bound=9)


@pytest.mark.parametrize("what", ["missing", "folder", "link", "pipe", "device"])
def test_what_is_no_regular_file_is_refused_at_once(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if what == "folder":
        path.mkdir()
    elif what == "link":
        (tmp_path / "b").write_text("x")
        path.symlink_to(tmp_path / "b")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path = Path("/dev/zero")
    began = time.monotonic()
    with pytest.raises(InvalidInput) as caught:
        read_small(path, "policy file")
    assert caught.value.remedy
    assert time.monotonic() - began < 2


def test_free_bytes_of_a_filesystem(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
