"""A folder as it is sent for import: opened once, whole, without what leads out of it; taken in, and read by the real scanner as one artifact."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vouchgate import wiring
from vouchgate.edges.processes import local_folder
from vouchgate.edges.processes.local_folder import FolderStream, folder
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary.digests import file_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, VouchgateError

HEADER = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    for name, content in FILES.items():
        (tmp_path / "model" / name).write_bytes(content)
    return tmp_path / "model"


def whole(stream: FolderStream, count: int = 7) -> bytes:
    parts = []
    while part := stream.read(count):
        parts.append(part)
    return b"".join(parts)


def test_what_is_sent_is_taken_in_and_scanned_as_one(model: Path, tmp_path: Path) -> None:
    with folder(str(model)) as stream:
        sent = whole(stream)
    assert (len(sent), stream.count) == (stream.size, 2)
    (tmp_path / "sent").write_bytes(sent)
    (tmp_path / "store").mkdir()
    store = ArtifactStore(tmp_path / "store", reserve_bytes=0)
    staged = store.stage_tree(os.open(tmp_path / "sent", os.O_RDONLY))
    digest = tree_digest((name.encode(), file_digest(content)) for name, content in FILES.items())
    assert staged.digest == digest
    tree = wiring.stored_tree(store.keep(staged))
    with wiring.warm_scanner() as scanner:
        report = scanner.scan_folder(wiring.tree_files(tree), name="model")
        assert (report.verdict.outcome, report.verdict.format, report.digest) == ("clean", "hugging-face", digest)
        bad = tmp_path / "store" / f"tree-{digest.value}" / file_digest(FILES["config.json"]).value
        bad.chmod(0o600)
        bad.write_bytes(b'{"model_type": "evil"}')
        again = scanner.scan_folder(wiring.tree_files(tree), name="model")
        assert again.digest != digest
    tree.close()


@pytest.mark.parametrize("how", ["link out", "dangling", "pipe", "link to a folder"])
def test_what_is_no_file_of_the_folder_ends_it_before_a_byte_is_sent(how: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (model / "sub").mkdir()
    if how == "pipe":
        os.mkfifo(model / "it")
    else:
        targets = {"link out": tmp_path / "secret", "dangling": Path("nowhere"), "link to a folder": Path("sub")}
        (model / "it").symlink_to(targets[how])
    with pytest.raises(InvalidInput) as raised, folder(str(model)):
        pass
    assert raised.value.remedy


@pytest.mark.parametrize("how", ["grows", "shrinks", "becomes a link", "is gone"])
def test_a_file_that_changes_while_it_is_sent_breaks_it_off(how: str, model: Path, tmp_path: Path) -> None:
    file = model / "model.safetensors"
    with folder(str(model)) as stream:
        stream.read(5)
        if how == "grows":
            file.write_bytes(FILES["model.safetensors"] + b"x")
        elif how == "shrinks":
            file.write_bytes(b"x")
        else:
            file.unlink()
            if how == "becomes a link":
                (tmp_path / "secret").write_bytes(FILES["model.safetensors"])
                file.symlink_to(tmp_path / "secret")
        with pytest.raises((VouchgateError, OSError)):
            whole(stream)


def test_too_many_files_and_a_folder_of_anything_are_not_sent(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    with pytest.raises(InvalidInput, match="no single model"), folder(str(tmp_path / "notes")):
        pass
    monkeypatch.setattr(local_folder, "MAX_TREE_FILES", 1)
    with pytest.raises(LimitExceeded), folder(str(model)):
        pass
