"""`vouchgate policy suggest`: least privilege from what was used, as Cedar to read, test and have approved."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from vouchgate.edges.cli.printing import harmless
from vouchgate.edges.cli.recorded_files import material
from vouchgate.edges.cli.session import Session
from vouchgate.policy.learn import MIN_DAYS, Options
from vouchgate.policy.suggest import suggest
from vouchgate.policy.usage import Usage
from vouchgate.vocabulary.answers_policy import Suggestion
from vouchgate.vocabulary.errors import InvalidInput

SUMMARY = "least privilege from what was used, as readable Cedar"
DETAIL = """suggest a policy that grants what was used and little more, and say what it would have denied later. Nothing is put in force:
read the text, try it with `vouchgate policy replay`, and have it approved with `vouchgate policy apply`"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--zone", default="", help="only for things of this zone")
    parser.add_argument(
        "--days", type=int, default=MIN_DAYS, metavar="N", help=f"days on which something must have been used (default: {MIN_DAYS})"
    )
    parser.add_argument("--since", default="30d", metavar="TIME", help="how far back to learn: 12h, 7d, 4w (default: 30d)")
    parser.add_argument("--log", default="", metavar="FILE", help="recorded decisions that `vouchgate policy export-log` wrote")
    parser.add_argument("--out", default="", metavar="FILE", help="write the text to a file; a summary is printed")
    parser.add_argument("--no-bounds", action="store_true", help="bound no hours and networks")
    parser.add_argument("--with-high-value", action="store_true", help="grant what is of high value too: you have looked at it")


def run(session: Session, options: argparse.Namespace) -> int:
    """Exit code 1 where there is not data enough."""
    given = material(session, options.log, options.since)
    usage = Usage()
    for batch in given.batches():
        usage.take(batch)
    given.progress.end()
    wanted = Options(
        zone=options.zone, min_days=max(1, options.days), bounds=not options.no_bounds, high_value=options.with_high_value
    )  # fmt: skip
    standing = {one.principal: one for one in given.snapshot.standing}
    answer = suggest(usage, given.world, given.in_force, standing, wanted, asks=given.snapshot.asks, beside=given.snapshot.beside)
    answer = msgspec.structs.replace(answer, cut_off=given.cut_off)
    if options.out:
        _write(Path(options.out), answer.text)
    if not session.json(answer):
        if not options.out:
            for line in answer.text.splitlines():
                session.printer.line(harmless(line))
        _show(session, answer, options.out, comment=not options.out)
    return 0 if answer.enough and not answer.cut_off else 1


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be written: {error.strerror}", remedy="name a file in a folder of yours") from None


def _show(session: Session, answer: Suggestion, out: str, *, comment: bool) -> None:
    """The summary; below a printed text as comments, so that the output is a policy file."""
    for line in summary(answer, out):
        session.printer.line(harmless(f"// {line}" if comment else line))


def summary(answer: Suggestion, out: str = "") -> list[str]:
    """What the suggestion is, and what it would have meant."""
    lines = [
        f"{answer.policies} policies from {answer.requests:,} allowed requests on {answer.days} days{f', written to {out}' if out else ''}",
        f"granted: {answer.granted:,} cells for {answer.cells:,} that were used, {answer.pooled:,} of them because most peers used them",
    ]
    if answer.now and answer.then:
        lines.append(f"granted / used, median of {answer.then.callers} callers: {answer.now.median:.2f} now, {answer.then.median:.2f} then")
    if answer.later:
        later = answer.later
        reasons = ", ".join(f"{why} {count:,}" for why, count in later.by_reason.items())
        lines.append(
            f"learned from the first part alone it would have denied {later.denied:,} of {later.requests:,} later requests: "
            f"{later.share:.2%} (95%: {later.low:.2%} to {later.high:.2%}){f'; {reasons}' if reasons else ''}"
        )
    else:
        lines.append("the time is too short to hold a part of it back: what it would deny is not known")
    counted: dict[str, int] = {}
    for one in answer.left_out:
        counted[one.why] = counted.get(one.why, 0) + 1
    lines += [f"not granted, {why}: {count:,} cells" for why, count in sorted(counted.items())]
    if not answer.enough:
        lines.append(
            f"not enough data: {answer.unseen:.1%} of requests are of a kind seen on one day; observe about {answer.more_days} days more"
        )
    if answer.cut_off:
        lines.append("this rests on a part of the records only: the file has no end, or a bound was reached")
    return lines
