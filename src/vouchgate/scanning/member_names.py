"""Names of members, as every program that unpacks an archive must understand them: one plain relative path, and each only once.

Rules
1. A name is relative, with `/` between its parts; no part is empty, `.` or `..`; no backslash, drive letter, NUL, control character, or character
   that turns the order of what is shown.
2. Two names that some file system takes for one (case, Unicode form, dots and spaces at the end of a part) are a collision, as is a file that is
   another member's folder.
"""

from __future__ import annotations

import unicodedata

MAX_PARTS = 64
"""Folders within each other; the deepest real archives (Python packages) have about 15."""
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls (Unicode Standard Annex 9, section 2): the name shown is not the name stored."""


def fault_of(name: str, max_bytes: int) -> str:
    """Why this is no plain relative path (rule 1), for a person; empty if it is. A folder's name may end in `/`."""
    if len(name.encode("utf-8", "surrogatepass")) > max_bytes:
        return f"its name is over {max_bytes} bytes"
    if any(_hidden(character) for character in name):
        return "its name holds a character that cannot be shown"
    if "\\" in name:
        return "its name holds a backslash, which some programs take for `/`"
    if name.startswith("/") or (name[1:2] == ":" and name[0].isascii() and name[0].isalpha()):
        return "its name is an absolute path"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "its name leaves the folder it is unpacked to"
    if "" in parts or "." in parts:
        return "its name has an empty part or a `.` in it, which programs leave out differently"
    return f"its name has more than {MAX_PARTS} parts" if len(parts) > MAX_PARTS else ""


def _hidden(character: str) -> bool:
    if character.isascii():
        return not " " <= character <= "~"
    return character in _TURNS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


class Names:
    """The names of one archive so far (rule 2)."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def add(self, name: str, *, is_folder: bool) -> str:
        """Take a name in. Why it cannot stand beside those before it, for a person; empty if it can."""
        key = folded(name)
        other = self._files.get(key) or (self._folders.get(key) if not is_folder else None)
        if other is not None:
            return "its name occurs twice" if other == name else "on some systems its name is the same as another member's"
        if is_folder and self._folders.get(key) == name:
            return "its name occurs twice"
        (self._folders if is_folder else self._files)[key] = name
        return self._parents(key)

    def _parents(self, key: str) -> str:
        while "/" in key:
            key = key.rpartition("/")[0]
            if key in self._files:
                return "a part of its path is itself a file in the same archive"
            if key in self._folders:
                return ""
            self._folders[key] = ""  # named by a path alone; a member of its own may follow
        return ""


def folded(name: str) -> str:
    """The name as the least exact file system sees it."""
    whole = name.removesuffix("/")
    if not whole.isascii():
        whole = unicodedata.normalize("NFC", unicodedata.normalize("NFC", whole).casefold())
    whole = whole.lower()
    if ". " in whole or "./" in whole or " /" in whole or whole.endswith((".", " ")):
        whole = "/".join(part.rstrip(". ") for part in whole.split("/"))
    return whole
