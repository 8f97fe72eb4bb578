"""`vouchgate wrap`: put an unmodified server behind the gateway, in observe."""

from __future__ import annotations

import argparse
import re
from urllib.parse import urlsplit

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import WrapOutcome, WrapRequest

SUMMARY = "put an unmodified server behind the gateway, in observe: nothing breaks, and you see what enforcing would refuse"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--upstream", required=True, metavar="URL", help="where the server listens, for example http://127.0.0.1:9000")
    parser.add_argument("--name", default="", help="name of the endpoint (default: from the URL)")
    parser.add_argument("--zone", default="wrapped", help="a zone in observe, made if it is not there (default: wrapped)")
    parser.add_argument("--listen", default="", metavar="HOST:PORT", help="where callers reach it (default: the gateway's plain listener)")
    parser.add_argument("--model", default="", metavar="DIGEST", help="digest of the model it serves, as you declare it")


def run(session: Session, options: argparse.Namespace) -> int:
    """Wrap it, and say where it is reached now."""
    asked = WrapRequest(
        name=options.name or _name(options.upstream),
        upstream=options.upstream,
        zone=options.zone,
        listen=options.listen,
        model=options.model,
    )
    answer = session.client.post(WrapOutcome, "/api/v1/wrap", asked)
    if session.json(answer):
        return 0
    show = session.printer
    show.marked("good", f"{asked.name} is behind the gateway in zone {answer.endpoint.zone}, in {answer.mode}")
    show.field("reach it", answer.address)
    if answer.observe_until:
        show.field("until", f"observe turns into enforce in {duration(answer.observe_until - session.client.now)}")
    show.points(answer.points, session.client.now)
    show.command("next", f"vouchgate adopt {answer.endpoint.zone} --plan")
    return 0


def _name(upstream: str) -> str:
    place = upstream.removeprefix("tcp:").removeprefix("unix:")
    try:
        parts = urlsplit(place if "://" in place else f"//{place}")
        port = parts.port
    except ValueError:
        raise Usage(f"`{upstream[:80]}` is not an upstream", remedy="write http://127.0.0.1:9000 or unix:/path/to.sock") from None
    host = parts.hostname or parts.path.rsplit("/", 1)[-1]
    made = re.sub(r"[^a-z0-9._-]+", "-", (f"{host}-{port}" if port else host).lower()).strip("-._")
    if not made:
        raise Usage(f"no name can be made from `{upstream[:80]}`", remedy="give one with --name")
    return made[:64]
