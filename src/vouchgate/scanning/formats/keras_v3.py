"""`.keras` archives: a configuration, its metadata and weights in a zip.

Rules (keras 3, `saving/saving_lib.py`)
1. The archive is one that every reader reads alike (zips.py), with these members and no others: configuration, metadata, weights, assets.
2. The configuration passes keras_config.py; metadata is a few plain texts.
3. Weights are HDF5 as Keras writes it. Assets are texts (vocabularies) or arrays, read as files of their own.
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning import keras_config
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import strict
from vouchgate.scanning.verdict import Reading, Reason, Refuse
from vouchgate.scanning.zips import open_zip

NAME = "keras-v3"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
REMEDY = "save the model again with `model.save` of a current Keras"
_METADATA = frozenset(("keras_version", "date_saved"))


def recognise(sight: Sight) -> Claim:
    """A zip with Keras's configuration beside its metadata or weights."""
    names = sight.zip_names
    if CONFIG in names and (METADATA in names or any(name.endswith(".weights.h5") for name in names)):
        return Claim(strength="certain", kind=NAME, because="a zip with a Keras configuration", above=("zip",))
    return NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 1 to 3."""
    archive = open_zip(sight.view, scope, NAME)
    reasons: tuple[Reason, ...] = ()
    for entry in archive.entries:
        if entry.is_folder:
            continue
        content = archive.content(entry, scope)
        if entry.name == CONFIG:
            reasons += keras_config.check(strict(Sight(content), NAME, CONFIG), NAME)
        elif entry.name == METADATA:
            _metadata(strict(Sight(content), NAME, METADATA))
        elif _is_weights(entry.name):
            scope.inner(entry.name, content, only=("keras-h5",))
        elif entry.name.startswith("assets/"):
            scope.inner(entry.name, content, only=("text", "json", "csv", "numpy", "numpy-archive", "yaml"))
        elif entry.name == "model.weights.json":
            scope.inner(entry.name, content, only=("json",))
        else:
            raise Refuse(f"{NAME}:member", f"member `{shown(entry.name)}`", "it is no part of a Keras model", REMEDY)
    return Reading(covered=archive.covered, reasons=reasons, facts={"members": len(archive.files)})


def _is_weights(name: str) -> bool:
    return name == WEIGHTS or ("/" not in name and name.startswith("model_") and name.endswith(".weights.h5"))


def _metadata(value: Any) -> None:
    if not isinstance(value, dict) or not value.keys() <= _METADATA or not all(isinstance(one, str) for one in value.values()):
        raise Refuse(f"{NAME}:metadata", METADATA, "it holds more than Keras's version and a date", REMEDY)
