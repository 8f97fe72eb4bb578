"""Evidence from outside: a delegated producer's vouch counts, everything else is refused with its reason; a posture that lapses takes grants away."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flows_world import (
    ALICE,
    BOB,
    DIGITS,
    HOUR,
    KEYS,
    NOW,
    ROOTS,
    TD,
    TRUST_ROOT,
    World,
    about,
    lasting,
    make_world,
    registration,
    revoked,
    running,
    serving,
)

from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.flows import take_vouch
from vouchgate.flows.changes import RegistrationPut, TrustRootAdopted
from vouchgate.flows.context import Buckets
from vouchgate.flows.facts import compile_sources
from vouchgate.flows.initialise import sign_with
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.errors import LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.trust import Delegation, PublicKey, key_id
from vouchgate.vocabulary.vouches import Method, Subject, Vouch

EDR, STRANGE = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
EDR_KEY = PublicKey(key_id=key_id(spki_of(EDR)), spki=spki_of(EDR), purpose="device")
ROOT = msgspec.structs.replace(
    TRUST_ROOT,
    version=TRUST_ROOT.version + 1,
    keys=(*TRUST_ROOT.keys, EDR_KEY),
    delegations=(
        *TRUST_ROOT.delegations,
        Delegation(
            key_id=EDR_KEY.key_id, role="device", predicates=("posture",), highest_tier="cooperative", expires_at=TRUST_ROOT.expires_at
        ),
    ),
)
ANN, EVE = lasting("ann", "registrar", "auditor"), lasting("eve", "auditor")
POLICY = (
    (
        "posture.cedar",
        '@id("healthy") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint)\n'
        'when { principal.vouches.contains("posture@cooperative") && context.risk < 60 };',
    ),
)


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each case has a bucket of its own."""
    monkeypatch.setattr(take_vouch, "_buckets", Buckets(take_vouch.PER_MINUTE))
    monkeypatch.setattr("vouchgate.flows.facts.compile_sources", functools.cache(compile_sources))
    yield


def posture(*, key: Ed25519PrivateKey = EDR, **changes: Any) -> bytes:
    wanted = {
        "id": "", "trust_domain": TD, "predicate_type": "posture", "predicate_version": 1, "subjects": (Subject(name=ALICE),),
        "outcome": "pass", "issuer_key": key_id(spki_of(key)), "issuer_role": "device", "issued_at": NOW, "not_before": NOW,
        "expires_at": NOW + HOUR, "tier": "cooperative", "method": Method(tool="edr", version="1"),
        "claims": {"source": "edr", "checked": ["disk", "patches"], "disk_encrypted": True, "patch_level": "2026-11"},
    }  # fmt: skip
    return sign_vouch(Vouch(**(wanted | changes)), key).envelope


def story(tell: Callable[[World], Awaitable[None]], policies: Any = POLICY) -> None:
    async def go() -> None:
        async with running(make_world(), policies=policies) as world:
            await world.put(TrustRootAdopted(signed=sign_with(ROOT, [ROOTS[0].pem])))
            people = [registration(one.principal.principal.id, one.principal.principal.groups) for one in (ANN, EVE)]
            await serving(world, registration(), registration(BOB), *people)
            await tell(world)

    asyncio.run(go())


async def hand_in(world: World, envelope: bytes, who: Any = ANN) -> VouchTaken:
    made = await take_vouch.take(world.context, who, envelope)
    await world.settled()
    return made


def test_a_posture_counts_for_its_caller_alone_and_until_it_lapses() -> None:
    async def tell(world: World) -> None:
        assert world.granted() == set()
        made = await hand_in(world, posture())
        assert (made.taken, made.predicate, made.subjects) == (True, "posture", (ALICE,))
        assert world.granted() == {ALICE}
        assert all(grant.not_after <= NOW + HOUR for grant in world.points.grants[DIGITS])
        assert [one.state for one in take_vouch.listed(world.context, "alice")] == ["holds"]
        world.clock.at += HOUR
        touched = world.facts.advance(world.clock.now())
        assert (DIGITS, ALICE) in touched
        assert (DIGITS, BOB) not in touched
        world.context.publisher.redecide(touched)
        await world.settled()
        assert world.granted() == set()

    story(tell)


def test_a_lapse_is_noticed_without_anybody_s_asking() -> None:
    async def tell(world: World) -> None:
        await hand_in(world, posture(expires_at=NOW + 4_000))
        assert world.granted() == {ALICE}
        world.clock.at += 4_000
        end = asyncio.get_running_loop().time() + 5
        while world.granted() and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        assert world.granted() == set()

    story(tell)


@pytest.mark.parametrize("how", ["a fail", "a revocation", "the key's revocation", "the key's delegation is taken back"])
def test_a_posture_that_turned_takes_the_grants_away(how: str) -> None:
    async def tell(world: World) -> None:
        made = await hand_in(world, posture())
        assert world.granted() == {ALICE}
        if how == "a fail":
            await hand_in(world, posture(outcome="fail", issued_at=NOW + 1))
        elif how == "a revocation":
            await world.put(revoked("vouch", made.id))
        elif how == "the key's revocation":
            await world.put(revoked("key", EDR_KEY.key_id))
        else:
            gone = msgspec.structs.replace(TRUST_ROOT, version=ROOT.version + 1)
            await world.put(TrustRootAdopted(signed=sign_with(gone, [ROOTS[0].pem])))
        await world.settled()
        assert world.granted() == set()

    story(tell)


def flipped(envelope: bytes) -> bytes:
    """Another letter of the signature's base64."""
    return envelope[:-40] + (b"A" if envelope[-40:-39] != b"A" else b"B") + envelope[-39:]


WAIVER_CLAIMS = {"control": "scan", "reason": "r", "requester": "a", "approver": "b"}
BAD: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "unverified"),
    ("no envelope", b"{}", "unverified"),
    ("not JSON", b"\xff" * 100, "unverified"),
    ("deep JSON", b"[" * 100_000, "unverified"),
    ("a key that nobody delegated", posture(key=STRANGE), "unverified"),
    ("a flipped byte", flipped(posture()), "unverified"),
    ("a role that it does not have", posture(issuer_role="supervisor"), "unverified"),
    ("stronger than delegated", posture(tier="verified"), "tier"),
    ("another predicate", posture(predicate_type="attested", claims={"checked": []}), "unverified"),
    ("another trust domain", posture(trust_domain="evil.local", subjects=(Subject(name="spiffe://evil.local/service/a/b"),)), "unverified"),
    ("lapsed", posture(issued_at=NOW - 3 * HOUR, not_before=NOW - 3 * HOUR, expires_at=NOW - 1), "expired"),
    ("not begun", posture(not_before=NOW + HOUR, expires_at=NOW + 2 * HOUR), "unverified"),
    ("from the future", posture(issued_at=NOW + HOUR, expires_at=NOW + 2 * HOUR), "unverified"),
    ("for days", posture(expires_at=NOW + 25 * HOUR), "unverified"),
    ("claims that are none", posture(claims={"source": "edr", "checked": ["x"], "role": "admin"}), "unverified"),
    ("claims of another type", posture(claims={"source": "edr", "checked": "all"}), "unverified"),
    ("resting on nothing known", posture(rests_on=("ab" * 32,)), "absent"),
]


@pytest.mark.parametrize(("envelope", "why"), [pytest.param(envelope, why, id=name) for name, envelope, why in BAD])
def test_what_is_refused(envelope: bytes, why: str) -> None:
    async def tell(world: World) -> None:
        before = world.store.size()
        made = await hand_in(world, envelope)
        assert (made.taken, made.why) == (False, why)
        assert made.reason
        assert made.remedy
        assert world.store.size() > before
        assert world.granted() == set()

    story(tell)


@pytest.mark.parametrize("predicate", ["waiver", "approval"])
def test_an_agreement_never_comes_from_outside(predicate: str) -> None:
    """Even under the key that signs agreements here."""
    claims = WAIVER_CLAIMS
    if predicate == "approval":
        claims = {"action": "a", "requester": "r", "approvers": ["a"], "params_digest": "d", "nonce": "n"}  # type: ignore[dict-item]

    async def tell(world: World) -> None:
        envelope = posture(
            key=KEYS.ed25519["approver"],
            predicate_type=predicate,
            issuer_role="approver",
            tier="declared",
            claims=claims,
            subjects=(about(),),
        )
        made = await hand_in(world, envelope)
        assert (made.taken, made.why) == (False, "unverified")
        assert "agreement" in made.reason
        assert world.facts.waivers == {}

    story(tell)


def test_who_may_hand_in_is_decided_and_again_is_no_change() -> None:
    async def tell(world: World) -> None:
        with pytest.raises(NotPermitted):
            await hand_in(world, posture(), EVE)
        first = await hand_in(world, posture())
        epoch = world.facts.epoch
        again = await hand_in(world, posture())
        assert (again.taken, again.why, again.id) == (True, "known", first.id)
        assert world.facts.epoch == epoch

    story(tell)


def test_an_older_pass_does_not_clear_a_newer_fail() -> None:
    async def tell(world: World) -> None:
        older = posture(issued_at=NOW - 5, not_before=NOW - 5)
        await hand_in(world, posture(outcome="fail"))
        assert (await hand_in(world, older)).taken
        assert world.granted() == set()

    story(tell)


def test_handing_in_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take_vouch, "_buckets", Buckets(2))

    async def tell(world: World) -> None:
        await hand_in(world, b"x")
        await hand_in(world, b"x")
        with pytest.raises(LimitExceeded):
            await hand_in(world, b"x")

    story(tell)


def test_a_vouch_about_nobody_gives_nobody_anything() -> None:
    async def tell(world: World) -> None:
        nobody = f"spiffe://{TD}/service/serve/nobody"
        assert (await hand_in(world, posture(subjects=(Subject(name=nobody),)))).taken
        assert world.granted() == set()
        with pytest.raises(NotFound):
            take_vouch.listed(world.context, nobody)
        await world.put(RegistrationPut(registration=registration(nobody, ())))
        assert world.granted() == set()

    story(tell)
