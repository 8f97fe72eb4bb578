"""What of MCP servers, partners and providers in vouchgate.toml contradicts itself; raises what `no(where, reason, remedy)` makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.vocabulary.errors import InvalidName
from vouchgate.vocabulary.mcp import tool_id
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.settings import Settings

No = Callable[[Any, str, str], Exception]
RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "expect", "content-type", "cookie"})
"""Headers that carry no secret: they mean something to every hop."""


def check_gateway(settings: Settings, no: No) -> None:
    """All of it."""
    for key in ("federated_listen", "egress_listen"):
        if getattr(settings.gateway, key).endswith(":0"):
            raise no(("gateway", key), "it has no port", "write host:port, for example 127.0.0.1:8444")
    taken: dict[str, str] = {}
    for key in ("listen", "plain_listen", "federated_listen", "egress_listen"):
        where = getattr(settings.gateway, key)
        if where in taken and not where.endswith(":0"):
            raise no(("gateway", key), f"`{taken[where]}` listens on {where} already", "each listener has an address of its own")
        if where:
            taken[where] = key
    _check_mcp(settings, no)
    _check_egress(settings, no)


def _check_mcp(settings: Settings, no: No) -> None:
    known: dict[str, str] = {}
    for number, one in enumerate(settings.endpoints):
        here = ("endpoints", number)
        if not one.mcp:
            if one.tools or one.methods or one.resource_uri or one.mcp_path != "/mcp":
                raise no((*here, "tools"), "`tools`, `methods`, `mcp_path` and `resource_uri` need `mcp = true`", "set it, or remove them")
            continue
        if one.routes or one.wrapped or one.model_in_body:
            raise no((*here, "mcp"), "an MCP server has no `routes`, `wrapped` or `model_in_body`", "set `mcp_path` and `tools` instead")
        for tool in one.tools:
            try:
                name = tool_id(resource(settings.trust_domain, "endpoint", one.name), tool)
            except InvalidName as error:
                raise no((*here, "tools"), error.reason, "shorten the endpoint's name") from None
            if name in known:
                raise no((*here, "tools"), f"`{tool}` and `{known[name]}` are one resource, `{name}`", "rename one, or an endpoint")
            known[name] = f"{one.name}.{tool}"


def _check_egress(settings: Settings, no: No) -> None:
    endpoints, secrets = {one.name for one in settings.endpoints}, {one.name for one in settings.secrets}
    seen: set[str] = set()
    for number, one in enumerate(settings.egress):
        here = ("egress", number)
        if not settings.gateway.egress_listen:
            raise no(here, "there is no egress listener", "set [gateway] egress_listen, for example 127.0.0.1:8445")
        if one.name in endpoints or one.name in seen:
            raise no((*here, "name"), "it is used twice", "each endpoint and each provider has a name of its own")
        seen.add(one.name)
        if one.zone not in settings.zones:
            raise no((*here, "zone"), f"there is no zone `{one.zone}`", f"use one of {', '.join(settings.zones) or 'none yet: add one'}")
        if settings.zones[one.zone].mode != "enforce":
            raise no((*here, "zone"), f"zone `{one.zone}` observes, where everybody would call with our key", "use a zone that enforces")
        if one.secret and one.secret not in secrets:
            raise no(
                (*here, "secret"), f"there is no secret `{one.secret}`", f"use one of {', '.join(sorted(secrets)) or 'none yet: add one'}"
            )
        if one.header in RESERVED or one.header.startswith(("x-vg-", "x-envoy-", "x-forwarded-")):
            raise no((*here, "header"), f"`{one.header}` carries no secret", "use authorization, x-api-key, or the provider's own header")
        if one.host == "*" and not one.prefix:
            raise no((*here, "prefix"), "`host` or `prefix` is missing", "say under which host name or path workloads call it")
