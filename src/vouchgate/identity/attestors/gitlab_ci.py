"""A GitLab CI job, by its ID token.

The tests' recordings have the provider's published form and keys of their own; none was made by the provider itself.

Rules
1. The token is read by foreign_tokens.py; RS256, with a `jti`.
2. A merge request's pipeline executes what its author wrote: it establishes `gitlab:merge_request:*` alone, nothing of `gitlab:*`.
   (A fork's own pipelines run in the fork, whose `project_id` is another.)
3. Names can be given up and taken again by others; `project_id` and `namespace_id` cannot.
4. A claim that GitLab adds later fails until it is listed here. Every GitLab is a source of its own (attestors, rule 4).
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
    "namespace_id", "namespace_path", "project_id", "project_path", "pipeline_id", "pipeline_source", "job_id", "ref", "ref_type",
    "ref_protected", "user_id", "user_login",
)  # fmt: skip
_OPTIONAL = (
    "ref_path", "sha", "environment", "environment_protected", "deployment_tier", "ci_config_ref_uri", "ci_config_sha",
    "runner_environment", "project_visibility", "user_access_level", "job_project_id", "job_project_path", "job_namespace_id",
    "job_namespace_path", "job_source",
)  # fmt: skip
_TEXT: FieldKind = "text"
_EXPECTED = Expected(
    claims=Fields(
        required=dict.fromkeys(_REQUIRED, _TEXT),
        optional={**dict.fromkeys(_OPTIONAL, _TEXT), "runner_id": "integer"},
        # What a person is called elsewhere, and what a job says it does.
        ignored=(
            "user_email", "user_identities", "groups_direct", "environment_action", "deployment_action", "job_policy_ref_uri",
            "job_policy_ref_sha", "job_config",
        ),
    ),
    algorithms=frozenset({"RS256"}),
    needs_jti=True,
)  # fmt: skip
_FIELDS = Fields(required={"token": "document"})


def _establish(given: Mapping[str, Any], trust: Trust, now: UnixMillis, nonce: str) -> Attested | Denied:
    token = read_token(given["token"], trust, now, _EXPECTED)
    if isinstance(token, Denied):
        return token
    claims = token.claims
    facts = {short: claims.get(short) for short in (*_REQUIRED, *_OPTIONAL, "runner_id")}
    refs = (claims["ref"], claims.get("ref_path", ""))
    of_merge_request = claims["pipeline_source"] in ("merge_request_event", "external_pull_request_event") or any(
        ref.startswith("refs/merge-requests/") for ref in refs
    )
    first = prefix(trust, "gitlab") + (":merge_request" if of_merge_request else "")  # 2
    return Attested(selectors=selectors(first, facts), replay_key=token.replay_key, expires_at=token.expires_at)


ATTESTOR = Attestor(name="gitlab-ci", version=1, kind="presented", fields=_FIELDS, establish=_establish)
