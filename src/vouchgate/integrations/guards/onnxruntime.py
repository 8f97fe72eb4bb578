"""onnxruntime: `InferenceSession`, from a path or bytes.

A file stands alone in its view, so a model that names tensors in files beside it does not get them; a folder that was admitted whole has them.
The view lives as long as the session: changing its providers reads the model again.
"""

from __future__ import annotations

import weakref
from typing import Any

from vouchgate.integrations.guards.replacing import is_path, replace


def wrap(module: Any, guard: Any) -> None:
    """`onnxruntime.capi.onnxruntime_inference_collection`."""

    def make(original: Any) -> Any:
        def __init__(self: Any, path_or_bytes: Any, *args: Any, **kwargs: Any) -> None:
            # bytes have no place of their own: files that they name would be looked for in the working directory
            view = guard.named(path_or_bytes, "onnxruntime") if is_path(path_or_bytes) and not isinstance(path_or_bytes, bytes) else None
            view = view or guard.content_named(path_or_bytes, "model.onnx", "onnxruntime")
            try:
                original(self, view.only, *args, **kwargs)
            except BaseException:
                view.close()
                raise
            weakref.finalize(self, view.close)

        return __init__

    replace(module.InferenceSession, "__init__", make)


MODULES = {"onnxruntime.capi.onnxruntime_inference_collection": wrap}
