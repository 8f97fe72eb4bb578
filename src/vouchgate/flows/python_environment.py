"""A Python environment is read by its path: what is installed in it, and whether every file is as it was recorded. Nothing of it is run.

Steps
1. Walk the folder; links that lead out of it are not followed, so a `python` that points at the system is never opened.
2. Every `*.dist-info` with METADATA is a distribution; its RECORD names its files, relative to the folder that it lies in.
3. Every file that is recorded with a hash is read and hashed again: changed, missing, outside of the environment, recorded twice are faults.
4. Where packages lie, a file that no RECORD lists is told: whoever can put `sitecustomize.py` or a `.pth` there runs in every process.
5. Compiled files have no hash in any RECORD (they are counted): Python takes them for their source where time and size agree.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from vouchgate.evidence.bom.python import (
    MAX_METADATA_BYTES,
    MAX_RECORD_BYTES,
    Distribution,
    Environment,
    Fault,
    Row,
    read_metadata,
    read_record,
    read_source,
    read_tags,
)
from vouchgate.flows.walk import Found, Place, os_text, walk
from vouchgate.vocabulary.errors import InvalidInput, NotFound, VouchgateError

READ_BYTES = 1 << 20
"""Bytes of one read."""
READERS = 4
"""Files that are hashed at once."""
MAX_DISTRIBUTIONS = 20_000
"""Of one environment; large ones have some 500."""
MAX_TOLD = 50
"""Faults of one distribution, and files that nobody owns, that are named; all are counted."""
_SUFFIX = ".dist-info"


@dataclass
class _Reading:
    """One environment while it is read."""

    place: Place
    files: dict[str, Found]
    rows: bool
    """Keep what the RECORDs list."""
    owned: set[str] = field(default_factory=set)

    def content(self, path: str, limit: int) -> bytes:
        """A small file; nothing where there is none. Raises `InvalidInput` over the limit."""
        found = self.files.get(path)
        if found is None or found.trouble:
            return b""
        descriptor = self.place.open(path.encode("utf-8", "surrogateescape"))
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise InvalidInput(f"`{path[:200]}` has more than {limit} bytes", remedy="install the distribution again")
        return data


def read_environment(place: Place, *, rows: bool = False) -> Environment:
    """Steps 1 to 5; with `rows` what every RECORD lists is kept. Raises `NotFound` where nothing is installed, `InvalidInput`, `Unavailable`."""
    reading = _Reading(place, {os_text(entry.name): entry for entry in walk(place)} if place.is_folder else {}, rows)
    folders = sorted({posixpath.dirname(path) for path in reading.files if path.endswith(f"{_SUFFIX}/METADATA")})
    if not folders:
        raise NotFound(f"`{place.path}` holds no installed Python distribution", remedy="name a virtual environment, or its site-packages")
    if len(folders) > MAX_DISTRIBUTIONS:
        raise InvalidInput(f"`{place.path}` holds more than {MAX_DISTRIBUTIONS} distributions", remedy="name one environment")
    with ThreadPoolExecutor(READERS) as readers:
        found = tuple(_distribution(reading, folder, readers) for folder in folders)
    compiled, unowned = _unowned(reading, {posixpath.dirname(folder) for folder in folders})
    return Environment(
        python=_python(reading), distributions=found, unowned=tuple(unowned[:MAX_TOLD]), unowned_count=len(unowned), compiled=compiled
    )


def _distribution(reading: _Reading, folder: str, readers: ThreadPoolExecutor) -> Distribution:
    """Steps 2 and 3."""
    record = reading.content(f"{folder}/RECORD", MAX_RECORD_BYTES)
    origin = reading.content(f"{folder}/direct_url.json", MAX_METADATA_BYTES)
    rows = read_record(record) if record else ()
    told = list(readers.map(lambda row: _held(reading, posixpath.dirname(folder), row), rows))
    faults = [Fault(path=row.path[:500], why=why) for row, why in zip(rows, told, strict=True) if why]
    reading.owned |= {_inside(posixpath.dirname(folder), row.path) for row in rows}
    installer = reading.content(f"{folder}/INSTALLER", MAX_METADATA_BYTES)
    return Distribution(
        folder=folder,
        metadata=read_metadata(reading.content(f"{folder}/METADATA", MAX_METADATA_BYTES)),
        installer=" ".join(installer.decode("utf-8", "replace").split())[:80],
        tags=read_tags(reading.content(f"{folder}/WHEEL", MAX_METADATA_BYTES)),
        source=read_source(origin) if origin else None,
        record=hashlib.sha256(record).hexdigest() if record else "",
        files=len(rows),
        hashed=sum(1 for row, why in zip(rows, told, strict=True) if row.digest and not why),
        rows=rows if reading.rows else (),
        faults=tuple(faults[:MAX_TOLD]),
        altered=len(faults),
    )


def _held(reading: _Reading, above: str, row: Row) -> str:
    """Why a file is not as recorded; nothing where it is."""
    path = _inside(above, row.path)
    found = reading.files.get(path)
    if row.fault:
        return row.fault
    if path.startswith(("../", "/")):
        return "it lies outside of the environment"
    if found is None:
        return "" if path.endswith(".pyc") else "it is missing"
    if found.trouble:
        return f"it cannot be read: {found.trouble}"
    if not row.digest:
        return ""
    if row.size not in (-1, found.size):
        return "it was changed"
    try:
        return "" if _hashed(reading, path, row.algorithm) == row.digest else "it was changed"
    except (OSError, VouchgateError) as error:
        return f"it cannot be read: {getattr(error, 'strerror', None) or error}"


def _hashed(reading: _Reading, path: str, algorithm: str) -> str:
    hashing = hashlib.new(algorithm)
    with os.fdopen(reading.place.open(path.encode("utf-8", "surrogateescape")), "rb", buffering=0) as stream:
        while piece := stream.read(READ_BYTES):
            hashing.update(piece)
    return hashing.hexdigest()


def _unowned(reading: _Reading, roots: Iterable[str]) -> tuple[int, list[str]]:
    """Steps 4 and 5: how many compiled files there are, and what nobody owns."""
    above = tuple(f"{root}/" if root else "" for root in roots)
    here = [path for path in reading.files if path.startswith(above)]
    compiled = [path for path in here if path.endswith(".pyc")]
    return len(compiled), sorted(path for path in here if path not in reading.owned and not _cached(reading, path))


def _cached(reading: _Reading, path: str) -> bool:
    """Whether it is the compiled form (PEP 3147) of a source that somebody owns; any other `.pyc` could be imported by itself."""
    folder, name = posixpath.split(path)
    if posixpath.basename(folder) != "__pycache__" or not name.endswith(".pyc"):
        return False
    return posixpath.join(posixpath.dirname(folder), name.split(".")[0] + ".py") in reading.owned


def _inside(above: str, path: str) -> str:
    """A recorded path, relative to the environment; one that begins with `../` leads out of it."""
    return posixpath.normpath(posixpath.join(above, path))


def _python(reading: _Reading) -> str:
    """`version` or `version_info` of pyvenv.cfg (venv, virtualenv, uv)."""
    lines = reading.content("pyvenv.cfg", MAX_METADATA_BYTES).decode("utf-8", "replace").splitlines()
    said = {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    text = said.get("version") or said.get("version_info", "")
    numbers = text.split(".")[:3]
    return ".".join(numbers) if len(numbers) == 3 and all(one.isascii() and one.isdigit() for one in numbers) else ""
