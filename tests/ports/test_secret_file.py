"""Secrets in files: used only where nobody else could read or place them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vouchgate.ports.secret_file import MAX_BYTES, read_secret
from vouchgate.vocabulary.errors import NotPermitted, Unavailable, VouchgateError


def written(folder: Path, data: bytes = b"hush\n", mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_secret_comes_without_its_line_break(tmp_path: Path) -> None:
    assert read_secret(written(tmp_path)) == b"hush"
    assert read_secret(written(tmp_path, b"hush\r\n")) == b"hush"
    assert read_secret(written(tmp_path, b"a\n\n", 0o400)) == b"a\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o700])
def test_a_wider_file_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, mode=mode)
    with pytest.raises(NotPermitted) as told:
        read_secret(path)
    assert "hush" not in told.value.reason + told.value.remedy
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    os.chown(path, 65534, 65534)
    with pytest.raises(NotPermitted):
        read_secret(path)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(written(tmp_path))
    (tmp_path / "folder").mkdir(mode=0o600)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "folder", "pipe", "nothing"):
        with pytest.raises(VouchgateError) as told:
            read_secret(tmp_path / name)
        assert type(told.value) in {NotPermitted, Unavailable}


@pytest.mark.parametrize("data", [b"", b" \n", b"x" * (MAX_BYTES + 1)])
def test_an_empty_or_endless_secret_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unavailable):
        read_secret(written(tmp_path, data))
