"""The manifest that an import vouches for: of tensor files alone, of exactly the kept bytes, and the same that a user writes."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from vouchgate import wiring
from vouchgate.evidence.merkle import manifest_digest
from vouchgate.flows.measure import measure
from vouchgate.flows.parted import manifest_name
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import NotFound, StoreDamaged
from vouchgate.vocabulary.tree_frames import END, MAGIC, head


def tensors() -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [6], "data_offsets": [0, 6]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"tensor"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    (tmp_path / "artifacts").mkdir(mode=0o700)
    return ArtifactStore(tmp_path / "artifacts", reserve_bytes=0)


def kept(store: ArtifactStore, data: bytes) -> tuple[Path, Digest]:
    source = os.memfd_create("source")
    os.write(source, data)
    staged = store.stage(source)
    os.close(source)
    return store.keep(staged), staged.digest


def test_it_is_the_manifest_that_a_user_writes(store: ArtifactStore, tmp_path: Path) -> None:
    _, digest = kept(store, tensors())
    (tmp_path / "mine.safetensors").write_bytes(tensors())
    place = wiring.local_place(str(tmp_path / "mine.safetensors"))
    assert manifest_name(store, digest, {"safetensors"}) == manifest_digest(measure(place)).text
    place.close()


@pytest.mark.parametrize("format", ["pickle", "onnx", ""])
def test_other_formats_are_not_parted(store: ArtifactStore, format: str) -> None:
    assert manifest_name(store, kept(store, tensors())[1], {format}) == ""


def test_what_has_no_tensors_is_not_parted(store: ArtifactStore) -> None:
    assert manifest_name(store, kept(store, b"\x02\0\0\0\0\0\0\0{}")[1], {"safetensors"}) == ""
    assert manifest_name(store, kept(store, b"no header")[1], {"safetensors"}) == ""


def test_kept_bytes_that_changed_are_vouched_for_by_nobody(store: ArtifactStore) -> None:
    path, digest = kept(store, tensors())
    path.chmod(0o644)
    path.write_bytes(tensors()[:-1] + b"!")
    with pytest.raises(StoreDamaged):
        manifest_name(store, digest, {"safetensors"})
    path.unlink()
    with pytest.raises(NotFound):
        manifest_name(store, digest, {"safetensors"})


def kept_folder(store: ArtifactStore, folder: Path) -> tuple[Path, Digest]:
    """As `vouchgate import FOLDER` sends it."""
    source = os.memfd_create("source")
    frames = [
        head(str(path.relative_to(folder)).encode(), path.stat().st_size) + path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    os.write(source, MAGIC + b"".join(frames) + END)
    os.lseek(source, 0, os.SEEK_SET)
    staged = store.stage_tree(source)
    os.close(source)
    return store.keep(staged), staged.digest


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "a-1.safetensors").write_bytes(tensors())
    (folder / "unet" / "b.safetensors").write_bytes(tensors())
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_of_shards_has_the_manifest_that_a_user_writes(store: ArtifactStore, shards: Path) -> None:
    _, digest = kept_folder(store, shards)
    with closing(wiring.local_place(str(shards))) as place:
        mine = measure(place)
    assert manifest_name(store, digest, {"hugging-face", "safetensors"}) == manifest_digest(mine).text
    assert [len(file.parts) for file in mine.files] == [2, 1, 2]


def test_a_folder_without_tensors_is_not_read_again(store: ArtifactStore) -> None:
    assert manifest_name(store, Digest(value="0" * 64, kind="tree"), {"onnx", "json"}) == ""


def test_a_kept_folder_whose_shard_changed_is_vouched_for_by_nobody(store: ArtifactStore, shards: Path) -> None:
    path, digest = kept_folder(store, shards)
    for one in path.rglob("*"):
        if one.is_file() and one.read_bytes() == tensors():
            one.chmod(0o644)
            one.write_bytes(tensors()[:-1] + b"!")
    with pytest.raises(StoreDamaged):
        manifest_name(store, digest, {"safetensors"})
