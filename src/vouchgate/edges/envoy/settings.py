"""What one gateway is told at its start, and the names that its parts call each other by."""

from __future__ import annotations

from vouchgate.vocabulary.wire import Noun

ADS_CLUSTER = "vouchgate-ads"
ASK_CLUSTER = "vouchgate-ext-authz"
ASK, MODEL_NAME, STRIP_AUTHORIZATION, STRIP_OVERRIDES = "ask", "model-name", "strip-authorization", "strip-overrides"
NO_BODY = "no-body"
TLS_LISTENER = "tls"
PLAIN_LISTENER = "plain"
TLS_ROUTES = "tls"
PLAIN_ROUTES = "plain"
FEDERATED_LISTENER = FEDERATED_ROUTES = "federated"
EGRESS_LISTENER = EGRESS_ROUTES = "egress"
SVID_SECRET = "gateway-svid"  # noqa: S105 (the name of a resource, not its content)
BUNDLE_SECRET = "trust-bundle"  # noqa: S105 (the name of a resource, not its content)
PARTNER_SECRET = "partner-bundles"  # noqa: S105 (the name of a resource, not its content)
FEDERATED = "federated "
"""Before a foreign id wherever it stands for a caller, so that it equals no id of ours."""
PARTNER_STATE = "vg.partner"
"""Filter state that the partners' listener alone sets: a certificate at another listener may spell `FEDERATED` itself."""
MIN_SLOTS = 8
"""Map filters in a listener from the start, so that the first endpoints are added without touching it."""
MAX_SLOTS = 1024
"""Endpoints behind one gateway; each slot costs a filter that is skipped on other routes."""


class GatewaySettings(Noun, frozen=True, kw_only=True):
    """One gateway process."""

    node_id: str
    """How the gateway names itself to the control plane."""
    trust_domain: str
    admin_socket: str
    ads_socket: str
    ext_authz_socket: str
    access_log: str
    """Path of the log file."""
    tls_address: str = "tcp:127.0.0.1:8443"
    plain_address: str = ""
    """For wrapped endpoints in observe; empty for no plain listener."""
    federated_address: str = ""
    """For workloads of partners, under their own bundles; empty for no federated listener."""
    egress_address: str = ""
    """For workloads that call providers outside; empty for no egress listener."""
    system_ca: str = "/etc/ssl/certs/ca-certificates.crt"
    """PEM file of the authorities that this machine trusts for servers outside."""
    authority: str = "localhost"
    """Host, and port unless it is 443, under which callers know the gateway: what canonical URIs begin with."""
    sts_issuer: str = ""
    """Issuer of the token service, for the metadata of MCP servers; empty for none."""
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Host names under which endpoints with host `*` are reached; another name is answered 404."""
    concurrency: int = 1
    """Envoy worker threads."""
    max_body_bytes: int = 1024 * 1024
    """Bytes of a body that must be held to read the model's name; more is answered 413."""
    ext_authz_timeout_seconds: float = 1.0
    """After which a hung PDP counts as gone: 503."""
    headers_seconds: float = 10.0
    """From a request's first byte to its last header; what a slow client may hold."""
    request_seconds: float = 60.0
    """From a request's first byte to the last byte of its body."""
    drain_seconds: int = 5


def slot_count(endpoints: int) -> int:
    """Map filters in a listener for so many endpoints: a power of two, so that most additions leave the listener alone."""
    count = MIN_SLOTS
    while count < endpoints:
        count *= 2
    return count
