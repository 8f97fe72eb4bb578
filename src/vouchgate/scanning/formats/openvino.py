"""OpenVINO IR: a graph in XML, and its constants in a `.bin` of the same name.

Rules (OpenVINO IR format, versions 10 and 11)
1. XML as in xml_elements.py, root `net`. Every layer is of one of OpenVINO's own operation sets; `extension` or any other set is code from outside.
2. A constant's place and size fit its type and shape. In a folder, the constants lie within the `.bin` and together explain every byte of it.
3. Nothing names a file: no layer has a library, path or kernel.
"""

from __future__ import annotations

import posixpath
from math import prod

from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder
from vouchgate.scanning.verdict import Reading, Refuse
from vouchgate.scanning.xml_elements import Attributes, read_xml, root_of

NAME = "openvino"
REMEDY = "convert the model again (`openvino.save_model`) with standard operations only"
MAX_ELEMENTS = 2**48
_SETS = frozenset((*(f"opset{number}" for number in range(1, 18)), "ie_internal_opset", "util", "type_relaxed_opset", "experimental"))
"""Operation sets of the runtime itself."""
_FILES = frozenset(("library", "path", "kernel", "filename", "file", "source", "impl"))
_BITS = {
    "f64": 64, "f32": 32, "f16": 16, "bf16": 16, "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i4": 4, "u64": 64, "u32": 32, "u16": 16, "u8": 8,
    "u6": 6, "u4": 4, "u3": 3, "u2": 2, "u1": 1, "boolean": 8, "nf4": 4, "f8e4m3": 8, "f8e5m2": 8, "f8e8m0": 8, "f4e2m1": 4,
}  # fmt: skip
Constant = tuple[int, int]
"""Offset and size in the `.bin`."""


def recognise(sight: Sight) -> Claim:
    """The root element and a layer behind it."""
    if b"<net" not in sight.head or b"<layer" not in sight.head or root_of(sight.head, whole=len(sight.head) == len(sight)) != "net":
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="XML whose root is a net of layers", above=("xml", "text", "csv", "yaml"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Every layer."""
    del scope
    check = _graph(sight)
    return Reading(covered=len(sight), facts={"layers": check.layers, "constants": len(check.constants)})


def _graph(sight: Sight) -> _Check:
    check = _Check()
    seen = read_xml(sight.view, NAME, check.begin)
    if seen.acts:
        raise Refuse(f"{NAME}:acts", f"line {seen.acts[0][0]}", seen.acts[0][1], REMEDY)
    return check


class _Check:
    """Collects over the elements."""

    def __init__(self) -> None:
        self.layers = 0
        self.constants: set[Constant] = set()
        self._type = self._where = ""

    def begin(self, path: tuple[str, ...], attributes: Attributes) -> None:
        if path[-1] == "layer":
            self.layers += 1
            self._type, self._where = attributes.get("type", ""), f"layer `{shown(attributes.get('name', ''))}`"
            if attributes.get("version") not in _SETS:
                self._refuse(
                    "custom-operation", f"it is of `{shown(attributes.get('version', ''))}`, whose code comes from outside the runtime"
                )
        elif path[-1] == "data" and path[-2:-1] == ("layer",):
            named = sorted(_FILES & {key.lower() for key in attributes})
            if named:
                self._refuse("file", f"its `{named[0]}` names a file")
            if self._type == "Const":
                self._constant(attributes)

    def _refuse(self, rule: str, why: str) -> None:
        raise Refuse(f"{NAME}:{rule}", self._where, why, REMEDY)

    def _constant(self, attributes: Attributes) -> None:
        """Rule 2; strings are packed, with a size of their own."""
        offset, size = _number(attributes.get("offset", "")), _number(attributes.get("size", ""))
        shape = [_number(part.strip()) for part in attributes.get("shape", "").split(",") if part.strip()]
        kind = attributes.get("element_type", "")
        if offset < 0 or size < 0 or min(shape, default=0) < 0:
            self._refuse("constant", "its offset, size or shape is no number")
        if kind != "string" and (kind not in _BITS or prod(shape) > MAX_ELEMENTS or -(-prod(shape) * _BITS[kind] // 8) != size):
            self._refuse("constant", f"its {size} bytes are not what its type and shape take")
        self.constants.add((offset, size))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


_BESIDE = (".md", ".txt", ".json", ".yaml", ".yml", ".mapping", "LICENSE", ".gitattributes")
"""What may lie beside a graph and its constants without making the folder something else, or many things."""


def recognise_folder(names: frozenset[str]) -> Claim:
    """A graph with constants of the same name beside it, at the top, and little else: where a configuration is there too, the folder is that format's."""
    graphs = [name for name in _pairs(names) if "/" not in name]
    paired = {*graphs, *(f"{name.removesuffix('.xml')}.bin" for name in graphs)}
    if not graphs or any("/" in name or name == "config.json" or not name.endswith(_BESIDE) for name in names - paired):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because=f"`{shown(graphs[0])}` with its constants")


def _pairs(names: frozenset[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".xml") and f"{name.removesuffix('.xml')}.bin" in names)


def raw_files(names: frozenset[str]) -> frozenset[str]:
    """The constants beside each graph: bytes of no format by themselves."""
    return frozenset(f"{name.removesuffix('.xml')}.bin" for name in _pairs(names))


def read_folder(folder: Folder, scope: Scope) -> Reading:
    """The constants of each graph explain its `.bin`."""
    del scope
    size = 0
    for name in sorted(folder.names):
        sight = folder.sight(name)
        size += len(sight) if sight else 0
    for name in _pairs(folder.names):
        graph, binary = folder.sight(name), f"{name.removesuffix('.xml')}.bin"
        content = folder.sight(binary)
        if graph is None or content is None or folder.kinds.get(name) != NAME:
            raise Refuse(f"{NAME}:constants", shown(binary), f"`{shown(name)}` is no graph that explains its bytes", REMEDY)
        _tiled(_graph(graph).constants, content.view, binary)
    return Reading(covered=size, facts={"graphs": [posixpath.basename(name) for name in _pairs(folder.names)][:20]})


def _tiled(constants: set[Constant], view: memoryview, name: str) -> None:
    here = 0
    for offset, size in sorted(constants):
        if offset + size > len(view):
            raise Refuse(f"{NAME}:constants", shown(name), "a constant reaches behind the file", REMEDY)
        if offset > here and bytes(view[here:offset]).strip(b"\0"):
            raise Refuse(f"{NAME}:gap", f"offset {here}", f"bytes of `{shown(name)}` belong to no constant", REMEDY)
        here = max(here, offset + size)
    if bytes(view[here:]).strip(b"\0"):
        raise Refuse(f"{NAME}:gap", f"offset {here}", f"bytes of `{shown(name)}` belong to no constant", REMEDY)
