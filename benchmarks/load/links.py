"""Non-blocking keep-alive connections on one epoll loop, with a tick: what the prober and the load generator are made of.

One thread drives everything, so a time that it reads is never late by another thread's turn at the interpreter; the tick is a timerfd,
because `epoll_wait` counts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import ssl
import struct
import time
from pathlib import Path

from benchmarks.load.client import Target, connect

_libc = ctypes.CDLL(None, use_errno=True)


class Link:
    """One connection; at most one request is under way."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        sock.setblocking(False)
        self.sock, self.name = sock, name
        self.sent_ns = 0
        """When the first byte of the request under way left; 0 when none is."""
        self.status = 0
        """Of the last answer; -1 where the other side closed."""
        self.answered_ns = 0
        self.body = b""
        self.closing = False
        """Whether the other side said that this answer was its last (RFC 9112, section 9.6)."""
        self._buffer = b""

    @classmethod
    def to(cls, target: Target) -> Link:
        """A connection to a target, TLS finished."""
        return cls(connect(target), target.name)

    @classmethod
    def unix(cls, path: Path) -> Link:
        """A connection to a unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(path))
        return cls(sock, path.name)

    @property
    def idle(self) -> bool:
        """Whether a request may be sent."""
        return self.sent_ns == 0 and self.status >= 0 and not self.closing

    def send(self, data: bytes) -> int:
        """Send a request (it must fit the socket's buffer); the moment before its first byte left."""
        self.sent_ns = at = time.monotonic_ns()
        try:
            if self.sock.send(data) != len(data):
                self._closed()
        except OSError:
            self._closed()
        return at

    def receive(self) -> bool:
        """Read what is there; whether the answer is complete. TLS may hold what epoll does not see, so all of it is read."""
        try:
            while True:
                part = self.sock.recv(65536)
                if not part:
                    self._closed()
                    return True
                self._buffer += part
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            self._closed()
            return True
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(rest) < _length(head):
            return False
        self.answered_ns, self.status, self.body = time.monotonic_ns(), int(self._buffer[9:12]), rest
        self.closing = b"\r\nconnection: close" in head.lower()
        self._buffer, self.sent_ns = b"", 0
        return True

    def _closed(self) -> None:
        self.answered_ns, self.status, self.sent_ns = time.monotonic_ns(), -1, 0

    def close(self) -> None:
        """Close it."""
        self.sock.close()


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])


class Loop:
    """epoll over links, and a tick of a fixed period."""

    def __init__(self, tick_seconds: float = 0.0) -> None:
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        self._tick = -1
        if tick_seconds:
            _libc.prctl(29, 1, 0, 0, 0)  # PR_SET_TIMERSLACK: ticks at their moment, not up to 50 us after it
            self._tick = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            period = int(tick_seconds * 1e9)
            _libc.timerfd_settime(self._tick, 0, struct.pack("4q", 0, period, 0, period), None)
            self._epoll.register(self._tick, select.EPOLLIN)

    def add(self, link: Link) -> None:
        """Watch a link."""
        self._links[link.sock.fileno()] = link
        self._epoll.register(link.sock.fileno(), select.EPOLLIN)

    def remove(self, link: Link) -> None:
        """Stop watching a link and close it."""
        if self._links.pop(link.sock.fileno(), None) is not None:
            self._epoll.unregister(link.sock.fileno())
        link.close()

    def turn(self, seconds: float = 1.0) -> tuple[bool, list[Link]]:
        """Wait for the next tick or answer: whether it ticked, and the links whose answer is complete."""
        ticked, done = False, []
        for fd, _ in self._epoll.poll(seconds):
            if fd == self._tick:
                os.read(fd, 8)
                ticked = True
            elif fd in self._links and self._links[fd].receive():
                link = self._links[fd]
                if link.status < 0:
                    self._epoll.unregister(self._links.pop(fd).sock.fileno())
                done.append(link)
        return ticked, done

    def close(self) -> None:
        """Close everything."""
        for link in list(self._links.values()):
            self.remove(link)
        if self._tick >= 0:
            os.close(self._tick)
        self._epoll.close()
