"""`vouchgate assets move`: take something into another zone; decided about the thing, with the vouches that the crossing asks for."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import AssetMove, MoveOutcome

SUMMARY = "take something into another zone, if policy and a crossing let it"
DETAIL = """Take something into another zone. Policy must permit `promote` (or what --as names) on it, a crossing from where it lies to that zone
must cover it where crossings are declared, and promoting and deploying take vouches of two distinct roles. Exit code 1 where it is refused."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("asset", help="its whole name, its last segment, or the beginning of its digest")
    parser.add_argument("--to", required=True, metavar="ZONE", help="where it is to lie")
    parser.add_argument("--from", dest="source", default="", metavar="ZONE", help="which zone it leaves, where it lies in several")
    parser.add_argument("--as", dest="action", default="promote", choices=("promote", "export", "deploy"), help="which act it is")
    parser.add_argument("--keep", action="store_true", help="it stays where it is too")
    parser.add_argument("--reason", default="", help="for the log")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where it is not moved."""
    asked = AssetMove(
        asset=options.asset, target=options.to, source=options.source, action=options.action, keep=options.keep, reason=options.reason
    )
    answer = session.client.post(MoveOutcome, "/api/v1/assets/move", asked)
    if session.json(answer):
        return 0 if answer.moved else 1
    show, name = session.printer, short_name(answer.state.asset.id)
    if answer.moved:
        show.marked("good", f"{name} lies in {', '.join(answer.state.asset.zones)}")
        return 0
    show.marked("bad", f"{name} stays in {', '.join(answer.state.asset.zones) or 'no zone'}: {answer.reason}")
    show.field("lacks", *(f"{one.predicate} of {short_name(one.subject)} ({one.why})" for one in answer.missing))
    show.field("fix", answer.remedy)
    return 1
