"""Who a request is for when its token says more than the plain claims, and whether everybody in the chain may do it.

1. The token is read whole, with the verifier's own bundle; it must be the one that the gateway verified.
2. A token that is bound to a key comes with a proof by that key, for this request, used for the first time (RFC 9449, section 7).
3. A run that the credential is bound to must be known, go on, and have declared what the credential says.
4. A standing revocation of anybody in the chain, of the credential, of one that it was made from, or of the run ends it.
5. The scope must cover the act; what no scope names is refused before any policy is asked.
6. The subject and every actor are decided by themselves, each knowing of the other; one no is a no (RFC 8693, section 1.1: the actor keeps
   its own identity). What one of them owes is owed.
Left to others: the gateway's own checks, and how a no is told (admit_request.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from vouchgate.flows.facts import Facts
from vouchgate.identity.dpop import Proof, Seen, normal_url, read_proof
from vouchgate.identity.jwtsvid import read_jwt
from vouchgate.identity.scopes import covers
from vouchgate.identity.verify import acting, presented
from vouchgate.policy.obligations import EVERY, strictest
from vouchgate.vocabulary.decisions import Decision, Mode
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import VerifiedPrincipal
from vouchgate.vocabulary.requests import Request
from vouchgate.vocabulary.runs import Run, inputs_digest
from vouchgate.vocabulary.settings import Settings, host_port
from vouchgate.vocabulary.vouches import Revocation, UnixMillis


@dataclass(frozen=True)
class Proofs:
    """What proofs of possession are held against."""

    seen: Seen
    origins: tuple[str, ...]
    """Where callers reach the gateway: scheme, host and port."""


def gateway_origins(settings: Settings, gateway: str, plain: str = "") -> tuple[str, ...]:
    """The gateway's own addresses, unless the settings name others."""
    if settings.sts.gateway_urls:
        return settings.sts.gateway_urls
    places = [("https", gateway), *([("http", plain)] if plain else [])]
    return tuple(f"{scheme}://{_bracketed(host)}:{host_port(place)[1]}" for scheme, place in places for host in settings.gateway.hosts)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def read_whole(
    request: Request, facts: Facts, now: UnixMillis, *, bearer: bool, proofs: Proofs | None
) -> tuple[VerifiedPrincipal, Proof | None] | Denied:
    """Steps 1 and 2, but for using the proof up (`use_proof`), which comes last so that nobody spends another's."""
    scheme, _, token = request.authorization.partition(" ")
    if scheme not in ("Bearer", "DPoP") or not token or facts.bundle is None:
        return Denied(code="token-unread", reason="the token did not come along to be read", remedy="send it in `Authorization` alone")
    said = read_jwt(token, facts.bundle, request.endpoint, now)  # 1
    if isinstance(said, Denied):
        return said
    if (said.principal, said.jti) != (request.subject, request.token_id):
        return Denied(code="token-differs", reason="the gateway verified another token than the one it passed on", remedy="send one token")
    proof: Proof | None = None
    if scheme == "DPoP":  # 2
        if proofs is None:
            return Denied(code="dpop-unavailable", reason="proofs of possession cannot be checked here", remedy="use a bound certificate")
        read = read_proof(
            request.dpop, method=request.method, urls=_urls(request, proofs.origins), now=now, began=proofs.seen.began, token=token
        )
        if isinstance(read, Denied):
            return read
        proof = read
    found = presented(
        said,
        san=request.san,
        serial=request.serial,
        thumbprint=request.fingerprint,
        jkt=proof.jkt if proof else "",
        bearer=bearer,
        now=now,
        groups_of=facts.groups_of,
    )
    return found if isinstance(found, Denied) else (found, proof)


def use_proof(proof: Proof | None, proofs: Proofs | None, now: UnixMillis) -> Denied | None:
    """Step 2's end."""
    return proofs.seen.take(proof, now) if proof is not None and proofs is not None else None


def _urls(request: Request, origins: Collection[str]) -> set[str]:
    """This request's address under each of our origins with the host that it named; the gateway drops the port, so the origins say it."""
    path = request.path.partition("?")[0]
    made = {normal_url(origin.rstrip("/") + path) for origin in origins}
    hosts = (f"://{_bracketed(request.host.lower())}:", f"://{_bracketed(request.host.lower())}/")
    return {url for url in made if url and any(host in url for host in hosts)}


def run_of(caller: VerifiedPrincipal, serial: str, facts: Facts, now: UnixMillis) -> Run | Denied | None:
    """Step 3: the run that the credential, or the certificate beside it, is bound to."""
    binding = caller.binding
    named = binding.run if binding else ""
    known = {target for one in (caller.credential_id, serial) if one for kind, target in facts.credentials.grounds(one) if kind == "run"}
    if named:
        known.add(named)
    if not known:
        return None
    if len(known) > 1:
        return Denied(
            code="run-differs", reason="the credential is bound to one run and names another", remedy="present one credential of one run"
        )
    run = facts.runs.get(min(known))
    if run is None or not run.alive(now):
        return Denied(code="run-ended", reason="the run that the credential is bound to has ended", remedy="begin a new run")
    if binding is not None and named:
        said = (binding.zone, binding.stage, binding.inputs)
        if run.principal not in (caller.principal.id, *caller.actors) or said != (run.zone, run.stage, inputs_digest(run.inputs)):
            return Denied(code="run-differs", reason="the credential is not what its run was given", remedy="begin a new run")
    return run


def run_facts(run: Run | None, facts: Facts, name: str) -> dict[str, Any]:
    """What a policy is told of the run: `declared`, whether what is asked for is among its declared inputs; `purpose`, where one was given."""
    if run is None:
        return {}
    endpoint = facts.endpoints.get(name)
    asset = facts.assets.get(name)
    digest = endpoint.model_digest if endpoint else name.rpartition("/")[2] if "/artifact/" in name else asset.digest if asset else ""
    known = {"run": run.id, "stage": run.stage, "declared": bool(digest) and digest in run.inputs}
    return known | {"purpose": run.purpose} if run.purpose else known


def struck(caller: VerifiedPrincipal, facts: Facts, run: Run | None = None) -> Revocation | None:
    """Step 4."""
    for who in (caller.principal.id, *caller.actors):
        found = facts.revocation_of(who, caller.credential_id, run=run.id if run else "", parents=caller.parents)
        if found is not None:
            return found
    return None


def in_scope(caller: VerifiedPrincipal, action: str, *names: str) -> bool:
    """Step 5: `names` are the ids under which what is asked for is known; a tool is known as `<endpoint>.<tool>`."""
    if caller.scopes is None:
        return True
    endpoints = {name.rpartition("/")[2] for name in names if "/tool/" not in name}
    tools = [name.rpartition("/")[2] for name in names if "/tool/" in name]
    if not tools:
        return covers(caller.scopes, action, endpoints)
    within = {endpoint: tool.removeprefix(f"{endpoint}.") for endpoint in endpoints for tool in tools if tool.startswith(f"{endpoint}.")}
    return any(covers(caller.scopes, action, (endpoint,), tool) for endpoint, tool in within.items())


def decide_chain(
    facts: Facts, caller: VerifiedPrincipal, action: str, name: str, now: UnixMillis, *, known: dict[str, Any], mode: Mode
) -> tuple[Decision, str]:
    """Step 6: the joint decision, and what Cedar itself says against one of them, or nothing."""
    chain = {"depth": len(caller.actors), "actor": caller.actors[0]} if caller.actors else {}
    asked = [(caller, known | chain)]
    asked += [(actor, known | chain | {"on_behalf_of": caller.principal.id}) for actor in acting(caller, groups_of=facts.groups_of)]
    made = [(facts.decide(who, action, name, now, facts=told, mode=mode, carries=EVERY), who, told) for who, told in asked]
    mismatch = next((found for one, who, told in made if (found := facts.recheck(one, who, told))), "")
    return joined([one for one, _, _ in made], caller), mismatch


def joined(decisions: list[Decision], caller: VerifiedPrincipal) -> Decision:
    """One decision of many: the subject's, allowed only where every one is."""
    first = decisions[0]
    refused = [one for one in decisions if one.effect != "allow"]
    against = [one for one in decisions if one.would_be != "allow"]
    told = (refused or against or [first])[0]
    reason = told.reason
    if caller.actors and told.principal != caller.principal.id:
        reason = f"`{told.principal}`, acting for `{caller.principal.id}`: {reason}"
    elif caller.actors:
        reason = f"{reason} (`{caller.actors[0]}` acts for it)" if reason else ""
    return msgspec.structs.replace(
        first,
        effect="deny" if refused else "allow",
        would_be="deny" if against else "allow",
        residual=any(one.residual for one in decisions),
        actors=tuple(caller.actors),
        risk=max((one.risk for one in decisions), key=lambda risk: risk.value),
        determining=_each(one.determining for one in ([told] if against else decisions)),
        vouches_used=_each(one.vouches_used for one in decisions),
        waivers=_each(one.waivers for one in decisions),
        missing=_each(one.missing for one in decisions),
        errors=_each(one.errors for one in decisions),
        mode="enforce" if any(one.mode == "enforce" for one in decisions) else first.mode,
        obligations=() if against else strictest(owed for one in decisions for owed in one.obligations),
        reason=reason,
        remedy=told.remedy,
        not_after=min(one.not_after for one in decisions),
    )


def _each(lists: Any) -> tuple[Any, ...]:
    """Every item once, in order."""
    found: list[Any] = []
    for listed in lists:
        found += [one for one in listed if one not in found]
    return tuple(found)
