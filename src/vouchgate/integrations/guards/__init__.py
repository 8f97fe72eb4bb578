"""The libraries that are guarded: the module that holds a way in, and what wraps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.integrations.guards import joblib, keras, mlflow, onnxruntime, pickles, safetensors, tensorflow, torch, transformers

GUARDS: dict[str, Callable[[Any, Any], None]] = {
    **joblib.MODULES,
    **keras.MODULES,
    **mlflow.MODULES,
    **onnxruntime.MODULES,
    **pickles.MODULES,
    **safetensors.MODULES,
    **tensorflow.MODULES,
    **torch.MODULES,
    **transformers.MODULES,
}
"""Module -> `wrap(module, guard)`."""
