"""Which clause of its standard a certificate, token or trust bundle violates: for documents of any issuer, not only ours.

Rules
1. A finding names the clause and says what is wrong; `violation` is a MUST that is broken, `note` a SHOULD, or something to know.
2. Everything is looked at, not only the first fault; nothing that cannot be read any further is guessed at.
3. This says whether a document conforms. Whether one is accepted here, `x509svid`, `jwtsvid` and `bundle` decide, by narrower rules: they
   accept nothing in which this finds a violation; a test holds that.
Left to others: certificates (conformance_x509.py), tokens and bundles (conformance_jose.py), reading files (the command).
"""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.wire import Noun


class Finding(Noun, frozen=True, kw_only=True):
    """One clause, and how the document stands to it."""

    clause: str
    """Standard and section, for example `X509-SVID 4.3` or `RFC 5280 4.1.2.2`."""
    level: Literal["violation", "note"]
    text: str
    """Lower-case, one sentence, no full stop."""


class Checked(Noun, frozen=True, kw_only=True):
    """One document."""

    kind: Literal["leaf", "signing certificate", "chain", "token", "bundle", "unknown"]
    subject: str = ""
    """Its SPIFFE id, where it has one."""
    findings: tuple[Finding, ...] = ()

    @property
    def conforms(self) -> bool:
        """Whether no MUST is broken."""
        return all(finding.level == "note" for finding in self.findings)


def violation(clause: str, text: str) -> Finding:
    """A MUST that is broken."""
    return Finding(clause=clause, level="violation", text=text)


def note(clause: str, text: str) -> Finding:
    """A SHOULD that is not followed, or something to know."""
    return Finding(clause=clause, level="note", text=text)
