"""torch's files: the zip of today, the row of pickles of before 1.6.

Rules (torch/serialization.py, `_save`, `_load`, `_legacy_save`, `_legacy_load`)
1. Zip: NAME/data.pkl holds the object, NAME/data/KEY a storage's bytes, NAME/byteorder `little` or `big`. Other members are not carried over.
2. Legacy: magic number, protocol, system information, object, list of keys, each a pickle; then each storage of that list as a count of
   elements (8 bytes) and the elements.
3. A storage is made once a key, so that tensors that share it are seen to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vouchgate.scanning.disarm.archives import Archive
from vouchgate.scanning.disarm.found import Findings
from vouchgate.scanning.disarm.numpy_objects import storage_of
from vouchgate.scanning.disarm.objects import Apart
from vouchgate.scanning.disarm.tensors import DTYPE_BYTES, BadTensor, Storage
from vouchgate.scanning.disarm.torch_objects import DTYPES, Stored, storage_class
from vouchgate.scanning.pickles.dialects import Dialect
from vouchgate.scanning.pickles.machine import Ran, run
from vouchgate.scanning.pickles.values import Dict, List, Made, Persistent, Tuple, Value
from vouchgate.scanning.scope import Scope

MAGIC = 0x1950A86A20F9469CFC6C
"""torch/serialization.py, MAGIC_NUMBER."""
_PACKED = {"quint4x2": 2, "quint2x4": 4}
_ANY = Dialect(name="torch", persistent=lambda value: "")
_KNOWN_MEMBERS = ("byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id", "data.pkl")


def parts_of(value: Persistent) -> tuple[str, str, tuple[Value, ...]]:
    """dtype, key and what follows of a persistent id. Raises `BadTensor`."""
    items = value.id.items if isinstance(value.id, Tuple | List) else ()
    if len(items) < 5 or items[0] != "storage" or not isinstance(items[2], str | int):
        raise BadTensor("its storage's id is not one of torch's")
    return storage_class(items[1]), str(items[2]), tuple(items[3:])


class Inside:
    """Storages of a plain pickle: each is a whole file of torch's, legacy or zip, within the pickle (`torch.storage._load_from_bytes`)."""

    def __init__(self, view: memoryview, origin: int, scope: Scope, findings: Findings) -> None:
        self._view, self._origin, self._scope, self._findings = view, origin, scope, findings
        self._known: dict[int, tuple[Value, Stored]] = {}

    def find(self, value: Value) -> Stored:
        """Raises `BadTensor`."""
        if id(value) not in self._known:
            self._known[id(value)] = (value, self._opened(value))
        return self._known[id(value)][1]

    def _opened(self, value: Value) -> Stored:
        stored = storage_of(self._view, self._origin, value.args[0]) if isinstance(value, Made) else None
        if stored is None:
            raise BadTensor("its storage is not in the file")
        if bytes(stored.view[:4]) == b"PK\x03\x04":
            opened = _opened_zip(Archive(stored.view, stored.begin, self._scope, self._findings), self._scope)
        else:
            opened = _opened_legacy(stored.view, stored.begin, self._scope, self._findings)
        if opened is None or not isinstance(opened.ran.value, Persistent):
            raise BadTensor("the file of torch's inside it holds no storage")
        return opened.storages.find(opened.ran.value)


class Storages:
    """Rule 3: storages by key."""

    def __init__(self, content: Callable[[str], Storage | None], *, big_endian: bool) -> None:
        self._content, self._big_endian = content, big_endian
        self._known: dict[str, Storage] = {}

    def find(self, value: Value) -> Stored:
        """Raises `BadTensor`."""
        if not isinstance(value, Persistent):
            raise BadTensor("its storage is a file of its own, where only an id may stand")
        dtype, key, rest = parts_of(value)
        if key not in self._known:
            raw = self._content(key)
            if raw is None:
                raise BadTensor(f"its storage `{key[:40]}` is not in the file")
            self._known[key] = Storage(raw.view, raw.begin, self._big_endian)
        return Stored(storage=self._known[key], dtype=dtype, first=_first(rest))


def _first(rest: tuple[Value, ...]) -> int:
    """Elements before a view of a legacy storage: (key, offset, size) as the last part of its id."""
    part = rest[2] if len(rest) > 2 else None
    items = part.items if isinstance(part, Tuple | List) else ()
    return items[1] if len(items) == 3 and type(items[1]) is int and items[1] >= 0 else 0


@dataclass(frozen=True)
class Opened:
    """A file of torch's: what its pickle gives, and its storages."""

    pickled: Storage
    ran: Ran
    storages: Storages
    base: str = ""
    """Folder inside the zip, with its `/`."""


def from_zip(archive: Archive, path: str, scope: Scope, findings: Findings) -> bool:
    """Rule 1; whether the archive is one of torch's."""
    opened = _opened_zip(archive, scope)
    if opened is None:
        return False
    _apart(opened, path, findings)
    for name in archive.members:
        inside = name.removeprefix(opened.base)
        if not (name.endswith("/") or inside in _KNOWN_MEMBERS or inside.startswith("data/")):
            findings.drop("member", name, name, "only tensors and plain values are carried over")
    if 0 <= opened.ran.end < len(opened.pickled.view):
        behind = len(opened.pickled.view) - opened.ran.end
        findings.drop("bytes", opened.base + "data.pkl", f"{behind} bytes behind the pickle", "no loader reads them as the object")
    return True


def from_legacy(stored: Storage, path: str, scope: Scope, findings: Findings) -> bool:
    """Rule 2; whether the bytes are such a file."""
    opened = _opened_legacy(stored.view, stored.begin, scope, findings)
    if opened is not None:
        _apart(opened, path, findings)
    return opened is not None


def _apart(opened: Opened, path: str, findings: Findings) -> None:
    findings.understood = findings.understood or opened.ran.end > 0
    findings.values = Apart(opened.pickled.view, opened.pickled.begin, opened.storages.find, findings).take(opened.ran.value, path)


def _opened_zip(archive: Archive, scope: Scope) -> Opened | None:
    names = sorted(
        (name for name in archive.members if name == "data.pkl" or name.endswith("/data.pkl")), key=lambda name: (len(name), name)
    )
    pickled = archive.content(names[0]) if names else None
    if pickled is None:
        return None
    base = names[0].removesuffix("data.pkl")
    order = archive.content(base + "byteorder")
    storages = Storages(lambda key: archive.content(f"{base}data/{key}"), big_endian=order is not None and bytes(order.view) == b"big")
    return Opened(pickled, run(pickled.view, scope, dialect=_ANY, keep=True), storages, base)


def _opened_legacy(view: memoryview, origin: int, scope: Scope, findings: Findings) -> Opened | None:
    here, heads = 0, list[Value]()
    for _ in range(3):
        ran = run(view, scope, dialect=_ANY, begin=here, keep=True)
        if ran.end < 0 or (not heads and ran.value != MAGIC):
            return None
        heads.append(ran.value)
        here = ran.end
    found = run(view, scope, dialect=_ANY, begin=here, keep=True)
    keys = run(view, scope, dialect=_ANY, begin=found.end, keep=True) if found.end > 0 else None
    placed: dict[str, Storage] = {}
    if keys is not None and keys.end > 0 and isinstance(keys.value, List):
        widths = {key: width for key, width in map(_width, found.persistent) if key}
        placed = _placed(view, origin, keys.end, [str(key) for key in keys.value.items], widths, findings)
    return Opened(Storage(view, origin), found, Storages(placed.get, big_endian=_big_endian(heads[2])))


def _width(value: Persistent) -> tuple[str, tuple[int, int]]:
    """Key, and (bytes, elements) that belong together in that storage."""
    try:
        dtype, key, _ = parts_of(value)
    except BadTensor:
        return "", (0, 1)
    name, numbers = DTYPES[dtype]
    return key, (numbers * DTYPE_BYTES[name], _PACKED.get(dtype, 1))


def _placed(
    view: memoryview, origin: int, here: int, keys: list[str], widths: dict[str, tuple[int, int]], findings: Findings
) -> dict[str, Storage]:
    """Where each storage of the list lies; the first that does not fit ends it."""
    placed: dict[str, Storage] = {}
    for key in keys:
        width = widths.get(key)
        count = int.from_bytes(view[here : here + 8], "little", signed=True)
        length = -1 if width is None else -(-count // width[1]) * width[0]
        if length < 0 or here + 8 + length > len(view):
            findings.drop("fault", f"storage {key}", f"storage {key}", "its bytes do not lie in the file; nor can what follows it be found")
            return placed
        placed[key] = Storage(view[here + 8 : here + 8 + length], origin + here + 8 if origin >= 0 else -1)
        here += 8 + length
    if here < len(view):
        findings.drop("bytes", f"offset {here}", f"{len(view) - here} bytes behind the last storage", "they belong to no tensor")
    return placed


def _big_endian(system: Value) -> bool:
    """What the file's system information says of its byte order."""
    return isinstance(system, Dict) and any(key == "little_endian" and item is False for key, item in system.pairs)
