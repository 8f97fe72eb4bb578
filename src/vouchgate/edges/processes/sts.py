"""The token service: HTTPS for workloads and agents outside, and the only process that calls out.

`python -m vouchgate.edges.processes.sts --data-dir DIR`. Serves HTTPS on `[sts] listen` (edges/sts) and frames on sts/sts.sock, where the
control plane alone asks for what is fetched outside (`out.*`). It holds no signing key, decides nothing and writes no file: whoever takes it
over sees what passes through it and can mint nothing, because the control plane verifies every token and certificate again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.routing import BaseRoute

from vouchgate import wiring
from vouchgate.edges.processes import asks, logs
from vouchgate.edges.processes.outbound import Outbound
from vouchgate.edges.processes.rpc_server import Handler, serve
from vouchgate.edges.sts import ssf
from vouchgate.edges.sts.app import build_app
from vouchgate.edges.sts.desk import Desk, Remote
from vouchgate.edges.sts.server import TlsServer
from vouchgate.vocabulary.errors import VouchgateError
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings, StsSettings, host_port

LOOK_SECONDS = 20.0
"""Between two looks at the trust bundle; a new root signs at the earliest two minutes after it was published."""
RETRY_SECONDS = 0.2
"""Between tries to get a certificate."""
COMPLAIN_AFTER = 25
"""Tries of a start after which the log is told: the control plane starts beside this process."""


def outbound(installation: wiring.Installation, newest: Callable[[], Settings]) -> dict[str, Handler]:
    """What the control plane may have fetched outside; `newest` are the settings as of the last reload."""
    return asks.handlers(installation.settings) | Outbound(newest, wiring.clock().now).handlers()


def event_routes(desk: Desk, settings: Settings, url: str) -> tuple[BaseRoute, ...]:
    """Where security events come in, if anybody may send some."""
    if not (settings.ssf.transmitters or settings.ssf.receivers):
        return ()

    def expected(name: str) -> str:
        for one in settings.ssf.transmitters:
            if one.name == name and one.token_file:
                return wiring.read_secret(Path(one.token_file)).decode("ascii", "replace")
        return ""

    return ssf.routes(desk, expected_token=expected, url=url, issuer=settings.ssf.issuer or url)


def web_certificate(settings: StsSettings) -> tuple[str, bytes] | None:
    """The web's certificate and its key, read anew each time, so that whoever renews it tells nobody. Raises a typed error."""
    if not settings.web_certificate:
        return None
    chain = wiring.read_small(Path(settings.web_certificate), "[sts] web_certificate").decode("ascii", "replace")
    return chain, wiring.read_secret(Path(settings.web_key))


async def renew(server: TlsServer, control: Remote, settings: StsSettings, log: logging.Logger, told: asyncio.Event) -> None:
    """Keep the service's certificate fresh: a new key and certificate at half of the old one's life, and when a CA comes or goes."""
    tries = 0
    while True:
        try:
            key = ec.generate_private_key(ec.SECP256R1())
            spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
            said = await control.call("sts.certificate", spki=spki)
            pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            server.identity(wiring.pem_chain(said["chain"]), pem, said["bundle"], web_certificate(settings))
            told.set()
            await until_due(control, said["seconds"] / 2)
            continue
        except VouchgateError as error:
            tries += 1
            if told.is_set() or tries % COMPLAIN_AFTER == 0:
                log.error("the certificate could not be renewed: %s", error.reason)
        await asyncio.sleep(RETRY_SECONDS)


async def until_due(control: Remote, seconds: float, look: float = LOOK_SECONDS) -> None:
    """Wait until the time is over or the trust bundle is another: a new root is known here before leaves under it come. Raises a typed error."""
    before = await control.call("sts.bundle")
    for _ in range(max(1, int(seconds // look))):
        await asyncio.sleep(min(look, seconds))
        if await control.call("sts.bundle") != before:
            return


async def run(data_dir: Path) -> None:
    """Serve until SIGTERM."""
    log = logs.set_up("sts")
    installation = wiring.load_installation(data_dir)
    layout, users = Layout(data_dir), installation.users
    control = wiring.async_rpc(layout.control_socket, "control plane")
    frames = await serve(
        layout.sts_socket, outbound(installation, wiring.newest_settings(data_dir)), allowed_uids={users.of("control"), users.own}
    )
    desk = Desk(control)
    settings = installation.settings
    more = event_routes(desk, settings, settings.sts.url or f"https://{installation.sts}")
    server = TlsServer(build_app(desk, requests_per_second=settings.sts.requests_per_second, monotonic=time.monotonic, more=more))
    told = asyncio.Event()
    renewing: asyncio.Task[None] | None = None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    if installation.sts:
        renewing = asyncio.create_task(renew(server, control, settings.sts, log, told))
        await asyncio.wait([stopping, asyncio.create_task(told.wait())], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await server.listen(*host_port(installation.sts))
    log.info("ready")
    await stopping
    if renewing is not None:
        renewing.cancel()
    frames.close()
    await server.close()
    with contextlib.suppress(Exception):
        await control.close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="vouchgate-sts")
    parser.add_argument("--data-dir", type=Path, required=True)
    asyncio.run(run(parser.parse_args().data_dir))


if __name__ == "__main__":
    main()
