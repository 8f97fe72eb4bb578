"""`vouchgate admin ca-rotate`: move the X.509 authority to a new root, one step after the other."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.commands.admin_ca import show
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.ca import CaStatus, CaStepRequest

SUMMARY = "move the X.509 authority to a new root: prepare, activate, retire"
DETAIL = (
    "prepare: a new root joins the trust bundle. activate, two minutes later: it signs; the old one goes on verifying. retire, a day later: "
    "the old one leaves the bundle. abandon: drop a root that was not activated. issuer: a new issuer under the active root, now."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("step", choices=("prepare", "activate", "retire", "abandon", "issuer"))
    parser.add_argument("--reason", required=True, help="why, for the log")
    parser.add_argument("--force", action="store_true", help="do not wait: a stolen root must go, whoever loses a certificate by it")


def run(session: Session, options: argparse.Namespace) -> int:
    """The authority afterwards."""
    body = CaStepRequest(step=options.step, force=options.force, reason=options.reason)
    show(session, session.client.post(CaStatus, "/api/v1/ca/step", body))
    return 0
