"""A GitHub Actions job, by its OIDC token.

The tests' recordings have the provider's published form and keys of their own; none was made by the provider itself.

Rules
1. The token is read by foreign_tokens.py; RS256, with a `jti`.
2. A run that a pull request started executes what the pull request's author wrote, fork or not (the token does not say which). All that it
   establishes is `github:pull_request:*`, nothing of `github:*`: no registration made for pushes is ever earned by a pull request.
3. Names can be given up and taken again by others; `repository_id` and `repository_owner_id` cannot.
4. A claim that GitHub adds later fails until it is listed here.
GitHub Enterprise Server is another source: name it in vouchgate.toml, its selectors then carry that name (attestors, rule 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouchgate.identity.attestors import Attested, Attestor, Trust, prefix, selectors
from vouchgate.identity.foreign_tokens import Expected, read_token
from vouchgate.vocabulary.fields import FieldKind, Fields
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

_REQUIRED = (
    "repository", "repository_id", "repository_owner", "repository_owner_id", "ref", "ref_type", "sha", "workflow_ref", "workflow_sha",
    "job_workflow_ref", "event_name", "runner_environment", "actor", "actor_id", "run_id",
)  # fmt: skip
_OPTIONAL = ("environment", "job_workflow_sha", "repository_visibility", "ref_protected", "run_attempt", "enterprise", "enterprise_id")
_TEXT: FieldKind = "text"
_EXPECTED = Expected(
    claims=Fields(
        required=dict.fromkeys(_REQUIRED, _TEXT),
        optional=dict.fromkeys(_OPTIONAL, _TEXT),
        # Names that the repository's writers choose, and counters.
        ignored=("workflow", "run_number", "head_ref", "base_ref", "check_run_id", "environment_node_id"),
    ),
    algorithms=frozenset({"RS256"}),
    needs_jti=True,
)
_FIELDS = Fields(required={"token": "document"})


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    token = read_token(given["token"], trust, now, _EXPECTED)
    if isinstance(token, Denied):
        return token
    facts = {short: token.claims.get(short) for short in (*_REQUIRED, *_OPTIONAL)}
    first = prefix(trust, "github")
    if _of_pull_request(token.claims):  # 2
        first = f"{first}:pull_request"
    return Attested(selectors=selectors(first, facts), replay_key=token.replay_key, expires_at=token.expires_at)


def _of_pull_request(claims: Mapping[str, Any]) -> bool:
    """By any of the three places that show it, so that a new event name does not hide it."""
    return claims["event_name"].startswith("pull_request") or claims["ref"].startswith("refs/pull/") or bool(claims.get("head_ref"))


ATTESTOR = Attestor(name="github-actions", version=1, kind="presented", fields=_FIELDS, establish=_establish)
