"""How the command line looks: aligned labels, few colours, ages instead of timestamps.

What comes from outside (names, paths, reasons) is made harmless first: control characters could repaint a terminal or hide a line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

from vouchgate.vocabulary.answers import PointOutcome, VouchState

MARKS = {"good": ("32", "✓"), "bad": ("31", "✗"), "warn": ("33", "!"), "note": ("2", "·")}
LABEL_WIDTH = 9
TIER_MEANS = {
    "verified": "observed by us on the bytes",
    "rederived": "recomputed by us from a copy",
    "cooperative": "told by a tool with an identity",
    "declared": "told by a person or a setting",
    "inferred": "guessed from traffic or files",
}
VOUCH_MARK = {"holds": "good", "expiring": "warn", "inconclusive": "warn"}


def harmless(text: str) -> str:
    """`text` without control, format, surrogate and line characters (Unicode Cc, Cf, Cs, Zl, Zp), each shown as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else f"\\u{ord(character):04x}"
        for character in text
    )


def short_name(name: str) -> str:
    """The last segment of a `vg://` or `spiffe://` name; digests cut to 12 digits."""
    last = name.rsplit("/", 1)[-1] if "://" in name else name
    return short_digest(last) if last.startswith("sha256") else last


def short_digest(text: str) -> str:
    """`sha256:4e4e4e4e4e4e…`, and bare hexadecimal likewise."""
    kind, colon, value = text.partition(":") if ":" in text else ("", "", text)
    return f"{kind}{colon}{value[:12]}…" if len(value) > 12 else text


def duration(milliseconds: int) -> str:
    """`40 s`, `12 min`, `3 h`, `12 d`."""
    seconds = abs(milliseconds) / 1000
    for unit, size, upto in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if seconds < upto:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def ago(then: int, now: int) -> str:
    """`12 min ago`, `never`."""
    return "never" if not then else "now" if abs(now - then) < 1000 else f"{duration(now - then)} ago"


class Printer:
    """Writes lines; `colors` is true on a terminal."""

    def __init__(self, out: TextIO, *, colors: bool) -> None:
        self._out, self._colors = out, colors

    def line(self, text: str = "") -> None:
        """One line as it is."""
        self._out.write(text + "\n")

    def paint(self, text: str, how: str) -> str:
        """`text` in the colour of a mark, or `bold`."""
        code = "1" if how == "bold" else MARKS[how][0]
        return f"\x1b[{code}m{text}\x1b[0m" if self._colors else text

    def marked(self, how: str, text: str, indent: int = 0) -> None:
        """A line behind its mark."""
        self.line(" " * indent + self.paint(MARKS[how][1], how) + " " + harmless(text))

    def field(self, label: str, *values: str) -> None:
        """A label and its values below each other; empty values are left out."""
        for number, value in enumerate(value for value in values if value):
            self.line("  " + self.paint(f"{label if number == 0 else '':<{LABEL_WIDTH - 1}} ", "note") + harmless(value))

    def command(self, label: str, command: str) -> None:
        """A command line to copy."""
        if command:
            self.line("  " + self.paint(label.ljust(LABEL_WIDTH), "note") + self.paint("$ " + harmless(command), "bold"))

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], indent: int = 2) -> None:
        """Columns as wide as their widest cell."""
        cells = [[harmless(cell) for cell in row] for row in rows]
        if not cells:
            return
        widths = [max(len(row[number]) for row in [list(head), *cells]) for number in range(len(head))]
        for number, row in enumerate([list(head), *cells]):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.line(" " * indent + (self.paint(text, "note") if number == 0 else text))

    def vouches(self, vouches: Iterable[VouchState], now: int) -> None:
        """One vouch a line: does it hold, until when, how it is known, who says so."""
        known = list(vouches)
        width = max((len(vouch.predicate) for vouch in known), default=0)
        for number, vouch in enumerate(known):
            twin = sum(other.predicate == vouch.predicate for other in known) > 1
            label = self.paint(("evidence" if number == 0 else "").ljust(LABEL_WIDTH), "note")
            mark = VOUCH_MARK.get(vouch.state, "bad")
            of = f" of {short_name(vouch.subject)}" if twin else ""
            text = f"{vouch.predicate.ljust(width)}  {_until(vouch, now).ljust(20)}  {(vouch.tier or '-').ljust(11)}  {_issuer(vouch)}{of}"
            self.line(f"  {label}{self.paint(MARKS[mark][1], mark)} {harmless(text).rstrip()}")

    def points(self, points: Iterable[PointOutcome], now: int) -> None:
        """What each enforcement point did."""
        for number, point in enumerate(points):
            told = {
                "enforced": f"enforced, acknowledged after {point.after_ms:.1f} ms",
                "expires-by-lease": f"not acknowledged: expires by lease in {duration(point.at - now)}",
                "planned": "would be told",
            }[point.outcome]
            self.field("where" if number == 0 else "", f"{point.point}: {told}")


def _until(vouch: VouchState, now: int) -> str:
    if vouch.state in ("holds", "expiring"):
        return f"{vouch.state}, {duration(vouch.expires_at - now)} left"
    if vouch.state == "expired":
        return f"expired {ago(vouch.expires_at, now)}"
    return vouch.state


def _issuer(vouch: VouchState) -> str:
    by = f"by {vouch.issuer_role}" if vouch.issuer_role else ""
    return f"{by}, {vouch.tool}" if by and vouch.tool else by or vouch.detail
