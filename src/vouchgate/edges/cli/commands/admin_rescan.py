"""`vouchgate admin rescan`: scan again what a weaker scanner or an older knowledge base passed; then what those said is taken away at once."""

from __future__ import annotations

import argparse
import sys
import time

from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import RescanState

SUMMARY = "scan again what a weaker scanner passed, then take away what that one said"
EVERY_SECONDS = 0.5
"""Between two looks at how far it is."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--no-wait", action="store_true", help="begin, and do not wait for its end")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where anything lost its scan, or it did not get to its end."""
    state = session.client.post(RescanState, "/api/v1/rescan", {})
    while state.running and not options.no_wait:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{state.done} of {state.total} scanned again")
            sys.stderr.flush()
        time.sleep(EVERY_SECONDS)
        state = session.client.get(RescanState, "/api/v1/rescan")
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if not session.json(state):
        _show(session, state)
    return 0 if not state.lost and not state.trouble else 1


def _show(session: Session, state: RescanState) -> None:
    show = session.printer
    if state.trouble:
        show.marked("bad", f"not all was scanned again: {state.trouble}")
        show.field("fix", "ask again: what was scanned already is not scanned twice")
    elif state.running:
        show.marked("note", f"{state.done} of {state.total} scanned again; it goes on")
    elif not state.total and not state.fallen:
        show.marked("good", "no scan is weaker than the scanner that is here")
    else:
        show.marked("bad" if state.lost else "good", f"{state.clean} of {state.total} are clean, {state.lost} lost their scan")
    if state.revocation:
        show.field("revoked", f"{state.fallen} vouches of a weaker scanner", f"vouchgate revoke --undo {state.revocation}")
    for line in state.lines:
        show.marked("bad", f"{line.digest} {line.outcome}: {line.why}", indent=2)
        show.field("fix", line.remedy)
