"""`vouchgate secrets put`: bring a credential of somebody else's system. It is read from standard input, never from the command line."""

from __future__ import annotations

import argparse
import json
import sys

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.secrets import MAX_SECRET_BYTES, SecretLine

SUMMARY = "bring a credential of somebody else's system"
DETAIL = """Bring a credential of somebody else's system, from standard input: a JSON object with the rotator's parts (docs/catalog.md),
for example `vouchgate secrets put llm --admin < admin.json` where admin.json holds {"api_key": "..."}. It is proved before it is used."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("name", help="its name in vouchgate.toml")
    parser.add_argument("--admin", action="store_true", help="what vouchgate shows to the owner to make and retire credentials")


def run(session: Session, options: argparse.Namespace) -> int:
    """Taken, or the reason why not; what was brought is not shown."""
    if sys.stdin.isatty():
        session.printer.line("paste a JSON object with its parts, then Ctrl-D")
    text = sys.stdin.read(MAX_SECRET_BYTES + 1)
    if len(text) > MAX_SECRET_BYTES:
        raise Usage(f"more than {MAX_SECRET_BYTES} characters were given", remedy="bring one credential")
    try:
        parts = json.loads(text)
    except ValueError:
        raise Usage("standard input is not JSON", remedy='give an object, for example {"token": "..."}') from None
    if not isinstance(parts, dict) or not all(isinstance(value, str) for value in parts.values()):
        raise Usage("standard input is not an object of texts", remedy='give an object, for example {"token": "..."}')
    answer = session.client.post(SecretLine, "/api/v1/secrets", {"name": options.name, "parts": parts, "admin": options.admin})
    if not session.json(answer):
        session.printer.marked("good", f"{answer.name} is {answer.state}")
    return 0
