"""Base: a knowledge base read from its bytes and verified before any of it is believed.

Steps, in this order; the first that fails refuses all of it
1. The manifest's envelope is signed by a publisher that the source names (sealed.py).
2. The parts that are there are exactly those that the manifest names, each with its digest.
3. No name stands in two parts: which library speaks of a name must not depend on an order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.parts import Manifest, Part, entries_of, entry_of
from vouchgate.scanning.knowledge.sealed import PUBLISHERS, opened
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.wire import decode

MANIFEST = "manifest.json"
"""The envelope's file name beside the parts."""
_REMEDY = "install vouchgate again from a source that you trust"


class Base:
    """The knowledge base of one version. Entries are made when they are first asked for."""

    fault = ""

    def __init__(self, manifest: Manifest, digest: str, signer: str, parts: tuple[Part, ...]) -> None:
        self.manifest = manifest
        self.digest = digest
        self.signer = signer
        self.parts = parts
        self._modules = _by_module(parts)
        self._names: dict[str, dict[str, tuple[Part, int]]] = {}
        self._entries: dict[tuple[str, str], Entry] = {}

    @property
    def version(self) -> int:
        """Only rises."""
        return self.manifest.version

    def find(self, module: str, name: str) -> Entry | None:
        """The entry of exactly this name."""
        known = self._entries.get((module, name))
        if known is not None:
            return known
        found = self._of(module).get(name)
        if found is None:
            return None
        part, kind = found
        entry = self._entries[module, name] = entry_of(part, part.kinds[kind], module, name)
        return entry

    def entries(self) -> Iterator[Entry]:
        """All of them, library by library."""
        for part in self.parts:
            yield from entries_of(part)

    def _of(self, module: str) -> Mapping[str, tuple[Part, int]]:
        known = self._names.get(module)
        if known is None:
            known = {
                name: (part, int(kind))
                for part in self._modules.get(module, ())
                for kind, names in part.modules[module].items()
                for name in names.split(" ")
            }
            if self._modules.get(module):
                self._names[module] = known
        return known


def read(files: Mapping[str, bytes], publishers: Sequence[str] = PUBLISHERS) -> Base:
    """The knowledge base that these files are: `manifest.json` and parts, by file name. Raises `Unverified`."""
    envelope = files.get(MANIFEST)
    if envelope is None:
        raise Unverified("the knowledge base has no manifest", remedy=_REMEDY)
    payload, signer = opened(envelope, publishers)  # 1
    try:
        manifest = decode(Manifest, payload, what="knowledge base's manifest")
        parts = tuple(_part(name, digest, files) for name, digest in sorted(manifest.parts.items()))  # 2
    except InvalidInput as error:
        raise Unverified(error.reason, remedy=_REMEDY) from None
    extra = sorted(set(files) - set(manifest.parts) - {MANIFEST})
    if extra:
        raise Unverified(f"the knowledge base's manifest does not name `{extra[0]}`", remedy=_REMEDY)
    return Base(manifest, hashlib.sha256(payload).hexdigest(), signer, parts)


def _part(name: str, digest: str, files: Mapping[str, bytes]) -> Part:
    data = files.get(name)
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        raise Unverified(f"the knowledge base's part `{name}` is not the one that was signed", remedy=_REMEDY)
    return decode(Part, data, what=f"knowledge base's part `{name}`")


def _by_module(parts: tuple[Part, ...]) -> dict[str, tuple[Part, ...]]:
    modules: dict[str, tuple[Part, ...]] = {}
    for part in parts:
        for module in part.modules:
            shared = modules.get(module)
            if shared:
                _check_apart(shared, part, module)  # 3
            modules[module] = (*shared, part) if shared else (part,)
    return modules


def _check_apart(shared: tuple[Part, ...], part: Part, module: str) -> None:
    mine = {name for names in part.modules[module].values() for name in names.split(" ")}
    theirs = {name for other in shared for names in other.modules[module].values() for name in names.split(" ")}
    if mine & theirs:
        raise Unverified(f"two parts of the knowledge base speak of `{module}.{min(mine & theirs)}`", remedy=_REMEDY)
