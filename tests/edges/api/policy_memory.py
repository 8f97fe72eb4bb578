"""The part of the in-memory surface that is about policies over time: a small world, two versions, and some recorded requests."""

from __future__ import annotations

import zlib
from typing import Any

from vouchgate.policy.catalog import pack
from vouchgate.policy.facts import put_artifact, put_endpoint, put_principal
from vouchgate.policy.recorded import Recorded, write_records
from vouchgate.policy.world import Evidence, Held, World
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_policy import (
    PolicyHistory,
    PolicyProposal,
    PolicyRecord,
    PolicySnapshot,
    Privilege,
    PrivilegeTable,
    RecordedPage,
    ReplayOutcome,
    Standing,
    Suggestion,
)
from vouchgate.vocabulary.errors import NotFound
from vouchgate.vocabulary.names import PrincipalId, TrustDomain, resource_id
from vouchgate.vocabulary.places import Endpoint
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import UnixMillis

TD = "example.local"
DAY = 86_400_000
MODEL = "sha256:" + "ab" * 32
DIGITS = f"vg://{TD}/endpoint/digits"
NAMES = ("ann", "ben", "cid", "dan")
TEXT = pack("ai_lifecycle").text


def caller_name(name: str) -> str:
    return f"spiffe://{TD}/service/serve/{name}"


def small_world() -> World:
    world, late = World(), UnixMillis(2**50)
    for name in NAMES:
        put_principal(world, Principal(id=PrincipalId(caller_name(name)), groups=("callers",)))
    endpoint = Endpoint(
        id=resource_id(DIGITS), trust_domain=TrustDomain(TD), zone="serve", upstream="unix:/x", routes=(), model_digest=MODEL
    )
    put_endpoint(world, endpoint, Evidence((Held("serves", "v1", "verified", late),)))
    held = Evidence((Held("scan", "v2", "verified", late), Held("structure", "v3", "verified", late)))
    put_artifact(world, f"vg://{TD}/artifact/{MODEL}", held)
    return world


def requests(until: int) -> list[Recorded]:
    """Two weeks: ann and ben every day, cid once; dan is not seen."""
    found = []
    for day in range(14, 0, -1):
        names = ["ann", "ben", *(["cid"] if day == 9 else [])]
        found += [
            Recorded(
                time=until - day * DAY + number * 60_000, principal=caller_name(name), action="infer", resource=DIGITS, source_ip="10.0.0.7",
                method="POST", path="/predict", by=("callers-may-infer",), decision=f"d{day:02d}{number}",
            )
            for number, name in enumerate(names)
        ]  # fmt: skip
    return found


class PolicyMemory:
    """Answers for tests."""

    now: int

    def _decide(self, caller: Caller, verb: str, asked: Any = None) -> None:
        raise NotImplementedError

    async def policy_history(self, caller: Caller, version: int) -> PolicyHistory:
        self._decide(caller, "analyse", version)
        made = [
            PolicyRecord(
                version=number, digest="sha256:" + f"{number:02d}" * 32, author=caller_name("ann"), approver=caller_name("ben"),
                applied_at=UnixMillis(self.now - (3 - number) * DAY), files=("ai_lifecycle.cedar",), policies=20, in_force=number == 2,
                signature="holds" if number == 2 else "key-not-current", text=TEXT if version else "",
            )
            for number in (2, 1)
        ]  # fmt: skip
        if version:
            found = tuple(one for one in made if one.version == version)
            if not found:
                raise NotFound(f"there is no policy version {version}", remedy="list them: `vouchgate policy history`")
            return PolicyHistory(versions=found)
        waiting = PolicyProposal(sha256="cd" * 32, author=caller_name("ann\x1b[31m"), until=UnixMillis(self.now + DAY))
        return PolicyHistory(versions=tuple(made), proposal=waiting)

    async def policy_snapshot(self, caller: Caller) -> PolicySnapshot:
        self._decide(caller, "analyse")
        return PolicySnapshot(
            trust_domain=TD, made_at=UnixMillis(self.now), policy_version=2, policy_digest="sha256:" + "02" * 32,
            sources=(("ai_lifecycle.cedar", TEXT),), entities=zlib.compress(small_world().to_cedar_json().encode()),
            asks=(("infer", DIGITS), ("describe", DIGITS)), standing=(Standing(principal=caller_name("dan"), revoked="left"),), log_size=60,
        )  # fmt: skip

    async def policy_records(self, caller: Caller, start: int, since: int) -> RecordedPage:
        self._decide(caller, "analyse", (start, since))
        first = max(0, start)
        some = [one for one in requests(self.now)[first : first + 20] if one.time >= since]
        return RecordedPage(
            lines=write_records(some).decode(), records=len(some), next=min(60, first + 20), end=60, left_out={"anonymous": 1}
        )

    async def policy_replay(self, caller: Caller, text: str, days: int) -> ReplayOutcome:
        self._decide(caller, "analyse", (text, days))
        return ReplayOutcome(records=10, same=10, gained=0, lost=0, opened=0, bound=0)

    async def policy_suggest(self, caller: Caller, zone: str, days: int) -> Suggestion:
        self._decide(caller, "analyse", (zone, days))
        return Suggestion(
            text=TEXT, policies=1, digest="sha256:" + "ab" * 32, requests=1, begins_at=UnixMillis(self.now), ends_at=UnixMillis(self.now),
            days=1, cells=1, granted=1, pooled=0,
        )  # fmt: skip

    async def policy_privilege(self, caller: Caller, principal: str, days: int) -> PrivilegeTable:
        self._decide(caller, "analyse", (principal, days))
        return PrivilegeTable(callers=(), known=0, dormant=0, total=Privilege(callers=0, granted=0, used=0, median=0.0))
