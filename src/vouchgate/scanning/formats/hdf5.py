"""HDF5 that is no Keras file: recognised, so that it is named, and refused: what reads it decides what its contents mean."""

from __future__ import annotations

from vouchgate.scanning.hdf5_bytes import SIGNATURE
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Refuse

NAME = "hdf5"
REMEDY = "save the arrays as safetensors or npy, or the model with Keras, and import that"


def recognise(sight: Sight) -> Claim:
    """The signature at the first byte; a file with something in front is found by sniff.py."""
    if bytes(sight.view[: len(SIGNATURE)]) != SIGNATURE:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="an HDF5 superblock at offset 0", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Refused: no rules are known for what it may hold."""
    del sight, scope
    raise Refuse(
        "hdf5:unknown-content",
        "offset 0",
        "it is HDF5, but neither a Keras model nor Keras weights, so nobody can say who reads it how",
        REMEDY,
    )
