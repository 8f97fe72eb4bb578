"""`vouchgate evidence show`: the vouches that an endpoint rests on."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import nearest
from vouchgate.edges.cli.printing import TIER_MEANS, short_digest, short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_decisions import EndpointState
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "the vouches that an endpoint rests on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("endpoint", nargs="?", default="", help="one endpoint (default: all)")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where one of them is refused."""
    states = session.client.get(tuple[EndpointState, ...], "/api/v1/endpoints")
    if options.endpoint:
        names = {short_name(state.endpoint.id): state for state in states}
        found = names.get(short_name(options.endpoint))
        if found is None:
            raise NotFound(
                f"there is no endpoint `{options.endpoint}`", remedy=nearest(options.endpoint, names) or f"there are {', '.join(names)}"
            )
        states = (found,)
    if not session.json(states):
        for state in states:
            _show(session, state)
    return 1 if any(state.verdict == "refused" for state in states) else 0


def _show(session: Session, state: EndpointState) -> None:
    show, tier = session.printer, state.endpoint.digest_tier
    reason = f": {state.reason}" if state.reason else ""
    show.marked("good" if state.verdict == "served" else "bad", f"{short_name(state.endpoint.id)} is {state.verdict}{reason}")
    model = f"{short_digest(state.endpoint.model_digest)} ({tier}: {TIER_MEANS[tier]})" if tier else "nobody has said which model answers"
    show.field("model", model)
    show.vouches(state.vouches, session.client.now)
    for missing in state.missing:
        show.field("missing", f"{missing.predicate} of {short_name(missing.subject)}: {missing.why}")
        show.field("fix", missing.remedy)
