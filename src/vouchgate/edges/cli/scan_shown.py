"""How a scan looks on a terminal: may this be loaded, and if not, what to do; progress on standard error while it runs."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, TextIO

from vouchgate.edges.cli.printing import Printer, harmless, short_digest

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned

MARKS = {"clean": "good", "refused": "bad", "review": "warn", "incomplete": "warn"}
SAID = {
    "clean": "may be loaded",
    "refused": "must not be loaded",
    "review": "carries code by design: look at it first",
    "incomplete": "was not read to the end: nothing is known",
}
SHOWN_REASONS = 2
"""Reasons shown of one artifact without `--explain`."""
EVERY_SECONDS = 0.2
"""Between two updates of the progress line."""
MIB = 1024 * 1024


class Table:
    """One artifact after the other, in the order of their paths."""

    def __init__(self, printer: Printer, *, explain: bool) -> None:
        self._show, self._explain = printer, explain

    def row(self, one: Scanned) -> None:
        """Its verdict; where it is not clean, why and what to do."""
        verdict, digest = one.report.verdict, one.report.digest
        self._show.marked(MARKS[verdict.outcome], f"{one.path}  {verdict.format}  {verdict.outcome}: {SAID[verdict.outcome]}")
        if self._explain:
            self._show.field("digest", digest.text, f"{digest.size} bytes, {verdict.covered} of them explained")
            self._show.field("by", f"scanner {verdict.scanner_version}, knowledge {verdict.knowledge_version}")
        elif verdict.outcome == "clean":
            return
        else:
            self._show.field("digest", short_digest(digest.text))
        reasons = verdict.reasons if self._explain else verdict.reasons[:SHOWN_REASONS]
        for reason in reasons:
            where = f"{reason.member}: {reason.where}" if reason.member else reason.where
            self._show.field("why", f"{where}: {reason.why}")
            self._show.field("fix", reason.remedy)
        if len(reasons) < len(verdict.reasons):
            self._show.field("", f"{len(verdict.reasons) - len(reasons)} more: --explain")

    def end(self, counted: Counter[str]) -> None:
        """The sum."""
        total = counted.total()
        if total == 1:
            return
        others = ", ".join(f"{counted[outcome]} {outcome}" for outcome in ("refused", "review", "incomplete") if counted[outcome])
        self._show.marked(
            "good" if counted["clean"] == total else "bad", f"{counted['clean']} of {total} are clean" + (f"; {others}" if others else "")
        )


class Progress:
    """Done, rate and time left on one line, where somebody looks."""

    def __init__(self, out: TextIO, *, total: int, size: int) -> None:
        self._out, self._total, self._size = out, total, size
        self._shown = out.isatty() and total > 1
        self._begin = self._last = time.monotonic()
        self._done = self._bytes = 0

    def one(self, size: int) -> None:
        """One more artifact of so many bytes is done."""
        self._done, self._bytes = self._done + 1, self._bytes + size
        now = time.monotonic()
        if self._shown and now - self._last >= EVERY_SECONDS:
            self._last = now
            self._out.write("\r\x1b[K" + harmless(self._text(now - self._begin)))
            self._out.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _text(self, seconds: float) -> str:
        share = self._bytes / self._size if self._bytes and self._size else self._done / self._total
        left = seconds / share - seconds if share else 0.0
        rate = f"{self._done / seconds:.0f}/s, {self._bytes / MIB / seconds:.0f} MiB/s"
        return f"{self._done} of {self._total} scanned, {rate}, {left:.0f} s left"
