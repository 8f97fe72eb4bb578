"""`make bench-guard`: what loading 1 and 4 GiB costs under the load guard, beside the library alone.

Rules (contracts, "Figures cannot be bent")
1. A whole installation runs; the file is imported into it, and the loader is a process of another uid that asks the real control plane.
2. A time counts from the call of the library until every byte of every tensor was read once: a tensor that is only mapped was not loaded. Imports, the
   guard's installation and the writing of the file are not in it; the file is read once before each, so the page cache is warm for everybody. Each
   round runs every way once, in a drawn order, each in a process of its own. What one question costs beside that, whatever the size, is a row of its own, and so is the call alone: a library
   that maps returns before a byte was read, and beside that nothing the question costs the guard more than the file does.
3. The ways: `plain` the library alone; `again` the library alone, the same file once more in one process; `copied` a file of nobody's store, sealed and hashed; `hashed` the store's file whose note was taken away;
   `noted` the store's file in a process that never saw it; `warm` the same file once more in the process that loaded it, asked about anew.
   `warm` stands beside `again`, the others beside `plain`: a process that loaded once has its memory and its library ready.
4. Sabotage: a tensor that differs in one byte must show in what was read, and a way that refuses must not pass for a fast one.

Usage: python -m benchmarks.guard [--quick | --gib N ...] [--python INTERPRETER]     (as root; torch is measured where the interpreter has it)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from safetensors.numpy import save_file
from tests.system.installation import Installation

from benchmarks.rows import Row, emit, exit_code, filesystem, median_interval
from vouchgate.vocabulary.answers import ImportOutcome
from vouchgate.vocabulary.stored import note_path

LOADER = 60_703
GOAL = 1.15
TENSORS = 16
BESIDE = {"copied": "plain", "hashed": "plain", "noted": "plain", "warm": "again"}
WAYS = ("plain", "again", *BESIDE)
READ_AHEAD = 2**24
MORE = f"""
[artifacts]
readers = "everybody"

[[policies]]
path = "{{policy}}"

[[identities]]
name = "loader"
kind = "service"
zone = "serve"
groups = ["loaders"]
uid = {LOADER}
"""
POLICY = """
@id("loaders-may-load")
permit (principal in Group::"loaders", action == Action::"read", resource is Artifact)
when { resource.vouches.containsAll(["scan", "structure", "import"]) && context.risk < 60 };
"""
PROGRAM = """
import json, sys, time
way, library, path, socket, empty = sys.argv[1:6]
if way not in {"plain", "again"}:
    import vouchgate.integrations.guard as guard
    installed = guard.install(socket=socket, store=empty if way == "copied" else "")
if library == "safetensors.numpy":
    from safetensors.numpy import load_file as load
    read = lambda tensor: int(tensor.view("uint64").sum(dtype="uint64"))
else:
    import torch
    if library == "safetensors.torch":
        from safetensors.torch import load_file as load
    else:
        load = lambda path: torch.load(path, weights_only=True)
    read = lambda tensor: int(tensor.view(torch.int64).sum())

def once():
    begin = time.perf_counter()
    made = load(path)
    called = time.perf_counter() - begin
    total = sum(read(tensor) for tensor in made.values()) % 2**64
    return time.perf_counter() - begin, called, total

took, called, total = once()
if way == "warm":
    installed._judge._held.clear()
if way in {"again", "warm"}:
    took, called, total = once()
print(json.dumps([took, called, total]))
"""


class Files:
    """One imported file of a kind of library."""

    def __init__(self, house: Installation, library: str, size: int, python: str) -> None:
        self.library, self.size, self._house, self._python = library, size, house, python
        made = house.folder / "model"
        self.read = _write(made, library, size, python)
        with made.open("rb") as stream:
            outcome = house.client.send_file(ImportOutcome, "/api/v1/artifacts", stream, made.stat().st_size, name=made.name, zone="serve")
        assert outcome.admitted, outcome
        made.unlink()
        self.path = house.layout.artifacts / outcome.digest.removeprefix("sha256:")

    def time(self, way: str) -> tuple[float, float]:
        """Seconds of one way (rules 2 and 3): until every byte was read, and until the library's call returned."""
        note = note_path(self._house.layout.artifacts, self.path.stat().st_ino)
        assert note.exists()
        if way == "hashed":
            note.rename(self._house.folder / "note")
        empty = self._house.folder / "empty"
        empty.mkdir(mode=0o755, exist_ok=True)
        _read_once(self.path)
        try:
            done = subprocess.run(
                ["setpriv", f"--reuid={LOADER}", f"--regid={LOADER}", "--clear-groups", self._python, "-c", PROGRAM, way, self.library,
                 str(self.path), str(self._house.layout.api_socket), str(empty)],
                check=False, capture_output=True, text=True, timeout=600, cwd="/", env=_environment(),
            )  # fmt: skip
        finally:
            if way == "hashed":
                (self._house.folder / "note").rename(note)
        if done.returncode:
            raise RuntimeError(f"{self.library}, {way}: {done.stderr[-2000:]}")
        took, called, read = json.loads(done.stdout)
        if read != self.read:
            raise RuntimeError(f"{self.library}, {way}: other bytes were read")
        return float(took), float(called)


def _read_once(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(READ_AHEAD):
            pass


def _environment() -> dict[str, str]:
    """vouchgate and what it needs come from here; another interpreter must be of the same version."""
    own = [str(Path(__file__).resolve().parents[1] / "src"), *(one for one in sys.path if one.endswith("site-packages"))]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(own), "OMP_NUM_THREADS": "1"}


def _write(path: Path, library: str, size: int, python: str) -> int:
    block = size // TENSORS
    arrays = {f"layer{place:02}.weight": np.frombuffer(os.urandom(block), dtype=np.uint8).view(np.float32) for place in range(TENSORS)}
    if library == "torch":
        program = (
            "import sys, numpy, torch\n"
            "block, path = int(sys.argv[1]), sys.argv[2]\n"
            "data = numpy.fromfile(path + '.raw', dtype=numpy.float32).reshape(-1, block // 4)\n"
            "torch.save({f'layer{i:02}.weight': torch.from_numpy(one.copy()) for i, one in enumerate(data)}, path)\n"
        )
        raw = Path(f"{path}.raw")
        with raw.open("wb") as file:
            for array in arrays.values():
                file.write(array.tobytes())
        subprocess.run([python, "-c", program, str(block), str(path)], check=True, timeout=600, env=_environment())
        raw.unlink()
    else:
        save_file(arrays, path)
    return sum(int(array.view(np.uint64).sum(dtype=np.uint64)) for array in arrays.values()) % 2**64


def rows(house: Installation, library: str, size: int, rounds: int, python: str) -> list[Row]:
    """Every way, interleaved."""
    files, took, called = Files(house, library, size, python), defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    chance = random.Random(size)
    for _ in range(rounds):
        for way in chance.sample(WAYS, len(WAYS)):
            until_read, until_returned = files.time(way)
            took[way].append(until_read)
            called[way].append(until_returned)
    gib, alone = size / 2**30, {way: statistics.median(took[way]) for way in ("plain", "again")}
    name = {"torch": "torch.load"}.get(library, f"{library}.load_file")
    found = [
        Row(name=f"{name} {gib:g} GiB, {way}", value=median, unit="s", n=rounds, interval=median_interval(took[way]), note=f"on {filesystem(files.path)}")
        for way, median in alone.items()
    ]  # fmt: skip
    for way, beside in BESIDE.items():
        ratios = [one / alone[beside] for one in took[way]]
        goal = way == "warm" and gib >= 1
        value = statistics.median(ratios)
        found.append(
            Row(
                name=f"{name} {gib:g} GiB, {way}", value=value, unit=f"ratio to {beside}", goal=f"<= {GOAL}" if goal else "",
                met=value <= GOAL if goal else None, n=rounds, interval=median_interval(ratios), note=f"median {statistics.median(took[way]):.3f} s",
            )
        )  # fmt: skip
    returned, guarded = statistics.median(called["again"]), statistics.median(called["warm"])
    found.append(
        Row(
            name=f"{name} {gib:g} GiB, warm, the call alone", value=guarded / returned, unit="ratio to again", n=rounds,
            interval=median_interval([one / returned for one in called["warm"]]), note=f"{guarded * 1000:.1f} ms beside {returned * 1000:.1f} ms",
        )
    )  # fmt: skip
    files.path.unlink()
    return found


def asked(house: Installation, rounds: int, python: str) -> Row:
    """One question with its decision and its durable record, beside a file that takes no time."""
    files, took = Files(house, "safetensors.numpy", 2**16, python), defaultdict[str, list[float]](list)
    for _ in range(rounds):
        for way in ("again", "warm"):
            took[way].append(files.time(way)[0] * 1000)
    alone = statistics.median(took["again"])
    more = [one - alone for one in took["warm"]]
    return Row(name="one question, whatever the size", value=statistics.median(more), unit="ms", n=rounds, interval=median_interval(more))


def sabotage(house: Installation, size: int, python: str) -> Row:
    """Rule 4."""
    files = Files(house, "safetensors.numpy", size, python)
    files.read += 1
    found = 0
    for turn, way in enumerate(WAYS):
        if turn == len(WAYS) - 1:
            house.revoke("sha256:" + files.path.name, "digest")
        try:
            files.time(way)
        except RuntimeError as error:
            found += ("was revoked" if turn == len(WAYS) - 1 else "other bytes") in str(error)
    return Row(
        name="sabotage: other bytes and a refusal are no times",
        value=found,
        unit=f"of {len(WAYS)}",
        goal=f"= {len(WAYS)}",
        met=found == len(WAYS),
        n=len(WAYS),
    )


def main(arguments: list[str] | None = None) -> int:
    """Print and keep the rows; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description="what loading costs under the guard")
    parser.add_argument("--quick", action="store_true", help="64 MiB alone")
    parser.add_argument("--gib", type=int, nargs="+", default=[1, 4], help="sizes (default: 1 4); a full run has both")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch and safetensors")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("only root can run a loader under another uid")
    has_torch = subprocess.run([options.python, "-c", "import torch, safetensors"], capture_output=True, check=False).returncode == 0
    libraries = ("safetensors.numpy", "safetensors.torch", "torch") if has_torch else ("safetensors.numpy",)
    sizes, rounds = ((2**26,), 3) if options.quick else (tuple(gib * 2**30 for gib in options.gib), 7)
    house = Installation()
    try:
        house.folder.chmod(0o755)
        (house.folder / "loaders.cedar").write_text(POLICY)
        house.settings.write_text(house.settings.read_text() + MORE.replace("{policy}", str(house.folder / "loaders.cedar")))
        house.start()
        found = [row for size in sizes for library in libraries for row in rows(house, library, size, rounds, options.python)]
        found += [asked(house, 5 * rounds, sys.executable)]
        found.append(sabotage(house, 2**22, options.python))
    finally:
        house.close()
    emit("guard", found)
    return exit_code(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
