"""Names in a configuration that a library will import and call (hydra's `_target_`, OmegaConf's resolvers): which are harmless.

Rules
1. Default-deny: only the layers, optimisers, schedulers, metrics and transforms below, whose constructors take numbers and tensors.
2. No part of the name is private, and none is a module that a library merely imported (`torch.nn.os.system`).
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning.python_names import HIDDEN_MODULES

TARGET = "_target_"
_HARMLESS = (
    "torch.nn.", "torch.optim.", "torchmetrics.", "torchvision.transforms.", "lightning.pytorch.callbacks.", "pytorch_lightning.callbacks.",
    "lightning.pytorch.loggers.", "pytorch_lightning.loggers.", "sklearn.linear_model.", "sklearn.ensemble.", "sklearn.preprocessing.",
    "transformers.optimization.", "diffusers.schedulers.", "timm.optim.", "timm.scheduler.",
)  # fmt: skip
_MAX_PARTS = 8


def harmless_target(name: Any) -> bool:
    """Whether calling this name with the configuration's own values only computes: a class by its capital letter, in a listed package."""
    if not isinstance(name, str) or not name.isascii() or not name.startswith(_HARMLESS):
        return False
    parts = name.split(".")
    if len(parts) > _MAX_PARTS or not all(
        part.isidentifier() and not part.startswith("_") and part not in HIDDEN_MODULES for part in parts
    ):
        return False
    return parts[-1][:1].isupper()
