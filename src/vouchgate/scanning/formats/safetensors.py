"""safetensors by exact structure: 8 bytes of header length, a JSON header, then the tensors' bytes without a gap.

Rules (format description in the safetensors README, "Format"; bounds in `ScanSettings`)
1. The header's length is within the file and the bound; it begins with `{`, is UTF-8 and strict JSON: no duplicate key anywhere, no
   number that is not a plain integer, no lone surrogate, only spaces behind it.
2. Every entry is `{dtype, shape, data_offsets}` and nothing else; `__metadata__` maps strings to strings.
3. dtype x shape = data_offsets, exactly, in integers that cannot overflow.
4. Sorted by offset, the tensors tile the buffer: no gap, no overlap, nothing behind the last.
5. Metadata is inert to every loader; text that would act if a page or template showed it is refused, what might act waits for a person.

An unaligned data section is allowed: files written before the header was padded have it, and readers copy. It is a fact in the verdict.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any, NoReturn

from vouchgate.scanning.active_text import first_active
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, TEXTS, Claim
from vouchgate.scanning.verdict import Reading, Reason, Refuse, at

NAME = "safetensors"
LENGTH_BYTES = 8
MIN_HEADER_BYTES = 2
"""`{}`."""
REMEDY = "write the file again with the safetensors library (`safetensors.torch.save_file`) from tensors you trust"
REVIEW_REMEDY = "write the file again without that metadata, or have a person accept it"
MAX_U64 = 2**64 - 1
"""The reference library computes sizes in 64 bits; beyond it, readers disagree."""

_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64,
}  # fmt: skip
_ENTRY = {"dtype", "shape", "data_offsets"}


def recognise(sight: Sight) -> Claim:
    """Eight bytes of length, then `{`. A length beyond the file is still this format, only a broken one; eight printable ones are text."""
    view = sight.view
    if len(view) <= LENGTH_BYTES or view[LENGTH_BYTES] != ord("{") or all(0x09 <= byte < 0x7F for byte in view[:LENGTH_BYTES]):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a header length followed by a JSON object", above=TEXTS)


def read(sight: Sight, scope: Scope) -> Reading:
    """Account for every byte, or refuse."""
    view, settings = sight.view, scope.settings
    length = int.from_bytes(view[:LENGTH_BYTES], "little")
    if length > settings.max_header_bytes or length < MIN_HEADER_BYTES:
        _refuse("header-length", at(0), f"the header announces {length} bytes; the bounds are 2 and {settings.max_header_bytes}")
    data_start = LENGTH_BYTES + length
    if data_start > len(view):
        _refuse("header-length", at(0), f"the header announces {length} bytes, the file has {len(view) - LENGTH_BYTES} behind the length")
    header = _header(bytes(view[LENGTH_BYTES:data_start]))
    metadata = header.pop("__metadata__", {})
    _check_metadata(metadata, settings)
    if len(header) > settings.max_tensors:
        _refuse("too-many-tensors", at(LENGTH_BYTES), f"{len(header)} tensors are over the bound of {settings.max_tensors}")
    _check_tiling({name: _span(name, entry, settings) for name, entry in header.items()}, len(view) - data_start)
    return Reading(covered=len(view), reasons=_review(metadata), facts=_facts(header, metadata, data_start))


def _header(raw: bytes) -> dict[str, Any]:
    if raw[:1] != b"{":
        _refuse("header-start", at(LENGTH_BYTES), "the header does not begin with `{`")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse("header-utf8", at(LENGTH_BYTES + error.start), "the header is not UTF-8")
    body = text.rstrip(" ")
    if not body.endswith("}"):
        _refuse("header-padding", at(LENGTH_BYTES), "something other than spaces stands behind the header's JSON")
    try:
        header = json.loads(body, object_pairs_hook=_unique, parse_int=_plain_int, parse_float=_no_number, parse_constant=_no_number)
    except RecursionError:
        _refuse("header-depth", at(LENGTH_BYTES), "the header is nested too deeply")
    except ValueError as error:
        _refuse("header-json", at(LENGTH_BYTES), f"the header is not JSON: {str(error)[:120]}")
    return header  # type: ignore[no-any-return]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            _refuse("duplicate-key", f"header key `{_show(key)}`", "the key occurs twice, and readers differ in which one they take")
        _check_text(key)
        if isinstance(value, str):
            _check_text(value)
        found[key] = value
    return found


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        _refuse("header-surrogate", f"header text `{_show(text)}`", "it holds half of a surrogate pair, which is no character")


def _plain_int(text: str) -> int:
    if text.startswith("-") or len(text) > 20:
        _refuse("header-number", at(LENGTH_BYTES), f"`{text[:24]}` is not an unsigned 64-bit integer")
    return int(text)


def _no_number(text: str) -> NoReturn:
    _refuse("header-number", at(LENGTH_BYTES), f"`{text[:24]}` is not an integer")


def _check_metadata(metadata: Any, settings: ScanSettings) -> None:
    if not isinstance(metadata, dict):
        _refuse("metadata-shape", "header key `__metadata__`", "it is not an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            _refuse("metadata-shape", f"metadata `{_show(key)}`", "its value is not a string")
        if len(value) > settings.max_text_bytes:
            _refuse("metadata-size", f"metadata `{_show(key)}`", f"its value is over {settings.max_text_bytes} characters")


def _span(name: str, entry: Any, settings: ScanSettings) -> tuple[int, int]:
    """A tensor's begin and end in the data section, checked against dtype and shape."""
    where = f"tensor `{_show(name)}`"
    if len(name) > settings.max_name_bytes:
        _refuse("name-size", where, f"its name is over {settings.max_name_bytes} characters")
    if not isinstance(entry, dict) or entry.keys() != _ENTRY:
        _refuse("entry-shape", where, "its entry is not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        _refuse("dtype", where, f"its dtype `{_show(str(dtype))}` is none of the format's")
    if not _integers(shape) or len(shape) > settings.max_rank:
        _refuse("shape", where, f"its shape is not a list of at most {settings.max_rank} integers")
    if not _integers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse("offsets", where, "its data_offsets are not [begin, end] with begin <= end")
    _check_size(where, bits, shape, offsets[1] - offsets[0])
    return offsets[0], offsets[1]


def _check_size(where: str, bits: int, shape: list[int], length: int) -> None:
    total = bits
    for dimension in shape:
        total *= dimension
        if total > MAX_U64:
            _refuse("size-overflow", where, "dtype x shape is over 64 bits")
    if total % 8:
        _refuse("size-bits", where, "dtype x shape is not a whole number of bytes")
    if total // 8 != length:
        _refuse("size-mismatch", where, f"dtype x shape is {total // 8} bytes, its data_offsets span {length}")


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item <= MAX_U64 for item in value)


def _check_tiling(spans: dict[str, tuple[int, int]], data_bytes: int) -> None:
    expected = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if end > data_bytes:
            _refuse("out-of-range", f"tensor `{_show(name)}`", f"it ends at byte {end} of {data_bytes} bytes of data")
        if begin != expected:
            what = "overlaps the tensor before it" if begin < expected else "leaves bytes before it that belong to no tensor"
            _refuse("overlap" if begin < expected else "gap", f"tensor `{_show(name)}`", f"it {what}")
        expected = end
    if expected != data_bytes:
        _refuse("trailing-bytes", f"data offset {expected}", f"{data_bytes - expected} bytes behind the last tensor belong to none")


def _review(metadata: dict[str, str]) -> tuple[Reason, ...]:
    found = first_active(metadata)
    if found is None:
        return ()
    return (
        Reason(
            rule=f"{NAME}:active-metadata",
            where=f"metadata `{_show(found.key)}`",
            why=f"it holds {found.what}: no loader runs it, but a page, a template or a careless tool might",
            remedy="write the file again without that metadata" if found.weight == "refused" else REVIEW_REMEDY,
            weight=found.weight,
        ),
    )


def _facts(header: dict[str, Any], metadata: dict[str, str], data_start: int) -> dict[str, Any]:
    dtypes: dict[str, int] = {}
    for entry in header.values():
        dtypes[entry["dtype"]] = dtypes.get(entry["dtype"], 0) + 1
    return {
        "tensors": len(header),
        "parameters": sum(prod(entry["shape"]) for entry in header.values()),
        "dtypes": dtypes,
        "metadata_keys": len(metadata),
        "aligned": data_start % 8 == 0,
    }


def _show(text: str) -> str:
    return text[:80].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'")


def _refuse(rule: str, where: str, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", where, why, REMEDY)
