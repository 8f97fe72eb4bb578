"""Makes pickles that refer to names without having them: what torch, numpy or an attacker would write, without torch or an attack."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any

MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(eq=False)
class Global:
    """A name, pushed by GLOBAL or STACK_GLOBAL."""

    module: str
    name: str


@dataclass(eq=False)
class Call:
    """REDUCE of a name; with `state`, BUILD after it; with `new`, NEWOBJ instead."""

    module: str
    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    new: bool = False
    items: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Storage:
    """A storage of torch's, by persistent id."""

    kind: str
    key: str
    data: bytes
    count: int
    view: tuple[str, int, int] | None = None
    legacy: bool = False


class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Python's own, with these three kinds; names are never imported."""

    def __init__(self, file: Any, protocol: int) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, Storage] = {}

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        tail = (value.view,) if value.legacy else ()
        return ("storage", Global("torch", value.kind), value.key, "cpu", value.count, *tail)

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Global):
            found = self.memo.get(id(value))
            if found is not None:
                self.write(self.get(found[0]))
            else:
                self.write(b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n")
                self.memoize(value)
        elif isinstance(value, Call):
            self._call(value)
        else:
            super().save(value, save_persistent_id)

    def _call(self, value: Call) -> None:
        found = self.memo.get(id(value))
        if found is not None:
            self.write(self.get(found[0]))
            return
        self.save(Global(value.module, value.name))
        self.save(value.args)
        self.write(pickle.NEWOBJ if value.new else pickle.REDUCE)
        self.memoize(value)
        for item in value.items:
            self.save(item)
            self.write(pickle.APPEND)
        if value.state is not None:
            self.save(value.state)
            self.write(pickle.BUILD)


def pickled(value: Any, protocol: int = 2) -> bytes:
    """One pickle."""
    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def torch_zip(value: Any, *, big_endian: bool = False, more: dict[str, bytes] | None = None, packed: bool = False) -> bytes:
    """A file as `torch.save` writes it today."""
    inner = io.BytesIO()
    pickler = Pickler(inner, 2)
    pickler.dump(value)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", inner.getvalue())
        archive.writestr("archive/byteorder", b"big" if big_endian else b"little")
        for storage in pickler.storages.values():
            archive.writestr(f"archive/data/{storage.key}", storage.data)
        archive.writestr("archive/version", b"3\n")
        for name, data in (more or {}).items():
            archive.writestr(name, data)
    return out.getvalue()


def torch_legacy(value: Any, *, behind: bytes = b"") -> bytes:
    """A file as `torch.save` wrote it before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    out = io.BytesIO()
    out.write(pickled(MAGIC) + pickled(1001) + pickled(system))
    pickler = Pickler(out, 2)
    pickler.dump(value)
    keys = sorted(pickler.storages)
    out.write(pickled(keys))
    for key in keys:
        storage = pickler.storages[key]
        out.write(struct.pack("<q", storage.count) + storage.data)
    return out.getvalue() + behind


def tensor(storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Call:
    """What `_rebuild_tensor_v2` is called with."""
    hooks = Call("collections", "OrderedDict")
    return Call("torch._utils", "_rebuild_tensor_v2", (storage, offset, shape, strides, False, hooks))


def floats(key: str, *numbers: float, big_endian: bool = False, legacy: bool = False) -> Storage:
    """A storage of float32."""
    data = struct.pack(f"{'>' if big_endian else '<'}{len(numbers)}f", *numbers)
    return Storage("FloatStorage", key, data, len(numbers), legacy=legacy)


def payload(module: str = "posix", name: str = "system") -> Call:
    """What an attacker wraps a model in; harmless if it ever ran."""
    return Call(module, name, ("touch canary",))
