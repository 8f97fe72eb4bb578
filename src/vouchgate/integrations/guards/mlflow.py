"""MLflow: every flavour's `load_model`, by the one function that brings a model's folder to this machine. The folder is one artifact.

A folder with an `MLmodel` file is asked about as a whole and stands in a view from then on; what the flavour's own library opens there is known by its
bytes. A model may read its files later, so the view lives as long as the process; the same content loaded again is the same view. Anything else that
MLflow brings is handed on as it is: what a library loads of it is asked about file by file.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from vouchgate.integrations.guards.replacing import replace

MODEL = "MLmodel"


def wrap(module: Any, guard: Any) -> None:
    """`mlflow.tracking.artifact_utils`."""
    held: dict[str, Any] = {}
    lock = threading.Lock()

    def make(original: Any) -> Any:
        def _download_artifact_from_uri(artifact_uri: Any, *args: Any, **kwargs: Any) -> str:
            if guard.inside(artifact_uri):
                return str(artifact_uri)  # a file of a model that was admitted; MLflow follows no link out of a folder
            place = str(original(artifact_uri, *args, **kwargs))
            if not (Path(place) / MODEL).is_file():
                return place
            view = guard.folder(place, "mlflow")
            with lock:
                before = held.setdefault(view.digest.text, view)
            if before is not view:
                view.close()
                before.check()
            return str(before.folder)

        return _download_artifact_from_uri

    replace(module, "_download_artifact_from_uri", make)


MODULES = {"mlflow.tracking.artifact_utils": wrap}
