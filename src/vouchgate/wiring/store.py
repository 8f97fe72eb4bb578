"""The control plane's store: opened, copied, put back."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from vouchgate.ports import sealed
from vouchgate.vocabulary.answers_upkeep import BackupOutcome
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings


def open_store(settings: Settings, layout: Layout) -> Any:
    """The store that the settings name, for writing. Raises `Conflict`, `Unavailable`, `StoreDamaged`, `Unsupported`."""
    from vouchgate.storage import opening

    if settings.store.engine == "postgres":
        dsn = f"postgresql:///{settings.store.database}?host={settings.store.socket}"
        return opening.open_postgres(dsn, settings.trust_domain)
    return opening.open_sqlite(layout.store, settings.trust_domain)


def log_generation(settings: Settings, layout: Layout) -> int:
    """How often a restore had to begin a new log."""
    if settings.store.engine == "postgres" or not layout.store.exists():
        return 0
    from vouchgate.storage import opening

    return opening.generation_of(layout.store, settings.trust_domain)


def back_up(layout: Layout, trust_domain: str, target: Path) -> BackupOutcome:
    """A consistent copy of the store."""
    from vouchgate.storage import backup as backups
    from vouchgate.storage import opening

    made = backups.backup(opening.read_sqlite(layout.store, trust_domain), target)
    digest = digest_of_file(target)
    return BackupOutcome(path=str(target), size=digest.size, digest=digest.text, log_size=made.size, epoch=made.epoch)


def digest_of_file(path: Path) -> Digest:
    """SHA-256 of a file, read once."""
    hashing, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(sealed.CHUNK_BYTES):
            hashing.update(chunk)
            size += len(chunk)
    return Digest(value=hashing.hexdigest(), size=size)


def put_back(
    settings: Settings, layout: Layout, backup: Path, log_key: bytes, *, known: bytes | None, since: list[bytes] | None, plan: bool
) -> Any:
    """Restore a backup over the store; with `plan` into a scratch folder that is thrown away. Returns storage's report."""
    from vouchgate.storage import backup as backups
    from vouchgate.storage import opening

    owner = layout.store.stat() if layout.store.exists() else None
    with tempfile.TemporaryDirectory(dir=layout.control, prefix=".plan-") as scratch:
        target = Path(scratch) / "store.db" if plan else layout.store
        if plan:
            opening.open_sqlite(target, settings.trust_domain).close()
        made = backups.restore(backup, target, settings.trust_domain, log_key, known_checkpoint=known, revocations_since=since)
    if not plan and owner is not None and os.geteuid() == 0:
        for path in layout.control.glob("store.db*"):
            os.chown(path, owner.st_uid, owner.st_gid)
    return made
