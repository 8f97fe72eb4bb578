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
    from vouchgate.edges.cli.scan_shown import Progress
    from vouchgate.flows.scan_artifacts import Scanned, Wanted
    from vouchgate.scanning.asked import AskedName

SUMMARY = "look into a model file without running it"
DETAIL = "Look into files and folders without running anything of them. Exit code 0: all clean; 1: at least one is not; 2: usage."
JOBS_A_PROCESSOR = 2
"""While one artifact is being opened and told, another is read."""
MAX_JOBS = 64
"""Artifacts at once; each is a process that may take 2 GiB."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="+", help="a file, a folder (one artifact, or walked), an https or an s3 address")
    parser.add_argument("--structure", action="store_true", help="a quick look at the structure; nothing is clean then")
    parser.add_argument("--explain", action="store_true", help="every reason, and what let each name in")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="artifacts at once (default: two for each processor)")
    parser.add_argument("--cache", metavar="FOLDER", default="", help="keep verdicts there, and use those that still rest on the same")
    parser.add_argument("--settings", metavar="FILE", default="", help="bounds of the scan as TOML, as in `max_members = 1000`")
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
    parser.add_argument("--ca", metavar="FILE", default="", help="the only authorities that count for the named server (PEM)")
    parser.add_argument("--private-network", action="store_true", help="the named server may lie in a private network")
    parser.add_argument("--s3-endpoint", metavar="URL", default="", help="of s3:// addresses (default: AWS_ENDPOINT_URL, else AWS)")
    parser.add_argument("--s3-region", metavar="NAME", default="", help="of s3:// addresses (default: AWS_REGION, else us-east-1)")
    parser.add_argument(
        "--s3-style", choices=("path", "virtual"), default="", help="how a bucket is named (default: path for an own endpoint)"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where anything is not clean."""
    from vouchgate.edges.cli.scan_shown import Progress, Table

    counted: Counter[str] = Counter()
    kept: list[Scanned] = []
    with ExitStack() as stack:
        progress = Progress(sys.stderr)
        scan = stack.enter_context(installation().scan(options.path, _wanted(options, progress)))
        progress.begin(total=scan.count, size=scan.size)
        table = Table(session.printer, explain=options.explain)
        for one in scan.results():
            counted[one.report.verdict.outcome] += 1
            if options.sarif or options.ocsf:
                kept.append(one)
            progress.clear()
            if session.as_json:
                sys.stdout.write(json_line(one, explained=options.explain) + "\n")
                sys.stdout.flush()
            else:
                table.row(one)
            progress.one(one.report.digest.size)
        progress.clear()
    if not session.as_json:
        table.end(counted)
    _write(options, kept)
    return 0 if set(counted) <= {"clean"} else 1


def _wanted(options: argparse.Namespace, progress: Progress) -> Wanted:
    from vouchgate.flows.scan_artifacts import Remote, Wanted
    from vouchgate.scanning.settings import DEFAULTS

    jobs = options.jobs or min(MAX_JOBS, JOBS_A_PROCESSOR * len(os.sched_getaffinity(0)))
    if not 1 <= jobs <= MAX_JOBS:
        raise Usage(f"--jobs is {options.jobs}", remedy=f"give a number from 1 to {MAX_JOBS}")
    allowed, trust_root = _allowed(options)
    return Wanted(
        jobs=jobs,
        deep=not options.structure,
        allowed=allowed,
        settings=installation().scan_settings(Path(options.settings)) if options.settings else DEFAULTS,
        explain=options.explain,
        cache=options.cache,
        trust_root=trust_root,
        remote=Remote(
            ca_file=options.ca,
            private=options.private_network,
            s3_endpoint=options.s3_endpoint,
            s3_region=options.s3_region,
            s3_style=options.s3_style,
            fetched=progress.fetched,
        ),
    )


def _allowed(options: argparse.Namespace) -> tuple[Mapping[str, Any], int]:
    """What is allowed, by digest, and the TrustRoot's version; what does not count is told, and then is as if it were not there."""
    if not options.allow:
        return {}, 0
    if not (options.trust_root and options.root):
        raise Usage("--allow needs --trust-root and --root", remedy="name the TrustRoot and its fingerprint, as `vouchgate init` showed it")
    found, faults, version = installation().allowances([Path(file) for file in options.allow], Path(options.trust_root), options.root)
    for fault in faults:
        sys.stderr.write(f"vouchgate: {fault}\n")
    return found, version


def json_line(one: Scanned, *, explained: bool = False) -> str:
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
    if explained:
        line["names"] = [name_line(name) for name in one.report.names]
    return json.dumps(line, ensure_ascii=True, separators=(",", ":"))


def name_line(asked: AskedName) -> dict[str, Any]:
    """One name of `--explain`; what nothing is known of has no uses, and no more keys."""
    entry = asked.entry
    if entry is None:
        return {"name": f"{asked.module}.{asked.name}", "uses": []}
    return {
        "name": f"{asked.module}.{asked.name}",
        "uses": entry.uses,
        "arguments": entry.arguments,
        "state": entry.state,
        "library": entry.library,
        "versions": entry.versions,
        "wheel": entry.wheel,
        "reviewer": entry.reviewer,
        "since": entry.since,
        "why": entry.why,
    }


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
