"""What the supervisor scans for the control plane: only the store's own, with allowances that count for the one content; the real scanner process."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from vouchgate.edges.processes.local_folder import folder
from vouchgate.edges.processes.stored_scans import StoredScans
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.layout import Layout, Users

PICKLE = b"\x80\x02cacme.features\nScaler\n)\x81}X\x01\x00\x00\x00aK\x02sb."
SCALER = Entry(module="acme.features", name="Scaler", uses=("constructible",), library="allowed", reviewer="r", why="w")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredScans]:
    layout = Layout(tmp_path_factory.mktemp("data"))
    layout.artifacts.mkdir(parents=True)
    made = StoredScans(layout, Users(base=None, own=os.getuid()))
    yield made
    made._scanner.close()


def kept(scans: StoredScans, tmp_path: Path) -> Digest:
    """A folder that is one model, with a class of somebody's own in it."""
    made = tmp_path / "bert"
    made.mkdir()
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (made / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    (made / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (made / "preprocess.pkl").write_bytes(PICKLE)
    with folder(str(made)) as stream:
        (tmp_path / "stream").write_bytes(b"".join(iter(lambda: stream.read(1 << 20), b"")))
    store = ArtifactStore(scans._layout.artifacts, reserve_bytes=0)
    source = os.open(tmp_path / "stream", os.O_RDONLY)
    with contextlib.closing(os.fdopen(source, "rb")):
        staged = store.stage_tree(source)
        store.keep(staged)
    return staged.digest


def test_an_allowance_counts_for_the_folder_and_not_for_a_file_of_it(scans: StoredScans, tmp_path: Path) -> None:
    digest = kept(scans, tmp_path)
    name = f"tree-{digest.value}"
    allowed = {
        "whole": {digest.text: (SCALER,)},
        "its file": {file_digest(PICKLE).text: (SCALER,)},
        "as a file": {f"sha256:{digest.value}": (SCALER,)},
    }
    assert scans.scan(name, "bert", {}).verdict.outcome == "refused"
    reports = {how: scans.scan(name, "bert", these) for how, these in allowed.items()}
    assert {how: report.verdict.outcome for how, report in reports.items()} == {
        "whole": "clean",
        "its file": "refused",
        "as a file": "refused",
    }
    assert {report.digest.text for report in reports.values()} == {digest.text}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../control.sock", "/etc/passwd", "a" * 64 + "/x", "A" * 64, f".staging-{'0' * 32}\n", ".notes", "tree-"]
)
def test_what_has_no_name_of_the_store_is_not_opened(scans: StoredScans, name: str) -> None:
    with pytest.raises(NotPermitted, match="only artifacts of the store"):
        scans.scan(name, "x", {})


def test_a_link_with_a_name_of_the_store_is_not_followed(scans: StoredScans, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"{}")
    (scans._layout.artifacts / ("b" * 64)).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        scans.scan("b" * 64, "x", {})
