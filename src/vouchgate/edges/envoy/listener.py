"""The listeners: mutual TLS for everyone, one for partners, one for calls outside, and a plain one for wrapped legacy servers in observe.

Rules
1. TLS 1.3; a client certificate is optional (a JWT-SVID alone can be enough), but one that is shown must verify. Sessions are not resumed,
   since a resumed session would skip the check against today's bundle. For partners and for calls outside it is a must.
2. What a client sends under our names (`x-request-id`, `x-vg-*`, `x-envoy-*`, forwarded addresses and certificates) is removed first of all.
3. Paths are normalised, escaped slashes, header names with an underscore and upgrades refused, host ports and trailing dots dropped.
4. HTTP/1.1, and HTTP/2 where TLS negotiated it; the plain listener speaks HTTP/1.1 alone.
5. Slow, idle, oversized and endless requests and connections end within the named bounds.
"""

from __future__ import annotations

from envoy.config.core.v3 import protocol_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2 as early_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from vouchgate.edges.envoy.filters import chain
from vouchgate.edges.envoy.log_format import GOING_ON_SECONDS, end_log, going_on_log
from vouchgate.edges.envoy.messages import Message, address, extension, over_ads, packed, seconds
from vouchgate.edges.envoy.problems import local_replies
from vouchgate.edges.envoy.settings import (
    BUNDLE_SECRET,
    EGRESS_LISTENER,
    EGRESS_ROUTES,
    FEDERATED_LISTENER,
    FEDERATED_ROUTES,
    PARTNER_SECRET,
    PLAIN_LISTENER,
    PLAIN_ROUTES,
    SVID_SECRET,
    TLS_LISTENER,
    TLS_ROUTES,
    GatewaySettings,
)

MAX_HEADERS_KB = 32
MAX_HEADERS = 100
STREAM_IDLE_SECONDS = 120.0
CONNECTION_IDLE_SECONDS = 120.0
MAX_CONNECTION_SECONDS = 600.0
"""Age at which a connection is drained: a certificate that expired or whose authority was removed answers no longer than this."""
HANDSHAKE_SECONDS = 5.0
MAX_H2_STREAMS = 100
_REMOVED = ("x-request-id", "x-forwarded-client-cert", "x-forwarded-host", "x-forwarded-for", "x-real-ip", "forwarded")
_REMOVED_PREFIXES = ("x-vg-", "x-envoy-")


def listeners(settings: GatewaySettings, slots: int, *, federated: bool = False, egress: bool = False) -> dict[str, Message]:
    """The listeners by name; the partners' one only once there are bundles, since Envoy waits for what a listener needs, and the one for
    calls outside only once there is a provider."""
    made = {TLS_LISTENER: _listener(TLS_LISTENER, settings.tls_address, settings, slots, TLS_ROUTES)}
    _secure(made[TLS_LISTENER], BUNDLE_SECRET)
    if settings.plain_address:
        made[PLAIN_LISTENER] = _listener(PLAIN_LISTENER, settings.plain_address, settings, slots, PLAIN_ROUTES)
    if settings.federated_address and federated:
        made[FEDERATED_LISTENER] = _listener(FEDERATED_LISTENER, settings.federated_address, settings, slots, FEDERATED_ROUTES)
        _secure(made[FEDERATED_LISTENER], PARTNER_SECRET, certificate=True)
    if settings.egress_address and egress:
        made[EGRESS_LISTENER] = _listener(EGRESS_LISTENER, settings.egress_address, settings, slots, EGRESS_ROUTES)
        _secure(made[EGRESS_LISTENER], BUNDLE_SECRET, certificate=True)
    return made


def _secure(listener: Message, trust: str, *, certificate: bool = False) -> None:
    socket = listener.filter_chains[0].transport_socket
    socket.name = "envoy.transport_sockets.tls"
    socket.typed_config.CopyFrom(packed(_tls(trust, certificate=certificate)))
    listener.filter_chains[0].transport_socket_connect_timeout.CopyFrom(seconds(HANDSHAKE_SECONDS))


def _listener(name: str, where: str, settings: GatewaySettings, slots: int, routes: str) -> Message:
    made = listener_pb2.Listener(name=name, address=address(where), stat_prefix=name)
    made.per_connection_buffer_limit_bytes.value = settings.max_body_bytes
    network = made.filter_chains.add().filters.add(name="envoy.filters.network.http_connection_manager")
    network.typed_config.CopyFrom(packed(_manager(name, settings, slots, routes)))
    return made


def _tls(trust: str, *, certificate: bool) -> Message:
    context = tls_pb2.DownstreamTlsContext(disable_stateless_session_resumption=True, disable_stateful_session_resumption=True)
    context.require_client_certificate.value = certificate
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    common.tls_params.tls_maximum_protocol_version = common_pb2.TlsParameters.TLSv1_3
    common.alpn_protocols.extend(["h2", "http/1.1"])
    common.tls_certificate_sds_secret_configs.add(name=SVID_SECRET, sds_config=over_ads())
    common.validation_context_sds_secret_config.name = trust
    common.validation_context_sds_secret_config.sds_config.CopyFrom(over_ads())
    return context


def _manager(name: str, settings: GatewaySettings, slots: int, routes: str) -> Message:
    made = hcm_pb2.HttpConnectionManager(stat_prefix=name)
    made.codec_type = hcm_pb2.HttpConnectionManager.HTTP1 if name == PLAIN_LISTENER else hcm_pb2.HttpConnectionManager.AUTO
    made.rds.route_config_name = routes
    made.rds.config_source.CopyFrom(over_ads())
    made.http_filters.extend(chain(settings, slots, federated=name == FEDERATED_LISTENER))
    made.access_log.extend([end_log(settings.access_log), going_on_log(settings.access_log)])
    made.access_log_options.access_log_flush_interval.CopyFrom(seconds(GOING_ON_SECONDS))
    made.local_reply_config.CopyFrom(local_replies())
    _identity_rules(made)
    _path_rules(made)
    _bounds(made, settings)
    made.server_name = "vouchgate"
    made.server_header_transformation = hcm_pb2.HttpConnectionManager.PASS_THROUGH
    return made


def _identity_rules(made: Message) -> None:
    early = early_pb2.HeaderMutation()
    for header in _REMOVED:
        early.mutations.add(remove=header)
    for prefix in _REMOVED_PREFIXES:
        early.mutations.add().remove_on_match.key_matcher.CopyFrom(string_pb2.StringMatcher(prefix=prefix))
    made.early_header_mutation_extensions.append(extension("envoy.http.early_header_mutation.header_mutation", early))
    made.forward_client_cert_details = hcm_pb2.HttpConnectionManager.SANITIZE
    made.use_remote_address.value = True
    made.internal_address_config.SetInParent()
    made.generate_request_id.value = True
    made.always_set_request_id_in_response = True


def _path_rules(made: Message) -> None:
    made.normalize_path.value = True
    made.merge_slashes = True
    made.path_with_escaped_slashes_action = hcm_pb2.HttpConnectionManager.REJECT_REQUEST
    made.strip_any_host_port = True
    made.strip_trailing_host_dot = True


def _bounds(made: Message, settings: GatewaySettings) -> None:
    common = made.common_http_protocol_options
    common.headers_with_underscores_action = protocol_pb2.HttpProtocolOptions.REJECT_REQUEST
    common.max_headers_count.value = MAX_HEADERS
    common.idle_timeout.CopyFrom(seconds(CONNECTION_IDLE_SECONDS))
    common.max_connection_duration.CopyFrom(seconds(MAX_CONNECTION_SECONDS))
    made.http1_safe_max_connection_duration = True
    made.max_request_headers_kb.value = MAX_HEADERS_KB
    made.request_headers_timeout.CopyFrom(seconds(settings.headers_seconds))
    made.request_timeout.CopyFrom(seconds(settings.request_seconds))
    made.stream_idle_timeout.CopyFrom(seconds(STREAM_IDLE_SECONDS))
    made.http2_protocol_options.max_concurrent_streams.value = MAX_H2_STREAMS
    made.http_protocol_options.accept_http_10 = False
