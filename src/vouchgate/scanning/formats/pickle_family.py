"""The pickle family: everything whose loading runs a pickle. Recognised in every container, and refused as a whole for now.

Rules
1. Recognised: raw pickles of protocol 0 to 5 (with or without PROTO), PyTorch's legacy files, PyTorch's zip files, joblib (plain, and
   compressed by zlib, gzip, bz2, xz, lzma, lz4), numpy arrays and archives that hold objects, and any zip with a pickle inside or a zip
   directory behind other bytes.
2. Recognising is not judging: a pickle is a program (its opcodes call what they name), so each is refused, with the way to convert it.
3. Numpy arrays without objects hold no pickle and are not claimed.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

from vouchgate.scanning import zip_listing
from vouchgate.scanning.pickle_opcodes import walk
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Reason, at

NAME = "pickle-family"
HEAD_BYTES = 65_536
"""Bytes unpacked to look at the start of a compressed file."""
NUMPY_MAGIC = b"\x93NUMPY"
MAX_NUMPY_HEADER = 65_536
"""Bytes of a .npy header that are looked at (format 2.0 allows 4 GiB, real ones have about 128)."""
TORCH_LEGACY_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""torch/serialization.py, MAGIC_NUMBER: the first object of a legacy file."""
PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt")

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

_COMPRESSED: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


def recognise(sight: Sight) -> Claim:
    """By container, then by opcodes."""
    return _claim(sight.view)


def _claim(view: memoryview) -> Claim:
    head = bytes(view[:16])
    if zip_listing.directory_of(view) is not None:
        return _zip(view)
    if head.startswith(NUMPY_MAGIC):
        return _numpy(view, "numpy-objects")
    if bytes(view[257:262]) == b"ustar":
        return NOT_MINE  # a tar: its first bytes are a file's name, and `0.` of `0.pkl` would pass for two opcodes
    packer = _packer(head)
    claim = _compressed(view, packer) if packer else NOT_MINE
    return _raw(view) if claim is NOT_MINE else claim  # `(S` is MARK, STRING and a valid zlib header at once


def read(sight: Sight, scope: Scope) -> Reading:
    """Always refused: the reason names the container, what it would import, and how to convert it."""
    del scope
    claim = recognise(sight)
    runs = "what is inside may be a pickle and cannot be read yet" if claim.kind in _UNREAD else "loading it runs the program inside"
    reason = Reason(
        rule=f"{NAME}:{claim.kind}",
        where=at(0),
        why=f"it is a {claim.kind} file ({claim.because}): {runs}, so it cannot be admitted",
        remedy=_REMEDIES.get(claim.kind, REMEDY_PICKLE),
    )
    return Reading(reasons=(reason,))


_UNREAD = frozenset({"zip", "compressed", "numpy-archive"})
"""Containers in which no pickle was seen."""
_REMEDIES = {
    "torch-zip": REMEDY_WEIGHTS,
    "torch-legacy": REMEDY_WEIGHTS,
    "joblib": REMEDY_SKLEARN,
    "numpy-objects": REMEDY_ARRAYS,
    "numpy-archive-objects": REMEDY_ARRAYS,
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


def _zip(view: memoryview) -> Claim:
    """Any archive in a file that must be one model: named by what is inside."""
    listed = zip_listing.directory_of(view) or (0, 0)
    found = tuple(zip_listing.members(view, *listed))
    names = [member.name for member in found]
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return Claim(strength="certain", kind="torch-zip", because="a zip archive with data.pkl inside")
    arrays = [member for member in found if member.name.endswith(".npy")]
    if arrays and len(arrays) == len(found):
        objects = [member for member in arrays if _numpy(memoryview(zip_listing.head_of(view, member)), "x").strength == "certain"]
        if objects:
            return Claim(strength="certain", kind="numpy-archive-objects", because=f"`{_show(objects[0].name)}` holds objects")
        return Claim(strength="certain", kind="numpy-archive", because="a zip archive of numpy arrays")
    for member in found:
        if member.name.endswith(PICKLE_SUFFIXES) or walk(memoryview(zip_listing.head_of(view, member))).certain:
            return Claim(strength="certain", kind="zip-with-pickle", because=f"a zip archive with the pickle `{_show(member.name)}` inside")
    return Claim(strength="certain", kind="zip", because="a zip archive")


def _numpy(view: memoryview, kind: str) -> Claim:
    """numpy/lib/format.py: magic, version, header length, a literal with `descr`."""
    major = view[6] if len(view) > 8 else 0
    width = 2 if major == 1 else 4
    length = int.from_bytes(view[8 : 8 + width], "little")
    header = bytes(view[8 + width : 8 + width + min(length, MAX_NUMPY_HEADER)])
    plain = length <= MAX_NUMPY_HEADER and b"descr" in header and b"|O" not in header and b"'O" not in header and b'"O' not in header
    return NOT_MINE if plain else Claim(strength="certain", kind=kind, because="a numpy array of objects, stored as a pickle")


def _packer(head: bytes) -> str:
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            return name
    if len(head) >= 2 and head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return ""


def _compressed(view: memoryview, packer: str) -> Claim:
    if packer == "lz4":
        return Claim(strength="certain", kind="joblib", because="compressed by lz4, as joblib does")
    try:
        head = _UNPACK[packer](bytes(view[:HEAD_BYTES]))
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        return NOT_MINE if packer in ("zlib", "lzma") else Claim(strength="possible", kind="compressed", because=f"damaged {packer} data")
    if walk(memoryview(head)).possible:
        return Claim(strength="certain", kind="joblib", because=f"a pickle compressed by {packer}")
    if packer in ("zlib", "lzma"):
        return NOT_MINE
    return Claim(strength="certain", kind="compressed", because=f"{packer} data")


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.decompressobj().decompress(data, HEAD_BYTES),
    "gzip": lambda data: zlib.decompressobj(31).decompress(data, HEAD_BYTES),
    "bz2": lambda data: bz2.BZ2Decompressor().decompress(data, HEAD_BYTES),
    "xz": lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 * 1024**2).decompress(data, HEAD_BYTES),
    "lzma": lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=256 * 1024**2).decompress(data, HEAD_BYTES),
}


def _show(text: str) -> str:
    return text[:80].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")
