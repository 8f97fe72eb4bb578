"""A safetensors file of which only what is read is verified: each tensor against the manifest that was vouched for when the file was taken in.

    parts = Parts.of("model.safetensors", admit)          None where no manifest lies beside it, or none was vouched for
    descriptor = parts.sealed(["lm_head.weight"])         a sealed file of these tensors alone, each byte verified

Rules
1. `<name>.manifest` lies beside the file, or beside a folder above it that was taken in as one artifact; anybody may have written it. It names the
   content, that content is asked about (the whole folder, of a shard), and the manifest's own digest must be the one in the answer: the control plane computed it
   from the bytes that it scanned.
2. The header is read once and verified; where tensors lie is what the manifest says, and the header must say the same.
3. Tensors are copied into memory behind a header of our own, sealed against every change, and only then hashed, chunk by chunk, and compared, our header
   too. What is handed on is that sealed copy: what happens to the file before, meanwhile or afterwards changes nothing.
4. Each reading asks again: what was revoked since the file was opened is not read any more.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from vouchgate.evidence.merkle import (
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    Part,
    chunk_ranges,
    content_digest,
    manifest_digest,
    read_manifest,
)
from vouchgate.evidence.tensor_ranges import tensor_ranges
from vouchgate.integrations.guard_opening import SEALS, check_memory, copy_range
from vouchgate.integrations.guard_store import READ
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unverified

SUFFIX = ".manifest"
MAX_ABOVE = 4
"""Folders above a file beside which a manifest is looked for; pipelines have their weights one below."""
HASHERS = 4
"""Chunks that are hashed at once; hashing leaves the interpreter's lock."""
ALIGNMENT = 8
"""Bytes: where the format has tensors begin (safetensors README, "Format")."""
_REMEDY = "write it again with `vouchgate digest FILE --manifest FILE.manifest`; it fits where the file is the one that was imported"

Admit = Callable[[Digest], str]
"""Asks about content: the digest of the manifest that was vouched for, or nothing. Raises where it may not be loaded."""


class Parts:
    """One opened file. Close it; what was sealed from it stays."""

    def __init__(self, descriptor: int, file: FileEntry, manifest: Manifest, admit: Admit) -> None:
        self._file, self._chunk_bytes = file, manifest.chunk_bytes
        self._descriptor, self._admit = descriptor, admit
        self._content, self._vouched = content_digest(manifest), manifest_digest(manifest).text
        self._parts = {part.name: part for part in self._file.parts if part.name}
        self._header = self._verified_header()

    @classmethod
    def of(cls, path: str | bytes | os.PathLike[str], admit: Admit) -> Parts | None:
        """Rule 1. Raises `Unverified`, `InvalidInput`, `NotFound`, and what asking raises."""
        name = os.fsdecode(path)
        found = _found(Path(os.path.abspath(name)))  # noqa: PTH100 - no link is followed to find a manifest
        if found is None:
            return None
        place, manifest, file = found
        vouched = admit(content_digest(manifest))
        if not vouched:
            return None
        if manifest_digest(manifest).text != vouched:
            raise Unverified(f"`{place.name[:200]}` is not the manifest that was vouched for", remedy=_REMEDY)
        try:
            descriptor = os.open(name, READ)
        except OSError as error:
            raise NotFound(f"`{name[:400]}` cannot be opened: {error.strerror}", remedy="name a file that you may read") from None
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size:
                raise Unverified(f"`{name[:400]}` is no file of the length that its manifest says", remedy=_REMEDY)
            return cls(descriptor, file, manifest, admit)
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def names(self) -> list[str]:
        """Tensors in the order in which they lie in the file."""
        return list(self._parts)

    @property
    def metadata(self) -> dict[str, str] | None:
        """What the header says beside the tensors."""
        said = self._header.get("__metadata__")
        return dict(said) if said is not None else None

    def sealed(self, names: Sequence[str]) -> int:
        """Rule 3: a descriptor on a safetensors file of these tensors. Raises `NotFound`, `Unverified`, and what asking raises."""
        self._ask()
        chosen = [self._part(name) for name in dict.fromkeys(names)]
        head = _head([(part, self._header[part.name]) for part in chosen], self._header.get("__metadata__"))
        check_memory(sum(part.end - part.begin for part in chosen), "the tensors")
        target = os.memfd_create("vouchgate-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(target, head)
            for part in chosen:
                copy_range(self._descriptor, target, part.begin, part.end - part.begin)
            os.fchmod(target, 0o400)
            fcntl.fcntl(target, fcntl.F_ADD_SEALS, SEALS)
            self._verify(target, head, chosen)
            return os.open(f"/proc/self/fd/{target}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(target)

    def close(self) -> None:
        """Give the descriptor back; harmless the second time."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _ask(self) -> None:
        """Rule 4."""
        if self._descriptor < 0:
            raise InvalidInput("the file was closed", remedy="open it again")
        if self._admit(self._content) != self._vouched:
            raise Unverified("the manifest is no longer the one that is vouched for", remedy=_REMEDY)

    def _part(self, name: str) -> Part:
        found = self._parts.get(name)
        if found is None:
            raise NotFound(f"the file has no tensor `{name[:200]}`", remedy="see its `keys()`")
        return found

    def _verified_header(self) -> dict[str, Any]:
        """Rule 2."""
        first = self._file.parts[0] if self._file.parts else None
        if first is None or first.name or not self._parts:
            raise Unverified("the manifest does not part the file into tensors", remedy=_REMEDY)
        data = _read(self._descriptor, first.end)
        spans = [(begin, end) for begin, end in chunk_ranges(0, first.end, self._chunk_bytes)]
        if [hashlib.sha256(data[begin:end]).hexdigest() for begin, end in spans] != list(first.chunks):
            raise Unverified("the header is not the one that was taken in", remedy="get the file again from where it was imported from")
        if tensor_ranges(data, self._file.size) != tuple((part.name, part.begin, part.end) for part in self._file.parts):
            raise Unverified("the manifest's tensors are not the header's", remedy=_REMEDY)
        header: dict[str, Any] = msgspec.json.decode(data[8:])
        return header

    def _verify(self, target: int, head: bytes, chosen: Sequence[Part]) -> None:
        size = len(head) + sum(part.end - part.begin for part in chosen)
        if os.fstat(target).st_size != size:
            raise Unverified("the file became shorter while it was read", remedy="load it when nothing writes it")
        with mmap.mmap(target, size, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view, ThreadPoolExecutor(HASHERS) as hashers:
            if view[: len(head)] != head:
                raise Unverified("the copy was changed while it was made", remedy="see which process of this user did it")

            def fits(chunk: tuple[str, int, int, str]) -> str:
                name, begin, end, wanted = chunk
                with view[begin:end] as part:
                    return "" if hashlib.sha256(part).hexdigest() == wanted else name

            wrong = next(filter(None, hashers.map(fits, self._chunks(len(head), chosen))), "")
        if wrong:
            raise Unverified(
                f"tensor `{wrong[:200]}` is not the one that was taken in", remedy="get the file again from where it was imported from"
            )

    def _chunks(self, at: int, chosen: Sequence[Part]) -> Iterator[tuple[str, int, int, str]]:
        """(tensor, begin, end, SHA-256) of each chunk in the sealed copy."""
        for part in chosen:
            for (begin, end), wanted in zip(chunk_ranges(0, part.end - part.begin, self._chunk_bytes), part.chunks, strict=True):
                yield part.name, at + begin, at + end, wanted
            at += part.end - part.begin


def _found(path: Path) -> tuple[Path, Manifest, FileEntry] | None:
    """The manifest beside the file, else the nearest beside a folder above it that has the file; where it lies, and the file's entry."""
    for place in [path, *path.parents][: MAX_ABOVE + 1]:
        if not place.name:
            break
        beside = place.with_name(place.name + SUFFIX)
        manifest = _beside(beside)
        if manifest is None:
            continue
        inside = "" if place == path else path.relative_to(place).as_posix()
        file = next((one for one in manifest.files if one.path == inside), None)
        if file is not None:
            return beside, manifest, file
        if place == path:
            raise InvalidInput(f"`{beside}` is the manifest of a folder", remedy=_REMEDY)
    return None


def _beside(path: Path) -> Manifest | None:
    """A manifest; None where there is nothing by that name."""
    try:
        descriptor = os.open(path, READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotFound(f"`{path}` cannot be opened: {error.strerror}", remedy="make it readable, or take it away") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput(f"`{path}` is not a regular file", remedy="take it away")
        return read_manifest(file.read(MAX_MANIFEST_BYTES + 1))


def _head(chosen: Sequence[tuple[Part, Any]], metadata: Any) -> bytes:
    """A header for these tensors in this order, with the types and shapes that they have."""
    made: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for part, said in chosen:
        made[part.name] = {"dtype": said["dtype"], "shape": said["shape"], "data_offsets": [at, at := at + part.end - part.begin]}
    text = msgspec.json.encode(made)
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _read(descriptor: int, size: int) -> bytes:
    pieces, here = [], 0
    while here < size:
        piece = os.pread(descriptor, size - here, here)
        if not piece:
            raise Unverified("the file became shorter while it was read", remedy="load it when nothing writes it")
        pieces.append(piece)
        here += len(piece)
    return b"".join(pieces)
