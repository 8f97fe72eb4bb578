"""Somebody answers for a class in one artifact: it is taken in with that, rests on it, and goes with it. The real reading of real pickles, the real
facts, publisher, PDP worker, signer and content store."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flows_world as w
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import read_vouch, sign_vouch
from vouchgate.flows import allowances_standing, rescan, revoke, scanner_seen, start, take_vouch
from vouchgate.flows.admit_artifact import admit_artifact
from vouchgate.flows.changes import EndpointPut, RegistrationPut, SettingPut, TrustRootAdopted, VouchAdded, ZonePut
from vouchgate.flows.context import Buckets
from vouchgate.flows.facts import Facts
from vouchgate.flows.import_desk import Desk, desk_of
from vouchgate.flows.initialise import sign_with
from vouchgate.flows.sequence import Sequenced
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.overlay import Overlay
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.answers import ImportOutcome, RescanState
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotPermitted
from vouchgate.vocabulary.trust import Delegation, PublicKey, key_id
from vouchgate.vocabulary.vouches import Method, UnixMillis, Vouch

GOOD = b"\x02\0\0\0\0\0\0\0{}"
MODEL = b"\x80\x02cacme.features\nScaler\n)\x81}X\x01\x00\x00\x00aK\x02sb."
TWO = b"\x80\x02cacme.features\nScaler\n)\x81cacme.features\nOther\n)\x81\x86."
ACTS = b"cos\nsystem\n(S'true'\ntR."
CLAIMS = {"signer": "acme", "kind": "key", "identity": "acme", "bundle": "sha256:" + "b" * 64}
REVIEWER, SECOND, AUTHOR = (Ed25519PrivateKey.generate() for _ in range(3))
ANN, BEN = w.lasting("ann", "registrar", "auditor", "responder"), w.lasting("ben", "registrar", "responder")


def named(key: Ed25519PrivateKey, purpose: str) -> PublicKey:
    return PublicKey(key_id=key_id(spki_of(key)), spki=spki_of(key), purpose=purpose)


def trust(version: int, *reviewers: Ed25519PrivateKey) -> TrustRootAdopted:
    """The reviewers may allow; the importer may also vouch for signatures."""
    importer = key_id(spki_of(w.KEYS.ed25519["importer"]))
    keys = tuple(PublicKey(key_id=key_id(spki_of(one)), spki=spki_of(one), purpose="reviewer") for one in reviewers)
    may = [(one.key_id, "reviewer", "allow") for one in keys] + [(importer, "importer", "signature")]
    delegations = [
        Delegation(key_id=key, role=role, predicates=(predicate,), highest_tier="verified", expires_at=w.TRUST_ROOT.expires_at)
        for key, role, predicate in may
    ]
    root = replace(
        w.TRUST_ROOT,
        version=w.TRUST_ROOT.version + version,
        keys=(*w.TRUST_ROOT.keys, *keys),
        delegations=(*w.TRUST_ROOT.delegations, *delegations),
    )
    return TrustRootAdopted(signed=sign_with(root, [w.ROOTS[0].pem]))


class Reads:
    """The scanner's twin: the real reading over the real knowledge base, with versions that the test turns."""

    def __init__(self) -> None:
        self.version, self.knowledge = "2", 50
        self.read: list[str] = []
        self.hook: Callable[[], None] = lambda: None

    def __call__(self, fd: int, *, name: str, allowed: Mapping[str, tuple[Entry, ...]] | None = None) -> ScanReport:
        content = os.pread(fd, 1 << 20, 0)
        digest = file_digest(content)
        own = (allowed or {}).get(digest.text)
        self.read.append(("probe" if name == "probe" else "it") + (" with" if own else ""))
        verdict = scan(content, name, knowledge=Overlay(shipped(), own) if own else shipped())
        if own and name != "probe":
            self.hook()
        return ScanReport(verdict=replace(verdict, scanner_version=self.version, knowledge_version=self.knowledge), digest=digest)


@dataclasses.dataclass
class House:
    """A control plane with a content store and reviewers."""

    world: w.World
    reads: Reads
    store: ArtifactStore
    folder: Path

    @property
    def now(self) -> UnixMillis:
        return self.world.clock.now()

    def tick(self, milliseconds: int = 1000) -> None:
        self.world.clock.at += milliseconds

    def desk(self) -> Desk:
        desk = desk_of(self.world.context, ANN, artifacts=self.store, scan=self.reads)
        return dataclasses.replace(desk, decide=lambda name: replace(desk.decide(name), effect="allow"))

    async def take(self, content: bytes = MODEL) -> ImportOutcome:
        self.tick()
        self.reads.read.clear()
        (self.folder.parent / "in").write_bytes(content)
        descriptor = os.open(self.folder.parent / "in", os.O_RDONLY)
        try:
            return await admit_artifact(self.desk(), descriptor, name="m", zone="serve")
        finally:
            os.close(descriptor)
            await self.world.settled()

    def allow(
        self, *, key: Ed25519PrivateKey = REVIEWER, days: float = 30, content: bytes = MODEL, name: str = "Scaler", **more: Any
    ) -> bytes:
        """A reviewer's envelope."""
        self.tick()
        claims = {"module": "acme.features", "name": name, "use": "constructible", "why": "it scales columns"}
        wanted = {
            "id": "", "trust_domain": w.TD, "predicate_type": "allow", "predicate_version": 1, "subjects": (w.about(file_digest(content)),),
            "outcome": "pass", "issuer_key": key_id(spki_of(key)), "issuer_role": "reviewer", "issued_at": self.now, "not_before": self.now,
            "expires_at": self.now + int(days * w.DAY), "tier": "declared", "method": Method(tool="vouchgate-knowledge", version="1"), "claims": claims,
        }  # fmt: skip
        return sign_vouch(Vouch(**(wanted | more)), key).envelope

    async def hand_in(self, envelope: bytes) -> Any:
        made = await take_vouch.take(self.world.context, ANN, envelope)
        await self.world.settled()
        return made

    def signature(self, *, content: bytes = MODEL, of: Ed25519PrivateKey = AUTHOR) -> bytes:
        """Our importer vouches that the author's key signed the model."""
        about = {"predicate_type": "signature", "issuer_role": "importer", "claims": CLAIMS | {"authors": ["f" * 64, key_id(spki_of(of))]}}
        return self.allow(key=w.KEYS.ed25519["importer"], content=content, **about)

    def holds(self, digest: Digest = file_digest(MODEL)) -> set[str]:
        held = self.world.facts.lineage.holding(w.about(digest).name, self.now)
        return {one.predicate for one in held if one.outcome == "pass"}

    async def served(self) -> None:
        """The model is served to alice."""
        digest = file_digest(MODEL)
        await self.world.put(ZonePut(zone=w.zone()), EndpointPut(endpoint=w.endpoint()))
        life = {"issued_at": self.now, "not_before": self.now, "expires_at": self.now + 400 * w.DAY}
        await self.world.put(w.vouched("serves", [w.served("digits", digest)], **life), RegistrationPut(registration=w.registration()))
        await self.world.settled()

    async def later(self, milliseconds: int) -> None:
        """Time passes, and whoever is to notice does."""
        self.tick(milliseconds)
        self.world.context.publisher.redecide(self.world.facts.advance(self.now))
        await self.world.settled()


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each case has a bucket of its own."""
    monkeypatch.setattr(take_vouch, "_buckets", Buckets(take_vouch.PER_MINUTE))
    yield


@pytest.fixture
def house(tmp_path: Path) -> Callable[[Callable[[House], Awaitable[None]]], None]:
    def tell(story: Callable[[House], Awaitable[None]]) -> None:
        async def told() -> None:
            folder = tmp_path / "artifacts"
            folder.mkdir()
            async with w.running(w.make_world(solo=True)) as world:
                await world.put(trust(1, REVIEWER, SECOND, AUTHOR))
                people = [w.registration(one.principal.principal.id, one.principal.principal.groups) for one in (ANN, BEN)]
                await world.put(*(RegistrationPut(registration=one) for one in people))
                await story(House(world, Reads(), ArtifactStore(folder, reserve_bytes=0), folder))

        asyncio.run(told())

    return tell


Tell = Callable[[Callable[[House], Awaitable[None]]], None]


def test_with_an_allowance_it_is_taken_in_and_rests_on_it(house: Tell) -> None:
    async def story(at: House) -> None:
        refused = await at.take()
        assert not refused.admitted and "acme.features" in refused.reason
        assert at.reads.read == ["probe", "it"]
        given = await at.hand_in(at.allow())
        assert given.taken
        admitted = await at.take()
        assert admitted.admitted and "a reviewer answers for `acme.features.Scaler`" in admitted.reason
        assert at.reads.read == ["probe", "it", "probe with", "it with"]
        made = {one.predicate: one for one in admitted.vouches}
        assert {one: made[one].rests_on for one in ("scan", "structure")} == {"scan": (given.id,), "structure": (given.id,)}
        assert {made[one].expires_at for one in ("scan", "structure")} == {given.expires_at}
        assert at.world.facts.lineage.vouches[made["scan"].id].claims["allowed"] == ["acme.features.Scaler"]
        assert at.holds() == {"allow", "scan", "structure", "import"}

    house(story)


def test_a_lapse_takes_the_service_away_at_that_moment_and_not_before(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow(days=10))
        begun = at.now
        assert (await at.take()).admitted
        await at.served()
        assert at.world.granted() == {w.ALICE}
        await at.later(begun + 10 * w.DAY - 1 - at.now)
        assert at.world.granted() == {w.ALICE}
        await at.later(1)
        assert at.world.granted() == set()
        assert at.holds() == {"import"}
        assert not (await at.take()).admitted

    house(story)


@pytest.mark.parametrize("how", ["revoked", "its key revoked", "its delegation taken back"])
def test_what_takes_the_allowance_takes_the_scan(how: str, house: Tell) -> None:
    async def story(at: House) -> None:
        given = await at.hand_in(at.allow())
        assert (await at.take()).admitted
        await at.served()
        assert at.world.granted() == {w.ALICE}
        if how == "revoked":
            await at.world.put(w.revoked("vouch", given.id))
        elif how == "its key revoked":
            await at.world.put(w.revoked("key", key_id(spki_of(REVIEWER))))
        else:
            await at.world.put(trust(2, SECOND))
        await at.world.settled()
        assert at.world.granted() == set()
        assert not {"scan", "structure"} & at.holds()
        assert not (await at.take()).admitted

    house(story)


def test_an_allowance_by_an_author_is_not_taken_in_and_counts_for_nothing(house: Tell) -> None:
    async def story(at: House) -> None:
        assert (await at.hand_in(at.signature())).taken
        mine = at.allow(key=AUTHOR)
        said = await at.hand_in(mine)
        assert not said.taken and "signed nothing else about it" in said.reason and "somebody else" in said.remedy
        # as if it had been in the store all the time
        await at.world.put(VouchAdded(id=read_vouch(mine).vouch.id, envelope=mine))
        assert at.holds() == {"signature", "allow"}
        assert allowances_standing.standing(at.world.facts, file_digest(MODEL).text, at.now) == ()
        assert not (await at.take()).admitted

    house(story)


def test_who_allowed_and_turns_out_to_have_signed_it_is_an_author_from_then_on(house: Tell) -> None:
    async def story(at: House) -> None:
        given = await at.hand_in(at.allow(key=AUTHOR))
        assert (await at.take()).admitted
        await at.served()
        assert at.world.granted() == {w.ALICE}
        assert (await at.hand_in(at.signature())).taken
        assert at.world.granted() == set()
        (fallen,) = [one for one in at.world.facts.revocations.values() if one.target == given.id]
        assert fallen.requested_by == "system:allowances" and "nobody answers for their own" in fallen.reason
        for who in (ANN, BEN):
            with pytest.raises(NotPermitted, match="nobody undoes that"):
                await revoke.unrevoke(at.world.context, who, fallen.id, "please")
        assert not (await at.take()).admitted
        assert (await at.hand_in(at.allow(key=SECOND))).taken
        assert (await at.take()).admitted, "somebody else may answer for it"

    house(story)


def test_an_author_s_allowance_does_not_come_back_with_the_undo_of_another_revocation(house: Tell) -> None:
    async def story(at: House) -> None:
        given = await at.hand_in(at.allow(key=AUTHOR))
        assert (await at.take()).admitted
        await at.world.put(w.revoked("vouch", given.id))
        assert (await at.hand_in(at.signature())).taken
        await at.world.put(w.revoked("vouch", given.id, withdrawn="w1"))
        await at.world.settled()
        assert not {"allow", "scan", "structure"} & at.holds()

    house(story)


def test_it_does_not_come_back_with_a_trust_root_either_nor_with_a_restart(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow(key=AUTHOR))
        assert (await at.take()).admitted
        await at.world.put(trust(2, REVIEWER))
        assert not {"allow", "scan"} & at.holds()
        assert (await at.hand_in(at.signature())).taken
        await at.world.put(trust(3, REVIEWER, AUTHOR))
        again = Facts(w.TD, w.FINGERPRINT)
        start.replay(at.world.store, again, at.now)
        name = w.about(file_digest(MODEL)).name
        assert "scan" in {one.predicate for one in again.lineage.holding(name, at.now) if one.outcome == "pass"}, "the store has all of it"
        context = replace_facts(at, again)
        assert await allowances_standing.settle(context) == 1
        assert not {"allow", "scan", "structure"} & {one.predicate for one in again.lineage.holding(name, at.now) if one.outcome == "pass"}
        assert allowances_standing.forfeited_all(again, at.now) == []

    house(story)


def replace_facts(at: House, facts: Facts) -> Any:
    """A control plane that has just replayed."""

    class Started:
        """What `settle` works with."""

        def __init__(self) -> None:
            self.facts, self.clock, self.sequencer = facts, at.world.clock, self

        async def submit(self, who: str, changes: Any, entries: Any) -> None:
            for change in changes:
                facts.check(change)
                facts.apply(Sequenced(epoch=facts.epoch + 1, log_index=10_000, change=change), at.now)

    return Started()


def test_what_another_key_says_of_it_ends_nobody_s_allowance(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow())
        await at.take()
        assert (await at.hand_in(at.signature())).taken
        assert (await at.hand_in(at.signature(content=GOOD, of=REVIEWER))).taken
        assert {"scan", "structure", "allow"} <= at.holds()

    house(story)


@pytest.mark.parametrize(
    "how",
    [
        {"claims": {"module": "os", "name": "system", "use": "constructible", "why": "w"}},
        {"claims": {"module": "acme.features", "name": "Scaler", "use": "callable", "why": "w"}},
        {"days": 91},
        {"subjects": (w.about(file_digest(MODEL)), w.about(file_digest(GOOD)))},
        {"outcome": "fail"},
        {"key": Ed25519PrivateKey.generate()},
        {"issuer_role": "supervisor"},
        {"tier": "inferred", "claims": {"module": "acme.features", "name": "Scaler", "use": "inert", "why": "w"}},
    ],
)
def test_what_could_never_count_is_not_taken_in(how: dict[str, Any], house: Tell) -> None:
    async def story(at: House) -> None:
        said = await at.hand_in(at.allow(**how))
        assert not said.taken and said.reason and said.remedy
        assert not (await at.take()).admitted

    house(story)


def test_it_counts_for_one_content_and_what_acts_stays_refused(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow())
        other = MODEL.replace(b"K\x02", b"K\x03")
        assert not (await at.take(other)).admitted
        assert at.reads.read == ["probe", "it"]
        await at.hand_in(at.allow(content=ACTS, name="Scaler"))
        outcome = await at.take(ACTS)
        assert not outcome.admitted and "os.system" in outcome.reason
        assert at.reads.read == ["probe", "it", "probe with", "it with"]
        refused = at.world.facts.lineage.vouches[outcome.vouches[0].id]
        assert (refused.outcome, refused.rests_on) == ("fail", ())

    house(story)


def test_a_pass_that_needs_no_allowance_rests_on_none(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow(content=GOOD))
        outcome = await at.take(GOOD)
        assert outcome.admitted and "reviewer" not in outcome.reason
        assert all(not one.rests_on for one in outcome.vouches if one.predicate != "import")
        assert at.reads.read == ["probe", "it"]

    house(story)


def test_every_name_needs_somebody_and_the_first_end_is_the_scan_s(house: Tell) -> None:
    async def story(at: House) -> None:
        first = await at.hand_in(at.allow(content=TWO, days=40))
        assert not (await at.take(TWO)).admitted
        second = await at.hand_in(at.allow(content=TWO, name="Other", key=SECOND, days=20))
        outcome = await at.take(TWO)
        assert outcome.admitted
        (scanned,) = [one for one in outcome.vouches if one.predicate == "scan"]
        assert set(scanned.rests_on) == {first.id, second.id}
        assert scanned.expires_at == second.expires_at

    house(story)


def test_an_old_verdict_counts_only_with_the_same_allowance(house: Tell) -> None:
    async def story(at: House) -> None:
        given = await at.hand_in(at.allow())
        first = await at.take()
        again = await at.take()
        assert at.reads.read == ["probe", "probe with"]
        assert again.admitted and "a reviewer answers" in again.reason
        assert {one.id for one in first.vouches if one.predicate != "import"} < {one.id for one in again.vouches}
        renewed = await at.hand_in(at.allow(days=60))
        assert renewed.expires_at > given.expires_at
        longer = await at.take()
        assert "it with" in at.reads.read
        assert {one.expires_at for one in longer.vouches if one.predicate == "scan"} == {renewed.expires_at}
        await at.world.put(w.revoked("vouch", renewed.id))
        await at.take()
        assert {"scan", "structure"} <= at.holds(), "the one before still counts"
        await at.world.put(w.revoked("vouch", given.id, id="r2"))
        assert not (await at.take()).admitted

    house(story)


def test_an_allowance_that_goes_while_it_is_read_admits_nothing(house: Tell) -> None:
    async def story(at: House) -> None:
        given = await at.hand_in(at.allow())
        loop = asyncio.get_running_loop()
        at.reads.hook = lambda: asyncio.run_coroutine_threadsafe(at.world.put(w.revoked("vouch", given.id)), loop).result()  # type: ignore[assignment,return-value]
        outcome = await at.take()
        assert not outcome.admitted and "changed while it was read" in outcome.reason
        assert not (at.folder / file_digest(MODEL).value).exists()

    house(story)


def test_an_allowance_that_has_not_begun_or_has_ended_lets_nothing_in(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow(days=1))
        at.tick(w.DAY)
        assert not (await at.take()).admitted
        said = await at.hand_in(at.allow(not_before=UnixMillis(at.now + w.HOUR), expires_at=UnixMillis(at.now + w.DAY)))
        assert not said.taken

    house(story)


def test_a_newer_knowledge_base_takes_one_revocation_and_the_allowance_goes_on(house: Tell) -> None:
    async def story(at: House) -> None:
        given = await at.hand_in(at.allow())
        await at.take()
        await at.take(GOOD)
        await at.served()
        at.reads.knowledge += 1
        at.tick()
        told: list[RescanState] = []
        await rescan.rescan(at.world.context, at.desk(), told.append)
        await at.world.settled()
        assert (told[-1].total, told[-1].clean, told[-1].lost, told[-1].fallen) == (2, 2, 0, 4)
        assert len([one for one in at.world.facts.revocations.values() if one.target_kind == "scanner"]) == 1
        assert at.world.granted() == {w.ALICE}
        standing = [one for one in at.world.facts.lineage.holding(w.about(file_digest(MODEL)).name, at.now) if one.predicate == "scan"]
        assert [one.not_after for one in standing] == [given.expires_at]

    house(story)


def test_a_rescan_without_the_allowance_takes_the_service_away(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.hand_in(at.allow(days=1))
        await at.take()
        at.reads.knowledge += 1
        at.tick(w.DAY)
        told: list[RescanState] = []
        await rescan.rescan(at.world.context, at.desk(), told.append)
        assert told[-1].total == 0, "its scan had ended with the allowance"
        assert not {"scan", "structure"} & at.holds()

    house(story)


@pytest.mark.parametrize("what", ["rules", "knowledge", "content"])
def test_an_older_scanner_is_refused_also_after_a_restart(what: str, house: Tell) -> None:
    async def story(at: House) -> None:
        assert (await at.take(GOOD)).admitted
        seen = at.world.facts.settings[scanner_seen.KEY]
        assert seen == f"2 50 {shipped().digest}"
        await at.world.put(trust(2, REVIEWER))
        again = Facts(w.TD, w.FINGERPRINT)
        start.replay(at.world.store, again, at.now)
        assert again.settings[scanner_seen.KEY] == seen
        before = set(at.world.facts.lineage.vouches)
        if what == "rules":
            at.reads.version = "1"
        elif what == "knowledge":
            at.reads.knowledge = 49
        else:
            await at.world.put(SettingPut(key=scanner_seen.KEY, value=f"2 51 {'a' * 64}"))
            at.reads.knowledge = 51
        with pytest.raises(Conflict) as refused:
            await at.take(b'["other"]')
        assert "install" in refused.value.remedy
        with pytest.raises(Conflict):
            await rescan.rescan(at.world.context, at.desk(), lambda _: None)
        assert set(at.world.facts.lineage.vouches) == before
        assert any(b"use-scanner" in entry and b"denied" in entry for entry in at.world.entries())

    house(story)


def test_the_highest_version_is_never_written_lower(house: Tell) -> None:
    async def story(at: House) -> None:
        await at.world.put(SettingPut(key=scanner_seen.KEY, value="3 60 ab"))
        for value in ("2 60 ab", "3 59 ab", "3 60 cd", "2 61 ab"):
            with pytest.raises(Conflict):
                await at.world.put(SettingPut(key=scanner_seen.KEY, value=value))
        with pytest.raises(InvalidInput):
            await at.world.put(SettingPut(key=scanner_seen.KEY, value="latest"))
        await at.world.put(SettingPut(key=scanner_seen.KEY, value="3 61 cd"))
        assert at.world.facts.settings[scanner_seen.KEY] == "3 61 cd"

    house(story)


def test_a_child_that_lies_about_its_version_moves_nothing(house: Tell) -> None:
    async def story(at: House) -> None:
        assert (await at.take(GOOD)).admitted
        desk = at.desk()

        def lying(fd: int, *, name: str, allowed: Any = None) -> ScanReport:
            said = at.reads(fd, name=name, allowed=allowed)
            return said if name == "probe" else replace(said, verdict=replace(said.verdict, knowledge_version=999_999_999))

        (at.folder.parent / "in").write_bytes(b'["other"]')
        descriptor = os.open(at.folder.parent / "in", os.O_RDONLY)
        outcome = await admit_artifact(dataclasses.replace(desk, scan=lying), descriptor, name="m", zone="serve")
        os.close(descriptor)
        assert not outcome.admitted and "other versions" in outcome.reason
        assert at.world.facts.settings[scanner_seen.KEY].startswith("2 50 ")

    house(story)
