"""WebDataset shards: tar archives of samples, whose loaders decode a member by its extension.

Rules (WebDataset, "The WebDataset Format")
1. A sample is a run of files that share everything up to the first dot of the last part of their name; what follows is the field.
2. Every member is scanned by its content. Where the field's last extension makes loaders run a pickle (`pyd`, `pkl`, `pickle`, `pth`, `pt`), it must be read as one:
   what is harmless as something else would still be unpickled.
3. A picture that breaks off or is damaged inside is told as a fact: shards scraped from the web hold such, the field's decoder alone opens it, and
   fails. One with bytes behind its end, or of absurd size, is refused as anywhere.
"""

from __future__ import annotations

from itertools import groupby

from vouchgate.scanning.archived import members_of, scan_member
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.tars import is_tar, listed, open_tar
from vouchgate.scanning.verdict import Reading

NAME = "webdataset"
LOOKED_AT = 64
"""Members listed to recognise a shard."""
_FIELDS = frozenset({
    "jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm", "webp", "gif", "tif", "tiff", "bmp", "cls", "cls2", "index", "inx", "id", "json", "jsn", "txt", "text",
    "transcript", "npy", "npz", "pyd", "pkl", "pickle", "pth", "pt", "ten", "tb", "mp", "msg", "cbor", "safetensors", "mp4", "avi", "mov", "mkv", "webm", "wav", "flac", "mp3",
    "ogg", "m4a", "csv", "tsv", "bin", "x", "y", "input", "output", "target", "label", "mask",
})  # fmt: skip
"""Last extensions of fields that WebDataset's own decoders and examples know."""
_PICTURES = frozenset(("jpg", "jpeg", "png", "gif", "webp", "bmp"))
_DAMAGE = frozenset(f"image:{name}" for name in ("segment", "marker", "truncated", "chunk", "crc", "header", "block"))
_PICKLED = {
    "pyd": ("pickle",), "pkl": ("pickle",), "pickle": ("pickle",), "pth": ("torch-zip", "torchscript", "pickle"), "pt": ("torch-zip", "torchscript", "pickle"),
}  # fmt: skip


def recognise(sight: Sight) -> Claim:
    """A tar whose first members are samples of known fields, each sample in one run: of several fields, or all of the same one."""
    if not is_tar(sight.view):
        return NOT_MINE
    parts = [_sample(name) for name, _ in listed(sight.view, LOOKED_AT)]
    if not parts or not all(_extension(field) in _FIELDS for _, field in parts) or len(set(parts)) != len(parts):
        return NOT_MINE
    samples = [(key, [field for _, field in group]) for key, group in groupby(parts, key=lambda part: part[0])]
    alone = len(samples[0][1]) == 1
    if len({key for key, _ in samples}) != len(samples) or (
        alone and (len(samples) == 1 or any(one[1] != samples[0][1] for one in samples))
    ):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="a tar archive of samples", above=("tar", "zip"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Each member by its content (rule 2)."""
    archive = open_tar(sight.view, scope, NAME)
    samples, damaged = set(), 0
    for name, content in members_of(archive, scope):
        key, field = _sample(name)
        samples.add(key)
        before = len(scope.reasons)
        scan_member(name, content(), scope, only=_PICKLED.get(_extension(field), ()))
        damaged += _forgiven(scope, before) if _extension(field) in _PICTURES else 0
    return Reading(covered=archive.covered, facts={"members": len(archive.files), "samples": len(samples), "damaged_pictures": damaged})


def _forgiven(scope: Scope, before: int) -> int:
    """Rule 3: 1 where a picture's damage was all that was told of a member, and is taken back."""
    told = scope.reasons[before:]
    if not told or any(reason.rule not in _DAMAGE for reason in told):
        return 0
    del scope.reasons[before:]
    return 1


def _sample(name: str) -> tuple[str, str]:
    """Key and field."""
    folder, slash, last = name.rpartition("/")
    key, _, field = last.partition(".")
    return folder + slash + key, field.lower()


def _extension(field: str) -> str:
    return field.rpartition(".")[2]
