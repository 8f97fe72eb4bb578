"""What must hold of a scan for any bytes whatever: the property that every fuzz target checks.

Rules
1. A verdict comes, and it can be written and read again.
2. The scanner has no fault of its own: a parser that raises what it does not declare is a finding, though the verdict would be `incomplete`.
3. `clean` means no reason, and every byte explained.
4. A format holds against bytes that it would not have claimed: each target's reader is forced on them.
"""

from __future__ import annotations

from vouchgate.scanning import catalog, jinja
from vouchgate.scanning.scan import scan, scan_folder
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim, Format
from vouchgate.scanning.verdict import Verdict
from vouchgate.vocabulary import wire

SETTINGS = ScanSettings(max_unpacked_bytes=64 * 1024**2, max_unpacked_member=16 * 1024**2, max_pickle_steps=200_000, max_fields=200_000)
"""Small, so that an input that runs into a bound does so soon."""
FOLDER_NAMES = ("config.json", "saved_model.pb", "MLmodel", "MAR-INF/MANIFEST.json", "g.xml", "g.bin", "variables/variables.index", "a.pth")
ON_CLAIM = frozenset(("compressed", "csv", "image", "json", "text", "tokenizer"))
"""Their readers go on from what recognising found; forcing them on other bytes says nothing."""
TEMPLATE, FOLDER, WHOLE = "template", "folder", "whole"


def names() -> list[str]:
    """Every target: each format by its name, and what is no format of its own."""
    return [*(kind.name for kind in catalog.installed()), TEMPLATE, FOLDER, WHOLE]


def check(name: str, content: bytes) -> None:
    """Raises `AssertionError` for a finding."""
    if name == TEMPLATE:
        assert isinstance(jinja.check(content.decode("utf-8", "replace"), "fuzz", "text"), tuple)
    elif name == FOLDER:
        _holds(scan_folder(dict(zip(FOLDER_NAMES, content.split(b"\xff|\xff"), strict=False)), settings=SETTINGS))
    elif name == WHOLE:
        _holds(scan(content, settings=SETTINGS))
    else:
        own = next(kind for kind in catalog.installed() if kind.name == name)
        if name not in ON_CLAIM or own.recognise(Sight(memoryview(content))).strength != "no":
            _holds(scan(content, settings=SETTINGS, formats=_forced(name)))


def _forced(name: str) -> tuple[Format, ...]:
    """All formats, where the first bytes asked about are of this one whatever they are (rule 4); members are recognised as ever."""
    asked: list[Sight] = []
    everything = tuple(kind.name for kind in catalog.installed() if kind.name != name)

    def force(kind: Format) -> Format:
        def recognise(sight: Sight) -> Claim:
            if not asked or asked[0] is sight:
                asked.append(sight)
                return Claim(strength="certain", kind=name, above=everything) if kind.name == name else NOT_MINE
            return kind.recognise(sight)

        return Format(name=kind.name, recognise=recognise, read=kind.read)

    return tuple(force(kind) for kind in catalog.installed())


def _holds(verdict: Verdict) -> None:
    faults = [reason.why for reason in verdict.reasons if reason.rule == "scan:fault"]
    assert not faults, faults
    assert (verdict.outcome == "clean") == (not verdict.reasons and verdict.covered == verdict.size), verdict
    assert wire.decode(Verdict, wire.encode(verdict)) == verdict
