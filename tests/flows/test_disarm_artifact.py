"""Disarm end to end, with the real process: held, written whole or not at all, and never over the artifact."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from vouchgate import wiring
from vouchgate.flows.disarm_artifact import Desk, disarm
from vouchgate.flows.disarm_source import NothingToRebuild
from vouchgate.ports import disarmer
from vouchgate.ports.outputs import Output
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.digests import file_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable


def scan_here(descriptor: int, name: str) -> ScanReport:
    """The scan without a process of its own: that process has its own tests."""
    raw = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return ScanReport(verdict=scan(raw, name), digest=file_digest(raw))


@pytest.fixture
def desk() -> Desk:
    made: Desk = dataclasses.replace(wiring.disarm_desk(), scan=scan_here)
    return made


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "in.npz"
    np.savez(path, w=np.arange(200_000, dtype=np.float32), t=np.asfortranarray(np.arange(6.0).reshape(2, 3)), name=np.array(["a"]))
    return path


def left(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def test_a_file_is_rebuilt_by_a_held_process(desk: Desk, artifact: Path, tmp_path: Path) -> None:
    answer = disarm(desk, artifact, tmp_path / "out.safetensors")
    found = load_file(answer.output)
    assert found["w"].tobytes() == np.arange(200_000, dtype=np.float32).tobytes() and found["t"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (answer.identical, answer.output_verdict, answer.report.tensors, answer.report.strided) == (True, "clean", 3, 1)
    assert answer.digest == file_digest(artifact.read_bytes()).text
    assert answer.output_digest == file_digest(Path(answer.output).read_bytes()).text
    assert "seccomp" in answer.report.confinement
    assert json.loads(Path(answer.sidecar).read_text())["tensors"]["t"] == {"strides": [1, 2]}
    assert left(tmp_path) == {"in.npz", "out.safetensors", "out.safetensors.json"}
    assert Path(answer.output).stat().st_mode & 0o111 == 0


def test_an_old_output_stays_until_there_is_a_new_one(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "in").write_bytes(b"nothing that can be taken apart")
    with pytest.raises(disarmer.NotRebuilt):
        disarm(desk, tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old" and left(tmp_path) == {"in", "out"}


@pytest.mark.parametrize("name", ["in.npz", "link", "hard"])
def test_the_artifact_is_never_its_own_output(desk: Desk, artifact: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(artifact)
    (tmp_path / "hard").hardlink_to(artifact)
    before = artifact.read_bytes()
    with pytest.raises(InvalidInput):
        disarm(desk, artifact, tmp_path / name)
    assert artifact.read_bytes() == before and zipfile.is_zipfile(artifact)


def test_what_cannot_be_read_or_written_is_told(desk: Desk, artifact: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, out, error in (
        (tmp_path / "absent", tmp_path / "o", NotFound),
        (tmp_path / "pipe", tmp_path / "o", InvalidInput),
        (artifact, tmp_path / "absent" / "o", InvalidInput),
        (artifact, tmp_path, InvalidInput),
    ):
        with pytest.raises(error):
            disarm(desk, path, out)
    with pytest.raises(InvalidInput):
        disarm(desk, artifact, tmp_path / "o", bits=27)
    assert left(tmp_path) == {"in.npz", "pipe"}


def test_what_does_not_pass_the_scan_is_not_placed(desk: Desk, artifact: Path, tmp_path: Path) -> None:
    def refusing(descriptor: int, name: str) -> ScanReport:
        raw = os.pread(descriptor, 100, 0)
        return ScanReport(verdict=scan(raw, name), digest=file_digest(raw))

    with pytest.raises(Unavailable, match="does not pass the scan"):
        disarm(dataclasses.replace(desk, scan=refusing), artifact, tmp_path / "o")
    assert left(tmp_path) == {"in.npz"}


def test_an_artifact_that_changes_meanwhile_is_not_rebuilt(desk: Desk, artifact: Path, tmp_path: Path) -> None:
    def changing(*given: Any) -> Any:
        report = desk.rebuild(*given)
        with artifact.open("ab") as file:
            file.write(b"x")
        return report

    with pytest.raises(Unavailable, match="changed"):
        disarm(dataclasses.replace(desk, rebuild=changing), artifact, tmp_path / "o")
    assert left(tmp_path) == {"in.npz"}


def test_disturbed_bits_are_measured_and_the_file_is_still_compared(desk: Desk, artifact: Path, tmp_path: Path) -> None:
    answer = disarm(desk, artifact, tmp_path / "o", bits=8)
    told = answer.report.disturbance
    assert told is not None and told.bits == 8 and 0 < told.largest_relative < 2**-14
    before, after = np.arange(200_000, dtype="<f4").view("<u4"), load_file(answer.output)["w"].view("<u4")
    assert not ((before ^ after) >> 8).any() and np.mean(before != after) > 0.9


HEAD = "import sys, struct\nsay = lambda kind, a, b=0, data=b'': (sys.stdout.buffer.write(struct.pack('<BQQ', kind, a, b) + data), sys.stdout.buffer.flush())\n"
LIES = {
    "copies what lies outside": "say(2, 2**40, 10)",
    "copies more than there is": "say(2, 0, 2**62)",
    "writes a message over the bound": "say(1, 2**40)",
    "says an unknown word": "say(9, 0)",
    "ends without a word": "pass",
    "crashes": "import os; os.abort()",
    "says it is held without a report": "d = b'{\"identical\":true}'; say(5, len(d), 0, d)",
    "reports nonsense": "say(4, 3, 0, b'{{{')",
    "compared nothing": (
        "say(1, 4, 0, b'data'); r = b'{\"container\":\"x\"}'; say(4, len(r), 0, r); sys.stdin.readline();"
        'd = b\'{"identical":true,"compared":3}\'; say(5, len(d), 0, d)'
    ),
    "found a difference": (
        'r = b\'{"container":"x"}\'; say(4, len(r), 0, r); sys.stdin.readline(); d = b\'{"identical":false}\'; say(5, len(d), 0, d)'
    ),
    "writes after its report": "r = b'{\"container\":\"x\"}'; say(4, len(r), 0, r); say(1, 1, 0, b'x')",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_process_that_lies_gets_nothing_placed(desk: Desk, artifact: Path, tmp_path: Path, lie: str) -> None:
    program = textwrap.dedent(HEAD + LIES[lie])

    def lying(
        artifact: Any, names: Any, others: Any, output: int, again: int, sidecar: int, target: str, bits: int, key: bytes, written: Any
    ) -> Any:
        files = disarmer.Files(artifact=artifact, output=output, output_again=again, sidecar=sidecar)
        return disarmer.rebuild(files, written=written, command=(sys.executable, "-I", "-S", "-c", program), timeout=20)

    with pytest.raises((Unavailable, InvalidInput)):
        disarm(dataclasses.replace(desk, rebuild=lying), artifact, tmp_path / "o")
    assert left(tmp_path) == {"in.npz"}


def test_a_process_that_sleeps_is_ended(artifact: Path, tmp_path: Path) -> None:
    output, beside = Output(tmp_path / "o"), Output(tmp_path / "s")
    held = os.open(artifact, os.O_RDONLY)
    try:
        files = disarmer.Files(artifact=(held,), output=output.descriptor, output_again=output.again, sidecar=beside.descriptor)
        with pytest.raises(Unavailable, match="in time"):
            disarmer.rebuild(files, command=(sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"), timeout=0.3)
    finally:
        os.close(held)
        output.discard()
        beside.discard()
    assert left(tmp_path) == {"in.npz"}


SAMPLE = Path(__file__).parents[1] / "scanning" / "samples" / "checkpoint"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "ckpt"))


def test_a_folder_is_rebuilt_from_all_its_shards(desk: Desk, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "checkpoint").write_text('model_checkpoint_path: "model"\n')
    answer = disarm(desk, checkpoint, tmp_path / "out.safetensors")
    assert (answer.identical, answer.output_verdict, answer.report.container, answer.report.tensors) == (True, "clean", "tensor-bundle", 21)
    raw = Path(answer.output).read_bytes()
    assert np.float64(range(6)).tobytes() in raw and np.float32(range(200)).tobytes() in raw
    named = ((path.name.encode(), file_digest(path.read_bytes())) for path in checkpoint.iterdir())
    assert answer.digest == tree_digest(named).text
    assert left(tmp_path) == {"ckpt", "out.safetensors", "out.safetensors.json"}


def test_a_folder_with_links_or_an_output_in_it_is_left_alone(desk: Desk, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="lies in"):
        disarm(desk, checkpoint, checkpoint / "out.safetensors")
    (tmp_path / "elsewhere").symlink_to(checkpoint)
    with pytest.raises(InvalidInput, match="lies in"):
        disarm(desk, checkpoint, tmp_path / "elsewhere" / "o")
    (tmp_path / "hard").hardlink_to(checkpoint / "model.index")
    with pytest.raises(InvalidInput, match="itself"):
        disarm(desk, checkpoint, tmp_path / "hard")
    (checkpoint / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="link"):
        disarm(desk, checkpoint, tmp_path / "o")
    assert left(tmp_path) == {"ckpt", "elsewhere", "hard"} and left(checkpoint) == {path.name for path in SAMPLE.iterdir()} | {"link"}


def test_a_folder_of_something_else_or_that_changes_is_not_rebuilt(desk: Desk, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.bin").write_bytes(b"x")
    with pytest.raises(NothingToRebuild):
        disarm(desk, tmp_path / "other", tmp_path / "o")

    def changing(*given: Any) -> Any:
        report = desk.rebuild(*given)
        with (checkpoint / "model.data-00001-of-00002").open("ab") as file:
            file.write(b"x")
        return report

    with pytest.raises(Unavailable, match="changed"):
        disarm(dataclasses.replace(desk, rebuild=changing), checkpoint, tmp_path / "o")
    assert left(tmp_path) == {"ckpt", "other"}


@pytest.mark.parametrize("span", [(0, 465), (464, 805), (463, 2), (1264, 801), (2068, 1), (2**63, 1)])
def test_a_span_over_the_end_of_a_file_is_not_copied(desk: Desk, checkpoint: Path, tmp_path: Path, span: tuple[int, int]) -> None:
    program = textwrap.dedent(HEAD + f"say(2, {span[0]}, {span[1]})")

    def lying(artifact: Any, names: Any, others: Any, output: int, again: int, sidecar: int, *_: Any) -> Any:
        files = disarmer.Files(artifact=artifact, output=output, output_again=again, sidecar=sidecar, names=names, others=others)
        return disarmer.rebuild(files, command=(sys.executable, "-I", "-S", "-c", program), timeout=20)

    with pytest.raises(Unavailable, match="does not lie in the artifact"):
        disarm(dataclasses.replace(desk, rebuild=lying), checkpoint, tmp_path / "o")
