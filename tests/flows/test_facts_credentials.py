"""Credentials that die with a run or with what they were derived from; registrations that end; keys of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from flows_world import ALICE, DIGITS, HOUR, NOW, make_world, registration, revoked, running, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.flows import start
from vouchgate.flows.changes import CredentialIssued, RegistrationPut, RegistrationRemoved, Revoked, RunPut, SourcePut, SourceRemoved
from vouchgate.flows.facts import Facts
from vouchgate.flows.facts_credentials import Credentials
from vouchgate.flows.sweep import sweep
from vouchgate.vocabulary.errors import Conflict, LimitExceeded, NotFound
from vouchgate.vocabulary.names import PrincipalId, TrustDomain
from vouchgate.vocabulary.runs import Run
from vouchgate.vocabulary.sources import TrustSource
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

RUN = "run-0123456789abcdef"


def issued(name: str, *, run: str = "", parents: Sequence[str] = (), until: int = NOW + HOUR) -> CredentialIssued:
    return CredentialIssued(id=name, principal=ALICE, kind="jwt", not_after=UnixMillis(until), run=run, parents=tuple(parents))


BEGUN = RunPut(
    run=Run(
        id=RUN, trust_domain=TrustDomain("test.local"), principal=PrincipalId(ALICE), zone="serve", stage="train",
        started_at=NOW, not_after=UnixMillis(NOW + HOUR),
    )
)  # fmt: skip


def against(kind: Any, target: str) -> Revocation:
    made: Revocation = revoked(kind, target).revocation
    return made


def test_a_run_takes_its_credentials_and_what_was_derived_from_them_and_nothing_else() -> None:
    held = Credentials()
    for one in (
        issued("a", run=RUN),
        issued("b", parents=["a"]),
        issued("c", parents=["x", "b"]),
        issued("d", run="run-ffffffffffffffff"),
        issued("e"),
    ):
        held.add(one, NOW)
    assert held.struck(against("run", RUN)) == {"a", "b", "c"}
    assert held.struck(against("credential", "b")) == {"c"}
    assert held.struck(against("credential", "e")) == frozenset()
    assert held.struck(against("principal", ALICE)) == frozenset()
    assert len(held) == 4


def test_credentials_that_name_each_other_end_the_search() -> None:
    held = Credentials()
    held.add(issued("a", parents=["b"]), NOW)
    held.add(issued("b", parents=["a"]), NOW)
    assert held.struck(against("credential", "a")) == {"b"}
    assert dict.fromkeys(held.grounds("a")) == dict.fromkeys([("credential", "a"), ("credential", "b")])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 20)), max_size=30), st.integers(0, 25))
def test_what_expired_is_forgotten_whole(made: list[tuple[int, int, int]], later: int) -> None:
    held = Credentials()
    for number, (run, parent, life) in enumerate(made):
        held.add(issued(f"c{number}", run=f"run-{run}", parents=[f"c{parent}"], until=NOW + life), NOW)
    held.advance(UnixMillis(NOW + later))
    alive = {f"c{number}" for number, (_, _, life) in enumerate(made) if life > later}
    assert len(held) == len(alive)
    assert {name for names in held._by_run.values() for name in names} == alive
    assert {name for names in held._by_parent.values() for name in names} == alive
    assert all(held._by_run.values())
    assert all(held._by_parent.values())


def test_over_the_bound_nothing_bound_is_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.flows.facts_credentials.MAX_BOUND", 1)
    held = Credentials()
    held.add(issued("a", run=RUN), NOW)
    held.check(issued("plain"))
    with pytest.raises(LimitExceeded):
        held.check(issued("b", run=RUN))


@pytest.mark.parametrize(
    ("asked", "struck"),
    [
        ({"credential_id": "a"}, True),
        ({"credential_id": "b"}, True),
        ({"credential_id": "z", "run": RUN}, True),
        ({"credential_id": "z", "parents": ["b"]}, True),
        ({"credential_id": "z", "parents": ["a"]}, True),
        ({"credential_id": "z"}, False),
        ({"credential_id": "z", "run": "run-ffffffffffffffff"}, False),
        ({}, False),
    ],
)
def test_a_revoked_run_is_found_by_whatever_a_credential_says_of_itself(asked: dict[str, Any], struck: bool) -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            await world.put(BEGUN)
            await world.put(issued("a", run=RUN), issued("b", parents=["a"]))
            await world.put(Revoked(revocation=against("run", RUN)))
            assert (world.facts.revocation_of("spiffe://test.local/job/serve/x", **asked) is not None) == struck

    asyncio.run(go())


def test_points_are_given_each_struck_credential_and_pardoned_with_the_run() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            await world.put(BEGUN)
            await world.put(issued("a", run=RUN), issued("b", parents=["a"]), issued("c"))
            standing = against("run", RUN)
            await world.put(Revoked(revocation=standing))
            told = {(one.target_kind, one.target) for one in world.facts.told_revocations()}
            assert told == {("run", RUN), ("credential", "a"), ("credential", "b")}
            assert len({one.id for one in world.facts.told_revocations()}) == 3
            await world.put(Revoked(revocation=msgspec.structs.replace(standing, withdrawn_by="ff")))
            assert world.facts.told_revocations() == []

    asyncio.run(go())


def test_after_a_restart_and_in_a_replica_the_live_ones_are_known() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            await world.put(BEGUN)
            await world.put(issued("a", run=RUN), issued("b", parents=["a"]), issued("old", run=RUN, until=NOW + 5), issued("c"))
            later = UnixMillis(NOW + 6)
            again = Facts(world.facts.trust_domain, world.facts._fingerprint)
            start.replay(world.context.store, again, later)
            assert again.struck_credentials(against("run", RUN)) == {"a", "b"}
            loaded = {one.change.id for one in start.snapshot(world.context.store, later) if isinstance(one.change, CredentialIssued)}
            assert loaded == {"a", "b"}

    asyncio.run(go())


def test_a_registration_that_ended_is_nobody_and_its_grants_end_with_it() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            end = UnixMillis(NOW + 60_000)
            await serving(world)
            assert world.granted() == {ALICE}
            await world.put(RegistrationPut(registration=msgspec.structs.replace(registration(), expires_at=end)))
            await world.settled()
            assert {grant.not_after for grant in world.points.grants[DIGITS]} == {end}
            assert world.facts.groups_of(ALICE) == ("callers",)
            assert world.facts.expired(UnixMillis(end - 1)) == []
            world.clock.at = end
            world.context.publisher.redecide([])
            await world.settled()
            assert world.granted() == set()
            assert world.facts.registration_of(ALICE, end) is None
            assert world.facts.expired(end) == [ALICE]
            assert world.facts.expired(end) == [ALICE]

    asyncio.run(go())


def test_a_registration_that_was_made_longer_is_not_swept() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            for end in (NOW + 10, NOW + 1_000):
                await world.put(RegistrationPut(registration=msgspec.structs.replace(registration(), expires_at=UnixMillis(end))))
            assert world.facts.expired(UnixMillis(NOW + 20)) == []
            assert world.facts.expired(UnixMillis(NOW + 1_000)) == [ALICE]

    asyncio.run(go())


def test_a_removed_registration_loses_its_grants_at_once_and_is_not_there_after_a_restart() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            await serving(world)
            assert world.granted() == {ALICE}
            await world.put(RegistrationRemoved(principal=ALICE))
            assert world.granted() == set()
            await world.settled()
            assert world.granted() == set()
            with pytest.raises(NotFound):
                world.facts.check(RegistrationRemoved(principal=ALICE))
            again = Facts(world.facts.trust_domain, world.facts._fingerprint)
            start.replay(world.context.store, again, NOW)
            assert ALICE not in again.registrations
            await world.put(RegistrationPut(registration=registration()))
            await world.settled()
            assert world.granted() == {ALICE}

    asyncio.run(go())


def test_keys_of_others_only_get_newer() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            source = TrustSource(name="corp", kind="oidc", issuer="https://id.example", keys=b"{}", sequence=2, fetched_at=NOW)
            await world.put(SourcePut(source=source))
            assert world.facts.sources == {"corp": source}
            for sequence in (1, 2):
                with pytest.raises(Conflict):
                    world.facts.check(SourcePut(source=msgspec.structs.replace(source, sequence=sequence)))
            await world.put(SourceRemoved(name="corp"))
            assert world.facts.sources == {}

    asyncio.run(go())


def test_what_has_ended_is_swept_and_what_was_made_longer_is_not() -> None:
    async def go() -> None:
        async with running(make_world()) as world:
            end = UnixMillis(NOW + 60_000)
            names = [f"spiffe://test.local/service/serve/c{number}" for number in range(250)]
            await serving(world)
            for name in names:
                await world.put(RegistrationPut(registration=msgspec.structs.replace(registration(name), expires_at=end)))
            longer = msgspec.structs.replace(registration(names[0]), expires_at=UnixMillis(end + 1))
            await world.put(RegistrationPut(registration=longer))
            assert await sweep(world.context) == 0
            world.clock.at = end
            assert await sweep(world.context) == 249
            assert await sweep(world.context) == 0
            assert set(world.facts.registrations) == {ALICE, names[0]}
            await world.settled()
            assert world.granted() == {ALICE, names[0]}

    asyncio.run(go())
