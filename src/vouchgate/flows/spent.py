"""Whether a caller used up its budget for a provider today, as the facts say it (budgets.py writes them), and the decision that follows."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.places import Budget, Endpoint
from vouchgate.vocabulary.vouches import UnixMillis

Cell = tuple[str, str]
"""(endpoint id, principal id)."""


def flag(cell: Cell) -> str:
    """Name of the fact that a cell's budget is used up."""
    return f"budget/{cell[0]}|{cell[1]}"


def spent_until(settings: Mapping[str, str], endpoint: Endpoint | None, principal: str) -> UnixMillis:
    """When a cell may be used again whose budget is used up; 0 where it is not, or was under another budget."""
    if endpoint is None or endpoint.egress is None:
        return UnixMillis(0)
    until, _, budget = settings.get(flag((endpoint.id, principal)), "").partition(" ")
    return UnixMillis(int(until)) if until.isdigit() and budget == budget_words(endpoint.egress.budget) else UnixMillis(0)


def refused(made: Decision, until: UnixMillis) -> Decision:
    """The decision of a cell whose budget is used up."""
    return msgspec.structs.replace(
        made,
        effect="deny",
        would_be="deny",
        residual=False,
        determining=("budget",),
        missing=(),
        obligations=(),
        reason="the budget for this provider is used up for today",
        remedy="call again after midnight UTC, or ask for a larger budget in [[egress]]",
        not_after=UnixMillis(min(made.not_after, until)),
    )


def budget_words(budget: Budget) -> str:
    """The budget as it stands in the fact: another one lifts it."""
    return f"{budget.requests}/{budget.bytes}"
