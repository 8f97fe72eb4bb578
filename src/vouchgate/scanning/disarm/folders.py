"""Rebuild a folder that is one artifact: today TensorFlow's SavedModels and checkpoints, of which the variables are what can be carried over.

Rules
1. Names decide which files are opened: an index and its shards. Every other file is told and left: a graph is a program, assets and words are its input.
2. Files lie one behind the other in one space of offsets, in the order in which they were handed over, so that a span is a number and a length.
3. The bounds are those of a file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate

from vouchgate.scanning.disarm.bundles import from_bundle
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.rebuild import Rebuilt, bound
from vouchgate.scanning.disarm.tensors import Storage
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.scanning.tensor_bundle import stems
from vouchgate.scanning.verdict import Refuse

METADATA = {"format": "tf", "made_by": "vouchgate disarm"}
"""`format` is what transformers asks of a safetensors file."""
GRAPH = "saved_model.pb"
MAX_WANTED = 256
"""Files of one folder that are opened together: a process has 1,024 descriptors, and a checkpoint rarely more than 64 shards."""
_WHY = "a graph is a program, and so is what describes objects; only variables are carried over"


def wanted(names: Collection[str]) -> tuple[str, ...]:
    """Rule 1, in order. Raises `Refuse` for a folder that holds nothing of the kind, or more than can be opened."""
    found = stems(frozenset(names))
    chosen = sorted(name for name in names if _belongs(name, found))
    if not chosen:
        raise Refuse(
            "disarm:no-variables",
            "whole folder",
            "it holds no TensorFlow checkpoint or SavedModel with variables",
            "rebuild its files one by one",
        )
    if len(chosen) > MAX_WANTED:
        raise Refuse(
            "disarm:too-many-files", "whole folder", f"it has more than {MAX_WANTED} shards", "write it in fewer shards where it was made"
        )
    return tuple(chosen)


def _belongs(name: str, found: frozenset[str]) -> bool:
    return any(name == f"{stem}.index" or name.startswith(f"{stem}.data-") for stem in found)


def rebuild_folder(
    names: Sequence[str], views: Sequence[memoryview], others: Collection[str], settings: ScanSettings = DEFAULTS
) -> Rebuilt:
    """The variables of every checkpoint in it. Raises `Refuse` where nothing can be had."""
    findings = Findings()
    begins = accumulate((len(view) for view in views), initial=0)
    files = {name: Storage(view, begin) for name, view, begin in zip(names, views, begins, strict=False)}
    found = sorted(stems(frozenset(files)))
    for stem in found:
        path = stem.replace("/", ".") if len(found) > 1 else ""
        findings.values = {**(findings.values or {}), **_below(path, from_bundle(stem, files, path, settings, findings))}
    for name in sorted(others):
        findings.drop("member", name, name, _WHY)
    bound(sum(map(len, views)), findings)
    if not findings.tensors:
        why = next((one.why for one in findings.dropped if one.kind == "fault"), "its checkpoint has no variables of numbers")
        raise Refuse(
            "disarm:nothing-recovered",
            "whole folder",
            f"no tensor could be recovered: {why}",
            "write the checkpoint again where it was made",
        )
    return Rebuilt(container="tf-savedmodel" if GRAPH in others else "tensor-bundle", findings=findings, metadata=METADATA)


def _below(path: str, values: dict[str, object]) -> dict[str, object]:
    return {path: values} if path else values
