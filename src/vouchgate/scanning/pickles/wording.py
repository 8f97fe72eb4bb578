"""How the pickle machine's reasons are worded."""

from __future__ import annotations

from functools import cache

from vouchgate.scanning.knowledge.base import Base
from vouchgate.scanning.knowledge.overlay import fault_of
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.pickles.fitting import shown
from vouchgate.scanning.pickles.values import Name, Value

MAX_ARGUMENTS = 4
"""Arguments shown of a call."""
REMEDY = (
    "ask for the weights as safetensors or ONNX, or take them out with `vouchgate disarm`; where you trust where it came from, load it there once and "
    "save what it holds in one of them"
)
BROKEN_REMEDY = "check the download, or export the object again with the library it came from"


def remedy(name: Name) -> str:
    """What to do about a name that is refused: as above; a class of one's own may be answered for, in this one file."""
    if not _may_be_own(name):
        return REMEDY
    own = shown(name.full)
    return f"{REMEDY}; a class of your own is let in for this file alone by `vouchgate knowledge allow {own} --for sha256:... --why ...`"


def _may_be_own(name: Name) -> bool:
    """Whether somebody could have written this class: no function, nothing of the standard library, nothing of a library that was looked at,
    whose names outside of the knowledge base were left out because they act, or were never found to be harmless."""
    last = name.name.rpartition(".")[2].lstrip("_")
    if not last[:1].isupper() or fault_of(name.module, name.name, "constructible", ""):
        return False
    return name.module.partition(".")[0] not in _looked_at()


@cache
def _looked_at() -> frozenset[str]:
    """Packages that the knowledge base that ships speaks of."""
    base = shipped()
    parts = base.parts if isinstance(base, Base) else ()
    return frozenset(module.partition(".")[0] for part in parts for module in part.modules)


def show(text: str) -> str:
    """A name in a message."""
    return shown(text)


def arguments(args: tuple[Value, ...]) -> str:
    """` with ...`, or nothing where there are no arguments."""
    if not args:
        return ""
    parts = [f"`{shown(one.full if isinstance(one, Name) else one)}`" for one in args[:MAX_ARGUMENTS]]
    return f" with {', '.join(parts)}{', ...' if len(args) > MAX_ARGUMENTS else ''}"
