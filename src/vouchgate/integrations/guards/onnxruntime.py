"""onnxruntime: `InferenceSession`, from a path or bytes.

A file stands alone in its view. A model that names tensors in files beside it is taken with its folder, which is asked about as one artifact: the files
are mapped from their verified descriptors and handed over by name, since onnxruntime follows no link out of the model's folder. A model in memory has no
files beside it. Which of the two is asked is read from the file as it lies there: a change meanwhile changes the question, not the answer.
What was handed over lives as long as the session: changing its providers reads the model again.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

from vouchgate.integrations.guards.replacing import is_path, replace
from vouchgate.vocabulary.errors import InvalidInput, Unsupported

LOCATION = b"\x0a\x08location"
"""`StringStringEntryProto` whose key says where a tensor lies (onnx.proto, `TensorProto.external_data`)."""
MAX_MODEL_BYTES = 2**31
"""Of the file that names the others: what one protobuf message may have."""


def wrap(module: Any, guard: Any) -> None:
    """`onnxruntime.capi.onnxruntime_inference_collection`."""

    def make(original: Any) -> Any:
        def __init__(self: Any, path_or_bytes: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
            held: list[Any] = []
            if not is_path(path_or_bytes) or isinstance(path_or_bytes, bytes):
                # bytes have no place of their own: files that they name would be looked for in the working directory
                view = guard.content_named(path_or_bytes, "model.onnx", "onnxruntime")
            elif _names_files(Path(path_or_bytes)):
                view, name = guard.beside(path_or_bytes, "onnxruntime")
            else:
                view = guard.named(path_or_bytes, "onnxruntime")
            try:
                model: Any = view.only if len(view.names) == 1 else _content(view, name)
                if len(view.names) > 1:
                    sess_options = module.C.SessionOptions() if sess_options is None else sess_options
                    held = _hand_over(sess_options, view, name)
                original(self, model, sess_options, *args, **kwargs)
                view.check()
            except BaseException:
                view.close()
                raise
            weakref.finalize(self, _release, view, held)

        return __init__

    replace(module.InferenceSession, "__init__", make)


def _names_files(path: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(LOCATION) >= 0
    except (OSError, ValueError):
        return False  # an empty file, or none: opening it says so


def _content(view: Any, name: str) -> bytes:
    with view.reader(name) as file:
        content: bytes = file.read(MAX_MODEL_BYTES + 1)
    if len(content) > MAX_MODEL_BYTES:
        raise InvalidInput(f"`{name}` has over {MAX_MODEL_BYTES} bytes beside its tensors in other files", remedy="export the model again")
    return content


def _hand_over(options: Any, view: Any, model: str) -> list[Any]:
    """Every other file by its name below the folder. Raises `Unsupported`, `InvalidInput`."""
    if not hasattr(options, "add_external_initializers_from_files_in_memory"):
        raise Unsupported(
            "this onnxruntime takes no tensors of other files from memory", remedy="install 1.23 or newer, or save the model in one file"
        )
    names, maps = [], []
    for name in view.names:
        with view.reader(name) as file:
            size = os.fstat(file.fileno()).st_size
            if name != model and size:
                names.append(name)
                maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        options.add_external_initializers_from_files_in_memory(names, maps, [len(one) for one in maps])
    except Exception as error:  # its own class of each kind of fault
        raise InvalidInput(
            f"the model's files cannot be handed to these session options: {str(error)[-200:]}",
            remedy="make SessionOptions for each session anew",
        ) from None
    return maps


def _release(view: Any, held: list[Any]) -> None:
    held.clear()
    view.close()


MODULES = {"onnxruntime.capi.onnxruntime_inference_collection": wrap}
