"""`vouchgate run -- COMMAND`: run a command under an identity of its own, which ends with it.

Rules
1. The key is made here and never leaves the private folder; only its public half is sent.
2. The certificate is renewed at half its life, by an atomic rename, with the same key.
3. The folder is removed when the command ends, whatever ended it; the exit code is the command's.
4. With --guard every Python among the command and its children starts under the load guard (integrations/guard_site): a folder in front of
   PYTHONPATH, and where to ask in VOUCHGATE_GUARD_*. One in which the guard cannot be installed ends at once.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.keys import P256Key, write_private, write_public
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity
from vouchgate.vocabulary.errors import NotFound, VouchgateError

SUMMARY = "run a command under an identity of its own, which ends with it"
DETAIL = """run a command under an identity of its own. It finds VOUCHGATE_ID, VOUCHGATE_CERT, VOUCHGATE_KEY and VOUCHGATE_BUNDLE
(and VOUCHGATE_TOKEN, the file of a token, with --audience) in its environment. With --guard its Python processes load only models that were
admitted: torch, safetensors, transformers, joblib, pickle, keras, onnxruntime."""
RENEW_FLOOR_SECONDS = 5.0
"""Renewals are at least this far apart, whatever the life of a certificate."""
JWT_FILE = "jwt"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--kind", default="job", help="kind of identity (default: job)")
    parser.add_argument("--zone", default="serve", help="its zone (default: serve)")
    parser.add_argument("--name", default="", help="its name (default: the command and the user)")
    parser.add_argument("--audience", default="", metavar="ENDPOINT", help="also get a token for this endpoint's id")
    parser.add_argument("--guard", action="store_true", help="let its Python processes load only content that policy lets this user read")
    parser.add_argument("--purpose", default="", help="with --guard: what it is loaded for, as policies see it")
    parser.add_argument("--endpoint", default="", metavar="NAME", help="with --guard: the endpoint that answers from what is loaded")
    parser.add_argument(
        "--store", default="", metavar="FOLDER", help="with --guard: a read-only folder of another user, not copied to be read"
    )
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="what to run")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code of the command; 128 + n where signal n ended it."""
    name = options.name or _name(options.command[0])
    if shutil.which(options.command[0]) is None:
        raise NotFound(f"there is no command `{options.command[0]}`", remedy="name a program on PATH")
    if not options.guard and (options.purpose or options.endpoint or options.store):
        raise Usage("--purpose, --endpoint and --store go with --guard", remedy="add --guard, or leave them out")
    folder = Path(tempfile.mkdtemp(prefix="vouchgate-run-"))
    try:
        if options.guard:
            announce_guard(session.api, options)
        identity = _Identity(session, options, name, folder)
        identity.renew()
        identity.announce()
        return _supervise(options.command, identity)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Identity:
    """The files of one identity."""

    def __init__(self, session: Session, options: argparse.Namespace, name: str, folder: Path) -> None:
        self._session, self._options, self._name, self._folder = session, options, name, folder
        self._key = P256Key()
        write_private(folder / "key.pem", self._key.pem())
        self.principal = ""
        self.life_seconds = 0.0

    def renew(self) -> None:
        """New certificate, and token; raises where the control plane refuses."""
        issued = self._issue("x509")
        write_public(self._folder / "bundle.pem", issued.bundle)
        write_public(self._folder / "svid.pem", issued.certificates)
        self.principal = issued.principal
        self.life_seconds = (issued.not_after - self._session.client.now) / 1000
        if self._options.audience:
            token = self._issue("jwt")
            write_private(self._folder / JWT_FILE, token.token)
            self.life_seconds = min(self.life_seconds, (token.not_after - self._session.client.now) / 1000)

    def _issue(self, form: str) -> IssuedIdentity:
        asked = IdentityRequest(
            kind=self._options.kind,
            zone=self._options.zone,
            name=self._name,
            form=form,  # type: ignore[arg-type]
            audience=self._options.audience if form == "jwt" else "",
            spki=self._key.spki(),
        )
        return self._session.client.post(IssuedIdentity, "/api/v1/identities", asked)

    def announce(self) -> None:
        """Put the paths into the environment that the command inherits."""
        told = {"ID": self.principal, "CERT": "svid.pem", "KEY": "key.pem", "BUNDLE": "bundle.pem"}
        if self._options.audience:
            told = {**told, "TOKEN": JWT_FILE}
        for name, value in told.items():
            os.putenv(f"VOUCHGATE_{name}", value if name == "ID" else str(self._folder / value))


def announce_guard(socket: Path, options: argparse.Namespace) -> None:
    """Rule 4; what stood in PYTHONPATH stays behind it."""
    import vouchgate
    from vouchgate import wiring

    site = str(Path(vouchgate.__file__).resolve().parent / "integrations" / "guard_site")
    told = {"SOCKET": str(socket.resolve()), "PURPOSE": options.purpose, "ENDPOINT": options.endpoint, "STORE": options.store}
    for name, value in told.items():
        os.putenv(f"{wiring.GUARD}{name}", value)
    os.putenv("PYTHONPATH", wiring.before_python_path(site))


def _supervise(command: list[str], identity: _Identity) -> int:
    child = subprocess.Popen(command)
    before = {number: signal.signal(number, lambda got, _frame: child.send_signal(got)) for number in FORWARDED}
    try:
        while True:
            try:
                code = child.wait(max(RENEW_FLOOR_SECONDS, identity.life_seconds / 2))
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                _renew_or_say(identity)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.kill()
            child.wait()


def _renew_or_say(identity: _Identity) -> None:
    """A control plane that is away must not end the command; its identity then runs out."""
    import sys

    try:
        identity.renew()
    except VouchgateError as error:
        print(f"vouchgate: the identity was not renewed: {error.reason}", file=sys.stderr)


def _name(command: str) -> str:
    made = re.sub(r"[^a-z0-9._-]+", "-", f"{Path(command).name}-{getpass.getuser()}".lower()).strip("-._")
    if not made:
        raise Usage("no name can be made from the command", remedy="give one with --name")
    return made[:64]
