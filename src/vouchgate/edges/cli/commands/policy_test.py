"""`vouchgate policy test`: decision vectors, in process and through a real gateway; no control plane is asked."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.cli.session import Session
from vouchgate.flows.imagined import imagine
from vouchgate.flows.try_policy import in_process, read_vectors
from vouchgate.policy.catalog import pack
from vouchgate.vocabulary.decision_vectors import VectorFile, VectorReport
from vouchgate.vocabulary.errors import InvalidInput, NotFound

SUMMARY = "hold policies to decision vectors: who may do what, because of which policy"
DETAIL = """FILE is a TOML file of decision vectors, or a folder of `*.vectors.toml`: a small world, the policies (`pack:NAME` or Cedar files beside
it) and the cases. Exit code 1 where a case comes out otherwise. docs/policy.md has an example."""
SUFFIX = ".vectors.toml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("path", nargs="+", metavar="FILE|DIR", help="a file of vectors, or a folder of them")
    parser.add_argument("--through-gateway", action="store_true", help="ask each case of a throwaway gateway too, with a real credential")
    parser.add_argument(
        "--policies", action="append", default=[], metavar="FILE", help="these Cedar files instead of those that FILE names"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where one differs."""
    reports: list[VectorReport] = []
    for path in _files(options.path):
        now = wiring.clock().now()
        vectors = read_vectors(_text(path), path.name)
        sources = tuple(_source(name, path.parent) for name in (options.policies or vectors.policies))
        reports.append(in_process(vectors, imagine(vectors, sources, "tcp:127.0.0.1:9", now), str(path), now))
        if options.through_gateway:
            reports.append(_through(vectors, sources, str(path)))
    if not session.json(reports):
        for report in reports:
            _show(session, report)
    return 0 if all(report.agreed + report.not_requests == report.total for report in reports) else 1


def _through(vectors: VectorFile, sources: tuple[tuple[str, str], ...], name: str) -> VectorReport:
    from vouchgate.edges.envoy.rehearsal import through_gateway

    return through_gateway(vectors, sources, name)


def _show(session: Session, report: VectorReport) -> None:
    show = session.printer
    for outcome in report.outcomes:
        if outcome.status == "differs":
            show.marked("bad", f"{report.file}: {outcome.name}")
            for told in outcome.told:
                show.marked("note", told, indent=2)
    reasons = Counter("; ".join(one.told) for one in report.outcomes if one.status == "not-a-request")
    for reason, count in reasons.most_common():
        show.marked("note", f"{count} not asked: {reason}", indent=2)
    asked = report.total - report.not_requests
    left = f"; {report.not_requests} cannot be asked this way" if report.not_requests else ""
    way = "through the gateway" if report.through == "gateway" else "in process"
    show.marked("good" if report.agreed == asked else "bad", f"{report.file}: {report.agreed} of {asked} cases agree {way}{left}")


def _files(paths: list[str]) -> list[Path]:
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = sorted(path.glob(f"*{SUFFIX}"))
            if not inside:
                raise NotFound(f"there are no `*{SUFFIX}` files in `{text[:200]}`", remedy="name a folder of decision vectors, or one file")
            found += inside
        else:
            found.append(path)
    return found


def _source(name: str, folder: Path) -> tuple[str, str]:
    if name.startswith("pack:"):
        source = pack(name.removeprefix("pack:").replace("-", "_"))
        return source.name, source.text
    beside = folder / name
    path = beside if beside.exists() else Path(name)
    return path.name, _text(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"`{path}` cannot be read: {error}", remedy="name files in UTF-8") from None
