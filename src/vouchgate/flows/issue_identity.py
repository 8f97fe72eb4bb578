"""Give out a credential for a registered identity; the key was made by whoever will use it.

1. The act is decided. 2. The registration is made or changed where groups are named; otherwise it must be there. 3. A standing revocation of
the principal or its registration blocks issuing. 4. While the clock is in trouble nothing is issued. 5. The signer builds and signs; the
credential's id, never its secret, is recorded before it leaves. With a run, the credential is bound to it, ends with it, and is refused by the
sequence where the run ended meanwhile.
"""

from __future__ import annotations

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate.audit import ocsf
from vouchgate.flows import runs
from vouchgate.flows.administer import authorise
from vouchgate.flows.changes import CredentialIssued, RegistrationPut
from vouchgate.flows.context import Context
from vouchgate.flows.register import checked_groups, commit, require_roles
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import IdentityRequest, IssuedIdentity
from vouchgate.vocabulary.errors import InvalidInput, NotFound, NotPermitted, Unavailable
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, principal, principal_parts, resource
from vouchgate.vocabulary.principals import Registration, svid_seconds
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.vouches import UnixMillis

NOT_ISSUED_KINDS = frozenset({"system", "declared"})
"""Kinds of principal that nobody can ask a credential for."""


async def issue_identity(context: Context, caller: Caller, request: IdentityRequest) -> IssuedIdentity:
    """Steps 1 to 5. Raises `NotPermitted`, `NotFound`, `InvalidInput`, `Unavailable`."""
    await authorise(context, caller, "issue-identity")
    if request.kind in NOT_ISSUED_KINDS:
        raise InvalidInput(
            f"nobody is given a credential of kind `{request.kind}`", remedy="use person, service, job, step, server, notebook or agent"
        )
    name = principal(context.trust_domain, request.kind, request.zone, request.name)
    who = caller.principal.principal.id
    registration = context.facts.registration_of(name, context.clock.now())
    if registration is not None:
        require_roles(context, caller, registration.groups, "speak for whoever holds it")
    if request.groups is not None and (registration is None or registration.groups != request.groups):
        registration = await _register(context, caller, name, request.groups, registration)
    if registration is None:
        raise NotFound(f"`{name}` is not registered", remedy="name its groups to register it, for example `--group callers`")
    revocation = context.facts.revocation_of(name)
    if revocation is not None:
        raise NotPermitted(
            f"`{name}` is revoked: {revocation.reason}", remedy=f"another person may undo it: `vouchgate revoke --undo {revocation.id}`"
        )
    run = runs.going_on(context, request.run, name) if request.run else None
    if context.clock.trouble:
        raise Unavailable(f"nothing is issued: {context.clock.trouble}", remedy="set the clock right, then `vouchgate admin accept-clock`")
    issued = await (_x509(context, registration, request, run) if request.form == "x509" else _jwt(context, registration, request, run))
    change = CredentialIssued(
        id=issued.credential_id, principal=name, kind=request.form, not_after=issued.not_after, audience=request.audience, run=request.run
    )
    entries = [
        Append(
            entry=ocsf.authentication(
                context.trust_domain,
                uid=issued.credential_id,
                principal=name,
                credential_kind=request.form,
                credential_id=issued.credential_id,
                service="issue-identity",
                ok=True,
                reason=f"issued to {who}",
                peer=caller.peer,
                now=context.clock.now(),
            ),
            label=issued.credential_id,
        )
    ]
    await context.sequencer.submit(who, [change], entries)
    return issued


async def _register(context: Context, caller: Caller, name: PrincipalId, groups: tuple[str, ...], old: Registration | None) -> Registration:
    require_roles(context, caller, checked_groups(groups), "give it")
    if old is not None:
        made = msgspec.structs.replace(old, groups=groups)
    else:
        made = Registration(
            principal=name,
            trust_domain=TrustDomain(context.trust_domain),
            groups=groups,
            svid_ttl_seconds=svid_seconds(principal_parts(name).kind),
            created_at=context.clock.now(),
        )
    await commit(context, caller, [RegistrationPut(registration=made)], "register", name, {"groups": list(groups)})
    return made


async def _x509(context: Context, registration: Registration, request: IdentityRequest, run: Run | None) -> IssuedIdentity:
    if not request.spki:
        raise InvalidInput("a certificate needs a public key", remedy="send the public half of a P-256 key")
    seconds = runs.within(run, request.ttl_seconds or registration.svid_ttl_seconds, context.clock.now())
    said = await context.signer.call(
        "x509_svid", spki=request.spki, principal=registration.principal, ttl_seconds=seconds, dns=[], **runs.bound(run)
    )
    return IssuedIdentity(
        principal=registration.principal,
        form="x509",
        certificates=_pem(said["chain"]),
        bundle=bundle_pem(context),
        credential_id=said["serial"],
        not_after=UnixMillis(said["not_after"]),
        groups=registration.groups,
    )


async def _jwt(context: Context, registration: Registration, request: IdentityRequest, run: Run | None) -> IssuedIdentity:
    endpoints = {one.id.rpartition("/")[2]: one.id for one in context.facts.endpoints.values()}
    service = resource(context.trust_domain, "system", "sts")
    audience = service if request.audience == "sts" else endpoints.get(request.audience, request.audience)
    if audience not in context.facts.endpoints and audience != service:
        raise NotFound(
            f"there is no endpoint `{request.audience[:160]}`", remedy=f"use one of {', '.join(sorted(endpoints)) or 'none yet'}"
        )
    seconds = runs.within(run, request.ttl_seconds or registration.jwt_ttl_seconds, context.clock.now())
    said = await context.signer.call(
        "jwt_svid", principal=registration.principal, audience=audience, ttl_seconds=seconds, **runs.bound(run)
    )
    return IssuedIdentity(
        principal=registration.principal,
        form="jwt",
        bundle=bundle_pem(context),
        token=said["token"],
        credential_id=said["jti"],
        not_after=UnixMillis(said["expires_at"]),
        groups=registration.groups,
    )


def bundle_pem(context: Context) -> str:
    """The trust domain's CAs."""
    return _pem(context.facts.bundle.x509_authorities) if context.facts.bundle else ""


def _pem(chain: tuple[bytes, ...] | list[bytes]) -> str:
    return "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in chain)
