"""The warm scanner: a process that has everything imported, and makes a child of itself for each artifact.

Rules
1. Nothing of an artifact ever reaches this process: a job is a socket, which the child alone reads (scan_child.py). No path is opened here.
2. It has no network from before the first job on, and a uid of its own where whoever started it is root.
3. A child holds no socket but its own: the others' answers are not in its reach.
4. Who waits for a child says how it ended: `ENDED` and the status on the job's socket, after everything that the child wrote.
5. A job whose asker is gone is killed; when the control socket is closed, everything ends.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module

from vouchgate.edges.processes import confine, scan_child
from vouchgate.scanning.jobs import ENDED
from vouchgate.scanning.scan import scan

WARM = (
    "encodings.ascii", "encodings.idna", "encodings.latin_1", "encodings.raw_unicode_escape", "encodings.unicode_escape", "encodings.utf_16",
    "encodings.utf_16_be", "encodings.utf_16_le", "encodings.utf_32", "encodings.utf_8_sig", "encodings.cp1252",
    "bz2", "lzma", "zlib", "xml.parsers.expat", "jinja2.ext", "jinja2.sandbox", "yaml", "lz4.frame", "lz4.block", "zstandard",
    "isal.isal_zlib",
)  # fmt: skip
"""What readers import only when they need it: a confined child can open no file, so it must be there before."""
TELL_SECONDS = 2.0
"""An asker that does not read has this long; then its job ends without a word, which it takes for incomplete."""
_MESSAGE_BYTES = 16


@dataclass(frozen=True)
class _Running:
    """A child and its socket; `exits` is readable when it has ended (pidfd_open(2))."""

    pid: int
    exits: int
    socket: socket.socket


def main(arguments: list[str] | None = None) -> int:
    """Serve the control socket `--control` until it is closed."""
    parser = argparse.ArgumentParser(
        prog="vouchgate-scanner", description="scan artifacts handed down as descriptors, each in a child of its own"
    )
    parser.add_argument("--control", type=int, required=True)
    options = parser.parse_args(arguments)
    control = socket.socket(fileno=options.control)
    no_network = confine.leave_network()
    confine.close_to_others()
    _warm()
    _Nursery(control, no_network=no_network).serve()
    return 0


def _warm() -> None:
    """Import what a child cannot, read the knowledge base, and put all of it where the collector does not look again."""
    for module in WARM:
        with suppress(ImportError):
            import_module(module)
    scan(b"warm")
    gc.collect()
    gc.freeze()


class _Nursery:
    """The children that run, by what can be heard of them."""

    def __init__(self, control: socket.socket, *, no_network: bool) -> None:
        self._control, self._no_network = control, no_network
        self._by_exit: dict[int, _Running] = {}
        self._by_socket: dict[int, _Running] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Until the control socket is closed (rule 5: the children end with this process)."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._take():
                        return
                elif descriptor in self._by_exit:
                    self._bury(self._by_exit[descriptor])
                elif descriptor in self._by_socket:
                    self._abandon(self._by_socket[descriptor])

    def _take(self) -> bool:
        """One job: fork, and keep a hand on its socket. False where nobody asks any more."""
        said, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        if not said:
            return False
        for descriptor in descriptors:
            job = socket.socket(fileno=descriptor)
            here = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._leave(job.fileno())
                scan_child.run(job, parent=here, no_network=self._no_network)
            self._watch(_Running(pid, os.pidfd_open(pid), job))
        return True

    def _leave(self, own: int) -> None:
        """In the child: rule 3."""
        theirs: Iterable[int] = (self._control.fileno(), *self._by_exit, *self._by_socket)
        for descriptor in theirs:
            if descriptor != own:
                os.close(descriptor)

    def _watch(self, running: _Running) -> None:
        self._by_exit[running.exits] = running
        self._by_socket[running.socket.fileno()] = running
        self._poll.register(running.exits, select.POLLIN)
        self._poll.register(running.socket, 0)

    def _bury(self, running: _Running) -> None:
        """Rule 4."""
        _, status = os.waitpid(running.pid, 0)
        running.socket.settimeout(TELL_SECONDS)
        with suppress(OSError):
            running.socket.sendall(ENDED + struct.pack("!i", os.waitstatus_to_exitcode(status)))
        self._forget(running)
        running.socket.close()

    def _abandon(self, running: _Running) -> None:
        """Rule 5; what is left of it is buried when it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(running.exits, signal.SIGKILL)
        with suppress(KeyError):
            self._poll.unregister(running.socket)

    def _forget(self, running: _Running) -> None:
        for descriptor in (running.exits, running.socket.fileno()):
            with suppress(KeyError):
                self._poll.unregister(descriptor)
        del self._by_exit[running.exits], self._by_socket[running.socket.fileno()]
        os.close(running.exits)


if __name__ == "__main__":
    sys.exit(main())
