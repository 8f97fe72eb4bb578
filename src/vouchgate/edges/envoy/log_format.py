"""What Envoy writes of each request: one JSON line at its end; for a streaming route also one at its start, and while it lasts.

A line is an audit entry's source, so it names who, under which credential, what, by whose word, and how it ended. There is no sequence
number: a reader dedupes by the file's inode and the line's offset, and finds gaps by the counters (`access_log.py`).
"""

from __future__ import annotations

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from google.protobuf import struct_pb2

from vouchgate.edges.envoy.messages import Message, packed

GOING_ON_SECONDS = 2.0
"""Between two lines of a request that lasts; the longest that a token's stream is unrecorded should Envoy be killed."""
_JWT = "envoy.filters.http.jwt_authn:payload"
_RBAC = "envoy.filters.http.rbac"
FIELDS = {
    "id": "%REQ(X-REQUEST-ID)%",
    "kind": "%ACCESS_LOG_TYPE%",
    "start": "%START_TIME(%s.%6f)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ):512%",
    "asked_path": "%FILTER_STATE(vg.path:PLAIN):512%",
    "host": "%REQ(:AUTHORITY):256%",
    "protocol": "%PROTOCOL%",
    "endpoint": "%METADATA(ROUTE:vg:endpoint)%",
    "action": "%METADATA(ROUTE:vg:action)%",
    "zone": "%METADATA(ROUTE:vg:zone)%",
    "san": "%DOWNSTREAM_PEER_URI_SAN%",
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "fingerprint": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
    "sub": f"%DYNAMIC_METADATA({_JWT}:sub)%",
    "jti": f"%DYNAMIC_METADATA({_JWT}:jti)%",
    "model": "%DYNAMIC_METADATA(vg:model)%",
    "revoked": f"%DYNAMIC_METADATA({_RBAC}:revoked_enforced_effective_policy_id)%",
    "map": f"%DYNAMIC_METADATA({_RBAC}:map_enforced_effective_policy_id)%",
    "asked_decision": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-vg-decision-id)%",
    "denied_decision": "%RESP(X-VG-DECISION-ID)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "duration_us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "upstream": "%UPSTREAM_HOST%",
    "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "trace": "%REQ(TRACEPARENT):64%",
}


def _file(path: str) -> Message:
    config = file_pb2.FileAccessLog(path=path)
    fields = struct_pb2.Struct()
    fields.update(FIELDS)
    config.log_format.json_format.CopyFrom(fields)
    config.log_format.omit_empty_values = False
    return packed(config)


def end_log(path: str) -> Message:
    """Every request, at its end."""
    made = accesslog_pb2.AccessLog(name="vg.log", typed_config=_file(path))
    made.filter.log_type_filter.types.append(accesslog_data_pb2.DownstreamEnd)
    return made


def start_log(path: str) -> Message:
    """A streaming route's request at the moment when its upstream takes it; a token's subject is not known to this line."""
    return _streaming(path, accesslog_data_pb2.UpstreamPoolReady)


def going_on_log(path: str) -> Message:
    """A streaming route's request every `GOING_ON_SECONDS` while it lasts, with all that is known of it."""
    return _streaming(path, accesslog_data_pb2.DownstreamPeriodic)


def _streaming(path: str, kind: int) -> Message:
    made = accesslog_pb2.AccessLog(name="vg.log", typed_config=_file(path))
    both = made.filter.and_filter.filters
    both.add().log_type_filter.types.append(kind)
    streams = both.add().extension_filter
    streams.name = "vg.streams"
    expression = 'xds.route_metadata.filter_metadata["vg"]["streams"] == true'
    streams.typed_config.CopyFrom(packed(cel_pb2.ExpressionFilter(expression=expression)))
    return made
