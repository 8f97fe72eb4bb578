"""Taking an artifact in, with the real signer story, the real statements and their verification; the store and the log in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import helper

from vouchgate.evidence.verify import nothing_revoked, verify
from vouchgate.flows.admit_artifact import admit_artifact
from vouchgate.flows.import_desk import Desk
from vouchgate.flows.initialise import first_trust_root, make_root_keys
from vouchgate.flows.sign import ROLES, Access, Keys, SignedBefore, Signer, public_keys
from vouchgate.identity.ca import make_ca
from vouchgate.ports.artifacts import ArtifactStore, open_artifact
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import ScanReport, unfinished
from vouchgate.vocabulary.answers import ImportOutcome
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.digests import Digest, file_digest
from vouchgate.vocabulary.errors import LimitExceeded, Unavailable
from vouchgate.vocabulary.vouches import UnixMillis, VerifiedVouch, Vouch

NOW = UnixMillis(1_800_000_000_000)
WHO = "spiffe://test.local/person/office/alice"
GOOD = b"\x02\0\0\0\0\0\0\0{}"
PICKLE = b"cos\nsystem\n(S'true'\ntR."
CONTROL = 58_002


class StillClock:
    """Time stands still."""

    trouble = ""

    def now(self) -> UnixMillis:
        return NOW

    def accept(self) -> None:
        """Nothing to accept."""


class Nowhere:
    """Nothing here signs what must be remembered."""

    async def save(self, state: bytes) -> None:
        raise AssertionError(state)


CA, JWT = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
KEYS = Keys(
    ca=CA,
    ca_certificate=make_ca("test.local", CA, now=NOW, days=30),
    jwt=JWT,
    ed25519={name: Ed25519PrivateKey.generate() for name in ("log", "policy", *ROLES)},
)
SIGNER = Signer(KEYS, SignedBefore(trust_domain="test.local"), Access(control=CONTROL), StillClock(), Nowhere())
ROOTS = [key.public for key in make_root_keys(1)]
TRUST_ROOT = first_trust_root("test.local", root_keys=ROOTS, threshold=1, signer_keys=public_keys(KEYS), now=NOW)


def scan_here(fd: int, *, name: str) -> ScanReport:
    """The scanner's twin in memory: the same reading, in this process."""
    content = os.pread(fd, 1 << 20, 0)
    return ScanReport(verdict=scan(content, name), digest=file_digest(content))


@dataclass
class World:
    """Everything around one import, in memory."""

    folder: Path
    scan: Any = scan_here
    effect: str = "allow"
    fail_commit_at: int = -1
    order: list[str] = field(default_factory=list)
    vouches: dict[str, Vouch] = field(default_factory=dict)
    records: list[tuple[ImportOutcome, Decision | None]] = field(default_factory=list)

    def desk(self) -> Desk:
        return Desk(
            trust_domain="test.local",
            requested_by=WHO,
            artifacts=ArtifactStore(self.folder, max_bytes=1 << 20, reserve_bytes=0),
            scan=self.scan,
            sign=self.sign,
            commit=self.commit,
            decide=self.decide,
            record=self.record,
            now=lambda: NOW,
        )

    async def sign(self, request: Mapping[str, Any]) -> bytes:
        """The real signer, asked as its socket is asked: plain values over frames."""
        envelope: bytes = (await SIGNER.vouch(CONTROL, msgspec.msgpack.decode(msgspec.msgpack.encode(request))))["envelope"]
        return envelope

    async def commit(self, vouches: Sequence[Vouch], envelopes: Sequence[bytes]) -> None:
        if len(self.vouches) == self.fail_commit_at:
            raise Unavailable("the store is full", remedy="free some space")
        for vouch, envelope in zip(vouches, envelopes, strict=True):
            verified = verify(envelope, TRUST_ROOT, NOW, known=self.vouches, revoked=nothing_revoked)
            assert isinstance(verified, VerifiedVouch), verified
            assert verified.vouch == vouch
            self.order.append(vouch.predicate_type)
            self.vouches[vouch.id] = vouch

    def decide(self, name: str) -> Decision:
        self.order.append("decide")
        return Decision(
            id="d1", trust_domain="test.local", effect=self.effect, would_be=self.effect, principal=WHO, action="admit", resource=name,
            policy_digest="p", policy_version=1, evidence_epoch=1, not_after=NOW, evaluated_at=NOW,
            reason="alice may not", remedy="ask an importer",
        )  # fmt: skip

    async def record(self, outcome: ImportOutcome, decision: Decision | None) -> None:
        self.order.append("record")
        self.records.append((outcome, decision))

    def take(self, content: bytes, name: str = "model.onnx") -> ImportOutcome:
        path = self.folder.parent / "in"
        path.write_bytes(content)
        descriptor = open_artifact(path)
        try:
            return asyncio.run(admit_artifact(self.desk(), descriptor, name=name, zone="serve"))
        finally:
            os.close(descriptor)

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name != ".notes")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    yield World(folder)


def test_a_clean_artifact_is_vouched_decided_kept_and_vouched_again(world: World) -> None:
    outcome = world.take(GOOD)
    digest = file_digest(GOOD)
    assert outcome.admitted
    assert (outcome.digest, outcome.format, outcome.zone) == (digest.text, "safetensors", "serve")
    assert outcome.resource == f"vg://test.local/artifact/{digest.text}"
    assert world.order == ["scan", "structure", "decide", "import", "record"]
    assert world.kept() == [digest.value]
    made = {vouch.predicate_type: vouch for vouch in world.vouches.values()}
    assert {vouch.issuer_role for vouch in made.values()} == {"scanner", "importer"}
    assert set(made["import"].rests_on) == {made["scan"].id, made["structure"].id}
    assert made["import"].claims["decision_id"] == "d1"
    assert made["import"].claims["requested_by"] == WHO
    assert all(vouch.subjects[0].digest == digest and vouch.tier == "verified" for vouch in made.values())
    assert made["scan"].method.settings_digest
    assert made["scan"].method.knowledge_version == f"{shipped().version} {shipped().digest}"
    assert [state.state for state in outcome.vouches] == ["holds"] * 3


def test_what_is_vouched_about_an_onnx_model(world: World) -> None:
    value = helper.make_tensor_value_info("x", 1, [1])
    graph = helper.make_graph(
        [helper.make_node("Scaler", ["x"], ["x2"], domain="ai.onnx.ml"), helper.make_node("Abs", ["x2"], ["y"])], "g", [value], []
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=9)
    assert world.take(made.SerializeToString()).admitted
    structure = next(vouch for vouch in world.vouches.values() if vouch.predicate_type == "structure")
    assert structure.claims == {
        "format": "onnx",
        "tensors": 0,
        "parameters": 0,
        "opset": "ai.onnx 17, ai.onnx.ml 3",
        "operators": {"Abs": 1, "ai.onnx.ml.Scaler": 1},
    }


def test_a_pickle_is_refused_with_its_remedy_and_not_kept(world: World) -> None:
    outcome = world.take(PICKLE, "model.safetensors")
    assert not outcome.admitted
    assert "os.system" in outcome.reason
    assert "safetensors" in outcome.remedy
    assert outcome.findings[0].severity == "high"
    assert world.order == ["scan", "record"]
    assert [vouch.outcome for vouch in world.vouches.values()] == ["fail"]
    assert world.kept() == []


def test_a_deny_of_policy_is_recorded_and_nothing_is_kept(world: World) -> None:
    world.effect = "deny"
    outcome = world.take(GOOD)
    assert (outcome.admitted, outcome.reason, outcome.remedy) == (False, "alice may not", "ask an importer")
    assert world.order == ["scan", "structure", "decide", "record"]
    assert world.records[0][1] is not None
    assert world.kept() == []


def lying(outcome: str) -> Any:
    """A scanner that says clean of other bytes, or that could not finish."""

    def scan_wrongly(fd: int, *, name: str) -> ScanReport:
        if name == "probe":
            return scan_here(fd, name=name)
        if outcome == "incomplete":
            return ScanReport(verdict=unfinished(name, 1, "it was ended by signal 9", "try again"), digest=Digest(value="0" * 64))
        digest = file_digest(b"other" if outcome == "other bytes" else GOOD)
        verdict = scan(GOOD)
        if outcome == "other version":
            verdict = msgspec.structs.replace(verdict, knowledge_version=verdict.knowledge_version + 1)
        return ScanReport(verdict=verdict, digest=Digest(value=digest.value, size=0) if outcome == "other size" else digest)

    return scan_wrongly


@pytest.mark.parametrize("how", ["incomplete", "other bytes", "other size", "other version"])
def test_a_scan_that_says_nothing_about_these_bytes_admits_nothing(how: str, world: World) -> None:
    world.scan = lying(how)
    outcome = world.take(GOOD)
    assert not outcome.admitted
    assert outcome.remedy
    assert [vouch.outcome for vouch in world.vouches.values()] == ["inconclusive"]
    assert "decide" not in world.order
    assert world.kept() == []


def test_a_scanner_that_does_not_answer_for_itself_reads_nothing(world: World) -> None:
    def scan_never(fd: int, *, name: str) -> ScanReport:
        return ScanReport(verdict=unfinished(name, 1, "it was ended by signal 9", "try again"), digest=Digest(value="0" * 64))

    world.scan = scan_never
    with pytest.raises(Unavailable, match="the scanner does not answer"):
        world.take(GOOD)
    assert (world.order, world.kept()) == ([], [])


def test_what_waits_for_a_person_is_not_admitted(world: World) -> None:
    header = b'{"__metadata__":{"a":"{{ name }}"}}'
    outcome = world.take(len(header).to_bytes(8, "little") + header)
    assert (outcome.admitted, outcome.findings[0].severity) == (False, "medium")
    assert "a person must look" in outcome.reason
    assert world.kept() == []


@pytest.mark.parametrize("at", [0, 2])
def test_a_store_that_fails_leaves_nothing_admitted(at: int, world: World) -> None:
    world.fail_commit_at = at
    with pytest.raises(Unavailable):
        world.take(GOOD)
    assert "import" not in world.order
    assert not any(name.startswith(".") for name in world.kept())


def test_a_scanner_that_raises_leaves_nothing(world: World) -> None:
    def scan_badly(fd: int, *, name: str) -> ScanReport:
        raise OSError("no processes left")

    world.scan = scan_badly
    with pytest.raises(OSError, match="no processes"):
        world.take(GOOD)
    assert world.kept() == []
    assert world.order == []


def test_an_artifact_over_the_bound_is_not_even_scanned(world: World) -> None:
    with pytest.raises(LimitExceeded):
        world.take(bytes((1 << 20) + 1))
    assert (world.order, world.kept()) == ([], [])


def test_a_source_that_changes_while_it_is_scanned_changes_nothing(world: World) -> None:
    def scan_and_swap(fd: int, *, name: str) -> ScanReport:
        (world.folder.parent / "in").write_bytes(PICKLE)
        return scan_here(fd, name=name)

    world.scan = scan_and_swap
    outcome = world.take(GOOD)
    assert outcome.admitted
    assert (world.folder / file_digest(GOOD).value).read_bytes() == GOOD


def test_a_hostile_name_is_signed_as_plain_text(world: World) -> None:
    world.take(GOOD, "a\x1b[2J\n" + "x" * 9000)
    made = next(vouch for vouch in world.vouches.values() if vouch.predicate_type == "import")
    assert made.claims["name"].isprintable()
    assert len(made.claims["name"]) <= 400
