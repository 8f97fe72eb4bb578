"""What PyTorch's zip files share: one folder, a few known members, storages by number.

Rules (caffe2 `inline_container.cc`, `PyTorchStreamReader`; torch `serialization.py`, `_save`)
1. The archive is one that every reader reads alike (zips.py), and everything in it lies below the folder of its first member.
2. `version`, `byteorder`, `.format_version`, `.storage_alignment`, `.data/serialization_id` are short plain text.
3. Each storage that a pickle refers to is the member of its key, of exactly its size; each such member is referred to.
"""

from __future__ import annotations

from typing import NoReturn

from vouchgate.scanning.pickles.torch_storages import Storage
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.verdict import Refuse
from vouchgate.scanning.zips import Entry, Zip, open_zip

PICKLE, CONSTANTS = "data.pkl", "constants.pkl"
REMEDY = "write the file again with `torch.save`, or the weights alone with `safetensors.torch.save_file`"
MAX_TEXT = 128
"""Bytes of a member that is plain text."""
TEXTS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id", ".data/version")
_BYTEORDERS = (b"little", b"big")


def folder_of(names: frozenset[str]) -> str | None:
    """The folder that has `data.pkl`, from a listing; None where there is none."""
    found = [name.removesuffix(PICKLE) for name in names if name.endswith(f"/{PICKLE}") and name.count("/") == 1]
    return found[0] if len(found) == 1 else None


class Archive:
    """A torch zip, opened (rule 1) and its plain members read (rule 2). Raises `Refuse`."""

    def __init__(self, view: memoryview, scope: Scope, rule: str) -> None:
        self.zip: Zip = open_zip(view, scope, rule)
        self._scope, self._rule = scope, rule
        first = min(self.zip.files, key=lambda entry: entry.header_at).name
        self.top = first[: first.find("/") + 1]
        self.left: dict[str, Entry] = {}
        """Members not accounted for yet, by name below the folder."""
        for entry in self.zip.files:
            if not self.top or not entry.name.startswith(self.top):
                self.refuse("outside", entry.name, "it lies outside of the archive's own folder")
            self.left[entry.name.removeprefix(self.top)] = entry
        for name in TEXTS:
            self._text(name)

    def take(self, name: str) -> memoryview | None:
        """A member's bytes, accounted for; None where there is none."""
        entry = self.left.pop(name, None)
        return None if entry is None else self.zip.content(entry, self._scope)

    def storages(self, storages: dict[str, Storage], folder: str, *, may_lack: bool = False) -> None:
        """Rule 3; with `may_lack`, a member may also be empty."""
        for key, storage in storages.items():
            name = f"{folder}{key}"
            data = self.take(name)
            if data is None:
                self.refuse("storage-missing", name, "the pickle refers to it, and it is not there")
            if len(data) != storage.size and (data or not may_lack):
                self.refuse("storage-size", name, f"it has {len(data)} bytes, the pickle refers to {storage.size}")

    def done(self) -> None:
        """Nothing may be left."""
        for name in self.left:
            self.refuse("unreferenced", name, "nothing in the archive refers to it")

    def _text(self, name: str) -> None:
        entry = self.left.get(name)
        if entry is None:
            return
        if entry.size > MAX_TEXT:
            self.refuse("text", name, f"it is over {MAX_TEXT} bytes")
        text = bytes(self.take(name) or b"")
        if name == "byteorder" and text not in _BYTEORDERS:
            self.refuse("byteorder", name, "it is neither little nor big")
        if not text.isascii() or not all(32 <= byte < 127 or byte in b"\n" for byte in text):
            self.refuse("text", name, "it is no plain text")

    def refuse(self, rule: str, name: str, why: str) -> NoReturn:
        """End the reading."""
        raise Refuse(f"{self._rule}:{rule}", f"member `{shown(name)}`", why, REMEDY)
