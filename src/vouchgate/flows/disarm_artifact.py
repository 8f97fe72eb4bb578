"""An artifact is rebuilt from what it holds: nothing of it runs, and nothing is kept that could not be compared.

Steps
1. Open the artifact once; the output may not be the same file.
2. Hash it while the disarming process takes it apart; that process says what to write, and the port writes it into new files.
3. While it reads the written file back and compares, the file is made durable and scanned as any other artifact is.
4. The artifact must not have changed meanwhile, the comparison must hold and the scan must be clean; else nothing is placed.
5. Sidecar first, then the output: whoever sees the output sees its sidecar.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vouchgate.scanning.disarm.low_bits import KEY_BYTES
from vouchgate.scanning.disarm.report import RebuildReport
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, Unavailable
from vouchgate.vocabulary.wire import Noun

MAX_BITS = 26
"""Bits that may be asked for: half of the widest mantissa (float64); narrower numbers lose at most half of theirs."""
SIDECAR_SUFFIX = ".json"


class Output(Protocol):
    """A file that appears whole or not at all (ports/outputs.py)."""

    descriptor: int
    again: int
    path: Path

    @property
    def size(self) -> int:
        """Bytes written."""

    def sync(self) -> None:
        """Make the bytes durable."""

    def place(self) -> None:
        """Give it its name."""

    def discard(self) -> None:
        """Remove it, if it was not placed."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What wiring plugs in; all of it blocks."""

    open_artifact: Callable[[Path], int]
    same_file: Callable[[int, Path], bool]
    open_output: Callable[[Path], Output]
    rebuild: Callable[..., RebuildReport]
    """(artifact, output, output again, sidecar, bits, key, written) -> the report (ports/disarmer.py)."""
    scan: Callable[[int, str], ScanReport]
    digest: Callable[[int], Digest]
    """Of a whole file, by descriptor."""
    draw_key: Callable[[int], bytes]
    warm: Callable[[], None] = lambda: None
    """Have the scanner ready by the time it is needed."""
    close: Callable[[], None] = lambda: None
    """End the scanner; by whoever made the desk."""


class Rebuilding(Noun, frozen=True, kw_only=True):
    """What became of an artifact."""

    path: str
    digest: str
    size: int
    output: str
    output_digest: str
    output_size: int
    output_verdict: str
    sidecar: str = ""
    """Empty where there was nothing but tensors."""
    identical: bool = True
    """The output was read back and every tensor is, bit for bit, what the artifact holds (or, disturbed, what it was disturbed to)."""
    report: RebuildReport


def disarm(desk: Desk, path: Path, out: Path, *, bits: int = 0) -> Rebuilding:
    """All steps. Raises `NotFound`, `InvalidInput`, `NotRebuilt` (nothing could be recovered), `Unavailable`."""
    if not 0 <= bits <= MAX_BITS:
        raise InvalidInput(f"{bits} bits cannot be disturbed", remedy=f"name 1 to {MAX_BITS} bits, or none")
    artifact = desk.open_artifact(path)
    beside = out.with_name(out.name + SIDECAR_SUFFIX)
    try:
        if desk.same_file(artifact, out) or desk.same_file(artifact, beside):
            raise InvalidInput(f"`{out}` is the artifact itself", remedy="name another file with -o")
        output = desk.open_output(out)
        with closing(_Discarding(output)):
            sidecar = desk.open_output(beside)
            with closing(_Discarding(sidecar)):
                return _rebuilt(desk, artifact, path, output, sidecar, bits)
    finally:
        os.close(artifact)


@dataclass(frozen=True)
class _Discarding:
    """Whatever happens, no half file is left."""

    output: Output

    def close(self) -> None:
        self.output.discard()


def _rebuilt(desk: Desk, artifact: int, path: Path, output: Output, sidecar: Output, bits: int) -> Rebuilding:
    before = os.fstat(artifact)
    waiting: list[Future[Any]] = []
    with ThreadPoolExecutor(max_workers=3) as threads:
        hashing = threads.submit(desk.digest, artifact)
        threads.submit(desk.warm)

        def written() -> None:
            waiting.append(threads.submit(desk.scan, output.again, output.path.name))
            waiting.append(threads.submit(output.sync))

        report = desk.rebuild(
            artifact, output.descriptor, output.again, sidecar.descriptor, bits, desk.draw_key(KEY_BYTES) if bits else b"", written
        )
        digest = hashing.result()
        scanned: ScanReport = waiting[0].result()
        waiting[1].result()
    _unchanged(before, os.fstat(artifact), digest)
    _clean(scanned, output.size)
    if report.has_sidecar:
        sidecar.place()
    size = output.size
    output.place()
    return Rebuilding(
        path=str(path),
        digest=digest.text,
        size=digest.size,
        output=str(output.path),
        output_digest=scanned.digest.text,
        output_size=size,
        output_verdict=scanned.verdict.outcome,
        sidecar=str(sidecar.path) if report.has_sidecar else "",
        report=report,
    )


def _unchanged(before: os.stat_result, after: os.stat_result, digest: Digest) -> None:
    """Step 4."""
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ) or digest.size != after.st_size:
        raise Unavailable("the artifact changed while it was rebuilt", remedy="copy it to a place of your own and rebuild the copy")


def _clean(scanned: ScanReport, size: int) -> None:
    """Step 4."""
    verdict = scanned.verdict
    if verdict.outcome != "clean" or scanned.size != size:
        reason = verdict.reasons[0] if verdict.reasons else None
        why = f"{reason.rule} at {reason.where}: {reason.why}" if reason else "it was not read to its end"
        raise Unavailable(f"what was rebuilt does not pass the scan ({why})", remedy="report the artifact's format and producer")
