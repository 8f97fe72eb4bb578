"""Who is acting: the only module that constructs a `VerifiedPrincipal`. A test walks the source tree and holds that.

Each function is one way to know a principal
- `verify_x509`   the peer presented a certificate chain                                    credential_kind `x509`
- `verify_jwt`    the caller presented a bearer token                                       `jwt`
- `who_is_calling` certificate, token, or both, by the gateway's rules                      `x509`, `jwt`, `both`
- `forwarded`     the gateway verified; the kernel says that the gateway speaks             `x509`, `jwt`, `both`
- `presented`     a token with claims beyond the plain ones, with the certificate or key that it is bound to   `jwt`, `both`
- `delegated`     what an exchange makes of the one who is acted for and the one who acts      the actor's
- `attested`      evidence from outside earned a registration                               `jwt`
- `consented`     a person who logged in lets a client act                                 `session`
- `acting`        each one that acts for the subject of such a token, to be decided by itself                  as the token's
- `registered`    the control plane pre-decides for a registration (its standing cells)     `registered`
- `peer_uid`      the kernel names the uid at the other end of a unix socket (SO_PEERCRED)  `uid`
- `session`       the console's cookie, already looked up                                   `cookie`
- `declared`      a caller that only claims; `authenticated` is False; observe alone        `declared`

Groups are never in a credential: `groups_of` looks them up among the registrations, and an unknown principal has none.
Left to others: revocation, replay, and deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from msgspec import structs

from vouchgate.identity.actors import CREDENTIAL, MAX_ACTORS, NEVER_ACT
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.jwtsvid import JwtFacts, read_jwt
from vouchgate.identity.x509svid import X509Facts, read_x509
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.names import PrincipalId, principal_parts
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import CredentialKind, Principal, Registration, VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

GroupsOf = Callable[[PrincipalId], tuple[str, ...]]
PEER_LIFE_MS = 60_000
"""Milliseconds the kernel's word on a peer is used before it is asked again."""
DECLARED_LIFE_MS = 3_600_000
"""Milliseconds a declared identity lasts after it was last seen."""

_UNBOUND = Denied(code="jwt-unbound", reason="the token is bound to a certificate that was not presented", remedy="use mTLS with it")
_ELSEWHERE = Denied(code="jwt-bound-elsewhere", reason="the token is bound to another certificate", remedy="ask for a token of your own")
_WEIGHED_ELSEWHERE = Denied(
    code="jwt-ask", reason="only the gateway's decision point weighs what this token says", remedy="call through the gateway"
)


def _no_groups(_: PrincipalId) -> tuple[str, ...]:
    return ()


def verify_x509(
    chain: Sequence[bytes], bundle: TrustBundle, now: UnixMillis, *, groups_of: GroupsOf = _no_groups
) -> VerifiedPrincipal | Denied:
    """Check a certificate chain (DER, leaf first). `credential_id` is the leaf's serial number."""
    facts = read_x509(chain, bundle, now)
    if isinstance(facts, Denied):
        return facts
    made = _mint(facts.principal, "x509", facts.serial, now=now, not_after=facts.not_after, groups_of=groups_of)
    return structs.replace(made, binding=facts.binding)


def verify_jwt(
    token: str, bundle: TrustBundle, audience: str, now: UnixMillis, *, groups_of: GroupsOf = _no_groups
) -> VerifiedPrincipal | Denied:
    """Check a bearer token that is bound to no certificate. `credential_id` is its `jti`."""
    facts = read_jwt(token, bundle, audience, now)
    if isinstance(facts, Denied):
        return facts
    if facts.cnf_x5t:
        return _UNBOUND
    if not facts.beyond.empty:
        return _WEIGHED_ELSEWHERE
    return _mint(facts.principal, "jwt", facts.jti, now=now, not_after=facts.not_after, groups_of=groups_of)


def who_is_calling(
    chain: Sequence[bytes],
    token: str,
    bundle: TrustBundle,
    now: UnixMillis,
    *,
    audience: str,
    bearer: bool,
    groups_of: GroupsOf = _no_groups,
) -> VerifiedPrincipal | Denied:
    """Certificate (empty for none), token (empty for none), or both (contracts, "Gateway rules").

    1. Certificate alone: its id. 2. Token alone: its subject, where the endpoint lists bearer. 3. Both: the same subject, or a token
    bound to this certificate; then the subject is who acts. 4. Neither: denied. A part that does not hold denies the whole.
    """
    certificate = read_x509(chain, bundle, now) if chain else None
    if isinstance(certificate, Denied):
        return certificate
    said = read_jwt(token, bundle, audience, now) if token else None
    if isinstance(said, Denied):
        return said
    if said is not None and not replace(said.beyond, cnf_x5t="").empty:
        return _WEIGHED_ELSEWHERE
    return _combine(certificate, said, now, bearer=bearer, groups_of=groups_of)


def forwarded(
    *,
    san: str,
    serial: str,
    thumbprint: str,
    certificate_not_after: UnixMillis,
    sub: str,
    jti: str,
    token_not_after: UnixMillis,
    cnf_x5t: str,
    trust_domain: str,
    now: UnixMillis,
    bearer: bool,
    groups_of: GroupsOf = _no_groups,
) -> VerifiedPrincipal | Denied:
    """What the gateway verified natively and forwarded; the caller of this function has checked that the peer is the gateway's uid.
    Empty strings stand for what was not presented. The rules of `who_is_calling` hold here too."""
    for name in (san, sub):
        if name and _trust_domain(name) != trust_domain:
            return Denied(
                code="not-ours", reason=f"the caller is not of trust domain `{trust_domain}`", remedy="use this domain's identity"
            )
    certificate = X509Facts(PrincipalId(san), serial, thumbprint, certificate_not_after) if san else None
    said = JwtFacts(PrincipalId(sub), jti, token_not_after, cnf_x5t) if sub else None
    return _combine(certificate, said, now, bearer=bearer, groups_of=groups_of)


def presented(
    said: JwtFacts,
    *,
    san: str = "",
    serial: str = "",
    thumbprint: str = "",
    jkt: str = "",
    bearer: bool,
    now: UnixMillis,
    groups_of: GroupsOf = _no_groups,
) -> VerifiedPrincipal | Denied:
    """Whoever presents a token that was read whole (`read_jwt`): `san`, `serial` and `thumbprint` of the certificate that the gateway
    verified, `jkt` of a proof that `dpop.read_proof` accepted; empty for what was not shown.

    1. A token that is bound to a certificate or a key goes with exactly that. 2. One that is bound to neither is a bearer token.
    3. A certificate beside it is the certificate of whoever acts now, unless the token is bound to it. 4. A proof without a token that is bound
    to its key proves nothing, and is refused rather than ignored.
    """
    if now >= said.not_after:
        return Denied(code="expired", reason="the credential has expired", remedy="fetch a new one")
    beyond = said.beyond
    if said.cnf_x5t and said.cnf_x5t != thumbprint:  # 1
        return _UNBOUND if not thumbprint else _ELSEWHERE
    if beyond.cnf_jkt != jkt:  # 1, 4
        return Denied(
            code="dpop-unbound",
            reason="the token is not bound to the key of the proof"
            if jkt
            else "the token is bound to a key, and no proof of it came along",
            remedy="send the token as `Authorization: DPoP` with a proof by its own key (RFC 9449, section 7.1)",
        )
    if not san and not bearer:  # 2
        return Denied(code="bearer-not-listed", reason="a token alone is not enough here", remedy="call with mTLS and an X.509-SVID")
    acting_now = beyond.actors[0] if beyond.actors else said.principal
    if san and san != acting_now and not said.cnf_x5t:  # 3
        return Denied(
            code="two-identities", reason="the certificate is not of who acts by the token", remedy="use the certificate of who acts"
        )
    return VerifiedPrincipal(
        principal=Principal(id=said.principal, groups=groups_of(said.principal)),
        credential_kind="both" if san else "jwt",
        credential_id=said.jti,
        authenticated=True,
        actors=beyond.actors,
        scopes=beyond.scopes,
        binding=beyond.binding,
        parents=(*beyond.parents, *((serial,) if serial and serial not in beyond.parents else ())),
        verified_at=now,
        not_after=said.not_after,
    )


def delegated(
    subject: VerifiedPrincipal, actor: VerifiedPrincipal, *, scopes: tuple[str, ...], not_after: UnixMillis
) -> VerifiedPrincipal | Denied:
    """`actor` acts for `subject`, or narrows what it holds itself. The chain grows by one hand at most, and nobody is in it twice."""
    who, now_acts = subject.principal.id, actor.principal.id
    if actor.actors:
        return Denied(code="actor-delegated", reason="who acts must do so by a credential of its own", remedy="send the actor's own SVID")
    chain = subject.actors if now_acts == who else (now_acts, *subject.actors)
    if (now_acts == who and subject.actors) or now_acts in subject.actors:
        return Denied(code="cycle", reason=f"`{now_acts}` is in the chain already", remedy="use the token that it got before")
    if principal_parts(now_acts).kind in NEVER_ACT or len(chain) > MAX_ACTORS:
        return Denied(
            code="chain", reason=f"the chain would name more than {MAX_ACTORS}, or one who acts for nobody", remedy="go back a hand"
        )
    runs = [one.binding for one in (subject, actor) if one.binding and one.binding.run]
    if len(set(runs)) > 1:
        return Denied(code="two-runs", reason="the two credentials are bound to different runs", remedy="act within one run")
    made = (*subject.parents, subject.credential_id, *actor.parents, actor.credential_id)
    return VerifiedPrincipal(
        principal=subject.principal,
        credential_kind=actor.credential_kind,
        credential_id=actor.credential_id,
        authenticated=subject.authenticated and actor.authenticated,
        actors=chain,
        scopes=scopes,
        binding=runs[0] if runs else None,
        parents=tuple(dict.fromkeys(one for one in made if CREDENTIAL.match(one))),
        verified_at=actor.verified_at,
        not_after=UnixMillis(min(subject.not_after, actor.not_after, not_after)),
    )


def attested(registration: Registration, evidence_id: str, not_after: UnixMillis, now: UnixMillis) -> VerifiedPrincipal:
    """Whoever presented evidence that earned the registration (`catalog.attest`, `catalog.match`); `evidence_id` names it."""
    return VerifiedPrincipal(
        principal=Principal(id=registration.principal, groups=registration.groups),
        credential_kind="jwt",
        credential_id=evidence_id,
        authenticated=True,
        verified_at=now,
        not_after=not_after,
    )


def consented(registration: Registration, *, scopes: tuple[str, ...], not_after: UnixMillis, now: UnixMillis) -> VerifiedPrincipal:
    """A person who logged in (the caller of this function has checked that), and lets a client act in these scopes."""
    return VerifiedPrincipal(
        principal=Principal(id=registration.principal, groups=registration.groups),
        credential_kind="session",
        credential_id="authorization-code",
        authenticated=True,
        scopes=scopes,
        verified_at=now,
        not_after=not_after,
    )


def acting(caller: VerifiedPrincipal, *, groups_of: GroupsOf = _no_groups) -> tuple[VerifiedPrincipal, ...]:
    """Each one that acts for the caller, the one that acts now first: same credential, same life, no rights but its own."""
    return tuple(
        VerifiedPrincipal(
            principal=Principal(id=actor, groups=groups_of(actor)),
            credential_kind=caller.credential_kind,
            credential_id=caller.credential_id,
            authenticated=caller.authenticated,
            scopes=caller.scopes,
            binding=caller.binding,
            parents=caller.parents,
            verified_at=caller.verified_at,
            not_after=caller.not_after,
        )
        for actor in caller.actors
    )


def _combine(
    certificate: X509Facts | None, said: JwtFacts | None, now: UnixMillis, *, bearer: bool, groups_of: GroupsOf
) -> VerifiedPrincipal | Denied:
    if min(fact.not_after for fact in (certificate, said) if fact) <= now if certificate or said else False:
        return Denied(code="expired", reason="the credential has expired", remedy="fetch a new one")
    if certificate is None and said is None:
        return Denied(code="anonymous", reason="the caller presented no identity", remedy="use an SVID: `vouchgate identity issue`")
    if said is None:
        assert certificate is not None
        return _mint(certificate.principal, "x509", certificate.serial, now=now, not_after=certificate.not_after, groups_of=groups_of)
    if certificate is None:
        if not bearer:
            return Denied(code="bearer-not-listed", reason="a token alone is not enough here", remedy="call with mTLS and an X.509-SVID")
        if said.cnf_x5t:
            return _UNBOUND
        return _mint(said.principal, "jwt", said.jti, now=now, not_after=said.not_after, groups_of=groups_of)
    if said.cnf_x5t and said.cnf_x5t != certificate.thumbprint:
        return _ELSEWHERE
    if said.principal != certificate.principal and not said.cnf_x5t:
        return Denied(code="two-identities", reason="certificate and token name different callers", remedy="use one identity for a call")
    return _mint(
        said.principal, "both", said.jti, now=now, not_after=UnixMillis(min(said.not_after, certificate.not_after)), groups_of=groups_of
    )


def registered(registration: Registration, now: UnixMillis) -> VerifiedPrincipal:
    """The principal of a registration, as the control plane pre-decides for it: a cell, not a caller."""
    not_after = UnixMillis(now + registration.svid_ttl_seconds * 1000)
    principal = Principal(id=registration.principal, groups=registration.groups)
    return VerifiedPrincipal(
        principal=principal,
        credential_kind="registered",
        credential_id="registered",
        authenticated=True,
        verified_at=now,
        not_after=not_after,
    )


def peer_uid(uid: int, principal: Principal, now: UnixMillis) -> VerifiedPrincipal:
    """The person or process that the installation maps to `uid`. Raises `InvalidInput` for a uid the kernel did not name."""
    if uid < 0:
        raise InvalidInput("the peer has no uid", remedy="connect over the unix socket")
    principal_parts(principal.id)
    return VerifiedPrincipal(
        principal=principal,
        credential_kind="uid",
        credential_id=f"uid:{uid}",
        authenticated=True,
        verified_at=now,
        not_after=UnixMillis(now + PEER_LIFE_MS),
    )


def session(
    principal: Principal, session_id: str, not_after: UnixMillis, now: UnixMillis, *, kind: Literal["cookie", "session"] = "cookie"
) -> VerifiedPrincipal | Denied:
    """Whoever a session of the console or of the command line stands for; `session_id` is a digest of its secret, never the secret."""
    if now >= not_after:
        return Denied(code="session-expired", reason="the session has expired", remedy="ask for a new code: `vouchgate admin login`")
    principal_parts(principal.id)
    return VerifiedPrincipal(
        principal=principal, credential_kind=kind, credential_id=session_id, authenticated=True, verified_at=now, not_after=not_after
    )


def declared(principal_id: str, basis: str, now: UnixMillis) -> VerifiedPrincipal:
    """A caller that only claims who it is (`basis` says by what, for example `address:10.0.0.7`). It has no groups.
    Raises `InvalidInput` unless the id is of kind `declared`, so that no claim can name a real principal."""
    if principal_parts(principal_id).kind != "declared":
        raise InvalidInput(f"`{principal_id[:160]}` is not a declared principal", remedy="use spiffe://<td>/declared/<zone>/<name>")
    return VerifiedPrincipal(
        principal=Principal(id=PrincipalId(principal_id)),
        credential_kind="declared",
        credential_id=basis,
        authenticated=False,
        verified_at=now,
        not_after=UnixMillis(now + DECLARED_LIFE_MS),
    )


def _mint(
    principal: PrincipalId, kind: CredentialKind, credential_id: str, *, now: UnixMillis, not_after: UnixMillis, groups_of: GroupsOf
) -> VerifiedPrincipal:
    return VerifiedPrincipal(
        principal=Principal(id=principal, groups=groups_of(principal)),
        credential_kind=kind,
        credential_id=credential_id,
        authenticated=True,
        verified_at=now,
        not_after=not_after,
    )


def _trust_domain(name: str) -> str:
    try:
        return principal_parts(name).trust_domain
    except InvalidInput:
        return ""
