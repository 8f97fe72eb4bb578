"""What the content store holds is scanned for the control plane: the supervisor alone may start the scanner as another user.

Rules
1. Only what has a name of the store is opened, without following a link, and only where it is the control plane's own.
2. What somebody allows in an artifact is handed on; it counts for the digest that the scanner itself finds, and for no other.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

from vouchgate import wiring
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.vocabulary.errors import NotPermitted
from vouchgate.vocabulary.layout import Layout, Users

_STORED = re.compile(r"(\.staging-[0-9a-f]{32}|(tree-)?[0-9a-f]{64})\Z")
"""Names in the content store (ports/artifacts.py)."""


class StoredScans:
    """One warm scanner, and the store that it reads from."""

    def __init__(self, layout: Layout, users: Users) -> None:
        self._layout, self._users = layout, users
        self._scanner = wiring.warm_scanner(uid=users.drop_to("scanner"))

    def scan(self, staged: str, name: str, allowed: dict[str, tuple[Entry, ...]]) -> Any:
        """A staged or kept artifact of the store, by its name there; `allowed` counts for the digest that the scanner itself finds. Blocks; raises `NotPermitted`."""
        if not _STORED.match(staged):
            raise NotPermitted("only artifacts of the store are scanned", remedy="import the file")
        path = self._layout.artifacts / staged
        owner = self._users.of("control") if self._users.isolated else -1
        if path.is_dir():
            with contextlib.closing(wiring.stored_tree(path)) as tree:
                self._own(tree.descriptor, owner)
                return self._scanner.scan_folder(wiring.tree_files(tree), name=name, allowed=allowed)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._own(descriptor, owner)
            return self._scanner.scan_file(descriptor, name=name, allowed=allowed)
        finally:
            os.close(descriptor)

    def _own(self, descriptor: int, owner: int) -> None:
        if owner not in (-1, os.fstat(descriptor).st_uid):
            raise NotPermitted("the stored artifact is not the control plane's", remedy="import the file")
