"""numpy's .npz files: a zip of .npy files, each read as one.

Rules (numpy `lib/_npyio_impl.py`, `NpzFile`)
1. The archive is one that every reader reads alike (zips.py), flat or with plain folders.
2. Every member is a .npy file by its content; `numpy.load` would hand out anything else as it is.
"""

from __future__ import annotations

from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading
from vouchgate.scanning.zips import open_zip

NAME = "numpy-archive"
SUFFIX = ".npy"


def recognise(sight: Sight) -> Claim:
    """A zip in which everything is called an array."""
    names = sight.zip_names
    if not names or not all(name.endswith(SUFFIX) for name in names):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a zip archive of numpy arrays", above=("zip",))


def read(sight: Sight, scope: Scope) -> Reading:
    """Structure, then each array."""
    archive = open_zip(sight.view, scope, NAME)
    for entry in archive.files:
        scope.inner(entry.name, archive.content(entry, scope), only=("numpy",))
    return Reading(covered=archive.covered, facts={"arrays": len(archive.files)})
