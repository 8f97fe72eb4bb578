"""The manifest that an import vouches for: of tensor files alone, of exactly the kept bytes, and the same that a user writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vouchgate import wiring
from vouchgate.evidence.merkle import manifest_digest
from vouchgate.flows.measure import measure
from vouchgate.flows.parted import manifest_name
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import NotFound, StoreDamaged


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
    assert manifest_name(store, digest, "safetensors") == manifest_digest(measure(place)).text
    place.close()


@pytest.mark.parametrize("format", ["pickle", "onnx", ""])
def test_other_formats_are_not_parted(store: ArtifactStore, format: str) -> None:
    assert manifest_name(store, kept(store, tensors())[1], format) == ""


def test_what_has_no_tensors_is_not_parted(store: ArtifactStore) -> None:
    assert manifest_name(store, kept(store, b"\x02\0\0\0\0\0\0\0{}")[1], "safetensors") == ""
    assert manifest_name(store, kept(store, b"no header")[1], "safetensors") == ""


def test_kept_bytes_that_changed_are_vouched_for_by_nobody(store: ArtifactStore) -> None:
    path, digest = kept(store, tensors())
    path.chmod(0o644)
    path.write_bytes(tensors()[:-1] + b"!")
    with pytest.raises(StoreDamaged):
        manifest_name(store, digest, "safetensors")
    path.unlink()
    with pytest.raises(NotFound):
        manifest_name(store, digest, "safetensors")


def test_folders_are_not_parted(store: ArtifactStore) -> None:
    assert manifest_name(store, Digest(value="0" * 64, kind="tree"), "safetensors") == ""
