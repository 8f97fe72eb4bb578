"""What an enforcement point of somebody else asks, and what it is told (OpenID AuthZEN Authorization API 1.0, section 5).

Rules
1. `type`, `id` and `name` are text; what an application's policies read of `properties` and `context` is converted where it is decided.
2. A question of a search leaves out what is searched for: its `id`, or the action's `name`, is then empty.
"""

from __future__ import annotations

from typing import Any

from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.wire import Noun

MAX_TYPE = 128
"""Characters of a type and of an action's name."""
MAX_ID = 1024
"""Characters of an id; a SPIFFE id has at most 2,048 bytes, ours at most 450."""


class Thing(Noun, frozen=True, kw_only=True):
    """A subject or a resource (sections 5.1 and 5.2)."""

    type: str
    id: str = ""
    properties: dict[str, Any] = {}


class Question(Noun, frozen=True, kw_only=True):
    """One evaluation, or one search (sections 6.1 and 8)."""

    subject: Thing
    action: str = ""
    action_properties: dict[str, Any] = {}
    resource: Thing
    context: dict[str, Any] = {}
    carries: frozenset[str] = frozenset()
    """Kinds of obligations that the asking point will carry out."""


class Evaluated(Noun, frozen=True, kw_only=True):
    """One answer. `decision` is what is recorded, and what it is told from."""

    decision: Decision
    status: int = 200
    """400 or 404 where the question itself is at fault, so that the decision is false (section 7.2.1)."""


class Found(Noun, frozen=True, kw_only=True):
    """A page of a search (section 8.2.2)."""

    results: tuple[str, ...]
    """Ids, or names of actions."""
    last: str = ""
    """The last candidate that was examined, where there are more; empty: that was all."""
    examined: int = 0
