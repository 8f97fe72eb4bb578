"""Keras 3: `load_model` and `load_weights`. They go by suffixes, so the file stands in a view under its own name, and alone."""

from __future__ import annotations

from typing import Any

from vouchgate.integrations.guards.replacing import is_path, replace


def wrap(module: Any, guard: Any) -> None:
    """`keras.src.saving.saving_api`."""

    def make_model(original: Any) -> Any:
        def load_model(filepath: Any, *args: Any, **kwargs: Any) -> Any:
            with guard.named(_path(filepath), "keras") as view:
                made = original(view.only, *args, **kwargs)
                view.check()
                return made

        return load_model

    def make_weights(original: Any) -> Any:
        def load_weights(model: Any, filepath: Any, *args: Any, **kwargs: Any) -> Any:
            with guard.named(_path(filepath), "keras") as view:
                original(model, view.only, *args, **kwargs)
                view.check()

        return load_weights

    replace(module, "load_model", make_model)
    replace(module, "load_weights", make_weights)


def _path(filepath: Any) -> Any:
    if not is_path(filepath):
        raise TypeError("the load guard needs the path of a file")
    return filepath


MODULES = {"keras.src.saving.saving_api": wrap}
