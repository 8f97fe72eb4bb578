"""PyTorch's zip files: a pickle that refers to storages beside it.

Rules
1. The archive's structure, plain members and storages: torch_archives.py.
2. `data.pkl` is one pickle, judged by the machine; its persistent ids are storages of torch's own and nothing else.
3. A file with code (`constants.pkl`, `code/`) is TorchScript and not read here.
"""

from __future__ import annotations

from vouchgate.scanning.pickle_records import facts, most, trailing
from vouchgate.scanning.pickles.machine import run
from vouchgate.scanning.pickles.torch_storages import TORCH_ZIP
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.torch_archives import CONSTANTS, PICKLE, Archive, folder_of
from vouchgate.scanning.torch_legacy import referred
from vouchgate.scanning.verdict import Reading

NAME = "torch-zip"


def recognise(sight: Sight) -> Claim:
    """A zip with `data.pkl` in its one folder, and no code."""
    folder = folder_of(sight.zip_names)
    if folder is None or f"{folder}{CONSTANTS}" in sight.zip_names:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because=f"a zip archive with {PICKLE} inside", above=("zip",))


def read(sight: Sight, scope: Scope) -> Reading:
    """Structure, pickle, storages."""
    archive = Archive(sight.view, scope, NAME)
    pickled = archive.take(PICKLE)
    if pickled is None:
        archive.refuse("no-pickle", PICKLE, "it does not lie in the archive's own folder")
    ran = run(pickled, scope, dialect=TORCH_ZIP)
    reasons = list(ran.reasons)
    if 0 <= ran.end < len(pickled):
        reasons.append(trailing(pickled, ran.end))
    if reasons:
        return Reading(reasons=most(reasons), facts=facts(ran))
    storages = referred(ran)
    archive.storages(storages, "data/")
    archive.done()
    return Reading(covered=archive.zip.covered, facts={**facts(ran), "storages": len(storages)})
