"""The content store: opened once, copied privately, named by content, checked again."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.ports.artifacts import CHUNK_BYTES, ArtifactStore, Staged, open_artifact
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, StoreDamaged, Unavailable


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    folder = tmp_path / "artifacts"
    folder.mkdir(mode=0o700)
    return ArtifactStore(folder, max_bytes=8 * CHUNK_BYTES, reserve_bytes=0)


def source(tmp_path: Path, content: bytes) -> int:
    (tmp_path / "source").write_bytes(content)
    return open_artifact(tmp_path / "source")


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "artifacts").iterdir() if path.name != ".notes")


def test_what_is_kept_is_read_only_and_named_by_its_digest(store: ArtifactStore, tmp_path: Path) -> None:
    content = os.urandom(3 * CHUNK_BYTES + 7)
    staged = store.stage(source(tmp_path, content))
    assert staged.digest == file_digest(content)
    assert os.pread(staged.descriptor, len(content), 0) == content
    assert not store.has(staged.digest)
    path = store.keep(staged)
    assert path.name == hashlib.sha256(content).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert left(tmp_path) == [path.name]
    assert os.pread(store.open(file_digest(content)), len(content), 0) == content


def test_the_same_content_twice_is_kept_once(store: ArtifactStore, tmp_path: Path) -> None:
    for _ in range(2):
        staged = store.stage(source(tmp_path, b"same"))
        store.keep(staged)
        store.drop(staged)
    assert len(left(tmp_path)) == 1
    assert store.has(file_digest(b"same"))


def test_a_dropped_copy_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    staged = store.stage(source(tmp_path, b"x"))
    store.drop(staged)
    store.drop(staged)
    assert left(tmp_path) == []


def test_a_source_that_changes_after_staging_changes_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    staged = store.stage(source(tmp_path, b"good"))
    (tmp_path / "source").write_bytes(b"evil")
    assert os.pread(staged.descriptor, 4, 0) == b"good"
    store.keep(staged)
    assert os.pread(store.open(file_digest(b"good")), 4, 0) == b"good"


def test_the_position_of_the_descriptor_does_not_matter(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = source(tmp_path, b"whole")
    os.lseek(descriptor, 3, os.SEEK_SET)
    assert store.stage(descriptor).digest == file_digest(b"whole")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 3


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe", "device", "absent"])
def test_only_a_regular_file_is_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    (tmp_path / "real").write_bytes(b"x")
    if kind == "link":
        path.symlink_to(tmp_path / "real")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    with pytest.raises(InvalidInput) as raised:
        open_artifact(path)
    assert raised.value.remedy


def test_a_device_behind_a_descriptor_is_not_staged(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        store.stage(os.open("/dev/zero", os.O_RDONLY))
    assert left(tmp_path) == []


def test_bounds(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded):
        store.stage(source(tmp_path, bytes(8 * CHUNK_BYTES + 1)))
    full = ArtifactStore(tmp_path / "artifacts", reserve_bytes=2**62)
    with pytest.raises(Unavailable) as raised:
        full.stage(source(tmp_path, b"x"))
    assert "free some space" in raised.value.remedy
    assert left(tmp_path) == []


@pytest.mark.parametrize(("more", "kept"), [(7, True), (8, False)])
def test_a_source_that_grows_after_it_was_measured_is_bounded(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int, kept: bool
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(CHUNK_BYTES))

    def grow(measured: int) -> None:
        """Between the look at the size and the copy."""
        assert measured == CHUNK_BYTES
        with path.open("ab") as stream:
            stream.write(bytes(more * CHUNK_BYTES))

    monkeypatch.setattr(store, "_check_space", grow)
    if kept:
        staged = store.stage(open_artifact(path))
        assert staged.digest == file_digest(bytes(8 * CHUNK_BYTES))
        store.drop(staged)
    else:
        with pytest.raises(LimitExceeded):
            store.stage(open_artifact(path))
    assert left(tmp_path) == []


def test_a_damaged_file_is_never_handed_out(store: ArtifactStore, tmp_path: Path) -> None:
    path = store.keep(store.stage(source(tmp_path, b"good")))
    path.chmod(0o600)
    path.write_bytes(b"evil")
    with pytest.raises(StoreDamaged):
        store.open(file_digest(b"good"))
    with pytest.raises(NotFound):
        store.open(file_digest(b"absent"))


def test_a_link_in_the_store_is_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"good")
    (tmp_path / "artifacts" / file_digest(b"good").value).symlink_to(tmp_path / "outside")
    with pytest.raises(NotFound):
        store.open(file_digest(b"good"))


@pytest.mark.parametrize("value", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "\u0660" * 64])
def test_a_digest_that_is_none_names_no_file(store: ArtifactStore, value: str) -> None:
    with pytest.raises(InvalidInput):
        store.open(Digest(value=value))
    with pytest.raises(InvalidInput):
        store.has(Digest(value="0" * 64, kind="manifest"))


def test_what_an_interrupted_import_left_is_swept(store: ArtifactStore, tmp_path: Path) -> None:
    kept = store.keep(store.stage(source(tmp_path, b"kept")))
    left_over: Staged = store.stage(source(tmp_path, b"left"))
    left_over.close()
    assert store.sweep() == 1
    assert left(tmp_path) == [kept.name]


@given(content=st.binary(max_size=5000))
def test_staging_is_hashing(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("artifacts")
    store = ArtifactStore(folder, reserve_bytes=0)
    (folder / "in").write_bytes(content)
    descriptor = open_artifact(folder / "in")
    staged = store.stage(descriptor)
    os.close(descriptor)
    assert staged.digest == file_digest(content)
    store.drop(staged)
