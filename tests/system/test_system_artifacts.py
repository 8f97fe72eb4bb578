"""A model's life across releases, as a user lives it: taken in by an older release, read again by a newer one without a pause in service; a class
that somebody answers for until a moment; and an older release that is put back.

The older release is this one in an environment of its own, with one version number turned back: a whole process tree runs from it.
"""

from __future__ import annotations

import json
import shutil
import signal
import site
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from installation import EXAMPLE, Caller, Installation, mine

import vouchgate
from vouchgate.evidence.dsse import spki_of
from vouchgate.evidence.statement import sign_vouch
from vouchgate.scanning.verdict import SCANNER_VERSION
from vouchgate.vocabulary.answers import RescanState, VouchState
from vouchgate.vocabulary.answers_approvals import VouchTaken
from vouchgate.vocabulary.answers_decisions import EndpointState
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import Conflict
from vouchgate.vocabulary.names import resource, trust_domain
from vouchgate.vocabulary.trust import key_id
from vouchgate.vocabulary.vouches import Method, SignedVouch, Subject, UnixMillis, Vouch

OLDER = str(int(SCANNER_VERSION) - 1)
MODEL = b"\x80\x02cacme.features\nScaler\n)\x81}X\x01\x00\x00\x00aK\x02sb."
SHORT = MODEL.replace(b"K\x02", b"K\x07")
SERVED = b"\x80\x02cacme.features\nScaler\n)\x81}X\x01\x00\x00\x00aK\x08sb."
ALLOWED_SECONDS = 9
"""From the signature to its end: the file is taken in, its server started and called in between."""
ENDPOINT = """
[[endpoints]]
name = "scaled"
zone = "serve"
command = ["{{python}}", "{example}/chat_server.py", "--fd", "{{fd}}", "--allow-uid", "{{gateway_uid}}"]
model = "{model}"
routes = [{{ method = "GET", path = "/v1/models", action = "infer" }}]
"""


SIGNER = """
[[signers]]
name = "acme"
kind = "key"
key_file = "{key}"
"""


def signer_key(folder: Path) -> Path:
    """Of somebody who signs models; the public half's file."""
    key, public = ec.generate_private_key(ec.SECP256R1()), folder / "acme.pub"
    (folder / "acme.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public


def older_release(folder: Path) -> Path:
    """An environment whose vouchgate is an older one; its interpreter."""
    environment, code = folder / "env", folder / "code"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    shutil.copytree(Path(vouchgate.__file__).parent, code / "vouchgate", ignore=shutil.ignore_patterns("__pycache__"))
    verdict = code / "vouchgate/scanning/verdict.py"
    text = verdict.read_text("utf-8")
    assert f'SCANNER_VERSION = "{SCANNER_VERSION}"' in text
    verdict.write_text(text.replace(f'SCANNER_VERSION = "{SCANNER_VERSION}"', f'SCANNER_VERSION = "{OLDER}"'), "utf-8")
    name = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    (Path(name) / "older.pth").write_text("\n".join([str(code), *site.getsitepackages()]) + "\n")
    return environment / "bin/python"


def huggingface(folder: Path) -> Path:
    """A small model as a folder."""
    folder.mkdir()
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 2}))
    return folder


@dataclass
class Upgraded:
    """An installation that began with the older release and runs on this one."""

    house: Installation
    older: Path
    alice: Caller
    reviewer: Path
    before: dict[str, str]
    """Digest -> version of the scanner that passed it first."""
    refused: list[int]
    """Answers to calls while everything was read again that were no 200."""

    def vouches(self, digest: str) -> list[VouchState]:
        return list(self.house.client.get(tuple[VouchState, ...], "/api/v1/vouches", about=digest))

    def passes(self, digest: str) -> set[str]:
        return {one.predicate for one in self.vouches(digest) if one.state in ("holds", "expiring") and one.outcome == "pass"}


def scanned_by(house: Installation, digest: str) -> str:
    found = house.client.get(tuple[VouchState, ...], "/api/v1/vouches", about=digest)
    return next(one.tool for one in found if one.predicate == "scan" and one.state == "holds")


@pytest.fixture(scope="module")
def upgraded() -> Iterator[Upgraded]:
    with tempfile.TemporaryDirectory(prefix="vgold", dir="/tmp") as kept:
        Path(kept).chmod(0o755)
        older = older_release(Path(kept))
        house = Installation(more=SIGNER.format(key=signer_key(Path(kept))))
        try:
            house.start(prefix=(str(older),))
            folder = huggingface(house.folder / "bert")
            done = house.cli("import", str(folder), "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            endpoints = house.client.get(tuple[EndpointState, ...], "/api/v1/endpoints")
            model = next(one for one in endpoints if one.endpoint.id.endswith("/digits"))
            digests = [json.loads(done.stdout)["digest"], model.endpoint.model_digest]
            before = {one: scanned_by(house, one) for one in digests}
            house.stop()
            reviewer = reviewer_key(house)
            house.start()
            alice = house.caller("alice")
            house.until(lambda: house.infer(alice).status == 200, 10, "alice was not let in")
            refused = []
            end = time.monotonic() + 30
            while not rescans(house) and time.monotonic() < end:
                answer = house.infer(alice).status
                refused += [answer] if answer != 200 else []
            yield Upgraded(house, older, alice, reviewer, before, refused)
        finally:
            house.close()


def reviewer_key(house: Installation) -> Path:
    """A reviewer, delegated while nothing runs."""
    key, path = Ed25519PrivateKey.generate(), house.folder / "reviewer.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = house.folder / "reviewer-public.pem"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    root = house.folder / "r/example.local.root.pem"
    done = house.cli("admin", "renew-trust", "--root-key", str(root), "--producer", f"reviewer={public}")
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def rescans(house: Installation) -> list[dict[str, object]]:
    found = [mine(one) for one in house.entries()]
    return [one for one in found if one.get("target_kind") == "scanner" or "scanned again by a newer scanner" in json.dumps(one)]


def test_what_the_older_release_passed_is_read_again_and_nobody_notices(upgraded: Upgraded) -> None:
    house = upgraded.house
    assert set(upgraded.before.values()) == {f"vouchgate-scanner {OLDER}"}
    assert len(rescans(house)) == 1, "one revocation takes all of it"
    state = house.client.get(RescanState, "/api/v1/rescan")
    assert (state.total, state.clean, state.lost, state.trouble) == (2, 2, 0, ""), state
    assert state.fallen == 4
    for digest in upgraded.before:
        assert scanned_by(house, digest) == f"vouchgate-scanner {SCANNER_VERSION}"
        assert {"scan", "structure", "import"} <= upgraded.passes(digest)
    assert any(digest.startswith("sha256-tree:") for digest in upgraded.before), "a folder is among them"
    assert upgraded.refused == []
    assert house.infer(upgraded.alice).status == 200


def test_a_folder_that_is_no_model_is_not_taken_in(upgraded: Upgraded) -> None:
    house = upgraded.house
    folder = house.folder / "loose"
    folder.mkdir()
    (folder / "notes.txt").write_text("hello")
    done = house.cli("import", str(folder))
    assert done.returncode != 0 and "no single model" in done.stdout + done.stderr


def test_a_signature_comes_with_the_folder_and_is_held_against_it(upgraded: Upgraded) -> None:
    house, keys = upgraded.house, upgraded.older.parents[2]
    folder, bundle = house.folder / "bert", house.folder / "bert.sig"
    assert house.cli("sign", str(folder), "--key", str(keys / "acme.pem"), "-o", str(bundle)).returncode == 0
    other = house.folder / "other"
    shutil.copytree(folder, other)
    (other / "vocab.txt").write_text("a")
    refused = house.cli("import", str(other), "--signature", str(bundle))
    assert refused.returncode == 1 and "it is not what was signed" in refused.stdout, refused.stdout + refused.stderr
    done = house.cli("import", str(folder), "--signature", str(bundle), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"signature", "scan", "structure", "import"} <= upgraded.passes(json.loads(done.stdout)["digest"])


def test_a_reviewer_answers_for_a_class_in_one_file(upgraded: Upgraded) -> None:
    house = upgraded.house
    path, digest, allow = house.folder / "model.pkl", file_digest(MODEL).text, house.folder / "allow.json"
    path.write_bytes(MODEL)
    refused = house.cli("import", str(path))
    assert refused.returncode == 1 and "acme.features" in refused.stdout
    words = ("acme.features.Scaler", "--for", digest, "--why", "scales columns", "--days", "30", "--key", str(upgraded.reviewer))
    assert house.cli("knowledge", "allow", *words, "--out", str(allow)).returncode == 0
    taken = house.cli("import", str(path), "--allow", str(allow))
    assert taken.returncode == 0 and "answers for `acme.features.Scaler`" in taken.stdout, taken.stdout + taken.stderr
    assert {"allow", "scan", "structure", "import"} <= upgraded.passes(digest)
    by_predicate = {one.predicate: one for one in upgraded.vouches(digest) if one.outcome == "pass"}
    assert by_predicate["scan"].rests_on == (by_predicate["allow"].id,)
    assert by_predicate["scan"].expires_at == by_predicate["allow"].expires_at
    made = house.revoke(by_predicate["allow"].id, "vouch")
    assert not {"allow", "scan", "structure"} & upgraded.passes(digest)
    assert made.revocation is not None
    house.undo(made.revocation.id)
    assert {"allow", "scan", "structure"} <= upgraded.passes(digest)


def test_an_allowance_that_is_refused_sends_nothing(upgraded: Upgraded) -> None:
    house, path, allow = upgraded.house, upgraded.house.folder / "short.pkl", upgraded.house.folder / "stranger.json"
    path.write_bytes(SHORT)
    key = house.folder / "stranger.pem"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    words = ("acme.features.Scaler", "--for", file_digest(SHORT).text, "--why", "w", "--days", "1", "--key", str(key))
    assert house.cli("knowledge", "allow", *words, "--out", str(allow)).returncode == 0
    done = house.cli("import", str(path), "--allow", str(allow))
    assert done.returncode == 1 and "is not taken in" in done.stdout
    assert upgraded.vouches(file_digest(SHORT).text) == []


def test_the_end_of_an_allowance_ends_the_service(upgraded: Upgraded) -> None:
    house = upgraded.house
    path = upgraded.older.parents[2] / "served.pkl"
    path.write_bytes(SERVED)
    signed = allowance(upgraded.reviewer, SERVED)
    assert house.client.post(VouchTaken, "/api/v1/vouches", {"envelope": signed.envelope}).taken
    house.settings.write_text(house.settings.read_text() + ENDPOINT.format(example=EXAMPLE, model=path))
    assert house.process is not None
    house.process.send_signal(signal.SIGHUP)
    left = (signed.vouch.expires_at - time.time() * 1000) / 1000

    def served() -> bool:
        return house.call(upgraded.alice, "/v1/models", method="GET", body=b"").status == 200

    house.until(served, left, f"it was never served:\n{house.said()[-800:]}")
    house.until(lambda: not served(), left + 5, "it is served after the allowance ended")
    assert time.time() * 1000 >= signed.vouch.expires_at - 50, "it was taken away before its time"
    assert house.infer(upgraded.alice).status == 200, "nothing else is touched"
    again = house.take_in(path)
    assert not again.admitted and "acme.features" in again.reason


def allowance(key_file: Path, content: bytes) -> SignedVouch:
    """A reviewer's word for a few seconds."""
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    domain, digest, now = trust_domain("example.local"), file_digest(content), UnixMillis(int(time.time() * 1000))
    vouch = Vouch(
        id="", trust_domain=domain, predicate_type="allow", predicate_version=1, outcome="pass", issuer_key=key_id(spki_of(key)),
        subjects=(Subject(name=resource(domain, "artifact", digest.text), digest=digest),), issuer_role="reviewer", issued_at=now,
        not_before=now, expires_at=UnixMillis(now + ALLOWED_SECONDS * 1000), tier="declared", method=Method(tool="test", version="1"),
        claims={"module": "acme.features", "name": "Scaler", "use": "constructible", "why": "w"},
    )  # fmt: skip
    return sign_vouch(vouch, key)


def test_an_older_release_that_is_put_back_is_not_used(upgraded: Upgraded) -> None:
    """The last one: it leaves the older release running."""
    house = upgraded.house
    house.stop()
    house.start(prefix=(str(upgraded.older),))
    house.until(lambda: house.infer(upgraded.alice).status == 200, 10, "what stands is not served")
    path = house.folder / "fresh.safetensors"
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(Conflict, match=f"version {OLDER}, and version {SCANNER_VERSION} was used here") as refused:
        house.take_in(path)
    assert "install the newer vouchgate again" in refused.value.remedy
    house.until(lambda: "was used here" in house.client.get(RescanState, "/api/v1/rescan").trouble, 20)
    assert len(rescans(house)) == 1
    for digest in upgraded.before:
        assert scanned_by(house, digest) == f"vouchgate-scanner {SCANNER_VERSION}"
    denied = [mine(one) for one in house.entries() if "use-scanner" in json.dumps(one.body)]
    assert denied
