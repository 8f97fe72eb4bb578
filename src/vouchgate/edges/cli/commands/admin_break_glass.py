"""`vouchgate admin break-glass`: with the offline root key, hold every role for one hour. Loud, logged, used once."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.principals import Registration

SUMMARY = "hold every role for an hour, on the offline root key's word; an entry of the log, and first on every page"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "--root-key", required=True, action="append", metavar="FILE", help="an offline root key (PEM); as many as the TrustRoot asks for"
    )
    parser.add_argument("--reason", required=True, help="why, for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Signed here; the key does not leave this process."""
    from vouchgate.evidence.breakglass import BreakGlass, sign_break_glass
    from vouchgate.flows.initialise import load_root_key
    from vouchgate.vocabulary.vouches import UnixMillis
    from vouchgate.wiring import clock

    statement = BreakGlass(
        trust_domain=session.settings.trust_domain,
        uid=os.geteuid(),
        reason=options.reason,
        nonce=secrets.token_hex(16),
        signed_at=UnixMillis(clock().now()),
    )
    envelope = sign_break_glass(statement, [load_root_key(Path(path).read_bytes()) for path in options.root_key])
    answer = session.client.post(Registration, "/api/v1/break-glass", {"envelope": envelope})
    if not session.json(answer):
        session.printer.marked("warn", f"you are {answer.principal} for one hour")
        session.printer.field("roles", ", ".join(answer.groups))
    return 0
