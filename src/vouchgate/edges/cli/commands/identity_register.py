"""`vouchgate identity register`: which facts earn which identity; a workload then fetches it by itself over the Workload API."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import RegistrationRequest
from vouchgate.vocabulary.principals import Registration, Selector
from vouchgate.vocabulary.vouches import UnixMillis

SUMMARY = "say which facts earn which identity"
DETAIL = """Say which facts earn which identity. A workload never chooses its identity: it gets the one whose selectors all hold for it,
for example `vouchgate identity register service serve pricing --selector unix:uid=1000 --selector unix:sha256=HEX --group callers`."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("kind", help="service, person, job, agent, notebook, server or step")
    parser.add_argument("zone", help="its zone")
    parser.add_argument("name", help="its name")
    parser.add_argument(
        "--selector", action="append", default=[], metavar="TYPE=VALUE", help="a fact that must hold, for example unix:uid=1000; all must"
    )
    parser.add_argument("--group", action="append", default=[], metavar="GROUP", help="a group that policies name")
    parser.add_argument("--svid-ttl", type=int, default=0, metavar="SECONDS", help="life of its certificates (300 for agents, else 3600)")
    parser.add_argument("--jwt-ttl", type=int, default=0, metavar="SECONDS", help="life of its tokens (at most 300)")
    parser.add_argument("--dns", action="append", default=[], metavar="NAME", help="a DNS name in its certificates")
    parser.add_argument(
        "--endpoint", default="", metavar="NAME", help="it is the model server of this endpoint: its identity says which model"
    )
    parser.add_argument("--federates-with", action="append", default=[], metavar="DOMAIN", help="it is given this foreign trust bundle")
    parser.add_argument("--network", action="append", default=[], metavar="CIDR", help="a network from which it calls; usual at once")
    parser.add_argument("--hours", default="", metavar="FROM-TO", help="hours (UTC) within which it calls, as 8-18; usual at once")
    parser.add_argument("--for", dest="lasts", type=int, default=0, metavar="SECONDS", help="the registration itself ends after this")


def run(session: Session, options: argparse.Namespace) -> int:
    """Registered, or the reason why not."""
    answer = session.client.post(
        Registration,
        "/api/v1/registrations",
        RegistrationRequest(
            kind=options.kind,
            zone=options.zone,
            name=options.name,
            selectors=tuple(_selector(text) for text in options.selector),
            groups=tuple(options.group),
            svid_seconds=options.svid_ttl,
            jwt_seconds=options.jwt_ttl,
            dns=tuple(options.dns),
            endpoint=options.endpoint,
            federates_with=tuple(options.federates_with),
            networks=tuple(options.network),
            hours=options.hours,
            expires_at=UnixMillis(session.client.now + options.lasts * 1000 if options.lasts else 0),
        ),
    )
    if session.json(answer):
        return 0
    show = session.printer
    show.marked("good", answer.principal)
    for one in answer.selectors:
        show.field(one.type, one.value)
    show.field("groups", ", ".join(answer.groups))
    show.field("life", f"certificates of {duration(answer.svid_ttl_seconds * 1000)}, tokens of {duration(answer.jwt_ttl_seconds * 1000)}")
    if not answer.selectors:
        show.field("earned by", "nothing: an administrator issues for it, or `vouchgate identity join-token` hands out a token")
    return 0


def _selector(text: str) -> Selector:
    kind, equals, value = text.partition("=")
    if not equals:
        raise Usage(f"`{text[:80]}` is not TYPE=VALUE", remedy="write for example unix:uid=1000")
    return Selector(type=kind, value=value)
