"""What disarm got out of an artifact, and what it says about it.

Rules
1. Nothing disappears in silence: what is not carried over is a `Dropped` with where it stood, what it was and why; the first `MAX_DROPPED`
   are told one by one, all are counted.
2. Text of the artifact that reaches a message is shortened and made harmless first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vouchgate.scanning.disarm.tensors import Tensor
from vouchgate.vocabulary.wire import Noun

MAX_DROPPED = 200
"""Dropped things told one by one."""
SHOWN = 160
"""Characters of one text of the artifact in a message."""

DropKind = Literal["call", "class", "name", "value", "member", "bytes", "fault"]
"""`call`: would have run while loading; `class`: its code is not here, its state was kept; `name`: a function or class held as a value;
`value`, `member`, `bytes`: data that has no place in the output; `fault`: a part that contradicts itself."""


class Dropped(Noun, frozen=True, kw_only=True):
    """One thing that is not in the output."""

    kind: DropKind
    where: str
    what: str
    why: str


@dataclass
class Findings:
    """Collected while an artifact is taken apart."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: Any = None
    """The structure around the tensors, as JSON values; see values.py for its `$` words."""
    dropped: list[Dropped] = field(default_factory=list)
    understood: bool = False
    """Whether a container or a pickle was read to its end: then nothing inside is nothing lost."""
    drops: int = 0
    """All dropped things, the ones no longer told included."""
    _told: set[tuple[str, str, str]] = field(default_factory=set)

    def drop(self, kind: DropKind, where: str, what: str, why: str) -> None:
        """Rule 1; the same thing dropped twice for the same reason is told once."""
        self.drops += 1
        key = (kind, what, why)
        if len(self.dropped) < MAX_DROPPED and key not in self._told:
            self._told.add(key)
            self.dropped.append(Dropped(kind=kind, where=shown(where) or "the whole artifact", what=shown(what), why=why))

    def keep(self, wanted: str, tensor: Tensor) -> str:
        """Put a tensor under a name of its own; the name it got."""
        name = valid_name(wanted)
        number = 2
        while name in self.tensors:
            name = f"{valid_name(wanted)}#{number}"
            number += 1
        self.tensors[name] = tensor
        return name


def valid_name(wanted: str) -> str:
    """A tensor's name that a safetensors header can hold: UTF-8, 1,000 characters, none of the format's own."""
    name = wanted[:1_000].encode("utf-8", "backslashreplace").decode()
    return "tensor" if not name else f"{name}#1" if name == "__metadata__" else name


def shown(text: str) -> str:
    """Rule 2."""
    plain = text[: SHOWN + 1].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")
    plain = "".join(character if character.isprintable() else "?" for character in plain)
    return plain[: SHOWN - 3] + "..." if len(plain) > SHOWN else plain


def ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> the first name of the same numbers in the same memory."""
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in tensors.items():
        kept = first.setdefault(tensor.tie, name)
        if kept != name and tensor.count:
            tied[name] = kept
    return tied
