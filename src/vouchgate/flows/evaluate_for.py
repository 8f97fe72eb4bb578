"""Decisions for enforcement points of others: whether one may ask, one evaluation, one page of a search.

    desk = Evaluations(replica)
    desk.may_ask(caller) -> Decision                          the asking point itself, by `administer:evaluate`
    desk.evaluate(question, application) -> Evaluated
    desk.searching(kind, question, application, after, limit) -> Iterator[Found | None]     a page, in steps

Rules
1. Without word from the control plane within the lease, and after the two engines disagreed, nobody is answered (`Unavailable`).
2. Whoever asks is decided like every other caller, anew with every change of the facts; a revoked one is refused at once.
3. `application` empty asks about vouchgate's own world: a subject is a registered principal, a resource what policies can speak of.
   The asking point has verified the subject's credential; it may name it (`properties.credential`), so that its revocation counts.
4. Of the request's own facts the point may tell `TOLD`; the hour is ours. What else it says decides nothing.
5. A name that is none, and one that nobody knows, is a decision: false, with the reason, recorded like any other.
6. Budgets and what is done to the answer are met by the asking point if it says that it carries them out; step-up and approval are met by
   nobody here, so they deny.
7. A search examines candidates in the order of their ids, at most `MAX_EXAMINED` a page, by the same evaluation: what it finds, it allows.
"""

from __future__ import annotations

import bisect
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from vouchgate.flows.applications import Application
from vouchgate.flows.facts import Facts
from vouchgate.flows.replica import Replica
from vouchgate.identity.verify import peer_uid, registered, verify_x509
from vouchgate.policy.facts import resource_uid
from vouchgate.policy.values import Uid
from vouchgate.vocabulary.authzen import Evaluated, Found, Question
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable
from vouchgate.vocabulary.names import principal_parts, resource, resource_parts
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Principal, VerifiedPrincipal
from vouchgate.vocabulary.vouches import UnixMillis

ASK = "administer:evaluate"
POINTS = "role:enforcement-point"
TOLD = frozenset({"source_ip", "method", "path", "purpose", "target"})
"""Facts of a request that an asking point may tell."""
CARRIED = frozenset({"budget", "rounded-answer", "redaction"})
"""Obligations that an asking point can carry out (rule 6)."""
MAX_EXAMINED = 1_000
"""Candidates of one page: about 30 ms of this process, in steps of `STEP`."""
UID_MS = 1_000
"""Milliseconds for which a uid stands for the same registration while the facts are the same; a registration may end by itself."""
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
STEP = 32
"""Candidates between two looks at what else waits."""
MAX_RESULTS = 500
"""Results of one page."""
_CREDENTIAL = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Kind = Literal["subject", "resource", "action"]


class Evaluations:
    """See the module's text. Belongs to the thread of its replica."""

    def __init__(self, replica: Replica, applications: Mapping[str, Application] | None = None) -> None:
        self._replica = replica
        self.applications: Mapping[str, Application] = applications or {}
        self._allowed: dict[tuple[str, str], tuple[Facts, int, int, Decision]] = {}
        self._uids: dict[int, tuple[Facts, int, int, VerifiedPrincipal | Denied]] = {}
        self._ids: tuple[Facts, int, dict[str, list[str]]] | None = None

    # -- who asks

    def by_certificate(self, chain: tuple[bytes, ...]) -> VerifiedPrincipal | Denied:
        """The owner of an X.509-SVID."""
        facts = self._replica.facts
        if facts.bundle is None:
            raise Unavailable("there is no trust bundle yet", remedy="try again shortly")
        return verify_x509(chain, facts.bundle, self._replica.now(), groups_of=facts.groups_of)

    def by_uid(self, uid: int) -> VerifiedPrincipal | Denied:
        """The registration that a unix user earns; of several the one that may ask."""
        facts, now = self._replica.facts, self._replica.now()
        known = self._uids.get(uid)
        if known is not None and known[0] is facts and known[1] == facts.epoch and known[2] <= now < known[2] + UID_MS:
            return known[3]
        made = self._by_uid(uid, facts, now)
        if len(self._uids) >= 1_024:
            self._uids.clear()
        self._uids[uid] = (facts, facts.epoch, now, made)
        return made

    def _by_uid(self, uid: int, facts: Facts, now: UnixMillis) -> VerifiedPrincipal | Denied:
        found = [one for one in facts.of_uid(uid) if facts.registration_of(one.principal, now) is not None]
        if not found:
            return Denied(code="not-registered", reason=f"uid {uid} is nobody here", remedy="register it as an enforcement point")
        one = min(found, key=lambda known: (POINTS not in known.groups, str(known.principal)))
        return peer_uid(uid, Principal(id=one.principal, groups=one.groups), now)

    def may_ask(self, caller: VerifiedPrincipal) -> Decision:
        """Rules 1 and 2. The decision is the same object for as long as nothing changed."""
        facts, now = self._fresh()
        key = (str(caller.principal.id), caller.credential_id)
        known = self._allowed.get(key)
        if known is not None and known[0] is facts and known[1:3] == (facts.epoch, facts.world.revision) and now < known[3].not_after:
            return known[3]
        made = facts.decide(caller, ASK, resource(facts.trust_domain, "system", "control"), now)
        if len(self._allowed) >= 1_024:
            self._allowed.clear()
        self._allowed[key] = (facts, facts.epoch, facts.world.revision, made)
        return made

    # -- one evaluation

    def evaluate(self, question: Question, application: str = "") -> Evaluated:
        """Rules 1 and 3 to 6. Raises `NotFound` for an application that is none, `Unavailable`."""
        facts, now = self._fresh()
        if application:
            return self._application(application).evaluate(_carried(question), facts.trust_domain, now, facts.epoch)
        try:
            return self._own(question, facts, now)
        except InvalidInput as error:
            return Evaluated(decision=_refused(question, facts, now, error.reason, error.remedy), status=400)

    def _own(self, question: Question, facts: Facts, now: UnixMillis) -> Evaluated:
        subject, thing = question.subject, question.resource
        parts, what = principal_parts(subject.id), resource_parts(thing.id)
        if subject.type not in ("Principal", parts.kind):
            raise InvalidInput(f"`{subject.id}` is no `{subject.type}`", remedy=f"write `Principal` or `{parts.kind}`")
        if thing.type not in (resource_uid(thing.id).type, what.kind):
            raise InvalidInput(f"`{thing.id}` is no `{thing.type}`", remedy=f"write `{what.kind}`")
        known = facts.registration_of(subject.id, now)
        if known is None:
            reason = f"caller `{subject.id}` is not registered"
            return Evaluated(decision=_refused(question, facts, now, reason, "ask a registrar to register the caller"), status=404)
        caller = registered(known, now)
        if known.expires_at:
            caller = msgspec.structs.replace(caller, not_after=min(caller.not_after, known.expires_at))
        credential = subject.properties.get("credential")
        if credential is not None:
            if not isinstance(credential, str) or not _CREDENTIAL.fullmatch(credential):
                raise InvalidInput("`subject.properties.credential` is no id of a credential", remedy="give its serial number or `jti`")
            caller = msgspec.structs.replace(caller, credential_id=credential)
        told = _told(question, now)
        made = facts.decide(caller, question.action, thing.id, now, facts=told, carries=question.carries & CARRIED)
        mismatch = facts.recheck(made, caller, told)
        if mismatch:
            self._replica.alarm = self._replica.alarm or mismatch
            raise Unavailable("the two engines disagree", remedy="report it; policies are not decided on until it is found")
        return Evaluated(decision=made)

    # -- searches

    def searching(self, kind: Kind, question: Question, application: str, after: str, limit: int) -> Iterator[Found | None]:
        """Rule 7. Yields None between steps, and last the page."""
        self._fresh()
        names = self._candidates(kind, question, application, after, MAX_EXAMINED + 1)
        found: list[str] = []
        last, examined = "", 0
        for name in names[:MAX_EXAMINED]:
            if len(found) >= min(limit, MAX_RESULTS):
                break
            examined, last = examined + 1, name
            if self.evaluate(_with(kind, question, name), application).decision.effect == "allow":
                found.append(name)
            if examined % STEP == 0:
                yield None
        yield Found(results=tuple(found), last=last if examined < len(names) else "", examined=examined)

    def _candidates(self, kind: Kind, question: Question, application: str, after: str, limit: int) -> list[str]:
        facts, _ = self._fresh()
        if kind == "action":
            names = self._application(application).actions if application else _actions(facts)
            return [name for name in names if name > after][:limit]
        wanted = question.subject.type if kind == "subject" else question.resource.type
        if application:
            return self._application(application).candidates(wanted, after, limit)
        known = self._known(facts).get(f"{kind}:{wanted}", [])
        return known[bisect.bisect_right(known, after) :][:limit]

    def _known(self, facts: Facts) -> dict[str, list[str]]:
        """Ids by what they are asked by, sorted; made again when the world is another."""
        if self._ids is None or self._ids[0] is not facts or self._ids[1] != facts.world.revision:
            made: dict[str, list[str]] = {}
            for uid in facts.world.entities:
                for key in _keys(uid, facts.trust_domain):
                    made.setdefault(key, []).append(uid.id if uid.type != "Zone" else resource(facts.trust_domain, "zone", uid.id))
            for ids in made.values():
                ids.sort()
            self._ids = (facts, facts.world.revision, made)
        return self._ids[2]

    def _application(self, name: str) -> Application:
        found = self.applications.get(name)
        if found is None:
            raise NotFound(f"there is no application `{name[:64]}`", remedy="name one of [[applications]]")
        return found

    def _fresh(self) -> tuple[Facts, UnixMillis]:
        """Rule 1. Raises `Unavailable`."""
        now = self._replica.now()
        if self._replica.alarm or now >= self._replica.lease_until or self._replica.facts.policies is None:
            raise Unavailable("the decision point has not heard from the control plane", remedy="see `vouchgate status`")
        return self._replica.facts, now


def _keys(uid: Uid, trust_domain: str) -> tuple[str, ...]:
    if uid.type == "Principal":
        return ("subject:Principal", f"subject:{principal_parts(uid.id).kind}")
    return () if uid.type == "Group" else (f"resource:{uid.type}", f"resource:{uid.type.lower()}")


def _actions(facts: Facts) -> tuple[str, ...]:
    """Actions of the schema that are no groups."""
    actions = facts.policies.actions if facts.policies else {}
    above = {group for uid, every in actions.items() for group in every if group != uid}
    return tuple(sorted(uid.id for uid in actions if uid not in above))


def _with(kind: Kind, question: Question, name: str) -> Question:
    """The question about one candidate; what a search said of its `properties` is of nobody in particular, and is left out."""
    if kind == "action":
        return msgspec.structs.replace(question, action=name)
    thing = question.subject if kind == "subject" else question.resource
    return msgspec.structs.replace(question, **{kind: msgspec.structs.replace(thing, id=name, properties={})})


def _carried(question: Question) -> Question:
    return msgspec.structs.replace(question, carries=question.carries & CARRIED)


def _told(question: Question, now: UnixMillis) -> dict[str, Any]:
    """Rule 4."""
    # the first of January 1970 was a Thursday, the fourth day of its week (ISO 8601)
    told: dict[str, Any] = {"hour": now // HOUR_MS % 24, "weekday": (now // DAY_MS + 3) % 7 + 1}
    told |= {name: value for name, value in question.context.items() if name in TOLD and value is not None}
    address = question.subject.properties.get("ip_address")
    if address is not None and "source_ip" not in told:
        told["source_ip"] = address
    return told


def _refused(question: Question, facts: Facts, now: UnixMillis, reason: str, remedy: str) -> Decision:
    """Rule 5."""
    return Decision(
        id=secrets.token_hex(16),
        trust_domain=facts.trust_domain,
        effect="deny",
        would_be="deny",
        principal=question.subject.id,
        action=question.action,
        resource=question.resource.id,
        policy_digest=facts.policies.digest if facts.policies else "",
        policy_version=facts.policies.version if facts.policies else 0,
        evidence_epoch=facts.epoch,
        reason=reason,
        remedy=remedy,
        not_after=now,
        evaluated_at=now,
    )
