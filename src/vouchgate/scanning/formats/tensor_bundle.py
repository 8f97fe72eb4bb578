"""TensorFlow checkpoints: the index as a file, and the folder with its shards (`checkpoint`, `*.index`, `*.data-00000-of-00001`).

Rules
1. An index is a table of tensors (tensor_bundle.py); by itself it names and explains nothing but itself.
2. In a folder every shard belongs to an index beside it, which explains all its bytes.
"""

from __future__ import annotations

import posixpath

from vouchgate.scanning import tensor_bundle
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder
from vouchgate.scanning.verdict import Reading

NAME = "tensor-bundle"
_OTHERS = frozenset({"saved_model.pb", "config.json", "model_index.json", "modules.json", "MLmodel", "MANIFEST.json", "model_config.yaml"})
"""Files that make a folder another artifact."""


def recognise(sight: Sight) -> Claim:
    """The table's footer, at the end."""
    if not tensor_bundle.is_table(sight.view):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a table of TensorFlow's at its end")


def read(sight: Sight, scope: Scope) -> Reading:
    """Rule 1."""
    found = tensor_bundle.open_bundle(sight.view, scope.settings, NAME)
    return Reading(covered=len(sight), facts={"tensors": len(found.tensors), "shards": found.shards})


def recognise_folder(names: frozenset[str]) -> Claim:
    """An index with a shard beside it, anywhere, and no file that makes the folder another artifact."""
    if tensor_bundle.stems(names) and not names & _OTHERS:
        return Claim(strength="certain", kind=NAME, because="a checkpoint's index with its shards")
    return NOT_MINE


def raw_files(names: frozenset[str]) -> frozenset[str]:
    """Shards whose index is there."""
    stems = tensor_bundle.stems(names)
    return frozenset(name for name in names if tensor_bundle.stem_of(name) in stems)


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """Rule 2."""
    tensors = 0
    stems = sorted(tensor_bundle.stems(folder.names))
    for stem in stems:
        tensors += tensor_bundle.check_folder(folder, stem, scope, NAME)["tensors"]
    size = sum(len(sight) for name in folder.names if (sight := folder.sight(name)) is not None)
    return Reading(covered=size, facts={"checkpoints": [posixpath.basename(stem) for stem in stems][:20], "tensors": tensors})
