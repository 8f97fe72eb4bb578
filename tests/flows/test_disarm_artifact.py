"""Disarm end to end, with the real process: held, written whole or not at all, and never over the artifact."""

from __future__ import annotations

import dataclasses
import json
import os
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
from vouchgate.ports import disarmer
from vouchgate.ports.outputs import Output
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.digests import file_digest
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

    def lying(artifact: int, output: int, again: int, sidecar: int, bits: int, key: bytes, written: Any) -> Any:
        files = disarmer.Files(artifact=artifact, output=output, output_again=again, sidecar=sidecar)
        return disarmer.rebuild(files, written=written, command=(sys.executable, "-I", "-S", "-c", program), timeout=20)

    with pytest.raises((Unavailable, InvalidInput)):
        disarm(dataclasses.replace(desk, rebuild=lying), artifact, tmp_path / "o")
    assert left(tmp_path) == {"in.npz"}


def test_a_process_that_sleeps_is_ended(artifact: Path, tmp_path: Path) -> None:
    output, beside = Output(tmp_path / "o"), Output(tmp_path / "s")
    held = os.open(artifact, os.O_RDONLY)
    try:
        files = disarmer.Files(artifact=held, output=output.descriptor, output_again=output.again, sidecar=beside.descriptor)
        with pytest.raises(Unavailable, match="in time"):
            disarmer.rebuild(files, command=(sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"), timeout=0.3)
    finally:
        os.close(held)
        output.discard()
        beside.discard()
    assert left(tmp_path) == {"in.npz"}
