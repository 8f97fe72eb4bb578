"""Which format some bytes are. Content decides; a name's extension is never looked at.

Rules
1. Every format in the catalog is asked. Exactly one certain claim settles it.
2. A claim may say which wider formats it stands above (a Keras file is a zip, a notebook is JSON, which is text): their claims then do not
   count. Two certain claims that are left are a polyglot: two programs would read two different things from one digest. That is refused.
3. A possible claim counts only where no format is certain.
4. Containers that have no plug-in yet, but that their readers find behind other bytes or without a magic number, count as certain claims
   of another format beside one that is recognised: tar (by its checksum alone) and HDF5 (at 0, 512, 1024, ...).
5. A folder's files of plain numbers may look like text, or like what is only possible; what is certain besides is another program's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.verdict import Reading
from vouchgate.vocabulary.wire import Noun

Strength = Literal["certain", "possible", "no"]
Reader = Callable[[Sight, Scope], Reading]


class Claim(Noun, frozen=True, kw_only=True):
    """A format's word on whether the bytes are its own."""

    strength: Strength
    kind: str = ""
    """What the verdict calls it."""
    because: str = ""
    """What was seen, for a person."""
    above: tuple[str, ...] = ()
    """`NAME`s of the wider formats that these bytes are too, and must be, for this one (rule 2)."""


NOT_MINE = Claim(strength="no")


class Folder:
    """The files of a folder, by relative path with `/`."""

    def __init__(self, files: Mapping[str, memoryview]) -> None:
        self._sights = {name: Sight(view) for name, view in files.items()}
        self.kinds: dict[str, str] = {}
        """File -> the format it was read as."""

    @property
    def names(self) -> frozenset[str]:
        """Relative paths."""
        return frozenset(self._sights)

    def sight(self, name: str) -> Sight | None:
        """One file's bytes."""
        return self._sights.get(name)


class Format(Noun, frozen=True, kw_only=True):
    """A format's plug-in as the catalog found it."""

    name: str
    recognise: Callable[[Sight], Claim]
    read: Reader
    recognise_folder: Callable[[frozenset[str]], Claim] | None = None
    """From the names of a folder's files alone: whether the folder is one artifact."""
    read_folder: Callable[[Folder, Scope], Reading] | None = None
    """The rules across its files; each file has been read on its own by then, but for those that are `raw_files`."""
    raw_files: Callable[[frozenset[str]], frozenset[str]] | None = None
    """Which of a folder's files are numbers of its own, with no format of theirs: they are not read as files are, only held against being another
    binary format (rule 5). `read_folder` must explain every byte of them, or refuse."""


TEXTS = (
    "text", "csv", "yaml", "json", "notebook", "python-source", "xml", "pmml", "openvino", "hugging-face", "tokenizer", "lightgbm", "mlflow",
)  # fmt: skip
"""Formats that are text: what numbers can be by accident, and what a binary format with a magic number of its own is besides."""


class Sniffed(Noun, frozen=True, kw_only=True):
    """The formats whose claim counts: none, one, or several."""

    claims: tuple[tuple[Format, Claim], ...]
    foreign: tuple[Claim, ...] = ()
    """Formats without a plug-in that the bytes are too (rule 4)."""


_TAR_BLOCK, _TAR_SUM = 512, slice(148, 156)
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HDF5_FIRST = 512
"""Where a superblock may lie behind a user block: 512, and every doubling of it (HDF5 File Format, section II.A)."""


def sniff(sight: Sight, formats: tuple[Format, ...]) -> Sniffed:
    """Ask every format; keep the certain claims, else the possible ones."""
    claims = [(kind, kind.recognise(sight)) for kind in formats]
    for strength in ("certain", "possible"):
        chosen = _narrowest([(kind, claim) for kind, claim in claims if claim.strength == strength])
        if chosen:
            covered = {name for kind, claim in chosen for name in (kind.name, *claim.above)}
            return Sniffed(claims=chosen, foreign=tuple(claim for claim in _foreign(sight.view) if claim.kind not in covered))
    return Sniffed(claims=())


def sniff_numbers(sight: Sight, formats: tuple[Format, ...]) -> tuple[Claim, ...]:
    """The binary formats that a file of plain numbers is too (rule 5)."""
    own = [claim for kind, claim in sniff(sight, formats).claims if claim.strength == "certain" and kind.name not in TEXTS]
    return (*own, *(claim for claim in _foreign(sight.view) if claim.kind not in {one.kind for one in own}))


def _narrowest(claims: list[tuple[Format, Claim]]) -> tuple[tuple[Format, Claim], ...]:
    """Rule 2."""
    covered = {name for _, claim in claims for name in claim.above}
    return tuple((kind, claim) for kind, claim in claims if kind.name not in covered)


def _foreign(view: memoryview) -> tuple[Claim, ...]:
    """Rule 4."""
    found = []
    if _is_tar(view):
        found.append(Claim(strength="certain", kind="tar", because="its first block has a tar header's checksum"))
    place = 0
    while place + len(_HDF5_MAGIC) <= len(view):
        if bytes(view[place : place + len(_HDF5_MAGIC)]) == _HDF5_MAGIC:
            found.append(Claim(strength="certain", kind="hdf5", because=f"an HDF5 superblock at offset {place}"))
            break
        place = place * 2 or _HDF5_FIRST
    return tuple(found)


def _is_tar(view: memoryview) -> bool:
    """The sum of the header's bytes, its own field counted as spaces, in octal (pax, "ustar Interchange Format"); signed in old writers."""
    block = bytes(view[:_TAR_BLOCK])
    text = block[_TAR_SUM].strip(b" \0")
    if len(block) < _TAR_BLOCK or not text or text.strip(b"01234567"):
        return False
    rest = block[: _TAR_SUM.start] + b" " * 8 + block[_TAR_SUM.stop :]
    return int(text, 8) in (sum(rest), sum(byte - 256 if byte > 127 else byte for byte in rest))
