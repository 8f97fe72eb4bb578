"""Train a small classifier on scikit-learn's handwritten digits and export it to ONNX.

    python examples/digits/train.py --out build/digits

writes `model.onnx` and `metrics.json`. The same inputs give the same bytes: seeds are fixed and one thread computes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import sklearn
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

SEED = 7
OPSET = {"": 18, "ai.onnx.ml": 3}
"""Old enough for every runtime in use, new enough for the exporter."""


def train(seed: int = SEED) -> tuple[bytes, dict[str, object]]:
    """The ONNX model, and how well it does on digits it has not seen."""
    data = load_digits()
    pixels = data.data.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(pixels, data.target, test_size=0.25, random_state=seed, stratify=data.target)
    model = make_pipeline(MinMaxScaler(), MLPClassifier(hidden_layer_sizes=(48,), max_iter=400, tol=1e-3, random_state=seed))
    with threadpool_limits(limits=1):
        model.fit(train_x, train_y)
        accuracy = float(model.score(test_x, test_y))
    exported = to_onnx(model, train_x[:1], options={"zipmap": False}, target_opset=OPSET, name="digits")
    imports = sorted(exported.opset_import, key=lambda item: item.domain)  # the exporter writes a set, in no fixed order
    del exported.opset_import[:]
    exported.opset_import.extend(imports)
    onnx.checker.check_model(exported)
    content = exported.SerializeToString(deterministic=True)
    return content, {
        "accuracy": round(accuracy, 4),
        "held_out": len(test_y),
        "trained_on": len(train_y),
        "seed": seed,
        "classes": 10,
        "scikit_learn": sklearn.__version__,
        "dataset_sha256": hashlib.sha256(pixels.tobytes() + data.target.tobytes()).hexdigest(),
        "model_sha256": hashlib.sha256(content).hexdigest(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="train the digits model and export it to ONNX")
    parser.add_argument("--out", type=Path, default=Path("build/digits"), help="folder for model.onnx and metrics.json")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    content, metrics = train(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "model.onnx").write_bytes(content)
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"accuracy {metrics['accuracy']} on {metrics['held_out']} held-out digits; wrote {options.out / 'model.onnx'}")


if __name__ == "__main__":
    main()
