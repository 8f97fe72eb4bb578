"""How a scan looks on a terminal: may this be loaded, and if not, what to do; progress on standard error while it runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, TextIO

from vouchgate.edges.cli.printing import Printer, harmless, short_digest

if TYPE_CHECKING:
    from vouchgate.flows.scan_artifacts import Scanned
    from vouchgate.scanning.asked import AskedName

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
        for name in one.report.names if self._explain else ():
            self._name(name)

    def _name(self, asked: AskedName) -> None:
        """One name: what it may be used for, from which wheel, let in by whom."""
        entry = asked.entry
        if entry is None:
            self._show.field("name", f"{asked.module}.{asked.name}: not known, so for no use")
            return
        rules = [f"arguments: {entry.arguments}" * bool(entry.arguments), f"state: {entry.state}" * bool(entry.state)]
        self._show.field("name", f"{asked.module}.{asked.name}: {', '.join((*entry.uses, *filter(None, rules)))}")
        versions = " to ".join(dict.fromkeys(filter(None, entry.versions)))
        wheel = f", wheel {short_digest(f'sha256:{entry.wheel}')}" if entry.wheel else ""
        by = "the rules alone" if entry.reviewer == "generated" else entry.reviewer or "nobody named"
        self._show.field("", f"{entry.library} {versions}{wheel}, let in by {by}, since version {entry.since}".replace(" ,", ","))
        if entry.why:
            self._show.field("", entry.why)

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
    """Done, rate and time left on one line, where somebody looks. Safe to tell from several threads."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._tty = out, out.isatty()
        self._lock = threading.Lock()
        self._total = self._size = self._done = self._bytes = self._came = 0
        self._begin = self._last = time.monotonic()

    def begin(self, *, total: int, size: int) -> None:
        """So many artifacts of so many bytes were found."""
        self._total, self._size = total, size
        self._begin = self._last = time.monotonic()

    def one(self, size: int) -> None:
        """One more artifact of so many bytes is done."""
        self._done, self._bytes = self._done + 1, self._bytes + size
        if self._total > 1:
            self._show()

    def fetched(self, count: int, size: int) -> None:
        """So many bytes more came over the line, of an artifact of `size` bytes."""
        del size
        self._came += count
        self._show()

    def _show(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._tty and now - self._last >= EVERY_SECONDS:
                self._last = now
                self._out.write("\r\x1b[K" + harmless(self._text(now - self._begin)))
                self._out.flush()

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._tty:
                self._out.write("\r\x1b[K")
                self._out.flush()

    def _text(self, seconds: float) -> str:
        if self._came and not self._done:
            share = min(1.0, self._came / self._size) if self._size else 1.0
            left = seconds / share - seconds
            return f"{self._came // MIB} of {self._size // MIB} MiB fetched, {self._came / MIB / seconds:.1f} MiB/s, {left:.0f} s left"
        share = self._bytes / self._size if self._bytes and self._size else self._done / self._total
        left = seconds / share - seconds if share else 0.0
        rate = f"{self._done / seconds:.0f}/s, {self._bytes / MIB / seconds:.0f} MiB/s"
        return f"{self._done} of {self._total} scanned, {rate}, {left:.0f} s left"
