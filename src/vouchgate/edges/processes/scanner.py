"""The scanner: one process for one artifact, with no network, no keys, no files but the one descriptor it is handed.

Rules
1. The artifact arrives as an open, read-only descriptor; no path is ever opened. What is hashed and what is scanned is one mapping.
2. All powers are dropped (confine.py) before the first byte of the artifact is looked at.
3. One JSON document (`ScanReport`) on standard output, or nothing: whoever reads treats silence, a signal and nonsense as incomplete.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import stat
import sys

from vouchgate.edges.processes import confine
from vouchgate.scanning.scan import scan
from vouchgate.scanning.settings import ScanSettings
from vouchgate.scanning.verdict import ScanReport, Verdict, unfinished
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.wire import decode, encode

_CHUNK = 16 * 1024 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Scan the descriptor `--fd`; exit 0 with a report, 3 where the scan could not be made."""
    parser = argparse.ArgumentParser(prog="vouchgate-scanner", description="scan one artifact handed down as a descriptor")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--settings", default="{}")
    options = parser.parse_args(arguments)
    try:
        report = encode(_report(options.fd, options.name, decode(ScanSettings, options.settings, what="scan settings")))
    except VouchgateError as error:
        report = encode(ScanReport(verdict=unfinished(options.name, 0, error.reason, error.remedy), digest=Digest(value="0" * 64)))
    sys.stdout.buffer.write(report)
    sys.stdout.buffer.flush()
    return 0


def _report(descriptor: int, name: str, settings: ScanSettings) -> ScanReport:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        return ScanReport(verdict=unfinished(name, 0, "it is not a regular file", "name a file"), digest=Digest(value="0" * 64))
    scan(b"warm", settings=settings)
    confine.limit(facts.st_size)
    network = not confine.leave_network()
    mapped = mmap.mmap(descriptor, facts.st_size, prot=mmap.PROT_READ) if facts.st_size else b""
    confine.forbid_calls()
    held = ("seccomp",) if network else ("no-network", "seccomp")
    return _scan(memoryview(mapped), name, settings, held)


def _scan(view: memoryview, name: str, settings: ScanSettings, held: tuple[str, ...]) -> ScanReport:
    digest = hashlib.sha256()
    for begin in range(0, len(view), _CHUNK):
        digest.update(view[begin : begin + _CHUNK])
    verdict: Verdict = scan(view, name, settings)
    return ScanReport(verdict=verdict, digest=Digest(value=digest.hexdigest(), size=len(view)), confinement=held)


if __name__ == "__main__":
    sys.exit(main())
