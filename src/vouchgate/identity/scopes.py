"""What a token is good for: its grammar, whether it covers an act, whether one set of scopes lies within another.

    <action>                              the action on whatever the token's audience names
    <action>:<endpoint>                   the action on this endpoint
    call-tool:<endpoint>/<tool>           one tool of this endpoint

Rules
1. A scope narrows: it never gives what policies do not (RFC 6749, section 3.3; RFC 9700, section 2.3).
2. One set has one spelling: sorted, each once, joined by one space.
3. `administer...`, `exchange` and whatever else is not the use of an endpoint is no scope: nobody does it on somebody's behalf.
4. An empty set covers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vouchgate.vocabulary.errors import InvalidInput

MAX_SCOPES = 32
"""Scopes of one token; the token's bound on bytes is near beyond it."""
MAX_SCOPE_CHARACTERS = 1_024
"""Characters of the claim."""
_NAME = r"(?!\.{1,2}(?:/|\Z))[a-z0-9._-]{1,64}"
_SCOPE = re.compile(rf"([a-z][a-z0-9-]{{0,63}})(?::({_NAME})(?:/({_NAME}))?)?\Z")
_NEVER = frozenset({"administer", "exchange", "use", "move", "sign", "approve", "promote", "release-key", "admit", "import"})
TOOL_ACTION = "call-tool"
_REMEDY = "write scopes as `infer`, `infer:<endpoint>` or `call-tool:<endpoint>/<tool>`, with one space between"


def parse_scopes(text: str) -> tuple[str, ...]:
    """Scopes as a client asks for them, in any order. Raises `InvalidInput`."""
    if not text or len(text) > MAX_SCOPE_CHARACTERS:
        raise InvalidInput("the scope is empty or over the bound", remedy=_REMEDY)
    listed = text.split(" ")
    if len(listed) > MAX_SCOPES or len(set(listed)) != len(listed):
        raise InvalidInput(f"there are more than {MAX_SCOPES} scopes, or one is there twice", remedy=_REMEDY)
    for scope in listed:
        _parts(scope)
    return tuple(sorted(listed))


def read_scopes(claim: object) -> tuple[str, ...] | None:
    """The claim in its one spelling, or None for anything else."""
    if not isinstance(claim, str):
        return None
    try:
        scopes = parse_scopes(claim)
    except InvalidInput:
        return None
    return scopes if write_scopes(scopes) == claim else None


def write_scopes(scopes: Iterable[str]) -> str:
    """Rule 2."""
    return " ".join(sorted(set(scopes)))


def covers(scopes: Iterable[str], action: str, endpoints: Iterable[str], tool: str = "") -> bool:
    """Whether one of the scopes names the act: `endpoints` are the names under which what is asked for is known, `tool` a tool of it."""
    names = frozenset(endpoints)
    for scope in scopes:
        allowed, endpoint, only = _parts(scope)
        if allowed == action and (not endpoint or endpoint in names) and (not only or only == tool):
            return True
    return False


def within(asked: Iterable[str], held: Iterable[str] | None) -> bool:
    """Whether everything that `asked` covers is covered by `held` too; None holds everything."""
    return held is None or all(any(_inside(one, other) for other in held) for one in asked)


def _inside(narrow: str, wide: str) -> bool:
    (action, endpoint, tool), (other, place, only) = _parts(narrow), _parts(wide)
    return action == other and (not place or place == endpoint) and (not only or only == tool)


def _parts(scope: str) -> tuple[str, str, str]:
    match = _SCOPE.match(scope)
    if match is None or match[1] in _NEVER or (match[3] and match[1] != TOOL_ACTION):
        raise InvalidInput(f"`{scope[:80]!a}` is not a scope", remedy=_REMEDY)
    return match[1], match[2] or "", match[3] or ""
