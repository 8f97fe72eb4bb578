"""Writes pickles opcode by opcode, so that each test can say exactly what no pickler would. Nothing here is ever loaded."""

from __future__ import annotations

import io
import struct
import zipfile

STOP = b"."
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C


def name(module: str, qualified: str) -> bytes:
    """GLOBAL."""
    return b"c" + module.encode() + b"\n" + qualified.encode() + b"\n"


def text(value: str) -> bytes:
    """BINUNICODE."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """BININT."""
    return b"J" + struct.pack("<i", value)


def several(*items: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def called(callee: bytes, *args: bytes) -> bytes:
    """REDUCE."""
    return callee + several(*args) + b"R"


def made(kind: bytes, *args: bytes) -> bytes:
    """NEWOBJ."""
    return kind + several(*args) + b"\x81"


def program(*parts: bytes, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes((protocol,)) + b"".join(parts) + STOP


def storage(key: str = "0", elements: int = 4, kind: str = "FloatStorage", location: str = "cpu", *more: bytes) -> bytes:
    """A persistent id of torch's."""
    return several(text("storage"), name("torch", kind), text(key), text(location), number(elements), *more) + b"Q"


def hooks() -> bytes:
    """`OrderedDict()`."""
    return called(name("collections", "OrderedDict"))


def tensor(
    where: bytes, offset: int = 0, size: tuple[int, ...] = (2, 2), stride: tuple[int, ...] = (2, 1), with_hooks: bytes = b""
) -> bytes:
    """`torch._utils._rebuild_tensor_v2(...)`."""
    sizes, strides = (several(*map(number, one)) for one in (size, stride))
    callee = name("torch._utils", "_rebuild_tensor_v2")
    return called(callee, where, number(offset), sizes, strides, b"\x89", with_hooks or hooks())


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip as Python writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return out.getvalue()


def torch_zip(pickled: bytes, storages: dict[str, bytes] | None = None, **more: bytes) -> bytes:
    """What `torch.save` writes around a pickle."""
    held = {"0": bytes(16)} if storages is None else storages
    members = {
        "m/data.pkl": pickled,
        "m/byteorder": b"little",
        **{f"m/data/{key}": data for key, data in held.items()},
        "m/version": b"3\n",
    }
    return zipped(members | {f"m/{key}": data for key, data in more.items()})


def torch_legacy(pickled: bytes, storages: dict[str, bytes], item: int = 4) -> bytes:
    """What `torch.save` wrote before 1.6."""
    head = b"\x80\x02\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"." + program(b"M\xe9\x03") + program(b"}")
    keys = program(b"](" + b"".join(map(text, storages)) + b"e")
    data = b"".join(struct.pack("<Q", len(one) // item) + one for one in storages.values())
    return head + pickled + keys + data
