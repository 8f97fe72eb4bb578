"""The HTTP filter chain, in the order of docs/architecture.md, "Request path".

Rules
1. A filter that is missing, late or out of lease never allows: `lease`, `revocations` and the maps deny by default, and ext_authz runs
   unless a map itself said `grant:` or `observe:`.
2. Facts about the caller go into filter state, written once, after everything that a client could have sent under our names was
   removed.
3. What an allow owes on its answer is carried out by `obligations`, which hears of it from the PDP's own answer alone (obligations.lua).
4. The upstream never sees Authorization and DPoP (but a legacy server's own, where it is wrapped), x-forwarded-client-cert or `x-vg-` headers.
"""

from __future__ import annotations

from pathlib import Path

from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.type.matcher.v3 import string_pb2

from vouchgate.edges.envoy.log_format import start_log
from vouchgate.edges.envoy.maps import LEASE, OLDER, REVOCATIONS, deny_all, map_name
from vouchgate.edges.envoy.messages import Message, fetched_filter, fixed_filter, seconds
from vouchgate.edges.envoy.settings import (
    ASK,
    ASK_CLUSTER,
    FEDERATED,
    MODEL_NAME,
    NO_BODY,
    PARTNER_STATE,
    STRIP_AUTHORIZATION,
    STRIP_OVERRIDES,
    GatewaySettings,
)
from vouchgate.edges.envoy.tokens import JWT, deny_tokens
from vouchgate.vocabulary.mcp import MCP

_CLAIM = "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:{})%"
_ROUTE = "%METADATA(ROUTE:vg:{})%"
_SAN = "%DOWNSTREAM_PEER_URI_SAN%"
_MODEL = "%DYNAMIC_METADATA(vg:model)%"
BEYOND = ("vg", "cnf", "act", "scope")
"""Claims beyond the plain ones, each as a whole: a token with any of them is asked. `vg` marks them all; the others stand beside it so that
a signer that forgot the mark opens nothing."""
OVERRIDES = ("x-original-url", "x-rewrite-url", "x-http-method-override", "x-http-method", "x-method-override")
"""Headers by which some servers take another path or method than the one that was checked; a wrapped server hears them while it is observed."""
CONNECTION_STATE = {"vg.end": "%DOWNSTREAM_PEER_CERT_V_END(%Y-%m-%dT%H:%M:%SZ)%", "vg.path": "%PATH(NQ)%"}
CALLER_STATE = {
    "vg.caller": "|".join(
        [
            _ROUTE.format("endpoint"),
            _ROUTE.format("action"),
            _MODEL,
            _SAN,
            *(_CLAIM.format(name) for name in ("sub", "aud", *BEYOND)),
        ]
    ),
    "vg.action": _ROUTE.format("action"),
    "vg.san": _SAN,
    "vg.sub": _CLAIM.format("sub"),
    "vg.jti": _CLAIM.format("jti"),
    "vg.serial": "%DOWNSTREAM_PEER_SERIAL%",
}
CHECK_HEADERS = {
    "x-vg-endpoint": _ROUTE.format("endpoint"),
    "x-vg-action": _ROUTE.format("action"),
    "x-vg-zone": _ROUTE.format("zone"),
    "x-vg-model": _MODEL,
    "x-vg-san": _SAN,
    "x-vg-serial": "%DOWNSTREAM_PEER_SERIAL%",
    "x-vg-fingerprint": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
    "x-vg-sub": _CLAIM.format("sub"),
    "x-vg-aud": _CLAIM.format("aud"),
    "x-vg-jti": _CLAIM.format("jti"),
    "x-vg-cnf": _CLAIM.format("cnf:x5t#S256"),
    "x-vg-act": _CLAIM.format("act:sub"),
    "x-vg-since": "%DOWNSTREAM_PEER_CERT_V_START(%s)%",
    "x-vg-iat": _CLAIM.format("iat"),
    "x-vg-key": "%FILTER_STATE(vg.caller:PLAIN)%",
    "x-vg-peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "x-vg-request-id": "%REQ(X-REQUEST-ID)%",
}
"""What the PDP is told of a request, by header; `-` for what is absent."""


def chain(settings: GatewaySettings, slots: int, *, federated: bool = False) -> list[Message]:
    """All filters of a listener with so many map slots; `federated`: its callers' ids are a partner's."""
    caller, headers = CALLER_STATE, CHECK_HEADERS
    if federated:
        caller, headers = _foreign(caller) | {PARTNER_STATE: FEDERATED}, _foreign(headers)
    return [
        fixed_filter("connection", _state(CONNECTION_STATE)),
        fetched_filter(LEASE, deny_all("lease_")),
        fetched_filter(JWT, deny_tokens()),
        fixed_filter(MODEL_NAME, _tokenizer(), disabled=True),
        fixed_filter("caller", _state(caller)),
        fetched_filter(REVOCATIONS, deny_all("revoked_")),
        fetched_filter(OLDER, deny_all("revoked_")),
        *(fetched_filter(map_name(slot), deny_all("map_"), disabled=True) for slot in range(slots)),
        fixed_filter(ASK, _ask(settings, headers)),
        fixed_filter("obligations", _obligations()),
        fixed_filter("strip", _strip("x-forwarded-client-cert", prefixes=("x-vg-", "x-envoy-"))),
        fixed_filter(STRIP_AUTHORIZATION, _strip("authorization", "dpop")),
        fixed_filter(STRIP_OVERRIDES, _strip(*OVERRIDES)),
        fixed_filter("envoy.filters.http.router", _router(settings)),
    ]


def _foreign(facts: dict[str, str]) -> dict[str, str]:
    """The same facts of a partner's caller: what its certificate names can be taken for no id of ours."""
    return {name: text.replace(_SAN, FEDERATED + _SAN) for name, text in facts.items()}


def _tokenizer() -> Message:
    made = lua_pb2.Lua(default_source_code={"inline_string": _script("model_name.lua")})
    made.source_codes[MCP].inline_string = _script("mcp.lua")
    made.source_codes[NO_BODY].inline_string = _script("no_body.lua")
    return made


def _obligations() -> Message:
    return lua_pb2.Lua(default_source_code={"inline_string": _script("obligations.lua")})


def _script(name: str) -> str:
    here = Path(__file__)
    return here.with_name("json.lua").read_text(encoding="utf-8") + here.with_name(name).read_text(encoding="utf-8")


def _state(formats: dict[str, str]) -> Message:
    config = set_filter_state_pb2.Config()
    for key, text in formats.items():
        value = value_pb2.FilterStateValue(object_key=key, factory_key="envoy.string")
        value.format_string.text_format_source.inline_string = text
        config.on_request_headers.append(value)
    return config


def _ask(settings: GatewaySettings, headers: dict[str, str]) -> Message:
    config = ext_authz_pb2.ExtAuthz(failure_mode_allow=False, stat_prefix="ask", transport_api_version=2)
    config.status_on_error.code = 503
    only = config.filter_enabled_metadata
    only.filter = "envoy.filters.http.rbac"
    only.path.add(key="map_enforced_effective_policy_id")
    only.value.string_match.safe_regex.regex = "(grant|observe):.+"
    only.invert = True
    config.allowed_headers.patterns.add(exact="authorization")
    config.allowed_headers.patterns.add(exact="dpop")
    config.allowed_headers.patterns.add(exact="content-type")
    config.allowed_headers.patterns.add(exact="content-encoding")
    config.allowed_headers.patterns.add(exact="user-agent")
    service = config.http_service
    service.server_uri.uri = "http://pdp"
    service.server_uri.cluster = ASK_CLUSTER
    service.server_uri.timeout.CopyFrom(seconds(settings.ext_authz_timeout_seconds))
    for name, text in headers.items():
        service.authorization_request.headers_to_add.add(key=name, value=text)
    service.authorization_response.dynamic_metadata_from_headers.patterns.add(prefix="x-vg-")
    # nothing of an allowing answer reaches the upstream or the client
    service.authorization_response.allowed_upstream_headers.patterns.add(exact="x-vg-none")
    service.authorization_response.allowed_client_headers_on_success.patterns.add(exact="x-vg-none")
    return config


def _strip(*names: str, prefixes: tuple[str, ...] = ()) -> Message:
    config = header_mutation_pb2.HeaderMutation()
    for name in names:
        config.mutations.request_mutations.add(remove=name)
    for prefix in prefixes:
        config.mutations.request_mutations.add().remove_on_match.key_matcher.CopyFrom(string_pb2.StringMatcher(prefix=prefix))
    return config


def _router(settings: GatewaySettings) -> Message:
    config = router_pb2.Router(suppress_envoy_headers=True)
    config.upstream_log.append(start_log(settings.access_log))
    config.upstream_log_options.flush_upstream_log_on_upstream_stream = True
    return config
