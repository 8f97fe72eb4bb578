"""A thin layer over argparse: errors are ours, typed, with the nearest known word; nothing is printed here.

A command is a module in `commands/` with `SUMMARY`, optionally `DETAIL`, `arguments(parser)` and `run(session, options)`.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

from vouchgate.vocabulary.errors import InvalidInput

NEAR = 0.5
"""Likeness above which a known word is offered; lower than for settings, because a command is short."""


class Usage(InvalidInput):
    """The command line cannot be understood."""

    code = "usage"


class CommandModule(Protocol):
    """What a file in `commands/` offers."""

    SUMMARY: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes."""

    def run(self, session: Any, options: argparse.Namespace) -> int:
        """Do it; the exit code."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean ...?`, or nothing."""
    near = difflib.get_close_matches(word, list(known), 1, NEAR)
    return f"did you mean `{near[0]}`?" if near else ""


class Parser(argparse.ArgumentParser):
    """argparse that raises `Usage`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=True, formatter_class=_Wide, **options)

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (\S+)", message)
        hint = ""
        if unknown:
            hint = nearest(unknown[1].split("=")[0], [flag for action in self._actions for flag in action.option_strings])
            message = f"`{unknown[1][:80]}` is not an option here"
        raise Usage(f"{self.prog}: {message}", remedy=hint or f"see `{self.prog} --help`")


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


def common(parser: argparse.ArgumentParser) -> None:
    """What every command takes."""
    parser.add_argument("--json", action="store_true", help="print the whole answer as JSON")
    parser.add_argument("--config", metavar="FILE", default="", help="vouchgate.toml (default: here or in a folder above)")
    parser.add_argument("--socket", metavar="PATH", default="", help="the control plane's api.sock (default: from the settings)")
    parser.add_argument("--no-color", action="store_true", help="print without colours")
