"""Keras in HDF5: whole models (`.h5`, with their configuration) and weights (`.weights.h5`, also inside `.keras`).

Rules
1. The file is read by exact structure (hdf5.py): nothing outside the file, no plug-in filters, nothing shared or linked.
2. Every text attribute that is JSON is held to keras_config.py, wherever it hangs; a model's configuration must be JSON.
3. Datasets are numbers or texts; anything else is no weight.
4. Free space is where the library left it. A long stretch of it that is not zero belongs to nothing that is loaded: a person must look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vouchgate.scanning import hdf5_messages, keras_config
from vouchgate.scanning.hdf5 import Hdf5, open_hdf5
from vouchgate.scanning.hdf5_bytes import SIGNATURE
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import strict_text
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "keras-h5"
MAX_STRAY = 4_096
"""Bytes in one stretch of free space that are not zero; freed index nodes have up to 2,048."""
_MARKS = (b"keras_version", b"model_config", b"layer_names", b"weight_names", b"_layer_checkpoint_dependencies")
_CONFIGURATIONS = frozenset(("model_config", "training_config", "optimizer_config"))
_PLAIN = frozenset((hdf5_messages.FIXED, hdf5_messages.FLOAT, hdf5_messages.ENUM, hdf5_messages.STRING, hdf5_messages.VARIABLE))
REMEDY = "save the model again with a current Keras from weights you trust"


def recognise(sight: Sight) -> Claim:
    """HDF5 whose first bytes hold a name that only Keras writes, or the groups of its weights files."""
    head = sight.head
    if not head.startswith(SIGNATURE):
        return NOT_MINE
    if any(mark in head for mark in _MARKS) or (b"vars" in head and (b"layers" in head or b"optimizer" in head)) or b"\0vars\0" in head:
        return Claim(strength="certain", kind=NAME, because="HDF5 with the names that Keras writes", above=("hdf5",))
    return NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 1 to 4."""
    del scope
    file = open_hdf5(sight.view, NAME)
    for dataset in file.datasets:
        if dataset.datatype.kind not in _PLAIN:
            raise Refuse(f"{NAME}:datatype", f"dataset `{shown(dataset.path)}`", "its elements are neither numbers nor texts", REMEDY)
    reasons = (*_configurations(file), *_stray(file))
    facts = {
        "datasets": len(file.datasets),
        "groups": len(file.groups),
        "bytes": sum(one.size for one in file.datasets),
        "free": file.free.total,
    }
    return Reading(covered=len(sight), reasons=reasons, facts=facts)


def _configurations(file: Hdf5) -> Iterator[Reason]:
    """Rule 2."""
    for path, attributes in file.attributes.items():
        for name, value in attributes.items():
            where = f"attribute `{shown(name)}` of `{shown(path)}`"
            texts: list[Any] = value if isinstance(value, list) else [value]
            for text in texts:
                if isinstance(text, str) and (name in _CONFIGURATIONS or text.lstrip()[:1] in ("{", "[")):
                    yield from _at(keras_config.check(strict_text(text, NAME, where), NAME), where)
                elif name in _CONFIGURATIONS:
                    raise Refuse(f"{NAME}:configuration", where, "the model's configuration is no text", REMEDY)


def _at(reasons: tuple[Reason, ...], where: str) -> Iterator[Reason]:
    for one in reasons:
        yield Reason(rule=one.rule, where=f"{where}, {one.where}", why=one.why, remedy=one.remedy, weight=one.weight)


def _stray(file: Hdf5) -> Iterator[Reason]:
    """Rule 4."""
    if file.free.largest > MAX_STRAY:
        yield Reason(
            rule=f"{NAME}:stray-bytes",
            where=at(file.free.begins),
            why=f"{file.free.largest} bytes there belong to nothing that is loaded, and are not empty",
            remedy="write the file again (`h5repack`, or load and save the model), which leaves free space out",
            weight="review",
        )
