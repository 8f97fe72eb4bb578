"""Build: from pins and reviewed entries to signed data.

Steps
1. Read the reviewed entries; they come first, and what they say of a name holds, whatever the rules say of it.
2. Judge what the pinned wheels hold.
3. Compile, number, sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from knowledge.library import judged_entries
from knowledge.places import HERE, REVIEWED
from knowledge.release import compiled, current, write
from knowledge.reviewed import read_reviewed
from knowledge.wheels import pins
from vouchgate.scanning.knowledge.base import Base
from vouchgate.scanning.knowledge.entries import Entry


def build(key: Ed25519PrivateKey) -> Base:
    """Make it, write it, and read it back."""
    reviewed = read_reviewed(REVIEWED)  # 1
    wheels = tuple(pins())
    entries = merged(judged_entries(wheels), reviewed)  # 2
    return write(compiled(entries, wheels, current()), wheels, generator_digest(), key)  # 3


def merged(judged: Iterable[Entry], reviewed: Iterable[Entry]) -> list[Entry]:
    """Judged entries with the reviewed ones over them; a reviewed entry without uses takes the name out."""
    found = {(entry.module, entry.name): entry for entry in judged}
    found |= {(entry.module, entry.name): entry for entry in reviewed}
    return [entry for entry in found.values() if entry.uses]


def generator_digest() -> str:
    """SHA-256 over the generator's source, pins, rules and reviewed entries."""
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.py"), *HERE.glob("*.toml"), *REVIEWED.glob("*.toml")]):
        name = path.relative_to(HERE).as_posix().encode()
        data = path.read_bytes()
        digest.update(b"%d %b %d " % (len(name), name, len(data)) + data)
    return digest.hexdigest()
