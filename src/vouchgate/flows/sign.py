"""The signer's story: a typed request in, bytes that the signer built itself out, under the key of exactly that purpose.

Rules
1. Nobody hands in bytes to be signed: every payload is built here from named fields, each required or optional by name.
2. One key a purpose: `x509-ca` with the issuers below it (flows/x509_authority.py), `jwt` (P-256), `log`, `policy`, and one for each producer's role (Ed25519). A role's key signs a vouch
   only of a predicate that the role may sign, so a request cannot borrow a stronger key.
3. Each purpose has its own uids (`Access`) and its own rate (`RATES`); who is refused is told, and told what to do.
4. A checkpoint of a smaller size, or of the same size with another root, is never signed; a policy version only rises. What was signed
   last is durable before the signature leaves (`Durable.save`), so a crash can only make the signer refuse more.
5. While the clock is in trouble nothing is issued; checkpoints go on, because the log must record the trouble.
6. No key, and no part of one, is ever in a return value, a message or an exception.
Left to others: whether the identity may be issued (the control plane decides first), key files and sockets (edges/processes/signer.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vouchgate.audit.checkpoints import MAX_SIZE, Checkpoint, log_verifier, signed_checkpoint
from vouchgate.audit.hashing import HASH_BYTES
from vouchgate.evidence.catalog import check_fits
from vouchgate.evidence.dsse import spki_of as ed25519_spki
from vouchgate.evidence.policystatement import PolicyStatement, sign_policy
from vouchgate.evidence.statement import sign_vouch
from vouchgate.evidence.waivers import WAIVER
from vouchgate.flows.sign_requests import (
    CheckpointRequest,
    JwtRequest,
    PolicyRequest,
    SetRequest,
    VouchRequest,
)
from vouchgate.flows.sign_x509 import Ticks, X509Purposes, no_params
from vouchgate.flows.x509_authority import ISSUER_SECONDS, Authority
from vouchgate.flows.x509_state import CaKeys, CaState, MemoryKeys
from vouchgate.identity.actors import Beyond
from vouchgate.identity.ca import spki_of as ec_spki
from vouchgate.identity.jwtsvid import issue_jwt
from vouchgate.identity.sets import our_claims, sign_set
from vouchgate.vocabulary.errors import Conflict, InvalidInput, LimitExceeded, NotPermitted, Unavailable, VouchgateError
from vouchgate.vocabulary.names import principal_id
from vouchgate.vocabulary.names import trust_domain as checked_trust_domain
from vouchgate.vocabulary.trust import PublicKey, key_id
from vouchgate.vocabulary.vouches import UnixMillis, Vouch
from vouchgate.vocabulary.wire import Noun, encode, from_plain, to_plain

T = TypeVar("T")
P = ParamSpec("P")
ROLES = ("scanner", "importer", "supervisor", "validator", "approver")
"""Producers, each with a key of its own."""
MAX_VOUCH_DAYS = 400
"""Days from now until a vouch's latest expiry: a year and the time to renew it."""
MAX_BACKDATE_MS = 60_000
"""Milliseconds by which a vouch may begin before it is signed."""
MAX_ORIGINS = 4
"""Logs that one signer signs for: its own and, after restores, those that continue it."""
RATES: dict[str, tuple[float, float]] = {
    "x509": (2_000.0, 4_000.0),
    "crl": (20.0, 100.0),
    "ca": (1.0, 20.0),
    "jwt": (2_000.0, 4_000.0),
    "set": (100.0, 1_000.0),
    "vouch": (500.0, 2_000.0),
    "checkpoint": (200.0, 400.0),
    "policy": (1.0, 20.0),
    "accept-clock": (0.1, 5.0),
}
"""Purpose -> (a second, at once); `vouch` holds for each role by itself. Issuing is bounded by one core; a policy or a clock is changed by a person."""


class Durable(Protocol):
    """Where the signer remembers what it signed last."""

    async def save(self, state: bytes) -> None:
        """Return only when `state` survives a crash."""


@dataclass(frozen=True)
class Keys:
    """Private keys by purpose. Its text form shows none."""

    ca: EllipticCurvePrivateKey = field(repr=False)
    ca_certificate: bytes
    jwt: EllipticCurvePrivateKey = field(repr=False)
    ed25519: Mapping[str, Ed25519PrivateKey] = field(repr=False)
    """`log`, `policy` and each of `ROLES`."""


class SignedBefore(Noun, frozen=True, kw_only=True):
    """What must not be signed against."""

    trust_domain: str
    policy_version: int = 0
    checkpoints: dict[str, tuple[int, str]] = {}
    """Origin -> size and hexadecimal root of the newest checkpoint signed."""
    ca: CaState = CaState()
    """Roots and issuers of the X.509 authority."""
    at: UnixMillis = UnixMillis(0)
    """When that was; the signer's clock never starts below it."""


@dataclass(frozen=True)
class Access:
    """Which uids may use which purpose. `control` uses every purpose that `own` gives to nobody in particular."""

    control: int
    own: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Purpose (`x509`, `jwt`, `checkpoint`, `policy`, `vouch:<role>`) -> the only uids that may use it."""

    def knows(self, uid: int) -> bool:
        """Whether the uid may use anything at all."""
        return uid == self.control or any(uid in uids for uids in self.own.values())

    def check(self, purpose: str, uid: int) -> None:
        """Raise `NotPermitted` unless the uid may use the purpose."""
        if uid not in self.own.get(purpose, frozenset({self.control})):
            raise NotPermitted(f"uid {uid} may not use the signer for `{purpose}`", remedy="ask through the control plane")


class Signer(X509Purposes):
    """One trust domain's signer. Every method takes the peer's uid and plain parameters, and gives plain values."""

    def __init__(
        self,
        keys: Keys,
        before: SignedBefore,
        access: Access,
        clock: Ticks,
        durable: Durable,
        *,
        solo: bool = False,
        ca_keys: CaKeys | None = None,
        issuer_seconds: int = ISSUER_SECONDS,
    ) -> None:
        self._keys, self._before, self._access, self._clock, self._durable, self._solo = keys, before, access, clock, durable, solo
        self._trust_domain = checked_trust_domain(before.trust_domain)
        self._authority = Authority(
            self._trust_domain,
            ca_keys or MemoryKeys(keys.ca, keys.ca_certificate),
            before.ca,
            remember=self._remember_ca,
            issuer_seconds=issuer_seconds,
        )
        self._slow = ca_keys is not None and ca_keys.slow
        self._jwt_kid = key_id(ec_spki(keys.jwt.public_key()))
        self._ids = {name: key_id(ed25519_spki(key)) for name, key in keys.ed25519.items()}
        self._buckets: dict[str, list[float]] = {}
        self._order = asyncio.Lock()
        self._steps: set[asyncio.Future[Any]] = set()
        self.refused = 0
        """Requests that were not permitted or over their rate."""

    async def start(self) -> None:
        """Before the first request: sweep what a crash left of the CA, and have an issuer. What keeps it from that is told by `health`."""
        await self._authority.sweep()
        with contextlib.suppress(VouchgateError):
            await self._authority.issuer(self._clock.now())

    async def renew_ca(self) -> None:
        """A new certificate for the active root; asked for on the command line, before anybody is served."""
        await self._authority.renew(self._clock.now())

    async def public_keys(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Every public key (as `wire.to_plain(PublicKey)`), the active CA's certificate, and every one that belongs into the bundle."""
        no_params(params)
        active = self._authority.active
        return {
            "trust_domain": self._trust_domain,
            "keys": [to_plain(key) for key in public_keys(self._keys, active.key)],
            "x509_ca": active.chain[0],
            "x509_ca_not_after": self._ca_ends(),
            "x509_authorities": list(self._authority.authorities),
        }

    async def health(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Whether issuing goes on."""
        no_params(params)
        now = self._clock.now()
        expired = self._ca_ends() <= now
        return {
            "ok": not self._clock.trouble and not expired,
            "now": now,
            "clock_trouble": self._clock.trouble,
            "ca_expired": expired,
            "ca_notice": self._authority.notice,
            "policy_version": self._before.policy_version,
            "refused": self.refused,
        }

    async def accept_clock(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """A person says that the machine's clock is right; issuing goes on."""
        no_params(params)
        self._enter("accept-clock", "accept-clock", uid)
        self._clock.accept()
        return {"now": self._clock.now()}

    async def jwt_svid(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Issue a JWT-SVID."""
        self._enter("jwt", "jwt", uid, issuing=True)
        wanted = from_plain(JwtRequest, params, what="request")
        issued = await self._sign(
            issue_jwt,
            wanted.principal,
            wanted.audience,
            key=self._keys.jwt,
            kid=self._jwt_kid,
            trust_domain=self._trust_domain,
            now=self._clock.now(),
            ttl_seconds=wanted.ttl_seconds,
            jti=secrets.token_urlsafe(16),
            cnf_x5t=wanted.cnf_x5t,
            beyond=Beyond(
                actors=tuple(principal_id(actor) for actor in wanted.actors),
                scopes=wanted.scopes,
                cnf_jkt=wanted.cnf_jkt,
                binding=wanted.binding,
                parents=wanted.parents,
            ),
            more=wanted.more,
        )
        return {"token": issued.token, "jti": issued.jti, "expires_at": issued.expires_at}

    async def event_token(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Sign a security event for a receiver (RFC 8417): that somebody or something is out, never that anyone is in."""
        self._enter("set", "set", uid)
        wanted = from_plain(SetRequest, params, what="request")
        claims = our_claims(**{name: getattr(wanted, name) for name in wanted.__struct_fields__}, now=self._clock.now())
        return {"token": await self._sign(sign_set, claims, self._keys.jwt, self._jwt_kid)}

    async def vouch(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Sign a vouch in a role."""
        wanted = from_plain(VouchRequest, params, what="request")
        if wanted.role not in ROLES:
            raise InvalidInput(f"`{wanted.role[:40]}` is not a producer's role", remedy=f"use one of {', '.join(ROLES)}")
        self._enter("vouch", f"vouch:{wanted.role}", uid, issuing=True)
        now = self._clock.now()
        if wanted.not_before < now - MAX_BACKDATE_MS or wanted.expires_at > now + MAX_VOUCH_DAYS * 86_400_000:
            raise InvalidInput(
                "the vouch begins in the past or lives too long", remedy=f"let it begin now and live {MAX_VOUCH_DAYS} days at most"
            )
        vouch = Vouch(
            id="",
            trust_domain=self._trust_domain,
            predicate_type=wanted.predicate_type,
            predicate_version=wanted.predicate_version,
            subjects=wanted.subjects,
            outcome=wanted.outcome,
            issuer_key=self._ids[wanted.role],
            issuer_role=wanted.role,
            issued_at=now,
            not_before=wanted.not_before,
            expires_at=wanted.expires_at,
            rests_on=wanted.rests_on,
            tier=wanted.tier,
            method=wanted.method,
            claims=wanted.claims,
        )
        check_fits(vouch)
        if wanted.predicate_type == WAIVER and wanted.claims["requester"] == wanted.claims["approver"] and not self._solo:
            raise NotPermitted("one person asks for the waiver and agrees to it", remedy="let another person agree")
        signed = await self._sign(sign_vouch, vouch, self._keys.ed25519[wanted.role])
        return {"envelope": signed.envelope, "id": signed.vouch.id}

    async def checkpoint(self, uid: int, params: dict[str, Any]) -> str:
        """Sign a checkpoint that continues the last one of its log; gives the note's text."""
        self._enter("checkpoint", "checkpoint", uid)
        wanted = from_plain(CheckpointRequest, params, what="request")
        if self._trust_domain not in wanted.origin.split("/") or not 0 <= wanted.size <= MAX_SIZE or len(wanted.root_hash) != HASH_BYTES:
            raise InvalidInput("the checkpoint is malformed, or its origin does not name the trust domain", remedy="sign your own log")
        raw = self._keys.ed25519["log"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        log = log_verifier(wanted.origin, raw)
        await self._whole(self._advance_log(wanted))
        checkpoint = Checkpoint(wanted.origin, wanted.size, wanted.root_hash)
        signature = await self._sign(self._keys.ed25519["log"].sign, checkpoint.body.encode())
        return signed_checkpoint(checkpoint, log, signature).decode()

    async def policy(self, uid: int, params: dict[str, Any]) -> dict[str, Any]:
        """Sign a policy version that is above every one signed before; gives a DSSE envelope."""
        self._enter("policy", "policy", uid)
        wanted = from_plain(PolicyRequest, params, what="request")
        if wanted.author == wanted.approver and not self._solo:
            raise NotPermitted("author and approver of the policy are one person", remedy="let another person approve it")
        statement = PolicyStatement(
            trust_domain=self._trust_domain,
            version=wanted.version,
            policy_digest=wanted.policy_digest,
            author=wanted.author,
            approver=wanted.approver,
            signed_at=self._clock.now(),
        )
        envelope = await self._sign(sign_policy, statement, self._keys.ed25519["policy"])
        await self._whole(self._advance_policy(wanted.version))
        return {"envelope": envelope, "key_id": self._ids["policy"]}

    async def _sign(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Off the event loop where the key is in a token (flows/keystore.py, rule 1)."""
        return await asyncio.to_thread(work, *arguments, **named) if self._slow else work(*arguments, **named)

    async def _whole(self, step: Coroutine[Any, Any, T]) -> T:
        """Run a step to its end even if the caller is cut off meanwhile: a write that goes on unseen would meet the next one."""
        task = asyncio.ensure_future(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        return await asyncio.shield(task)

    async def _remember_ca(self, state: CaState) -> None:
        async with self._order:
            await self._remember(ca=state)

    def _ca_ends(self) -> int:
        return int(self._authority.active.certificate.not_valid_after_utc.timestamp()) * 1000

    def _access_check(self, purpose: str, uid: int) -> None:
        try:
            self._access.check(purpose, uid)
        except NotPermitted:
            self.refused += 1
            raise

    async def _advance_log(self, wanted: CheckpointRequest) -> None:
        async with self._order:
            self._continues(wanted)
            newest = (wanted.size, wanted.root_hash.hex())
            if self._before.checkpoints.get(wanted.origin) != newest:
                await self._remember(checkpoints={**self._before.checkpoints, wanted.origin: newest})

    async def _advance_policy(self, version: int) -> None:
        async with self._order:
            if not self._before.policy_version < version <= MAX_SIZE:
                raise Conflict(
                    f"policy version {version} is not above {self._before.policy_version}", remedy="give it a new, higher version"
                )
            await self._remember(policy_version=version)

    def _continues(self, wanted: CheckpointRequest) -> None:
        size, root = self._before.checkpoints.get(wanted.origin, (0, ""))
        if wanted.size < size or (wanted.size == size and root and wanted.root_hash.hex() != root):
            raise Conflict(
                f"a checkpoint of {wanted.size} entries does not continue the one of {size} entries that was signed",
                remedy="the log was cut or rewritten: compare it with the last checkpoint, `vouchgate audit verify --against`",
            )
        if wanted.origin not in self._before.checkpoints and len(self._before.checkpoints) >= MAX_ORIGINS:
            raise LimitExceeded(f"the signer signs for {MAX_ORIGINS} logs already", remedy="go on with one of them")

    async def _remember(self, **changes: Any) -> None:
        state = SignedBefore(
            trust_domain=self._trust_domain,
            policy_version=changes.get("policy_version", self._before.policy_version),
            checkpoints=changes.get("checkpoints", self._before.checkpoints),
            ca=changes.get("ca", self._before.ca),
            at=self._clock.now(),
        )
        await self._durable.save(encode(state))
        self._before = state

    def _enter(self, rate: str, purpose: str, uid: int, *, issuing: bool = False) -> None:
        """Permission, then rate, then clock; a refused peer costs the permitted ones nothing."""
        try:
            self._access.check(purpose, uid)
            self._take(rate, purpose)
        except (NotPermitted, LimitExceeded):
            self.refused += 1
            raise
        self._clock.now()
        if issuing and self._clock.trouble:
            raise Unavailable(
                f"nothing is issued: {self._clock.trouble}", remedy="set the clock right, then `vouchgate admin accept-clock`"
            )

    def _take(self, rate: str, purpose: str) -> None:
        a_second, burst = RATES[rate]
        now = float(self._clock.now())
        bucket = self._buckets.setdefault(purpose, [burst, now])
        bucket[0] = min(burst, bucket[0] + (now - bucket[1]) / 1000 * a_second)
        bucket[1] = now
        if bucket[0] < 1:
            raise LimitExceeded(f"more than {a_second:g} a second were asked of the signer", remedy="ask again in a second")
        bucket[0] -= 1


def public_keys(keys: Keys, root: EllipticCurvePrivateKey | None = None) -> tuple[PublicKey, ...]:
    """The public halves with their purposes, in a fixed order; `root` is the CA's active one where it is not the first."""
    spkis = {"x509-ca": ec_spki((root or keys.ca).public_key()), "jwt": ec_spki(keys.jwt.public_key())}
    spkis |= {name: ed25519_spki(key) for name, key in keys.ed25519.items()}
    return tuple(PublicKey(key_id=key_id(spki), spki=spki, purpose=name) for name, spki in sorted(spkis.items()))


def same_key(certificate: bytes, key: EllipticCurvePrivateKey) -> bool:
    """Whether a CA certificate is for this key."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == ec_spki(key.public_key())
