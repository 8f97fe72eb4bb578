"""`vouchgate policy vectors`: hold the policy engine to Cedar's own conformance vectors; no control plane is asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vouchgate import wiring
from vouchgate.edges.cli.printing import duration
from vouchgate.edges.cli.session import Session
from vouchgate.policy.vectors import run_vectors
from vouchgate.vocabulary.errors import NotFound

SUMMARY = "hold the policy engine to a folder of Cedar's conformance vectors"
DETAIL = """DIR holds cases of the form `{policies, entities, schema, shouldValidate, requests}`, for example the unpacked `corpus-tests` of
cedar-policy/cedar-integration-tests, or the whole checkout. Exit code 0 only where every request agrees in decision, determining policies
and erring policies. What the validator says of the policies is compared with `shouldValidate` and told beside it."""
TELL_EVERY_MS = 5_000
"""Milliseconds between two lines of progress, and before the first."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("dir", metavar="DIR", help="a folder of cases")


def run(session: Session, options: argparse.Namespace) -> int:
    """`agreed N of M`; exit code 1 where N is not M."""
    folder = Path(options.dir)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise NotFound(f"the folder `{options.dir[:200]}` {what}", remedy="name a folder of cases; unpack an archive first")
    try:
        found = run_vectors(folder, above=folder.absolute().parent, tell=_progress())
    except OSError as error:
        raise NotFound(f"the folder cannot be read: {error.strerror}", remedy="name a folder that may be read") from None
    if not session.json(found):
        show = session.printer
        for difference in found.differences:
            show.marked("bad", difference)
        hidden = found.total - found.agreed - len(found.differences)
        if hidden > 0:
            show.marked("note", f"and {hidden} more")
        for difference in found.validation_differences:
            show.marked("warn", difference)
        if found.validations:
            show.line(f"validated {found.validated} of {found.validations} cases as stated")
        if found.other_files:
            show.marked("warn", f"{found.other_files} JSON files are no cases and were not run")
        show.line(f"{found.cases} cases; {found.left_to_cedar} requests in part answered by cedarpy")
        show.line(f"agreed {found.agreed} of {found.total}")
    return 0 if found.total and found.agreed == found.total else 1


def _progress() -> Callable[[int, int], None]:
    """A line now and then on the error stream, so that the answer stays as it is."""
    clock = wiring.clock()
    begun = told = clock.now()

    def tell(done: int, of: int) -> None:
        nonlocal told
        now = clock.now()
        if now - told < TELL_EVERY_MS or done == of:
            return
        told = now
        rate = done * 1000 / max(1, now - begun)
        print(f"{done} of {of} cases, {rate:.0f} a second, {duration(int((of - done) / rate * 1000))} left", file=sys.stderr, flush=True)

    return tell
