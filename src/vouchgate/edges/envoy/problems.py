"""Native denials as RFC 9457 problem documents.

Rules
1. Mappers are read in order; the first that matches speaks. What the PDP or the tokenizer answered is already a problem and passes.
2. Which filter denied is known from Envoy's own response code details. Local replies alone come here, never an upstream's answer.
3. A 401 says how to authenticate (RFC 9110, section 15.5.2): `Bearer` (RFC 6750, section 3; `error` only where a token was sent) and `DPoP`
   (RFC 9449, section 7.1). The realm is the endpoint's id, which is the audience to ask for. What the PDP says itself stands.
4. A reason is in plain words, a remedy says what to do; neither holds a secret or another caller's name.
"""

from __future__ import annotations

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf import struct_pb2

from vouchgate.edges.envoy.messages import Message, packed
from vouchgate.vocabulary.outcomes import PROBLEM_MEDIA, PROBLEM_TYPE


def local_replies() -> Message:
    """The mappers."""
    made = hcm_pb2.LocalReplyConfig()
    asked = hcm_pb2.ResponseMapper(filter=_details("ext_authz_denied", also=" && response.code == 401"))
    _challenge(asked, "Bearer", action=HeaderValueOption.ADD_IF_ABSENT)
    made.mappers.append(asked)
    made.mappers.extend(hcm_pb2.ResponseMapper(filter=_details(details)) for details in ("ext_authz_denied", "lua_response"))
    made.mappers.append(_problem(_details(_NO_RULE, also=_EXPIRED), *_EXPIRED_PROBLEM))
    made.mappers.extend(_problem(_details(row[0]), *row[1:]) for row in _DETAILS)
    made.mappers.extend(_problem(_status(row[0]), *row[1:]) for row in _STATUSES)
    return made


_NO_RULE = "rbac_access_denied_matched_policy[none]"
_EXPIRED = ' && timestamp(string(filter_state["vg.end"])) <= request.time'
_EXPIRED_PROBLEM = (
    401,
    "expired-certificate",
    "the certificate has expired since the connection was made",
    "connect again with a renewed X.509-SVID",
)
_DETAILS: tuple[tuple[str, int, str, str, str], ...] = (
    (
        "ext_authz_error",
        503,
        "pdp-unavailable",
        "the policy decision point does not answer",
        "try again shortly; run `vouchgate status` on the gateway's machine",
    ),
    (
        "rbac_access_denied_matched_policy[revoked:",
        403,
        "revoked",
        "this identity or credential was withdrawn: %RESPONSE_CODE_DETAILS%",
        "`vouchgate why` with this request id shows who withdrew it and why; ask a responder",
    ),
    (
        "rbac_access_denied_matched_policy[bad-name]",
        401,
        "bad-name",
        "the certificate does not name exactly one identity of this trust domain",
        "present an X.509-SVID with exactly one URI name",
    ),
    (
        "rbac_access_denied_matched_policy[anonymous]",
        401,
        "anonymous",
        "the request carries no identity that counts here",
        "present an X.509-SVID, or a JWT-SVID whose audience is the endpoint's id; `vouchgate identity issue` makes one",
    ),
    (
        "rbac_access_denied",
        503,
        "lease-expired",
        "the gateway's lease has run out: the control plane has not confirmed its grants",
        "start the control plane, or see `vouchgate status`",
    ),
    (
        "response_payload_too_large",
        502,
        "answer-withheld",
        "the answer is larger than what can be read whole to be tightened, so it is withheld",
        "ask for a smaller answer, or raise [limits] request_body_kib",
    ),
    (
        "jwt_authn_access_denied",
        401,
        "bad-token",
        "the token was not accepted: %LOCAL_REPLY_BODY%",
        "ask for a new JWT-SVID for exactly this endpoint",
    ),
)
_STATUSES: tuple[tuple[int, int, str, str, str], ...] = (
    (404, 404, "no-route", "no endpoint lists this host, method and path", "see `vouchgate status` for the listed endpoints"),
    (413, 413, "too-large", "the body is larger than the bound", "send a smaller body"),
    (403, 403, "denied", "the request was not accepted: %RESPONSE_CODE_DETAILS%", "see `vouchgate status`"),
    (400, 400, "malformed", "the request is malformed: %RESPONSE_CODE_DETAILS%", "send a plain HTTP request"),
    (408, 408, "too-slow", "the request took too long to arrive, or its time was up", "send it faster"),
    (431, 431, "headers-too-large", "the request's headers are larger than the bound", "send fewer or smaller headers"),
    (426, 426, "upgrade-required", "this protocol version is not spoken here", "use HTTP/1.1 or HTTP/2"),
    (429, 429, "too-many", "too many requests", "try again later"),
    (502, 502, "upstream-failed", "the model server gave a broken answer", "see the model server's log"),
    (503, 503, "upstream-unavailable", "the model server does not answer: %RESPONSE_CODE_DETAILS%", "see `vouchgate status`"),
    (504, 504, "upstream-timeout", "the model server did not answer in time", "try again, or raise `max_stream_seconds`"),
    (500, 500, "error", "the gateway failed inside: %RESPONSE_CODE_DETAILS%", "see the gateway's log"),
)


def _problem(filter_: Message, status: int, code: str, reason: str, remedy: str) -> Message:
    made = hcm_pb2.ResponseMapper(filter=filter_)
    made.status_code.value = status
    document = struct_pb2.Struct()
    document.update(
        {
            "type": PROBLEM_TYPE + code,
            "title": code.replace("-", " "),
            "status": "%RESPONSE_CODE%",
            "detail": reason,
            "remedy": remedy,
            "request_id": "%REQ(X-REQUEST-ID)%",
            "decision_id": "",
        }
    )
    made.body_format_override.json_format.CopyFrom(document)
    made.body_format_override.content_type = PROBLEM_MEDIA
    if status == 401:
        error = ', error="invalid_token"' if code == "bad-token" else ""
        _challenge(made, "Bearer", error)
        _challenge(made, "DPoP", f'{error}, algs="ES256"', action=HeaderValueOption.APPEND_IF_EXISTS_OR_ADD)
    return made


def _challenge(mapper: Message, scheme: str, more: str = "", *, action: int = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD) -> None:
    made = mapper.headers_to_add.add(append_action=action)
    made.header.key, made.header.value = "www-authenticate", f"{scheme} %METADATA(ROUTE:vg:challenge)%{more}"


def _details(start: str, *, also: str = "") -> Message:
    made = accesslog_pb2.AccessLogFilter()
    made.extension_filter.name = "vg.details"
    config = cel_pb2.ExpressionFilter(expression=f'response.code_details.startsWith("{start}"){also}')
    config.cel_config.enable_string_conversion = True
    made.extension_filter.typed_config.CopyFrom(packed(config))
    return made


def _status(status: int) -> Message:
    made = accesslog_pb2.AccessLogFilter()
    made.status_code_filter.comparison.op = accesslog_pb2.ComparisonFilter.EQ
    made.status_code_filter.comparison.value.default_value = status
    made.status_code_filter.comparison.value.runtime_key = "vouchgate.never"
    return made
