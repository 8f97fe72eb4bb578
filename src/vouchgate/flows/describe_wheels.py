"""A folder of wheels is read: each archive is hashed, and its contents are held to its own RECORD. Nothing is unpacked to disk, nothing runs.

Steps
1. Every `*.whl` in the folder, at any depth, is hashed whole; names must be different.
2. Its directory and contents are read within bounds that grow with the archive: what is larger, encrypted, compressed in another way than deflate,
   listed twice, or split over 64-bit records is a fault of the wheel, never of the rest.
3. Attestations beside it (`<wheel>.publish.attestation`, `<wheel>.provenance`, as indexes name them) are hashed; they are verified by `bom gaps`.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import struct
import zipfile
import zlib
from typing import IO

from vouchgate.evidence.bom.python import (
    MAX_METADATA_BYTES,
    MAX_RECORD_BYTES,
    Row,
    comparable,
    normalised,
    read_metadata,
    read_record,
    read_tags,
)
from vouchgate.evidence.bom.wheels import Beside, Wheel, contents_fault, named
from vouchgate.flows.walk import Found, Place, os_text, sound
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable

READ_BYTES = 1 << 20
"""Bytes of one read."""
MAX_WHEELS = 20_000
"""Of one folder; environments have some 500."""
MAX_NAME = 400
"""Characters of a wheel's path in the folder; names of real ones stay below 150."""
MAX_DIRECTORY_BYTES = 64 * 1024 * 1024
"""Bytes of an archive's directory: 500,000 files, the largest real wheels have 20,000."""
MAX_RATIO = 200
"""Bytes of content for each byte of the archive; code packs to a quarter, tables of zeros to a hundredth."""
SLACK_BYTES = 16 * 1024 * 1024
"""Bytes of content that a small archive may have beyond it."""
MAX_BESIDE_BYTES = 16 * 1024 * 1024
"""Bytes of one file beside a wheel; a provenance of several attestations has some 100 KiB."""
BESIDE = (".publish.attestation", ".slsa.attestation", ".attestation", ".provenance", ".provenance.json")
_END, _END64 = b"PK\5\6", b"PK\6\7"
"""Marks of the directory's end, and of its place in the 64-bit form (APPNOTE 4.3.16, 4.3.15)."""
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, struct.error)


def read_wheels(place: Place) -> tuple[Wheel, ...]:
    """Steps 1 to 3, in the order of names. Raises `InvalidInput`, `NotFound`, `Unavailable`."""
    files = {os_text(entry.name): entry for entry in sound(place, links=False, remedy="name a folder of plain files")}
    paths = [path for path in files if path.endswith(".whl")]
    if not paths or not place.is_folder:
        raise NotFound(f"`{place.path}` holds no wheel", remedy="name a folder with `*.whl` files, such as `pip download -d FOLDER` writes")
    if len(paths) > MAX_WHEELS or len({posixpath.basename(path) for path in paths}) != len(paths):
        raise InvalidInput(
            f"`{place.path}` holds two wheels of one name, or more than {MAX_WHEELS}", remedy="name a folder of one environment"
        )
    odd = next((path for path in paths if not path.isprintable() or len(path) > MAX_NAME), None)
    if odd is not None:
        raise InvalidInput(f"`{odd[:100]!a}` is no name of a wheel", remedy="name it as it was published")
    return tuple(_wheel(place, path, files) for path in sorted(paths, key=posixpath.basename))


def _wheel(place: Place, path: str, files: dict[str, Found]) -> Wheel:
    name = posixpath.basename(path)
    beside = tuple(Beside(name=name + suffix, sha256=_hashed_small(place, path + suffix)) for suffix in BESIDE if path + suffix in files)
    with os.fdopen(place.open(path.encode()), "rb") as stream:
        before = _stamp(stream)
        sha256, size = _hashed(stream)
        wheel = Wheel(file=name, size=size, sha256=sha256, beside=beside)
        try:
            wheel = _opened(stream, wheel)
        except InvalidInput as error:
            wheel = _faulty(wheel, error.reason)
        except _FAULTS as error:
            wheel = _faulty(wheel, f"it cannot be read: {' '.join(str(error).split())[:200]}")
        if _stamp(stream) != before:
            raise Unavailable(f"`{name}` changed while it was read", remedy="read it when nothing writes it")
    return wheel


def _stamp(stream: IO[bytes]) -> tuple[int, int, int]:
    facts = os.fstat(stream.fileno())
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _faulty(wheel: Wheel, why: str) -> Wheel:
    package, version = named(wheel.file)
    return Wheel(
        file=wheel.file,
        size=wheel.size,
        sha256=wheel.sha256,
        beside=wheel.beside,
        name=package,
        version=version,
        fault=why or "it cannot be read",
    )


def _opened(stream: IO[bytes], wheel: Wheel) -> Wheel:
    """Step 2."""
    package, version = named(wheel.file)
    if not package:
        raise InvalidInput("its name is no wheel's", remedy="name it as it was published")
    _check_end(stream, wheel.size)
    with zipfile.ZipFile(stream) as archive:
        members = _members(archive, wheel.size)
        folders = sorted({posixpath.dirname(one) for one in members if one.endswith(".dist-info/RECORD")})
        if len(folders) != 1 or "/" in folders[0]:
            raise InvalidInput("it has no RECORD, or several", remedy="fetch it again")
        folder = folders[0]
        said = read_metadata(_small(archive, members, f"{folder}/METADATA", MAX_METADATA_BYTES))
        if (normalised(said.name), comparable(said.version)) != (normalised(package), comparable(version)):
            raise InvalidInput("its METADATA is of another release than its name", remedy="fetch it again")
        rows = read_record(_small(archive, members, f"{folder}/RECORD", MAX_RECORD_BYTES))
        files = _digests(archive, members, {row.path: row for row in rows})
        tags = read_tags(_small(archive, members, f"{folder}/WHEEL", MAX_METADATA_BYTES))
    return Wheel(
        file=wheel.file, size=wheel.size, sha256=wheel.sha256, beside=wheel.beside, name=said.name, version=said.version, tags=tags, folder=folder,
        files=files, fault=contents_fault(files, rows, folder),
    )  # fmt: skip


def _check_end(stream: IO[bytes], size: int) -> None:
    """The directory's length is known before it is read: where the archive library looks for it."""
    stream.seek(max(0, size - 65_536 - 22))
    tail = stream.read(65_536 + 22)
    at = len(tail) - 22 if tail[-22:-18] == _END and tail[-2:] == b"\0\0" else tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise InvalidInput("it is no zip archive", remedy="fetch it again")
    (length,) = struct.unpack("<L", tail[at + 12 : at + 16])
    if length > MAX_DIRECTORY_BYTES or (at >= 20 and tail[at - 20 : at - 16] == _END64):
        raise InvalidInput("its directory is too long, or in the 64-bit form, which no index takes", remedy="fetch it again")


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for one in archive.infolist():
        if one.filename.endswith("/") and not one.file_size:
            continue
        if one.filename in found or one.orig_filename != one.filename:
            raise InvalidInput("two of its files have one name, or a name is cut off", remedy="fetch it again")
        if one.flag_bits & 1 or one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInput("a file of it is encrypted, or packed in a way that no wheel is", remedy="fetch it again")
        if one.filename.startswith("/") or "\\" in one.filename or ".." in one.filename.split("/"):
            raise InvalidInput("a file of it would lie outside of where it is installed", remedy="do not install it")
        found[one.filename] = one
        total += one.file_size
    if total > size * MAX_RATIO + SLACK_BYTES:
        raise InvalidInput(f"it unpacks to more than {MAX_RATIO} times its length", remedy="do not install it")
    return found


def _small(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: str, limit: int) -> bytes:
    if path not in members or members[path].file_size > limit:
        raise InvalidInput(f"`{path[:200]}` is missing, or too long", remedy="fetch it again")
    return archive.read(members[path])


def _digests(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], rows: dict[str, Row]) -> dict[str, str]:
    """Path -> digest by the algorithm that its row names, SHA-256 without one."""
    found = {}
    for path, member in members.items():
        row = rows.get(path)
        hashing = hashlib.new(row.algorithm if row and row.algorithm else "sha256")
        with archive.open(member) as stream:
            while piece := stream.read(READ_BYTES):
                hashing.update(piece)
        found[path] = hashing.hexdigest()
    return found


def _hashed(stream: IO[bytes]) -> tuple[str, int]:
    hashing, size = hashlib.sha256(), 0
    while piece := stream.read(READ_BYTES):
        hashing.update(piece)
        size += len(piece)
    return hashing.hexdigest(), size


def _hashed_small(place: Place, path: str) -> str:
    with os.fdopen(place.open(path.encode()), "rb") as stream:
        data = stream.read(MAX_BESIDE_BYTES + 1)
    if len(data) > MAX_BESIDE_BYTES:
        raise InvalidInput(f"`{path[:200]}` has more than {MAX_BESIDE_BYTES} bytes", remedy="put the index's own file there")
    return hashlib.sha256(data).hexdigest()
