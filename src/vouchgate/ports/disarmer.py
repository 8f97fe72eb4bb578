"""Runs the disarming process on an open descriptor, and writes what it says to write, without trusting it further than that.

Rules
1. The child gets read-only descriptors (the artifact's files, the output), two pipes, an empty environment, `/` as its folder, and where the caller is
   root a uid of its own. It names spans of the artifact to copy; the copying is done here, between descriptors, and no span outside a file is. Where
   the artifact is a folder, its files lie one behind the other in one space of offsets, and their names are said on the child's input.
2. The output and the sidecar have a bound; a message over its bound, out of order or of no known kind ends the child.
3. A crash, a signal, a timeout or a child without a last word is a failure, and then nothing of the output may be used.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from vouchgate.scanning.disarm import frames
from vouchgate.scanning.disarm.report import Held, RebuildReport
from vouchgate.scanning.settings import DEFAULTS, ScanSettings
from vouchgate.vocabulary.errors import Unavailable, VouchgateError
from vouchgate.vocabulary.wire import Noun, decode, encode

TIMEOUT_SECONDS = 900.0
"""The process's own bound is 600 s of CPU; this also ends one that sleeps."""
MAX_SIDECAR_BYTES = 512 * 1024**2
"""Bytes: five million plain values take about 100 MiB."""
MAX_OUTPUT_FACTOR = 16
FLOOR_BYTES = 2 * 1024**3
"""The output may have `MAX_OUTPUT_FACTOR` times the artifact and this; the process's own bounds are tighter."""
_COPY_BYTES = 256 * 1024**2
_READ = 1024**2
_UNCOPYABLE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_REMEDY = "try it again; if it happens again, report the artifact's format and producer"


class NotRebuilt(VouchgateError):
    """Nothing of the artifact could be recovered."""

    code = "not-rebuilt"
    status = 422
    exit_code = 1


class _Said(Noun, frozen=True, kw_only=True):
    """A refusal as the process says it."""

    why: str
    remedy: str
    rule: str = ""
    where: str = ""
    weight: str = ""
    member: str = ""


@dataclass(frozen=True)
class Files:
    """Open descriptors."""

    artifact: tuple[int, ...]
    output: int
    """For writing, empty."""
    output_again: int
    """The same file for reading, from its first byte: another open, so that it has a place of its own."""
    sidecar: int
    names: tuple[str, ...] = ()
    """Of a folder: what each file of `artifact` is called in it."""
    others: tuple[str, ...] = ()
    """Of a folder: its other files, which are not opened."""


def rebuild(
    files: Files,
    *,
    target: str = "",
    bits: int = 0,
    key: bytes = b"",
    written: Callable[[], None] = lambda: None,
    uid: int | None = None,
    timeout: float = TIMEOUT_SECONDS,
    settings: ScanSettings = DEFAULTS,
    command: tuple[str, ...] = (sys.executable, "-I", "-m", "vouchgate.edges.processes.disarmer"),
) -> RebuildReport:
    """Write the output and the sidecar; the report, once the written file was read back and was the same. `written` is called when all of it is
    written and the comparison begins. Blocks. Raises `NotRebuilt`, `Unavailable`."""
    arguments = [
        *command,
        "--fd",
        ",".join(map(str, files.artifact)),
        "--out-fd",
        str(files.output_again),
        "--settings",
        encode(settings).decode(),
    ]
    arguments += ["--bits", str(bits), "--key", key.hex()] if bits else []
    arguments += ["--as", target] if target else []
    arguments += ["--folder"] if files.names else []
    child = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(*files.artifact, files.output_again),
        close_fds=True,
        env={},
        cwd="/",
        start_new_session=True,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        umask=0o077,
    )
    try:
        return _Conversation(child, files, time.monotonic() + timeout, written).hold()
    finally:
        _end(child)


class _Conversation:
    """One run, message by message."""

    def __init__(self, child: subprocess.Popen[bytes], files: Files, deadline: float, written: Callable[[], None]) -> None:
        self._written = written
        assert child.stdin is not None and child.stdout is not None
        self._in, self._out, self._files, self._deadline = child.stdin, child.stdout.fileno(), files, deadline
        self._begins = [0, *accumulate(os.fstat(one).st_size for one in files.artifact)]
        self._left = self._begins[-1] * MAX_OUTPUT_FACTOR + FLOOR_BYTES
        self._sidecar_left = MAX_SIDECAR_BYTES
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)

    def hold(self) -> RebuildReport:
        """Until the last word."""
        with self._selector:
            self._name_files()
            report: RebuildReport | None = None
            while True:
                kind, first, second = frames.HEAD.unpack(self._exactly(frames.HEAD.size))
                if kind == frames.BYTES and report is None:
                    self._left = self._write(self._files.output, first, self._left)
                elif kind == frames.SIDECAR and report is None:
                    self._sidecar_left = self._write(self._files.sidecar, first, self._sidecar_left)
                elif kind == frames.COPY and report is None:
                    self._copy(first, second)
                elif kind == frames.DONE and report is None:
                    report = decode(RebuildReport, self._small(first), what="disarmer's report")
                    self._written()
                    with suppress(BrokenPipeError):
                        self._in.write(b"written\n")
                        self._in.flush()
                elif kind == frames.HELD:
                    return self._ended(report, self._small(first))
                else:
                    raise _broken("it said something that it may not say now")

    def _name_files(self) -> None:
        """A child that will not listen ends, and is then told as one without a last word."""
        if self._files.names:
            with suppress(BrokenPipeError):
                self._in.write(encode({"names": self._files.names, "others": self._files.others}) + b"\n")
                self._in.flush()

    def _ended(self, report: RebuildReport | None, said: bytes) -> RebuildReport:
        if report is None:
            why = decode(_Said, said, what="disarmer's reason")
            raise NotRebuilt(why.why, remedy=why.remedy)
        held = decode(Held, said, what="disarmer's last word")
        if not held.identical or held.compared != os.fstat(self._files.output).st_size:
            raise _broken(f"the written file is not what was recovered: {held.why or 'it was not read to its end'}")
        return report

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            parts += self._part(count - len(parts))
        return bytes(parts)

    def _part(self, count: int) -> bytes:
        left = self._deadline - time.monotonic()
        if left <= 0 or not self._selector.select(left):
            raise _broken("it did not end in time")
        part = os.read(self._out, min(count, _READ))
        if not part:
            raise _broken("it ended without a last word")
        return part

    def _small(self, count: int) -> bytes:
        if count > frames.MAX_REPORT_BYTES:
            raise _broken("its report is over the bound")
        return self._exactly(count)

    def _write(self, descriptor: int, count: int, left: int) -> int:
        if count > min(left, frames.MAX_BYTES):
            raise _broken("it would write more than the bound")
        remaining = count
        while remaining:
            part = memoryview(self._part(remaining))
            remaining -= len(part)
            while part:
                part = part[os.write(descriptor, part) :]
        return left - count

    def _copy(self, begin: int, length: int) -> None:
        """Rule 1."""
        place = bisect_right(self._begins, begin) - 1
        if place + 1 >= len(self._begins) or begin + length > self._begins[place + 1] or length > self._left:
            raise _broken("it would copy what does not lie in the artifact, or more than the bound")
        self._left -= length
        source, begin = self._files.artifact[place], begin - self._begins[place]
        while length:
            done = _copied(source, self._files.output, min(length, _COPY_BYTES), begin)
            if not done:
                raise _broken("the artifact became shorter meanwhile")
            begin, length = begin + done, length - done
            if time.monotonic() > self._deadline:
                raise _broken("it did not end in time")


def _copied(source: int, target: int, count: int, begin: int) -> int:
    """Inside the kernel, where the two filesystems let it."""
    try:
        return os.copy_file_range(source, target, count, begin)
    except OSError as error:
        if error.errno not in _UNCOPYABLE:
            raise
    return os.sendfile(target, source, begin, count)


def _end(child: subprocess.Popen[bytes]) -> None:
    """A child that has said its last word ends by itself; any other is ended."""
    assert child.stdin is not None and child.stdout is not None
    child.stdout.close()
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(1.0)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()


def _broken(why: str) -> VouchgateError:
    return Unavailable(f"the artifact was not rebuilt: {why}", remedy=_REMEDY)
