"""`vouchgate assets put`: place something that lies nowhere yet, or say more of what is known."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import short_name
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import AssetRequest, AssetState

SUMMARY = "place a dataset, model, adapter, key or artifact in a zone"
DETAIL = """Place something that lies nowhere yet, or say more of what is known. It moves nothing: that is `vouchgate assets move`, which is
decided about the thing. A key of the name of a secret says where that secret lies."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("kind", choices=("dataset", "model", "adapter", "key", "artifact"), help="what it is")
    parser.add_argument("name", help="last segment of its name; of an artifact its digest")
    parser.add_argument("--zone", action="append", default=[], metavar="ZONE", help="where it lies; needed for what lies nowhere yet")
    parser.add_argument("--digest", default="", help="content that the name stands for")
    parser.add_argument("--base", default="", help="of an adapter: digest of the model that it belongs to")
    parser.add_argument("--label", action="append", default=[], metavar="LABEL", help="what it holds, for policies")
    parser.add_argument("--purpose", action="append", default=[], metavar="PURPOSE", help="what it may be used for, for policies")


def run(session: Session, options: argparse.Namespace) -> int:
    """Say where it lies."""
    asked = AssetRequest(
        kind=options.kind,
        name=options.name,
        zones=tuple(options.zone),
        digest=options.digest,
        base=options.base,
        labels=tuple(options.label),
        purposes=tuple(options.purpose),
    )
    answer = session.client.post(AssetState, "/api/v1/assets", asked)
    if not session.json(answer):
        session.printer.marked("good", f"{short_name(answer.asset.id)} lies in {', '.join(answer.asset.zones)}")
    return 0
