"""HDF5 files and Keras archives: their datasets as tensors, and nothing of the architecture.

Rules
1. Every dataset of plain numbers is a tensor, named by its path with dots; bytes that lie in one piece are copied as they lie.
2. Attributes are not carried over: to Keras, `model_config` is a program (layers by name, Lambda code). Weights are loaded into a model
   that its owner builds.
3. Of a Keras archive only `model.weights.h5` is read.
"""

from __future__ import annotations

from vouchgate.scanning.disarm.archives import Archive
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.numpy_types import array
from vouchgate.scanning.disarm.tensors import BadTensor, Storage, Tensor, row_major
from vouchgate.scanning.hdf5 import Dataset, Hdf5, open_hdf5
from vouchgate.scanning.hdf5_bytes import UNDEFINED
from vouchgate.scanning.hdf5_messages import COMPACT, CONTIGUOUS
from vouchgate.scanning.pickles.dtypes import parse_code
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.verdict import Refuse

MAGIC = b"\x89HDF\r\n\x1a\n"
WEIGHTS = "model.weights.h5"
_WHY_ATTRIBUTES = "attributes describe the architecture, which loaders build and run; build the model from your own source"


def from_keras(archive: Archive, path: str, scope: Scope, findings: Findings) -> bool:
    """Rule 3; whether the archive is one of Keras'."""
    stored = archive.content(WEIGHTS)
    if stored is None:
        return False
    for name in archive.members:
        if name != WEIGHTS and not name.endswith("/"):
            findings.drop("member", name, name, "only weights are carried over; build the model from your own source")
    from_hdf5(stored, path, scope, findings)
    return True


def from_hdf5(stored: Storage, path: str, scope: Scope, findings: Findings) -> None:
    """Rules 1 and 2."""
    try:
        found = open_hdf5(stored.view, "disarm")
    except Refuse as refuse:
        findings.drop("fault", refuse.reason.where, "the file's structure", refuse.reason.why)
        return
    findings.understood = True
    for dataset in found.datasets:
        name = ".".join(part for part in (path, *dataset.path.split("/")) if part)
        try:
            findings.keep(name, _tensor(stored, found, dataset, scope))
        except BadTensor as bad:
            findings.drop("fault", name, "dataset", str(bad))
        except Refuse as refuse:
            findings.drop("fault", name, "dataset", refuse.reason.why)
    for where, attributes in found.attributes.items():
        for name in attributes:
            findings.drop("value", where or "/", f"attribute {name}", _WHY_ATTRIBUTES)


def _tensor(stored: Storage, found: Hdf5, dataset: Dataset, scope: Scope) -> Tensor:
    code = dataset.datatype.numpy
    view = found.content(dataset, scope)
    begin = {COMPACT: dataset.data_at, CONTIGUOUS: dataset.layout.address}.get(dataset.layout.kind, UNDEFINED)
    storage = Storage(view, stored.begin + begin if stored.begin >= 0 and begin != UNDEFINED else -1)
    if code == "bfloat16":
        return Tensor(dtype="BF16", shape=dataset.shape, strides=row_major(dataset.shape), storage=storage)
    dtype = parse_code(code)
    if dtype is None:
        raise BadTensor("its elements are no plain numbers")
    return array(dtype, dataset.shape, storage)
