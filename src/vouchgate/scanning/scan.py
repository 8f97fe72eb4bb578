"""Scan an artifact's bytes: content in, verdict out. Nothing of the artifact is imported, unpickled, called or executed.

Steps
1. Bounds: an artifact over `max_artifact_bytes`, or of no bytes, is refused unread.
2. Sniff: which format the content is; two at once is a polyglot, none is unknown; both are refused.
3. Read: the one format's plug-in accounts for every byte or says why not.
4. A fault of the scanner itself is `incomplete`, never clean.

What it leaves to others: opening and hashing (the scanner process), signing the verdict (flows), deciding on it (policy).
"""

from __future__ import annotations

from vouchgate.scanning.catalog import installed
from vouchgate.scanning.settings import DEFAULTS, ScanSettings, settings_digest
from vouchgate.scanning.sniff import Claim, Format, sniff
from vouchgate.scanning.verdict import MAX_REASONS, Reading, Reason, Refuse, Verdict, outcome_of

MAX_NAME_SHOWN = 200
"""Characters of the display name kept."""


def scan(
    buffer: bytes | memoryview, name: str = "", settings: ScanSettings = DEFAULTS, formats: tuple[Format, ...] | None = None
) -> Verdict:
    """The verdict on `buffer`. Never raises, whatever the bytes are."""
    view = memoryview(buffer).cast("B").toreadonly()
    kind = "unknown"
    try:
        kind, reading = _read(view, settings, installed() if formats is None else formats)
    except Refuse as refuse:
        reading = Reading(reasons=(refuse.reason,))
    except (Exception, MemoryError, RecursionError) as fault:
        reading = _fault(fault)
    return Verdict(
        outcome=outcome_of(reading, len(view)),
        format=kind,
        name=name[:MAX_NAME_SHOWN],
        size=len(view),
        covered=reading.covered,
        reasons=reading.reasons[:MAX_REASONS],
        facts=reading.facts,
        settings_digest=settings_digest(settings),
    )


def _read(view: memoryview, settings: ScanSettings, formats: tuple[Format, ...]) -> tuple[str, Reading]:
    if not len(view):
        raise Refuse("scan:empty", "offset 0", "the artifact has no bytes", "check the export or the download and import it again")
    if len(view) > settings.max_artifact_bytes:
        raise Refuse(
            "scan:too-large",
            "whole artifact",
            f"{len(view)} bytes are over the bound of {settings.max_artifact_bytes}",
            "split the model into shards, or raise `max_artifact_bytes`",
        )
    sniffed = sniff(view, formats)
    claims = sniffed.claims
    if len(claims) + len(sniffed.foreign) > 1:
        return "polyglot", Reading(reasons=(_polyglot((*(claim for _, claim in claims), *sniffed.foreign)),))
    if not claims:
        return "unknown", Reading(reasons=(_unknown(view),))
    plugin, claim = claims[0]
    try:
        return claim.kind, plugin.read(view, settings)
    except Refuse as refuse:
        return claim.kind, Reading(reasons=(refuse.reason,))
    except (Exception, MemoryError, RecursionError) as fault:
        return claim.kind, _fault(fault)


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
