"""Request: what an enforcement point asks about, with every identity in it already verified by that point."""

from __future__ import annotations

from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class Request(Noun, frozen=True, kw_only=True):
    """One request as the gateway saw it; every identity in it was verified by the gateway, an empty one was not there."""

    request_id: str
    method: str
    path: str
    """Path and query as the gateway matched them: normalised, the endpoint's prefix still before."""
    host: str
    """The authority's host without a port or a trailing dot."""
    endpoint: str
    """Endpoint resource id of the route."""
    action: str
    zone: str
    model: str = ""
    """Model name that the body names."""
    tool: str = ""
    """Tool that an MCP message calls, one of the endpoint's `tools`."""
    san: str = ""
    """The certificate's URI names, comma-joined; more than one is refused before it comes here."""
    federated: str = ""
    """The certificate's URI name where it is a partner's, checked against that partner's bundle alone; then `san` and `subject` are empty."""
    serial: str = ""
    """The certificate's serial number, by which it is revoked: whole bytes, lower-case hexadecimal."""
    fingerprint: str = ""
    """SHA-256 of the certificate, lower-case hexadecimal."""
    subject: str = ""
    """`sub` of the verified token."""
    audience: str = ""
    token_id: str = ""
    """`jti`."""
    confirmation: str = ""
    """`cnf`.`x5t#S256`: the certificate that the token is bound to."""
    actor: str = ""
    """`act`.`sub` of an exchanged token."""
    beyond: bool = False
    """Whether the token has claims beyond the plain ones (`vg`, `cnf`, `act`, `scope`): it is to be read whole, from `authorization`."""
    authorization: str = ""
    """The header as it came: `Bearer` or `DPoP` and the token, whose signature, life and audience the gateway checked."""
    dpop: str = ""
    """The header `DPoP` (RFC 9449, section 4.1); several are joined by commas, which no proof contains."""
    certificate_since: UnixMillis = UnixMillis(0)
    """When the certificate begins; 0 where there is none, or where it is not known."""
    token_since: UnixMillis = UnixMillis(0)
    """`iat`; likewise."""
    content_type: str = ""
    content_encoding: str = ""
    body: bytes = b""
    """At endpoints with `approvals`, whole; elsewhere empty."""
    user_agent: str = ""
    peer: str = ""
