"""Security event tokens (RFC 8417): what a transmitter tells of a person, and what we tell of ours.

Rules
1. `typ` is `secevent+jwt` (RFC 8417, section 2.3), so that no other token is ever taken for an event, nor an event for a login.
2. `iss` and `aud` are exactly the configured ones; `jti` is there; there is no `exp` (RFC 8417, section 2.2), so age is judged by `iat`: not from
   the future, and not older than `MAX_AGE_DAYS`, within which a `jti` is remembered. Late word of a dismissal counts; it is never too late today.
3. A subject is (iss, sub) (RFC 9493, section 3.2.2), alone or as the user of a complex subject (SSF 1.0, section 3.2); an address or a phone
   number names nobody here.
4. An event is one of `EFFECTS`, a notice about the stream itself, or unknown; unknown ones are acknowledged and change nothing.
5. A refusal has the code of RFC 8935, section 2.4.
Left to others: signatures (foreign.py), whether a `jti` was seen, what falls (flows/deprovision.py), signing ours (flows/sign.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.identity.foreign import ForeignKey, verify_token, write_token
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.vouches import UnixMillis

SKEW_SECONDS = 60
"""Seconds by which a transmitter's clock may be ahead."""
MAX_AGE_DAYS = 14
"""Days for which a transmitter may go on trying to deliver; as long a `jti` is remembered."""
MAX_EVENTS = 8
"""Events of one token; CAEP sends one."""
MAX_REASON = 200
"""Characters of a reason that is kept."""
MEDIA = "application/secevent+jwt"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"

Effect = Literal["until-login", "until-undone", "notice", "unknown"]
"""`until-login`: whatever the person holds ends, and a fresh login begins anew; `until-undone`: a responder must let them in again."""
EFFECTS: Mapping[str, Effect] = {
    CAEP + "session-revoked": "until-login",
    CAEP + "credential-change": "until-login",
    CAEP + "token-claims-change": "until-login",
    RISC + "account-credential-change-required": "until-login",
    RISC + "sessions-revoked": "until-login",
    RISC + "account-disabled": "until-undone",
    RISC + "account-purged": "until-undone",
    SSF + "verification": "notice",
    SSF + "stream-updated": "notice",
}
"""CAEP 1.0, sections 3.1 to 3.3; RISC 1.0, section 2; SSF 1.0, section 8.1.4."""
OUR_EVENTS = {
    "session-revoked": CAEP + "session-revoked",
    "credential-change": CAEP + "credential-change",
    "verification": SSF + "verification",
}
_JTI = re.compile(r"[\x21-\x7e]{1,256}\Z")


@dataclass(frozen=True)
class Told:
    """One event of a valid token."""

    event: str
    """Its URI."""
    effect: Effect
    issuer: str
    """Issuer of the subject; empty where the event names nobody."""
    sub: str
    reason: str
    state: str
    """What a verification event echoes."""


@dataclass(frozen=True)
class ReadSet:
    """A valid token."""

    jti: str
    issued_at: UnixMillis
    events: tuple[Told, ...]


def read_set(
    token: str, keys: Mapping[str, ForeignKey], *, issuer: str, audience: str, now: UnixMillis, algorithms: Collection[str]
) -> ReadSet | Denied:
    """Rules 1 to 4; a refusal's code is RFC 8935's (rule 5)."""
    verified = verify_token(token, keys, algorithms=algorithms, types=("secevent+jwt",), require_type=True, what="event token")
    if isinstance(verified, Denied):
        code = "invalid_key" if verified.code in {"unknown-key", "no-key-id"} else "invalid_request"
        code = "authentication_failed" if verified.code in {"signature", "algorithm"} else code
        return _no(code, verified.reason)
    claims = verified.claims
    if claims.get("iss") != issuer:
        return _no("invalid_issuer", "the event token is of another issuer")
    listed = claims.get("aud")
    if not (listed == audience or (isinstance(listed, list) and len(listed) <= MAX_EVENTS and audience in listed)):
        return _no("invalid_audience", "the event token is not for this receiver")
    jti, issued = claims.get("jti"), claims.get("iat")
    if not isinstance(jti, str) or not _JTI.match(jti) or not isinstance(issued, int) or isinstance(issued, bool) or "exp" in claims:
        return _no("invalid_request", "the event token lacks `jti` or `iat`, or has `exp`")
    if not now / 1000 - MAX_AGE_DAYS * 86_400 <= issued <= now / 1000 + SKEW_SECONDS:
        return _no("invalid_request", f"the event token is from the future, or older than {MAX_AGE_DAYS} days")
    events = claims.get("events")
    if not isinstance(events, dict) or not 1 <= len(events) <= MAX_EVENTS or not all(isinstance(one, dict) for one in events.values()):
        return _no("invalid_request", f"the event token does not hold 1 to {MAX_EVENTS} events")
    return ReadSet(jti, UnixMillis(issued * 1000), tuple(_event(name, body, claims) for name, body in sorted(events.items())))


def our_claims(
    event: str, *, issuer: str, audience: str, jti: str, principal: str, sub: str, sub_issuer: str, credential: str, reason: str, at: UnixMillis,
    state: str, now: UnixMillis,
) -> dict[str, Any]:  # fmt: skip
    """The claims of an event token of ours. Raises `InvalidInput` for an event that we do not send."""
    if event not in OUR_EVENTS:
        raise InvalidInput(f"`{event[:64]}` is not an event that is sent", remedy=f"use one of {', '.join(OUR_EVENTS)}")
    if not _JTI.match(jti) or not audience:
        raise InvalidInput("the event lacks audience or id", remedy="name both")
    if not issuer.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        # never the issuer of our JWT-SVIDs, which the same key signs
        raise InvalidInput(f"`{issuer[:80]}` does not issue events", remedy="set `issuer` of [ssf], or `url` of [sts], to an https address")
    body: dict[str, Any] = {"state": state} if event == "verification" else {"event_timestamp": at // 1000, "initiating_entity": "admin"}
    if event == "credential-change":
        body |= {"credential_type": "x509" if _is_serial(credential) else "jwt", "change_type": "revoke", "credential_id": credential}
    if event != "verification" and reason:
        body["reason_admin"] = {"en": reason[:MAX_REASON]}
    subject = {"format": "iss_sub", "iss": sub_issuer, "sub": sub} if sub_issuer else {"format": "uri", "uri": principal}
    named = {} if event == "verification" else {"sub_id": subject}
    return {"iss": issuer, "aud": audience, "jti": jti, "iat": now // 1000, "events": {OUR_EVENTS[event]: body}, **named}


def sign_set(claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey, kid: str) -> str:
    """An event token of ours: ES256, `typ` secevent+jwt, so that nobody takes it for a JWT-SVID (RFC 8725, section 3.11)."""
    return write_token({"alg": "ES256", "kid": kid, "typ": "secevent+jwt"}, claims, key)


def _event(name: str, body: Mapping[str, Any], claims: Mapping[str, Any]) -> Told:
    issuer, sub = _subject(claims.get("sub_id", body.get("subject")))
    state = body.get("state", "")
    return Told(name[:256], EFFECTS.get(name, "unknown"), issuer, sub, _reason(body), state[:256] if isinstance(state, str) else "")


def _subject(said: Any) -> tuple[str, str]:
    """Rule 3."""
    if isinstance(said, dict) and (said.get("format") == "complex" or ("format" not in said and "user" in said)):
        said = said.get("user")
    if not isinstance(said, dict) or said.get("format", said.get("subject_type")) not in {"iss_sub", "iss-sub"}:
        return "", ""
    issuer, sub = said.get("iss"), said.get("sub")
    return (issuer, sub) if isinstance(issuer, str) and isinstance(sub, str) and 0 < len(sub) <= 255 else ("", "")


def _reason(body: Mapping[str, Any]) -> str:
    said = body.get("reason_admin", body.get("reason", ""))
    text = next((one for one in said.values() if isinstance(one, str)), "") if isinstance(said, dict) else said
    return "".join(one for one in text if one.isprintable())[:MAX_REASON] if isinstance(text, str) else ""


def _is_serial(credential: str) -> bool:
    return len(credential) >= 24 and set(credential) <= set("0123456789abcdef")


def _no(code: str, reason: str) -> Denied:
    return Denied(code=code, reason=reason, remedy="see RFC 8935, section 2.4; the stream's settings must agree on both sides")
