"""`vouchgate doctor`: check this machine, the settings and the installation; works without a control plane."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_upkeep import DoctorCheck
from vouchgate.vocabulary.errors import VouchgateError

SUMMARY = "check this machine, the settings and the installation"
MARK = {"ok": "good", "warning": "warn", "failed": "bad"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where a check failed. Settings that cannot be read are a finding too, not the end."""

    checks: list[DoctorCheck] = []
    try:
        settings = session.settings
        checks.append(DoctorCheck(name="settings", state="ok", detail=str(session.settings_path)))
    except VouchgateError as error:
        settings = None
        checks.append(DoctorCheck(name="settings", state="failed", detail=error.reason, remedy=error.remedy))
    checks += installation().doctor(settings)
    if not session.json(checks):
        for check in checks:
            session.printer.marked(MARK[check.state], f"{check.name.ljust(16)} {check.detail}")
            if check.state != "ok":
                session.printer.field("fix", check.remedy)
    return 1 if any(check.state == "failed" for check in checks) else 0
