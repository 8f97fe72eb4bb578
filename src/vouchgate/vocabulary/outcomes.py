"""The expected "no" as a value: `Denied` for who, `Refused` for evidence. What is broken, not merely refused, is raised (errors.py)."""

from __future__ import annotations

from typing import Literal

from vouchgate.vocabulary.wire import Noun

PROBLEM_TYPE = "https://vouchgate.dev/problem/"
"""What a problem's `type` begins with (RFC 9457, section 3.1.1); the code follows."""
PROBLEM_MEDIA = "application/problem+json"

WhyRefused = Literal["absent", "expired", "failed", "revoked", "unverified", "tier"]
"""The words of `Missing.why`."""


class Denied(Noun, frozen=True, kw_only=True):
    """A credential or an attestation that does not hold."""

    code: str
    """Stable machine name, `[a-z0-9-]+`, for example `jwt-expired`."""
    reason: str
    """Lower-case, one sentence, no full stop; never a secret, never the token."""
    remedy: str


class Refused(Noun, frozen=True, kw_only=True):
    """A vouch that is not evidence now."""

    why: WhyRefused
    reason: str
    """Lower-case, one sentence, no full stop."""
    remedy: str
