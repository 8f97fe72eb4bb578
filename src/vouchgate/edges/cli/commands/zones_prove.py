"""`vouchgate zones prove`: that nothing gets from one zone to another, or the shortest way."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.client import LONG_TIMEOUT_SECONDS
from vouchgate.edges.cli.printing import short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import Step, ZoneProof

SUMMARY = "prove that nothing gets from one zone to another, or show the way"
DETAIL = """Decide every caller x action x thing, join what follows (becoming somebody, writing what others read, moving content), and look for a way
from the one zone to the other. Exit code 0: there is none. 1: there is, and each step is shown with what lets it; or the bounds cut it off."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("source", help="the zone that is in the wrong hands")
    parser.add_argument("target", help="the zone that it must not reach")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where there is a way, or nothing is proved."""
    found = session.client.get(ZoneProof, "/api/v1/zones/proof", timeout=LONG_TIMEOUT_SECONDS, source=options.source, target=options.target)
    if session.json(found):
        return 0 if found.proved else 1
    show = session.printer
    looked = f"{found.principals} identities, {found.things} things, {found.decisions} decisions"
    if found.proved:
        show.marked("good", f"nothing gets from {found.source} to {found.target} ({looked})")
    elif found.path:
        sure = "" if all(step.certain for step in found.path) else ", depending on the request"
        show.marked("bad", f"{found.source} reaches {found.target} in {len(found.path)} step{'s' * (len(found.path) > 1)}{sure} ({looked})")
        for number, step in enumerate(found.path, 1):
            show.field(f"{number}.", told(step), f"by {step.by}")
    else:
        show.marked("warn", f"not proved: {found.cut}")
    show.field("cut", found.cut if found.path else "")
    show.field("assumes", *found.assumes)
    return 0 if found.proved else 1


def told(step: Step) -> str:
    """One step in words."""
    sure = "" if step.certain else " (depends on the request)"
    return f"{_short(step.source)} → {_short(step.target)}: {step.how}, {step.flow} flow{sure}"


def _short(text: str) -> str:
    before, of, name = text.rpartition("content of ")
    return f"{before}{of}{short_name(name)}"
