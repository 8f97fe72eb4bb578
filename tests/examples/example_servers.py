"""Starts the example servers as real processes: once a module, on sockets of their own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
START_SECONDS = 20.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=15)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(self._path)


class Server:
    """One running example."""

    def __init__(self, path: str, process: subprocess.Popen[str]) -> None:
        self.path, self.process = path, process

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON (or text) of one call."""
        link = UnixConnection(self.path)
        raw = body if isinstance(body, bytes | str) or body is None else json.dumps(body)
        link.request(method, path, raw, {"content-type": "application/json", **(headers or {})})
        answer = link.getresponse()
        content = answer.read()
        link.close()
        return answer.status, json.loads(content) if "json" in (answer.headers.get_content_type() or "") else content.decode()

    def raw(self, data: bytes, *, end: bool = True) -> bytes:
        """What comes back for these bytes until the server closes, or goes quiet."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(3)
            link.connect(self.path)
            try:
                link.sendall(data)
                if end:
                    link.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            got = bytearray()
            try:
                while part := link.recv(65536):
                    got += part
            except (TimeoutError, ConnectionError):
                pass
            return bytes(got)


@pytest.fixture(scope="session")
def trained() -> Iterator[Path]:
    """The trained model's folder."""
    folder = Path(tempfile.mkdtemp(prefix="vg"))
    done = subprocess.run([sys.executable, DIGITS / "train.py", "--out", folder], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., Server]]:
    """Start an example on a listening unix socket that is handed down."""
    started: list[Server] = []
    folder = Path(tempfile.mkdtemp(prefix="vg"))

    def run(script: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> Server:
        path = str(folder / f"{len(started)}.sock")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            command = [sys.executable, str(DIGITS / script), "--fd", str(listening.fileno()), *arguments]
            process = subprocess.Popen(
                command, pass_fds=(listening.fileno(), *pass_fds), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        server = Server(path, process)
        started.append(server)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if "ready" in (process.stdout.readline() or ""):
                return server
            if process.poll() is not None:
                break
            time.sleep(0.02)
        process.kill()
        raise AssertionError(process.communicate()[1])

    yield run
    for server in started:
        server.process.terminate()
    for server in started:
        try:
            server.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.communicate()
    shutil.rmtree(folder)
