"""The pickle family: everything whose loading runs a pickle. Recognised in every container, and refused as a whole for now.

Rules
1. Recognised: raw pickles of protocol 0 to 5 (with or without PROTO), PyTorch's legacy files, joblib's plain files, numpy arrays that hold
   objects. Archives and compressed files are scanned member by member.
2. Recognising is not judging: a pickle is a program (its opcodes call what they name), so each is refused, with the way to convert it.
3. Numpy arrays without objects hold no pickle and are not claimed.
"""

from __future__ import annotations

from vouchgate.scanning.pickle_opcodes import walk
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason, at

NAME = "pickle-family"
NUMPY_MAGIC = b"\x93NUMPY"
MAX_NUMPY_HEADER = 65_536
"""Bytes of a .npy header that are looked at (format 2.0 allows 4 GiB, real ones have about 128)."""
TORCH_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""torch/serialization.py, MAGIC_NUMBER: the first object of a legacy file."""

REMEDY_WEIGHTS = (
    "where you trust where it came from, load it there once and save the weights as safetensors: "
    "`safetensors.torch.save_model(model, 'model.safetensors')`, or export the model with `torch.onnx.export`"
)
REMEDY_SKLEARN = (
    "where you trust where it came from, load it there once and export it as ONNX: "
    "`skl2onnx.to_onnx(model, X[:1])`, written with `SerializeToString()`; for plain arrays use safetensors"
)
REMEDY_ARRAYS = "save plain arrays, without objects (`np.save(..., allow_pickle=False)`), or as safetensors (`safetensors.numpy.save_file`)"
REMEDY_PICKLE = (
    "where you trust where it came from, load it there once and save what it holds as safetensors (arrays, weights) "
    "or ONNX (`skl2onnx.to_onnx`, `torch.onnx.export`); both hold data only"
)


def recognise(sight: Sight) -> Claim:
    """By container, then by opcodes."""
    return _claim(sight.view)


def _claim(view: memoryview) -> Claim:
    head = bytes(view[:16])
    if head.startswith(NUMPY_MAGIC):
        return _numpy(view, "numpy-objects")
    if bytes(view[257:262]) == b"ustar":
        return NOT_MINE  # a tar: its first bytes are a file's name, and `0.` of `0.pkl` would pass for two opcodes
    return _raw(view)


def read(sight: Sight, scope: Scope) -> Reading:
    """Always refused: the reason names the container, what it would import, and how to convert it."""
    del scope
    claim = recognise(sight)
    runs = "loading it runs the program inside"
    reason = Reason(
        rule=f"{NAME}:{claim.kind}",
        where=at(0),
        why=f"it is a {claim.kind} file ({claim.because}): {runs}, so it cannot be admitted",
        remedy=_REMEDIES.get(claim.kind, REMEDY_PICKLE),
    )
    return Reading(reasons=(reason,))


_REMEDIES = {
    "torch-legacy": REMEDY_WEIGHTS,
    "joblib": REMEDY_SKLEARN,
    "numpy-objects": REMEDY_ARRAYS,
}


def _raw(view: memoryview) -> Claim:
    seen = walk(view)
    if not seen.possible:
        return NOT_MINE
    kind = "pickle"
    if bytes(view[:20]).find(TORCH_LEGACY_MAGIC) >= 0:
        kind = "torch-legacy"
    elif any(name.startswith(("joblib.", "sklearn.")) for name in seen.imports):
        kind = "joblib"
    protocol = f"protocol {seen.protocol}" if seen.protocol >= 0 else "protocol 0 or 1"
    imports = f", it imports {', '.join(seen.imports)}" if seen.imports else ""
    return Claim(strength="certain" if seen.certain else "possible", kind=kind, because=f"a pickle of {protocol}{imports}")


def _numpy(view: memoryview, kind: str) -> Claim:
    """numpy/lib/format.py: magic, version, header length, a literal with `descr`."""
    major = view[6] if len(view) > 8 else 0
    width = 2 if major == 1 else 4
    length = int.from_bytes(view[8 : 8 + width], "little")
    header = bytes(view[8 + width : 8 + width + min(length, MAX_NUMPY_HEADER)])
    plain = length <= MAX_NUMPY_HEADER and b"descr" in header and b"|O" not in header and b"'O" not in header and b'"O' not in header
    return NOT_MINE if plain else Claim(strength="certain", kind=kind, because="a numpy array of objects, stored as a pickle")
