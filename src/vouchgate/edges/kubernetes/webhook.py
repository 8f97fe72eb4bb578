"""The admission webhook over HTTPS: `POST /admit` takes an AdmissionReview, `GET /healthz` says that it listens.

Rules
1. TLS 1.2 or later. With a client CA only who shows a certificate of it is heard (the API server's, by its kubeconfig for webhooks); without one
   anybody who reaches the port learns what the gate answers, never more.
2. Certificates are read again when their files change, so a renewed secret holds from the next handshake on. What cannot be read leaves the old ones.
3. A head, a body and a handshake are bounded in size and time, connections and questions in number. What is too much is refused with 429.
4. The control plane is asked over its unix socket, each question in a thread of its own; an allow is held for as long as its answer says, by
   everything that was asked. A refusal is never held.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from vouchgate.edges.bounded_http import Listening, TimedHead, served_by, whole_body
from vouchgate.edges.kubernetes.review import How, answer
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, VouchgateError

PATH = "/admit"
MAX_BODY_BYTES = 7 * 1024 * 1024
"""An object of at most 1.5 MiB in etcd, 3 MiB in a request, twice (as it is and as it was), and the review around them."""
BODY_SECONDS = 5.0
HEAD_SECONDS = 5.0
MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 256
"""API servers keep a handful open, and open more while many workloads start."""
KEEP_ALIVE_SECONDS = 90
MAX_REVIEWS = 64
"""Reviews at once; each holds its body."""
MAX_ASKING = 16
"""Questions at once; the control plane gives one uid 64 connections."""
ASK_SECONDS = 4.0
"""For one question, below review.ANSWER_SECONDS, so that its reason is told."""
MAX_HELD = 4_096
BACKLOG = 128
RELOAD_SECONDS = 1.0
"""Between two looks at the certificates' files."""


class Asker:
    """Rule 4. `post` sends one question and raises typed errors."""

    def __init__(self, post: Callable[[GateRequest], GateOutcome]) -> None:
        self._post = post
        self._pool = ThreadPoolExecutor(MAX_ASKING, thread_name_prefix="gate")
        self._held: OrderedDict[bytes, tuple[int, GateOutcome]] = OrderedDict()

    async def __call__(self, request: GateRequest) -> GateOutcome:
        key = msgspec.json.encode(msgspec.structs.replace(request, subject=""))
        held = self._held.get(key)
        if held is not None and held[0] > time.monotonic_ns():
            return held[1]
        asked = time.monotonic_ns()
        said = await asyncio.get_running_loop().run_in_executor(self._pool, self._post, request)
        if said.allowed is True and said.digest == request.digest:
            # counted from the question: a slow answer is held for less
            self._held[key] = asked + said.hold_ms * 1_000_000, said
            self._held.move_to_end(key)
            while len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
        return said

    def close(self) -> None:
        """Nothing more is asked."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def build_app(asker: Asker, how: How) -> ASGIApp:
    """The app."""
    room = asyncio.Semaphore(MAX_REVIEWS)

    async def admit(request: Request) -> Response:
        if room.locked():
            return _refused(LimitExceeded(f"{MAX_REVIEWS} reviews are being answered", remedy="the API server asks again"), 429)
        async with room:
            try:
                data = await whole_body(request, "application/json", most=MAX_BODY_BYTES, seconds=BODY_SECONDS)
                return Response(await answer(data, how, asker), media_type="application/json")
            except LimitExceeded as error:
                return _refused(error, 413)
            except VouchgateError as error:
                return _refused(error, 400)

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    return Router([Route(PATH, admit, methods=["POST"]), Route("/healthz", healthz)], redirect_slashes=False)


def _refused(error: VouchgateError, status: int) -> Response:
    return Response(f"{error.reason}; {error.remedy}\n", status, media_type="text/plain; charset=utf-8")


class _Protocol(TimedHead):
    head_seconds = HEAD_SECONDS


class Certificates:
    """Rules 1 and 2."""

    def __init__(self, chain: Path, key: Path, client_ca: Path | None) -> None:
        """Raises `InvalidInput`."""
        self._files, self._client_ca = (chain, key, *((client_ca,) if client_ca else ())), client_ca
        self._seen, self._looked = self._stamps(), time.monotonic()
        self._context = self._read()
        self.context = self._read()
        """What the listener is given: it turns each handshake to the newest."""
        self.context.sni_callback = self._newest

    def _newest(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        now = time.monotonic()
        if now - self._looked > RELOAD_SECONDS:
            self._looked = now
            with contextlib.suppress(InvalidInput):
                if (stamps := self._stamps()) != self._seen:
                    self._context, self._seen = self._read(), stamps
        connection.context = self._context

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((facts.st_ino, facts.st_mtime_ns) for facts in (path.stat() for path in self._files))
        except OSError as error:
            raise InvalidInput(
                f"`{error.filename}` cannot be read: {error.strerror}", remedy="name the certificate's chain, its key and the client CA"
            ) from None

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._files[0], self._files[1])
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"the certificate cannot be used: {error}", remedy="give PEM files that belong together") from None
        return context


class Webhook:
    """The listener; `port` is the one that was taken."""

    def __init__(self, app: ASGIApp, certificates: Certificates) -> None:
        self._config = served_by(_Protocol, app, head_bytes=MAX_HEAD_BYTES, connections=MAX_CONNECTIONS, keep_alive=KEEP_ALIVE_SECONDS)
        self._certificates, self._listening = certificates, Listening(_Protocol, backlog=BACKLOG)

    @property
    def port(self) -> int:
        """The port that was taken; 0 before."""
        return self._listening.port

    async def listen(self, host: str, port: int) -> None:
        """Begin. Raises `Unavailable` where the port is taken."""
        await self._listening.listen(host, port, self._config, self._certificates.context, who="the gate", remedy="name another --listen")

    async def close(self) -> None:
        """Stop listening and end what is open."""
        await self._listening.close()
