"""The gateway's settings, as supervisor (bootstrap) and control plane (resources) both need them: one function, so that they agree."""

from __future__ import annotations

from pathlib import Path

from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.vocabulary.layout import Layout
from vouchgate.vocabulary.settings import Settings

SYSTEM_CA = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem")
"""Where systems keep the authorities that they trust, by how common they are."""


def gateway_settings(settings: Settings, layout: Layout, *, gateway: str, plain: str, sts: str = "") -> GatewaySettings:
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
        federated_address=_address(settings.gateway.federated_listen),
        egress_address=_address(settings.gateway.egress_listen),
        system_ca=next((path for path in SYSTEM_CA if Path(path).is_file()), SYSTEM_CA[0]),
        authority=_authority(settings, gateway),
        sts_issuer=_sts_issuer(settings, sts),
        hosts=settings.gateway.hosts,
        concurrency=settings.gateway.concurrency,
        max_body_bytes=settings.limits.request_body_kib * 1024,
    )


def _address(listen: str) -> str:
    return f"tcp:{listen}" if listen else ""


def _authority(settings: Settings, gateway: str) -> str:
    """Host and port under which callers know the gateway: the first of its hosts, and the port that was taken unless it is https's own."""
    port = gateway.rpartition(":")[2]
    return settings.gateway.hosts[0] if port in {"", "443"} else f"{settings.gateway.hosts[0]}:{port}"


def _sts_issuer(settings: Settings, sts: str) -> str:
    """Under which others know the token service; empty where there is none."""
    if settings.sts.url or not sts:
        return settings.sts.url.rstrip("/")
    return f"https://{settings.sts.hosts[0]}:{sts.rpartition(':')[2]}"
