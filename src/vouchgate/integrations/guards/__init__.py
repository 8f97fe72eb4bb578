"""The libraries that are guarded: the module that holds a way in, and what wraps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.integrations.guards import joblib, keras, onnxruntime, pickles, safetensors, torch, transformers

GUARDS: dict[str, Callable[[Any, Any], None]] = {
    **joblib.MODULES,
    **keras.MODULES,
    **onnxruntime.MODULES,
    **pickles.MODULES,
    **safetensors.MODULES,
    **torch.MODULES,
    **transformers.MODULES,
}
"""Module -> `wrap(module, guard)`."""
