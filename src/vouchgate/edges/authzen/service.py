"""Everything of the AuthZEN edge put together, inside the decision point's process.

Rules
1. The key of its certificate is made here, lives in this process alone and signs nothing but handshakes; certificate and bundle are renewed at
   half of the certificate's life, and looked at anew each `LOOK_SECONDS`, since a new root or a new CA may come at any time.
2. A caller's certificate chain is verified as an SVID when it is first used, and again under each new bundle; its revocation is seen at once.
3. Applications are taken in when their file is another; one that cannot be compiled leaves the old ones in place and says so in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate import wiring
from vouchgate.edges.authzen.desk import Desk
from vouchgate.edges.authzen.recording import Recorder
from vouchgate.edges.authzen.server import Listeners
from vouchgate.flows.applications import Application, compile_application
from vouchgate.flows.evaluate_for import Evaluations
from vouchgate.flows.replica import Replica
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.settings import host_port

LOOK_SECONDS = 1.0
"""Between two looks at the bundle and at the applications' file."""
RETRY_SECONDS = 0.5
"""Between tries to get a certificate."""

log = logging.getLogger("vouchgate.authzen")


class Remote(Protocol):
    """The control plane's frames."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """One request."""

    async def close(self) -> None:
        """End the connection."""


class Service:
    """See the module's text."""

    def __init__(self, installation: wiring.Installation, layout: Layout, replica: Replica, control: Remote) -> None:
        self._installation, self._layout, self._replica, self._control = installation, layout, replica, control
        self._evaluations = Evaluations(replica)
        settings = installation.settings.authzen
        base = settings.url or (f"https://{settings.hosts[0]}:{host_port(installation.authzen)[1]}" if installation.authzen else "")
        self._desk = Desk(
            self._evaluations,
            Recorder(self._record),
            soon=asyncio.get_running_loop().call_soon,
            monotonic=time.monotonic,
            base=base,
            per_second=settings.requests_per_second,
        )
        self.listeners = Listeners(self._desk, by_uid=self._evaluations.by_uid, by_chain=self._by_chain)
        self._tasks: list[asyncio.Task[None]] = []
        self._at = -1

    async def _record(self, decisions: list[bytes], asked_by: list[str]) -> None:
        await self._control.call("record_decisions", decisions=decisions, asked_by=asked_by)

    def _by_chain(self, tls: Any) -> Callable[[], VerifiedPrincipal | Denied]:
        """Rule 2."""
        chain = wiring.peer_chain(tls)
        verified: list[tuple[Any, VerifiedPrincipal | Denied]] = []

        def caller() -> VerifiedPrincipal | Denied:
            if not chain:
                return Denied(code="anonymous", reason="the caller presented no X.509-SVID", remedy="call with mTLS")
            bundle, now = self._replica.facts.bundle, self._replica.now()
            if not verified or verified[0][0] is not bundle or _ended(verified[0][1], now):
                verified[:] = [(bundle, self._evaluations.by_certificate(chain))]
            return verified[0][1]

        return caller

    async def start(self) -> None:
        """Listen. Raises `Unavailable` where the address is taken."""
        self._take_applications()
        await self.listeners.listen_unix(self._layout.authzen_socket)
        self._tasks.append(asyncio.create_task(self._look()))
        if self._installation.authzen:
            self._tasks.append(asyncio.create_task(self._serve_tls()))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._take_applications()

    def _take_applications(self) -> None:
        """Rule 3."""
        try:
            if not self._layout.applications.exists() or self._layout.applications.stat().st_mtime_ns == self._at:
                return
            self._at, files = wiring.load_applications(self._layout)
            made: dict[str, Application] = {one.name: compile_application(one) for one in files}
        except (VouchgateError, OSError, ValueError) as error:
            log.error("the applications could not be taken in: %s", getattr(error, "reason", type(error).__name__))
            return
        self._evaluations.applications = made

    async def _serve_tls(self) -> None:
        """Rule 1."""
        listening = False
        while True:
            try:
                due = await self._renew()
            except (VouchgateError, OSError, ValueError) as error:
                # the control plane starts beside this process, so a first try that fails says nothing
                if listening or not isinstance(error, VouchgateError):
                    log.error("the certificate could not be renewed: %s", getattr(error, "reason", type(error).__name__))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not listening:
                try:
                    await self.listeners.listen_tls(*host_port(self._installation.authzen))
                except VouchgateError as error:
                    log.error("%s", error.reason)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                listening = True
            bundle = self._replica.facts.bundle
            for _ in range(max(1, int(due / LOOK_SECONDS))):
                await asyncio.sleep(LOOK_SECONDS)
                if self._replica.facts.bundle is not bundle and self._replica.facts.bundle != bundle:
                    break

    async def _renew(self) -> float:
        """A new key and certificate; seconds until the next."""
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        said = await self._control.call("authzen.certificate", spki=spki)
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.listeners.identity(wiring.server_tls(wiring.pem_chain(said["chain"]), pem, said["bundle"]))
        return float(said["seconds"]) / 2

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await self.listeners.close()
        await self._control.close()


def _ended(known: VerifiedPrincipal | Denied, now: int) -> bool:
    return isinstance(known, Denied) or known.not_after <= now
