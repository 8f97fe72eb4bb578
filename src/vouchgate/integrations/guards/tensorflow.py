"""TensorFlow: `tf.saved_model.load`, and the loader of TensorFlow 1 below `tf.compat.v1.saved_model`. The folder is one artifact.

Variables are read by TensorFlow's own code from the view's links, which lead to verified descriptors; the view lives as long as what was loaded.
Checkpoints (`tf.train.Checkpoint`) and what a graph reads by itself (`tf.data`, lookup tables from elsewhere) are not looked at here.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

from vouchgate.integrations.guards.replacing import replace


def wrap(module: Any, guard: Any) -> None:
    """`tensorflow.python.saved_model.load`."""

    def make(original: Any) -> Any:
        def load_partial(export_dir: Any, *args: Any, **kwargs: Any) -> Any:
            if guard.inside(os.fspath(export_dir)):
                return original(export_dir, *args, **kwargs)
            view = guard.folder(os.fspath(export_dir), "tensorflow")
            try:
                found = original(str(view.folder), *args, **kwargs)
                view.check()
            except BaseException:
                view.close()
                raise
            _close_after(list(found.values()), view)
            return found

        return load_partial

    replace(module, "load_partial", make)


def wrap_first(module: Any, guard: Any) -> None:
    """`tensorflow.python.saved_model.loader_impl`."""

    def make(original: Any) -> Any:
        def __init__(self: Any, export_dir: Any, *args: Any, **kwargs: Any) -> None:
            if guard.inside(os.fspath(export_dir)):
                original(self, export_dir, *args, **kwargs)
                return
            view = guard.folder(os.fspath(export_dir), "tensorflow")
            try:
                original(self, str(view.folder), *args, **kwargs)
                view.check()
            except BaseException:
                view.close()
                raise
            weakref.finalize(self, view.close)

        return __init__

    replace(module.SavedModelLoader, "__init__", make)


def _close_after(loaded: list[Any], view: Any) -> None:
    """Close the view when the last of these is gone; at the interpreter's end where one of them cannot be watched."""
    left = {index for index, _ in enumerate(loaded)}

    def gone(index: int) -> None:
        left.discard(index)
        if not left:
            view.close()

    for index, one in enumerate(loaded):
        try:
            weakref.finalize(one, gone, index)
        except TypeError:
            left.add(-1)


MODULES = {"tensorflow.python.saved_model.load": wrap, "tensorflow.python.saved_model.loader_impl": wrap_first}
