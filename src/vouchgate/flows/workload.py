"""Give a workload its credential: facts that the supervisor read, a registration that they earn, a signature, an entry; nothing on its word.

1. Look: the supervisor reads who the process is (rule: the agent only names a process it holds a pidfd of, and hands out nothing once that
   process is gone, so the facts belong to the caller). A look counts for `LOOK_SECONDS`; a rotation always looks again.
2. Match: the facts earn one registration that has not ended; persons, vouchgate's own processes and claims are never earned here.
3. A standing revocation of the principal refuses; so does a clock in trouble.
4. Bind: a registration that answers for an endpoint carries what the endpoint's evidence says now (workload_binding.py).
5. The signer signs a whole batch; the credentials and their entries are one transaction, durable before anything leaves.
6. A revocation that came while it was signed still counts.
7. What the look established is vouched for where a policy asks for it (attested.py).
A refusal is an answer, with its reason; it is recorded, repeated ones together (workload_refusals.py).
Left to others: who is told when something changes (workload_push.py), sockets and streams (edges/spiffe).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vouchgate.audit import ocsf
from vouchgate.flows.attested import Attesting
from vouchgate.flows.changes import CredentialIssued
from vouchgate.flows.context import Context
from vouchgate.flows.workload_binding import Bound, bound_of
from vouchgate.flows.workload_connections import Attached, Connections
from vouchgate.flows.workload_matching import Candidates
from vouchgate.flows.workload_refusals import Refusal, Refusals
from vouchgate.identity.catalog import attest
from vouchgate.identity.jwtsvid import MAX_AUDIENCE, MAX_AUDIENCES, OURS
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.errors import InvalidInput, Unavailable, VouchgateError
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Registration, Selector
from vouchgate.vocabulary.records import Append
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun

LOOK_SECONDS = 1.0
"""A process that replaces itself (execve(2)) within this still counts as what it was; it could as well have handed its credential on."""
MAX_BATCH = 256
"""Requests of one batch: what one commit of the sequencer takes."""
MIN_LIFE_SECONDS = 10
"""A registration that ends within this earns nothing more: the signer issues no shorter life."""
USER_ATTESTOR = "unix-process"
"""Says who runs the process; where it refuses, nothing else counts."""
SERVICE = "workload-api"
"""Name of the service in the log."""

Look = Callable[[Sequence[int]], Any]
"""Processes' facts by the supervisor (ports/attest.py): for each pid what each attestor is to be given, or None where it is gone."""


class Wanted(Noun, frozen=True, kw_only=True):
    """One request of the agent."""

    connection: str
    """The agent's name for the connection; a new one for each, so that a reused pid is another caller."""
    pid: int
    uid: int
    form: Literal["x509", "jwt", "who"]
    """`who`: only whether the caller has an identity."""
    spki: bytes = b""
    audience: str = ""
    more: tuple[str, ...] = ()
    """Further audiences of one token, none of them ours."""
    subject: str = ""
    """The SPIFFE id that the caller asked for; empty for its own."""
    mark: str = ""
    """What the caller's present certificate says; where nothing else would be issued, the answer is `same`."""
    fresh: bool = False
    """Look again: a rotation."""


@dataclass(slots=True, frozen=True)
class _Earned:
    wanted: Wanted
    registration: Registration
    bound: Bound | None
    mark: str
    ttl_seconds: int


class Workloads:
    """See the module's text. One for a control plane."""

    def __init__(self, context: Context, look: Look, *, steady: Callable[[], float] = time.monotonic) -> None:
        self._context, self._look, self._steady = context, look, steady
        self.candidates = Candidates(context.facts)
        self.attached = Connections()
        self.refusals = Refusals(steady)
        self.attesting = Attesting(context)
        self.issued = 0
        self._issuer = b""
        self.on_issuer: Callable[[], None] = lambda: None
        """Told when certificates begin to come from another issuer."""

    async def issue(self, requests: Sequence[Wanted], gone: Collection[str] = ()) -> list[dict[str, Any]]:
        """Steps 1 to 6: an answer for each request, in order. Raises `InvalidInput`, `Unavailable`."""
        if len(requests) > MAX_BATCH:
            raise InvalidInput(f"a batch has {MAX_BATCH} requests at most", remedy="send them in parts")
        for connection in gone:
            self.attached.drop(connection)
        await self._attach(requests)
        answers: list[dict[str, Any] | None] = [None] * len(requests)
        earned: list[tuple[int, _Earned]] = []
        for place, wanted in enumerate(requests):
            found = self._earn(wanted)
            if isinstance(found, Denied):
                answers[place] = self._refuse(wanted, found)
            elif wanted.form == "who" or (wanted.form == "x509" and wanted.mark == found.mark):
                answers[place] = _known(found)
            else:
                earned.append((place, found))
        if earned:
            for (place, _), answer in zip(earned, await self._sign([one for _, one in earned]), strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    # -- step 1

    async def _attach(self, requests: Sequence[Wanted]) -> None:
        now = self._steady()
        stale = {wanted.connection: wanted for wanted in requests if self._is_stale(wanted, now)}
        if not stale:
            return
        pids = sorted({wanted.pid for wanted in stale.values()})
        found = dict(zip(pids, await self._look(pids), strict=True))
        for connection, wanted in stale.items():
            facts = found[wanted.pid]
            if facts is None:
                self.attached.drop(connection)
                continue
            established = _of_peer(facts, wanted)
            refused = established if isinstance(established, Denied) else None
            held = frozenset[Selector]() if isinstance(established, Denied) else established
            self.attached.put(connection, Attached(wanted.pid, wanted.uid, held, refused, now))

    def _is_stale(self, wanted: Wanted, now: float) -> bool:
        seen = self.attached.get(wanted.connection)
        if seen is None or seen.pid != wanted.pid:
            return True
        age = now - seen.looked_at
        return age > LOOK_SECONDS or (wanted.fresh and age > 0.0)

    # -- steps 2 to 4

    def _earn(self, wanted: Wanted) -> _Earned | Denied:
        seen = self.attached.get(wanted.connection)
        if seen is None:
            return Denied(code="gone", reason="the process has ended", remedy="connect again")
        facts, now = self._context.facts, self._context.clock.now()
        registration = seen.refused or self.candidates.match(seen.selectors, now)
        if isinstance(registration, Denied):
            self.attached.earned(wanted.connection, "")
            return registration
        self.attached.earned(wanted.connection, registration.principal)
        revocation = facts.revocation_of(registration.principal)
        if revocation is not None:
            return Denied(
                code="revoked",
                reason=f"`{registration.principal}` is revoked: {revocation.reason}",
                remedy=f"another person may undo it: `vouchgate revoke --undo {revocation.id}`",
            )
        if self._context.clock.trouble:
            raise Unavailable(
                f"nothing is issued: {self._context.clock.trouble}", remedy="set the clock right, then `vouchgate admin accept-clock`"
            )
        if wanted.subject and wanted.subject != registration.principal:
            return Denied(code="not-yours", reason=f"`{wanted.subject[:160]}` is not your identity", remedy="leave the id out")
        ttl = registration.svid_ttl_seconds if wanted.form != "jwt" else registration.jwt_ttl_seconds
        if registration.expires_at:
            ttl = min(ttl, (registration.expires_at - now) // 1000)
        if ttl < MIN_LIFE_SECONDS:
            return Denied(code="ended", reason=f"`{registration.principal}` ends within seconds", remedy="register it anew")
        if wanted.form == "jwt" and not _are_audiences(wanted.audience, *wanted.more):
            return Denied(
                code="audience",
                reason="an audience is empty, too long, not printable ASCII, or one of several and ours",
                remedy="ask for one audience",
            )
        bound = bound_of(facts, registration.endpoint, now) if registration.endpoint else None
        return _Earned(wanted, registration, bound, _mark(registration, bound), ttl)

    # -- steps 5 and 6

    async def _sign(self, earned: Sequence[_Earned]) -> list[dict[str, Any]]:
        x509 = [one for one in earned if one.wanted.form == "x509"]
        signed: dict[int, dict[str, Any]] = {}
        for one, said in zip(x509, await self._x509(x509) if x509 else (), strict=True):
            signed[id(one)] = said
        jwt = [one for one in earned if one.wanted.form == "jwt"]
        for one, said in zip(jwt, await asyncio.gather(*(self._jwt(one) for one in jwt)), strict=True):
            signed[id(one)] = said
        good = [one for one in earned if "code" not in signed[id(one)]]
        await self._record(good, signed)
        for one in good:
            seen = self.attached.get(one.wanted.connection)
            if seen is not None:
                self.attesting.saw(one.registration, seen.selectors)
        return [self._answer(one, signed[id(one)]) for one in earned]

    async def _x509(self, earned: Sequence[_Earned]) -> list[dict[str, Any]]:
        requests = [
            {
                "spki": one.wanted.spki,
                "principal": one.registration.principal,
                "ttl_seconds": one.ttl_seconds,
                "dns": list(one.registration.dns),
                "binding": wire.to_plain(one.bound.binding) if one.bound else None,
            }
            for one in earned
        ]
        said: list[dict[str, Any]] = await self._context.signer.call("x509_svids", requests=requests)
        if len(said) != len(requests):
            raise Unavailable("the signer answered another number of requests", remedy="both must run the same version of vouchgate")
        issuers = {one["chain"][1] for one in said if len(one.get("chain", ())) > 1}
        if issuers and self._issuer not in issuers:
            before, self._issuer = self._issuer, issuers.pop()
            if before:
                self.on_issuer()
        return said

    async def _jwt(self, one: _Earned) -> dict[str, Any]:
        wanted = {"principal": one.registration.principal, "audience": one.wanted.audience, "ttl_seconds": one.ttl_seconds}
        wanted |= {"more": list(one.wanted.more)} if one.wanted.more else {}
        try:
            return dict(await self._context.signer.call("jwt_svid", **wanted))
        except VouchgateError as error:
            # what one caller asked for fails nobody else of the batch
            return {"code": error.code, "reason": error.reason, "remedy": error.remedy}

    async def _record(self, earned: Sequence[_Earned], signed: Mapping[int, dict[str, Any]]) -> None:
        changes: list[CredentialIssued] = []
        entries: list[Append] = []
        now = self._context.clock.now()
        for one in earned:
            said, registration = signed[id(one)], one.registration
            x509 = one.wanted.form == "x509"
            identity = said["serial"] if x509 else said["jti"]
            changes.append(
                CredentialIssued(
                    id=identity,
                    principal=registration.principal,
                    kind=one.wanted.form,
                    not_after=UnixMillis(said["not_after"] if x509 else said["expires_at"]),
                    audience=" ".join((one.wanted.audience, *one.wanted.more)),
                    parents=(one.bound.id,) if one.bound and x509 else (),
                )
            )
            entry = ocsf.authentication(
                self._context.trust_domain,
                uid=identity,
                principal=registration.principal,
                credential_kind=one.wanted.form,
                credential_id=identity,
                service=SERVICE,
                ok=True,
                reason="issued",
                peer=f"uid:{one.wanted.uid} pid:{one.wanted.pid}",
                now=now,
            )
            entries.append(Append(entry=entry, label=identity))
        if changes:
            await self._context.sequencer.submit("workload:agent", changes, entries)
            self.issued += len(changes)

    def _answer(self, one: _Earned, said: dict[str, Any]) -> dict[str, Any]:
        if "code" in said:
            return self._refuse(one.wanted, Denied(code=said["code"], reason=said["reason"], remedy=said["remedy"]))
        x509 = one.wanted.form == "x509"
        identity = said["serial"] if x509 else said["jti"]
        parents = (one.bound.id,) if one.bound and x509 else ()
        late = self._context.facts.revocation_of(one.registration.principal, identity, parents=parents)  # 6
        if late is not None:
            return self._refuse(one.wanted, Denied(code="revoked", reason=f"`{late.target[:160]}` is revoked", remedy="ask a responder"))
        known = _known(one)
        known["same"] = False
        if not x509:
            return {**known, "token": said["token"], "credential": identity}
        seen = self.attached.get(one.wanted.connection)
        if seen is not None:
            seen.serial = identity
        lives = said["not_after"] - self._context.clock.now()
        return {**known, "chain": said["chain"], "credential": identity, "lives_ms": lives}

    def _refuse(self, wanted: Wanted, why: Denied) -> dict[str, Any]:
        refusal = Refusal(uid=wanted.uid, pid=wanted.pid, code=why.code, reason=why.reason)
        if self.refusals.note(refusal):
            self._context.spawn(self.record_refusals())
        return {"ok": False, "code": why.code, "reason": why.reason, "remedy": why.remedy}

    async def record_refusals(self) -> None:
        """Write down what was refused since, repeated refusals as one."""
        now = self._context.clock.now()
        entries = [
            Append(
                entry=ocsf.authentication(
                    self._context.trust_domain,
                    uid=f"refused/{one.uid}/{one.code}/{now}",
                    principal="",
                    credential_kind="uid",
                    credential_id="",
                    service=SERVICE,
                    ok=False,
                    reason=f"{one.code}: {one.reason}" + (f" ({times} times)" if times > 1 else ""),
                    peer=f"uid:{one.uid} pid:{one.pid}",
                    now=now,
                ),
                label=f"refused:{one.uid}",
            )
            for one, times in self.refusals.take()
        ]
        if entries:
            try:
                await self._context.sequencer.append("workload:refusals", entries)
            except VouchgateError:
                # the sequencer's own failure is in `status`; a refusal that cannot be written still refuses
                return

    def told_by_agent(self, refused: Sequence[Refusal]) -> None:
        """Requests that the agent refused before they reached us: a wrong header, bytes that are no message, too many of something."""
        due = [self.refusals.note(one) for one in refused]
        if any(due):
            self._context.spawn(self.record_refusals())


def _of_peer(facts: Mapping[str, Mapping[str, Any]], wanted: Wanted) -> frozenset[Selector] | Denied:
    """`selectors_of`, for the user that connected: a process may start a set-user-id program and leave its connection to a child, which
    would then speak as root."""
    if facts.get("unix-process", {}).get("uid", wanted.uid) != wanted.uid:
        return Denied(code="other-user", reason="the process became another user after it connected", remedy="connect again")
    return selectors_of(facts)


def selectors_of(facts: Mapping[str, Mapping[str, Any]]) -> frozenset[Selector] | Denied:
    """What the facts that were read for each attestor establish. A process whose user is not clear is nobody; one that is in no container,
    unit or job is just in none."""
    found: set[Selector] = set()
    for name in (USER_ATTESTOR, *(name for name in facts if name != USER_ATTESTOR)):
        try:
            made = attest(name, facts.get(name, {}))
        except InvalidInput as error:
            made = Denied(code="facts-malformed", reason=error.reason, remedy=error.remedy)
        if not isinstance(made, Denied):
            found.update(made.selectors)
        elif name == USER_ATTESTOR:
            return made
    return frozenset(found)


def _known(one: _Earned) -> dict[str, Any]:
    registration = one.registration
    return {
        "ok": True,
        "same": True,
        "principal": registration.principal,
        "hint": registration.principal.rpartition("/")[2],
        "federates": list(registration.federates_with),
        "mark": one.mark,
    }


def _mark(registration: Registration, bound: Bound | None) -> str:
    """What a certificate of it says, and what goes along with it."""
    said = (registration.principal, registration.dns, registration.federates_with, registration.svid_ttl_seconds, bound.id if bound else "")
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


def _are_audiences(*texts: str) -> bool:
    whole = all(1 <= len(text) <= MAX_AUDIENCE and text.isascii() and text.isprintable() for text in texts)
    return whole and (len(texts) == 1 or (len(texts) <= MAX_AUDIENCES and not any(text.startswith(OURS) for text in texts)))
