"""Runs: what they begin on, what is bound to them, and that everything dies with them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flows_world import (
    ALICE,
    DIGITS,
    MODEL,
    NOW,
    OTHER_MODEL,
    TD,
    World,
    about,
    caller,
    make_world,
    registration,
    revoked,
    running,
    serving,
    vouched,
)

from vouchgate.flows import runs
from vouchgate.flows.changes import RegistrationPut, RunPut
from vouchgate.flows.delegation import run_facts, run_of
from vouchgate.flows.facts import compile_sources
from vouchgate.flows.issue_identity import issue_identity
from vouchgate.identity.ca import spki_of
from vouchgate.identity.jwtsvid import JwtFacts, read_jwt
from vouchgate.vocabulary.answers import Caller
from vouchgate.vocabulary.answers_identities import IdentityRequest, RunRequest
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound, NotPermitted, VouchgateError
from vouchgate.vocabulary.names import PrincipalId, principal
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Principal, VerifiedPrincipal
from vouchgate.vocabulary.runs import inputs_digest
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import from_plain

FIT = principal(TD, "job", "serve", "fit")
OTHER = principal(TD, "job", "serve", "other")


@pytest.fixture(autouse=True, scope="module")
def compiled_once() -> Iterator[None]:
    """The same few policies in every case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
        yield


@asynccontextmanager
async def house() -> AsyncIterator[tuple[World, Caller]]:
    async with running(make_world()) as world:
        boss = caller("ann", "registrar", "responder", groups=("runners",))
        await serving(
            world,
            registration(),
            registration(FIT),
            registration(OTHER),
            registration(boss.principal.principal.id, boss.principal.principal.groups),
        )
        await world.put(vouched("import", [about()]))
        yield world, boss


def wish(**changes: Any) -> RunRequest:
    return RunRequest(**({"principal": FIT, "stage": "train", "inputs": (MODEL.text,), "seconds": 600} | changes))


def issue(run: str, form: str = "x509", name: str = "fit", **changes: Any) -> IdentityRequest:
    spki = spki_of(ec.generate_private_key(ec.SECP256R1()).public_key()) if form == "x509" else b""
    wanted = {
        "kind": "job",
        "zone": "serve",
        "name": name,
        "form": form,
        "run": run,
        "spki": spki,
        "audience": "digits" if form == "jwt" else "",
    }
    return IdentityRequest(**(wanted | changes))


def verified_of(name: str, serial: str) -> VerifiedPrincipal:
    made = caller("x").principal
    return msgspec.structs.replace(made, principal=Principal(id=PrincipalId(name)), credential_id=serial)


def story_of(tell: Any) -> None:
    async def go() -> None:
        async with house() as (world, boss):
            await tell(world, boss)

    asyncio.run(go())


def test_a_run_binds_what_is_issued_under_it() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish())).run
        assert run.alive(NOW)
        made = await issue_identity(world.context, boss, issue(run.id, "jwt"))
        bundle = world.facts.bundle
        assert bundle is not None
        said = read_jwt(made.token, bundle, f"vg://{TD}/endpoint/digits", NOW)
        assert isinstance(said, JwtFacts)
        binding = said.beyond.binding
        assert binding is not None
        assert (binding.run, binding.zone, binding.stage, binding.inputs) == (run.id, "serve", "train", inputs_digest(run.inputs))
        certificate = await issue_identity(world.context, boss, issue(run.id))
        assert certificate.not_after <= run.not_after

    story_of(tell)


BAD: list[tuple[str, dict[str, Any], type[VouchgateError]]] = [
    ("nobody", {"principal": principal(TD, "job", "serve", "nobody")}, NotFound),
    ("a service", {"principal": ALICE}, InvalidInput),
    ("of another domain", {"principal": "spiffe://evil.local/job/serve/fit"}, NotFound),
    ("an input that is none", {"inputs": ("x",)}, InvalidInput),
    ("an input that was not admitted", {"inputs": (OTHER_MODEL.text,)}, NotFound),
    ("an unknown input among known ones", {"inputs": (MODEL.text, file_digest(b"?").text)}, NotFound),
]


@pytest.mark.parametrize(("changes", "error"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_a_run_does_not_begin_on_what_does_not_hold(changes: dict[str, Any], error: type[VouchgateError]) -> None:
    async def tell(world: World, boss: Caller) -> None:
        with pytest.raises(error):
            await runs.begin(world.context, boss, wish(**changes))
        assert not world.facts.runs

    story_of(tell)


@pytest.mark.parametrize(("kind", "target"), [("digest", MODEL.text), ("principal", FIT), ("registration", FIT)])
def test_a_run_does_not_begin_on_what_is_revoked(kind: str, target: str) -> None:
    async def tell(world: World, boss: Caller) -> None:
        await world.put(revoked(kind, target))
        with pytest.raises((Conflict, NotPermitted)):
            await runs.begin(world.context, boss, wish())
        await world.put(revoked(kind, target, withdrawn="w"))
        await runs.begin(world.context, boss, wish())

    story_of(tell)


def test_nobody_runs_after_the_end_of_its_registration() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish())).run
        await world.put(RegistrationPut(registration=msgspec.structs.replace(registration(FIT), expires_at=UnixMillis(NOW + 1_000))))
        world.clock.at = NOW + 1_000
        for form in ("x509", "jwt"):
            with pytest.raises(NotFound):
                await issue_identity(world.context, boss, issue(run.id, form, groups=None))
        with pytest.raises(NotFound):
            await runs.begin(world.context, boss, wish())

    story_of(tell)


def test_a_run_does_not_begin_on_failed_evidence() -> None:
    async def tell(world: World, boss: Caller) -> None:
        await world.put(vouched("scan", [about()], outcome="fail", issued_at=NOW, claims={"format": "onnx"}))
        with pytest.raises(Conflict):
            await runs.begin(world.context, boss, wish())

    story_of(tell)


def test_only_who_may_run_begins_or_ends() -> None:
    async def tell(world: World, boss: Caller) -> None:
        stranger = caller("eve")
        await world.put(RegistrationPut(registration=registration(stranger.principal.principal.id, ())))
        with pytest.raises(NotPermitted):
            await runs.begin(world.context, stranger, wish())
        run = (await runs.begin(world.context, boss, wish())).run
        with pytest.raises(NotPermitted):
            await runs.end(world.context, stranger, run.id, "mine")
        await world.put(RegistrationPut(registration=registration(OTHER, ("role:key-custodian",))))
        with pytest.raises(NotPermitted):
            await runs.begin(world.context, boss, wish(principal=OTHER))

    story_of(tell)


def test_ending_strikes_every_credential_at_every_point_and_nothing_more_is_issued() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish())).run
        other = (await runs.begin(world.context, boss, wish())).run
        struck = [(await issue_identity(world.context, boss, issue(run.id, form))).credential_id for form in ("x509", "jwt")]
        free = (await issue_identity(world.context, boss, issue(other.id))).credential_id
        ended = await runs.end(world.context, boss, run.id, "done")
        assert ended.credentials == 2
        assert [point.outcome for point in ended.points] == ["enforced"]
        told = {one.target for one in world.points.revocations}
        assert set(struck) <= told
        assert free not in told
        for refused in (issue(run.id), issue(run.id, "jwt")):
            with pytest.raises(Conflict):
                await issue_identity(world.context, boss, refused)
        with pytest.raises(Conflict):
            await runs.end(world.context, boss, run.id, "again")
        with pytest.raises(NotFound):
            await runs.end(world.context, boss, "run-0000000000000000", "?")

    story_of(tell)


def test_another_jobs_run_is_not_borrowed() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish())).run
        with pytest.raises(NotPermitted):
            await issue_identity(world.context, boss, issue(run.id, name="other"))
        with pytest.raises(NotFound):
            await issue_identity(world.context, boss, issue("run-0000000000000000"))

    story_of(tell)


def test_a_credential_that_was_signed_while_the_run_ended_is_never_given_out() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish())).run
        sign = world.context.signer.methods["x509_svid"]  # type: ignore[attr-defined]

        async def slow(**params: Any) -> Any:
            made = await sign(**params)
            await runs.end(world.context, boss, run.id, "now")
            return made

        world.context.signer.methods["x509_svid"] = slow  # type: ignore[attr-defined]
        with pytest.raises(Conflict):
            await issue_identity(world.context, boss, issue(run.id))
        assert not [one for one in world.store.scan("credential") if run.id.encode() in one.value]

    story_of(tell)


def test_revoking_the_run_is_as_good_as_ending_it() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish())).run
        made = await issue_identity(world.context, boss, issue(run.id))
        await world.put(revoked("run", run.id))
        assert made.credential_id in {one.target for one in world.points.revocations}
        with pytest.raises(Conflict):
            await issue_identity(world.context, boss, issue(run.id))

    story_of(tell)


def test_a_run_that_reached_its_end_is_marked_and_gives_nothing() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish(seconds=60))).run
        assert runs.over(world.context) == []
        world.clock.at += 55_000
        with pytest.raises(Conflict):
            await issue_identity(world.context, boss, issue(run.id))
        world.clock.at += 10_000
        assert runs.over(world.context) == [run]
        assert not run.alive(UnixMillis(world.clock.at))

    story_of(tell)


def test_a_restart_knows_the_runs_and_what_they_bound() -> None:
    async def tell(world: World, boss: Caller) -> None:
        from vouchgate.flows import start
        from vouchgate.flows.facts import Facts

        run = (await runs.begin(world.context, boss, wish())).run
        made = await issue_identity(world.context, boss, issue(run.id))
        again = Facts(TD, world.facts._fingerprint)
        start.replay(world.store, again, NOW)
        assert again.runs[run.id] == run
        assert ("run", run.id) in set(again.credentials.grounds(made.credential_id))

    story_of(tell)


def test_listed_newest_first() -> None:
    async def tell(world: World, boss: Caller) -> None:
        first = (await runs.begin(world.context, boss, wish())).run
        world.clock.at += 30_000
        second = (await runs.begin(world.context, boss, wish())).run
        assert [one.id for one in runs.listed(world.context)] == [second.id, first.id]
        assert RunPut(run=first)

    story_of(tell)


def test_a_run_says_what_it_is_for_on_each_of_its_requests() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish(purpose="fraud-model"))).run
        assert run.purpose == "fraud-model"
        assert run_facts(run, world.facts, DIGITS)["purpose"] == "fraud-model"
        silent = (await runs.begin(world.context, boss, wish())).run
        assert "purpose" not in run_facts(silent, world.facts, DIGITS)
        assert run_facts(None, world.facts, DIGITS) == {}

    story_of(tell)


@pytest.mark.parametrize("purpose", ["Fraud", "a b", "x" * 65, "-a", "a\n", "é"])
def test_a_purpose_that_is_none_is_refused(purpose: str) -> None:
    with pytest.raises(InvalidInput):
        from_plain(RunRequest, {"principal": FIT, "stage": "train", "purpose": purpose}, what="request")


def test_a_certificate_of_a_run_carries_its_purpose_while_it_goes_on_and_nothing_else_does() -> None:
    async def tell(world: World, boss: Caller) -> None:
        run = (await runs.begin(world.context, boss, wish(purpose="fraud-model"))).run
        made = await issue_identity(world.context, boss, issue(run.id))
        serial = made.credential_id
        caller_ = verified_of(FIT, serial)
        found = run_of(caller_, serial, world.facts, NOW)
        assert found == run
        assert run_of(verified_of(OTHER, "0d"), "0d", world.facts, NOW) is None
        await runs.end(world.context, boss, run.id, "over")
        gone = run_of(caller_, serial, world.facts, NOW)
        assert isinstance(gone, Denied)
        assert gone.code == "run-ended"

    story_of(tell)
