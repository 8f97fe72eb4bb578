"""What an allow owes, at the PDP: what it settles itself, and what it asks others to carry out.

1. A decision of a zone that observes owes nothing: it is recorded with its obligations, and passes.
2. step-up: every credential that was presented must be young enough, by its own beginning (`notBefore`, RFC 5280, section 4.1.2.5; `iat`,
   RFC 7519, section 4.1.6). One whose beginning is not known is too old. The refusal is a challenge (RFC 9470, section 3).
3. budget and approval: carried out by the control plane in the transaction that records the allow (settle.py). An approval binds everything
   that the server can read as parameters, so it needs the body, and the body must be one that a person can read;
   headers that could say more the gateway takes away (`AGREED`).
4. rounded-answer and redaction: told to the gateway in `x-vg-obligations`, which it takes from nobody else.
A kind that is not known here denies.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from typing import Any

import msgspec

from vouchgate.identity.strictjson import parse_object
from vouchgate.vocabulary.approvals import Owed, Parameters, Settled
from vouchgate.vocabulary.decisions import Decision, Obligation
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.places import MAX_APPROVAL_BODY, Endpoint
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.vouches import UnixMillis

ANSWER_KINDS = ("rounded-answer", "redaction")
"""Carried out on the answer, by the gateway."""
AGREED = "agreed=parameters"
"""That people agreed to what they could read of the request: the gateway passes on no header beside it that could say more."""
STATUS = {"step-up": 401, "budget-spent": 429, "approvals-full": 429}
"""HTTP status of a refusal; 403 for the others."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
"""Categories of characters that a reader does not see, or that move others about; the plain space beside them."""
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""Letters and marks that show nothing (Unicode, DerivedCoreProperties: Default_Ignorable_Code_Point), and the blank Braille pattern."""


def owed_on_answer(decision: Decision) -> str:
    """Rule 4: what the gateway is told; empty where the answer passes as it is."""
    told = [f"{one.kind}={one.value}" for one in decision.obligations if one.kind in ANSWER_KINDS]
    return "; ".join([*told, *([AGREED] if any(one.kind == "approval" for one in decision.obligations) else [])])


def owed_first(decision: Decision, request: Request, endpoint: Endpoint, now: UnixMillis) -> Owed | Denied | None:
    """Rules 1 to 3: what the control plane has to settle, or a no; None where nothing is left to settle."""
    budgets: list[str] = []
    groups: list[str] = []
    for one in decision.obligations:
        match one.kind:
            case "step-up":
                denied = _too_old(one, request, now)
                if denied is not None:
                    return denied
            case "budget":
                budgets.append(one.value)
            case "approval":
                groups.append(one.value)
            case "rounded-answer" | "redaction":
                continue
            case _:
                return Denied(code="denied", reason=f"nobody here carries out `{one.kind}`", remedy="ask a policy author")
    if not budgets and not groups:
        return None
    said = parameters_of(request, endpoint) if groups else None
    if isinstance(said, Denied):
        return said
    return Owed(endpoint=str(endpoint.id), budgets=tuple(budgets), groups=tuple(groups), parameters=said)


def _too_old(one: Obligation, request: Request, now: UnixMillis) -> Denied | None:
    """Rule 2."""
    begun = [request.certificate_since] if request.san or request.federated else []
    begun += [request.token_since] if request.subject else []
    seconds = int(one.value)
    if begun and all(began and now - began <= seconds * 1000 for began in begun):
        return None
    remedy = f"get a token that is less than {seconds} s old" if request.subject else "get a new certificate: `vouchgate identity issue`"
    return Denied(code="step-up", reason=f"this needs a credential that is at most {seconds} s old", remedy=remedy)


def challenge_of(decision: Decision, request: Request) -> str:
    """RFC 9470, section 3: which credential would do."""
    seconds = next((one.value for one in decision.obligations if one.kind == "step-up"), "")
    scheme = "DPoP" if request.authorization.startswith("DPoP ") else "Bearer"
    said = 'error="insufficient_user_authentication", error_description="a more recent credential is needed"'
    return f'{scheme} {said}, max_age="{seconds}"'


def parameters_of(request: Request, endpoint: Endpoint) -> Parameters | Denied:
    """What a request asks for, bound and readable."""
    if not endpoint.approvals:
        reason = "this needs a person's approval, and the endpoint does not pass on what is asked for"
        return Denied(code="approval-unavailable", reason=reason, remedy="set `approvals = true` for it in [[endpoints]]")
    if request.content_encoding not in ("", "identity"):
        return _unreadable("it has a content encoding")
    if len(request.body) > MAX_APPROVAL_BODY:
        return _unreadable(f"it is larger than {MAX_APPROVAL_BODY} bytes")
    try:
        body = _message(request.body) if request.tool else request.body.decode("utf-8")
    except (UnicodeDecodeError, InvalidInput):
        return _unreadable("it is not text in UTF-8, or not one JSON document")
    bound = [request.method, request.path, request.content_type, request.tool, body]
    return Parameters(
        digest=hashlib.sha256(b"vouchgate/parameters/v1\0" + msgspec.json.encode(bound)).hexdigest(),
        method=request.method[:16],
        path=readable(request.path),
        tool=request.tool,
        body=readable(body),
    )


def _unreadable(why: str) -> Denied:
    reason = f"this needs a person's approval, and nobody can read what is asked for: {why}"
    return Denied(code="approval-unreadable", reason=reason, remedy=f"send text in UTF-8 of at most {MAX_APPROVAL_BODY} bytes")


def _message(data: bytes) -> str:
    """A JSON-RPC message without what differs each time it is sent again: its `id`, and the token by which it asks for progress."""
    document: dict[str, Any] = parse_object(data, limit=MAX_APPROVAL_BODY, what="message")
    document.pop("id", None)
    params = document.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if isinstance(params, dict) and isinstance(meta, dict):
        meta.pop("progressToken", None)
        if not meta:
            params.pop("_meta")
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(", ", ": "))


def readable(text: str) -> str:
    """With everything that a reader does not see as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{ord(one):04x}" if _is_hidden(one) else one for one in text)


def _is_hidden(one: str) -> bool:
    return one != " " and (unicodedata.category(one) in _HIDDEN or _BLANK.match(one) is not None)


def denied_with(decision: Decision, settled: Settled) -> Decision:
    """The decision as it is recorded where what it owes is not met."""
    return msgspec.structs.replace(
        decision, effect="deny", would_be="deny", reason=settled.reason, remedy=settled.remedy, not_after=decision.evaluated_at
    )
