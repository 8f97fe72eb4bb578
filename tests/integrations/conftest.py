"""The fixtures of asgi_servers.py, for every test of this folder."""

from __future__ import annotations

from asgi_servers import control, domain, leased, tls_files

__all__ = ["control", "domain", "leased", "tls_files"]
