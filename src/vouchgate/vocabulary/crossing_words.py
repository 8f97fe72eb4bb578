"""The words of a crossing: which actions it can name, on which kinds of things they are done, and how generated policies are named.

A group (`use`, `move`) stands for its actions. A test holds that these are the schema's own (policy/packs/ai_lifecycle.cedarschema).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

GROUPS: Mapping[str, tuple[str, ...]] = {
    "use": ("infer", "chat", "embed", "describe", "call", "read-resource", "get-prompt", "complete", "call-tool"),
    "move": (
        "ingest", "read", "transform", "label", "train", "fine-tune", "evaluate", "import", "admit", "promote", "export", "deploy",
    ),
}  # fmt: skip
"""Groups of actions, and what is in them."""
ALONE = ("exchange", "release-key", "sign")
"""Actions without a group that zones hold too; administering and approving is nothing that passes between zones."""
ENTERING = ("ingest", "import", "admit")
"""Actions that bring something in: an artifact may lie nowhere yet, and `target` says where it is to lie."""
LEAVING = ("promote", "export", "deploy")
"""Actions that take a thing out of its zone: `target` says into which; a crossing from the one to the other must cover it."""
_DATA = frozenset({"dataset", "model", "adapter", "artifact", "endpoint"})
KINDS = ("endpoint", "tool", "dataset", "model", "adapter", "artifact", "key")
"""Kinds of things that a crossing can name; a secret of [[secrets]] is a `key`."""
_ON: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(GROUPS["use"], frozenset({"endpoint"})),
    **dict.fromkeys(GROUPS["move"], _DATA),
    "call-tool": frozenset({"tool", "endpoint"}),
    "deploy": _DATA - {"dataset"},
    "exchange": frozenset({"endpoint"}),
    "release-key": _DATA | {"key"},
    "sign": _DATA | {"key"},
}
"""Action -> kinds of things on which it is done."""
POLICIES = "crossing-"
"""How the ids of the policies begin that crossings become; nobody else's policy may be named so."""
SOURCE = "crossings.cedar"
"""Under which name their text stands."""
ADMINISTRATORS = "admin"
"""Zone of the persons of [[administrators]]; it need not be among [zones] to be the source of a crossing."""


def known_actions() -> tuple[str, ...]:
    """Every action and group, sorted."""
    return tuple(sorted({*GROUPS, *ALONE, *(one for members in GROUPS.values() for one in members)}))


def expanded(actions: Iterable[str]) -> frozenset[str]:
    """Actions with the members of groups in their place."""
    return frozenset(one for name in actions for one in GROUPS.get(name, (name,)))


def kinds_of(action: str) -> frozenset[str]:
    """Kinds of things on which it is done; none for a word that is no action."""
    return _ON.get(action, frozenset())
