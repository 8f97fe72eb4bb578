"""`vouchgate gate files`: a repository's files before they are taken in, for a commit hook and for CI. Works without a control plane.

Rules
1. Every file that is named is scanned, whatever it is called. What is a program's text or plain text by its content is left to whoever reviews code,
   and an empty file holds nothing; anything else must be clean.
2. A file that only stands for content elsewhere (a Git LFS pointer) was not looked at, so it does not pass.
3. No file at all is an error: a gate that looked at nothing has not let anything through.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.installation import installation
from vouchgate.edges.cli.session import Session

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned, Wanted

SUMMARY = "hold a repository's files before they are taken in; its code is left to review"
DETAIL = """Scan files of a repository without running anything of them. What is program text or plain text by its content is left to code review;
anything else must be clean. Exit code 0: everything may be taken in; 1: something may not; 2: usage."""
CODE = frozenset({"python-source", "text"})
"""Formats that are reviewed as code."""
MAX_LIST_BYTES = 256 * 1024 * 1024
"""Of a list of names: a million of 256 bytes."""
POINTERS = (b"version https://git-lfs.github.com/spec/v1\n", b"version https://hawser.github.com/spec/v1\n")
"""How a Git LFS pointer begins (its specification, `The Pointer`); the second is the one of its first releases, still read."""
MAX_POINTER_BYTES = 1024
"""A pointer is shorter than this by its specification."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="*", help="files")
    parser.add_argument(
        "--from0", default="", metavar="FILE", help="more names, parted by NUL, as `git ls-files -z` prints them; `-` reads stdin"
    )
    parser.add_argument("--code", action="store_true", help="hold program text and plain text too")
    parser.add_argument("--sarif", metavar="FILE", default="", help="write what does not pass as SARIF 2.1.0")
    parser.add_argument("--cache", metavar="FOLDER", default="", help="keep verdicts there, and use those that still rest on the same")
    parser.add_argument("--allow", action="append", default=[], metavar="FILE", help="an allowance of `vouchgate knowledge allow`")
    parser.add_argument("--trust-root", metavar="FILE", default="", help="the TrustRoot that delegates whoever signed it")
    parser.add_argument("--root", metavar="FINGERPRINT", default="", help="of the TrustRoot's own keys, as `vouchgate init` showed it")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where anything does not pass."""
    from vouchgate.edges.cli.scan_shown import Table

    names = _names(options)
    table = Table(session.printer, explain=False)
    counted: Counter[str] = Counter()
    stopped: list[Scanned] = []
    with installation().scan(names, _wanted(options)) as scan:
        for found in scan.results():
            one = _held(found, code=options.code)
            if one is None:
                counted["code"] += 1
                continue
            counted[one.report.verdict.outcome] += 1
            if one.report.verdict.outcome != "clean":
                stopped.append(one)
                if not session.as_json:
                    table.row(one)
    _write(options, stopped)
    passed = not stopped
    if not session.json({"passed": passed, "counts": dict(counted), "stopped": [one.path for one in stopped]}):
        told = ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))
        session.printer.marked("good" if passed else "bad", f"{len(names)} files: {told}")
        if not passed:
            session.printer.field("fix", "take it out, mend it, or let a person decide: leave it out of this gate by name where you run it")
    return 0 if passed else 1


def _held(one: Scanned, *, code: bool) -> Scanned | None:
    """Rules 1 and 2; None for what is left to review."""
    import msgspec

    from vouchgate.scanning.verdict import Reason

    verdict = one.report.verdict
    if _is_pointer(one):
        reason = Reason(
            rule="git-lfs:pointer",
            where="whole artifact",
            why="it stands for content that is not here, so nothing was looked at",
            remedy="fetch it first: `git lfs pull`, or `lfs: true` for the checkout",
            weight="incomplete",
        )
        verdict = msgspec.structs.replace(verdict, outcome="incomplete", reasons=(reason,))
        return type(one)(path=one.path, report=msgspec.structs.replace(one.report, verdict=verdict))
    if not code and (verdict.format in CODE or (one.report.digest.size == 0 and verdict.outcome == "refused")):
        return None
    return one


def _is_pointer(one: Scanned) -> bool:
    """Of the very bytes that were scanned, as far as their digest says."""
    if one.report.digest.size > MAX_POINTER_BYTES or one.report.digest.kind != "file":
        return False
    try:
        with Path(one.path).open("rb") as file:
            return file.read(MAX_POINTER_BYTES).startswith(POINTERS)
    except OSError:
        return False


def _names(options: argparse.Namespace) -> list[str]:
    """Rule 3. Each as a path of this machine, so that none is taken for an address or an option."""
    from vouchgate.vocabulary.errors import InvalidInput

    listed = _listed(options.from0) if options.from0 else b""
    if listed and not listed.endswith(b"\0"):
        raise Usage("the list of names does not end with a NUL", remedy="give what `git ls-files -z` printed, whole")
    names = [*options.path, *(os.fsdecode(name) for name in listed.split(b"\0") if name)]
    if not names:
        raise InvalidInput("no file is named, so nothing was looked at", remedy="name files, or pass --from0")
    return [name if name.startswith(("/", "./", "../")) else f"./{name}" for name in dict.fromkeys(names)]


def _listed(path: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_LIST_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise Usage(f"`{path}` cannot be read: {error.strerror}", remedy="name the file that holds the list") from None
    if len(data) > MAX_LIST_BYTES:
        raise Usage(f"the list has more than {MAX_LIST_BYTES} bytes", remedy="split it")
    return data


def _wanted(options: argparse.Namespace) -> Wanted:
    from vouchgate.flows.scan_artifacts import Wanted

    allowed: Mapping[str, Any] = {}
    version = 0
    if options.allow:
        if not (options.trust_root and options.root):
            raise Usage(
                "--allow needs --trust-root and --root", remedy="name the TrustRoot and its fingerprint, as `vouchgate init` showed it"
            )
        allowed, faults, version = installation().allowances([Path(file) for file in options.allow], Path(options.trust_root), options.root)
        for fault in faults:
            sys.stderr.write(f"vouchgate: {fault}\n")
    return Wanted(jobs=2 * len(os.sched_getaffinity(0)), allowed=allowed, cache=options.cache, trust_root=version)


def _write(options: argparse.Namespace, stopped: list[Scanned]) -> None:
    if not options.sarif:
        return
    from vouchgate.edges.cli.scan_sarif import sarif

    try:
        Path(options.sarif).write_text(json.dumps(sarif(stopped), indent=1), encoding="utf-8")
    except OSError as error:
        raise Usage(
            f"`{options.sarif}` cannot be written: {error.strerror}", remedy="name a file in a folder that you may write to"
        ) from None
