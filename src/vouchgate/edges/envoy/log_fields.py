"""The fields of a line of the access log and how they stand in it; the tailer reads them without Envoy's generated messages.

Rules
1. A line is `MARK`, every field's value in order and `MARK` again, set apart by `SEPARATOR`, ended by a line feed; `-` is what is absent.
   Envoy writes text for half of the instructions that the same fields cost it as JSON.
2. Nothing is escaped. No header, path or host that Envoy accepts holds a control character but a tab (RFC 9110, section 5.5), the
   tokenizer refuses names that do, and what a credential says was signed by our own signer. So nobody outside can write a separator,
   and a line with another number of them is refused.
3. Bytes that are no UTF-8 are kept as `\\xNN`, so that no header makes its own line unreadable.

A line is an audit entry's source, so it names who, under which credential, what, by whose word, and how it ended. There is no sequence
number: a reader dedupes by the file's inode and the line's offset, and finds gaps by the counters (access_log.py).
"""

from __future__ import annotations

from vouchgate.vocabulary.mcp import MCP

SEPARATOR = "\x1f"
MARK = "vg1"
"""First and last in a line, so that one that is cut off shows; changed together with the fields."""
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
LINE = SEPARATOR.join([MARK, *FIELDS.values(), MARK]) + "\n"


def read_fields(line: bytes) -> dict[str, str]:
    """The fields of a line by name, empty where absent. Raises `ValueError` where the line is not ours."""
    first, *values, last = line.decode("utf-8", "backslashreplace").split(SEPARATOR)
    if (first, last) != (MARK, MARK):
        raise ValueError("another mark")
    return {name: "" if value == "-" else value for name, value in zip(FIELDS, values, strict=True)}


def line_of(fields: dict[str, str]) -> bytes:
    """A line as Envoy writes it, without its line feed."""
    return SEPARATOR.join([MARK, *(fields.get(name) or "-" for name in FIELDS), MARK]).encode()


def read_asked(action: str, model: str) -> tuple[str, str, str]:
    """Action, model and tool, from a route's action and what the tokenizer found in the body. An MCP message that nobody read is `call`."""
    if action != MCP:
        return action, model, ""
    said, _, tool = model.partition("/")
    return said or "call", "", "" if tool == "-" else tool
