"""TorchServe model archives: a zip (or a tar, or a folder) with a manifest that names the weights, and the code that serves them.

Rules (TorchServe, "Torch Model archiver"; `model_archiver/manifest_components`)
1. The manifest is strict JSON of known fields; every file that it names is a member, by a plain name.
2. A handler that is not one of TorchServe's own is code that the server runs: a person must read it. So is a model file, and a list of requirements, which the
   server may install.
3. Every member is scanned as a file is; the manifest's word on what a member is counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from vouchgate.scanning.archived import members_of, scan_members
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder
from vouchgate.scanning.strict_json import strict
from vouchgate.scanning.tars import is_tar, listed, open_tar
from vouchgate.scanning.verdict import Reading, Reason, Refuse
from vouchgate.scanning.zips import Zip, open_zip

NAME = "torchserve-mar"
MANIFEST = "MAR-INF/MANIFEST.json"
LOOKED_AT = 256
"""Members of a tar listed to find the manifest."""
REMEDY = "write the archive again with `torch-model-archiver`"
_FIELDS = frozenset({
    "createdOn", "runtime", "model", "archiverVersion", "description", "publisher", "license", "specificationVersion", "implementationVersion",
    "modelServerVersion", "engine", "userData",
})  # fmt: skip
_MODEL_FIELDS = frozenset({
    "modelName", "serializedFile", "handler", "modelFile", "modelVersion", "extensions", "requirementsFile", "configFile", "description", "parametersFile",
})  # fmt: skip
_OWN_HANDLERS = frozenset({"image_classifier", "image_segmenter", "object_detector", "text_classifier"})
"""Code of TorchServe's own (`ts/torch_handler`)."""
_FILES = ("serializedFile", "modelFile", "requirementsFile", "configFile")


def recognise(sight: Sight) -> Claim:
    """By the manifest's name."""
    if MANIFEST in sight.zip_names:
        return Claim(strength="certain", kind=NAME, because=f"a zip archive with {MANIFEST}", above=("zip",))
    if is_tar(sight.view) and _manifest_in(name for name, _ in listed(sight.view, LOOKED_AT)):
        return Claim(strength="certain", kind=NAME, because=f"a tar archive with {MANIFEST}", above=("tar", "zip"))
    return NOT_MINE


def recognise_folder(names: frozenset[str]) -> Claim:
    """By the same name."""
    return Claim(strength="certain", kind=NAME, because=f"a folder with {MANIFEST}") if MANIFEST in names else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """The manifest, then every member."""
    archive = open_tar(sight.view, scope, NAME) if is_tar(sight.view) else open_zip(sight.view, scope, NAME)
    members = dict(members_of(archive, scope))
    manifest = MANIFEST if isinstance(archive, Zip) else _manifest_in(members)
    if manifest not in members:
        _refuse("manifest", "the archive does not list it as a file of its own")
    root = manifest.removesuffix(MANIFEST)
    reasons, facts = _manifest(Sight(members[manifest]()), frozenset(name.removeprefix(root) for name in members if name.startswith(root)))
    scan_members(members.items(), scope, own=(manifest,))
    if isinstance(archive, Zip) and archive.get("__main__.py") is not None:
        reasons += (_review("program", "__main__.py", "with it the archive is a program: `python FILE` runs it"),)
    return Reading(covered=archive.covered, reasons=reasons, facts=facts)


def _manifest_in(names: Iterable[str]) -> str:
    """The manifest's name: at the top of the archive or, as the archiver packs a tar, in its one folder."""
    return next((name for name in names if name == MANIFEST or (name.endswith(f"/{MANIFEST}") and name.count("/") == 2)), "")


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """The manifest; the files were read on their own."""
    del scope
    sight = folder.sight(MANIFEST)
    if sight is None:
        _refuse("manifest", "there is none")
    reasons, facts = _manifest(sight, folder.names)
    return Reading(covered=sum(len(one) for name in folder.names if (one := folder.sight(name))), reasons=reasons, facts=facts)


def _manifest(sight: Sight, names: frozenset[str]) -> tuple[tuple[Reason, ...], dict[str, Any]]:
    """Rules 1 and 2."""
    manifest = strict(sight, NAME, MANIFEST)
    if not isinstance(manifest, dict) or not manifest.keys() <= _FIELDS:
        _refuse("manifest", "it is no object of the fields that a manifest has")
    model = manifest.get("model")
    if not isinstance(model, dict) or not model.keys() <= _MODEL_FIELDS or not all(isinstance(value, str) for value in model.values()):
        _refuse("manifest", "its `model` is no object of the texts that a model has")
    for field in _FILES:
        if field in model and model[field] not in names:
            _refuse("missing-file", f"its `{field}` names `{shown(model[field])}`, which is no file of the archive")
    return tuple(_code(model, names)), {"handler": shown(model.get("handler", "")), "members": len(names)}


def _code(model: dict[str, str], names: frozenset[str]) -> list[Reason]:
    handler = model.get("handler", "")
    reasons = []
    if handler not in _OWN_HANDLERS:
        file = handler.partition(":")[0]
        if file not in names and f"{file}.py" not in names:
            _refuse("handler", f"its handler `{shown(handler)}` is neither TorchServe's own nor a file of the archive")
        reasons.append(_review("handler", handler, "the server runs it for every request"))
    if "modelFile" in model:
        reasons.append(_review("model-file", model["modelFile"], "the server runs it to build the model"))
    if "requirementsFile" in model:
        reasons.append(_review("requirements", model["requirementsFile"], "the server may install what it lists, which runs it"))
    return reasons


def _review(rule: str, name: str, why: str) -> Reason:
    return Reason(
        rule=f"{NAME}:{rule}",
        where=f"member `{shown(name)}`",
        why=why,
        remedy="read it and have a person accept it, or serve the weights by a handler of TorchServe's own",
        weight="review",
    )


def _refuse(rule: str, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", MANIFEST, why, REMEDY)
