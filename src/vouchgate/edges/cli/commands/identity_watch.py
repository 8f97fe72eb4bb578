"""`vouchgate identity watch`: what a workload gets from the Workload API, for whoever runs this command."""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.errors import NotPermitted, Unavailable, Unsupported
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "fetch this process's own identity over the Workload API, and follow it"
DETAIL = """Fetch this process's own identity over the SPIFFE Workload API, as any workload does, and print what comes until Ctrl-C:
a certificate at once, a new one at half of its life, and whatever changes in between. What is printed holds no key."""
RETRY_SECONDS = 1.0
"""Pause before asking again an agent that is away."""
HEADER = {"workload.spiffe.io": "true"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--once", action="store_true", help="end after the first answer")
    parser.add_argument("--jwt", default="", metavar="AUDIENCE", help="fetch one token for this audience instead, and print it")
    parser.add_argument("--agent", default="", metavar="SOCKET", help="the agent's socket; else that of the installation in vouchgate.toml")
    parser.add_argument("--save", default="", metavar="FOLDER", help="write svid.pem, svid.key (0600) and bundle.pem there each time")


def run(session: Session, options: argparse.Namespace) -> int:
    """0 after an answer with --once; else until Ctrl-C."""
    if options.jwt and options.save:
        raise Usage("--save keeps certificates", remedy="leave out --save or --jwt")
    path = options.agent or str(_socket(session))
    if not Path(path).exists():
        raise Unavailable(f"there is no agent on `{path}`", remedy="start vouchgate with `vouchgate up`, or name the socket with --agent")
    if importlib.util.find_spec("grpclib") is None:
        raise Unsupported("the Workload API speaks gRPC, and `grpclib` is not installed", remedy="pip install 'vouchgate[gateway]'")
    return asyncio.run(_token(session, path, options.jwt) if options.jwt else _watch(session, path, options))


def _socket(session: Session) -> Path:
    from vouchgate.vocabulary.layout import Layout

    return Layout(Path(session.settings.data_dir)).workload_socket


async def _token(session: Session, path: str, audience: str) -> int:
    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.exceptions import GRPCError

    from vouchgate.edges.spiffe import messages

    async with Channel(path=path) as channel:
        fetch = UnaryUnaryMethod(channel, f"/{messages.SERVICE}/FetchJWTSVID", messages.JWTSVIDRequest, messages.JWTSVIDResponse)
        try:
            answer = await fetch(messages.JWTSVIDRequest(audience=[audience]), metadata=HEADER)
        except GRPCError as error:
            raise _typed(error) from None
    svid = answer.svids[0]
    if not session.json({"principal": svid.spiffe_id, "token": svid.svid}):
        session.printer.line(svid.svid)
    return 0


async def _watch(session: Session, path: str, options: argparse.Namespace) -> int:
    while True:
        try:
            async for response in _responses(path):
                _show(session, response)
                if options.save:
                    _save(Path(options.save), response)
                if options.once:
                    return 0
        except Unavailable as error:
            if options.once:
                raise
            session.printer.marked("warn", error.reason)
        await asyncio.sleep(RETRY_SECONDS)


async def _responses(path: str) -> AsyncIterator[Any]:
    from grpclib.client import Channel, UnaryStreamMethod
    from grpclib.exceptions import GRPCError, StreamTerminatedError

    from vouchgate.edges.spiffe import messages

    async with Channel(path=path) as channel:
        fetch = UnaryStreamMethod(channel, f"/{messages.SERVICE}/FetchX509SVID", messages.X509SVIDRequest, messages.X509SVIDResponse)
        try:
            async with fetch.open(metadata=HEADER) as stream:
                await stream.send_message(messages.X509SVIDRequest(), end=True)
                async for response in stream:
                    yield response
        except GRPCError as error:
            raise _typed(error) from None
        except (OSError, StreamTerminatedError):
            raise Unavailable("the agent is away", remedy="it is started again by itself") from None


def _typed(error: Any) -> NotPermitted | Unavailable:
    from grpclib.const import Status

    reason, _, remedy = str(error.message or "no reason was given").rstrip(")").partition(" (")
    if error.status in {Status.PERMISSION_DENIED, Status.INVALID_ARGUMENT}:
        return NotPermitted(reason, remedy=remedy or "see `vouchgate identity list`")
    return Unavailable(reason, remedy=remedy or "ask again")


def _show(session: Session, response: Any) -> None:
    from cryptography import x509

    from vouchgate.edges.spiffe.der import split_der
    from vouchgate.identity.binding import binding_of
    from vouchgate.identity.x509svid import serial_text

    svid = response.svids[0]
    chain = [x509.load_der_x509_certificate(der) for der in split_der(svid.x509_svid)]
    leaf = chain[0]
    binding = binding_of(leaf)
    until = UnixMillis(int(leaf.not_valid_after_utc.timestamp() * 1000))
    said = {
        "principal": svid.spiffe_id,
        "serial": serial_text(leaf.serial_number),
        "until": until,
        "certificates": len(chain),
        "bundle": len(split_der(svid.bundle)),
        "federated": sorted(response.federated_bundles),
        "crls": len(response.crl),
        "model": binding.model_digest if binding else "",
        "lineage": binding.lineage_root if binding else "",
    }
    if session.json(said):
        return
    life = duration(int((leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() * 1000))
    show = session.printer
    show.marked("good", svid.spiffe_id)
    show.line(f"  serial {said['serial']}, for {life}, {len(chain)} certificates, {said['bundle']} in the bundle")
    if binding:
        show.line(f"  model {binding.model_digest}, lineage {binding.lineage_root[:16]}")
    if response.federated_bundles:
        show.line(f"  federated with {', '.join(said['federated'])}")


def _save(folder: Path, response: Any) -> None:
    import os
    import ssl

    from vouchgate.edges.spiffe.der import split_der

    svid = response.svids[0]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = base64.encodebytes(svid.x509_svid_key).decode()
    pem = {
        "svid.pem": "".join(ssl.DER_cert_to_PEM_cert(der) for der in split_der(svid.x509_svid)),
        "svid.key": f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n",
        "bundle.pem": "".join(ssl.DER_cert_to_PEM_cert(der) for der in split_der(svid.bundle)),
    }
    for name, text in pem.items():
        part = folder / f".{name}.part"
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(text)
        part.replace(folder / name)
