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


def test_a_model_of_trees_becomes_a_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joblib, trees = pytest.importorskip("joblib"), pytest.importorskip("sklearn.tree")
    joblib.dump(trees.DecisionTreeClassifier().fit([[0.0], [1.0]], ["no", "yes"]), tmp_path / "in.joblib", compress=3)
    out = tmp_path / "out.onnx"
    assert main(["disarm", str(tmp_path / "in.joblib"), "-o", str(out), "--as", "onnx"]) == 0
    told = capsys.readouterr().out
    assert "a model of" in told and "onnx" in told
    session = pytest.importorskip("onnxruntime").InferenceSession(str(out))
    assert session.run(["label"], {"X": [[0.2], [0.8]]})[0].tolist() == ["no", "yes"]
    assert json.loads((tmp_path / "out.onnx.json").read_text())["values"]["estimators"] == ["sklearn.tree._classes.DecisionTreeClassifier"]


@pytest.mark.parametrize(
    ("more", "said"), [(["--as", "onnx"], "no estimator"), (["--as", "onnx", "--disrupt-steganography", "4"], "no estimator")]
)
def test_what_is_no_such_model_is_told_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    (tmp_path / "in").write_bytes(b"(lp0\nI1\na.")
    assert main(["disarm", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *more]) == 1
    assert said in capsys.readouterr().err and [one.name for one in tmp_path.iterdir()] == ["in"]


def test_the_low_bits_of_a_graph_are_not_said_to_be_disturbed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [2])],
        [onnx.helper.make_tensor_value_info("y", 1, [2])],
        [onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "in").write_bytes(model.SerializeToString())
    asked = ["disarm", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--disrupt-steganography", "4"]
    assert main(asked) == 1 and "--as safetensors" in capsys.readouterr().err
    assert main([*asked, "--as", "safetensors"]) == 0
    assert load_file(tmp_path / "out").keys() == {"w"}
