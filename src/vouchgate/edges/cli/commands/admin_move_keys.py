"""`vouchgate admin move-keys`: the signer's keys go to where `[keys] place` says."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import Session

SUMMARY = "move the signer's keys to where `[keys] place` says; all of them, or none where it fails"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--old-passphrase-file", default="", metavar="FILE", help="the passphrase that holds now (default: asked)")
    parser.add_argument(
        "--generate", action="store_true", help="make all keys anew there; needed out of a token, and into one that takes none"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory."""
    old = Path(options.old_passphrase_file).absolute() if options.old_passphrase_file else None
    lay = installation().move_keys(session.settings, generate=options.generate, old_passphrase=old, ask=ask_secret)
    if session.json({"from": lay, "to": session.settings.keys.place, "generated": options.generate}):
        return 0
    session.printer.marked("good", f"the keys were moved from `{lay}` to `{session.settings.keys.place}`")
    if options.generate:
        session.printer.marked("warn", "they are new keys: sign the next TrustRoot before you start")
        session.printer.command("", "vouchgate admin renew-trust --root-key FILE")
    return 0
