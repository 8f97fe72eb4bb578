"""`vouchgate policy check`: everything that can be said of policy files, or of the policy in force, before anybody is refused or let in."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.cli.printing import Printer
from vouchgate.edges.cli.session import Session
from vouchgate.flows.check_policy import check_files
from vouchgate.policy.catalog import pack, packs
from vouchgate.vocabulary.answers_policy import CheckFinding, CheckReport, CheckRequest, PolicyText
from vouchgate.vocabulary.errors import InvalidInput

SUMMARY = "check policy files, or the policy in force"
DETAIL = """Without files, the policy in force. Each FILE is a Cedar file or the name of a pack. Errors: what cannot be put in force. Warnings: what
is odd in a policy's words; what z3 can prove (never matches, shadowed, asks for too little; with the extra `analysis`); what is loosened
against the policy in force, or against --against or the pack that the files follow; names that are not there; zones without crossings.
--offline asks no control plane. Exit code 1 for errors, and with --strict for warnings too."""
SECONDS = 20.0
"""For what is proved: a pack of fifty policies takes about six."""
MORE_SECONDS = 30.0
"""Over that, until the control plane is not waited for."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="*", metavar="FILE", help="Cedar files or packs; checked together")
    parser.add_argument("--offline", action="store_true", help="without a control plane")
    parser.add_argument("--against", nargs="+", default=[], metavar="FILE", help="with --offline: the files that these are to replace")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help="for what is proved; 0 proves nothing")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for warnings too")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it does not hold."""
    files = texts(options.path)
    if options.offline:
        if not files:
            raise InvalidInput("there is nothing to check", remedy="name Cedar files or packs, or leave out --offline")
        answer = check_files(files, wiring.prover(), against=texts(options.against), seconds=options.seconds)
    else:
        if options.against:
            raise InvalidInput("--against goes with --offline", remedy="without it, the policy in force is compared with")
        request = CheckRequest(policies=files, seconds=options.seconds)
        answer = session.client.post(CheckReport, "/api/v1/policy/examine", request, timeout=options.seconds + MORE_SECONDS)
    if not session.json(answer):
        _show(session.printer, answer)
    return 0 if answer.ok and not (options.strict and answer.findings) else 1


def _show(show: Printer, answer: CheckReport) -> None:
    show.marked("good" if answer.ok else "bad", f"{answer.policies} policies {'hold' if answer.ok else 'do not hold together'}")
    for finding in answer.findings:
        _tell(show, finding)
    for change in answer.changes:
        show.marked("note", change, indent=2)
    for one in answer.cells:
        show.marked(
            "note", f"{one.endpoint} `{one.action}`: {one.allowed} allowed, {one.residual} asked each time, {one.denied} denied", indent=2
        )
    for text in answer.unproved:
        show.marked("warn", f"not looked at: {text}", indent=2)


def _tell(show: Printer, finding: CheckFinding) -> None:
    place = f"{finding.file} line {finding.line}" if finding.file and finding.line else finding.file
    where = " ".join(part for part in (f"`{finding.policy}`" if finding.policy else "", place) if part)
    text = f"{finding.kind}: {where}: {finding.text}" if where else f"{finding.kind}: {finding.text}"
    show.marked("bad" if finding.severity == "error" else "warn", text, indent=2)
    if finding.example:
        show.field("shown by", finding.example)
    show.field("fix", finding.remedy)


def texts(paths: list[str]) -> tuple[PolicyText, ...]:
    """Cedar files by their names, packs by theirs. Raises `InvalidInput`."""
    found = []
    for path in paths:
        if path in packs() and not Path(path).exists():
            found.append(PolicyText(name=pack(path).name, text=pack(path).text))
        else:
            found.append(PolicyText(name=Path(path).name, text=read_policies([path])))
    return tuple(found)


def read_policies(paths: list[str]) -> str:
    """The files' texts, one after the other."""
    try:
        return "\n".join(Path(path).read_text(encoding="utf-8") for path in paths)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"a policy file cannot be read: {error}", remedy="name Cedar files in UTF-8") from None
