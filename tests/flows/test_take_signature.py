"""A signature and a builder's provenance become vouches about what is kept: the real store, facts, signer and policy; Sigstore is the tests' own."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import flows_world as w
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vouchgate import wiring
from vouchgate.evidence.authors import named_authors
from vouchgate.flows import take_signature as flow
from vouchgate.flows.changes import RegistrationPut
from vouchgate.flows.context import Buckets
from vouchgate.flows.sign_artifact import Signing, sign_model
from vouchgate.flows.stored_place import StagedContent, StoredPlace
from vouchgate.ports.artifact_files import Place
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput, InvalidSettings, LimitExceeded, NotFound, NotPermitted
from vouchgate.vocabulary.settings import Settings
from vouchgate.vocabulary.settings_file import parse_settings
from vouchgate.vocabulary.settings_signers import BuilderSettings, SignerSettings, files_of

sys.path.insert(0, str(Path(__file__).parent.parent / "evidence"))
import sigstore_world as s
from test_slsa import BUILDER, COMMIT, SOURCE, WORKFLOW, said

KEY, STRANGE = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
CI = ed25519.Ed25519PrivateKey.generate()
SIGSTORE = s.World()
REVIEWER = "ab" * 32
ANN, EVE = w.lasting("ann", "registrar", "auditor"), w.lasting("eve", "auditor")
POLICY = (
    (
        "signed.cedar",
        '@id("signed") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint)\n'
        'when { resource has model && resource.model.vouches.contains("signature@verified") && context.risk < 60 };',
    ),
)


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def root_and_leaf() -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    made = s.Issuing(s.ExtendedKeyUsageOID.CODE_SIGNING)
    own = made._make("builder", KEY, made.key, "issuer", None, False, s.ExtendedKeyUsageOID.CODE_SIGNING)
    return made.root, (own, made.middle)


CA, CHAIN = root_and_leaf()
SIGNERS = (
    SignerSettings(name="key", kind="key", key_file="/k", same_as=(REVIEWER,), days=30),
    SignerSettings(name="ca", kind="certificate", roots_file="/ca", subject="CN=builder,O=sigstore.test"),
    SignerSettings(name="sig", kind="sigstore", trusted_root="/root", identity=s.IDENTITY, issuer=s.ISSUER),
)
BUILDERS = (
    BuilderSettings(
        name="ci", kind="sigstore", builder=BUILDER, sources=(SOURCE,), trusted_root="/root", identity=s.IDENTITY, issuer=s.ISSUER
    ),
    BuilderSettings(name="own", kind="key", builder=BUILDER, sources=(SOURCE,), build_types=(WORKFLOW,), key_file="/ci"),
)
FILES = {"/k": pem(KEY), "/ca": CA.public_bytes(Encoding.PEM), "/root": s.dump(SIGSTORE.root()), "/ci": pem(CI)}


class House:
    """A control plane with a file and a folder in its store."""

    def __init__(self, world: w.World, folder: Path) -> None:
        self.world, self.folder = world, folder
        (folder / "store").mkdir()
        self.store = ArtifactStore(folder / "store", reserve_bytes=0)
        (folder / "m" / "a").mkdir(parents=True)
        (folder / "m" / "a" / "w.bin").write_bytes(b"weights" * 4000)
        (folder / "m" / "config.json").write_bytes(b"{}")
        (folder / "one.bin").write_bytes(b"one file" * 3000)
        self.files: dict[str, bytes] = dict(FILES)

    def kept(self, path: str) -> Digest:
        staged = self.staged(path)
        self.store.keep(staged)
        return staged.digest

    def staged(self, path: str) -> Any:
        if (self.folder / path).is_dir():
            with wiring_folder(str(self.folder / path)) as stream:
                return self.store.stage_tree(stream)
        descriptor = os.open(self.folder / path, os.O_RDONLY)
        try:
            return self.store.stage(descriptor)
        finally:
            os.close(descriptor)

    def signed(self, path: str, key: Any = KEY, **how: Any) -> bytes:
        with closing(Place(str(self.folder / path))) as place:
            return sign_model(place, Signing(key, **how))[0]

    async def take(self, digest: Digest, bundle: bytes, by: str = "", *, who: Any = ANN) -> VouchTaken:
        return await flow.take_signature(self.world.context, who, self.store, self.files, digest.text, bundle, by)

    async def prove(self, digest: Digest, bundle: bytes, by: str = "") -> VouchTaken:
        return await flow.take_provenance(self.world.context, ANN, self.store, self.files, digest.text, bundle, by)


def wiring_folder(path: str) -> Any:
    """The stream of a folder, as `vouchgate import` sends it."""
    import tempfile

    from vouchgate.edges.processes.local_folder import folder

    class Stream:
        def __enter__(self) -> int:
            self.file = tempfile.TemporaryFile()
            with folder(path) as source:
                while piece := source.read(1 << 16):
                    self.file.write(piece)
            self.file.flush()
            self.file.seek(0)
            return self.file.fileno()

        def __exit__(self, *_: object) -> None:
            self.file.close()

    return Stream()


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flow, "_buckets", Buckets(flow.PER_MINUTE))
    yield


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., None]:
    def tell(story: Callable[[House], Awaitable[None]], *, policies: Any = w.SPINE) -> None:
        async def go() -> None:
            settings = Settings(trust_domain=w.TD, data_dir="/nowhere", root_dir="/nowhere-root", signers=SIGNERS, builders=BUILDERS)
            async with w.running(w.make_world(settings=settings), policies=policies) as world:
                for one in (ANN, EVE):
                    await world.put(
                        RegistrationPut(registration=w.registration(one.principal.principal.id, one.principal.principal.groups))
                    )
                await story(House(world, tmp_path))

        asyncio.run(go())

    return tell


def vouch_of(house: House, taken: VouchTaken) -> Any:
    assert taken.taken, taken.reason
    return house.world.facts.lineage.vouches[taken.id]


Story = Callable[..., None]


def test_a_key_s_signature_on_a_folder_and_on_a_file_becomes_a_vouch(told: Story) -> None:
    async def story(house: House) -> None:
        own = hashlib.sha256(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        for path in ("m", "one.bin"):
            digest, bundle = house.kept(path), house.signed(path)
            made = await house.take(digest, bundle)
            vouch = vouch_of(house, made)
            assert (vouch.predicate_type, vouch.issuer_role, vouch.tier, vouch.outcome) == ("signature", "importer", "verified", "pass")
            assert vouch.claims["bundle"] == hashlib.sha256(bundle).hexdigest()
            assert (vouch.claims["signer"], vouch.claims["kind"]) == ("key", "key")
            assert vouch.claims["identity"].startswith("key ")
            assert vouch.expires_at - vouch.not_before == 30 * 86_400_000
            assert named_authors(digest.text, house.world.facts.lineage.vouches.values()) == {REVIEWER, own}
            assert named_authors("sha256:" + "0" * 64, house.world.facts.lineage.vouches.values()) == frozenset()
            again = await house.take(digest, bundle)
            assert (again.id, again.why) == (made.id, "known")

    told(story)


def test_certificates_and_sigstore_name_who_signed(told: Story) -> None:
    async def story(house: House) -> None:
        folder, file = house.kept("m"), house.kept("one.bin")
        by_ca = vouch_of(house, await house.take(folder, house.signed("m", certificates=CHAIN)))
        assert (by_ca.claims["signer"], by_ca.claims["identity"]) == ("ca", "CN=builder,O=sigstore.test")
        payload = s.base64.b64decode(s.json.loads(house.signed("m"))["dsseEnvelope"]["payload"])
        for bundle, digest in ((SIGSTORE.bundle(payload), folder), (SIGSTORE.bundle(file=(house.folder / "one.bin").read_bytes()), file)):
            vouch = vouch_of(house, await house.take(digest, s.dump(bundle)))
            assert (vouch.claims["signer"], vouch.claims["identity"], vouch.claims["issuer"]) == ("sig", s.IDENTITY, s.ISSUER)
            assert vouch.claims["signed_at"] == s.NOW * 1000
            assert vouch.claims["root"] == hashlib.sha256(FILES["/root"]).hexdigest()

    told(story)


def test_a_signature_that_does_not_hold_is_refused_and_recorded(told: Story) -> None:
    async def story(house: House) -> None:
        folder, file = house.kept("m"), house.kept("one.bin")
        payload = s.base64.b64decode(s.json.loads(house.signed("m"))["dsseEnvelope"]["payload"])
        cases = (
            (folder, house.signed("m", STRANGE), "key", "another key"),
            (folder, house.signed("one.bin"), "key", "not what was signed"),
            (file, house.signed("m"), "key", "not what was signed"),
            (folder, house.signed("m", without=frozenset({"a"})), "key", "not covered"),
            (folder, house.signed("m"), "nobody", "no signer `nobody`"),
            (folder, house.signed("m"), "ca", "no certificate chain"),
            (folder, house.signed("m", certificates=CHAIN), "key", "not with a bare key"),
            (folder, house.signed("m"), "sig", "bare key"),
            (folder, s.dump(SIGSTORE.bundle(payload)), "key", "certificate"),
            (folder, s.dump(SIGSTORE.bundle(payload)), "ca", "through Sigstore"),
            (folder, s.dump(SIGSTORE.bundle(payload, leaf=SIGSTORE.leaf(identity="eve@example.com"))), "sig", "eve@example.com"),
            (folder, s.dump(s.World().bundle(payload)), "sig", "does not know"),
            (folder, s.dump(SIGSTORE.bundle(file=b"one file")), "sig", "one file, and the artifact is a folder"),
            (file, s.dump(SIGSTORE.bundle(file=b"another")), "sig", "another file"),
            (folder, b"{}", "", "holds for none of 3"),
            (folder, b"\xff", "", "strict JSON"),
        )
        size = house.world.store.size()
        for digest, bundle, by, why in cases:
            made = await house.take(digest, bundle, by)
            assert not made.taken
            assert why in made.reason
            assert made.remedy
        assert house.world.store.size() == size + len(cases)
        assert not any(one.predicate_type == "signature" for one in house.world.facts.lineage.vouches.values())

    told(story)


def test_what_is_kept_is_read_not_what_somebody_says_of_it(told: Story) -> None:
    async def story(house: House) -> None:
        with pytest.raises(NotFound):
            await house.take(Digest(value="0" * 64), house.signed("one.bin"))
        digest = house.kept("m")
        damaged = next(path for path in (house.folder / "store").rglob("*") if path.is_file() and path.stat().st_size == 28_000)
        damaged.chmod(0o600)
        damaged.write_bytes(b"weightz" * 4000)
        made = await house.take(digest, house.signed("m"))
        assert not made.taken
        (house.folder / "m" / "a" / "w.bin").write_bytes(b"weightz" * 4000)
        made = await house.take(digest, house.signed("m"))
        assert not made.taken
        assert "no longer what its digest says" in made.reason
        with pytest.raises(NotFound, match="no longer"):
            await house.prove(digest, s.dump(SIGSTORE.bundle()))

    told(story)


def test_who_may_not_vouch_is_refused_and_calls_are_bounded(told: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(house: House) -> None:
        digest, bundle = house.kept("one.bin"), house.signed("one.bin")
        with pytest.raises(NotPermitted):
            await house.take(digest, bundle, who=EVE)
        with pytest.raises(InvalidInput, match="bound"):
            await house.take(digest, b" " * (flow.MAX_BUNDLE_BYTES + 1))
        monkeypatch.setattr(flow, "_buckets", Buckets(1))
        await house.take(digest, bundle)
        with pytest.raises(LimitExceeded):
            await house.take(digest, bundle)

    told(story)


def test_a_file_of_the_settings_that_is_missing_or_broken_lets_nobody_pass(told: Story) -> None:
    async def story(house: House) -> None:
        digest = house.kept("one.bin")
        blob = s.dump(SIGSTORE.bundle(file=(house.folder / "one.bin").read_bytes()))
        for files in ({}, dict.fromkeys(FILES, b"nothing"), dict.fromkeys(FILES, b"")):
            house.files = files
            assert not (await house.take(digest, house.signed("one.bin"), "key")).taken
            assert not (await house.take(digest, house.signed("one.bin", certificates=CHAIN), "ca")).taken
            assert not (await house.take(digest, blob, "sig")).taken
            assert not (await house.prove(digest, blob)).taken

    told(story)


def test_what_is_staged_is_signed_for_before_it_is_kept(told: Story) -> None:
    async def story(house: House) -> None:
        for path in ("m", "one.bin"):
            staged = house.staged(path)
            content = StagedContent(staged.descriptor, staged.path, wiring.stored_tree)
            made = await flow.vouch_for(house.world.context, ANN, content, house.files, staged.digest, house.signed(path), flow.SIGNATURE)
            assert made.taken, made.reason
            refused = await flow.vouch_for(
                house.world.context, ANN, content, house.files, staged.digest, house.signed(path, STRANGE), flow.SIGNATURE, "key"
            )
            assert not refused.taken
            house.store.drop(staged)
            with pytest.raises(NotFound):
                StoredPlace(house.store, staged.digest)

    told(story)


def test_a_policy_may_ask_for_a_signature(told: Story) -> None:
    async def story(house: House) -> None:
        (house.folder / "model").write_bytes(b"a model")
        digest = house.kept("model")
        assert digest.text == w.MODEL.text
        await w.serving(house.world)
        await house.world.settled()
        assert house.world.granted() == set()
        made = await house.take(digest, house.signed("model"))
        await house.world.settled()
        assert house.world.granted() == {w.ALICE}
        await house.world.put(w.revoked("vouch", made.id))
        await house.world.settled()
        assert house.world.granted() == set()
        again = await house.take(digest, house.signed("model"))
        assert (again.taken, again.why) == (True, "")
        assert again.id != made.id

    told(story, policies=POLICY)


def provenance(house: House, path: str, **changes: Any) -> bytes:
    base = house.folder / path
    files = [base] if base.is_file() else sorted(one for one in base.rglob("*") if one.is_file())
    subjects = [
        {
            "name": one.relative_to(base).as_posix() if one != base else one.name,
            "digest": {"sha256": hashlib.sha256(one.read_bytes()).hexdigest()},
        }
        for one in files
    ]
    return s.dump(said(subject=subjects) | changes)


def enveloped(payload: bytes, key: Any = CI) -> bytes:
    signature = key.sign(s.pae(payload)) if key is CI else key.sign(s.pae(payload), ec.ECDSA(hashes.SHA256()))
    return s.dump({"payload": s.b64(payload), "payloadType": s.PAYLOAD_TYPE, "signatures": [{"sig": s.b64(signature), "keyid": ""}]})


def test_provenance_of_a_builder_becomes_a_vouch(told: Story) -> None:
    async def story(house: House) -> None:
        for path in ("m", "one.bin"):
            digest = house.kept(path)
            for bundle, name in ((s.dump(SIGSTORE.bundle(provenance(house, path))), "ci"), (enveloped(provenance(house, path)), "own")):
                vouch = vouch_of(house, await house.prove(digest, bundle))
                assert (vouch.predicate_type, vouch.claims["builder"], vouch.claims["builder_id"]) == ("provenance", name, BUILDER)
                assert (vouch.claims["source"], vouch.claims["commit"]) == (SOURCE, COMMIT)

    told(story)


def test_provenance_that_does_not_hold_is_refused(told: Story) -> None:
    async def story(house: House) -> None:
        digest = house.kept("m")
        good = provenance(house, "m")
        stranger = SIGSTORE.leaf(claims={12: SOURCE + "-fork", 13: COMMIT})
        cases = (
            (s.dump(SIGSTORE.bundle(good, leaf=stranger)), "ci", "tells of another"),
            (s.dump(SIGSTORE.bundle(good, leaf=SIGSTORE.leaf(identity="https://github.com/evil/x@refs/heads/main"))), "ci", "evil"),
            (s.dump(SIGSTORE.bundle(provenance(house, "one.bin"))), "ci", "not what the provenance is about"),
            (s.dump(SIGSTORE.bundle(file=b"x")), "ci", "does not sign an in-toto"),
            (enveloped(good, STRANGE), "own", "does not hold"),
            (enveloped(good), "ci", ""),
            (s.dump(SIGSTORE.bundle(good)), "own", "not known"),
            (enveloped(house.signed("m")), "own", "provenance"),
            (b"{}", "", "none of 2 builders"),
        )
        for bundle, by, why in cases:
            made = await house.prove(digest, bundle, by)
            assert not made.taken
            assert why in made.reason

    told(story)


def test_settings_name_exactly_what_a_kind_needs() -> None:
    head = f'trust_domain = "{w.TD}"\n'
    good = head + '[[signers]]\nname = "a"\nkind = "key"\nkey_file = "keys/a.pub"\n'
    made = parse_settings(good, Path("/etc/v/vouchgate.toml"))
    assert made.signers[0].key_file == "/etc/v/keys/a.pub"
    assert files_of(made.signers, made.builders) == ("/etc/v/keys/a.pub",)
    key = '[[signers]]\nname = "b"\nkind = "sigstore"\ntrusted_root = "r"\nidentity = "i"\n'
    builder = '[[builders]]\nname = "b"\nkind = "key"\nbuilder = "x"\nsources = ["s"]\nkey_file = "k"\n'
    for text, why in (
        (head + key, "issuer"),
        (head + key + 'issuer = "u"\nkey_file = "k"\n', "key_file"),
        (good + good.removeprefix(head), "twice"),
        (good + 'same_as = ["ann"]\n', "key id"),
        (head + builder + 'identity = "i"\n', "identity"),
        (head + builder.replace('["s"]', "[]"), "sources"),
    ):
        with pytest.raises(InvalidSettings, match=why):
            parse_settings(text, Path("/etc/v/vouchgate.toml"))
