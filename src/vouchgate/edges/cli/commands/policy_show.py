"""`vouchgate policy show`: the policy in force."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.printing import ago, harmless, short_digest
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers import PolicyVersion

SUMMARY = "the policy in force"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(session: Session, options: argparse.Namespace) -> int:
    """As Cedar, with the version as a comment above, so that the output is a policy file again."""
    answer = session.client.get(PolicyVersion, "/api/v1/policy")
    if not session.json(answer):
        when = ago(answer.applied_at, session.client.now)
        session.printer.line(f"// version {answer.version}, {short_digest(answer.digest)}, in force since {when}")
        for line in answer.text.splitlines():
            session.printer.line(harmless(line.expandtabs(4)))
    return 0
