"""Release: the compiled parts, their manifest, its version and its signature.

Rules
1. The version rises by one when anything in the parts changed, and never falls; the tool refuses to write a lower one.
2. An entry keeps the version that first had it (`since`), however often it is made again with the same uses and rules.
3. What does not verify after it was written is an error: nobody commits what nobody can load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec.structs import replace

from knowledge.places import DATA
from vouchgate.scanning.knowledge.base import MANIFEST, Base, read
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.parts import Manifest, Wheel, part_of, write_manifest, write_part
from vouchgate.scanning.knowledge.sealed import PUBLISHERS, seal
from vouchgate.vocabulary.errors import Unverified

MAX_DATA_BYTES = 4 * 1024**2
"""Bytes of all parts: what a wheel of ours may carry for this, and what loads in tens of milliseconds."""


class Rollback(ValueError):
    """A version that would fall, or data over its bound."""


def private_key(path: Path) -> Ed25519PrivateKey:
    """The publisher's key."""
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} is no Ed25519 key")
    return key


def current(folder: Path = DATA, publishers: Iterable[str] = PUBLISHERS) -> Base | None:
    """What lies there, if it verifies."""
    try:
        return read(files_of(folder), tuple(publishers))
    except Unverified:
        return None


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a compiled knowledge base."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.json"))}


def compiled(entries: Iterable[Entry], wheels: Iterable[Wheel], before: Base | None) -> dict[str, bytes]:
    """The parts by file name (rule 2)."""
    since = {} if before is None else {_meaning(entry): entry.since for entry in before.entries()}
    next_version = 1 if before is None else before.version + 1
    by_library: dict[str, list[Entry]] = {}
    for entry in entries:
        kept = replace(entry, since=since.get(_meaning(entry), next_version))
        by_library.setdefault(entry.library, []).append(kept)
    read_wheels: dict[str, list[tuple[str, str]]] = {}
    for wheel in wheels:
        read_wheels.setdefault(wheel.distribution, []).append((wheel.version, wheel.sha256))
    return {
        f"{library}.json": write_part(part_of(library, read_wheels.get(library, []), found))
        for library, found in sorted(by_library.items())
    }


def write(
    parts: dict[str, bytes],
    wheels: tuple[Wheel, ...],
    generator: str,
    key: Ed25519PrivateKey,
    folder: Path = DATA,
    publishers: Iterable[str] = PUBLISHERS,
) -> Base:
    """Write parts and signed manifest (rules 1 and 3). Raises `Rollback`, `Unverified`."""
    if sum(map(len, parts.values())) > MAX_DATA_BYTES:
        raise Rollback(f"the parts have {sum(map(len, parts.values()))} bytes, the bound is {MAX_DATA_BYTES}")
    before = current(folder, publishers)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    version = _version(before, digests, folder)
    manifest = Manifest(version=version, generator=generator, parts=digests, wheels=wheels)
    files = {**parts, MANIFEST: seal(write_manifest(manifest), key)}
    made = read(files, tuple(publishers))
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return made


def _version(before: Base | None, digests: dict[str, str], folder: Path) -> int:
    if before is None:
        if (folder / MANIFEST).exists():
            raise Rollback("what lies there does not verify, so its version is not known: restore it, or take it away on purpose")
        return 1
    return before.version if before.manifest.parts == digests else before.version + 1


def _meaning(entry: Entry) -> tuple[str, str, tuple[str, ...], str, str]:
    return entry.module, entry.name, entry.uses, entry.arguments, entry.state
