"""Parts: the compiled knowledge base as it lies on disk, one JSON part a library, and a manifest that names them by digest.

Rules
1. A part holds names only, grouped by module and by kind; a kind is everything that several entries share (uses, rules, reviewer, why, versions).
2. Writing is deterministic, one module a line: a change of the knowledge base is a diff that a person can read.
3. The digest of the knowledge base is the digest of its manifest's bytes; the manifest names every part by digest, so nothing can be swapped.
"""

from __future__ import annotations

from vouchgate.scanning.knowledge.entries import Entry, Use
from vouchgate.vocabulary.wire import Noun, encode


class Wheel(Noun, frozen=True, kw_only=True):
    """One wheel that was read."""

    distribution: str
    version: str
    file: str
    sha256: str


class Manifest(Noun, frozen=True, kw_only=True):
    """What is signed."""

    version: int
    """Only rises."""
    generator: str
    """SHA-256 over the generator's own source, rules and reviewed entries: who wants to can make the same parts again."""
    parts: dict[str, str]
    """File name of a part -> SHA-256 of its bytes."""
    wheels: tuple[Wheel, ...] = ()


class Kind(Noun, frozen=True, kw_only=True):
    """What entries of one part share."""

    uses: tuple[Use, ...]
    arguments: str = ""
    state: str = ""
    reviewer: str = ""
    why: str = ""
    since: int = 1
    first: int = -1
    """Index into the part's versions; -1 where no version is told."""
    last: int = -1


class Part(Noun, frozen=True, kw_only=True):
    """One library."""

    library: str
    versions: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    """SHA-256 of the wheel read for each version."""
    kinds: tuple[Kind, ...] = ()
    modules: dict[str, dict[str, str]] = {}
    """Module -> index of a kind, as text -> qualified names with one space between."""


def write_part(part: Part) -> bytes:
    """Its bytes (rule 2)."""
    head = encode({"library": part.library, "versions": part.versions, "wheels": part.wheels})[1:-1]
    kinds = b",\n".join(encode(kind) for kind in part.kinds)
    modules = b",\n".join(encode(module) + b":" + encode(names) for module, names in sorted(part.modules.items()))
    return b"{" + head + b',"kinds":[\n' + kinds + b'\n],"modules":{\n' + modules + b"\n}}\n"


def write_manifest(manifest: Manifest) -> bytes:
    """Its bytes: what is signed."""
    return encode(manifest)


def entries_of(part: Part) -> list[Entry]:
    """All of a part's entries, in order."""
    return [
        entry_of(part, part.kinds[int(index)], module, name)
        for module, kinds in sorted(part.modules.items())
        for index, names in sorted(kinds.items(), key=lambda item: int(item[0]))
        for name in names.split(" ")
    ]


def entry_of(part: Part, kind: Kind, module: str, name: str) -> Entry:
    """One entry."""
    seen = kind.first >= 0
    return Entry(
        module=module,
        name=name,
        uses=kind.uses,
        arguments=kind.arguments,
        state=kind.state,
        library=part.library,
        versions=(part.versions[kind.first], part.versions[kind.last]) if seen else ("", ""),
        wheel=part.wheels[kind.last] if seen else "",
        reviewer=kind.reviewer,
        since=kind.since,
        why=kind.why,
    )


def part_of(library: str, wheels: list[tuple[str, str]], entries: list[Entry]) -> Part:
    """The part that holds exactly these entries; `wheels` are (version, SHA-256), oldest first."""
    versions = [version for version, _ in wheels]
    kinds: dict[Kind, int] = {}
    modules: dict[str, dict[str, list[str]]] = {}
    for entry in sorted(entries, key=lambda one: (one.module, one.name)):
        seen = entry.versions[0] in versions
        kind = Kind(
            uses=entry.uses,
            arguments=entry.arguments,
            state=entry.state,
            reviewer=entry.reviewer,
            why=entry.why,
            since=entry.since,
            first=versions.index(entry.versions[0]) if seen else -1,
            last=versions.index(entry.versions[1]) if seen else -1,
        )
        index = kinds.setdefault(kind, len(kinds))
        modules.setdefault(entry.module, {}).setdefault(str(index), []).append(entry.name)
    grouped = {module: {index: " ".join(names) for index, names in found.items()} for module, found in modules.items()}
    return Part(library=library, versions=tuple(versions), wheels=tuple(sha for _, sha in wheels), kinds=tuple(kinds), modules=grouped)
