"""MLflow model folders: what `MLmodel` says is a claim, every file is scanned whether it is named there or not.

Rules (MLflow model format; mlflow/pyfunc, mlflow/models)
1. `MLmodel` is YAML as in yaml_events.py. Its flavors are known ones; `loader_module` is imported and must be MLflow's own; a `model_class` is
   imported too and must be the flavor's library's.
2. Every path is relative, stays within the folder and is there. `pickle_module_info.txt` names the module that unpickles: MLflow's own.
3. `code` puts files of the folder on the import path and models-from-code are run: code by design, for a person; what the code does is judged
   where it lies. A Python model of its own class is a pickle, and stands or falls with it.
4. `requirements.txt`, `conda.yaml`, `python_env.yaml`: packages by name and version from public channels. An option, address or path installs
   code from wherever the artifact says (GHSA-w582): refused.
"""

from __future__ import annotations

import posixpath
from typing import Any

from vouchgate.scanning.python_names import HIDDEN_MODULES
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder
from vouchgate.scanning.verdict import Reading, Reason, Refuse, Weight
from vouchgate.scanning.yaml_events import MAX_YAML, NoYaml, plain_values, read_events

NAME = "mlflow"
REMEDY = "log the model again with the library's own flavor (`mlflow.sklearn.log_model(..., serialization_format='skops')`, `mlflow.xgboost` ...)"
MANIFEST = "MLmodel"
_FLAVORS = {
    "python_function": (), "sklearn": ("sklearn.",), "xgboost": ("xgboost.",), "lightgbm": ("lightgbm.",), "catboost": ("catboost.",),
    "pytorch": ("torch.",), "tensorflow": ("tensorflow.", "keras."), "keras": ("keras.", "tensorflow."), "onnx": (), "statsmodels": ("statsmodels.",),
    "prophet": ("prophet.",), "transformers": ("transformers.",), "sentence_transformers": ("sentence_transformers.",), "pmdarima": ("pmdarima.",),
    "spacy": ("spacy.",), "paddle": ("paddle.",), "h2o": (), "mleap": (), "spark": ("pyspark.",),
}  # fmt: skip
"""Flavor -> packages from which it imports a class by name."""
_LOADERS = frozenset(f"mlflow.{flavor}" for flavor in _FLAVORS if flavor not in ("python_function", "mleap"))
_OWN_CLASS = frozenset(("mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model", "mlflow.pyfunc.loaders.chat_model"))
_PATHS = (
    "data",
    "model_path",
    "pickled_model",
    "python_model",
    "model_code_path",
    "saved_model_dir",
    "artifact_path",
    "model_binary",
    "pickled_estimator",
    "conda",
    "virtualenv",
    "path",
)
_CLASSES = (
    "model_class",
    "instance_type",
    "pipeline_model_type",
    "tokenizer_type",
    "processor_type",
    "feature_extractor_type",
    "model_type",
)
_PICKLERS = frozenset(("mlflow.pytorch.pickle_module", "pickle"))
_CHANNELS = frozenset(("conda-forge", "defaults", "pytorch", "nvidia", "anaconda", "nodefaults"))


def recognise(sight: Sight) -> Claim:
    """A YAML mapping with `flavors` and what MLflow writes beside it."""
    if b"flavors:" not in sight.head or b"mlflow_version:" not in bytes(sight.view[-8_192:]) + sight.head or sight.text is None:
        return NOT_MINE
    if not any(line.startswith("flavors:") for line in sight.text[:65_536].splitlines()):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="YAML with MLflow's flavors", above=("yaml", "text", "csv"))


def recognise_folder(names: frozenset[str]) -> Claim:
    """The manifest at its root."""
    if MANIFEST not in names:
        return NOT_MINE
    return Claim(
        strength="certain", kind=NAME, because="a folder with an MLmodel file", above=("hugging-face", "openvino", "tf-savedmodel")
    )


def read(sight: Sight, scope: Scope) -> Reading:
    """The manifest by itself."""
    del scope
    check = _Check(frozenset())
    check.manifest(_values(sight, MANIFEST))
    return Reading(covered=len(sight), reasons=tuple(check.reasons), facts={"flavors": check.flavors})


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """The manifest against the files, then what they would install."""
    del scope
    check = _Check(folder.names)
    manifest = folder.sight(MANIFEST)
    if manifest is None:
        raise Refuse(f"{NAME}:manifest", MANIFEST, "it is not there", REMEDY)
    values = _values(manifest, MANIFEST)
    check.manifest(values)
    if folder.kinds.get(MANIFEST) == NAME:
        check.reasons.clear()  # said already, where the manifest was read as a file
    check.paths(values)
    for name in sorted(folder.names):
        check.file(name, folder)
    size = sum(len(sight) for sight in map(folder.sight, folder.names) if sight)
    return Reading(covered=size, reasons=tuple(check.reasons[:20]), facts={"flavors": check.flavors, "files": len(folder.names)})


def _values(sight: Sight, name: str) -> dict[str, Any]:
    text = sight.text
    if text is None or len(text) > MAX_YAML:
        raise Refuse(f"{NAME}:manifest", name, "it is no UTF-8 text, or over the bound for YAML", REMEDY)
    try:
        document = read_events(text)
        if document.fault or document.acts:
            why = document.fault or document.acts[0][2]
            raise Refuse(f"{NAME}:yaml", name, f"it is no YAML of plain values: {why[:160]}", REMEDY)
        values = plain_values(text)
    except NoYaml as error:
        raise Refuse(
            f"{NAME}:no-reader",
            name,
            "reading YAML needs a library that is not installed",
            "run `pip install 'vouchgate[scan]'`",
            "incomplete",
        ) from error
    if not isinstance(values, dict):
        raise Refuse(f"{NAME}:manifest", name, "it is no mapping", REMEDY)
    return values


class _Check:
    """Collects over the manifest and the files."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.reasons: list[Reason] = []
        self.flavors: list[str] = []

    def _say(self, rule: str, where: str, why: str, weight: Weight = "refused") -> None:
        self.reasons.append(Reason(rule=f"{NAME}:{rule}", where=where, why=why, remedy=REMEDY, weight=weight))

    def manifest(self, values: dict[str, Any]) -> None:
        """Rules 1 and 3."""
        flavors = values.get("flavors")
        if not isinstance(flavors, dict) or not flavors:
            raise Refuse(f"{NAME}:flavors", MANIFEST, "it has no flavors", REMEDY)
        for name, flavor in flavors.items():
            where = f"flavor `{shown(name)}`"
            self.flavors.append(shown(name))
            if name not in _FLAVORS:
                self._say("flavor", where, "it is no flavor that was reviewed: what loads it, and what that runs, is not known", "review")
            if not isinstance(flavor, dict):
                self._say("flavor", where, "it is no mapping")
                continue
            self._flavor(name, flavor, where)

    def _flavor(self, name: str, flavor: dict[str, Any], where: str) -> None:
        loader = flavor.get("loader_module")
        if name == "python_function" and loader not in _LOADERS | _OWN_CLASS:
            self._say("loader", where, f"loading imports `{shown(str(loader))}`, which is not MLflow's own loader")
        if loader in _OWN_CLASS:
            self._say("own-class", where, "its model is a class of its own: loading runs that class's code", "review")
        if flavor.get("code"):
            self._say(
                "code", where, f"the folder `{shown(str(flavor['code']))}` is put on the import path: loading runs its code", "review"
            )
        for key in _CLASSES:
            value = flavor.get(key)
            if isinstance(value, str) and "." in value and not _of_library(value, _FLAVORS.get(name, ())):
                self._say("class", where, f"loading imports `{shown(value)}`, which is not of the flavor's own library")

    def paths(self, values: Any) -> None:
        """Rule 2, at any depth."""
        waiting: list[tuple[str, Any]] = [("", values)]
        while waiting:
            key, here = waiting.pop()
            if isinstance(here, dict):
                waiting.extend((str(name), value) for name, value in here.items())
            elif isinstance(here, list):
                waiting.extend((key, value) for value in here)
            elif isinstance(here, str) and key in _PATHS:
                self._path(key, here)

    def _path(self, key: str, path: str) -> None:
        parts = path.replace("\\", "/").split("/")
        if posixpath.isabs(path) or ".." in parts or ":" in path or path.startswith("~") or "\\" in path:
            self._say("path", MANIFEST, f"its `{key}` is `{shown(path)}`, which lies outside the folder")
            return
        inside = posixpath.normpath(path)
        if not any(name == inside or name.startswith(f"{inside}/") for name in self._names):
            self._say("path", MANIFEST, f"its `{key}` names `{shown(path)}`, which is not there")

    def file(self, name: str, folder: Folder) -> None:
        """Rules 2 and 4 for one file, at any depth."""
        base = posixpath.basename(name)
        sight = folder.sight(name)
        text = sight.text if sight else None
        if base == "pickle_module_info.txt" and (text or "").strip() not in _PICKLERS:
            self._say("pickler", name, f"loading imports `{shown((text or '').strip())}` to unpickle with")
        if base in ("requirements.txt", "constraints.txt"):
            self._requirements((text or "").splitlines(), name)
        if base in ("conda.yaml", "python_env.yaml") and sight is not None:
            self._environment(_values(sight, name), name)

    def _requirements(self, lines: list[str], name: str) -> None:
        for line in lines:
            what = line.partition("#")[0].strip() if not line.strip().startswith("#") else ""
            if what and not _named(what):
                self._say("requirement", name, f"`{shown(what)}` installs from where the artifact says")

    def _environment(self, values: dict[str, Any], name: str) -> None:
        for channel in values.get("channels") or []:
            if channel not in _CHANNELS:
                self._say("channel", name, f"packages come from the channel `{shown(str(channel))}`")
        for part in ("dependencies", "build_dependencies"):
            for item in values.get(part) or []:
                inner = item.get("pip") if isinstance(item, dict) else None
                for line in inner if isinstance(inner, list) else [item]:
                    if not isinstance(line, str) or not (_named(line) or line == "-r requirements.txt"):
                        self._say("requirement", name, f"`{shown(str(line))}` installs from where the artifact says")


def _of_library(name: str, packages: tuple[str, ...]) -> bool:
    parts = name.split(".")
    plain = all(part.isidentifier() and not part.startswith("__") and part.lstrip("_") not in HIDDEN_MODULES for part in parts)
    return plain and name.startswith(packages) and bool(packages)


def _named(requirement: str) -> bool:
    """A package by name, extras, versions and markers (PEP 508); no option, address or path."""
    text = requirement.partition(";")[0].strip()
    name = text.replace("[", " ").replace("=", " ").replace("<", " ").replace(">", " ").replace("!", " ").replace("~", " ").split()
    plain = bool(name) and name[0].replace("-", "a").replace("_", "a").replace(".", "a").isalnum() and name[0][0].isalnum()
    return plain and not any(mark in text for mark in ("@", "/", "\\", ":", "--"))
