"""The gateway's settings, as supervisor (bootstrap) and control plane (resources) both need them: one function, so that they agree."""

from __future__ import annotations

from vouchgate import wiring
from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.vocabulary.layout import Layout


def gateway_settings(installation: wiring.Installation, layout: Layout) -> GatewaySettings:
    """From the installation's settings and the addresses that were taken."""
    settings = installation.settings
    return GatewaySettings(
        node_id="gateway",
        trust_domain=settings.trust_domain,
        admin_socket=str(layout.admin_socket),
        ads_socket=str(layout.ads_socket),
        ext_authz_socket=str(layout.ext_authz_socket),
        access_log=str(layout.access_log),
        tls_address=f"tcp:{installation.gateway}",
        plain_address=f"tcp:{installation.plain}" if installation.plain else "",
        hosts=settings.gateway.hosts,
        concurrency=settings.gateway.concurrency,
        max_body_bytes=settings.limits.request_body_kib * 1024,
    )
