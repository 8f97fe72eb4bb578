"""`vouchgate config check`: read vouchgate.toml, say whether it can be used, and what is open in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.cli.session import Session
from vouchgate.flows.check_settings import check_settings
from vouchgate.vocabulary.answers_policy import SettingsReport

SUMMARY = "check vouchgate.toml"
DETAIL = """An error (exit code 2) is what contradicts itself. Warnings: a listener without TLS for other machines, a long lease, zones without
crossings; with --against what is more open than in the settings that these replace: crossings, modes, leases, zones of endpoints and assets,
labels, groups."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--against", default="", metavar="FILE", help="the settings that these are to replace")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for warnings")


def run(session: Session, options: argparse.Namespace) -> int:
    """Raises `InvalidSettings`, which is exit code 2."""
    settings = session.settings
    old = wiring.read_settings(Path(options.against).absolute()) if options.against else None
    report = SettingsReport(endpoints=len(settings.endpoints), zones=len(settings.zones), findings=check_settings(settings, old))
    if not session.json(report):
        told = f"{report.endpoints} endpoints in {report.zones} zones"
        session.printer.marked("good", f"{session.settings_path}: {told}")
        for one in report.findings:
            session.printer.marked("warn", f"{one.kind}: {one.text}", indent=2)
            session.printer.field("fix", one.remedy)
    return 1 if options.strict and report.findings else 0
