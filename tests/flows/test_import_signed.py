"""What was signed about an artifact comes with it: held against the staged copy, vouched for before policy decides, and before anybody's allowance
counts. The real signatures of real folders, the real content store."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import stat
import struct
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import flows_world as w
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from vouchgate.edges.processes.local_folder import folder
from vouchgate.evidence.dsse import PAYLOAD_TYPE, pae, spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.flows import allowances_standing
from vouchgate.flows.changes import RegistrationPut, TrustRootAdopted, VouchAdded, ZonePut
from vouchgate.flows.initialise import sign_with
from vouchgate.flows.sign_artifact import Signing, sign_model
from vouchgate.flows.system_artifacts import ArtifactSystem
from vouchgate.ports.artifact_files import Place
from vouchgate.ports.artifact_trees import manifest_of, open_tree
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.scanning.knowledge.overlay import Overlay
from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scan import scan, scan_folder
from vouchgate.scanning.verdict import ScanReport
from vouchgate.vocabulary.answers import ImportOutcome, ImportRequest
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import LimitExceeded
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_signers import BuilderSettings, SignerSettings
from vouchgate.vocabulary.trust import Delegation, PublicKey, key_id
from vouchgate.vocabulary.vouches import Method, UnixMillis, Vouch

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
REVIEWER, BUILDER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PICKLE = b"\x80\x02cacme.features\nScaler\n)\x81}X\x01\x00\x00\x00aK\x02sb."
SOURCE = "https://git.example/acme/model"
ANN = w.caller("ann", "auditor", groups=("importers",))
POLICY = (
    (
        "signed.cedar",
        '@id("signed") permit (principal in Group::"importers", action == Action::"admit", resource is Artifact)\n'
        'when { resource.vouches.containsAll(["scan", "structure", "WANTED"]) && context.risk < 60 };',
    ),
)


def public(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def reviewed() -> TrustRootAdopted:
    key = PublicKey(key_id=key_id(spki_of(REVIEWER)), spki=spki_of(REVIEWER), purpose="reviewer")
    may = Delegation(key_id=key.key_id, role="reviewer", predicates=("allow",), highest_tier="declared", expires_at=w.TRUST_ROOT.expires_at)
    root = replace(
        w.TRUST_ROOT, version=w.TRUST_ROOT.version + 1, keys=(*w.TRUST_ROOT.keys, key), delegations=(*w.TRUST_ROOT.delegations, may)
    )
    return TrustRootAdopted(signed=sign_with(root, [w.ROOTS[0].pem]))


class Part(ArtifactSystem):
    """The part of the control plane that takes in."""

    def __init__(self, world: w.World, folder: Path) -> None:
        self.context, self.world, self.folder = world.context, world, folder
        folder.mkdir()
        self._artifacts, self.open_tree = ArtifactStore(folder, reserve_bytes=0), open_tree
        self.signer_files = {"acme.pem": public(KEY), "builder.pem": public(BUILDER)}
        self.scanned: list[str] = []

        def reads(fd: int, *, name: str, allowed: dict[str, Any] | None = None) -> ScanReport:
            """The scanner's twin: the real reading of files and folders."""
            self.scanned.append(name)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                tree = manifest_of(fd)
                files = {file.path.decode(): (Path(f"/proc/self/fd/{fd}") / file.digest.value).read_bytes() for file in tree.files}
                return ScanReport(verdict=scan_folder(files, name), digest=tree.digest)
            content = os.pread(fd, 1 << 20, 0)
            own = (allowed or {}).get(file_digest(content).text)
            return ScanReport(
                verdict=scan(content, name, knowledge=Overlay(shipped(), own) if own else shipped()), digest=file_digest(content)
            )

        self._scan = reads

    async def take(self, path: Path, **more: bytes) -> ImportOutcome:
        """As the API does."""
        spool = self.folder.parent / "spool"
        if path.is_dir():
            with folder(str(path)) as stream:
                spool.write_bytes(b"".join(iter(lambda: stream.read(1 << 20), b"")))
        else:
            spool.write_bytes(path.read_bytes())
        self.world.clock.at += 1000
        self.scanned.clear()
        request = ImportRequest(path=str(spool), name=path.name, zone="serve", tree=path.is_dir(), **more)
        made = await self.import_artifact(ANN, request)
        await self.world.settled()
        return made

    def kept(self) -> list[str]:
        return [one.name for one in self.folder.iterdir() if one.name != ".notes"]

    def vouched(self, outcome: ImportOutcome) -> set[str]:
        return {one.predicate_type for one in self.context.facts.about(outcome.resource) if one.outcome == "pass"}


Tell = Callable[[Callable[[Part], Awaitable[None]]], None]


@pytest.fixture
def part(tmp_path: Path, request: pytest.FixtureRequest) -> Tell:
    wanted = getattr(request, "param", "signature")

    def tell(story: Callable[[Part], Awaitable[None]]) -> None:
        async def told() -> None:
            signer = SignerSettings(name="acme", kind="key", key_file="acme.pem", same_as=(key_id(spki_of(REVIEWER)),))
            builder = BuilderSettings(name="ci", kind="key", builder="https://ci.example", sources=(SOURCE,), key_file="builder.pem")
            settings = Settings(trust_domain=w.TD, data_dir="/nowhere", root_dir="/nowhere", signers=(signer,), builders=(builder,))
            policies = tuple((name, text.replace("WANTED", wanted)) for name, text in POLICY)
            async with w.running(w.make_world(settings=settings), policies=policies) as world:
                await world.put(reviewed(), ZonePut(zone=w.zone()))
                await world.put(RegistrationPut(registration=w.registration(ANN.principal.principal.id, ANN.principal.principal.groups)))
                await story(Part(world, tmp_path / "artifacts"))

        asyncio.run(told())

    return tell


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = tmp_path / "bert"
    made.mkdir()
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (made / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    (made / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 2}))
    return made


def signed(path: Path, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    with closing(Place(str(path))) as place:
        return sign_model(place, Signing(key))[0]


def built(path: Path, *, builder: str = "https://ci.example", key: Ed25519PrivateKey = BUILDER) -> bytes:
    """A builder's DSSE envelope over the files that lie there."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    definition = {
        "buildType": "https://ci.example/build/v1",
        "externalParameters": {"source": SOURCE},
        "resolvedDependencies": [{"uri": SOURCE, "digest": {"gitCommit": "c" * 40}}],
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": one.name, "digest": {"sha256": file_digest(one.read_bytes()).value}} for one in files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": definition, "runDetails": {"builder": {"id": builder}}},
    }
    payload = json.dumps(statement).encode()
    text = [base64.b64encode(one).decode() for one in (payload, key.sign(pae(PAYLOAD_TYPE, payload)))]
    return json.dumps({"payloadType": PAYLOAD_TYPE, "payload": text[0], "signatures": [{"sig": text[1]}]}).encode()


def test_policy_asks_for_the_signature_and_it_comes_with_the_folder(part: Tell, model: Path) -> None:
    async def story(at: Part) -> None:
        without = await at.take(model)
        assert not without.admitted and "signature" in without.reason
        assert at.kept() == []
        outcome = await at.take(model, signature=signed(model))
        assert outcome.admitted, outcome.reason
        assert at.vouched(outcome) == {"scan", "structure", "signature", "import"}
        assert len(at.kept()) == 1

    part(story)


@pytest.mark.parametrize("part", ["provenance"], indirect=True)
def test_provenance_comes_with_a_file_or_a_folder(part: Tell, model: Path) -> None:
    async def story(at: Part) -> None:
        for path in (model, model / "model.safetensors"):
            assert not (await at.take(path, signature=signed(path))).admitted
            outcome = await at.take(path, provenance=built(path), signature=signed(path))
            assert outcome.admitted, outcome.reason
            assert at.vouched(outcome) == {"scan", "structure", "signature", "provenance", "import"}

    part(story)


def test_what_does_not_hold_ends_the_import_before_anything_is_read(part: Tell, model: Path) -> None:
    async def story(at: Part) -> None:
        bundle = signed(model)
        tampered = bundle.replace(b'"payload": "', b'"payload": "AAAA') if b'"payload": "' in bundle else bundle[:-40] + bundle[-39:]
        changed = model.parent / "changed"
        shutil.copytree(model, changed)
        (changed / "config.json").write_text("{}")
        added = model.parent / "added"
        shutil.copytree(model, added)
        (added / "vocab.txt").write_text("a")
        cases: list[tuple[Path, dict[str, bytes]]] = [
            (model, {"signature": signed(model, OTHER)}),
            (model, {"signature": tampered}),
            (changed, {"signature": bundle}),
            (added, {"signature": bundle}),
            (model, {"signature": b"{}"}),
            (model, {"signature": b"\x00" * 40}),
            (model, {"signature": bundle, "provenance": built(model, builder="https://elsewhere.example")}),
            (model, {"provenance": built(model, key=REVIEWER)}),
            (changed, {"provenance": built(model)}),
            (model, {"provenance": bundle}),
        ]
        for path, more in cases:
            outcome = await at.take(path, **more)
            assert not outcome.admitted and outcome.reason and outcome.remedy, more.keys()
            assert at.scanned == [] and at.kept() == []
            assert not {"scan", "import", "provenance"} & at.vouched(outcome)
        with pytest.raises(LimitExceeded):
            await at.take(model, signature=b" " * 720_001)

    part(story)


def allowance(now: UnixMillis) -> VouchAdded:
    """The reviewer answers for the pickle's class."""
    made = sign_vouch(
        Vouch(
            id="", trust_domain=w.TD, predicate_type="allow", predicate_version=1, subjects=(w.about(file_digest(PICKLE)),), outcome="pass",  # type: ignore[arg-type]
            issuer_key=key_id(spki_of(REVIEWER)), issuer_role="reviewer", issued_at=now, not_before=now,
            expires_at=UnixMillis(now + w.DAY), tier="declared", method=Method(tool="t", version="1"),
            claims={"module": "acme.features", "name": "Scaler", "use": "constructible", "why": "w"},
        ), REVIEWER,
    )  # fmt: skip
    return VouchAdded(id=made.vouch.id, envelope=made.envelope)


@pytest.mark.parametrize("part", ["scan"], indirect=True)
@pytest.mark.parametrize("what", ["a signature", "a build"])
def test_a_signer_who_is_a_reviewer_forfeits_the_allowance_within_the_import(what: str, part: Tell, tmp_path: Path) -> None:
    async def story(at: Part) -> None:
        path = tmp_path / "model.pkl"
        path.write_bytes(PICKLE)
        digest, now = file_digest(PICKLE), at.world.clock.now()
        given = allowance(now)
        await at.world.put(given)
        assert len(allowances_standing.standing(at.context.facts, digest.text, now)) == 1
        at.signer_files = {"acme.pem": public(KEY), "builder.pem": public(REVIEWER)}
        more = {"signature": signed(path)} if what == "a signature" else {"provenance": built(path, key=REVIEWER)}
        outcome = await at.take(path, **more)
        assert not outcome.admitted and "acme.features" in outcome.reason
        assert at.scanned == ["probe", path.name], "it is not even read with the allowance"
        assert allowances_standing.standing(at.context.facts, digest.text, at.world.clock.now()) == ()
        assert [one.target for one in at.context.facts.revocations.values()] == [given.id]

    part(story)


@pytest.mark.parametrize("part", ["scan"], indirect=True)
def test_the_same_import_by_a_signer_who_is_nobody_s_reviewer_goes_in(part: Tell, tmp_path: Path) -> None:
    """The control of the test above: nothing but the reviewer's part in it keeps that import out."""

    async def story(at: Part) -> None:
        path = tmp_path / "model.pkl"
        path.write_bytes(PICKLE)
        await at.world.put(allowance(at.world.clock.now()))
        outcome = await at.take(path, provenance=built(path))
        assert outcome.admitted, outcome.reason
        assert at.scanned == ["probe", path.name, "probe", path.name]

    part(story)
