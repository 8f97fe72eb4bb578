"""Typed errors: raised where the world is broken, rendered once at the edge.

An expected "no" is a value (`Denied`, `Refused`), never an exception. A message is lower-case, has no final full stop, puts user input
in backticks, and `remedy` says what to do next.
"""

from __future__ import annotations


class VouchgateError(Exception):
    """A broken world, told to a person: what is wrong, and the remedy."""

    code = "error"
    """Stable machine name, the last segment of the RFC 9457 `type`."""
    status = 500
    """HTTP status at the API edge (RFC 9110, section 15)."""
    exit_code = 3
    """Exit code at the CLI edge: 1 findings or denied, 2 usage, 3 error."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class InvalidInput(VouchgateError):
    """Bytes, a document or an argument that is not what its standard or our schema says."""

    code = "invalid-input"
    status = 400
    exit_code = 2


class InvalidName(InvalidInput):
    """A name that is not `vg://...` or `spiffe://...` in our restricted grammar."""

    code = "invalid-name"


class InvalidSettings(InvalidInput):
    """vouchgate.toml cannot be used; the message names file, key, line and the nearest known key."""

    code = "invalid-settings"


class NotFound(VouchgateError):
    """The thing that was asked for is not there."""

    code = "not-found"
    status = 404
    exit_code = 2


class Conflict(VouchgateError):
    """The change contradicts what is there (already exists, older version, nonce used)."""

    code = "conflict"
    status = 409


class NotPermitted(VouchgateError):
    """An administrative act or a peer that `decide` did not allow."""

    code = "not-permitted"
    status = 403
    exit_code = 1


class Unverified(VouchgateError):
    """A signature, proof, delegation or chain that does not hold."""

    code = "unverified"
    status = 403
    exit_code = 1


class NotLoggedIn(Unverified):
    """There is no session, or it does not stand any more."""

    code = "not-logged-in"
    status = 401


class LimitExceeded(VouchgateError):
    """A named bound was reached."""

    code = "limit-exceeded"
    status = 429


class Unavailable(VouchgateError):
    """A part that is needed does not answer; the caller fails closed."""

    code = "unavailable"
    status = 503


class StoreDamaged(VouchgateError):
    """The store or the log does not agree with itself or with a checkpoint."""

    code = "store-damaged"


class Unsupported(VouchgateError):
    """This platform or build cannot do what was asked."""

    code = "unsupported"
    status = 501
