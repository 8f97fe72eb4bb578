"""`vouchgate login`: log in with your organisation's provider; commands then act as you, not as the unix user."""

from __future__ import annotations

import argparse
import contextlib

from vouchgate.edges.cli.logins import Listener, keep, read_answer
from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_identities import LoggedIn, LoginBegun, LoginProvider
from vouchgate.vocabulary.errors import InvalidInput, NotFound, VouchgateError

SUMMARY = "log in with your organisation's provider"
DETAIL = (
    "Opens nothing by itself: follow the printed address in a browser on this machine. Without one, use --paste: log in on any machine, then "
    "paste the address to which the browser was sent back, which it cannot open."
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--provider", metavar="NAME", default="", help="one of [[oidc]] (default: the only one)")
    parser.add_argument("--paste", action="store_true", help="paste the address that the browser came back to")


def run(session: Session, options: argparse.Namespace) -> int:
    """Begin, wait for the browser, finish, keep the token."""
    client, listener = session.plain_client, Listener()
    try:
        provider = options.provider or _only(client.get(tuple[LoginProvider, ...], "/api/v1/login"))
        begun = client.post(LoginBegun, "/api/v1/login/begin", {"provider": provider, "redirect_uri": listener.address})
        session.printer.field("open", begun.url)
        answer = _pasted(session, begun.state) if options.paste else listener.wait(begun.state)
    finally:
        listener.close()
    made = client.post(LoggedIn, "/api/v1/login/finish", {**answer, "binding": begun.binding})
    with contextlib.suppress(VouchgateError):
        # the login of before ends with this one; where it has ended already, nothing is lost
        if session.logged_in:
            session.client.delete("/api/v1/session")
    keep(session.api, made)
    if not session.json({"principal": made.principal, "groups": list(made.groups), "ends_at": made.ends_at}):
        session.printer.marked("good", f"you are {made.shown or made.principal}")
        session.printer.field("as", made.principal)
        session.printer.field("groups", ", ".join(made.groups) or "none")
        session.printer.field("ends", f"in {duration(made.ends_at - client.now)}")
    return 0


def _only(providers: tuple[LoginProvider, ...]) -> str:
    if len(providers) != 1:
        named = ", ".join(one.name for one in providers)
        raise NotFound("which provider is meant is not clear", remedy=f"use --provider with {named}" if named else "name one in [[oidc]]")
    return providers[0].name


def _pasted(session: Session, state: str) -> dict[str, str]:
    found = read_answer(session.ask("paste the address here"), state)
    if found is None:
        raise InvalidInput("this address does not answer this login", remedy="log in again, and paste the whole address")
    return found
