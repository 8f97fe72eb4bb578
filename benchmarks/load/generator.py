"""Load beside a measurement: as fast as answers come back, or at a rate, until told to end; then says what was answered.

Usage: python -m benchmarks.load.generator SPEC   (a JSON file with the fields of `Spec`)
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import time
from collections import Counter, deque
from pathlib import Path

import msgspec

from benchmarks.load.client import Target
from benchmarks.load.credentials import client_context
from benchmarks.load.links import Link, Loop

COUNTER = b"00000000"
"""Eight digits in the request that are replaced by a number of its own, so that its length stays."""


class Spec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to send, where to, how fast."""

    request: str
    """Base64."""
    out: str
    """File for the counts, written every second and at the end."""
    connections: int = 16
    per_second: float = 0.0
    """0: closed loop on every connection."""
    unix: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    ca: str = ""
    certificate: str = ""
    key: str = ""
    uid: int = 0
    """Run as this user where the caller is root; 0 keeps the caller's."""
    counted: bool = False
    """Whether `COUNTER` in the request is replaced."""


class Counts(msgspec.Struct, kw_only=True):
    """What came back."""

    seconds: float
    answers: dict[str, int]


def spec(request: bytes, **fields: object) -> bytes:
    """A spec as JSON."""
    return msgspec.json.encode(Spec(request=base64.b64encode(request).decode(), **fields))  # type: ignore[arg-type]


class Generator:
    """The connections and what they sent."""

    def __init__(self, asked: Spec) -> None:
        self._asked, self._request = asked, base64.b64decode(asked.request)
        self._loop = Loop(0.001 if asked.per_second else 0.0)
        self._number = 0
        self._answers: Counter[int] = Counter()
        self._idle: deque[Link] = deque(self._open() for _ in range(asked.connections))
        self._began = time.monotonic()
        self._sent = 0
        self.running = True

    def _open(self) -> Link:
        asked = self._asked
        if asked.unix:
            link = Link.unix(Path(asked.unix))
        else:
            tls = client_context(asked.ca, asked.certificate, asked.key) if asked.ca else None
            link = Link.to(Target(name="load", address=(asked.host, asked.port), request=self._request, tls=tls))
        self._loop.add(link)
        return link

    def run(self) -> None:
        """Send until `running` is false."""
        told = self._began
        while self.running:
            wanted = (time.monotonic() - self._began) * self._asked.per_second if self._asked.per_second else float("inf")
            while self._idle and self._sent < wanted:
                self._idle.popleft().send(self._next())
                self._sent += 1
            for link in self._loop.turn(0.1)[1]:
                self._answers[link.status] += 1
                self._idle.append(link if link.idle else self._open())
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self.tell()

    def _next(self) -> bytes:
        if not self._asked.counted:
            return self._request
        self._number += 1
        return self._request.replace(COUNTER, b"%08d" % self._number, 1)

    def tell(self) -> None:
        """Write the counts."""
        answers = {str(status): count for status, count in self._answers.items()}
        path = Path(self._asked.out)
        path.write_bytes(msgspec.json.encode(Counts(seconds=time.monotonic() - self._began, answers=answers)))


def main(path: str) -> None:
    """Run one spec."""
    asked = msgspec.json.decode(Path(path).read_bytes(), type=Spec)
    Path(asked.out).touch(0o666)
    if asked.uid and os.geteuid() == 0:
        os.chown(asked.out, asked.uid, asked.uid)
        os.setgid(asked.uid)
        os.setuid(asked.uid)
    generator = Generator(asked)

    def stop(*_: object) -> None:
        generator.running = False

    signal.signal(signal.SIGTERM, stop)
    generator.run()
    generator.tell()


if __name__ == "__main__":
    main(sys.argv[1])
