"""The gateway's settings, as supervisor (bootstrap) and control plane (resources) both need them: one function, so that they agree."""

from __future__ import annotations

from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings


def gateway_settings(settings: Settings, layout: Layout, *, gateway: str, plain: str) -> GatewaySettings:
    """From the settings and the addresses that were taken."""
    return GatewaySettings(
        node_id="gateway",
        trust_domain=settings.trust_domain,
        admin_socket=str(layout.admin_socket),
        ads_socket=str(layout.ads_socket),
        ext_authz_socket=str(layout.ext_authz_socket),
        access_log=str(layout.access_log),
        tls_address=f"tcp:{gateway}",
        plain_address=f"tcp:{plain}" if plain else "",
        hosts=settings.gateway.hosts,
        concurrency=settings.gateway.concurrency,
        max_body_bytes=settings.limits.request_body_kib * 1024,
    )
