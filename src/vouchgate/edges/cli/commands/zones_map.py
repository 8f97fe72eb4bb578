"""`vouchgate zones map`: zones, what is in them, what may pass between them and what did; as text or as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from vouchgate.edges.cli.printing import ago, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.segmentation.picture import html_page, svg
from vouchgate.vocabulary.answers_zones import CrossingSeen, ZoneContents, ZoneMap
from vouchgate.vocabulary.errors import Unavailable

SUMMARY = "zones, what is in them, what may pass and what did"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--svg", default="", metavar="FILE", help="write the map as a picture")
    parser.add_argument("--html", default="", metavar="FILE", help="write the map as a page with the picture and the list")


def run(session: Session, options: argparse.Namespace) -> int:
    """The map, or where the picture was written."""
    found = session.client.get(ZoneMap, "/api/v1/zones/map")
    for name, draw in ((options.svg, svg), (options.html, html_page)):
        try:
            if name:
                Path(name).write_text(draw(found), encoding="utf-8")
        except OSError as error:
            raise Unavailable(f"`{name}` cannot be written: {error.strerror}", remedy="name another file") from None
    if session.json(found):
        return 0
    if options.svg or options.html:
        session.printer.marked("good", f"drawn: {', '.join(name for name in (options.svg, options.html) if name)}")
        return 0
    _show(session, found)
    return 0


def _show(session: Session, found: ZoneMap) -> None:
    show = session.printer
    if not found.holds:
        show.marked("warn", "no crossing is declared: zones hold nobody. Declare [[crossings]] in vouchgate.toml")
    for zone in found.zones:
        show.line()
        show.line(show.paint(zone.name, "bold") + "  " + show.paint(zone.mode or "not declared: reaches nothing", "note"))
        _inside(session, zone)
        for one in found.passes:
            if one.source == zone.name and one.target != zone.name:
                _arrow(session, one)
    if found.adrift:
        show.line()
        show.marked("warn", f"in no zone, so that nobody reaches it: {', '.join(map(short_name, found.adrift[:12]))}")


def _inside(session: Session, zone: ZoneContents) -> None:
    more = f" and {zone.principals - len(zone.names)} more" if zone.principals > len(zone.names) else ""
    session.printer.field("who", f"{', '.join(zone.names)}{more}" if zone.names else "")
    session.printer.field("endpoints", ", ".join(map(short_name, zone.endpoints)))
    session.printer.field("things", ", ".join(map(short_name, zone.assets[:12])))


def _arrow(session: Session, one: CrossingSeen) -> None:
    show, now = session.printer, session.client.now
    seen = f"{one.allowed} passed, {one.denied} refused, {ago(one.last_at, now)}" if one.allowed or one.denied else "nothing passed yet"
    if not one.declared:
        mark, told = (
            ("warn", "let through by observe") if one.would_deny else ("bad", "not declared") if one.denied else ("note", "not declared")
        )
        show.marked(mark, f"→ {one.target}  {told}: {seen}", indent=2)
        return
    for crossing in one.declared:
        vouches = f" with {', '.join(crossing.vouches)}" if crossing.vouches else ""
        why = f"  ({crossing.why})" if crossing.why else ""
        show.marked(
            "good" if one.allowed else "note",
            f"→ {one.target}  {', '.join(crossing.actions)} on {', '.join(crossing.kinds)}{vouches}: {seen}{why}",
            indent=2,
        )
