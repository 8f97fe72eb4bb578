"""The gate in an MLflow server: `mlflow server --app-name vouchgate`. A version goes live only on evidence, and stays what it was.

What it holds is in mlflow_gate_store.py (marks), mlflow_gate_artifacts.py (content) and mlflow_gate_ledger.py (what workers tell each other).

Settings come from the environment, each with VOUCHGATE_MLFLOW_ in front; an unknown one ends the start.
    SOCKET    the control plane's api.sock
    STATE     a folder of the server's own user; it keeps what went live
    GUARD     what is guarded; by default every alias, and the stages staging and production
    TARGET    the zone for which versions are promoted, PURPOSE what for: policies see both
    SOURCES   places beside the artifact proxy where versions may lie, parted by white space
    MAX_GIB   bound of one version that is fetched from a store elsewhere (64)
    APP       the app to run behind the gate, for example basic-auth; by default MLflow's own
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vouchgate import wiring
from vouchgate.integrations.mlflow_gate_artifacts import Artifacts
from vouchgate.integrations.mlflow_gate_ledger import Ledger
from vouchgate.integrations.mlflow_gate_store import Asker, Registry, read_marks
from vouchgate.vocabulary.errors import InvalidSettings

KEYS = frozenset({"SOCKET", "STATE", "GUARD", "TARGET", "PURPOSE", "SOURCES", "MAX_GIB", "APP"})
GUARD = "alias:* stage:staging stage:production"
MAX_GIB = 64
NAME = "vouchgate"


def create_app(app: Any = None) -> Any:
    """The server's app behind the gate; MLflow calls it in each worker. Raises `InvalidSettings`."""
    settings = wiring.mlflow_environment()
    _install(settings)
    from mlflow import server
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    if settings.get("APP"):
        return _other(server, settings["APP"])
    flask = app if app is not None else server.app
    if _MLFLOW_SGI_NAME.get() != "uvicorn":
        return flask
    from mlflow.server.fastapi_app import create_fastapi_app

    return create_fastapi_app(flask)


def _install(settings: Mapping[str, str]) -> None:
    """Before an app is made, so that none of its stores was opened unguarded."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
    from mlflow.server import ARTIFACTS_ONLY_ENV_VAR, handlers
    from mlflow.store.artifact import artifact_repository_registry as stores

    _check(settings)
    if wiring.environment_says(ARTIFACTS_ONLY_ENV_VAR) or MLFLOW_ENABLE_WORKSPACES.get():
        raise InvalidSettings(
            "the gate guards neither workspaces nor a server of artifacts alone",
            remedy="run one server with its registry, without workspaces",
        )
    ledger = Ledger(Path(settings["STATE"]))
    artifacts = Artifacts(ledger, tuple(settings.get("SOURCES", "").split()), _gib(settings) * 1024**3)
    asker = Asker(Path(settings["SOCKET"]), target=settings.get("TARGET", ""), purpose=settings.get("PURPOSE", ""))
    marks = read_marks(settings.get("GUARD", GUARD))
    if handlers._artifact_repo is not None:
        raise InvalidSettings(
            "an artifact store was opened before the gate", remedy="start the server with `mlflow server --app-name vouchgate`"
        )
    artifacts.guard_stores(stores._artifact_repository_registry)
    Registry(marks, artifacts, ledger, asker).guard(type(handlers._get_model_registry_store()))


def _check(settings: Mapping[str, str]) -> None:
    unknown = sorted(settings.keys() - KEYS)
    if unknown:
        raise InvalidSettings(f"`VOUCHGATE_MLFLOW_{unknown[0]}` is not known", remedy=f"known are {', '.join(sorted(KEYS))}")
    for name in ("SOCKET", "STATE"):
        if not Path(settings.get(name, "")).is_absolute():
            raise InvalidSettings(
                f"VOUCHGATE_MLFLOW_{name} is no absolute path", remedy=f"name the {'socket' if name == 'SOCKET' else 'folder'}"
            )


def _gib(settings: Mapping[str, str]) -> int:
    text = settings.get("MAX_GIB", str(MAX_GIB))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 7 and int(text)):
        raise InvalidSettings(f"`{text[:40]}` is no number of GiB", remedy="give VOUCHGATE_MLFLOW_MAX_GIB a whole number above 0")
    return int(text)


def _other(server: Any, name: str) -> Any:
    """An app of somebody else, made by its own factory behind the guarded stores."""
    if name == NAME:
        raise InvalidSettings("the gate cannot stand behind itself", remedy="name another app in VOUCHGATE_MLFLOW_APP, or none")
    module, _, thing = server._find_app(name).rpartition(":")
    found = getattr(importlib.import_module(module), thing)
    return found() if server._is_factory(f"{module}:{thing}") else found
