"""The disarmer: one process for one artifact, with no network, no keys, and no way to write but the pipe to whoever started it.

Rules
1. The artifact's files and the file that replaces it arrive as open, read-only descriptors; no path is ever opened. The artifact is mapped. Of a
   folder, the names are the first line on the input.
2. All powers are dropped (confine.py) before the first byte of the artifact is looked at.
3. What is to be written is said in messages (scanning/disarm/frames.py); who started it writes. Then the written file is read back from its first
   byte and compared, tensor by tensor, with what the artifact gives when it is asked again.
4. Whatever goes wrong ends the process without its last word, and then there is no output.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import stat
import sys

from vouchgate.edges.processes import confine
from vouchgate.scanning.catalog import installed
from vouchgate.scanning.disarm import frames
from vouchgate.scanning.disarm.folders import rebuild_folder
from vouchgate.scanning.disarm.low_bits import LowBits, measured
from vouchgate.scanning.disarm.rebuild import Rebuilt, rebuild
from vouchgate.scanning.disarm.report import Held, report_of, sidecar
from vouchgate.scanning.disarm.safetensors_file import Change, Copy, Mismatch
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import Refuse
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.wire import Noun, decode, encode

REFUSED = 4
"""Exit code where nothing could be recovered; the reason is the one message."""
MAX_NAMES_BYTES = 64 * 1024**2
"""Bytes of the line with a folder's names: 10,000 paths of 4,096 characters take 40 MiB."""
GATHER_BYTES = 1024**2
"""Small pieces are sent together up to this size."""


def main(arguments: list[str] | None = None) -> int:
    """Take the descriptor `--fd` apart; `--out-fd` is the file being written, for reading back."""
    parser = argparse.ArgumentParser(prog="vouchgate-disarmer", description="take one artifact apart, handed down as a descriptor")
    parser.add_argument("--fd", required=True, help="descriptors of the artifact's files, parted by commas")
    parser.add_argument("--folder", action="store_true", help="the files are a folder's; their names come on the input")
    parser.add_argument("--out-fd", type=int, required=True)
    parser.add_argument("--as", dest="target", default="")
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--bits", type=int, default=0)
    parser.add_argument("--key", default="")
    options = parser.parse_args(arguments)
    shipped()
    try:
        names = decode(_Names, sys.stdin.buffer.readline(MAX_NAMES_BYTES), what="names of files") if options.folder else None
        views, held = _confined([int(one) for one in options.fd.split(",")])
        settings = decode(ScanSettings, options.settings, what="scan settings")
        if names is None:
            rebuilt = rebuild(views[0], settings, options.target)
        else:
            rebuilt = rebuild_folder(names.names, views, names.others, settings)
        _check_change(rebuilt, options.bits)
    except Refuse as refuse:
        return _refused(encode(refuse.reason))
    except VouchgateError as error:
        return _refused(encode({"why": error.reason, "remedy": error.remedy}))
    key = bytes.fromhex(options.key)
    change = LowBits(options.bits, key) if options.bits else None
    _send(rebuilt, held, change, options.bits, key)
    sys.stdin.buffer.readline()
    _last_word(rebuilt, options.out_fd, change)
    return 0


def _check_change(rebuilt: Rebuilt, bits: int) -> None:
    """A model that is kept as one document is not disturbed, and then it must not seem so. Raises `Refuse`."""
    if bits and rebuilt.document is not None:
        raise Refuse(
            "disarm:no-disturbance",
            "whole artifact",
            "the weights of a model that stays a graph are not disturbed",
            "add `--as safetensors`",
        )


class _Names(Noun, frozen=True, kw_only=True):
    """A folder's files: those of the descriptors, in their order, and the others."""

    names: tuple[str, ...]
    others: tuple[str, ...] = ()


def _confined(descriptors: list[int]) -> tuple[list[memoryview], tuple[str, ...]]:
    """Rule 2: the bytes of the artifact's files, and what holds this process. Raises `Refuse`, `Unsupported`."""
    facts = [os.fstat(one) for one in descriptors]
    if not all(stat.S_ISREG(one.st_mode) for one in facts) or not any(one.st_size for one in facts):
        raise Refuse("disarm:no-file", "whole artifact", "it is not a regular file with bytes in it", "name a model file")
    installed()  # a confined process opens no file, so every format must be there before
    views = [_mapped(descriptor, one.st_size) for descriptor, one in zip(descriptors, facts, strict=True)]
    confine.limit(sum(one.st_size for one in facts))  # behind the mappings: each holds a descriptor of its own
    network = not confine.leave_network()
    confine.forbid_calls()
    return views, ("seccomp",) if network else ("no-network", "seccomp")


def _mapped(descriptor: int, size: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ)) if size else memoryview(b"")


def _send(rebuilt: Rebuilt, held: tuple[str, ...], change: LowBits | None, bits: int, key: bytes) -> None:
    """Rule 3: the file, the sidecar, the report."""
    _send_pieces(rebuilt, change)
    beside = sidecar(rebuilt)
    if beside is not None:
        raw = json.dumps(beside, ensure_ascii=True, indent=1).encode()
        for begin in range(0, len(raw), frames.MAX_BYTES):
            _message(frames.SIDECAR, raw[begin : begin + frames.MAX_BYTES])
    disturbance = measured(rebuilt.findings.tensors, change, bits, key) if change is not None else None
    _message(frames.DONE, encode(report_of(rebuilt, held, disturbance, has_sidecar=beside is not None)))
    sys.stdout.buffer.flush()


def _send_pieces(rebuilt: Rebuilt, change: Change | None) -> None:
    gathered = bytearray()
    for piece in rebuilt.pieces(change):
        if isinstance(piece, Copy) or len(gathered) + len(piece) > GATHER_BYTES:
            _message(frames.BYTES, bytes(gathered))
            gathered.clear()
        if isinstance(piece, Copy):
            sys.stdout.buffer.write(frames.head(frames.COPY, *piece))
        elif len(piece) > GATHER_BYTES:
            _message(frames.BYTES, piece)
        else:
            gathered += piece
    _message(frames.BYTES, bytes(gathered))


def _last_word(rebuilt: Rebuilt, descriptor: int, change: Change | None) -> None:
    try:
        said = Held(identical=True, compared=rebuilt.compare(lambda count: os.read(descriptor, count), change))
    except (Mismatch, ValueError) as error:
        said = Held(identical=False, why=str(error)[:200])
    _message(frames.HELD, encode(said))
    sys.stdout.buffer.flush()


def _message(kind: int, data: bytes | memoryview) -> None:
    flat = memoryview(data).cast("B")
    for begin in range(0, len(flat), frames.MAX_BYTES):
        part = flat[begin : begin + frames.MAX_BYTES]
        sys.stdout.buffer.write(frames.head(kind, len(part)))
        sys.stdout.buffer.write(part)


def _refused(reason: bytes) -> int:
    _message(frames.HELD, reason)
    sys.stdout.buffer.flush()
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
