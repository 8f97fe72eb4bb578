"""`vouchgate policy explain`: `vouchgate why`, under the noun where one looks for it."""

from __future__ import annotations

from vouchgate.edges.cli.commands.why import DETAIL, SUMMARY, arguments, run

__all__ = ["DETAIL", "SUMMARY", "arguments", "run"]
