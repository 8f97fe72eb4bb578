"""`vouchgate zones drift`: what enforcement points really enforce, beside what they are meant to."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from vouchgate.edges.cli import exporting
from vouchgate.edges.cli.printing import ago
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import Drift, DriftReport, PointReading
from vouchgate.vocabulary.errors import Unavailable, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "what enforcement points really enforce, beside what is meant"
DETAIL = """Read back what every enforcement point really enforces and compare it with what is meant: the gateway (the control plane reads it every few
seconds; here it is read now), and on request a cluster's policies and exported sidecars. Exit 1 where anything differs."""
WATCH_SECONDS = 4.0
"""Seconds between two readings with --watch; an alarm comes within 10."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--watch", action="store_true", help="go on, and say what begins and ends")
    parser.add_argument("--kubernetes", default="", metavar="FILE|URL", help="compare a cluster's NetworkPolicies")
    parser.add_argument("--istio", default="", metavar="FILE|URL", help="compare a cluster's Istio policies")
    parser.add_argument(
        "--sidecars", default="", metavar="DIR", help="compare exported sidecars: their files, and the running ones' admin pipes"
    )
    parser.add_argument("--token-file", default="", metavar="FILE", help="token for the API server")
    parser.add_argument("--ca-file", default="", metavar="FILE", help="authorities of the API server")
    exporting.where(parser)


def run(session: Session, options: argparse.Namespace) -> int:
    """Once, or for ever."""
    report = _look(session, options)
    if not options.watch:
        if not session.json(report):
            _show(session, report)
        return 0 if report.ok else 1
    if not session.json(report):
        _show(session, report)
    known = _all(report)
    while True:
        time.sleep(WATCH_SECONDS)
        try:
            report = _look(session, options)
        except VouchgateError as error:
            session.printer.marked("bad", error.reason)
            continue
        now = _all(report)
        if session.as_json:
            if now != known:
                session.json(report)
        else:
            for one in sorted(now - known):
                session.printer.marked("bad", " ".join(one))
            for one in sorted(known - now):
                session.printer.marked("good", f"no longer: {' '.join(one)}")
        known = now


def _all(report: DriftReport) -> set[tuple[str, str, str]]:
    return {(one.point, one.kind, one.what) for point in report.points for one in point.drifts}


def _look(session: Session, options: argparse.Namespace) -> DriftReport:
    if not (options.kubernetes or options.istio or options.sidecars):
        return session.client.get(DriftReport, "/api/v1/zones/drift", fresh="true")
    points = []
    for kind in ("kubernetes", "istio"):
        if place := getattr(options, kind):
            points.append(_cluster(session, options, kind, place))
    if options.sidecars:
        points += _sidecars(session, options)
    return DriftReport(ok=not any(one.drifts for one in points), points=tuple(points))


def _cluster(session: Session, options: argparse.Namespace, kind: str, place: str) -> PointReading:
    from vouchgate.edges.cli import kubernetes_api
    from vouchgate.segmentation.kubernetes_drift import compare

    documents = exporting.ask(session, options, kind).documents
    meant = [item for text in documents.values() for item in json.loads(text)["items"]]
    found = compare(kubernetes_api.read(place, token_file=options.token_file, ca_file=options.ca_file), meant)
    return _reading(session, kind, found, len(meant))


def _sidecars(session: Session, options: argparse.Namespace) -> list[PointReading]:
    """The files of the folder, and every sidecar whose admin pipe is there."""
    from vouchgate.edges.envoy.admin import DUMP, fetch, parsed
    from vouchgate.edges.envoy.sidecar_drift import of_document, of_dump

    documents, folder = exporting.ask(session, options, "envoy").documents, Path(options.sidecars)
    there = {path.name for path in folder.glob("*.json")}
    points = []
    for name in sorted({*documents, *there}):
        point = name.removesuffix(".json")
        if name not in documents:
            points.append(_reading(session, point, [Drift(point=point, kind="extra", what=name, detail="nobody meant this sidecar")], 0))
            continue
        if name not in there:
            points.append(_reading(session, point, [Drift(point=point, kind="missing", what=name, detail="it was not written there")], 0))
            continue
        meant = json.loads(documents[name])
        try:
            found = of_document(point, parsed((folder / name).read_bytes(), name), meant)
            admin = Path(str(meant["admin"]["address"]["pipe"]["path"]))
            if admin.exists():
                found += of_dump(point, parsed(asyncio.run(fetch(str(admin), DUMP)), "configuration dump"), meant)
        except (VouchgateError, OSError) as error:
            reason = error.reason if isinstance(error, VouchgateError) else str(error.strerror)
            found = [Drift(point=point, kind="unreadable", what=name, detail=reason)]
        points.append(_reading(session, point, found, 1))
    if not points:
        raise Unavailable(f"there are no sidecars in `{folder}`", remedy="write them with `vouchgate zones export --to envoy -o DIR`")
    return points


def _reading(session: Session, point: str, found: list[Drift], count: int) -> PointReading:
    return PointReading(point=point, read_at=UnixMillis(session.client.now), resources=count, drifts=tuple(found))


def _show(session: Session, report: DriftReport) -> None:
    show, now = session.printer, session.client.now
    for point in report.points:
        if not point.read_at:
            show.marked("warn", f"{point.point} was not read back yet")
        elif not point.drifts:
            show.marked(
                "good", f"{point.point} enforces what is meant: {point.resources} resources compared, read {ago(point.read_at, now)}"
            )
        for one in point.drifts:
            show.marked("bad", f"{one.point}: {one.kind} {one.what}")
            show.field("why", one.detail)
