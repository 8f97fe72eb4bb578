"""The fields of a line of the access log; the tailer reads them without Envoy's generated messages.

A line is an audit entry's source, so it names who, under which credential, what, by whose word, and how it ended. There is no sequence
number: a reader dedupes by the file's inode and the line's offset, and finds gaps by the counters (access_log.py).
"""

from __future__ import annotations

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
