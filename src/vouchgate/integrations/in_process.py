"""One request decided inside a model server's process: values in, an answer out, no I/O and no clock.

In order
1. Route: method and path as listed, exactly; `{name}` is one segment of `[A-Za-z0-9._-]{1,64}`, never `.` or `..`. Else `no-route`, 404.
2. Caller: certificate, token, or both, by `identity.verify.who_is_calling`. Else 401.
3. Revocations: principal, token id, the certificate's serial number. A hit denies, in observe too.
4. Grant: caller x action, not lapsed, for this kind of credential. One that depends on the single request, or that carries an
   obligation, is refused here: only the gateway can ask.
In observe, a caller without any credential (2) or without a grant (4) passes, and the answer says what enforcing would refuse,
but for actions that observe never lets through.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Sequence

import msgspec

from vouchgate.identity.bundle import TrustBundle, parse_jwks
from vouchgate.identity.verify import who_is_calling
from vouchgate.identity.x509svid import serial_of
from vouchgate.vocabulary.decisions import Grant, never_observed
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.leased import LeasedMap
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.places import Route
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

MAX_CREDENTIAL_BYTES = 8_192
"""Bytes of an Authorization header that are looked at; our tokens have about 550."""
MAX_CHAIN = 8
"""Certificates that are looked at; ours come with at most two CAs."""
_SEGMENT = "[A-Za-z0-9._-]{1,64}"
_PLACEHOLDER = re.compile(r"\{[a-z_]{1,32}\}")
_REMEDIES = {
    "lease-expired": "start the control plane, or see `vouchgate status`",
    "record-unavailable": "start the control plane, or see `vouchgate status`",
    "no-bundle": "see `vouchgate status`: the control plane sent no usable trust bundle",
    "no-route": "see `vouchgate status` for the listed endpoints",
    "bad-token": "send one `Authorization: Bearer <JWT-SVID>`",
    "revoked": "ask a responder why; `vouchgate why` with this request id shows the revocation",
    "not-granted": "run `vouchgate why` with this request id",
    "needs-gateway": "call through the gateway: the policy depends on facts of the single request",
}
_REASONS = {
    "not-granted": "this caller holds no grant for this action",
    "needs-gateway": "the decision depends on facts of the single request",
}
_STATUSES = {
    "lease-expired": 503, "record-unavailable": 503, "no-bundle": 503, "no-route": 404,
    "revoked": 403, "not-granted": 403, "needs-gateway": 403,
}  # fmt: skip
_KINDS = {"x509": {"x509"}, "jwt": {"jwt"}, "both": {"x509", "jwt", "both"}}
"""Kinds of grant that serve a caller who presented this."""


class Answer(msgspec.Struct, frozen=True):
    """What was decided, and how long the same question has the same answer."""

    action: str = ""
    streams: bool = False
    """Whether the route is recorded at its start too."""
    who: VerifiedPrincipal | None = None
    grant: Grant | None = None
    denied: Denied | None = None
    observed: bool = False
    """Whether `denied` is only recorded."""
    until_ns: int = 0
    """Monotonic; 0 for an answer that must not be remembered."""


class Asked(msgspec.Struct, frozen=True):
    """What a decision is about; equal questions have equal answers."""

    method: str
    path: str
    header: bytes = b""
    """The Authorization header; empty for none."""
    chain: tuple[str, ...] = ()
    """Certificates as PEM, leaf first."""


class Rules:
    """A map made ready for lookups."""

    def __init__(self, leased: LeasedMap) -> None:
        self.leased = leased
        self.exact = {(route.method, route.path): route for route in leased.routes if "{" not in route.path}
        self.templates = [(_pattern(route.path), route) for route in leased.routes if "{" in route.path]
        self.grants: dict[tuple[str, str], list[Grant]] = {}
        for grant in leased.grants:
            if grant.resource == leased.endpoint:
                self.grants.setdefault((grant.principal, grant.action), []).append(grant)
        self.revoked = frozenset(leased.revoked)
        self.bundle = _bundle(leased)

    def route(self, method: str, path: str) -> Route | None:
        """The listed route."""
        found = self.exact.get((method, path))
        if found is not None:
            return found
        for pattern, route in self.templates:
            if route.method == method and pattern.match(path) and not {".", ".."} & set(path.split("/")):
                return route
        return None


def _bundle(leased: LeasedMap) -> TrustBundle | None:
    try:
        return parse_jwks(leased.bundle, leased.trust_domain)
    except InvalidInput:
        return None


def _pattern(path: str) -> re.Pattern[str]:
    parts = [_SEGMENT if _PLACEHOLDER.fullmatch(part) else re.escape(part) for part in path.split("/")]
    return re.compile("/".join(parts) + r"\Z")


def refusal(code: str, reason: str) -> Answer:
    """A denial that is not remembered."""
    return Answer(denied=Denied(code=code, reason=reason, remedy=_REMEDIES[code]))


def status_of(denied: Denied) -> int:
    """HTTP status of a denial (RFC 9110, section 15.5); what is about the credential is 401."""
    return _STATUSES.get(denied.code, 401)


def decide(rules: Rules, asked: Asked, now: UnixMillis, now_ns: int) -> Answer:
    """Decide one request at `now`, which is `now_ns` on the monotonic clock that answers lapse by."""
    route = rules.route(asked.method, asked.path)
    if route is None:
        return refusal("no-route", "this endpoint does not list this method and path")
    if rules.bundle is None:
        return refusal("no-bundle", "this server has no usable trust bundle")
    observe = rules.leased.mode == "observe" and not never_observed(route.action)
    ders = [_der(pem) for pem in asked.chain[:MAX_CHAIN]]
    who = _who(rules, rules.bundle, ders, asked.header, now)
    if isinstance(who, Denied):
        return Answer(action=route.action, denied=who, observed=observe and who.code == "anonymous")
    until_ns = now_ns + (who.not_after - now) * 1_000_000
    fingerprint = hashlib.sha256(ders[0]).hexdigest() if ders else ""
    if not rules.revoked.isdisjoint((who.principal.id, who.credential_id, serial_of(ders[0]) if ders else "")):
        denied = Denied(code="revoked", reason="this identity or credential was withdrawn", remedy=_REMEDIES["revoked"])
        return Answer(action=route.action, who=who, denied=denied, until_ns=until_ns)
    grant, code = _grant(rules, route.action, who, fingerprint, now)
    if grant is not None:
        return Answer(
            action=route.action,
            streams=route.streams,
            who=who,
            grant=grant,
            until_ns=min(until_ns, now_ns + (grant.not_after - now) * 1_000_000),
        )
    denied = Denied(code=code, reason=_REASONS[code], remedy=_REMEDIES[code])
    return Answer(action=route.action, who=who, denied=denied, observed=observe, until_ns=until_ns)


def _der(pem: str) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(pem)
    except ValueError:
        return b""


def _who(rules: Rules, bundle: TrustBundle, chain: Sequence[bytes], header: bytes, now: UnixMillis) -> VerifiedPrincipal | Denied:
    token = ""
    if header:
        scheme, _, rest = header.partition(b" ")
        if scheme.lower() != b"bearer" or not rest or len(header) > MAX_CREDENTIAL_BYTES or b"," in header or not header.isascii():
            return Denied(code="bad-token", reason="the authorization header is not one bearer token", remedy=_REMEDIES["bad-token"])
        token = rest.decode("ascii")
    return who_is_calling(chain, token, bundle, now, audience=rules.leased.endpoint, bearer=rules.leased.bearer)


def _grant(rules: Rules, action: str, who: VerifiedPrincipal, fingerprint: str, now: UnixMillis) -> tuple[Grant | None, str]:
    """The grant that holds, or why none does."""
    code = "not-granted"
    for grant in rules.grants.get((who.principal.id, action), ()):
        if grant.not_after <= now or (grant.thumbprint and grant.thumbprint != fingerprint):
            continue
        if grant.credential_kind not in _KINDS[who.credential_kind]:
            continue
        if grant.condition == "none" and not grant.obligations:
            return grant, ""
        code = "needs-gateway"
    return None, code
