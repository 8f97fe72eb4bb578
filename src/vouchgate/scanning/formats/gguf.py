"""GGUF by exact structure: a header, key-value pairs, tensor infos, then the tensors' bytes, each padded to the alignment.

Rules (ggml, docs/gguf.md; block sizes of ggml.h)
1. Versions 2 and 3, little or big endian as the version's own bytes say. Every count, length and type is within the file and the bounds.
2. Keys are unique; what readers interpret (`general.alignment`, `general.architecture`, templates) has its documented type.
3. A tensor's bytes are dims x type exactly. Sorted by offset the tensors tile the data section; between them only zeros up to the alignment.
4. Every chat template, under whatever name, passes the allow-list of jinja.py (CVE-2024-34359): loaders render it.
5. Other text is inert; what would act if a page showed it is put up for review.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any, Literal, NoReturn

from vouchgate.scanning import jinja
from vouchgate.scanning.active_text import first_active
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "gguf"
MAGIC = b"GGUF"
REMEDY = "convert the model again with llama.cpp's own converter from weights you trust"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 65_536
"""Bytes; a page of the largest machines."""
MAX_PAIRS = 65_536
"""Key-value pairs; models have about 50."""
MAX_KEY_BYTES = 65_535
"""As the specification says."""
MAX_DIMENSIONS = 4
"""GGML_MAX_DIMS."""
MAX_TENSOR_NAME = 256
"""Bytes; ggml's own bound is 64, forks have raised it."""
MAX_VALUE_BYTES = 64 * 1024**2
"""Bytes of one text; a whole `tokenizer.json` may be one, and the largest have 35 MB."""
MAX_TEMPLATES = 64
"""Chat templates in one file; models have up to five."""
MAX_ARRAY = 8_000_000
"""Elements of one array; the largest vocabularies have 300,000 tokens, their merges about as many."""
MAX_ARRAY_DEPTH = 4
"""Arrays within each other; writers use one."""

_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""gguf_metadata_value_type -> struct code."""
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
"""ggml_type -> (elements, bytes) of one block; types that ggml took away again are not in it."""
_TEMPLATE = "template"


def recognise(sight: Sight) -> Claim:
    """The magic."""
    if bytes(sight.view[:4]) != MAGIC:
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="its first bytes are `GGUF`", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Account for every byte, or refuse."""
    file = _File(sight.view, scope.settings)
    file.read()
    reasons = (*_templates(file.texts), *_active(file.texts))
    return Reading(covered=len(sight.view), reasons=reasons, facts=file.facts())


class _File:
    """One pass from the first byte to the last."""

    def __init__(self, view: memoryview, settings: ScanSettings) -> None:
        self._view, self._settings = view, settings
        self._here = len(MAGIC)
        self._order: Literal["little", "big"] = "little"
        self.texts: dict[str, str] = {}
        """Keys whose value is text, or a list of texts joined (short ones)."""
        self._values: dict[str, Any] = {}
        self._types: dict[int, int] = {}
        self._tensors = self._parameters = 0

    def read(self) -> None:
        """Rules 1 to 3."""
        raw = bytes(self._take(4, "version"))
        if raw[:2] == b"\0\0":
            self._order = "big"
        version = int.from_bytes(raw, self._order)
        if version not in VERSIONS:
            _refuse("version", at(4), f"version {version} is none that was reviewed ({VERSIONS[0]} and {VERSIONS[-1]} are)")
        tensors, pairs = self._number("Q", "tensor count"), self._number("Q", "pair count")
        if tensors > self._settings.max_tensors:
            _refuse("too-many-tensors", at(8), f"{tensors} tensors are over the bound of {self._settings.max_tensors}")
        if pairs > MAX_PAIRS:
            _refuse("too-many-pairs", at(16), f"{pairs} key-value pairs are over the bound of {MAX_PAIRS}")
        self._values["version"] = version
        for _ in range(pairs):
            self._pair()
        alignment = self._alignment()
        self._data([self._info(alignment) for _ in range(tensors)], alignment)

    def facts(self) -> dict[str, Any]:
        """Counts and names for the vouch."""
        return {
            "version": self._values["version"],
            "byte_order": self._order,
            "tensors": self._tensors,
            "parameters": self._parameters,
            "architecture": self.texts.get("general.architecture", "")[:80],
            "types": {str(kind): count for kind, count in sorted(self._types.items())},
            "templates": sum(_TEMPLATE in key for key in self.texts),
        }

    def _pair(self) -> None:
        where = at(self._here)
        key = self._text("key", MAX_KEY_BYTES)
        if not key or not key.isascii() or not key.isprintable():
            _refuse("key", where, f"the key `{shown(key)}` is not printable ASCII")
        if key in self._values or key in self.texts:
            _refuse("duplicate-key", where, f"the key `{shown(key)}` occurs twice, and readers differ in which one they take")
        kind = self._number("I", "value type")
        if kind == _STRING:
            self.texts[key] = self._text(f"value of `{shown(key)}`", MAX_VALUE_BYTES)
        else:
            self._values[key] = self._array(key, 1) if kind == _ARRAY else self._scalar(kind, where)
        if _TEMPLATE in key and key not in self.texts and kind != _ARRAY:
            _refuse("template-type", where, f"`{shown(key)}` should be a template, but is no text")

    def _scalar(self, kind: int, where: str) -> Any:
        code = _NUMBERS.get(kind)
        if code is None:
            _refuse("value-type", where, f"value type {kind} is none of the format's")
        value = self._number(code, "value")
        if kind == _BOOL and value not in (0, 1):
            _refuse("bool", where, "a boolean is neither 0 nor 1")
        return value

    def _array(self, key: str, depth: int) -> int:
        """Walk an array; its length. Texts of arrays whose key speaks of templates are kept."""
        where = at(self._here)
        kind = self._number("I", "element type")
        count: int = self._number("Q", "element count")
        if count > MAX_ARRAY:
            _refuse("array-size", where, f"an array of {count} elements is over the bound of {MAX_ARRAY}")
        if kind == _STRING:
            self._strings(key, count)
        elif kind == _ARRAY:
            if depth >= MAX_ARRAY_DEPTH:
                _refuse("array-depth", where, f"arrays are nested deeper than {MAX_ARRAY_DEPTH}")
            for _ in range(count):
                self._array(key, depth + 1)
        elif kind in _NUMBERS:
            self._take(count * struct.calcsize(_NUMBERS[kind]), "array")
        else:
            _refuse("value-type", where, f"element type {kind} is none of the format's")
        return count

    def _strings(self, key: str, count: int) -> None:
        if _TEMPLATE in key:
            for index in range(count):
                self.texts[f"{key}[{index}]"] = self._text(f"`{shown(key)}`", self._settings.max_text_bytes)
            return
        view, here, size, order = self._view, self._here, len(self._view), self._order
        for _ in range(count):
            after = here + 8
            here = after + int.from_bytes(view[here:after], order)
            if here > size:
                _refuse("truncated", at(after), f"a text of `{shown(key)}` ends behind the file")
        self._here = here

    def _alignment(self) -> int:
        value: Any = self._values.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(value) is not int or not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
            _refuse("alignment", "key `general.alignment`", f"it is no power of two from 8 to {MAX_ALIGNMENT}")
        return int(value)

    def _info(self, alignment: int) -> tuple[int, int, str]:
        """One tensor's begin and end in the data section, and its name."""
        where = at(self._here)
        name = self._text("tensor name", MAX_TENSOR_NAME)
        rank = self._number("I", "rank")
        if rank > MAX_DIMENSIONS:
            _refuse("rank", where, f"tensor `{shown(name)}` has {rank} dimensions, the format allows {MAX_DIMENSIONS}")
        dims = [self._number("Q", "dimension") for _ in range(rank)]
        kind, offset = self._number("I", "tensor type"), self._number("Q", "offset")
        elements = prod(dims)
        block = _BLOCKS.get(kind)
        if block is None:
            _refuse("tensor-type", where, f"tensor `{shown(name)}` has type {kind}, which is none that was reviewed")
        if elements >= 2**63 or (dims[0] if dims else 1) % block[0]:
            _refuse("shape", where, f"tensor `{shown(name)}` has a shape that does not fit its type")
        if offset % alignment:
            _refuse("offset", where, f"tensor `{shown(name)}` begins at {offset}, which is not aligned to {alignment}")
        self._types[kind] = self._types.get(kind, 0) + 1
        self._tensors += 1
        self._parameters += elements
        return offset, offset + elements // block[0] * block[1], name

    def _data(self, spans: list[tuple[int, int, str]], alignment: int) -> None:
        """Rule 3. Where there are no tensors the padding may be missing."""
        names = [name for _, _, name in spans]
        if len(set(names)) != len(names):
            _refuse("duplicate-tensor", "tensor infos", "two tensors have the same name, and readers differ in which one they take")
        begin = -(-self._here // alignment) * alignment
        self._zeros(self._here, min(begin, len(self._view)))
        expected = end = 0
        for first, last, name in sorted(spans):
            if first != expected:
                what = "overlaps the tensor before it" if first < expected else "leaves bytes before it that belong to no tensor"
                _refuse("overlap" if first < expected else "gap", f"tensor `{shown(name)}`", f"it {what}")
            if begin + last > len(self._view):
                _refuse("out-of-range", f"tensor `{shown(name)}`", f"it ends {begin + last - len(self._view)} bytes behind the file")
            end, expected = last, -(-last // alignment) * alignment
            self._zeros(begin + end, min(begin + expected, len(self._view)))
        if len(self._view) > begin + expected:
            _refuse(
                "trailing-bytes", at(begin + expected), f"{len(self._view) - begin - expected} bytes behind the last tensor belong to none"
            )

    def _zeros(self, begin: int, end: int) -> None:
        if end > begin and any(self._view[begin:end]):
            _refuse("padding", at(begin), "the padding between tensors is not zero")

    def _text(self, what: str, limit: int) -> str:
        where = at(self._here)
        length = self._number("Q", what)
        if length > limit:
            _refuse("text-size", where, f"the {what} has {length} bytes, the bound is {limit}")
        try:
            return str(self._take(length, what), "utf-8")
        except UnicodeDecodeError:
            _refuse("utf8", where, f"the {what} is not UTF-8")

    def _number(self, code: str, what: str) -> Any:
        size = struct.calcsize("<" + code)
        return struct.unpack((">" if self._order == "big" else "<") + code, self._take(size, what))[0]

    def _take(self, count: int, what: str) -> memoryview:
        begin, end = self._here, self._here + count
        if end > len(self._view):
            _refuse("truncated", at(begin), f"the {what} ends behind the file")
        self._here = end
        return self._view[begin:end]


def _templates(texts: dict[str, str]) -> tuple[Reason, ...]:
    """Rule 4."""
    found: list[Reason] = []
    keys = [key for key in texts if _TEMPLATE in key]
    if len(keys) > MAX_TEMPLATES:
        _refuse("too-many-templates", "keys", f"{len(keys)} templates are over the bound of {MAX_TEMPLATES}")
    for key in keys:
        found += jinja.check(texts[key], NAME, f"key `{shown(key)}`")
    return tuple(found[: jinja.MAX_REASONS])


def _active(texts: dict[str, str]) -> tuple[Reason, ...]:
    """Rule 5: the texts that catalogs show. Tokens and whole tokenizers hold markup by nature."""
    found = first_active({key: text for key, text in texts.items() if key.startswith("general.")})
    if found is None:
        return ()
    why = f"it holds {found.what}: no loader runs it, but a page, a template or a careless tool might"
    remedy = "convert the model again without that text, or have a person accept it"
    return (Reason(rule=f"{NAME}:active-metadata", where=f"key `{shown(found.key)}`", why=why, remedy=remedy, weight=found.weight),)


def _refuse(rule: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", where, why, REMEDY)
