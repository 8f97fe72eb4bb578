"""Training is real, deterministic, and makes a model that the scanner finds clean."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from example_servers import DIGITS
from sklearn.datasets import load_digits

from vouchgate.scanning.scan import scan


def test_the_model_reads_digits(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.93
    assert metrics["held_out"] == 450
    assert metrics["model_sha256"] == hashlib.sha256((trained / "model.onnx").read_bytes()).hexdigest()
    session = onnxruntime.InferenceSession((trained / "model.onnx").read_bytes())
    data = load_digits()
    labels = session.run(["label"], {"X": data.data.astype(np.float32)})[0]
    assert (labels == data.target).mean() >= metrics["accuracy"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained: Path, tmp_path: Path) -> None:
    for seed, same in (("7", True), ("8", False)):
        subprocess.run(
            [sys.executable, DIGITS / "train.py", "--out", tmp_path, "--seed", seed], check=True, capture_output=True, timeout=120
        )
        assert ((tmp_path / "model.onnx").read_bytes() == (trained / "model.onnx").read_bytes()) is same


def test_the_scanner_reads_it_to_the_last_byte(trained: Path) -> None:
    verdict = scan((trained / "model.onnx").read_bytes())
    assert verdict.outcome == "clean"
    assert verdict.facts["inputs"] == ["X"]
    assert set(verdict.facts["outputs"]) == {"label", "probabilities"}
