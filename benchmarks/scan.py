"""`make bench-scan`: what a verdict costs beside hashing alone, through the warm scanner's processes as `vouchgate scan` uses them.

Rules (contracts, "Figures cannot be bent")
1. A scan and a pass that only hashes the same file run by turns in one run; the row is the ratio of their medians. The files are in the page cache, for both.
2. A time counts only where the verdict is clean, covers every byte and carries the digest that the hash-only pass gave; else the run fails.
3. Memory is the kernel's high-water mark of the child that reads (`VmHWM`: the interpreter and every page of the mapping it holds at once).
4. Null: a look at the structure alone, which must come out `incomplete`, however fast. Sabotage: one flipped byte in the last tensor of the zip must be
   found by its checksum, or the speed was bought by not reading.

Usage: python -m benchmarks.scan [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pickle
import statistics
import sys
import tempfile
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec

from benchmarks.rows import FIGURES, Row, emit, exit_code, median_interval
from vouchgate.ports.scanner import Scanner
from vouchgate.scanning.verdict import ScanReport

MIB = 1024 * 1024
LARGE, QUICK = 1024 * MIB, 256 * MIB
TENSORS = 64
ROUNDS, QUICK_ROUNDS = 7, 3
SMALL, QUICK_SMALL = 2_000, 400
HASH_CHUNK = MIB
GOAL_RATIO, GOAL_STRUCTURE, GOAL_PICKLE, GOAL_MEMORY_MIB, GOAL_SMALL_MS, GOAL_RATE = 0.8, 0.2, 1.0, 100.0, 15.0, 200.0


def safetensors_file(path: Path, size: int) -> None:
    """`TENSORS` tensors of random bytes behind a header."""
    each = size // TENSORS
    header = {f"w{n}": {"dtype": "U8", "shape": [each], "data_offsets": [n * each, (n + 1) * each]} for n in range(TENSORS)}
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(TENSORS):
            file.write(os.urandom(each))


class _Storage:
    """Stands for a tensor's storage while pickling; written as torch writes it, by its persistent id."""

    def __init__(self, key: int, count: int) -> None:
        self.key, self.count = key, count


class _Tensor:
    def __init__(self, key: int, count: int) -> None:
        self.key, self.count = key, count

    def __reduce__(self) -> tuple[Any, ...]:
        import collections

        shape: Any = ((self.count,), (1,), False, collections.OrderedDict())
        return (sys.modules["torch._utils"]._rebuild_tensor_v2, (_Storage(self.key, self.count), 0, *shape))


@contextlib.contextmanager
def torch_names() -> Iterator[type]:
    """Names that a pickle of torch refers to, without torch: the pickler looks them up and writes nothing but the name."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None:
        """Never called."""

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    storage = type("ByteStorage", (), {"__module__": "torch"})
    utils._rebuild_tensor_v2, torch.ByteStorage, torch._utils = _rebuild_tensor_v2, storage, utils  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield storage
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def torch_zip(path: Path, size: int) -> None:
    """A state dict as torch.save writes one."""
    each = size // TENSORS
    with torch_names() as storage:
        import io

        class Pickler(pickle.Pickler):
            def persistent_id(self, value: Any) -> Any:
                return ("storage", storage, str(value.key), "cpu", value.count) if isinstance(value, _Storage) else None

        buffer = io.BytesIO()
        Pickler(buffer, 2).dump({f"w{n}": _Tensor(n, each) for n in range(TENSORS)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        for number in range(TENSORS):
            archive.writestr(f"archive/data/{number}", os.urandom(each))
        archive.writestr("archive/version", "3\n")


def plain_pickle(path: Path, size: int) -> None:
    """Large byte strings in a dict."""
    each = size // TENSORS
    with path.open("wb") as file:
        pickle.dump({f"w{number}": os.urandom(each) for number in range(TENSORS)}, file, 4)


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    answer = act()
    return time.perf_counter() - begin, answer


def hash_only(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while part := file.read(HASH_CHUNK):
            digest.update(part)
    return digest.hexdigest()


class Bench:
    """One run."""

    def __init__(self, scanner: Scanner, folder: Path, *, quick: bool) -> None:
        self.scanner, self.folder = scanner, folder
        self.size, self.rounds, self.small = (QUICK, QUICK_ROUNDS, QUICK_SMALL) if quick else (LARGE, ROUNDS, SMALL)
        self.rows: list[Row] = []

    def scan(self, path: Path, *, deep: bool = True) -> ScanReport:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return self.scanner.scan_file(descriptor, name=path.name, deep=deep)
        finally:
            os.close(descriptor)

    def clean(self, path: Path, digest: str) -> ScanReport:
        """Rule 2."""
        report = self.scan(path)
        if report.verdict.outcome != "clean" or report.digest.value != digest:
            raise SystemExit(f"{path.name} is {report.verdict.outcome}: {report.verdict.reasons[:1]}")
        return report

    def large(self, name: str, make: Callable[[Path, int], None]) -> None:
        path = self.folder / name
        make(path, self.size)
        expected = hash_only(path)
        self.clean(path, expected)
        pairs = [(timed(lambda: hash_only(path))[0], timed(lambda: self.clean(path, expected))[0]) for _ in range(self.rounds)]
        hashing, scanning = (statistics.median(times) for times in zip(*pairs, strict=True))
        if name == "pickle":
            self.beyond(pairs, path)
        else:
            ratios = [one / other for one, other in pairs]
            value = hashing / scanning
            note = f"{self.size / MIB:.0f} MiB: hash alone {hashing:.3f} s, verdict {scanning:.3f} s"
            self.add(f"{name}: speed of a verdict to hashing alone", value, "ratio", f">= {GOAL_RATIO}", value >= GOAL_RATIO, ratios, note)
            self.structure(name, path)
        if name == "torch zip":
            self.sabotage(path)
        path.unlink()

    def beyond(self, pairs: list[tuple[float, float]], path: Path) -> None:
        more = [scanning - hashing for hashing, scanning in pairs]
        value = statistics.median(more)
        self.add(
            "pickle: verdict beyond hashing", value, "s", f"<= {GOAL_PICKLE}", value <= GOAL_PICKLE, more, f"{self.size / MIB:.0f} MiB"
        )
        with watched(self.scanner) as marks:
            self.scan(path)
        peak = max(marks, default=0) / 1024
        self.add("pickle: memory of the reading process", peak, "MiB", f"<= {GOAL_MEMORY_MIB:.0f}", 0 < peak <= GOAL_MEMORY_MIB, [])

    def structure(self, name: str, path: Path) -> None:
        found = [timed(lambda: self.scan(path, deep=False)) for _ in range(self.rounds)]
        times = [seconds for seconds, _ in found]
        null = all(report.verdict.outcome == "incomplete" for _, report in found)
        value = statistics.median(times)
        self.add(
            f"{name}: structure alone", value, "s", f"<= {GOAL_STRUCTURE}", value <= GOAL_STRUCTURE and null, times, "null: never clean"
        )

    def sabotage(self, path: Path) -> None:
        """Rule 4."""
        with path.open("r+b") as file:
            file.seek(-self.size // TENSORS // 2, os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes((byte[0] ^ 1,)))
        found = self.scan(path).verdict.outcome != "clean"
        self.add("torch zip: one flipped byte is found", float(found), "", "1", found, [], "sabotage")

    def many(self) -> None:
        paths = []
        for number in range(self.small):
            path = self.folder / f"small{number}"
            safetensors_file(path, TENSORS * 16)
            paths.append(path)
        alone = [timed(lambda path=path: self.clean(path, hash_only(path)))[0] * 1000 for path in paths[: self.small // 4]]
        value = statistics.median(alone)
        self.add("a small file, one after the other", value, "ms", f"<= {GOAL_SMALL_MS:.0f}", value <= GOAL_SMALL_MS, alone)
        cores = len(os.sched_getaffinity(0))
        rates = []
        for _ in range(self.rounds):
            with ThreadPoolExecutor(2 * cores) as pool:
                seconds, outcomes = timed(lambda: list(pool.map(lambda path: self.scan(path).verdict.outcome, paths)))
            if set(outcomes) != {"clean"}:
                raise SystemExit("a small file is not clean")
            rates.append(len(paths) / seconds)
        value = statistics.median(rates)
        self.add(
            "small files, as many at once as pays", value, "files/s", f">= {GOAL_RATE:.0f}", value >= GOAL_RATE, rates, f"{cores} cores"
        )

    def add(self, name: str, value: float, unit: str, goal: str, met: bool, samples: list[float], note: str = "") -> None:
        interval = median_interval(samples) if len(samples) > 2 else None
        self.rows.append(Row(name=name, value=value, unit=unit, goal=goal, met=met, n=len(samples) or 1, interval=interval, note=note))


@contextlib.contextmanager
def watched(scanner: Scanner) -> Iterator[list[int]]:
    """High-water marks (KiB) of the children that run meanwhile."""
    marks: list[int] = []
    stop = threading.Event()
    assert scanner._process is not None
    parent = scanner._process.pid

    def look() -> None:
        while not stop.wait(0.005):
            for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    marks.extend(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield marks
    finally:
        stop.set()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    FIGURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FIGURES, prefix=".scan-") as folder, Scanner() as scanner:
        bench = Bench(scanner, Path(folder), quick=options.quick)
        bench.many()
        bench.large("safetensors", safetensors_file)
        bench.large("torch zip", torch_zip)
        bench.large("pickle", plain_pickle)
    emit("scan", bench.rows)
    return exit_code(bench.rows)


if __name__ == "__main__":
    sys.exit(main())
