"""`vouchgate admin change-passphrase`: another passphrase for the signer's encrypted keys."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.secret import ask_secret
from vouchgate.edges.cli.session import Session

SUMMARY = "replace the passphrase of the signer's keys; the keys themselves stay"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--old-passphrase-file", default="", metavar="FILE", help="the passphrase that holds now (default: asked)")
    parser.add_argument("--new-passphrase-file", default="", metavar="FILE", help="the new one (default: asked twice)")


def run(session: Session, options: argparse.Namespace) -> int:
    """While vouchgate does not run on the data directory."""
    old, new = (Path(name).absolute() if name else None for name in (options.old_passphrase_file, options.new_passphrase_file))
    installation().change_passphrase(session.settings, old_passphrase=old, new_passphrase=new, ask=ask_secret)
    if not session.json({"changed": True}):
        session.printer.marked(
            "good", "the keys open with the new passphrase alone; a backup of the old files still opens with the old one"
        )
    return 0
