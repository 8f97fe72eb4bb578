"""`vouchgate scan`: look into model files and folders without running them. Works without a control plane: the scanner is a process of its own.

What `--json` prints, one line for each artifact in the order of the paths, is a contract: `path`, `digest`, `format`, `verdict` and `reasons`,
each with `rule`, `where`, `member`, `why`, `remedy`, `weight`. Further keys may come.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned

SUMMARY = "look into a model file without running it"
DETAIL = "Look into files and folders without running anything of them. Exit code 0: all clean; 1: at least one is not; 2: usage."
JOBS_A_PROCESSOR = 2
"""While one artifact is being opened and told, another is read."""
MAX_JOBS = 64
"""Artifacts at once; each is a process that may take 2 GiB."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="+", help="a file, a folder (one artifact, or walked), or an https address")
    parser.add_argument("--structure", action="store_true", help="a quick look at the structure; nothing is clean then")
    parser.add_argument("--explain", action="store_true", help="every reason, and what let each name in")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="artifacts at once (default: two for each processor)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FILE",
        help="an allowance of `vouchgate knowledge allow`, or any other vouch about the file",
    )
    parser.add_argument("--trust-root", metavar="FILE", default="", help="the TrustRoot that delegates whoever signed it")
    parser.add_argument("--root", metavar="FINGERPRINT", default="", help="of the TrustRoot's own keys, as `vouchgate init` showed it")
    parser.add_argument("--sarif", metavar="FILE", default="", help="write the findings as SARIF 2.1.0 too")
    parser.add_argument("--ocsf", metavar="FILE", default="", help="write the findings as OCSF events too, one a line")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where anything is not clean."""
    from vouchgate.edges.cli.scan_shown import Progress, Table

    jobs = options.jobs or min(MAX_JOBS, JOBS_A_PROCESSOR * len(os.sched_getaffinity(0)))
    if not 1 <= jobs <= MAX_JOBS:
        raise Usage(f"--jobs is {options.jobs}", remedy=f"give a number from 1 to {MAX_JOBS}")
    counted: Counter[str] = Counter()
    kept: list[Scanned] = []
    with ExitStack() as stack:
        allowed = _allowed(options)
        scan = stack.enter_context(installation().scan(options.path, jobs=jobs, deep=not options.structure, allowed=allowed))
        progress = Progress(sys.stderr, total=scan.count, size=scan.size)
        table = Table(session.printer, explain=options.explain)
        for one in scan.results():
            counted[one.report.verdict.outcome] += 1
            if options.sarif or options.ocsf:
                kept.append(one)
            progress.clear()
            if session.as_json:
                sys.stdout.write(json_line(one) + "\n")
                sys.stdout.flush()
            else:
                table.row(one)
            progress.one(one.report.digest.size)
        progress.clear()
    if not session.as_json:
        table.end(counted)
    _write(options, kept)
    return 0 if set(counted) <= {"clean"} else 1


def _allowed(options: argparse.Namespace) -> Mapping[str, Any]:
    """What is allowed, by digest; what does not count is told, and then is as if it were not there."""
    if not options.allow:
        return {}
    if not (options.trust_root and options.root):
        raise Usage("--allow needs --trust-root and --root", remedy="name the TrustRoot and its fingerprint, as `vouchgate init` showed it")
    found, faults = installation().allowances([Path(file) for file in options.allow], Path(options.trust_root), options.root)
    for fault in faults:
        sys.stderr.write(f"vouchgate: {fault}\n")
    return found


def json_line(one: Scanned) -> str:
    """The contract's line: ASCII, so that a name in no encoding at all is still one line of JSON."""
    verdict = one.report.verdict
    keys = ("rule", "where", "member", "why", "remedy", "weight")
    line = {
        "path": one.path,
        "digest": one.report.digest.text,
        "format": verdict.format,
        "verdict": verdict.outcome,
        "reasons": [{key: getattr(reason, key) for key in keys} for reason in verdict.reasons],
        "size": one.report.digest.size,
        "covered": verdict.covered,
        "scanner": verdict.scanner_version,
        "knowledge": f"{verdict.knowledge_version} {verdict.knowledge_digest}".strip(),
    }
    return json.dumps(line, ensure_ascii=True, separators=(",", ":"))


def _write(options: argparse.Namespace, scanned: list[Scanned]) -> None:
    if options.sarif:
        from vouchgate.edges.cli.scan_sarif import sarif

        _file(options.sarif, json.dumps(sarif(scanned), indent=1))
    if options.ocsf:
        from vouchgate.edges.cli.scan_ocsf import events

        _file(options.ocsf, "".join(json.dumps(event) + "\n" for event in events(scanned, now=installation().now())))


def _file(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Usage(f"`{path}` cannot be written: {error.strerror}", remedy="name a file in a folder that you may write to") from None
