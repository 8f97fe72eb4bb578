"""A control plane's answers to loads over a real unix socket: the digests that it was told to allow, and what it was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Control:
    """Allows what is in `allowed`; `hold_ms` is how long it says an allow holds."""

    def __init__(self, path: Path) -> None:
        self.path, self.allowed, self.hold_ms = path, set[str](), 1_000
        self.asked: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []
        self.answer: bytes | None = None
        """Sent in the place of an answer."""
        control = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                data = control.answer if control.answer is not None else json.dumps(control.reply(self.path, body)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def reply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/api/v1/serving":
            self.said.append(body)
            return {"vouch_id": "v" * 64, "tier": "cooperative", "expires_at": 1, "renew_ms": 50}
        self.asked.append(body)
        allowed = body["digest"] in self.allowed
        missing = [{"predicate": "scan", "subject": body["digest"], "why": "absent", "remedy": "import it: `vouchgate import FILE`"}]
        return {
            "allowed": allowed, "digest": body["digest"], "resource": "vg://t/artifact/x", "decision_id": "d", "remedy": "",
            "reason": "it is admitted" if allowed else "no policy permits it", "missing": [] if allowed else missing,
            "hold_ms": self.hold_ms if allowed else 0,
        }  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
