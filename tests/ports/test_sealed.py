"""A sealed copy is exactly the bytes that were hashed, and nobody can change it."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from vouchgate.ports import sealed
from vouchgate.ports.sealed import sealed_copy
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import InvalidInput, Unverified

CONTENT = bytes(range(256)) * 20_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(CONTENT)
    return path


def content(descriptor: int) -> bytes:
    return os.pread(descriptor, len(CONTENT) + 1, 0)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_copy_is_what_was_hashed(model: Path) -> None:
    descriptor, digest = sealed_copy(model, file_digest(CONTENT))
    try:
        assert content(descriptor) == CONTENT
        assert digest == file_digest(CONTENT)
    finally:
        os.close(descriptor)


def test_nobody_can_write_grow_shrink_or_unseal_it(model: Path) -> None:
    descriptor, _ = sealed_copy(model)
    try:
        for attack in (
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: os.ftruncate(descriptor, 1),
            lambda: os.ftruncate(descriptor, len(CONTENT) + 1),
            lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 0x0010),
            lambda: os.pwrite(os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY), b"x", 0),
        ):
            with pytest.raises(OSError):
                attack()
        assert content(descriptor) == CONTENT
        assert os.fstat(descriptor).st_mode & 0o222 == 0
    finally:
        os.close(descriptor)


def test_a_change_of_the_file_afterwards_changes_nothing(model: Path) -> None:
    descriptor, digest = sealed_copy(model)
    try:
        model.write_bytes(b"poison")
        assert file_digest(content(descriptor)) == digest
    finally:
        os.close(descriptor)


def test_another_file_than_expected_is_refused_and_leaves_no_descriptor(model: Path) -> None:
    before = open_descriptors()
    with pytest.raises(Unverified, match="not sha256"):
        sealed_copy(model, file_digest(b"other"))
    assert open_descriptors() == before


@pytest.mark.parametrize("what", ["missing", "folder", "link", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(what: str, tmp_path: Path, model: Path) -> None:
    path = tmp_path / "a"
    if what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(model)
    elif what == "pipe":
        os.mkfifo(path)
    before, began = open_descriptors(), time.monotonic()
    with pytest.raises(InvalidInput):
        sealed_copy(path)
    assert time.monotonic() - began < 2
    assert open_descriptors() == before


@pytest.mark.parametrize("what", ["grows", "shrinks"])
def test_a_file_that_changes_its_size_while_it_is_read_is_refused(what: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "CHUNK_BYTES", 4096)
    read = os.read

    def read_and_change(descriptor: int, count: int) -> bytes:
        data = read(descriptor, count)
        if what == "grows":
            with model.open("ab") as more:
                more.write(b"y" * 4096)
        else:
            os.truncate(model, 8192)
        return data

    monkeypatch.setattr(sealed.os, "read", read_and_change)
    with pytest.raises(InvalidInput, match="changed while it was read"):
        sealed_copy(model)


def test_a_swap_during_the_copy_never_gives_bytes_that_were_not_hashed(model: Path) -> None:
    """Somebody rewrites the file in place all the time: the digest is of the copy, whatever mixture it is."""
    stop = threading.Event()

    def attack() -> None:
        with model.open("r+b") as file:
            while not stop.is_set():
                for byte in (b"\xff", b"\0"):
                    file.seek(0)
                    file.write(byte * len(CONTENT))
                    file.flush()

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        for _ in range(10):
            descriptor, digest = sealed_copy(model)
            assert file_digest(content(descriptor)).value == digest.value
            os.close(descriptor)
            try:
                descriptor, _ = sealed_copy(model, file_digest(CONTENT))
            except Unverified:
                continue
            assert content(descriptor) == CONTENT
            os.close(descriptor)
    finally:
        stop.set()
        attacker.join()


def test_an_empty_file_has_an_empty_copy(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    descriptor, digest = sealed_copy(tmp_path / "a")
    os.close(descriptor)
    assert digest == file_digest(b"")
