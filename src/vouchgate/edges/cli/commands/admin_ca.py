"""`vouchgate admin ca`: roots and issuers of the X.509 authority."""

from __future__ import annotations

import argparse
import datetime

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.ca import CaStatus
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "show roots and issuers of the X.509 authority"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 while something waits for a person."""
    return show(session, session.client.get(CaStatus, "/api/v1/ca"))


def show(session: Session, answer: CaStatus) -> int:
    """Print the authority."""
    if session.json(answer):
        return 1 if answer.notice else 0
    printer = session.printer
    for root in answer.roots:
        kind = "signed by a CA above" if root.upstream else "self-signed"
        ends = f", until {_day(root.not_after)}" if root.not_after else ""
        printer.marked("good" if root.status == "active" else "note", f"root {root.number} is {root.status}: {kind}{ends}")
        printer.field("sha256", root.fingerprint or "-")
    by = answer.issuer
    who = f"issuer {by.number} under root {by.root}" if by.number else f"root {by.root}"
    printer.marked("note", f"leaves are signed by {who}, until {_day(by.ends)}; the bundle has sequence {answer.sequence}")
    for text in (*answer.warnings, *((answer.notice,) if answer.notice else ())):
        printer.marked("warn", text)
    return 1 if answer.notice else 0


def _day(at: UnixMillis) -> str:
    return datetime.datetime.fromtimestamp(at / 1000, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
