"""Rebuild an artifact: which container it is, what is in it, and the pieces of the file that replaces it.

Steps
1. The container, by content: ONNX (its graph is kept where it passes the scan), torch's zip, numpy's zip, any other zip (each member on its own), .npy, HDF5, safetensors, a compressed file, torch's
   legacy file, a pickle.
2. Take it apart (torch_files.py, numpy_files.py, objects.py ...): tensors, plain values, and what was dropped.
3. Asked for ONNX, a scikit-learn model is written as the graph that its values say (sklearn_onnx.py), and nothing else of the file is.
4. Bounds: what would be written is at most `MAX_GROWTH` times the artifact, so that no tensor of stride 0 fills a disk.

Nothing of the artifact is imported, called or constructed. What is left to others: writing (the port), confinement (the process).
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vouchgate.scanning import zip_listing
from vouchgate.scanning.catalog import installed
from vouchgate.scanning.disarm import onnx_files, safetensors_file, sklearn_onnx
from vouchgate.scanning.disarm.archives import Archive
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.hdf5_files import MAGIC as HDF5_MAGIC
from vouchgate.scanning.disarm.hdf5_files import from_hdf5, from_keras
from vouchgate.scanning.disarm.numpy_files import MAGIC as NUMPY_MAGIC
from vouchgate.scanning.disarm.numpy_files import from_npy, from_npz
from vouchgate.scanning.disarm.objects import Apart
from vouchgate.scanning.disarm.tensors import Storage
from vouchgate.scanning.disarm.torch_files import Inside, from_legacy, from_zip
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.pickles.dialects import Dialect
from vouchgate.scanning.pickles.machine import run
from vouchgate.scanning.pickles.work import Overworked, refill
from vouchgate.scanning.scan import scan
from vouchgate.scanning.scope import Budget, Scope
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.tars import is_tar, open_tar
from vouchgate.scanning.verdict import Reading, Refuse

Target = Literal["", "safetensors", "onnx"]
"""What the output shall be; empty for ONNX of ONNX and safetensors of everything else."""
MAX_GROWTH = 8
"""Times the artifact (unpacked members included) that the output may have; tied and expanded tensors are written out under each name."""
FLOOR_BYTES = 256 * 1024**2
"""Bytes that may be written however small the artifact is."""
MAX_TENSORS = 100_000
"""Tensors in one output file; the scan's own bound."""
MAX_NESTING = 4
"""Containers within each other."""
METADATA = {"format": "pt", "made_by": "vouchgate disarm"}
"""`format` is what transformers asks of a safetensors file."""
_DIALECT = Dialect(name="joblib", persistent=lambda value: "", arrays=True)
_REMEDY = "name a model file, or save the weights as safetensors where the artifact was made"

_GGUF = "scan it; where its template is refused, set another one with `gguf_new_metadata.py --chat-template`"


@dataclass
class Rebuilt:
    """What is to be written."""

    container: str
    findings: Findings
    metadata: dict[str, str]
    document: bytes | None = None
    """The whole output where it is no safetensors file: a model whose graph is kept."""
    format: str = "safetensors"

    def pieces(self, change: safetensors_file.Change | None = None) -> Iterator[bytes | memoryview | safetensors_file.Copy]:
        """The file, in order."""
        if self.document is not None:
            return iter((memoryview(self.document),))
        return safetensors_file.pieces(self.findings.tensors, self.metadata, change)

    def compare(self, read: Callable[[int], bytes], change: safetensors_file.Change | None = None) -> int:
        """Hold a written file to this. Raises `Mismatch`."""
        if self.document is not None:
            return safetensors_file.compare_document(read, memoryview(self.document))
        return safetensors_file.compare(read, self.findings.tensors, self.metadata, change)


def rebuild(view: memoryview, settings: ScanSettings = DEFAULTS, target: Target = "") -> Rebuilt:
    """Steps 1 to 4. Raises `Refuse` where nothing can be had."""
    scope = _scope(settings)
    findings = Findings()
    if bytes(view[:4]) == b"GGUF":
        raise Refuse(
            "disarm:data-only", "whole artifact", "a GGUF file holds data and a template, and nothing that runs while loading", _GGUF
        )
    if is_onnx(view) and target != "safetensors":
        kept = _onnx(view, settings, findings)
        if kept is not None:
            return kept
    if target == "onnx":
        return _estimator(view, scope, findings)
    container = _take(Storage(view, 0), "", scope, findings, 0)
    bound(len(view) + scope.settings.max_unpacked_bytes - scope.budget.unpacked_bytes, findings)
    if not findings.tensors and not _says_something(findings.values) and (findings.drops or not findings.understood):
        why = findings.dropped[0].why if findings.dropped else "its content is no format that can be taken apart"
        raise Refuse("disarm:nothing-recovered", "whole artifact", f"no tensor and no plain value could be recovered: {why}", _REMEDY)
    return Rebuilt(container=container, findings=findings, metadata=METADATA)


def _estimator(view: memoryview, scope: Scope, findings: Findings) -> Rebuilt:
    """Step 3. Raises `Refuse`."""
    container = "pickle"
    for _ in range(MAX_NESTING):
        packer = _packer(bytes(view[:8]))
        unpacked = _unpack(view, packer, scope, findings) if packer else None
        if unpacked is None:
            break
        view, container = unpacked, f"{container} in {packer}"
    ran = run(view, scope, dialect=_DIALECT, keep=True)
    if ran.end < 0:
        why = ran.reasons[-1].why if ran.reasons else "it does not end"
        raise Refuse("disarm:no-onnx", "whole artifact", f"it is no whole pickle of a scikit-learn model: {why}", _REMEDY)
    for reason in ran.reasons:
        findings.drop("call", reason.where, reason.rule, reason.why)
    if ran.end < len(view):
        findings.drop("bytes", "", f"{len(view) - ran.end} bytes behind the pickle", "no loader reads them as part of the object")
    refill()
    try:
        document, findings.values = sklearn_onnx.model(view, ran.value)
    except Overworked:
        why = "looking at its arrays takes more work than any real model"
        raise Refuse("disarm:no-onnx", "whole artifact", why, "export it to ONNX where it was trained") from None
    return Rebuilt(container=container, findings=findings, metadata={}, document=document, format="onnx")


def _onnx(view: memoryview, settings: ScanSettings, findings: Findings) -> Rebuilt | None:
    """The model without what a runtime does not need, if that passes the scan."""
    try:
        document = onnx_files.stripped(view, findings)
    except onnx_files.NotProtobuf:
        return None
    verdict = scan(document, settings=settings)
    if verdict.outcome == "clean" and verdict.format == "onnx":
        return Rebuilt(container="onnx", findings=findings, metadata={}, document=document, format="onnx")
    reason = verdict.reasons[0] if verdict.reasons else None
    findings.drop("call", "the graph", reason.where if reason else "the graph", reason.why if reason else "it is not read to its end")
    return None


def _is(name: str, view: memoryview) -> bool:
    """Whether a format is certain of these bytes."""
    return next(one for one in installed() if one.name == name).recognise(Sight(view)).strength == "certain"


def is_onnx(view: memoryview) -> bool:
    """Whether the scanner takes the bytes for a model of ONNX."""
    return _is("onnx", view)


def _scope(settings: ScanSettings) -> Scope:
    def no_inner(*_: Any) -> tuple[str, Reading]:
        return "unknown", Reading()

    budget = Budget(unpacked_bytes=settings.max_unpacked_bytes, members=settings.max_members)
    return Scope(settings=settings, knowledge=shipped(), read_inner=no_inner, plugins=(), budget=budget, deep=False)


def _take(stored: Storage, path: str, scope: Scope, findings: Findings, depth: int) -> str:
    """Step 1; the container's name. Values are left in `findings.values`."""
    view, head = stored.view, bytes(stored.view[:8])

    def pickled(inner: Storage, where: str) -> Any:
        return _pickle(inner, where, scope, findings)

    if is_onnx(view):
        onnx_files.initialisers(view, stored.begin, findings)
        return "onnx"
    if _is("safetensors", view):
        findings.values = safetensors_file.taken(stored, path, findings)
        return "safetensors"
    if head.startswith(NUMPY_MAGIC):
        findings.values = from_npy(stored, path, findings, pickled)
        return "numpy"
    if is_tar(view):
        return _tar(stored, path, scope, findings, depth)
    if head == HDF5_MAGIC:
        from_hdf5(stored, path, scope, findings)
        return "hdf5"
    if _zipped(view):
        return _archive(stored, path, scope, findings, depth)
    packer = _packer(head)
    if packer:
        unpacked = _unpack(view, packer, scope, findings)
        if unpacked is not None and depth < MAX_NESTING:
            return f"{packer} of {_take(Storage(unpacked), path, scope, findings, depth + 1)}"
    if from_legacy(stored, path, scope, findings):
        return "torch-legacy"
    findings.values = _pickle(stored, path, scope, findings)
    return "pickle"


def _zipped(view: memoryview) -> bool:
    return bytes(view[:4]) == b"PK\x03\x04" or zip_listing.directory_of(view) not in (None, (0, 0))


def _archive(stored: Storage, path: str, scope: Scope, findings: Findings, depth: int) -> str:
    archive = Archive(stored.view, stored.begin, scope, findings)
    if from_zip(archive, path, scope, findings):
        return "torch-zip"
    if from_keras(archive, path, scope, findings):
        return "keras-v3"
    if from_npz(archive, findings, lambda inner, where: _pickle(inner, where, scope, findings)):
        return "numpy-archive"
    files = ((name, archive.content(name)) for name in archive.members if not name.endswith("/"))
    findings.values = _members(files, path, scope, findings, depth)
    return "zip"


def _tar(stored: Storage, path: str, scope: Scope, findings: Findings, depth: int) -> str:
    """A NeMo archive, a WebDataset shard, a tar of models."""
    try:
        found = open_tar(stored.view, scope, "disarm")
    except Refuse as refuse:
        findings.drop("fault", refuse.reason.where, "the archive", refuse.reason.why)
        return "tar"
    begin = stored.begin
    files = ((one.name, Storage(found.content(one), begin + one.data_at if begin >= 0 else -1)) for one in found.files)
    findings.values = _members(files, path, scope, findings, depth)
    return "tar"


def _members(files: Iterable[tuple[str, Storage | None]], path: str, scope: Scope, findings: Findings, depth: int) -> dict[str, Any]:
    """Each on its own, under its name; one that gives nothing is told."""
    values: dict[str, Any] = {}
    for name, inner in files:
        findings.values, known, drops = None, len(findings.tensors), findings.drops
        if inner is not None and len(inner.view) and depth < MAX_NESTING:
            _take(inner, f"{path}.{name}" if path else name, scope, findings, depth + 1)
        if findings.values is not None:
            values[name] = findings.values
        elif known == len(findings.tensors) and drops == findings.drops:
            findings.drop("member", name, name, "it holds no tensor and no plain value, or lies too deep")
    return values


def _pickle(stored: Storage, path: str, scope: Scope, findings: Findings) -> Any:
    """A pickle's values."""
    ran = run(stored.view, scope, dialect=_DIALECT, keep=True)
    findings.understood = findings.understood or ran.end > 0
    inside = Inside(stored.view, stored.begin, scope, findings)
    taken = Apart(stored.view, stored.begin, inside.find, findings).take(ran.value, path)
    if 0 <= ran.end < len(stored.view):
        findings.drop("bytes", path, f"{len(stored.view) - ran.end} bytes behind the pickle", "no loader reads them as part of the object")
    return taken


_MAGICS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"), (b"\x5d\x00\x00", "lzma"))


def _packer(head: bytes) -> str:
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    return "zlib" if len(head) > 2 and head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and int.from_bytes(head[:2], "big") % 31 == 0 else ""


def _unpack(view: memoryview, packer: str, scope: Scope, findings: Findings) -> memoryview | None:
    """All of it, within the bound; None where it is no such data."""
    bound = scope.settings.max_unpacked_member
    scope.spend_bytes(packer, bound)
    try:
        if packer in ("gzip", "zlib"):
            opened: Any = zlib.decompressobj(31 if packer == "gzip" else 15)
        elif packer == "bz2":
            opened = bz2.BZ2Decompressor()
        else:
            opened = lzma.LZMADecompressor(lzma.FORMAT_XZ if packer == "xz" else lzma.FORMAT_ALONE, memlimit=256 * 1024**2)
        data = opened.decompress(view, bound)
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return None
    if not opened.eof:
        findings.drop("fault", "the whole artifact", f"{packer} data", f"it ends too early, or has more than {bound} bytes unpacked")
    scope.budget.unpacked_bytes += bound - len(data)
    return memoryview(data)


def bound(held: int, findings: Findings) -> None:
    """Step 4: `held` is the artifact's bytes, with what was unpacked of them."""
    allowed = max(FLOOR_BYTES, MAX_GROWTH * held)
    total = sum(tensor.size for tensor in findings.tensors.values())
    if total > allowed or len(findings.tensors) > MAX_TENSORS:
        raise Refuse(
            "disarm:too-large",
            "whole artifact",
            f"{len(findings.tensors)} tensors would take {total} bytes; the bounds are {MAX_TENSORS} and {allowed}",
            "save the weights where the artifact was made, without expanding or repeating them",
        )


def _says_something(values: Any) -> bool:
    """Whether a plain value is left once all that was dropped, or only named, is taken away."""
    if isinstance(values, dict):
        return "$dropped" not in values and any(_says_something(item) for key, item in values.items() if key not in _NAMING)
    if isinstance(values, list):
        return any(map(_says_something, values))
    return values is not None


_NAMING = frozenset({"$object", "$module", "$name", "$same", "$array", "$call"})
