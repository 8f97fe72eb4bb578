"""Route tables: only what an endpoint lists exists.

Rules
1. A route is host + method + exact path; a template's `{name}` is `[A-Za-z0-9._-]{1,64}`, as a regular expression over the whole path, so
   double encoding, `;`, another case, a trailing slash or dot do not match. The last route of every host is a native 404.
2. A host that is not listed has the 404 alone; an endpoint of its own host is reached under no other, nor another under that host.
3. A route carries its endpoint, action, zone and slot as metadata: the allow-map's key and the log take them from there.
4. A route switches on its endpoint's map filter, its token provider, and, where the body names the model, the tokenizer; not in an observed
   zone, where nothing that a legacy server takes may be refused.
5. The upstream sees the path without the endpoint's prefix. A request ends after `max_stream_seconds`, whatever it does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2

from vouchgate.edges.envoy.egress import host_of, removed_headers
from vouchgate.edges.envoy.maps import BODILESS, map_name
from vouchgate.edges.envoy.messages import Message, packed, seconds, struct
from vouchgate.edges.envoy.protected_resource import metadata_routes, metadata_uri
from vouchgate.edges.envoy.settings import (
    ASK,
    EGRESS_ROUTES,
    FEDERATED_ROUTES,
    MODEL_NAME,
    NO_BODY,
    PLAIN_ROUTES,
    STRIP_AUTHORIZATION,
    STRIP_OVERRIDES,
    TLS_ROUTES,
)
from vouchgate.edges.envoy.tokens import JWT, requires_token_of
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.mcp import MCP, METHODS
from vouchgate.vocabulary.places import MAX_APPROVAL_BODY, Endpoint, Route, canonical_uri

MAX_PATH_BYTES = 512
"""Bytes of a listed path."""
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,:@-]*\Z")
_PLACEHOLDER = re.compile(r"\{[a-z_]{1,32}\}\Z")
_METHOD = re.compile(r"[A-Z]{3,16}\Z")
_SEGMENT = "[A-Za-z0-9._-]{1,64}"


def route_tables(
    endpoints: Iterable[Endpoint],
    slots: Mapping[str, int],
    *,
    hosts: Iterable[str],
    observed: Collection[str] = (),
    authority: str = "localhost",
    issuer: str = "",
) -> dict[str, Message]:
    """The tables of all listeners; the plain one has wrapped endpoints alone, the egress one providers alone, which are nowhere else, and
    the partners' one none that lets anybody in (wrapped, or in `observed`, the zones whose bodies are not read) and no token's provider:
    there a certificate alone says who calls."""
    known = sorted(endpoints, key=lambda endpoint: (endpoint.wrapped, -len(endpoint.prefix), endpoint.id))
    inside = [endpoint for endpoint in known if endpoint.egress is None]
    strict = [endpoint for endpoint in inside if not (endpoint.wrapped or endpoint.zone in observed)]
    tables = {TLS_ROUTES: inside, PLAIN_ROUTES: [one for one in inside if one.wrapped], FEDERATED_ROUTES: strict}
    tables[EGRESS_ROUTES] = [endpoint for endpoint in known if endpoint.egress is not None]
    made = {name: _table(name, served, slots, set(hosts), observed, authority) for name, served in tables.items()}
    for name in (TLS_ROUTES, FEDERATED_ROUTES):
        for virtual in made[name].virtual_hosts:
            for route in metadata_routes(_under(tables[name], virtual.name, set(hosts)), authority=authority, issuer=issuer):
                virtual.routes.insert(0, route)
    return made


def _under(endpoints: Iterable[Endpoint], host: str, general: Collection[str]) -> list[Endpoint]:
    return [one for one in endpoints if one.host == host or (one.host == "*" and host in general)]


def _table(
    name: str, endpoints: list[Endpoint], slots: Mapping[str, int], general: Collection[str], observed: Collection[str], authority: str
) -> Message:
    table = route_pb2.RouteConfiguration(name=name, validate_clusters={"value": False})
    for host in sorted((set(general) | {endpoint.host for endpoint in endpoints}) - {"*"}):
        virtual = table.virtual_hosts.add(name=host, domains=[host])
        for endpoint in _under(endpoints, host, general):
            virtual.routes.extend(_routes(endpoint, slots[endpoint.id], authority, observed=endpoint.zone in observed))
        if name == FEDERATED_ROUTES:
            for made in virtual.routes:
                made.typed_per_filter_config.pop(JWT)
        virtual.routes.append(_nowhere())
    table.virtual_hosts.add(name="nowhere", domains=["*"]).routes.append(_nowhere())
    return table


def _nowhere() -> Message:
    made = route_components_pb2.Route(name="nowhere")
    made.match.prefix = "/"
    made.direct_response.status = 404
    made.typed_per_filter_config[ASK].CopyFrom(packed(ext_authz_pb2.ExtAuthzPerRoute(disabled=True)))
    return made


def _routes(endpoint: Endpoint, slot: int, authority: str, *, observed: bool) -> list[Message]:
    listed = [
        _route(endpoint, slot, authority, route, observed=observed)
        for route in endpoint.routes
        if not (endpoint.wrapped and route.path == "/*")
    ]
    return [*listed, _wrapped_route(endpoint, slot, authority, observed=observed)] if endpoint.wrapped else listed


def _route(endpoint: Endpoint, slot: int, authority: str, route: Route, *, observed: bool) -> Message:
    made = _base(endpoint, slot, authority, route, observed=observed)
    if not _METHOD.match(route.method):
        raise InvalidInput(f"`{route.method[:40]}` is not a method", remedy="write one upper-case method, for example POST")
    made.match.headers.add(name=":method").string_match.exact = route.method
    if endpoint.egress is not None and not endpoint.egress.query:
        made.match.headers.add(name=":path", invert_match=True).string_match.contains = "?"
    full = endpoint.prefix + route.path
    pattern = path_pattern(full)
    if "{" in full:
        made.match.safe_regex.regex = pattern
        if endpoint.prefix:
            made.route.regex_rewrite.pattern.regex = f"^{re.escape(endpoint.prefix)}(/.*)$"
            made.route.regex_rewrite.substitution = r"\1"
    else:
        made.match.path = full
        if endpoint.prefix:
            made.route.prefix_rewrite = route.path
    return made


def _wrapped_route(endpoint: Endpoint, slot: int, authority: str, *, observed: bool) -> Message:
    made = _base(endpoint, slot, authority, Route(method="*", path="/*", action="call", streams=True), observed=observed)
    if endpoint.prefix:
        made.match.path_separated_prefix = endpoint.prefix
        made.route.regex_rewrite.pattern.regex = f"^{re.escape(endpoint.prefix)}/?"
        made.route.regex_rewrite.substitution = "/"
    else:
        made.match.prefix = "/"
    return made


def _base(endpoint: Endpoint, slot: int, authority: str, route: Route, *, observed: bool) -> Message:
    made = route_components_pb2.Route(name=f"{endpoint.id} {route.method} {route.path}")
    facts = struct(
        endpoint=endpoint.id,
        action=route.action,
        zone=endpoint.zone,
        slot=str(slot),
        streams=route.streams,
        challenge=_challenge(endpoint, authority),
    )
    made.metadata.filter_metadata["vg"].CopyFrom(facts)
    made.route.cluster = endpoint.id
    # the stream's own bound below is the only one: a route timeout would cut server-sent events
    made.route.timeout.CopyFrom(seconds(0))
    made.route.max_stream_duration.max_stream_duration.CopyFrom(seconds(endpoint.max_stream_seconds))
    # sent again only where nothing of it was sent
    made.route.retry_policy.retry_on = "connect-failure,reset-before-request"
    made.route.retry_policy.num_retries.value = 1
    made.typed_per_filter_config[map_name(slot)].CopyFrom(_on())
    made.typed_per_filter_config[JWT].CopyFrom(packed(requires_token_of(endpoint)))
    if endpoint.model_in_body and route.method not in BODILESS and not observed:
        made.typed_per_filter_config[MODEL_NAME].CopyFrom(_on())
    if route.action == MCP and not observed:
        made.typed_per_filter_config[MODEL_NAME].CopyFrom(packed(route_components_pb2.FilterConfig(config=packed(_offered(endpoint)))))
    if (endpoint.mcp or endpoint.model_in_body) and route.method in BODILESS and not observed:
        bare = lua_pb2.LuaPerRoute(name=NO_BODY)
        made.typed_per_filter_config[MODEL_NAME].CopyFrom(packed(route_components_pb2.FilterConfig(config=packed(bare))))
    if endpoint.approvals and not observed:
        made.typed_per_filter_config[ASK].CopyFrom(packed(_whole_body()))
    if endpoint.egress is not None:
        made.route.host_rewrite_literal = host_of(endpoint)[0]
        made.request_headers_to_remove.extend(removed_headers(endpoint.egress))
    if endpoint.wrapped:
        made.typed_per_filter_config[STRIP_AUTHORIZATION].CopyFrom(packed(route_components_pb2.FilterConfig(disabled=True)))
        if observed:
            made.typed_per_filter_config[STRIP_OVERRIDES].CopyFrom(packed(route_components_pb2.FilterConfig(disabled=True)))
    return made


def _whole_body() -> Message:
    """The body goes along when the PDP is asked, so that a person can agree to it; a larger one is answered 413."""
    made = ext_authz_pb2.ExtAuthzPerRoute()
    body = made.check_settings.with_request_body
    body.max_request_bytes, body.allow_partial_message, body.pack_as_bytes = MAX_APPROVAL_BODY, False, True
    return made


def _challenge(endpoint: Endpoint, authority: str) -> str:
    where = f', resource_metadata="{metadata_uri(canonical_uri(endpoint, authority))}"' if endpoint.mcp else ""
    return f'realm="{endpoint.id}"{where}'


def _offered(endpoint: Endpoint) -> Message:
    """What the tokenizer of MCP messages is to find: the methods with their actions, and the tools."""
    made = lua_pb2.LuaPerRoute(name=MCP)
    made.filter_context.update({"methods": METHODS | endpoint.methods, "tools": dict.fromkeys(endpoint.tools, True)})
    return made


def _on() -> Message:
    config = route_components_pb2.FilterConfig()
    config.config.SetInParent()
    return packed(config)


def path_pattern(path: str) -> str:
    """The regular expression of a listed path or template, to be matched as a whole. Raises `InvalidInput`."""
    segments = path.split("/")
    for segment in segments[1:]:
        if not (_LITERAL.match(segment) or _PLACEHOLDER.match(segment)) or segment in {".", ".."}:
            raise InvalidInput(f"`{segment[:80]}` cannot stand in a listed path", remedy="use letters, digits, `._~-`, or one {name}")
    if not path.startswith("/") or "//" in path or len(path) > MAX_PATH_BYTES:
        raise InvalidInput(f"`{path[:80]}` is not a path", remedy="start with /, without empty segments, at most 512 bytes")
    return "/".join(_SEGMENT if "{" in segment else re.escape(segment) for segment in segments)
