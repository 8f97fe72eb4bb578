"""A newer scanner: what is kept is scanned again first, then one revocation; the real facts, publisher, signer, store of artifacts and policy."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import flows_world as w
import pytest
from msgspec.structs import replace

from vouchgate.flows import rescan as flow
from vouchgate.flows.admit_artifact import admit_artifact
from vouchgate.flows.changes import EndpointPut, RegistrationPut, ZonePut
from vouchgate.flows.import_desk import Desk, desk_of
from vouchgate.identity.verify import peer_uid
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Reason, ScanReport
from vouchgate.vocabulary.answers import ImportOutcome, RescanState
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.errors import Conflict, InvalidInput, Unavailable
from vouchgate.vocabulary.names import PrincipalId
from vouchgate.vocabulary.principals import Principal
from vouchgate.vocabulary.vouches import Method, Vouch, below_scanner, scanner_target

GOOD, OTHER, THIRD = (b"\x02\0\0\0\0\0\0\0{}", b'["other"]', b'["third"]')
DIGEST = file_digest(GOOD)


class Reads:
    """The scanner's twin: the real reading, with a version, a knowledge base and an opinion that the test turns."""

    def __init__(self) -> None:
        self.version, self.knowledge = "2", 5
        self.bad: dict[str, str] = {}
        self.read: list[str] = []
        self.hook: Callable[[], None] = lambda: None

    def __call__(self, fd: int, *, name: str) -> ScanReport:
        content = os.pread(fd, 1 << 20, 0)
        digest = file_digest(content)
        self.read.append("probe" if name == "probe" else digest.value)
        if name != "probe":
            self.hook()
        verdict = replace(scan(content, name), scanner_version=self.version, knowledge_version=self.knowledge, knowledge_digest="d" * 64)
        if digest.value in self.bad:
            reason = Reason(rule="x:y", where="offset 0", why="it acts", remedy="export it anew", weight=self.bad[digest.value])  # type: ignore[arg-type]
            verdict = replace(verdict, outcome=self.bad[digest.value], reasons=(reason,))
        return ScanReport(verdict=verdict, digest=digest)


@dataclasses.dataclass
class House:
    """A control plane with a content store."""

    world: w.World
    reads: Reads
    store: ArtifactStore
    folder: Path

    def desk(self, *, fail_sign_after: int = -1) -> Desk:
        desk = desk_of(self.world.context, w.caller(), artifacts=self.store, scan=self.reads)
        allowed = dataclasses.replace(desk, decide=lambda name: replace(desk.decide(name), effect="allow"))
        if fail_sign_after < 0:
            return allowed
        left = [fail_sign_after]

        async def sign(request: Any) -> bytes:
            left[0] -= 1
            if left[0] < 0:
                raise Unavailable("the signer is gone", remedy="start it")
            return await desk.sign(request)

        return dataclasses.replace(allowed, sign=sign)

    async def take(self, content: bytes) -> ImportOutcome:
        (self.folder.parent / "in").write_bytes(content)
        descriptor = os.open(self.folder.parent / "in", os.O_RDONLY)
        try:
            return await admit_artifact(self.desk(), descriptor, name="m", zone="serve")
        finally:
            os.close(descriptor)

    async def again(self, *, fail_sign_after: int = -1) -> list[RescanState]:
        told: list[RescanState] = []
        try:
            await flow.rescan(self.world.context, self.desk(fail_sign_after=fail_sign_after), told.append)
        finally:
            await self.world.settled()
        return told

    def holds(self, digest: Digest) -> set[str]:
        held = self.world.facts.lineage.holding(w.about(digest).name, self.world.clock.now())
        return {one.predicate for one in held if one.outcome == "pass"}


def in_house(tmp_path: Path, story: Callable[[House], Awaitable[None]]) -> None:
    async def told() -> None:
        folder = tmp_path / "artifacts"
        folder.mkdir(exist_ok=True)
        async with w.running(w.make_world()) as world:
            house = House(world, Reads(), ArtifactStore(folder, reserve_bytes=0), folder)
            await story(house)

    asyncio.run(told())


async def served(house: House) -> None:
    """GOOD is imported, and served to alice."""
    assert (await house.take(GOOD)).admitted
    await house.world.put(ZonePut(zone=w.zone()), EndpointPut(endpoint=w.endpoint()), w.vouched("serves", [w.served("digits", DIGEST)]))
    await house.world.put(RegistrationPut(registration=w.registration()))
    await house.world.settled()
    assert house.world.granted() == {w.ALICE}


def asked_now(house: House) -> str:
    """What the one call that is asked for right now would be told."""
    alice = peer_uid(1000, Principal(id=PrincipalId(w.ALICE), groups=("callers",)), house.world.clock.now())
    return house.world.facts.decide(alice, "infer", w.DIGITS, house.world.clock.now()).effect


def standing(house: House) -> list[Any]:
    return [one for one in house.world.facts.standing_revocations() if one.target_kind == "scanner"]


def test_what_is_clean_again_never_loses_service(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await served(house)
        old = set(house.world.facts.lineage.vouches)
        answers: list[str] = []
        grants = house.world.points.set_grants

        def watched(endpoint_id: str, given: Any) -> None:
            grants(endpoint_id, given)
            answers.append(asked_now(house))

        house.world.points.set_grants = watched  # type: ignore[method-assign]
        house.reads.knowledge = 6
        house.world.clock.at = house.world.clock.now() + 1000
        told = await house.again()
        assert (told[-1].total, told[-1].clean, told[-1].lost, told[-1].fallen, told[-1].running) == (1, 1, 0, 2, False)
        assert [state.done for state in told] == [0, 1, 1]
        assert house.world.granted() == {w.ALICE}
        assert len(answers) >= 2, "a map that is emptied is asked for, call by call, until it is decided again"
        assert set(answers) == {"allow"}
        (revocation,) = standing(house)
        assert (revocation.target, revocation.cascade, revocation.id) == ("vouchgate-scanner 2 6", "self", told[-1].revocation)
        fallen = set(house.world.facts.lineage.fallen())
        assert {house.world.facts.lineage.vouches[one].predicate_type for one in fallen} == {"scan", "structure"}
        assert fallen < old
        assert house.holds(DIGEST) == {"scan", "structure", "import"}
        assert any(b"scanned again by a newer scanner" in entry for entry in house.world.entries())

    in_house(tmp_path, story)


@pytest.mark.parametrize("outcome", ["refused", "review", "incomplete"])
def test_what_no_longer_passes_loses_service(outcome: str, tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await served(house)
        house.reads.version, house.reads.bad = "3", {DIGEST.value: outcome}
        assert asked_now(house) == "allow"
        house.world.clock.at = house.world.clock.now() + 1000
        told = await house.again()
        assert house.world.granted() == set()
        assert asked_now(house) == "deny"
        assert "scan" not in house.holds(DIGEST)
        assert (told[-1].lost, told[-1].lines[0].outcome, told[-1].lines[0].remedy) == (1, outcome, "export it anew")

    in_house(tmp_path, story)


def test_a_refused_one_loses_service_before_the_others_are_read(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await served(house)
        for content in (OTHER, THIRD):
            assert (await house.take(content)).admitted
        house.reads.version, house.reads.bad = "3", {DIGEST.value: "refused"}
        house.world.clock.at = house.world.clock.now() + 1000
        found = flow.due(
            house.world.facts.lineage, Method(tool="vouchgate-scanner", version="3", knowledge_version="5 d"), house.world.clock.now()
        )
        at = [one.digest.value for one in found].index(DIGEST.value)
        seen: list[bool] = []
        original = house.desk

        def tell_when(state: RescanState) -> None:
            if state.running and state.done == at + 1:
                seen.append("scan" in house.holds(DIGEST))

        await flow.rescan(house.world.context, original(), tell_when)
        assert seen == [False]

    in_house(tmp_path, story)


def test_one_reading_that_did_not_end_takes_nothing_away(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await served(house)
        house.reads.knowledge, house.reads.bad = 6, {DIGEST.value: "incomplete"}
        house.world.clock.at = house.world.clock.now() + 1000
        house.reads.hook = lambda: house.reads.bad.clear() if house.reads.read.count(DIGEST.value) == 3 else None
        told = await house.again()
        assert house.reads.read.count(DIGEST.value) == 3, "at the import, and twice now"
        assert (told[-1].clean, told[-1].lost) == (1, 0)
        assert house.world.granted() == {w.ALICE}

    in_house(tmp_path, story)


def test_what_is_not_kept_or_damaged_loses_its_scan_and_is_told(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        for content in (GOOD, OTHER, THIRD):
            assert (await house.take(content)).admitted
        (house.folder / file_digest(OTHER).value).unlink()
        damaged = house.folder / file_digest(THIRD).value
        damaged.chmod(0o600)
        damaged.write_bytes(b"[]")
        house.reads.knowledge = 6
        told = await house.again()
        assert {line.digest: line.outcome for line in told[-1].lines} == {
            file_digest(OTHER).text: "not-kept",
            file_digest(THIRD).text: "incomplete",
        }
        assert "scan" in house.holds(DIGEST)
        assert "scan" not in house.holds(file_digest(OTHER)) | house.holds(file_digest(THIRD))

    in_house(tmp_path, story)


@pytest.mark.parametrize("after", range(6))
def test_ended_at_any_vouch_it_goes_on(after: int, tmp_path: Path) -> None:
    async def story(house: House) -> None:
        for content in (GOOD, OTHER, THIRD):
            assert (await house.take(content)).admitted
        house.reads.knowledge, house.reads.read = 6, []
        with pytest.raises(Unavailable):
            await house.again(fail_sign_after=after)
        assert standing(house) == []
        assert all("scan" in house.holds(file_digest(content)) for content in (GOOD, OTHER, THIRD))
        first = len([one for one in house.reads.read if one != "probe"])
        told = await house.again()
        assert (told[-1].clean, told[-1].fallen, len(standing(house))) == (3, 6, 1)
        again = len([one for one in house.reads.read if one != "probe"])
        assert again == first + 3 - after // 2
        assert (await house.again())[-1].fallen == 0
        assert len(standing(house)) == 1

    in_house(tmp_path, story)


def test_nothing_is_done_where_the_scanner_is_the_same_or_does_not_answer(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        assert (await house.take(GOOD)).admitted
        told = await house.again()
        assert (told[-1].total, told[-1].fallen, standing(house)) == (0, 0, [])
        house.reads.knowledge = 4
        with pytest.raises(Conflict, match="version 4, and version 5 was used here"):
            await house.again()
        assert standing(house) == []
        assert "scan" in house.holds(DIGEST)
        house.reads.knowledge, house.reads.bad = 6, {file_digest(b"{}").value: "incomplete"}
        with pytest.raises(Unavailable):
            await house.again()
        assert "scan" in house.holds(DIGEST)

    in_house(tmp_path, story)


def test_a_scan_of_the_weaker_scanner_that_comes_later_falls_at_once_and_undo_restores(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        assert (await house.take(GOOD)).admitted
        house.reads.knowledge = 6
        told = await house.again()
        by_the_weaker = Method(tool="vouchgate-scanner", version="2", knowledge_version="5 d", settings_digest="s")
        await house.world.put(w.vouched("scan", [w.about(file_digest(OTHER))], method=by_the_weaker))
        assert "scan" not in house.holds(file_digest(OTHER))
        affected = house.world.facts.lineage.copy().withdraw(told[-1].revocation)
        assert file_digest(OTHER).text in affected.digests

    in_house(tmp_path, story)


def test_a_scan_that_still_holds_is_not_made_again(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        first = await house.take(GOOD)
        house.reads.read.clear()
        second = await house.take(GOOD)
        assert house.reads.read == ["probe"]
        assert second.admitted
        assert {one.id for one in first.vouches if one.predicate != "import"} < {one.id for one in second.vouches}
        assert second.format == "safetensors"

    in_house(tmp_path, story)


@pytest.mark.parametrize("what", ["scanner", "knowledge", "trust root", "age", "revoked", "failed"])
def test_a_scan_is_made_again_where_anything_of_it_changed(what: str, tmp_path: Path) -> None:
    async def story(house: House) -> None:
        first = await house.take(GOOD)
        scanned = next(one.id for one in first.vouches if one.predicate == "scan")
        desk = house.desk()
        if what == "scanner":
            house.reads.version = "3"
        elif what == "knowledge":
            house.reads.knowledge = 6
        elif what == "trust root":
            house.world.facts.trust_root = replace(house.world.facts.trust_root, issued_at=house.world.clock.now() + 1)  # type: ignore[type-var]
        elif what == "age":
            house.world.clock.at = house.world.clock.now() + 84 * w.DAY
        elif what == "revoked":
            await house.world.put(w.revoked("vouch", scanned, cascade="self"))
        else:
            await house.world.put(w.vouched("scan", [w.about(DIGEST)], outcome="fail"))
        house.world.clock.at = house.world.clock.now() + 1
        house.reads.read.clear()
        descriptor = os.open(house.folder.parent / "in", os.O_RDONLY)
        await admit_artifact(desk, descriptor, name="m", zone="serve")
        os.close(descriptor)
        assert DIGEST.value in house.reads.read

    in_house(tmp_path, story)


def made_by(version: str, knowledge: str, *, tool: str = "vouchgate-scanner", outcome: str = "pass", predicate: str = "scan") -> Vouch:
    return Vouch(
        id="", trust_domain=w.TD, predicate_type=predicate, predicate_version=1, subjects=(), outcome=outcome, issuer_key="", issuer_role="",  # type: ignore[arg-type]
        issued_at=w.NOW, not_before=w.NOW, expires_at=w.NOW, method=Method(tool=tool, version=version, knowledge_version=knowledge),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "knowledge", "falls"),
    [("2", "5 d", True), ("3", "5 d", True), ("2", "6 d", True), ("3", "6 d", False), ("4", "7 d", False), ("10", "10", False), ("2", "", True), ("x", "6", True), ("-1", "6", True), ("9" * 20, "6", True)],
)  # fmt: skip
def test_which_scans_are_weaker(version: str, knowledge: str, falls: bool) -> None:
    assert below_scanner(made_by(version, knowledge), "vouchgate-scanner 3 6") is falls


def test_only_passes_of_that_scanner_fall() -> None:
    target = scanner_target(Method(tool="vouchgate-scanner", version="3", knowledge_version="6 abc"))
    assert target == "vouchgate-scanner 3 6"
    assert not below_scanner(made_by("2", "5", tool="other"), target)
    assert not below_scanner(made_by("2", "5", outcome="fail"), target)
    assert not below_scanner(made_by("2", "5", predicate="import"), target)
    assert not below_scanner(made_by("2", "5"), "vouchgate-scanner")
    assert below_scanner(made_by("2", "5", predicate="structure"), target)
    with pytest.raises(InvalidInput):
        scanner_target(Method(tool="vouchgate-scanner", version="dev"))


def test_progress_is_plain_json() -> None:
    from vouchgate.vocabulary.wire import encode

    assert json.loads(encode(RescanState(total=2)))["total"] == 2
