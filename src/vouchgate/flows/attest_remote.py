"""A workload elsewhere earns an identity by evidence of somebody whom the settings trust: CI, a cluster, a cloud, another trust domain.

1. The source of trust is the one that vouchgate.toml names; its keys are those that were recorded, never any that come along.
2. The attestor establishes selectors; they earn one registration. Persons log in, vouchgate's own processes and claims are never earned.
3. Evidence is used once: that it was is part of the commit of what it earned, so a restart or a race changes nothing.
4. Whoever asks proves that it holds the key: a DPoP proof by it, for this address, over a nonce that was made for this one attempt.
5. A standing revocation of the principal refuses; so does a clock in trouble. A certificate, or a token that is bound to the key, is given out
   after its id is durable.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.audit import ocsf
from vouchgate.flows.changes import CredentialIssued, SourcePut
from vouchgate.flows.context import Context
from vouchgate.flows.register import JOIN
from vouchgate.flows.workload_matching import NOT_EARNED_KINDS
from vouchgate.identity.attested import JoinToken, Trust
from vouchgate.identity.catalog import attest, attestors, match
from vouchgate.identity.dpop import Seen, read_proof, thumbprint
from vouchgate.identity.verify import attested
from vouchgate.vocabulary.base64url import b64
from vouchgate.vocabulary.errors import Conflict, InvalidInput, Unavailable
from vouchgate.vocabulary.names import principal_parts, resource
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, VerifiedPrincipal
from vouchgate.vocabulary.records import Append, DeleteRecord, PutRecord
from vouchgate.vocabulary.settings import StsSourceSettings
from vouchgate.vocabulary.sources import SourceKind, TrustSource
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

MAX_NONCES = 10_000
"""Nonces of digits that wait at once; a further one ends the oldest, which had half a minute even if all that the service answers were these."""
MAX_USED_NONCES = 100_000
"""Used nonces that are remembered until their end; each costs its user a signature."""
USED, USED_INDEX = "used-evidence", "until-hour"
"""Records of evidence that was used, and the hour in which it ends by itself."""
FORGET_HOURS = 48
HOUR_MS = 3_600_000
NONCE_MS = 300_000
"""Life of a nonce: time to have a cloud sign something over it."""
EVIDENCE_MS = 300_000
"""Evidence without an end of its own counts so long as a credential."""
KEEP_MS = 400 * 86_400_000
"""How long evidence that never ends is remembered as used."""
SERVICE = "attest"


class AttestRequest(Noun, frozen=True, kw_only=True):
    """POST /attest"""

    attestor: str
    source: str = ""
    """Name of the source in vouchgate.toml, where the attestor has several."""
    evidence: dict[str, str]
    nonce: str
    form: Literal["x509", "jwt"] = "x509"
    audience: str = ""
    """For `jwt`: an endpoint's id, or the token service's."""
    spki: str
    """Base64 of the DER SubjectPublicKeyInfo of a P-256 key."""


class Nonces:
    """Single-use numbers, made for one attempt each. Belongs to one thread.

    A nonce of text holds its own end under a key that lives as long as this process, so that asking for many takes no room here; only used ones
    are remembered. One of digits is too short for that: those that wait are kept, within a bound.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._used: OrderedDict[str, int] = OrderedDict()
        self._digits: OrderedDict[str, int] = OrderedDict()

    def make(self, now: UnixMillis, *, digits: bool = False) -> str:
        """A new one."""
        if not digits:
            head = (now + NONCE_MS).to_bytes(6, "big") + secrets.token_bytes(9)
            return base64.urlsafe_b64encode(head + self._mac(head)).decode()
        _forget(self._digits, now)
        if len(self._digits) >= MAX_NONCES:
            self._digits.popitem(last=False)
        nonce = f"{secrets.randbelow(10**10):010d}"
        self._digits[nonce] = now + NONCE_MS
        return nonce

    def holds(self, nonce: str, now: UnixMillis) -> bool:
        """Whether it was made here, counts still and was not used."""
        if nonce in self._digits:
            return self._digits[nonce] > now
        try:
            raw = base64.b64decode(nonce.encode("ascii"), b"-_", validate=True)
        except ValueError:
            return False
        head, mac = raw[:15], raw[15:]
        return (
            len(raw) == 30
            and hmac.compare_digest(mac, self._mac(head))
            and int.from_bytes(head[:6], "big") > now
            and nonce not in self._used
        )

    def use(self, nonce: str, now: UnixMillis) -> bool:
        """Use one up; whether it held. A memory that is full refuses."""
        _forget(self._used, now)
        if not self.holds(nonce, now) or len(self._used) >= MAX_USED_NONCES:
            return False
        if self._digits.pop(nonce, 0) == 0:
            self._used[nonce] = now + NONCE_MS
        return True

    def _mac(self, head: bytes) -> bytes:
        return hmac.digest(self._key, head, "sha256")[:15]


def _forget(until: OrderedDict[str, int], now: UnixMillis) -> None:
    while until and next(iter(until.values())) <= now:
        until.popitem(last=False)


async def forget_used(context: Context) -> int:
    """Remove what evidence left behind whose end is over: it is refused by its own time from there on. How many records went."""
    now = context.clock.now()
    gone = 0
    for hour in range(now // HOUR_MS - FORGET_HOURS, now // HOUR_MS):
        page = context.store.scan(USED, index=USED_INDEX, equals=str(hour), limit=1_000)
        if page:
            await context.sequencer.append("system:evidence", [], steps=[DeleteRecord(kind=USED, key=record.key) for record in page])
        gone += len(page)
    return gone


def trust_of(context: Context, name: str, source: str) -> Trust | Denied:
    """Step 1."""
    facts = context.facts
    if name == "join-token":
        return Trust(trust_domain=facts.trust_domain, join_tokens=_join_tokens(context))
    found = [one for one in context.settings.sts.sources if one.attestor == name and source in ("", one.name)]
    if len(found) != 1:
        return Denied(
            code="no-source",
            reason=f"{len(found) or 'no'} sources of `{name[:64]}` evidence fit",
            remedy="name one of [[sts.sources]] in vouchgate.toml",
        )
    return _trust(context, found[0])


def _trust(context: Context, source: StsSourceSettings) -> Trust | Denied:
    fetched = [f"source:{source.name}"] if source.keys_url else [source.name, f"federation:{source.name}"]
    recorded = next((one for name in fetched if (one := context.facts.sources.get(name)) is not None), None)
    # a partner's keys speak for its own trust domain, never for another that a source of that name is said to stand for
    if recorded is None or not recorded.keys or (recorded.kind == "spiffe" and recorded.issuer != source.issuer):
        return Denied(
            code="no-source",
            reason=f"no keys of `{source.name}` are recorded",
            remedy="set its `keys_file` or `keys_url`, or wait for its keys",
        )
    authorities = certificates(recorded.keys) if recorded.kind == "x509" else ()
    return Trust(
        name=source.name,
        trust_domain=context.trust_domain,
        issuer=source.issuer,
        audience=source.audience or address(context),
        keys=b"" if authorities else recorded.keys,
        authorities=authorities,
        host=source.host,
        max_age_seconds=source.max_age_seconds,
        required=source.required,
        optional=source.optional,
        ignored=source.ignored,
    )


async def bring_source_keys(context: Context, keys: Mapping[str, bytes]) -> None:
    """Record the keys of [[sts.sources]] that come from files, where they differ from what is recorded. Raises `InvalidInput`."""
    for source in context.settings.sts.sources:
        if source.name not in keys:
            continue
        pem = keys[source.name].lstrip().startswith(b"-----BEGIN CERTIFICATE")
        kind: SourceKind = "x509" if pem else "spiffe" if source.attestor.startswith("spiffe") else "oidc"
        made = _from_pem(keys[source.name], source.name) if pem else keys[source.name]
        old = context.facts.sources.get(source.name)
        if old is not None and (old.kind, old.issuer, old.keys) == (kind, source.issuer, made):
            continue
        put = TrustSource(
            name=source.name,
            kind=kind,
            issuer=source.issuer,
            keys=made,
            sequence=old.sequence + 1 if old else 1,
            fetched_at=context.clock.now(),
        )
        entry = ocsf.act(
            context.trust_domain,
            uid=secrets.token_hex(16),
            who="system:settings",
            verb="record-keys",
            resource=resource(context.trust_domain, "system", "control"),
            outcome="done",
            detail={"source": source.name, "sha256": hashlib.sha256(made).hexdigest(), "sequence": put.sequence},
            now=context.clock.now(),
        )
        await context.sequencer.submit("system:settings", [SourcePut(source=put)], [Append(entry=entry)])


def _from_pem(pem: bytes, name: str) -> bytes:
    try:
        return b"".join(one.public_bytes(serialization.Encoding.DER) for one in x509.load_pem_x509_certificates(pem))
    except (ValueError, x509.InvalidVersion):
        raise InvalidInput(f"the keys file of `{name}` holds no certificates", remedy="write CA certificates as PEM") from None


def certificates(keys: bytes) -> tuple[bytes, ...]:
    """DER values that stand one after the other, taken apart (X.690, section 8.1.3). Raises `InvalidInput`."""
    found: list[bytes] = []
    while keys:
        octets = keys[1] - 0x80 if len(keys) > 1 and keys[1] >= 0x80 else 0
        size = 2 + octets + (int.from_bytes(keys[2 : 2 + octets], "big") if octets else keys[1] if len(keys) > 1 else 0)
        if keys[0] != 0x30 or octets > 3 or size > len(keys):
            raise InvalidInput("the recorded certificates cannot be taken apart", remedy="record them again")
        found.append(keys[:size])
        keys = keys[size:]
    return tuple(found)


def address(context: Context) -> str:
    """How others reach the token service."""
    return context.settings.sts.url.rstrip("/") or f"https://{context.settings.sts.hosts[0]}:{context.place.sts.rpartition(':')[2]}"


def _join_tokens(context: Context) -> tuple[JoinToken, ...]:
    waiting = [(key.removeprefix(JOIN), value) for key, value in context.facts.settings.items() if key.startswith(JOIN) and value]
    ends = [(sha256, value.split()[-1]) for sha256, value in waiting]
    return tuple(JoinToken(sha256=sha256, expires_at=UnixMillis(int(until))) for sha256, until in ends if until.isdigit())


def attested_by(
    context: Context, name: str, source: str, evidence: Mapping[str, Any], now: UnixMillis, *, nonce: str = ""
) -> tuple[VerifiedPrincipal, tuple[PutRecord, ...]] | Denied:
    """Steps 1 to 3: who the evidence is for, and what uses it up when it is committed with what it earned."""
    if name not in attestors() or attestors()[name].kind != "presented":
        return Denied(code="no-source", reason=f"`{name[:64]}` takes no evidence", remedy="use an attestor of [[sts.sources]]")
    trust = trust_of(context, name, source)
    if isinstance(trust, Denied):
        return trust
    established = attest(name, evidence, trust, now, nonce)
    if isinstance(established, Denied):
        return established
    candidates = [one for one in context.facts.registrations.values() if one.selectors and _earnable(one)]
    earned = match(established.selectors, candidates, now)
    if isinstance(earned, Denied):
        return earned
    key = established.replay_key or hashlib.sha256(repr(sorted(evidence.items())).encode()).hexdigest()
    end = established.expires_at or now + KEEP_MS
    until = min(x for x in (end, earned.expires_at or end, now + EVIDENCE_MS))
    # The key names the issuer or the instance: two sources of one issuer, or two attestors that read one token, count as one use.
    digest = hashlib.sha256(f"evidence\0{key}".encode()).hexdigest()
    hour = {USED_INDEX: str(end // HOUR_MS + 1)}
    used = PutRecord(kind=USED, key=digest, value=str(end).encode(), indexes=hour, must_be_new=True)
    return attested(earned, f"evidence-{digest[:32]}", UnixMillis(until), now), (used,)


def _earnable(registration: Registration) -> bool:
    """Step 2."""
    return principal_parts(registration.principal).kind not in NOT_EARNED_KINDS


async def attest_remote(
    context: Context, request: AttestRequest, *, proof: str, urls: tuple[str, ...], nonces: Nonces, seen: Seen, peer: str
) -> dict[str, Any] | Denied:
    """Steps 1 to 5. Raises `Unavailable` while nothing is issued."""
    if context.clock.trouble:
        raise Unavailable(f"nothing is issued: {context.clock.trouble}", remedy="set the clock right, then `vouchgate admin accept-clock`")
    now = context.clock.now()
    spki = _held_key(request, proof, urls, nonces, seen, now)  # 4
    if isinstance(spki, Denied):
        return spki
    found = attested_by(context, request.attestor, request.source, request.evidence, now, nonce=request.nonce)
    if isinstance(found, Denied):
        return found
    caller, used = found
    revocation = context.facts.revocation_of(caller.principal.id)  # 5
    if revocation is not None:
        return Denied(code="access-denied", reason=f"`{revocation.target}` was revoked: {revocation.reason}", remedy="ask a responder")
    return await _issue(context, request, caller, used, spki, peer)


def _held_key(request: AttestRequest, proof: str, urls: tuple[str, ...], nonces: Nonces, seen: Seen, now: UnixMillis) -> bytes | Denied:
    """Step 4."""
    if not nonces.holds(request.nonce, now):
        return Denied(code="invalid-nonce", reason="the nonce is unknown, used or too old", remedy="GET /nonce, then try again")
    try:
        spki = base64.b64decode(request.spki, validate=True)
        key = serialization.load_der_public_key(spki)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("curve")
    except Exception:  # the reader has error types of several unrelated families, and all of them mean this
        return Denied(code="invalid-request", reason="`spki` is not a P-256 key", remedy="send base64 of its DER SubjectPublicKeyInfo")
    held = read_proof(proof, method="POST", urls=urls, now=now, began=seen.began, nonce=request.nonce)
    spent = held if isinstance(held, Denied) else seen.take(held, now)
    if spent is not None:
        return Denied(code="invalid-dpop-proof", reason=spent.reason, remedy="sign the nonce with the key that is to be certified")
    assert not isinstance(held, Denied)
    if held.jkt != _jkt(spki):
        return Denied(code="invalid-dpop-proof", reason="the proof is by another key", remedy="sign the nonce with the key of `spki`")
    if not nonces.use(request.nonce, now):
        return Denied(code="invalid-nonce", reason="the nonce was used", remedy="GET /nonce, then try again")
    return spki


async def _issue(
    context: Context, request: AttestRequest, caller: VerifiedPrincipal, used: tuple[PutRecord, ...], spki: bytes, peer: str
) -> dict[str, Any] | Denied:
    now = context.clock.now()
    name, registration = caller.principal.id, context.facts.registrations[caller.principal.id]
    left = (registration.expires_at - now) // 1000 if registration.expires_at else 86_400
    if request.form == "x509":
        said = await context.signer.call(
            "x509_svid", spki=spki, principal=name, ttl_seconds=min(registration.svid_ttl_seconds, left), dns=list(registration.dns)
        )
        identity, until = said["serial"], said["not_after"]
    else:
        if request.audience != f"vg://{context.trust_domain}/system/sts" and request.audience not in context.facts.endpoints:
            return Denied(
                code="invalid-target", reason="the audience is no endpoint", remedy="name an endpoint's id, or the token service's"
            )
        jwk = _jkt(spki)
        said = await context.signer.call(
            "jwt_svid", principal=name, audience=request.audience, ttl_seconds=min(registration.jwt_ttl_seconds, left), cnf_jkt=jwk
        )
        identity, until = said["jti"], said["expires_at"]
    change = CredentialIssued(id=identity, principal=name, kind=request.form, not_after=UnixMillis(until), audience=request.audience)
    entry = ocsf.authentication(
        context.trust_domain,
        uid=identity,
        principal=name,
        credential_kind=request.form,
        credential_id=identity,
        service=SERVICE,
        ok=True,
        reason=f"by {request.attestor} evidence {caller.credential_id}",
        peer=peer,
        now=now,
    )
    try:
        await context.sequencer.submit(f"sts:{name}", [change], [Append(entry=entry, label=identity)], steps=used)
    except Conflict:
        return Denied(code="invalid-grant", reason="this evidence was used before", remedy="fetch fresh evidence")
    if context.facts.revocation_of(name, identity) is not None:
        return Denied(code="access-denied", reason=f"`{name}` was revoked meanwhile", remedy="ask a responder")
    if request.form == "x509":
        return {"principal": name, "certificates": [base64.b64encode(der).decode() for der in said["chain"]], "not_after": until}
    return {"principal": name, "access_token": said["token"], "token_type": "DPoP", "not_after": until}


def _jkt(spki: bytes) -> str:
    key = serialization.load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput("the key is not an elliptic-curve key", remedy="send a P-256 key")
    numbers = key.public_numbers()
    x, y = (b64(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    return thumbprint({"x": x, "y": y})
