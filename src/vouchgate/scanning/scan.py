"""Scan an artifact's bytes: content in, verdict out. Nothing of the artifact is imported, unpickled, called or executed.

Steps
1. Bounds: an artifact over `max_artifact_bytes`, or of no bytes, is refused unread.
2. Sniff: which format the content is; two at once is a polyglot, none is unknown; both are refused.
3. Read: the one format's plug-in accounts for every byte or says why not; a container scans each of its members by the same three steps.
4. A folder that is one artifact: each of its files by the same steps, its name only tightening (active_names.py), then the rules across them.
   A file of plain numbers that the folder's format will explain is held against being another format's only.
5. A fault of the scanner itself is `incomplete`, never clean.

What it leaves to others: opening and hashing (the scanner process), signing the verdict (flows), deciding on it (policy).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vouchgate.scanning.active_names import tightened
from vouchgate.scanning.catalog import installed
from vouchgate.scanning.knowledge.entries import Knowledge
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scope import Budget, Scope
from vouchgate.scanning.settings import DEFAULTS, ScanSettings, settings_digest
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Folder, Format, sniff, sniff_numbers
from vouchgate.scanning.verdict import MAX_REASONS, Reading, Reason, Refuse, Verdict, outcome_of

MAX_NAME_SHOWN = 200
"""Characters of the display name kept."""


def scan(
    buffer: bytes | memoryview,
    name: str = "",
    settings: ScanSettings = DEFAULTS,
    formats: tuple[Format, ...] | None = None,
    knowledge: Knowledge | None = None,
    *,
    deep: bool = True,
) -> Verdict:
    """The verdict on `buffer`. Never raises, whatever the bytes are. Without `deep` nothing is ever clean (see `Scope`)."""
    view = memoryview(buffer).cast("B").toreadonly()
    scope = _scope(settings, formats, knowledge, deep=deep)
    kind, reading = _guarded(view, scope, ())
    return _verdict(kind, reading, scope, name, len(view))


def scan_folder(
    files: Mapping[str, bytes | memoryview],
    name: str = "",
    settings: ScanSettings = DEFAULTS,
    formats: tuple[Format, ...] | None = None,
    knowledge: Knowledge | None = None,
    *,
    deep: bool = True,
) -> Verdict:
    """The verdict on a folder that is one artifact, by relative path (step 4). Never raises."""
    views = {path: memoryview(buffer).cast("B").toreadonly() for path, buffer in sorted(files.items())}
    scope = _scope(settings, formats, knowledge, deep=deep)
    plugins = installed() if formats is None else formats
    size = sum(map(len, views.values()))
    plugin, claim = folder_format(frozenset(views), plugins)
    kind = claim.kind or "folder"
    try:
        folder = Folder(views)
        raw = plugin.raw_files(folder.names) if plugin and plugin.raw_files else frozenset()
        for path, view in views.items():
            folder.kinds[path] = _numbers(path, view, scope) if path in raw else _file(path, view, scope)
        reading = plugin.read_folder(folder, scope) if plugin and plugin.read_folder else Reading(covered=size)
    except Refuse as refuse:
        reading = Reading(reasons=(refuse.reason,))
    except (Exception, MemoryError, RecursionError) as fault:
        reading = _fault(fault)
    return _verdict(kind, reading, scope, name, size)


def _file(path: str, view: memoryview, scope: Scope) -> str:
    """One file of a folder; the format that it was read as."""
    kind = scope.inner(path, view).kind
    found = tightened(path, kind)
    if found is not None:
        scope.add((found,), scope.place(path))
    return kind


def _numbers(path: str, view: memoryview, scope: Scope) -> str:
    """A file that the folder's format will explain; the kind is `numbers`."""
    scope.spend_member(path)
    other = sniff_numbers(Sight(view), scope.plugins)
    if other:
        numbers = Claim(strength="certain", kind="numbers", because="the folder's format takes it for plain numbers")
        scope.add((_polyglot((numbers, *other)),), scope.place(path))
    return "numbers"


def folder_format(names: frozenset[str], formats: tuple[Format, ...] | None = None) -> tuple[Format | None, Claim]:
    """Which format a folder is as one artifact, from the names of its files alone; none, or two that do not agree, is (None, no claim)."""
    plugins = installed() if formats is None else formats
    claims = [(plugin, plugin.recognise_folder(names)) for plugin in plugins if plugin.recognise_folder]
    certain = [(plugin, claim) for plugin, claim in claims if claim.strength == "certain"]
    covered = {name for _, claim in certain for name in claim.above}
    left = [(plugin, claim) for plugin, claim in certain if plugin.name not in covered]
    return left[0] if len(left) == 1 else (None, NOT_MINE)


def _scope(settings: ScanSettings, formats: tuple[Format, ...] | None, knowledge: Knowledge | None, *, deep: bool) -> Scope:
    plugins = installed() if formats is None else formats

    def read_inner(name: str, view: memoryview, outer: Scope, only: Collection[str]) -> tuple[str, Reading]:
        within = Scope(
            settings=settings,
            knowledge=outer.knowledge,
            read_inner=read_inner,
            plugins=plugins,
            budget=outer.budget,
            deep=deep,
            path=(*outer.path, name),
            reasons=outer.reasons,
            kinds=outer.kinds,
        )
        kind, reading = _guarded(view, within, only)
        outer.add(reading.reasons, within.here)
        if reading.covered != len(view) and not reading.reasons:
            outer.add((_uncovered(),), within.here)
        return kind, reading

    return Scope(
        settings=settings,
        knowledge=shipped() if knowledge is None else knowledge,
        read_inner=read_inner,
        plugins=plugins,
        budget=Budget(unpacked_bytes=settings.max_unpacked_bytes, members=settings.max_members),
        deep=deep,
    )


def _verdict(kind: str, reading: Reading, scope: Scope, name: str, size: int) -> Verdict:
    reasons = (*reading.reasons, *scope.reasons)
    if scope.knowledge.fault:
        reasons = (*reasons, _unknowing(scope.knowledge.fault))
    if not scope.deep and not reasons:
        reasons = (_shallow(),)
    heaviest = sorted(reasons, key=lambda reason: _ORDER[reason.weight])
    return Verdict(
        outcome=outcome_of(Reading(covered=reading.covered, reasons=reasons), size),
        format=kind,
        name=name[:MAX_NAME_SHOWN],
        size=size,
        covered=reading.covered,
        reasons=tuple(heaviest[:MAX_REASONS]),
        facts=reading.facts,
        settings_digest=settings_digest(scope.settings),
        knowledge_version=scope.knowledge.version,
        knowledge_digest=scope.knowledge.digest,
        members=dict(scope.kinds),
    )


def _unknowing(fault: str) -> Reason:
    return Reason(
        rule="knowledge:unverified",
        where="whole artifact",
        why=f"the scanner's knowledge base cannot be believed: {fault}",
        remedy="install vouchgate again from a source that you trust; `vouchgate knowledge verify` says when it is whole",
        weight="incomplete",
    )


_ORDER = {"refused": 0, "incomplete": 1, "review": 2}


def _guarded(view: memoryview, scope: Scope, only: Collection[str]) -> tuple[str, Reading]:
    """Steps 1 to 3 and 5 for one file or member."""
    kind = "unknown"
    try:
        kind, reading = _read(view, scope, only)
    except Refuse as refuse:
        reading = Reading(reasons=(refuse.reason,))
    except (Exception, MemoryError, RecursionError) as fault:
        reading = _fault(fault)
    return kind, reading


def _read(view: memoryview, scope: Scope, only: Collection[str]) -> tuple[str, Reading]:
    if not len(view):
        if scope.path and not only:
            return "empty", Reading()  # an empty member of a folder or archive holds nothing
        raise Refuse("scan:empty", "offset 0", "the artifact has no bytes", "check the export or the download and import it again")
    if len(view) > scope.settings.max_artifact_bytes:
        raise Refuse(
            "scan:too-large",
            "whole artifact",
            f"{len(view)} bytes are over the bound of {scope.settings.max_artifact_bytes}",
            "split the model into shards, or raise `max_artifact_bytes`",
        )
    sight = Sight(view)
    sniffed = sniff(sight, scope.plugins)
    claims = sniffed.claims
    if len(claims) + len(sniffed.foreign) > 1:
        return "polyglot", Reading(reasons=(_polyglot((*(claim for _, claim in claims), *sniffed.foreign)),))
    if not claims:
        return "unknown", Reading(reasons=(_unknown(view),))
    plugin, claim = claims[0]
    if only and plugin.name not in only:
        return claim.kind, Reading(reasons=(_out_of_place(claim, only),))
    try:
        return claim.kind, plugin.read(sight, scope)
    except Refuse as refuse:
        return claim.kind, Reading(reasons=(refuse.reason,))
    except (Exception, MemoryError, RecursionError) as fault:
        return claim.kind, _fault(fault)


def _shallow() -> Reason:
    return Reason(
        rule="scan:structure-only",
        where="whole artifact",
        why="only its structure was looked at: its bytes were neither hashed nor checked against their checksums",
        remedy="scan it without `--structure`",
        weight="incomplete",
    )


def _uncovered() -> Reason:
    return Reason(
        rule="scan:uncovered",
        where="whole member",
        why="some of its bytes are not explained by its format",
        remedy="export it again with the framework's own exporter",
        weight="incomplete",
    )


def _out_of_place(claim: Claim, only: Collection[str]) -> Reason:
    return Reason(
        rule="scan:out-of-place",
        where="offset 0",
        why=f"it is {claim.kind}, where only {', '.join(sorted(only))} may stand",
        remedy="export the artifact again with the framework's own exporter",
    )


def _fault(fault: BaseException) -> Reading:
    reason = Reason(
        rule="scan:fault",
        where="whole artifact",
        why=f"the scanner could not finish ({type(fault).__name__}), so nothing is known about the artifact",
        remedy="export the model again; if it fails again, report the file's format and producer",
        weight="incomplete",
    )
    return Reading(reasons=(reason,))


def _polyglot(claims: tuple[Claim, ...]) -> Reason:
    seen = "; ".join(f"{claim.kind}: {claim.because}" for claim in claims)
    return Reason(
        rule="scan:polyglot",
        where="whole artifact",
        why=f"the same bytes are more than one format ({seen}), so what is loaded depends on who opens it",
        remedy="export the model again with nothing prepended, appended or embedded",
    )


_MAGIC = (
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 (Keras .h5)"),
    (0, b"GGUF", "GGUF"),
    (0, b"PAR1", "Parquet"),
    (0, b"ARROW1", "Arrow"),
    (0, b"\x93NUMPY", "a numpy array"),
    (0, b"PK\x03\x04", "a zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x28\xb5\x2f\xfd", "zstandard-compressed"),
    (0, b"\x7fELF", "a native program"),
    (0, b"#!", "a script"),
)


def _unknown(view: memoryview) -> Reason:
    """Named where the first bytes say what it might be; refused all the same."""
    guess = next((name for offset, magic, name in _MAGIC if view[offset : offset + len(magic)] == magic), "")
    return Reason(
        rule="scan:unknown-format",
        where="offset 0",
        why=f"it looks like {guess}, which cannot be read yet" if guess else "its content is no format that can be read",
        remedy="export the model as safetensors (weights) or ONNX (weights and graph) and import that",
    )
