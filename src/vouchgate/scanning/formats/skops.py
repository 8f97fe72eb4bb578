"""skops files: a zip with a schema of nodes (skops_nodes.py) and the arrays that they refer to.

Rules
1. `schema.json` is strict JSON; its root is a node with a protocol that skops knows. A schema of something else leaves a plain archive.
2. Every other member belongs to a node, and is what that node reads: an array without objects, a sparse matrix, or plain bytes that nothing interprets.
"""

from __future__ import annotations

from typing import Any

from vouchgate.scanning.archived import members_of, scan_members
from vouchgate.scanning.scope import UNPACK_REMEDY, Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.skops_nodes import PROTOCOLS, REMEDY, Nodes
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.strict_json import strict
from vouchgate.scanning.verdict import Reading, Refuse
from vouchgate.scanning.zips import STORED, Zip, open_zip

NAME = "skops"
SCHEMA = "schema.json"
_ONLY = {"array": ("numpy",), "sparse": ("numpy-archive",)}
_ROOT = ("protocol", "_skops_version")


def recognise(sight: Sight) -> Claim:
    """By the schema's name: whether it is one is seen once it is read."""
    return (
        Claim(strength="certain", kind=NAME, because=f"a zip archive with {SCHEMA}", above=("zip",))
        if SCHEMA in sight.zip_names
        else NOT_MINE
    )


def read(sight: Sight, scope: Scope) -> Reading:
    """The schema, then every file that it refers to."""
    archive = open_zip(sight.view, scope, NAME)
    entry = archive.get(SCHEMA)
    if entry is None:
        raise Refuse(f"{NAME}:schema", SCHEMA, "the archive's directory does not list it as a file of its own", REMEDY)
    schema = strict(Sight(archive.content(entry, scope)), NAME, SCHEMA)
    if not isinstance(schema, dict) or "__loader__" not in schema:
        scan_members(members_of(archive, scope), scope)
        return Reading(covered=archive.covered, facts={"members": len(archive.files)})
    protocol = schema.get("protocol")
    if type(protocol) is not int or protocol not in PROTOCOLS:
        raise Refuse(f"{NAME}:protocol", SCHEMA, "its protocol is none that skops knows", REMEDY)
    view, placed = _placed(archive, scope)
    nodes = Nodes(scope.knowledge, protocol, view, placed)
    reasons = nodes.read({key: value for key, value in schema.items() if key not in _ROOT})
    _files(view, placed, nodes.files, scope)
    return Reading(covered=archive.covered, reasons=reasons, facts=_facts(schema, nodes))


def _placed(archive: Zip, scope: Scope) -> tuple[memoryview, dict[str, tuple[int, int]]]:
    """One view with all files, and where each lies in it: the archive itself where none is packed, else all of them unpacked behind each other."""
    files = [entry for entry in archive.files if entry.name != SCHEMA]
    if all(entry.method == STORED for entry in files):
        return archive.view, {entry.name: (entry.data_at, len(archive.content(entry, scope))) for entry in files}
    if sum(entry.size for entry in files) > scope.settings.max_unpacked_member:
        raise Refuse(
            f"{NAME}:bomb", "whole archive", f"its files take over {scope.settings.max_unpacked_member} bytes unpacked", UNPACK_REMEDY
        )
    whole, placed = bytearray(), {}
    for entry in files:
        placed[entry.name] = (len(whole), entry.size)
        whole += archive.content(entry, scope)
    return memoryview(whole).toreadonly(), placed


def _files(view: memoryview, placed: dict[str, tuple[int, int]], files: dict[str, str], scope: Scope) -> None:
    """Rule 2."""
    for name, (begin, length) in placed.items():
        kind = files.pop(name, "")
        if not kind:
            raise Refuse(f"{NAME}:extra-file", f"member `{shown(name)}`", "no node of the schema refers to it", REMEDY)
        if kind in _ONLY:
            scope.inner(name, view[begin : begin + length], only=_ONLY[kind])
        else:
            scope.spend_member(name)
    if files:
        raise Refuse(f"{NAME}:missing-file", SCHEMA, f"it refers to `{shown(next(iter(files)))}`, which is not in the archive", REMEDY)


def _facts(schema: dict[str, Any], nodes: Nodes) -> dict[str, Any]:
    return {"class": shown(f"{schema['__module__']}.{schema['__class__']}"), "nodes": nodes.nodes, "protocol": schema["protocol"]}
