"""An artifact is rebuilt from what it holds: nothing of it runs, and nothing is kept that could not be compared.

Steps
1. Open the artifact once (disarm_source.py); the output may not be one of its files, nor lie in it.
2. Hash it while the disarming process takes it apart; that process says what to write, and the port writes it into new files.
3. While it reads the written file back and compares, the file is made durable and scanned as any other artifact is.
4. The artifact must not have changed meanwhile, the comparison must hold and the scan must be clean; else nothing is placed.
5. Sidecar first, then the output: whoever sees the output sees its sidecar.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vouchgate.flows.disarm_source import Place, Source, opened
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

    open_place: Callable[[str], Place]
    same_file: Callable[[int, Path], bool]
    open_output: Callable[[Path], Output]
    rebuild: Callable[..., RebuildReport]
    """(artifact's descriptors, its names and its other files' where it is a folder, output, output again, sidecar, target, bits, key, written) -> the
    report (ports/disarmer.py)."""
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


def disarm(desk: Desk, path: Path, out: Path, *, bits: int = 0, target: str = "") -> Rebuilding:
    """All steps; `target` is `onnx`, `safetensors`, or empty for what fits. Raises `NotFound`, `InvalidInput`, `NotRebuilt` (nothing could be recovered), `Unavailable`."""
    if not 0 <= bits <= MAX_BITS:
        raise InvalidInput(f"{bits} bits cannot be disturbed", remedy=f"name 1 to {MAX_BITS} bits, or none")
    if target not in ("", "onnx", "safetensors"):
        raise InvalidInput(f"`{target[:40]}` is no format that is written", remedy="name `onnx` or `safetensors`, or none")
    beside = out.with_name(out.name + SIDECAR_SUFFIX)
    with opened(desk.open_place(str(path))) as source:
        if source.place.is_folder and target == "onnx":
            raise InvalidInput("a folder's variables are written as safetensors", remedy="leave out `--as onnx`")
        _elsewhere(desk, source, path, out, beside)
        output = desk.open_output(out)
        with closing(_Discarding(output)):
            sidecar = desk.open_output(beside)
            with closing(_Discarding(sidecar)):
                return _rebuilt(desk, source, path, output, sidecar, bits, target)


def _elsewhere(desk: Desk, source: Source, path: Path, out: Path, beside: Path) -> None:
    """Step 1."""
    if any(desk.same_file(one, place) for one in source.descriptors for place in (out, beside)):
        raise InvalidInput(f"`{out}` is the artifact itself", remedy="name another file with -o")
    if source.place.is_folder and out.resolve().is_relative_to(path.resolve()):
        raise InvalidInput(f"`{out}` lies in the artifact", remedy="name a file outside it with -o")


@dataclass(frozen=True)
class _Discarding:
    """Whatever happens, no half file is left."""

    output: Output

    def close(self) -> None:
        self.output.discard()


def _rebuilt(desk: Desk, source: Source, path: Path, output: Output, sidecar: Output, bits: int, target: str) -> Rebuilding:
    waiting: list[Future[Any]] = []
    with ThreadPoolExecutor(max_workers=3) as threads:
        hashing = threads.submit(source.digest, desk.digest)
        threads.submit(desk.warm)

        def written() -> None:
            waiting.append(threads.submit(desk.scan, output.again, output.path.name))
            waiting.append(threads.submit(output.sync))

        key = desk.draw_key(KEY_BYTES) if bits else b""
        names, others = source.shown
        report = desk.rebuild(
            source.descriptors, names, others, output.descriptor, output.again, sidecar.descriptor, target, bits, key, written
        )
        digest = hashing.result()
        scanned: ScanReport = waiting[0].result()
        waiting[1].result()
    source.unchanged()
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


def _clean(scanned: ScanReport, size: int) -> None:
    """Step 4."""
    verdict = scanned.verdict
    if verdict.outcome != "clean" or scanned.size != size:
        reason = verdict.reasons[0] if verdict.reasons else None
        why = f"{reason.rule} at {reason.where}: {reason.why}" if reason else "it was not read to its end"
        raise Unavailable(f"what was rebuilt does not pass the scan ({why})", remedy="report the artifact's format and producer")
