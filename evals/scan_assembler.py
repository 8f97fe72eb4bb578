"""Pickles written opcode by opcode, and what one file of the evaluation is. Frozen with the generators (scan.py, `FROZEN`).

Nothing here is ever loaded by the evaluation.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

CANARY = "/tmp/vouchgate-canary/fired"
COMMAND = f"touch {CANARY}"
CODE = f"open({CANARY!r},'w').close()"


@dataclass(frozen=True)
class Item:
    """One file, or one folder by relative path."""

    name: str
    family: str
    """`pickle`, or the format of another family; the pickle family is what runs a pickle when it is opened."""
    technique: str
    content: bytes | dict[str, bytes] = field(repr=False)
    pickled: bool = True
    """Whether it belongs to the pickle family."""


# --- an assembler ------------------------------------------------------------------------------------------------------------------------


def text(value: str, protocol: int = 4) -> bytes:
    raw = value.encode()
    if protocol >= 4 and len(raw) < 256:
        return b"\x8c" + bytes([len(raw)]) + raw
    if protocol >= 1:
        return b"X" + struct.pack("<I", len(raw)) + raw
    return b"V" + value.encode("raw-unicode-escape") + b"\n"


def number(value: int, protocol: int = 4) -> bytes:
    return b"K" + bytes([value]) if protocol and 0 <= value < 256 else b"I%d\n" % value


def plain(value: object, protocol: int = 4) -> bytes:
    """A plain value pushed."""
    if isinstance(value, Raw):
        return value.code
    if value is None:
        return b"N"
    if value is True or value is False:
        return (b"\x88" if value else b"\x89") if protocol >= 2 else (b"I01\n" if value else b"I00\n")
    if isinstance(value, int):
        return number(value, protocol)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value) if protocol else b"F%r\n" % value
    if isinstance(value, str):
        return text(value, protocol)
    if isinstance(value, bytes):
        return b"C" + bytes([len(value)]) + value if len(value) < 256 else b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(plain(one, protocol) for one in value) + b"t"
    if isinstance(value, list):
        return b"(" + b"".join(plain(one, protocol) for one in value) + b"l"
    if isinstance(value, dict):
        return b"(" + b"".join(plain(one, protocol) for pair in value.items() for one in pair) + b"d"
    raise TypeError(type(value))


@dataclass(frozen=True)
class Raw:
    """Opcodes in the place of a value."""

    code: bytes


def name(module: str, qualified: str, protocol: int = 4) -> bytes:
    """The name pushed."""
    if protocol >= 4:
        return text(module) + text(qualified) + b"\x93"
    return b"c" + f"{module}\n{qualified}\n".encode()


def call(module: str, qualified: str, *arguments: object, protocol: int = 4) -> bytes:
    """REDUCE of a name."""
    return name(module, qualified, protocol) + plain(arguments, protocol) + b"R"


def whole(body: bytes, protocol: int = 4, *, framed: bool = False) -> bytes:
    """A stream: PROTO (from 2 on), a frame where asked, the body, STOP."""
    head = b"\x80" + bytes([protocol]) if protocol >= 2 else b""
    inside = body + b"."
    return head + (b"\x95" + struct.pack("<Q", len(inside)) + inside if framed else inside)


def estimator(module: str, qualified: str, state: dict[str, object], protocol: int = 4) -> bytes:
    """NEWOBJ of a class and BUILD of its attributes."""
    return name(module, qualified, protocol) + b")\x81" + plain(state, protocol) + b"b"


def boom(protocol: int = 4) -> bytes:
    return call("os", "system", COMMAND, protocol=protocol)


SYSTEM = Raw(name("os", "system"))
EVAL = Raw(name("builtins", "eval"))


def as_json(value: object) -> bytes:
    """A value as JSON, in UTF-8."""
    return json.dumps(value).encode()
