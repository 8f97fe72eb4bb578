"""Every signed version of the policy: who wrote it, who agreed, when, and whether its signature holds today; and what waits for a second person."""

from __future__ import annotations

from vouchgate.evidence.policystatement import verify_policy
from vouchgate.flows.changes import PolicyActivated, decode_record
from vouchgate.flows.context import Context
from vouchgate.flows.facts import sources_digest
from vouchgate.policy.catalog import load
from vouchgate.policy.load import Source
from vouchgate.vocabulary.answers_policy import PolicyHistory, PolicyProposal, PolicyRecord
from vouchgate.vocabulary.errors import NotFound, Unverified, VouchgateError
from vouchgate.vocabulary.trust import TrustRoot
from vouchgate.vocabulary.vouches import UnixMillis

MAX_VERSIONS = 1_000
"""Versions of one answer, the newest ones; each is read and verified, about 1 ms."""
PROPOSAL = "policy-proposal"
"""The setting in which a proposal waits (change_policy.py)."""


def history(context: Context, version: int = 0) -> PolicyHistory:
    """All versions, or one with its text. Raises `NotFound`. Reads the store: not for the event loop."""
    root, current = context.facts.trust_root, context.facts.policy
    in_force = current.version if current else 0
    if version:
        row = context.store.get("policy", f"{version:09d}")
        if row is None:
            raise NotFound(f"there is no policy version {version}", remedy="list them: `vouchgate policy history`")
        return PolicyHistory(versions=(_told(row, root, in_force, whole=True),))
    rows = context.store.scan("policy", after=f"{max(0, in_force - MAX_VERSIONS):09d}", limit=MAX_VERSIONS)
    return PolicyHistory(
        versions=tuple(_told(row.value, root, in_force, whole=False) for row in reversed(rows)), proposal=proposal(context)
    )


def proposal(context: Context) -> PolicyProposal | None:
    """What waits, if it still may be agreed to."""
    digest, author, until = (*context.facts.settings.get(PROPOSAL, "").split(" "), "", "", "")[:3]
    if not digest or not author or not until.isdigit() or int(until) <= context.clock.now():
        return None
    return PolicyProposal(sha256=digest, author=author, until=UnixMillis(int(until)))


def _told(row: bytes, root: TrustRoot | None, in_force: int, *, whole: bool) -> PolicyRecord:
    change = decode_record("policy", row)
    assert isinstance(change, PolicyActivated)
    signature, detail = _signature(change, root)
    try:
        count = len(load([Source(name, text) for name, text in change.sources]).policies)
    except VouchgateError as error:
        count, detail = 0, detail or f"does not load any more: {error.reason}"[:500]
    return PolicyRecord(
        version=change.version, digest=change.digest, author=change.author, approver=change.approver, applied_at=change.applied_at,
        files=tuple(name for name, _ in change.sources), policies=count, in_force=change.version == in_force,
        signature=signature,  # type: ignore[arg-type]
        detail=detail, text="\n".join(text for _, text in change.sources) if whole else "",
    )  # fmt: skip


def _signature(change: PolicyActivated, root: TrustRoot | None) -> tuple[str, str]:
    """The signature over exactly this version, text, author and approver."""
    if root is None:
        return "key-not-current", "there is no TrustRoot yet"
    try:
        statement = verify_policy(change.envelope, root, current_version=change.version)
    except Unverified as error:
        return ("key-not-current" if "not signed by the policy key" in error.reason else "broken"), error.reason
    signed = (statement.version, statement.policy_digest, statement.author, statement.approver)
    if signed != (change.version, change.digest, change.author, change.approver) or sources_digest(change.sources) != change.digest:
        return "broken", "the record is not what its signature covers"
    return "holds", ""
