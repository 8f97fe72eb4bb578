"""Runs the scanner process on an open descriptor and reads its report, without trusting it further than that.

Rules
1. The child gets the descriptor, standard output, an empty environment, `/` as its folder, and where the caller is root a uid of its own.
2. A crash, a signal, a timeout, a report over the bound, or one that is not a report, is `incomplete`; never clean, never an exception.
3. A child that has not answered within the timeout is killed and waited for.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from typing import IO

from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.scanning.verdict import ScanReport, unfinished
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.wire import decode, encode

DEFAULT_TIMEOUT_SECONDS = 900.0
"""The process's own bound is 600 s of CPU; this also ends one that sleeps."""
MAX_REPORT_BYTES = 1024 * 1024
"""Bytes of a report: twenty reasons and the facts of a model take about 20 KiB."""
END_SECONDS = 1.0
"""A child that closed its output has this long to end."""
_READ = 65_536


def scan_file(
    fd: int,
    *,
    name: str = "",
    uid: int | None = None,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    settings: ScanSettings = DEFAULTS,
    command: tuple[str, ...] = (sys.executable, "-I", "-m", "vouchgate.edges.processes.scanner"),
) -> ScanReport:
    """Scan the regular file behind `fd`. Blocks; safe to call from a thread. `uid` needs root."""
    size = os.fstat(fd).st_size
    arguments = (*command, "--fd", str(fd), f"--name={_argument(name)}", "--settings", encode(settings).decode())
    try:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(fd,),
            close_fds=True,
            env={},
            cwd="/",
            start_new_session=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            umask=0o077,
        )
    except OSError as error:
        return _incomplete(name, size, f"the scanner did not start: {error.strerror}")
    assert child.stdout is not None
    patience = 0.0
    try:
        output, why = _read(child.stdout, time.monotonic() + timeout)
        patience = 0.0 if why else END_SECONDS
    finally:
        status = _end(child, patience)
    if why or status != 0:
        return _incomplete(name, size, why or _ended(status))
    return _checked(output, name, size, own_uid=uid is not None)


def _argument(name: str) -> str:
    """The display name as one safe argument: it may come from anyone, and hold anything."""
    return "".join(character if character.isprintable() else "?" for character in name[:200])


def _read(stream: IO[bytes], deadline: float) -> tuple[bytes, str]:
    """Everything the child writes, or why not."""
    parts = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return b"", "the scan did not end in time"
            part = os.read(stream.fileno(), _READ)
            if not part:
                return bytes(parts), ""
            parts += part
            if len(parts) > MAX_REPORT_BYTES:
                return b"", f"the scanner's report is over {MAX_REPORT_BYTES} bytes"


def _end(child: subprocess.Popen[bytes], patience: float) -> int:
    """Wait for a child that closed its output; kill one that lingers, or that is not waited for."""
    assert child.stdout is not None
    child.stdout.close()
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        return child.wait()


def _ended(status: int) -> str:
    return f"the scanner was ended by signal {-status}" if status < 0 else f"the scanner ended with status {status}"


def _checked(output: bytes, name: str, size: int, *, own_uid: bool) -> ScanReport:
    try:
        report = decode(ScanReport, output, what="scanner's report")
    except InvalidInput as error:
        return _incomplete(name, size, error.reason)
    verdict = report.verdict
    if verdict.outcome == "clean" and (verdict.covered != size or verdict.size != size or report.digest.size != size or verdict.reasons):
        return _incomplete(name, size, "the scanner's report contradicts itself")
    held = (*report.confinement, "own-uid") if own_uid else report.confinement
    return ScanReport(verdict=verdict, digest=report.digest, confinement=held)


def _incomplete(name: str, size: int, why: str) -> ScanReport:
    remedy = "import it again; if it happens again, export the model anew and report its format"
    return ScanReport(verdict=unfinished(name, size, why, remedy), digest=Digest(value="0" * 64))
