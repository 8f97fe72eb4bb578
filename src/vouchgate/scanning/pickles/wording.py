"""How the pickle machine's reasons are worded."""

from __future__ import annotations

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
    """What to do about a name that is refused: as above, or allow it for this one file."""
    own = shown(name.full)
    return f"{REMEDY}; a class of your own is let in for this file alone by `vouchgate knowledge allow {own} --for sha256:... --why ...`"


def show(text: str) -> str:
    """A name in a message."""
    return shown(text)


def arguments(args: tuple[Value, ...]) -> str:
    """` with ...`, or nothing where there are no arguments."""
    if not args:
        return ""
    parts = [f"`{shown(one.full if isinstance(one, Name) else one)}`" for one in args[:MAX_ARGUMENTS]]
    return f" with {', '.join(parts)}{', ...' if len(args) > MAX_ARGUMENTS else ''}"
