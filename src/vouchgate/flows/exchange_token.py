"""Token exchange (RFC 8693): somebody's right, handed on for one endpoint, narrower, shorter, and bound to whoever acts.

1. Who acts proves itself: by the certificate of its connection, by a JWT-SVID of its own that is meant for the token service, or, on this
   machine's socket, by the kernel's word.
2. Who is acted for is known by a JWT-SVID that is meant for the token service, or for an endpoint that the actor itself answers for; or by a
   foreign token that an attestor takes, which is used up: once, also after a restart.
3. Structure narrows, whatever policies say: one endpoint (RFC 8707), scopes within both credentials, a life within both, one more hand.
4. A standing revocation of anybody or anything that it rests on refuses.
5. Policy decides: `exchange`, asked of the subject and of every actor. What nobody permits is denied.
6. The token is bound: to the certificate where that proved the actor, else to the key of a DPoP proof. A stolen token service may not hand a
   right to itself: it can show certificates of others, and gets tokens that only their holders can use.
7. The credential, with everything that it was made from, is durable before it leaves; what was revoked meanwhile still counts.
Refusals carry the standards' codes (RFC 6749, section 5.2; RFC 8693, section 2.2.2; RFC 9449, section 5) with hyphens, and are recorded.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from vouchgate.audit import ocsf
from vouchgate.flows.attest_remote import attested_by
from vouchgate.flows.changes import CredentialIssued
from vouchgate.flows.context import Context
from vouchgate.flows.delegation import struck
from vouchgate.identity.dpop import Proof, Seen, read_proof
from vouchgate.identity.jwtsvid import JwtFacts, read_jwt
from vouchgate.identity.scopes import parse_scopes, within
from vouchgate.identity.verify import acting, delegated, presented, verify_x509
from vouchgate.identity.x509svid import thumbprint_of
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import Conflict, InvalidInput, Unavailable
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.places import Endpoint, canonical_uri
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.records import Append, PutRecord
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TYPE = "urn:ietf:params:oauth:token-type:access_token"
OWN_TYPES = frozenset({JWT_TYPE, ACCESS_TYPE})
"""Types under which our own tokens come (RFC 8693, section 3)."""
FOREIGN_PREFIX = "https://vouchgate.dev/token-type/"
"""What a foreign token's type begins with; the attestor's name follows, and after `/` the source's where there are several."""
MIN_SECONDS = 10
"""A token that would live shorter is not worth its entry."""
PARAMETERS = frozenset(
    {
        "grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "resource", "audience", "scope",
        "requested_token_type", "expires_in",
    }
)  # fmt: skip
"""RFC 8693, section 2.1; `expires_in` asks for a shorter life."""
SERVICE = "token-exchange"


class Peer(Noun, frozen=True, kw_only=True):
    """How the request came, as far as the control plane believes it."""

    chain: tuple[bytes, ...] = ()
    """Certificates that the connection's peer presented, DER, leaf first."""
    proof: str = ""
    """The header `DPoP`."""
    urls: tuple[str, ...] = ()
    """Addresses that a proof may name."""
    local: VerifiedPrincipal | None = None
    """Who the kernel says is at the other end of this machine's socket."""
    address: str = ""


class Exchanged(Noun, frozen=True, kw_only=True):
    """RFC 8693, section 2.2.1."""

    access_token: str
    issued_token_type: str = JWT_TYPE
    token_type: str
    expires_in: int
    scope: str


def service_id(trust_domain: str) -> str:
    """The token service as an audience: what a token that is to be exchanged is made for."""
    return resource(trust_domain, "system", "sts")


async def exchange(context: Context, asked: Mapping[str, str], peer: Peer, seen: Seen) -> Exchanged | Denied:
    """Steps 1 to 7; a refusal is the caller's to record (`record_refusal`). Raises `Unavailable` while nothing is issued."""
    if context.clock.trouble or context.facts.bundle is None:
        raise Unavailable(
            f"nothing is issued: {context.clock.trouble or 'there are no keys yet'}", remedy="set the clock right, or try again shortly"
        )
    now = context.clock.now()
    wrong = _malformed(asked)
    if wrong is not None:
        return wrong
    proof = _proof(peer, seen, now)
    if isinstance(proof, Denied):
        return proof
    actor = _actor(context, asked, peer, proof, now)  # 1
    if isinstance(actor, Denied):
        return actor
    endpoint = target(context, asked)
    if isinstance(endpoint, Denied):
        return endpoint
    found = _subject(context, asked, actor, peer, proof, now)  # 2
    if isinstance(found, Denied):
        return found
    subject, used = found
    chain = narrowed(context, asked, subject, actor, endpoint, now)  # 3
    if isinstance(chain, Denied):
        return chain
    refused = _revoked(context, subject, actor, chain) or decided(context, chain, str(endpoint.id))  # 4, 5
    if isinstance(refused, Decision):
        await _record_decision(context, refused)
        return Denied(code="access-denied", reason=refused.reason, remedy=refused.remedy or "ask whoever writes the policies")
    if refused is not None:
        return refused
    bound = _bound(peer, proof, by_certificate=actor.credential_kind == "x509")  # 6
    if isinstance(bound, Denied):
        return bound
    spent = seen.take(proof, now) if proof is not None else None
    if spent is not None:
        return _as(spent, "invalid-dpop-proof")
    return await issue(context, chain, str(endpoint.id), bound, peer, used)  # 7


def _malformed(asked: Mapping[str, str]) -> Denied | None:
    unknown = sorted(set(asked) - PARAMETERS)
    if unknown or asked.get("grant_type") != GRANT_TYPE:
        return Denied(
            code="unsupported-grant-type" if not unknown else "invalid-request", reason="this is not a token exchange",
            remedy=f"send `grant_type` `{GRANT_TYPE}` and only the parameters of RFC 8693",
        )  # fmt: skip
    if not asked.get("subject_token") or not asked.get("subject_token_type") or ("actor_token" in asked) != ("actor_token_type" in asked):
        return Denied(
            code="invalid-request", reason="a token or its type is missing", remedy="send `subject_token` and `subject_token_type`"
        )
    if asked.get("requested_token_type", JWT_TYPE) not in OWN_TYPES or asked.get("actor_token_type", JWT_TYPE) not in OWN_TYPES:
        return Denied(code="invalid-request", reason="that type of token is not exchanged here", remedy=f"use `{JWT_TYPE}`")
    return None


def _proof(peer: Peer, seen: Seen, now: UnixMillis) -> Proof | Denied | None:
    if not peer.proof:
        return None
    made = read_proof(peer.proof, method="POST", urls=peer.urls, now=now, began=seen.began)
    return _as(made, "invalid-dpop-proof") if isinstance(made, Denied) else made


def _actor(context: Context, asked: Mapping[str, str], peer: Peer, proof: Proof | None, now: UnixMillis) -> VerifiedPrincipal | Denied:
    """Step 1."""
    bundle = context.facts.bundle
    assert bundle is not None
    groups_of = context.facts.groups_of
    by_certificate = verify_x509(peer.chain, bundle, now, groups_of=groups_of) if peer.chain else None
    if isinstance(by_certificate, Denied):
        return _as(by_certificate, "invalid-client")
    if "actor_token" in asked:
        said = read_jwt(asked["actor_token"], bundle, service_id(context.trust_domain), now)
        if isinstance(said, Denied):
            return _as(said, "invalid-client")
        made = _holder(context, said, peer, proof, now)
        if isinstance(made, Denied):
            return _as(made, "invalid-client")
        if by_certificate is not None and by_certificate.principal.id != made.principal.id:
            return Denied(code="invalid-client", reason="certificate and actor token name different callers", remedy="use one identity")
        return made if by_certificate is None else by_certificate
    if by_certificate is not None or peer.local is not None:
        return by_certificate or peer.local  # type: ignore[return-value]
    return Denied(
        code="invalid-client",
        reason="nobody proved to be who acts",
        remedy="connect with an X.509-SVID, or send `actor_token` for the service",
    )


def _holder(context: Context, said: JwtFacts, peer: Peer, proof: Proof | None, now: UnixMillis) -> VerifiedPrincipal | Denied:
    """Whoever holds a token of ours: where it is bound, its certificate or key must be here."""
    return presented(
        said,
        thumbprint=thumbprint_of(peer.chain[0]) if peer.chain else "",
        jkt=proof.jkt if proof is not None and said.beyond.cnf_jkt else "",
        bearer=True,
        now=now,
        groups_of=context.facts.groups_of,
    )


def target(context: Context, asked: Mapping[str, str]) -> Endpoint | Denied:
    """The one endpoint that the token is for (RFC 8707, section 2)."""
    named = {asked[name] for name in ("resource", "audience") if name in asked}
    if len(named) != 1:
        return Denied(code="invalid-target", reason="name exactly one endpoint", remedy="send `resource` (or `audience`) with its id")
    (name,) = named
    found = context.facts.endpoints.get(name) or context.facts.endpoints.get(f"vg://{context.trust_domain}/endpoint/{name}")
    if found is None and name.startswith("https://"):
        port = context.place.gateway.rpartition(":")[2]
        authority = context.settings.gateway.hosts[0] + ("" if port in {"", "443"} else f":{port}")
        known = [one for one in context.facts.endpoints.values() if canonical_uri(one, authority) == name]
        found = known[0] if len(known) == 1 else None
    if found is None:
        return Denied(code="invalid-target", reason=f"there is no endpoint `{name[:160]}`", remedy="`vouchgate status` lists them")
    return found


def _subject(
    context: Context, asked: Mapping[str, str], actor: VerifiedPrincipal, peer: Peer, proof: Proof | None, now: UnixMillis
) -> tuple[VerifiedPrincipal, tuple[PutRecord, ...]] | Denied:
    """Step 2, and what of it is used up with the commit."""
    kind, text = asked["subject_token_type"], asked["subject_token"]
    if kind.startswith(FOREIGN_PREFIX):
        name, _, source = kind.removeprefix(FOREIGN_PREFIX).partition("/")
        found = attested_by(context, name, source, {"token": text}, now)
        return _as(found, "invalid-grant") if isinstance(found, Denied) else found
    if kind not in OWN_TYPES:
        return Denied(
            code="invalid-request",
            reason=f"`{kind[:80]}` is not a type of token here",
            remedy=f"use `{JWT_TYPE}` or `{FOREIGN_PREFIX}<attestor>`",
        )
    bundle, own = context.facts.bundle, context.facts.registration_of(actor.principal.id, now)
    assert bundle is not None
    said = read_jwt(text, bundle, service_id(context.trust_domain), now)
    if not isinstance(said, Denied):
        made = _holder(context, said, peer, proof, now)
        return _as(made, "invalid-grant") if isinstance(made, Denied) else (made, ())
    if said.code == "jwt-audience" and own is not None and own.endpoint:
        received = read_jwt(text, bundle, own.endpoint, now)
        if not isinstance(received, Denied):
            # the gateway held its caller to certificate or key when it passed the request on; the actor is who it was passed on to
            return _received(context, received, now), ()
        said = received
    return _as(said, "invalid-grant")


def _received(context: Context, said: JwtFacts, now: UnixMillis) -> VerifiedPrincipal:
    made = presented(said, thumbprint=said.cnf_x5t, jkt=said.beyond.cnf_jkt, bearer=True, now=now, groups_of=context.facts.groups_of)
    assert not isinstance(made, Denied)
    return made


def narrowed(
    context: Context, asked: Mapping[str, str], subject: VerifiedPrincipal, actor: VerifiedPrincipal, endpoint: Endpoint, now: UnixMillis
) -> VerifiedPrincipal | Denied:
    """Step 3."""
    try:
        scopes = parse_scopes(asked["scope"]) if "scope" in asked else subject.scopes
    except InvalidInput as error:
        return Denied(code="invalid-scope", reason=error.reason, remedy=error.remedy)
    wanted = asked.get("expires_in", str(context.settings.sts.token_seconds))
    seconds = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 10 else 0
    if seconds < MIN_SECONDS:
        return Denied(code="invalid-request", reason=f"a life of {seconds} s is too short", remedy=f"ask for {MIN_SECONDS} s or more")
    names = {str(endpoint.id).rpartition("/")[2], *(target.rpartition("/")[2] for target in endpoint.models.values())}
    if not scopes or not within(scopes, subject.scopes) or not within(scopes, actor.scopes):
        return Denied(
            code="invalid-scope", reason="the scope is missing, or wider than a credential that it is to come from", remedy="ask for less"
        )
    if any(place and place.partition("/")[0] not in names for place in (scope.partition(":")[2] for scope in scopes)):
        return Denied(code="invalid-scope", reason="a scope names another endpoint than the token is for", remedy=f"name {min(names)}")
    lives = [seconds, context.settings.sts.token_seconds]
    for who in (subject.principal.id, *subject.actors, actor.principal.id):
        known = context.facts.registrations.get(who)
        if known is not None and context.facts.registration_of(who, now) is None:
            return Denied(
                code="invalid-grant", reason=f"the registration of `{who}` has ended", remedy="register it again, or log in again"
            )
        lives += [(known.expires_at - now) // 1000] if known is not None and known.expires_at else []
        lives += [known.jwt_ttl_seconds] if known is not None and who in {subject.principal.id, actor.principal.id} else []
    made = delegated(subject, actor, scopes=scopes, not_after=UnixMillis(now + 1000 * min(lives)))
    if isinstance(made, Denied):
        return _as(made, "invalid-grant")
    if len(made.actors) > context.settings.sts.max_depth:
        return Denied(code="invalid-grant", reason=f"the chain would have {len(made.actors)} hands", remedy="go back a hand")
    return made


def _revoked(context: Context, subject: VerifiedPrincipal, actor: VerifiedPrincipal, chain: VerifiedPrincipal) -> Denied | None:
    """Step 4."""
    runs = [one.binding.run for one in (subject, actor) if one.binding and one.binding.run]
    if any(run not in context.facts.runs or not context.facts.runs[run].alive(context.clock.now()) for run in runs):
        return Denied(code="invalid-grant", reason="the run that a credential is bound to has ended", remedy="begin a new run")
    for one in (subject, actor, chain):
        found = struck(one, context.facts)
        if found is not None:
            return Denied(code="invalid-grant", reason=f"`{found.target}` was revoked: {found.reason}", remedy="ask a responder")
    return None


def decided(context: Context, chain: VerifiedPrincipal, endpoint_id: str) -> Decision | None:
    """Step 5: the decision that refuses, or None."""
    depth: dict[str, Any] = {"depth": len(chain.actors)} | ({"actor": chain.actors[0]} if chain.actors else {})
    asked = [(chain, depth)]
    asked += [(one, depth | {"on_behalf_of": chain.principal.id}) for one in acting(chain, groups_of=context.facts.groups_of)]
    now = context.clock.now()
    for who, known in asked:
        made = context.facts.decide(who, "exchange", endpoint_id, now, facts=known, mode="enforce")
        if made.effect != "allow" or made.would_be != "allow":
            return made
    return None


def _bound(peer: Peer, proof: Proof | None, *, by_certificate: bool) -> dict[str, str] | Denied:
    """Step 6."""
    if by_certificate:
        return {"cnf_x5t": thumbprint_of(peer.chain[0])}
    if proof is None:
        return Denied(
            code="invalid-request", reason="a token that is handed on is bound to a key", remedy="send a DPoP proof, or connect with mTLS"
        )
    return {"cnf_jkt": proof.jkt}


async def issue(
    context: Context, chain: VerifiedPrincipal, audience: str, bound: Mapping[str, str], peer: Peer, used: Sequence[PutRecord] = ()
) -> Exchanged | Denied:
    """Step 7."""
    now = context.clock.now()
    run = context.facts.runs.get(chain.binding.run) if chain.binding and chain.binding.run else None
    until = min(chain.not_after, run.not_after if run else chain.not_after)
    seconds = (until - now) // 1000
    if seconds < MIN_SECONDS:
        return Denied(code="invalid-grant", reason="what the token is to come from ends too soon", remedy="fetch fresh credentials first")
    said = await context.signer.call(
        "jwt_svid",
        principal=chain.principal.id,
        audience=audience,
        ttl_seconds=seconds,
        actors=list(chain.actors),
        scopes=list(chain.scopes or ()),
        parents=list(chain.parents),
        **({"binding": _plain(chain)} if chain.binding else {}),
        **bound,
    )
    change = CredentialIssued(
        id=said["jti"],
        principal=chain.principal.id,
        kind="jwt",
        not_after=UnixMillis(said["expires_at"]),
        audience=audience,
        run=run.id if run else "",
        parents=chain.parents,
        actors=chain.actors,
    )
    entry = _entry(context, said["jti"], audience, peer, chain)
    try:
        await context.sequencer.submit(f"sts:{chain.principal.id}", [change], [entry], steps=used)
    except Conflict as error:
        # evidence that was used, or what it rests on was revoked while it was signed
        return Denied(code="invalid-grant", reason=error.reason, remedy=error.remedy)
    late = struck(chain, context.facts, run) or context.facts.revocation_of(chain.principal.id, said["jti"])
    if late is not None:
        return Denied(code="invalid-grant", reason=f"`{late.target}` was revoked: {late.reason}", remedy="ask a responder")
    return Exchanged(
        access_token=said["token"],
        token_type="DPoP" if "cnf_jkt" in bound else "Bearer",
        expires_in=seconds,
        scope=" ".join(chain.scopes or ()),
    )


def _plain(chain: VerifiedPrincipal) -> dict[str, str]:
    binding = chain.binding
    assert binding is not None
    return {name: value for name in binding.__struct_fields__ if (value := getattr(binding, name))}


async def record_refusal(context: Context, peer: Peer, denied: Denied, *, service: str = SERVICE) -> None:
    """One entry."""
    await context.sequencer.append(f"sts:{peer.address}", [_entry(context, "", "", peer, denied, service=service)])


async def _record_decision(context: Context, decision: Decision) -> None:
    await context.sequencer.append(f"sts:{decision.principal}", [Append(entry=ocsf.decision(decision), label=decision.id)])


def _entry(context: Context, jti: str, audience: str, peer: Peer, who: VerifiedPrincipal | Denied, *, service: str = SERVICE) -> Append:
    ok = isinstance(who, VerifiedPrincipal)
    chain = " for ".join((*who.actors, who.principal.id)) if isinstance(who, VerifiedPrincipal) else ""
    reason = f"`{chain}` at {audience}" if isinstance(who, VerifiedPrincipal) else f"{who.code}: {who.reason}"
    entry = ocsf.authentication(
        context.trust_domain,
        uid=jti or secrets.token_hex(16),
        principal=who.principal.id if isinstance(who, VerifiedPrincipal) else "",
        credential_kind="jwt",
        credential_id=jti,
        service=service,
        ok=ok,
        reason=reason[:1000],
        peer=peer.address,
        now=context.clock.now(),
    )
    return Append(entry=entry, label=jti)


def _as(denied: Denied, code: str) -> Denied:
    return Denied(code=code, reason=denied.reason, remedy=denied.remedy)
