"""`vouchgate disarm` as a person and a script see it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from vouchgate.edges.cli.main import main


def test_json_is_one_line_and_the_report_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "in.npy", np.arange(3.0))
    out, report = tmp_path / "out.safetensors", tmp_path / "report.json"
    assert main(["disarm", str(tmp_path / "in.npy"), "-o", str(out), "--json", "--report", str(report)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and json.loads(printed) == json.loads(report.read_text())
    assert (json.loads(printed)["identical"], json.loads(printed)["output_verdict"]) == (True, "clean")
    assert load_file(out)["array"].tolist() == [0, 1, 2]


def test_what_holds_nothing_is_told_with_a_remedy_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    assert main(["disarm", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "could be recovered" in told and "fix" in told
    assert [one.name for one in tmp_path.iterdir()] == ["in"]
