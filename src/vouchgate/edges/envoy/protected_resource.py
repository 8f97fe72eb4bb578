"""OAuth 2.0 Protected Resource Metadata (RFC 9728) of MCP servers, answered by the gateway itself (MCP authorization, section "Discovery").

Rules
1. The document stands at `/.well-known/oauth-protected-resource` and the path of the resource's canonical URI (section 3.1); where a host has
   one MCP server alone, also without a path, where older clients look.
2. It is public: it says where to get a token and which scopes there are, never who may have them. A 401 of the server points to it
   (section 5.1).
3. The token service takes the canonical URI as `resource` (RFC 8707) and issues a token whose audience is the endpoint's id: one spelling
   of an audience counts at the gateway.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2

from vouchgate.edges.envoy.messages import Message, packed
from vouchgate.edges.envoy.settings import ASK
from vouchgate.vocabulary.mcp import CALL_TOOL
from vouchgate.vocabulary.places import Endpoint, asks, canonical_uri
from vouchgate.vocabulary.wire import encode

WELL_KNOWN = "/.well-known/oauth-protected-resource"
CACHE_SECONDS = 300
"""How long a client may keep the document."""


def metadata_uri(resource_uri: str) -> str:
    """Where a resource's document is (section 3.1)."""
    parts = urlsplit(resource_uri)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"


def metadata(endpoint: Endpoint, *, authority: str, issuer: str) -> dict[str, object]:
    """The document (section 2)."""
    name = endpoint.id.rpartition("/")[2]
    scopes = {f"{action}:{name}" for action, _ in asks(endpoint) if action != CALL_TOOL}
    scopes |= {f"{CALL_TOOL}:{name}/{tool}" for tool in endpoint.tools}
    return {
        "resource": canonical_uri(endpoint, authority),
        **({"authorization_servers": [issuer]} if issuer else {}),
        "scopes_supported": sorted(scopes),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": ["ES256"],
        "resource_name": name,
    }


def metadata_routes(endpoints: Iterable[Endpoint], *, authority: str, issuer: str) -> list[Message]:
    """The routes of one host's MCP servers."""
    served = [endpoint for endpoint in endpoints if endpoint.mcp]
    made = [_route(urlsplit(metadata_uri(canonical_uri(one, authority))).path, one, authority, issuer) for one in served]
    if len(served) == 1:
        made.append(_route(WELL_KNOWN, served[0], authority, issuer))
    return made


def _route(path: str, endpoint: Endpoint, authority: str, issuer: str) -> Message:
    made = route_components_pb2.Route(name=f"{endpoint.id} metadata")
    made.match.path = path
    made.match.headers.add(name=":method").string_match.exact = "GET"
    made.direct_response.status = 200
    made.direct_response.body.inline_string = encode(metadata(endpoint, authority=authority, issuer=issuer)).decode()
    for name, value in (("content-type", "application/json"), ("cache-control", f"max-age={CACHE_SECONDS}")):
        made.response_headers_to_add.add(header={"key": name, "value": value}, append_action="OVERWRITE_IF_EXISTS_OR_ADD")
    made.typed_per_filter_config[ASK].CopyFrom(packed(ext_authz_pb2.ExtAuthzPerRoute(disabled=True)))
    return made
