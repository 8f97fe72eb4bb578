"""`make bench-disarm`: how long rebuilding 1 GiB takes, and how much comes back, bit for bit, of honest and of wrapped state dicts.

Rules (contracts, "Figures cannot be bent")
1. A time counts from the call to the placed, synced, compared and scanned output; beside it stands the limit: the same bytes copied and synced.
2. What a tensor must be is worked out by numpy from the numbers that were drawn, not by what disarm says of itself; the output is read with the
   safetensors library. A tensor counts where dtype, shape and every bit are right, a state dict where all its tensors do.
3. Wrapped: the same state dicts with a call that acts put around, beside or in front; recovered means all tensors are right under whatever name, and
   neither the call's name nor its argument stands in the output.
4. Sabotage: an output with one flipped bit must not count. If it does, the run fails.

Usage: python -m benchmarks.disarm [--quick] [--dir DIR]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from safetensors.numpy import load
from tests.scanning.torch_making import Call, Storage, payload, tensor, torch_legacy, torch_zip

from benchmarks.rows import Row, emit, exit_code, filesystem, median_interval, share_interval
from vouchgate import wiring
from vouchgate.flows.disarm_artifact import disarm
from vouchgate.scanning.disarm.rebuild import rebuild
from vouchgate.scanning.disarm.safetensors_file import Copy
from vouchgate.scanning.verdict import Refuse

ROOT = Path(__file__).resolve().parents[1]
GOAL_SECONDS = 3.0
GOAL_HONEST, GOAL_WRAPPED = 1.0, 0.95
KINDS = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip
"""Kinds whose numbers numpy has; bfloat16 and quantised ones have tests."""
Drawn = tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]


def draw(chance: random.Random, *, legacy: bool) -> Drawn:
    """A state dict and what each of its tensors must be."""
    held, expected = {}, {}
    for place in range(chance.randint(1, 6)):
        kind = chance.choice(list(KINDS))
        base = np.frombuffer(chance.randbytes(8 * 240), dtype=np.uint8)
        numbers = base[:240].astype(np.bool_) if kind == "BoolStorage" else base.view(KINDS[kind])[:240]
        storage = Storage(kind, str(place), numbers.tobytes(), len(numbers), legacy=legacy)
        for turn in range(chance.randint(1, 4)):
            shape = tuple(chance.randint(0 if chance.random() < 0.1 else 1, 4) for _ in range(chance.randint(0, 3)))
            strides = tuple(chance.choice((0, 1, 2, 4, 12)) for _ in shape)
            offset = chance.randint(0, 100)
            name = f"layer{place}.block{turn}.weight"
            held[name] = tensor(storage, shape, strides, offset)
            steps = tuple(step * numbers.itemsize for step in strides)
            expected[name] = np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps).copy()
    return held, expected


def rebuilt(artifact: bytes) -> bytes:
    """The output, as the process would have it written."""
    parts = rebuild(memoryview(artifact)).pieces()
    return b"".join(artifact[part[0] : part[0] + part[1]] if isinstance(part, Copy) else bytes(part) for part in parts)


def right(output: bytes, expected: dict[str, np.ndarray[Any, Any]], *, named: bool) -> bool:
    """Rules 2 and 3."""
    found = load(output)
    if len(found) != len(expected):
        return False
    if not named:
        found = {next((wanted for wanted in expected if name.endswith(wanted)), name): array for name, array in found.items()}
    return found.keys() == expected.keys() and all(_same(found[name], expected[name]) for name in expected)


def _same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


WRAPS = {
    "beside": lambda held: {**held, "zz": payload()},
    "tuple": lambda held: (payload(), held),
    "list": lambda held: [held, payload("builtins", "exec")],
    "argument": lambda held: Call("builtins", "eval", ("touch canary", held)),
    "nested": lambda held: Call("builtins", "getattr", (Call("importlib", "import_module", ("posix",)), "system", held)),
    "state": lambda held: Call("evil", "Model", ("touch canary",), state=held),
    "class": lambda held: Call("evil", "Model", (), state={"weights": held, "run": payload()}, new=True),
    "checkpoint": lambda held: {"epoch": 3, "state_dict": held, "optimizer": payload("runpy", "run_path")},
}


def honest_row(count: int) -> list[Row]:
    chance, good, caught = random.Random(1), 0, 0
    for number in range(count):
        legacy = number % 3 == 2
        held, expected = draw(chance, legacy=legacy)
        output = rebuilt((torch_legacy if legacy else torch_zip)(held))
        good += right(output, expected, named=True)
        length = 8 + int.from_bytes(output[:8], "little")
        if len(output) > length:
            place = chance.randrange(length, len(output))
            flipped = output[:place] + bytes([output[place] ^ 1]) + output[place + 1 :]
            caught += not right(flipped, expected, named=True)
        else:
            caught += 1
    return [
        Row(name="state dicts bit-equal", value=good / count, unit="share", goal=">= 1", met=good >= GOAL_HONEST * count, n=count,
            interval=share_interval(good, count), note="random dtypes, strides, offsets, ties; zip and legacy"),
        Row(name="sabotage: a flipped bit is found", value=caught / count, unit="share", goal="= 1", met=caught == count, n=count),
    ]  # fmt: skip


def wrapped_row(count: int) -> Row:
    chance, good, failed = random.Random(2), 0, set()
    for number in range(count):
        how, legacy = list(WRAPS)[number % len(WRAPS)], number % 2 == 1
        held, expected = draw(chance, legacy=legacy)
        try:
            output = rebuilt((torch_legacy if legacy else torch_zip)(WRAPS[how](held)))
        except Refuse:
            failed.add(how)
            continue
        clean = not any(word in output for word in (b"canary", b"posix", b"evil", b"runpy", b"builtins"))
        good += clean and right(output, expected, named=False)
    return Row(
        name="wrapped state dicts recovered, payload gone", value=good / count, unit="share", goal=f">= {GOAL_WRAPPED}",
        met=good >= GOAL_WRAPPED * count, n=count, interval=share_interval(good, count), note=f"{len(WRAPS)} ways; failed: {sorted(failed) or 'none'}",
    )  # fmt: skip


def time_rows(folder: Path, size: int, rounds: int) -> list[Row]:
    """Rule 1."""
    path, out, plain = folder / "model.pt", folder / "model.safetensors", folder / "copy"
    block = size // 16
    held = {f"layer{place}.weight": Storage("FloatStorage", str(place), os.urandom(block), block // 4) for place in range(16)}
    path.write_bytes(torch_zip({name: tensor(one, (one.count,), (1,)) for name, one in held.items()}))
    del held
    took, copied = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        desk = wiring.disarm_desk()
        answer = disarm(desk, path, out)
        desk.close()
        took.append(time.perf_counter() - begin)
        assert answer.identical and answer.output_verdict == "clean" and answer.report.bytes == block * 16
        copied.append(_copy(path, plain))
    median, limit = float(np.median(took)), float(np.median(copied))
    gib = size / 2**30
    where = f"hashed, compared, scanned, synced on {filesystem(folder)}"
    return [
        Row(name=f"rebuild of {gib:g} GiB torch zip", value=median, unit="s", goal=f"<= {GOAL_SECONDS:g}" if gib >= 1 else "", met=median <= GOAL_SECONDS if gib >= 1 else None,
            n=rounds, interval=median_interval(took), note=where),
        Row(name=f"limit: copy of {gib:g} GiB, synced", value=limit, unit="s", n=rounds, interval=median_interval(copied)),
        Row(name="rebuild beside the copy", value=median / limit, unit="ratio", n=rounds),
    ]  # fmt: skip


def _copy(source: Path, target: Path) -> float:
    begin = time.perf_counter()
    with source.open("rb") as reading, target.open("wb") as writing:
        left = source.stat().st_size
        while left:
            left -= os.copy_file_range(reading.fileno(), writing.fileno(), left)
        os.fsync(writing.fileno())
    took = time.perf_counter() - begin
    target.unlink()
    return took


def main(arguments: list[str] | None = None) -> int:
    """Print and keep the rows; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description="what rebuilding costs, and what comes back")
    parser.add_argument("--quick", action="store_true", help="64 MiB and a tenth of the state dicts")
    parser.add_argument("--dir", default=str(ROOT / "build"), help="where the files lie meanwhile")
    options = parser.parse_args(arguments)
    Path(options.dir).mkdir(parents=True, exist_ok=True)
    count = 80 if options.quick else 800
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="disarm-") as folder:
        rows = [
            *honest_row(count),
            wrapped_row(count),
            *time_rows(Path(folder), 2**26 if options.quick else 2**30, 3 if options.quick else 5),
        ]
    emit("disarm", rows)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
